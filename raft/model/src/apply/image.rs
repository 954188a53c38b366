//! Images and aliases.
//!
//! The files of an image are shared by all projects that have it: what is said about holders is about the fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use super::{Outcome, exists, invalid, not_found};
use crate::command::ImageCommand;
use crate::image::{Alias, Edit, Image, own};
use crate::instance::{Instance, Origin};
use crate::{AliasKey, AliasName, ClusterState, Fingerprint, ImageKey, NodeId, ProjectName, Rejected, Timestamp};

pub(super) fn apply(state: &mut ClusterState, command: &ImageCommand) -> Outcome {
    match command {
        ImageCommand::Add(image) => add(state, image),
        ImageCommand::Update { image: id, public, expires_at, properties } => {
            let image = image(state, id)?;
            image.public = *public;
            image.expires_at = *expires_at;
            image.properties = properties.clone();
            Ok(())
        }
        ImageCommand::Remove(id) => remove(state, id),
        ImageCommand::AddHolder { fingerprint, node } => {
            known_member(state, *node)?;
            let mut holders = holders(state, fingerprint)?;
            holders.insert(*node);
            hold(state, fingerprint, &holders);
            Ok(())
        }
        ImageCommand::DropHolder { fingerprint, node } => {
            let mut holders = holders(state, fingerprint)?;
            if holders.remove(node) && holders.is_empty() {
                return Err(Rejected::Busy(format!("member {node} holds the only copy of image {fingerprint}")));
            }
            hold(state, fingerprint, &holders);
            Ok(())
        }
        ImageCommand::SetAlias { alias, replace } => set_alias(state, alias, *replace),
        ImageCommand::RemoveAlias(id) => match state.aliases.remove(id) {
            true => Ok(()),
            false => Err(not_found("image alias", &id.name)),
        },
        ImageCommand::RenameAlias { name, to } => rename_alias(state, name, to),
        ImageCommand::Edit { image: id, edit } => {
            let image = image(state, id)?;
            let Edit { public, auto_update, cached, expires_at, properties, profiles } = &**edit;
            (image.public, image.auto_update, image.cached) = (*public, *auto_update, *cached);
            image.expires_at = *expires_at;
            image.properties = properties.clone();
            image.profiles = profiles.clone();
            Ok(())
        }
        ImageCommand::Expire { image: id, unused_since } => {
            let image = image(state, id)?;
            match image.cached && image.wanted_at() <= *unused_since {
                true => remove(state, id),
                false => Err(Rejected::Busy("the image is wanted again".into())),
            }
        }
    }
}

fn image<'a>(state: &'a mut ClusterState, id: &ImageKey) -> Result<&'a mut Image, Rejected> {
    state.images.get_mut(id).ok_or_else(|| not_found("image", &id.name))
}

fn remove(state: &mut ClusterState, id: &ImageKey) -> Outcome {
    image(state, id)?;
    let origin = Origin::Image(id.name.clone());
    let waits =
        |i: &&Instance| i.spec.origin == origin && i.report.is_none() && state.image_project(&i.project) == id.project;
    if let Some(waiting) = state.instances.values().find(waits) {
        return Err(Rejected::Busy(format!("instance {} is being created from this image", waiting.name)));
    }
    forget(state, id);
    Ok(())
}

/// An instance of a project is being made from it.
pub(super) fn used(state: &mut ClusterState, project: &ProjectName, fingerprint: &Fingerprint, at: Timestamp) {
    let id = state.image_key(project, fingerprint);
    // Members of level 1 do not keep this, and replicas must not differ.
    if state.feature_level >= 2
        && let Some(image) = state.images.get_mut(&id)
    {
        image.last_used_at = image.last_used_at.max(at);
    }
}

fn holders(state: &ClusterState, fingerprint: &Fingerprint) -> Result<BTreeSet<NodeId>, Rejected> {
    let image = state.image_with(fingerprint).ok_or_else(|| not_found("image", fingerprint))?;
    Ok(image.holders.clone())
}

/// Says of all images of a fingerprint who has their files.
fn hold(state: &mut ClusterState, fingerprint: &Fingerprint, holders: &BTreeSet<NodeId>) {
    let ids: Vec<ImageKey> = state.images.keys().filter(|id| id.name == *fingerprint).cloned().collect();
    for id in ids {
        if let Some(image) = state.images.get_mut(&id) {
            image.holders.clone_from(holders);
        }
    }
}

fn known_member(state: &ClusterState, node: NodeId) -> Outcome {
    match state.members.contains_key(&node) {
        true => Ok(()),
        false => Err(not_found("member", node)),
    }
}

fn add(state: &mut ClusterState, image: &Image) -> Outcome {
    own::check(state, &image.project)?;
    if state.images.contains_key(&image.id()) {
        return Err(exists("image", &image.fingerprint));
    }
    if image.holders.is_empty() {
        return Err(invalid("holders", "an image needs a member that holds it"));
    }
    for holder in &image.holders {
        known_member(state, *holder)?;
    }
    let mut holders = image.holders.clone();
    if let Some(same) = state.image_with(&image.fingerprint) {
        // The fingerprint is that of all bytes together: one that is divided otherwise is not the same.
        if same.format != image.format {
            return Err(invalid("fingerprint", "the cluster has these bytes as an image that is divided otherwise"));
        }
        holders.extend(&same.holders);
    }
    state.images.insert(image.id(), image.clone());
    hold(state, &image.fingerprint, &holders);
    Ok(())
}

/// Drops an image and the aliases that point to it.
pub(super) fn forget(state: &mut ClusterState, id: &ImageKey) {
    state.aliases.retain(|_, alias| alias.image() != *id);
    state.images.remove(id);
}

fn set_alias(state: &mut ClusterState, alias: &Alias, replace: bool) -> Outcome {
    if !state.images.contains_key(&alias.image()) {
        return Err(not_found("image", &alias.target));
    }
    if !replace && state.aliases.contains_key(&alias.id()) {
        return Err(exists("image alias", &alias.name));
    }
    state.aliases.insert(alias.id(), alias.clone());
    Ok(())
}

fn rename_alias(state: &mut ClusterState, id: &AliasKey, to: &AliasName) -> Outcome {
    let Some(alias) = state.aliases.get(id).cloned() else { return Err(not_found("image alias", &id.name)) };
    let renamed = Alias { name: to.clone(), ..alias };
    if state.aliases.contains_key(&renamed.id()) {
        return Err(exists("image alias", to));
    }
    state.aliases.remove(id);
    state.aliases.insert(renamed.id(), renamed);
    Ok(())
}

/// Whose images a project uses is changed only while nothing of it could be made from any.
pub(super) fn stay(state: &ClusterState, project: &ProjectName, config: &BTreeMap<String, String>) -> Outcome {
    if (state.image_project(project) == *project) == own::has(project, config) {
        return Ok(());
    }
    let instance = state.instances.values().find(|i| i.project == *project);
    let instance = instance.map(|i| format!("instance {}", i.name));
    let image = || state.images_of(project).next().map(|image| format!("image {}", image.fingerprint));
    match instance.or_else(image) {
        Some(holder) => Err(Rejected::Busy(format!("{} cannot be changed: the project has {holder}", own::FEATURE))),
        None => Ok(()),
    }
}

/// Images and aliases follow their project to its new name.
pub(super) fn follow(state: &mut ClusterState, name: &ProjectName, to: &ProjectName) {
    let images: Vec<Image> = state.images_of(name).cloned().collect();
    for image in images {
        state.images.remove(&image.id());
        let image = Image { project: to.clone(), ..image };
        state.images.insert(image.id(), image);
    }
    let aliases: Vec<Alias> = state.aliases.values().filter(|alias| alias.project == *name).cloned().collect();
    for alias in aliases {
        state.aliases.remove(&alias.id());
        let alias = Alias { project: to.clone(), ..alias };
        state.aliases.insert(alias.id(), alias);
    }
}
