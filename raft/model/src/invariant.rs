//! What must hold after every apply. Run by tests, by the simulation and by debug builds.

use crate::device::{self, Device};
use crate::instance::{Devices, Intent, Placement};
use crate::{ClusterState, NodeId};

/// Every rule that `state` breaks, in words; empty when all is well.
pub fn check(state: &ClusterState) -> Vec<String> {
    let mut broken = Vec::new();
    if !state.initialised() {
        return broken;
    }
    members(state, &mut broken);
    instances(state, &mut broken);
    images(state, &mut broken);
    references(state, &mut broken);
    broken
}

fn members(state: &ClusterState, broken: &mut Vec<String>) {
    if state.members.is_empty() {
        broken.push("a cluster has at least one member".into());
    }
    let mut names = std::collections::BTreeSet::new();
    for (id, member) in state.members.iter() {
        if *id != member.id || id.0 == 0 || id.0 >= state.next_node {
            broken.push(format!("member {id} has an id that the counter has not given out"));
        }
        if !names.insert(member.name.clone()) {
            broken.push(format!("two members are called {}", member.name));
        }
        if let Some(group) = member.groups.iter().find(|g| !state.groups.contains_key(*g)) {
            broken.push(format!("member {} is in group {group}, which does not exist", member.name));
        }
    }
}

fn instances(state: &ClusterState, broken: &mut Vec<String>) {
    if state.instances.len() != state.instance_names.len() {
        broken.push("the index of names does not match the instances".into());
    }
    for (id, instance) in state.instances.iter() {
        if state.graves.contains_key(id) {
            broken.push(format!("instance {} is said to be gone", instance.name));
        }
        let key = (instance.project.clone(), instance.name.clone());
        if state.instance_names.get(&key) != Some(id) {
            broken.push(format!("instance {id} is not found by its name {}", instance.name));
        }
        match &instance.placement {
            Placement::On { node, epoch } => {
                if !state.members.contains_key(node) {
                    broken.push(format!("instance {} lives on member {node}, which does not exist", instance.name));
                }
                if let Some(report) = &instance.report
                    && (report.epoch > *epoch || report.request > instance.run.request)
                {
                    broken.push(format!("instance {} has a report from the future", instance.name));
                }
            }
            Placement::Unplaced { .. } => {
                if instance.run.intent == Intent::Deleted {
                    broken.push(format!("instance {} has no home and waits for deletion", instance.name));
                }
                if instance.report.is_some() {
                    broken.push(format!("instance {} has no home, but a report", instance.name));
                }
            }
        }
    }
}

fn images(state: &ClusterState, broken: &mut Vec<String>) {
    let known = |node: &NodeId| state.members.contains_key(node);
    for image in state.images.values() {
        if image.holders.is_empty() || !image.holders.iter().all(known) {
            broken.push(format!("image {} is held by nobody, or by a stranger", image.fingerprint));
        }
    }
    for alias in state.aliases.values() {
        if !state.images.contains_key(&alias.target) {
            broken.push(format!("alias {} points to an image that does not exist", alias.name));
        }
    }
}

fn references(state: &ClusterState, broken: &mut Vec<String>) {
    for ((project, _), profile) in state.profiles.iter() {
        if !state.projects.contains_key(project) {
            broken.push(format!("profile {} is in a project that does not exist", profile.name));
        }
    }
    for instance in state.instances.values() {
        if !state.projects.contains_key(&instance.project) {
            broken.push(format!("instance {} is in a project that does not exist", instance.name));
        }
        let missing = instance
            .spec
            .profiles
            .iter()
            .find(|p| !state.profiles.contains_key(&(instance.project.clone(), (*p).clone())));
        if let Some(profile) = missing {
            broken.push(format!("instance {} uses profile {profile}, which does not exist", instance.name));
        }
        let expanded = state.expanded_devices(&instance.project, &instance.spec);
        let roots = devices(state, &format!("instance {}", instance.name), &expanded, broken);
        if roots != 1 {
            broken.push(format!("instance {} has {roots} root disks", instance.name));
        }
    }
    for profile in state.profiles.values() {
        devices(state, &format!("profile {}", profile.name), &profile.devices, broken);
    }
    for pool in state.pools.values() {
        if pool.status.keys().any(|node| !state.members.contains_key(node)) {
            broken.push(format!("pool {} has a status from a stranger", pool.name));
        }
    }
}

/// Checks what `devices` name; says how many root disks there are among them.
fn devices(state: &ClusterState, owner: &str, devices: &Devices, broken: &mut Vec<String>) -> usize {
    let mut roots = 0;
    for (name, properties) in devices {
        match device::parse(properties) {
            Ok(Device::Root { pool, .. }) => {
                roots += 1;
                if !state.pools.contains_key(&pool) {
                    broken.push(format!("{owner} lies in storage pool {pool}, which does not exist"));
                }
            }
            Ok(Device::Nic { network: Some(network), .. }) => {
                if !state.networks.contains_key(&network) {
                    broken.push(format!("{owner} is on network {network}, which does not exist"));
                }
            }
            Ok(Device::Nic { network: None, .. } | Device::Disk { .. } | Device::None) => {}
            Err(error) => broken.push(format!("{owner} has device {name}, which cannot be read: {error}")),
        }
    }
    roots
}
