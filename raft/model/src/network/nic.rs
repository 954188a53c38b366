//! What devices of instances may be on which network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::acl::KEYS;
use super::check::{BEYOND, usable4, usable6};
use super::{Network, NetworkKind, listen};
use crate::ClusterState;
use crate::device::{BRIDGED_KEYS, Device, InvalidDevice, LOGICAL_KEYS, Logical};

type Properties = BTreeMap<String, String>;

/// Whether a device, read from `properties`, may be on the network.
pub(crate) fn on(
    state: &ClusterState,
    network: &Network,
    properties: &Properties,
    device: &Device,
) -> Result<(), InvalidDevice> {
    let Device::Nic { ipv4, ipv6, logical, .. } = device else { return Ok(()) };
    let bad = |key: &str, why: String| Err(InvalidDevice { key: key.into(), why });
    let name = &network.name;
    match network.kind {
        NetworkKind::Bridge => {
            bridged(Some(network), properties, device)?;
            return guarded(state, network, device);
        }
        NetworkKind::Physical => {
            return bad("network", format!("{name} is an uplink: use a network of type ovn on it, or a bridge"));
        }
        NetworkKind::Ovn => without(BRIDGED_KEYS, properties, "only works on bridges")?,
    }
    fits(network, (*ipv4, *ipv6))?;
    if let Some(missing) = logical.acls.iter().find(|name| !state.acls.contains_key(&network.beside((*name).clone()))) {
        return bad("security.acls", format!("there is no network ACL {missing}"));
    }
    routes(state, network, logical)
}

/// Fixed addresses must be some that the network can give.
fn fits(network: &Network, (ipv4, ipv6): (Option<Ipv4Addr>, Option<Ipv6Addr>)) -> Result<(), InvalidDevice> {
    let bad = |key: &str, why: String| Err(InvalidDevice { key: key.into(), why });
    let name = &network.name;
    if let Some(ip) = ipv4 {
        match network.subnet4() {
            None => return bad("ipv4.address", format!("network {name} has no IPv4")),
            Some(subnet) if usable4(network, subnet, ip) => {}
            Some(subnet) if subnet.addr() == ip => {
                return bad("ipv4.address", format!("{ip} is the gateway of network {name}"));
            }
            Some(subnet) => {
                return bad(
                    "ipv4.address",
                    format!("{ip} is not for an instance in {} of network {name}", subnet.trunc()),
                );
            }
        }
    }
    if let Some(ip) = ipv6 {
        match network.subnet6() {
            None => return bad("ipv6.address", format!("network {name} has no IPv6")),
            Some(subnet) if usable6(subnet, ip) => {}
            Some(subnet) => {
                return bad(
                    "ipv6.address",
                    format!("{ip} is not for an instance in {} of network {name}", subnet.trunc()),
                );
            }
        }
    }
    Ok(())
}

fn without(keys: &[&str], properties: &Properties, why: &str) -> Result<(), InvalidDevice> {
    match keys.iter().find(|key| properties.get(**key).is_some_and(|v| !v.is_empty())) {
        Some(key) => Err(InvalidDevice { key: (*key).into(), why: why.into() }),
        None => Ok(()),
    }
}

/// An interface on a bridge has none of the abilities of logical networks, and can be kept to addresses that are known
/// beforehand. Without a network it is on a bridge of the host's.
pub(crate) fn bridged(
    network: Option<&Network>,
    properties: &Properties,
    device: &Device,
) -> Result<(), InvalidDevice> {
    let Device::Nic { ipv4, ipv6, filter, .. } = device else { return Ok(()) };
    without(LOGICAL_KEYS, properties, "only works on networks of type ovn")?;
    if network.is_none() {
        without(&KEYS, properties, "only works on managed networks")?;
    }
    let bad = |key: &str, why: &str| Err(InvalidDevice { key: key.into(), why: why.into() });
    let derived = network.and_then(Network::subnet6).is_some_and(|net| net.prefix_len() <= 64);
    match () {
        () if (filter.ipv4 || filter.ipv6) && filter.mac == Some(false) => {
            bad("security.mac_filtering", "cannot be off while IP addresses are filtered")
        }
        () if filter.ipv4 && ipv4.is_none() => bad("security.ipv4_filtering", "needs ipv4.address"),
        () if filter.ipv6 && ipv6.is_none() && !derived => {
            bad("security.ipv6_filtering", "needs ipv6.address, or a network with an IPv6 subnet of up to /64")
        }
        () => Ok(()),
    }
}

/// Lists of an interface on a bridge: it is told apart from others by its addresses, which must not change.
fn guarded(state: &ClusterState, network: &Network, device: &Device) -> Result<(), InvalidDevice> {
    let Device::Nic { ipv4, ipv6, filter, logical, .. } = device else { return Ok(()) };
    let bad = |why: String| Err(InvalidDevice { key: KEYS[0].into(), why });
    if !logical.is_guarded() {
        return Ok(());
    }
    for name in &logical.acls {
        let Some(acl) = state.acls.get(&network.beside(name.clone())) else {
            return bad(format!("there is no network ACL {name}"));
        };
        if let Some(field) = acl.beyond_bridges() {
            return bad(format!("{field} of network ACL {name} is about more than addresses: {BEYOND}"));
        }
    }
    let derived = network.subnet6().is_none_or(|net| net.prefix_len() <= 64);
    match () {
        () if filter.mac == Some(false) => bad("needs security.mac_filtering".into()),
        () if network.subnet4().is_some() && ipv4.is_none() => bad("needs ipv4.address, on a bridge".into()),
        () if ipv6.is_none() && !derived => bad("needs ipv6.address, on a bridge with this subnet".into()),
        () => Ok(()),
    }
}

/// Subnets behind an instance may not be those of networks, and what the uplink is to know must be routed to it.
fn routes(state: &ClusterState, network: &Network, logical: &Logical) -> Result<(), InvalidDevice> {
    let key = |net: &IpNet, external: &str| match net.addr().is_ipv4() {
        true => format!("ipv4.routes{external}"),
        false => format!("ipv6.routes{external}"),
    };
    let all = logical.routes.iter().map(|n| (n, "")).chain(logical.external_routes.iter().map(|n| (n, ".external")));
    for (route, external) in all {
        let overlaps =
            |n: &&Network| n.subnets().any(|net| net.contains(&route.network()) || route.contains(&net.network()));
        if let Some(other) = state.networks.values().find(overlaps) {
            let why = format!("{route} overlaps the subnet of {}", other.told_to(network));
            return Err(InvalidDevice { key: key(route, external), why });
        }
    }
    if logical.external_routes.is_empty() {
        return Ok(());
    }
    let uplink = network.uplink().and_then(|name| state.networks.get(&name));
    let open = uplink.map(Network::routes).unwrap_or_default();
    let answered = uplink.is_some_and(listen::answered);
    for route in &logical.external_routes {
        let bad = |why: String| Err(InvalidDevice { key: key(route, ".external"), why });
        if !open.iter().any(|net| net.contains(route)) {
            let name = &network.name;
            return bad(format!("{route} is not within ipv4.routes or ipv6.routes of the uplink of network {name}"));
        }
        if answered && listen::each(route).next().is_none() {
            let least = route.max_prefix_len() - listen::PROXIED_BITS;
            return bad(format!(
                "{route} is too large: at most /{least}, unless the uplink has ovn.ingress_mode=routed"
            ));
        }
        let listens = |n: &Network| n.listening().find(|ip| route.contains(ip));
        if let Some((other, ip)) = state.networks.values().find_map(|n| Some((n, listens(n)?))) {
            return bad(format!("{route} holds {ip}, on which {} listens", other.told_to(network)));
        }
    }
    Ok(())
}
