//! Members and groups.

use std::collections::BTreeSet;

use super::{Outcome, exists, not_found};
use crate::command::MemberCommand;
use crate::identity::Grant;
use crate::instance::Placement;
use crate::member::{Group, Member};
use crate::{ClusterState, Fingerprint, GroupName, MemberName, NodeId, Rejected, Timestamp, TokenId};

pub(super) fn apply(state: &mut ClusterState, command: &MemberCommand) -> Outcome {
    match command {
        MemberCommand::Join { token, secret_hash, member, at } => join(state, *token, secret_hash, member, *at),
        MemberCommand::Announce { id, announcement } => {
            let member = member(state, *id)?;
            member.announced = announcement.as_ref().clone();
            member.awaited = false;
            Ok(())
        }
        MemberCommand::Update { id, failure_domain, description, groups, config, roles } => {
            known_groups(state, groups)?;
            let member = member(state, *id)?;
            member.failure_domain = failure_domain.clone();
            member.description = description.clone();
            member.groups = groups.clone();
            member.config = config.clone();
            if let Some(roles) = roles {
                member.roles = roles.clone();
            }
            Ok(())
        }
        MemberCommand::Rename { id, name } => {
            free_name(state, name)?;
            member(state, *id)?.name = name.clone();
            Ok(())
        }
        MemberCommand::SetDuty { id, duty } => {
            member(state, *id)?.duty = *duty;
            Ok(())
        }
        MemberCommand::SetHealth { id, health } => {
            member(state, *id)?.health = *health;
            Ok(())
        }
        MemberCommand::Remove { id, force } => remove(state, *id, *force),
        MemberCommand::AddGroup(group) => add_group(state, group),
        MemberCommand::UpdateGroup { name, description, members } => {
            update_group(state, name, description, members.as_ref())
        }
        MemberCommand::RenameGroup { name, to } => rename_group(state, name, to),
        MemberCommand::RemoveGroup(name) => remove_group(state, name),
        MemberCommand::Order { id, order } => super::evacuation::order(state, *id, *order),
        MemberCommand::OrderDone { id, at } => super::evacuation::done(state, *id, *at),
    }
}

fn member(state: &mut ClusterState, id: NodeId) -> Result<&mut Member, Rejected> {
    state.members.get_mut(&id).ok_or_else(|| not_found("member", id))
}

fn free_name(state: &ClusterState, name: &MemberName) -> Outcome {
    match state.members.values().any(|m| m.name == *name) {
        true => Err(exists("member", name)),
        false => Ok(()),
    }
}

fn known_groups(state: &ClusterState, groups: &BTreeSet<GroupName>) -> Outcome {
    match groups.iter().find(|g| !state.groups.contains_key(*g)) {
        Some(missing) => Err(not_found("cluster group", missing)),
        None => Ok(()),
    }
}

fn join(
    state: &mut ClusterState,
    token: TokenId,
    secret_hash: &Fingerprint,
    member: &Member,
    at: Timestamp,
) -> Outcome {
    let held = super::identity::redeemable(state, token, secret_hash, at)?;
    match &held.grant {
        Grant::Join(name) if *name == member.name => {}
        Grant::Join(name) => return Err(Rejected::Token(format!("it was made for a member named {name}"))),
        Grant::Trust { .. } => return Err(Rejected::Token("it grants client trust, not membership".into())),
    }
    if member.id.0 != state.next_node {
        return Err(Rejected::Stale(format!("the next member's id is {}", state.next_node)));
    }
    if member.announced.feature_level < state.feature_level {
        return Err(Rejected::FeatureLevel { needs: state.feature_level, at: member.announced.feature_level });
    }
    // A joiner that died before it knew that it was admitted: whoever comes under its name now takes its place.
    let ghost = state.members.values().find(|m| m.name == member.name && m.awaited).map(|m| m.id);
    if ghost.is_none() {
        free_name(state, &member.name)?;
    }
    known_groups(state, &member.groups)?;
    if let Some(taken) = state.members.values().filter(|m| Some(m.id) != ghost).find(|m| {
        m.announced.api_address == member.announced.api_address
            || m.announced.cluster_address == member.announced.cluster_address
    }) {
        return Err(Rejected::Busy(format!("member {} already has that address", taken.name)));
    }
    if let Some(ghost) = ghost {
        remove(state, ghost, true)?;
    }
    state.tokens.remove(&token);
    state.next_node += 1;
    state.members.insert(member.id, member.clone());
    Ok(())
}

fn remove(state: &mut ClusterState, id: NodeId, force: bool) -> Outcome {
    if !state.members.contains_key(&id) {
        return Err(not_found("member", id));
    }
    if state.members.len() == 1 {
        return Err(Rejected::Busy("the last member cannot be removed".into()));
    }
    let here = |placement: &Placement| placement.home().is_some_and(|(node, _)| node == id);
    let held: Vec<_> = state.instances.values().filter(|i| here(&i.placement)).cloned().collect();
    if let (false, Some(first)) = (force, held.first()) {
        return Err(Rejected::Busy(format!(
            "the member still holds {} instance(s), among them {}: move or delete them, or use force to forget them",
            held.len(),
            first.name
        )));
    }
    for instance in held {
        super::instance::bury(state, instance.id);
    }
    super::relocate::abort_all(state, id, "the member that it was on its way to was removed");
    let images: Vec<_> = state.images.values().filter(|i| i.holders.contains(&id)).cloned().collect();
    for mut image in images {
        image.holders.remove(&id);
        match image.holders.is_empty() {
            true => super::image::forget(state, &image.id()),
            false => state.images.insert(image.id(), image),
        }
    }
    let pools: Vec<_> = state.pools.values().cloned().collect();
    for mut pool in pools {
        if pool.status.remove(&id).is_some() | pool.member_config.remove(&id).is_some() {
            state.pools.insert(pool.name.clone(), pool);
        }
    }
    state.members.remove(&id);
    Ok(())
}

fn add_group(state: &mut ClusterState, group: &Group) -> Outcome {
    if state.groups.contains_key(&group.name) {
        return Err(exists("cluster group", &group.name));
    }
    state.groups.insert(group.name.clone(), group.clone());
    Ok(())
}

fn update_group(
    state: &mut ClusterState,
    name: &GroupName,
    description: &str,
    members: Option<&BTreeSet<MemberName>>,
) -> Outcome {
    if !state.groups.contains_key(name) {
        return Err(not_found("cluster group", name));
    }
    if let Some(wanted) = members {
        if let Some(missing) = wanted.iter().find(|w| !state.members.values().any(|m| m.name == **w)) {
            return Err(not_found("member", missing));
        }
        set_membership(state, name, |member| wanted.contains(&member.name));
    }
    state.groups.insert(name.clone(), Group { name: name.clone(), description: description.into() });
    Ok(())
}

fn rename_group(state: &mut ClusterState, name: &GroupName, to: &GroupName) -> Outcome {
    let Some(group) = state.groups.get(name).cloned() else { return Err(not_found("cluster group", name)) };
    if state.groups.contains_key(to) {
        return Err(exists("cluster group", to));
    }
    let in_it: BTreeSet<NodeId> = state.members.values().filter(|m| m.groups.contains(name)).map(|m| m.id).collect();
    set_membership(state, name, |_| false);
    set_membership(state, to, |member| in_it.contains(&member.id));
    state.groups.remove(name);
    state.groups.insert(to.clone(), Group { name: to.clone(), ..group });
    Ok(())
}

fn remove_group(state: &mut ClusterState, name: &GroupName) -> Outcome {
    if !state.groups.contains_key(name) {
        return Err(not_found("cluster group", name));
    }
    if state.members.values().any(|m| m.groups.contains(name)) {
        return Err(Rejected::Busy(format!("cluster group {name} still has members")));
    }
    state.groups.remove(name);
    Ok(())
}

/// Puts exactly the members that `belongs` picks into the group.
fn set_membership(state: &mut ClusterState, group: &GroupName, belongs: impl Fn(&Member) -> bool) {
    let members: Vec<_> = state.members.values().cloned().collect();
    for mut member in members {
        let changed = match belongs(&member) {
            true => member.groups.insert(group.clone()),
            false => member.groups.remove(group),
        };
        if changed {
            state.members.insert(member.id, member);
        }
    }
}
