//! Profiles: configuration and devices that instances share. A project has profiles of its own, or uses those of the
//! default project: what its instances name is looked for there and nowhere else. The devices of a shared profile mean
//! what the project of each instance means by the names in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::instance::{Config, Devices, Instance};
use crate::{ClusterState, Generation, ProfileName, ProjectName};

/// The key of projects that have profiles of their own: all, unless it says no.
pub const FEATURE: &str = "features.profiles";

/// One profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub project: ProjectName,
    pub name: ProfileName,
    pub description: String,
    pub config: Config,
    pub devices: Devices,
    pub generation: Generation,
}

/// Whether a project with this configuration has profiles of its own.
pub(crate) fn has(project: &ProjectName, config: &BTreeMap<String, String>) -> bool {
    project.is_default() || config.get(FEATURE).is_none_or(|value| crate::config::is_true(value))
}

impl ClusterState {
    /// The project whose profiles count for one: itself, or the default project.
    pub fn profile_project(&self, project: &ProjectName) -> ProjectName {
        match self.projects.get(project) {
            Some(found) if !has(project, &found.config) => ProjectName::default_project(),
            Some(_) | None => project.clone(),
        }
    }

    /// The profile that a project means by a name.
    pub fn profile_of(&self, project: &ProjectName, name: &ProfileName) -> Option<&Profile> {
        self.profiles.get(&(self.profile_project(project), name.clone()))
    }

    /// Instances that use a profile, in all the projects whose profiles it is among.
    pub fn profile_users(&self, project: &ProjectName, name: &ProfileName) -> impl Iterator<Item = &Instance> {
        let named = self.instances.values().filter(move |i| i.spec.profiles.contains(name));
        named.filter(move |i| self.profile_project(&i.project) == *project)
    }
}
