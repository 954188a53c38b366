//! What must hold after every apply. Run by tests, by the simulation and by debug builds.

use std::net::IpAddr;

use crate::device::{self, Device};
use crate::image::own;
use crate::instance::{Devices, Instance, Intent, Move, Placement};
use crate::network::{check, port};
use crate::{ClusterState, NodeId, ProjectName, quota, restriction};

/// Every rule that `state` breaks, in words; empty when all is well.
pub fn check(state: &ClusterState) -> Vec<String> {
    let mut broken = Vec::new();
    if !state.initialised() {
        return broken;
    }
    members(state, &mut broken);
    instances(state, &mut broken);
    snapshots(state, &mut broken);
    images(state, &mut broken);
    references(state, &mut broken);
    networks(state, &mut broken);
    let mut causes = std::collections::BTreeSet::new();
    for (id, warning) in state.warnings.iter() {
        if *id != warning.id || !causes.insert(&warning.cause) {
            broken.push(format!("warning {id} is kept under another id, or twice"));
        }
    }
    let verdict = |p| quota::check(state, p).and_then(|()| restriction::check(state, p)).err();
    broken.extend(state.projects.values().filter_map(verdict).map(|error| error.to_string()));
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
            Placement::Moving(on_its_way) => moving(state, instance, on_its_way, broken),
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

fn moving(state: &ClusterState, instance: &Instance, on_its_way: &Move, broken: &mut Vec<String>) {
    let name = &instance.name;
    let ends = std::iter::once(on_its_way.from).chain(on_its_way.to);
    if let Some(stranger) = ends.into_iter().find(|node| !state.members.contains_key(node)) {
        broken.push(format!("instance {name} is on its way from or to member {stranger}, which does not exist"));
    }
    if on_its_way.landing <= on_its_way.epoch || on_its_way.landing > instance.errands.landings {
        broken.push(format!("instance {name} is on its way to an epoch that was not given out"));
    }
    if instance.run.intent == Intent::Deleted || !instance.made() {
        broken.push(format!("instance {name} is moved, and is deleted or has nothing to move"));
    }
}

fn snapshots(state: &ClusterState, broken: &mut Vec<String>) {
    let mut names = std::collections::BTreeSet::new();
    for (key, snapshot) in state.snapshots.iter() {
        let name = &snapshot.name;
        if *key != (snapshot.instance, snapshot.id) {
            broken.push(format!("snapshot {name} is not found by its id"));
        }
        if !state.instances.contains_key(&snapshot.instance) {
            broken.push(format!("snapshot {name} is of an instance that does not exist"));
        }
        if state.snapshot_graves.contains_key(&snapshot.id) {
            broken.push(format!("snapshot {name} is said to be gone"));
        }
        if snapshot.holds_name() && !names.insert((snapshot.instance, name.clone())) {
            broken.push(format!("two snapshots of one instance are called {name}"));
        }
    }
    for (copy, _) in state.copies.iter() {
        if !state.instances.contains_key(copy) {
            broken.push(format!("copy {copy} is being made, and is not there"));
        }
    }
    let coming = |s: &&crate::snapshot::Snapshot| s.stage == crate::snapshot::Stage::Coming;
    let stuck = |s: &&crate::snapshot::Snapshot| state.instances.get(&s.instance).is_some_and(|i| i.made());
    if let Some(snapshot) = state.snapshots.values().filter(coming).find(stuck) {
        broken.push(format!("snapshot {} still comes along with an instance that is made", snapshot.name));
    }
    for instance in state.instances.values() {
        let lost = |r: &crate::instance::Restore| {
            !state.snapshots.get(&(instance.id, r.snapshot)).is_some_and(crate::snapshot::Snapshot::is_ready)
        };
        if instance.pending_restore().as_ref().is_some_and(lost) {
            broken.push(format!("instance {} is to go back to a snapshot that is not there", instance.name));
        }
    }
}

fn images(state: &ClusterState, broken: &mut Vec<String>) {
    let known = |node: &NodeId| state.members.contains_key(node);
    let mut holders = std::collections::BTreeMap::new();
    for (id, image) in state.images.iter() {
        if image.holders.is_empty() || !image.holders.iter().all(known) {
            broken.push(format!("image {id} is held by nobody, or by a stranger"));
        }
        if *id != image.id() {
            broken.push(format!("image {id} is kept under another fingerprint, or in another project"));
        }
        if let Err(why) = own::check(state, &image.project) {
            broken.push(format!("image {id} may not be where it is: {why}"));
        }
        if *holders.entry(&image.fingerprint).or_insert(&image.holders) != &image.holders {
            broken.push(format!("image {id} has the files of another, and other holders"));
        }
    }
    for (id, alias) in state.aliases.iter() {
        if *id != alias.id() {
            broken.push(format!("alias {id} is kept under another name, or in another project"));
        }
        if !state.images.contains_key(&alias.image()) {
            broken.push(format!("alias {id} points to an image that its project does not have"));
        }
    }
}

fn networks(state: &ClusterState, broken: &mut Vec<String>) {
    let mut numbers = std::collections::BTreeSet::new();
    for (id, network) in state.networks.iter() {
        let name = &network.name;
        if *id != network.id() {
            broken.push(format!("network {name} is kept under another name"));
        }
        if network.number > state.networks_numbered || (network.number > 0 && !numbers.insert(network.number)) {
            broken.push(format!("network {name} has a number that was not given out, or twice"));
        }
        if let Err(why) = check::network(state, network) {
            broken.push(format!("network {name} may not be as it is: {why}"));
        }
        let router = [network.router.ipv4.map(IpAddr::V4), network.router.ipv6.map(IpAddr::V6)];
        let uplink = network.uplink().and_then(|u| state.networks.get(&u));
        for ip in router.into_iter().flatten() {
            let free = uplink.map(|uplink| check::free_on_uplink(state, uplink, network, ip));
            if !matches!(free, Some(Ok(()))) {
                broken.push(format!("the router of network {name} has {ip}, which is not its own"));
            }
        }
    }
    for (id, acl) in state.acls.iter() {
        if *id != acl.id() {
            broken.push(format!("network ACL {} is kept under another name", acl.name));
        }
        if acl.number == 0 || acl.number > state.acls_numbered {
            broken.push(format!("network ACL {} has a number that was not given out", acl.name));
        }
        if let Err(why) = crate::apply::check_acl(state, acl) {
            broken.push(format!("network ACL {} may not be as it is: {why}", acl.name));
        }
    }
    for (id, set) in state.address_sets.iter() {
        if *id != set.id() || state.network_project(&set.project) != set.project {
            broken.push(format!("network address set {} is kept under another name, or in a wrong project", set.name));
        }
        if set.number == 0 || set.number > state.address_sets_numbered {
            broken.push(format!("network address set {} has a number that was not given out", set.name));
        }
        if let Err(why) = crate::network::address_set::check(set) {
            broken.push(format!("network address set {} may not be as it is: {why}", set.name));
        }
    }
    for zone in state.zones.values() {
        if let Err(why) = crate::apply::check_zone(state, zone) {
            broken.push(format!("network zone {} may not be as it is: {why}", zone.name));
        }
    }
    let mut held = 0;
    for ((id, device), address) in state.addresses.iter() {
        let instance = state.instances.get(id);
        let ports = instance.map(|i| port::of(state, i)).unwrap_or_default();
        let fits = ports.iter().any(|p| {
            let (v4, v6) = (p.network.subnet4(), p.network.subnet6());
            p.device == *device
                && p.network.goes_by(&address.network)
                && address.ipv4.is_none_or(|ip| v4.is_some_and(|net| check::usable4(p.network, net, ip)))
                && address.ipv6.is_none_or(|ip| v6.is_some_and(|net| check::usable6(net, ip)))
                && p.fixed.0.is_none_or(|ip| address.ipv4 == Some(ip))
                && p.fixed.1.is_none_or(|ip| address.ipv6 == Some(ip))
        });
        if !fits {
            broken.push(format!("device {device} of {id} holds an address that it has no use for"));
        }
        for ip in address.addresses() {
            held += 1;
            if state.address_holders.get(&(address.network.clone(), ip)) != Some(&(*id, device.clone())) {
                broken.push(format!("{ip} of {} is not found by the address", address.network));
            }
        }
    }
    if held != state.address_holders.len() {
        broken.push("the index of addresses holds some that nobody has".into());
    }
}

fn references(state: &ClusterState, broken: &mut Vec<String>) {
    for ((project, _), profile) in state.profiles.iter() {
        if !state.projects.contains_key(project) {
            broken.push(format!("profile {} is in a project that does not exist", profile.name));
        } else if state.profile_project(project) != *project {
            broken.push(format!("profile {} is in a project that has none of its own", profile.name));
        }
    }
    for instance in state.instances.values() {
        if !state.projects.contains_key(&instance.project) {
            broken.push(format!("instance {} is in a project that does not exist", instance.name));
        }
        let missing = instance.spec.profiles.iter().find(|p| state.profile_of(&instance.project, p).is_none());
        if let Some(profile) = missing {
            broken.push(format!("instance {} uses profile {profile}, which does not exist", instance.name));
        }
        let expanded = state.expanded_devices(&instance.project, &instance.spec);
        let roots = devices(state, &format!("instance {}", instance.name), (&instance.project, &expanded), broken);
        if roots != 1 {
            broken.push(format!("instance {} has {roots} root disks", instance.name));
        }
    }
    for profile in state.profiles.values() {
        devices(state, &format!("profile {}", profile.name), (&profile.project, &profile.devices), broken);
    }
    for pool in state.pools.values() {
        if pool.status.keys().any(|node| !state.members.contains_key(node)) {
            broken.push(format!("pool {} has a status from a stranger", pool.name));
        }
    }
}

/// Checks what `devices` name; says how many root disks there are among them.
fn devices(
    state: &ClusterState,
    owner: &str,
    (project, devices): (&ProjectName, &Devices),
    broken: &mut Vec<String>,
) -> usize {
    let mut roots = 0;
    for (name, properties) in devices {
        match device::parse(properties) {
            Ok(Device::Root { pool, .. }) => {
                roots += 1;
                if !state.pools.contains_key(&pool) {
                    broken.push(format!("{owner} lies in storage pool {pool}, which does not exist"));
                }
            }
            Ok(Device::Nic { network: Some(network), logical, .. }) => {
                if state.network_of(project, &network).is_none() {
                    broken.push(format!("{owner} is on network {network}, which does not exist"));
                }
                if let Some(acl) = logical.acls.iter().find(|acl| !state.acls.contains_key(&state.meant(project, *acl)))
                {
                    broken.push(format!("{owner} has network ACL {acl}, which does not exist"));
                }
            }
            Ok(Device::Nic { network: None, .. } | Device::Disk { .. } | Device::None) => {}
            Err(error) => broken.push(format!("{owner} has device {name}, which cannot be read: {error}")),
        }
    }
    roots
}
