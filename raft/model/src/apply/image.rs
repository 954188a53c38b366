//! Images and aliases.

use super::{Outcome, exists, invalid, not_found};
use crate::command::ImageCommand;
use crate::image::{Alias, Edit, Image};
use crate::instance::Origin;
use crate::{AliasName, ClusterState, Fingerprint, NodeId, Rejected, Timestamp};

pub(super) fn apply(state: &mut ClusterState, command: &ImageCommand) -> Outcome {
    match command {
        ImageCommand::Add(image) => add(state, image),
        ImageCommand::Update { fingerprint, public, expires_at, properties } => {
            let image = image(state, fingerprint)?;
            image.public = *public;
            image.expires_at = *expires_at;
            image.properties = properties.clone();
            Ok(())
        }
        ImageCommand::Remove(fingerprint) => remove(state, fingerprint),
        ImageCommand::AddHolder { fingerprint, node } => {
            known_member(state, *node)?;
            image(state, fingerprint)?.holders.insert(*node);
            Ok(())
        }
        ImageCommand::DropHolder { fingerprint, node } => {
            let image = image(state, fingerprint)?;
            if image.holders.len() == 1 && image.holders.contains(node) {
                return Err(Rejected::Busy(format!("member {node} holds the only copy of image {fingerprint}")));
            }
            image.holders.remove(node);
            Ok(())
        }
        ImageCommand::SetAlias { alias, replace } => set_alias(state, alias, *replace),
        ImageCommand::RemoveAlias(name) => match state.aliases.remove(name) {
            true => Ok(()),
            false => Err(not_found("image alias", name)),
        },
        ImageCommand::RenameAlias { name, to } => rename_alias(state, name, to),
        ImageCommand::Edit { fingerprint, edit } => {
            let image = image(state, fingerprint)?;
            let Edit { public, auto_update, cached, expires_at, properties, profiles } = &**edit;
            (image.public, image.auto_update, image.cached) = (*public, *auto_update, *cached);
            image.expires_at = *expires_at;
            image.properties = properties.clone();
            image.profiles = profiles.clone();
            Ok(())
        }
        ImageCommand::Expire { fingerprint, unused_since } => {
            let image = image(state, fingerprint)?;
            match image.cached && image.wanted_at() <= *unused_since {
                true => remove(state, fingerprint),
                false => Err(Rejected::Busy("the image is wanted again".into())),
            }
        }
    }
}

fn image<'a>(state: &'a mut ClusterState, fingerprint: &Fingerprint) -> Result<&'a mut Image, Rejected> {
    state.images.get_mut(fingerprint).ok_or_else(|| not_found("image", fingerprint))
}

fn remove(state: &mut ClusterState, fingerprint: &Fingerprint) -> Outcome {
    image(state, fingerprint)?;
    let origin = Origin::Image(fingerprint.clone());
    if let Some(waiting) = state.instances.values().find(|i| i.spec.origin == origin && i.report.is_none()) {
        return Err(Rejected::Busy(format!("instance {} is being created from this image", waiting.name)));
    }
    forget(state, fingerprint);
    Ok(())
}

/// An instance is being made from it.
pub(super) fn used(state: &mut ClusterState, fingerprint: &Fingerprint, at: Timestamp) {
    // Members of level 1 do not keep this, and replicas must not differ.
    if state.feature_level >= 2
        && let Some(image) = state.images.get_mut(fingerprint)
    {
        image.last_used_at = image.last_used_at.max(at);
    }
}

fn known_member(state: &ClusterState, node: NodeId) -> Outcome {
    match state.members.contains_key(&node) {
        true => Ok(()),
        false => Err(not_found("member", node)),
    }
}

fn add(state: &mut ClusterState, image: &Image) -> Outcome {
    if state.images.contains_key(&image.fingerprint) {
        return Err(exists("image", &image.fingerprint));
    }
    if image.holders.is_empty() {
        return Err(invalid("holders", "an image needs a member that holds it"));
    }
    for holder in &image.holders {
        known_member(state, *holder)?;
    }
    state.images.insert(image.fingerprint.clone(), image.clone());
    Ok(())
}

/// Drops an image and the aliases that point to it.
pub(super) fn forget(state: &mut ClusterState, fingerprint: &Fingerprint) {
    state.aliases.retain(|_, alias| alias.target != *fingerprint);
    state.images.remove(fingerprint);
}

fn set_alias(state: &mut ClusterState, alias: &Alias, replace: bool) -> Outcome {
    if !state.images.contains_key(&alias.target) {
        return Err(not_found("image", &alias.target));
    }
    if !replace && state.aliases.contains_key(&alias.name) {
        return Err(exists("image alias", &alias.name));
    }
    state.aliases.insert(alias.name.clone(), alias.clone());
    Ok(())
}

fn rename_alias(state: &mut ClusterState, name: &AliasName, to: &AliasName) -> Outcome {
    let Some(alias) = state.aliases.get(name).cloned() else { return Err(not_found("image alias", name)) };
    if state.aliases.contains_key(to) {
        return Err(exists("image alias", to));
    }
    state.aliases.remove(name);
    state.aliases.insert(to.clone(), Alias { name: to.clone(), ..alias });
    Ok(())
}
