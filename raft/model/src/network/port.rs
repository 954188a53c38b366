//! The interfaces of instances on logical networks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Network, NetworkKind, NicAddress};
use crate::device::{self, Device, Filter, Logical, Rates};
use crate::instance::{Devices, Instance, Intent};
use crate::{ClusterState, Mac, ProfileName, ProjectName};

/// An interface of an instance on a logical network.
#[derive(Debug, Clone)]
pub struct Port<'a> {
    pub instance: &'a Instance,
    pub device: String,
    pub network: &'a Network,
    /// `None` until one is drawn.
    pub mac: Option<Mac>,
    /// Addresses that the user fixed.
    pub fixed: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    pub rates: Rates,
    pub filter: Filter,
    pub logical: Logical,
    /// What was allocated.
    pub address: Option<&'a NicAddress>,
}

impl Port<'_> {
    /// What the port is called in the northbound database and on the integration bridge.
    pub fn name(&self) -> String {
        super::port_name(self.network.number, self.instance.id, &self.device)
    }
}

/// Ports of one instance, in the order of their devices.
pub fn of<'a>(state: &'a ClusterState, instance: &'a Instance) -> Vec<Port<'a>> {
    let devices = state.expanded_devices(&instance.project, &instance.spec);
    devices.into_iter().filter_map(|(name, p)| port(state, instance, &name, &device::parse(&p).ok()?)).collect()
}

/// Ports of all instances that have a home and are to stay, in the order of the instances. Most instances have their
/// interfaces from the same few profiles, which are read once.
pub fn all(state: &ClusterState) -> Vec<Port<'_>> {
    let mut known: BTreeMap<(&ProjectName, &[ProfileName]), BTreeMap<String, Device>> = BTreeMap::new();
    let mut ports = Vec::new();
    if !state.networks.values().any(|n| n.kind == NetworkKind::Ovn) {
        return ports;
    }
    let placed = |i: &&Instance| i.placement.home().is_some() && i.run.intent != Intent::Deleted;
    for instance in state.instances.values().filter(placed) {
        let shared = known.entry((&instance.project, &instance.spec.profiles)).or_insert_with(|| {
            let spec = crate::instance::Spec { devices: Devices::new(), ..instance.spec.clone() };
            state.parsed_devices(&instance.project, &spec).into_iter().collect()
        });
        let own = &instance.spec.devices;
        let mut mine: Vec<Port<'_>> = shared
            .iter()
            .filter(|(name, _)| !own.contains_key(*name))
            .filter_map(|(name, device)| port(state, instance, name, device))
            .collect();
        let parsed = own.iter().filter_map(|(name, p)| Some((name, device::parse(p).ok()?)));
        mine.extend(parsed.filter_map(|(name, device)| port(state, instance, name, &device)));
        mine.sort_by(|a, b| a.device.cmp(&b.device));
        ports.append(&mut mine);
    }
    ports
}

fn port<'a>(state: &'a ClusterState, instance: &'a Instance, name: &str, device: &Device) -> Option<Port<'a>> {
    let Device::Nic { network: Some(network), mac, ipv4, ipv6, rates, filter, logical, .. } = device else {
        return None;
    };
    let network = state.network_of(&instance.project, network).filter(|n| n.kind == NetworkKind::Ovn)?;
    let drawn = || instance.spec.config.get(&format!("volatile.{name}.hwaddr"))?.parse().ok();
    Some(Port {
        instance,
        device: name.to_owned(),
        network,
        mac: mac.or_else(drawn),
        fixed: (*ipv4, *ipv6),
        rates: *rates,
        filter: *filter,
        logical: logical.as_ref().clone(),
        address: state.addresses.get(&(instance.id, name.to_owned())),
    })
}
