//! Images of projects. A project has images and aliases of its own, or uses those of the default project; what its
//! instances are made from is looked for there and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use super::Image;
use crate::apply::{Outcome, invalid, not_found};
use crate::{ClusterState, Fingerprint, ImageKey, ProjectName};

/// The key of projects that have images of their own.
pub const FEATURE: &str = "features.images";

/// Whether a project with this configuration has images of its own.
pub(crate) fn has(project: &ProjectName, config: &BTreeMap<String, String>) -> bool {
    project.is_default() || config.get(FEATURE).is_some_and(|value| crate::config::is_true(value))
}

impl ClusterState {
    /// The project whose images and aliases count for one: itself, or the default project.
    pub fn image_project(&self, project: &ProjectName) -> ProjectName {
        match self.projects.get(project) {
            Some(found) if has(project, &found.config) => project.clone(),
            Some(_) | None => ProjectName::default_project(),
        }
    }

    /// What a project means by a fingerprint.
    pub fn image_key(&self, project: &ProjectName, fingerprint: &Fingerprint) -> ImageKey {
        ImageKey { project: self.image_project(project), name: fingerprint.clone() }
    }

    /// Images that a project has for itself.
    pub fn images_of(&self, project: &ProjectName) -> impl Iterator<Item = &Image> {
        self.images.values().filter(move |image| image.project == *project)
    }

    /// An image with these files, whosesoever it is: the files are the same for all.
    pub fn image_with(&self, fingerprint: &Fingerprint) -> Option<&Image> {
        self.images.values().find(|image| image.fingerprint == *fingerprint)
    }

    /// All fingerprints of which some project has an image: files of others are of no use.
    pub fn fingerprints(&self) -> BTreeSet<&Fingerprint> {
        self.images.keys().map(|key| &key.name).collect()
    }
}

/// Whether a project may have images: it must be there, and have images of its own.
pub(crate) fn check(state: &ClusterState, project: &ProjectName) -> Outcome {
    if !state.projects.contains_key(project) {
        return Err(not_found("project", project));
    }
    match state.image_project(project) == *project {
        true => Ok(()),
        false => Err(invalid("project", format!("{project} has no images of its own: {FEATURE} is not set"))),
    }
}
