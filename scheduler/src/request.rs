//! What an instance asks of a member.

use std::collections::BTreeSet;

use basalt_model::device::{self, Device};
use basalt_model::instance::{Instance, Kind, Target};
use basalt_model::limit::{self, Cpu, Memory};
use basalt_model::restriction;
use basalt_model::{ClusterState, GroupName, InstanceName, NetworkKey, NetworkName, NodeId, PoolName, ProjectName};

use crate::layers::{Layers, Profiles};

/// One request for a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub project: ProjectName,
    pub name: InstanceName,
    pub kind: Kind,
    /// Kernel's word; empty for any.
    pub architecture: String,
    pub target: Target,
    /// The only groups whose members the project may use.
    pub groups: Option<BTreeSet<GroupName>>,
    /// Where the root disk lies.
    pub pool: Option<PoolName>,
    /// Size of the root disk in bytes, if it is limited.
    pub disk: Option<u64>,
    pub networks: BTreeSet<NetworkKey>,
    /// `limits.memory`.
    pub memory: Option<Memory>,
    /// `limits.cpu`.
    pub cpu: Option<Cpu>,
    /// The member that is preferred to all others that fit.
    pub near: Option<NodeId>,
    /// The member that will not do.
    pub not: Option<NodeId>,
}

impl Request {
    /// Reads it from an instance and its profiles. Values that do not parse ask for nothing: apply lets none in.
    pub fn of(view: &ClusterState, instance: &Instance) -> Request {
        Self::from_layers(view, instance, &Profiles::of(view).layers(instance))
    }

    pub(crate) fn from_layers(view: &ClusterState, instance: &Instance, layers: &Layers<'_>) -> Request {
        let (pool, disk) = layers.root().map_or((None, None), |(pool, size)| (Some(pool), size));
        let named = layers.devices().filter_map(|(_, properties)| network(properties));
        Request {
            project: instance.project.clone(),
            name: instance.name.clone(),
            kind: instance.spec.kind,
            architecture: instance.spec.architecture.clone(),
            target: instance.target.clone(),
            groups: view.projects.get(&instance.project).and_then(restriction::groups),
            pool,
            disk,
            networks: named.map(|name| view.meant(&instance.project, &name)).collect(),
            memory: memory(layers),
            cpu: layers.value("limits.cpu").and_then(|text| limit::parse_cpu(text).ok()),
            near: None,
            not: None,
        }
    }

    /// What the name shares with those of its siblings: `web` for `web-1` and `web2`.
    pub(crate) fn stem(&self) -> &str {
        stem(&self.name)
    }
}

pub(crate) fn memory(layers: &Layers<'_>) -> Option<Memory> {
    layers.value("limits.memory").and_then(|text| limit::parse_memory(text).ok())
}

pub(crate) fn stem(name: &InstanceName) -> &str {
    let stem = name.as_str().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    if stem.is_empty() { name.as_str() } else { stem }
}

fn network(properties: &std::collections::BTreeMap<String, String>) -> Option<NetworkName> {
    match device::parse(properties) {
        Ok(Device::Nic { network, .. }) => network,
        Ok(Device::Root { .. } | Device::Disk { .. } | Device::None) | Err(_) => None,
    }
}
