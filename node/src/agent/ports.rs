//! What the interfaces of guests on bridges are to be held to, as their devices say: each by itself, and by their lists
//! where the bridge ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use basalt_model::device::{Device, Rates};
use basalt_model::instance::Instance;
use basalt_model::network::{Network, NetworkKind, eui64};
use basalt_model::{ClusterState, Mac, NetworkName};
use basalt_net::{HwAddr, IfName, NicGuard, PortRules, Source};

use super::{guest, rules};

/// Rules for those interfaces of an instance that need any. On logical networks the switch sees to all of it.
pub(super) fn of(state: &ClusterState, instance: &Instance) -> Vec<PortRules> {
    let devices = state.parsed_devices(&instance.project, &instance.spec);
    devices.iter().filter_map(|(name, device)| port(state, instance, name, device)).collect()
}

/// Where it is, and which addresses are its own: fixed ones, and what follows from the hardware address.
struct Place<'a> {
    network: Option<&'a Network>,
    mac: Option<Mac>,
    own: (Vec<Ipv4Addr>, Vec<Ipv6Addr>),
}

fn place<'a>(state: &'a ClusterState, instance: &Instance, name: &str, device: &Device) -> Option<Place<'a>> {
    let Device::Nic { network, mac, ipv4, ipv6, .. } = device else { return None };
    let network = network.as_ref().and_then(|name| state.network_of(&instance.project, name));
    if network.is_some_and(|network| network.kind != NetworkKind::Bridge) {
        return None;
    }
    let drawn = || instance.spec.config.get(&format!("volatile.{name}.hwaddr"))?.parse().ok();
    let mac = mac.or_else(drawn);
    let derived = || eui64(network.and_then(Network::subnet6)?, mac?);
    let own = (ipv4.iter().copied().collect(), ipv6.iter().copied().chain(derived()).collect());
    Some(Place { network, mac, own })
}

fn port(state: &ClusterState, instance: &Instance, name: &str, device: &Device) -> Option<PortRules> {
    let Device::Nic { rates, filter, logical, .. } = device else { return None };
    let Place { mac, own: (ipv4, ipv6), .. } = place(state, instance, name, device)?;
    let guarded = logical.is_guarded();
    let filtered = filter.mac == Some(true) || filter.ipv4 || filter.ipv6 || guarded;
    let source = filtered.then(|| Source {
        mac: mac.map(|mac| HwAddr(mac.0)),
        ipv4: (filter.ipv4 || guarded).then_some(ipv4),
        ipv6: (filter.ipv6 || guarded).then_some(ipv6),
    });
    if *rates == Rates::default() && source.is_none() && !filter.isolated {
        return None;
    }
    let name = IfName::new(guest::host_interface(instance.id, name)).ok()?;
    Some(PortRules { name, rates: *rates, source, isolated: filter.isolated })
}

/// Interfaces of an instance that have lists of their own, with their networks.
pub(super) fn guards(state: &ClusterState, instance: &Instance) -> Vec<(NetworkName, NicGuard)> {
    let guard = |(name, device): &(String, Device)| {
        let Device::Nic { logical, .. } = device else { return None };
        let Place { network, mac, own: (ipv4, ipv6) } = place(state, instance, name, device)?;
        let network = network.filter(|_| logical.is_guarded())?;
        let guard = NicGuard {
            port: IfName::new(guest::host_interface(instance.id, name)).ok()?,
            // Without one it cannot send, and nobody can send to it.
            mac: HwAddr(mac?.0),
            addresses: ipv4.into_iter().map(IpAddr::V4).chain(ipv6.into_iter().map(IpAddr::V6)).collect(),
            guard: rules::of_nic(state, network, logical)?,
        };
        Some((network.name.clone(), guard))
    };
    state.parsed_devices(&instance.project, &instance.spec).iter().filter_map(guard).collect()
}
