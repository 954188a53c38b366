//! Addresses that are listened on for those inside: of an uplink by logical networks, of members by bridges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::balance::{Forward, Transport};
use super::{Network, NetworkKind, check, port};
use crate::ClusterState;

/// Whether the network may listen on an address: one that its uplink gives to routers, or that is routed to it, and that
/// nobody else has.
///
/// # Errors
/// Says why not, and who has it.
pub fn allowed(state: &ClusterState, network: &Network, ip: IpAddr) -> Result<(), String> {
    let Some(id) = network.uplink() else {
        return Err(format!("network {} has no uplink to listen on", network.name));
    };
    let Some(uplink) = state.networks.get(&id) else { return Err(format!("network {} does not exist", id.name)) };
    let name = &uplink.name;
    let given = match ip {
        IpAddr::V4(ip) => check::router4(uplink, ip).is_ok(),
        IpAddr::V6(ip) => check::router6(uplink, ip).is_ok(),
    };
    if !given && !uplink.routes().iter().any(|net| net.contains(&ip)) {
        return Err(format!("{ip} is neither in the ranges for routers nor in the routes of network {name}"));
    }
    let bridge = |n: &&Network| n.kind == NetworkKind::Bridge && n.forwards.contains_key(&ip);
    if let Some(other) = state.networks.values().find(bridge) {
        return Err(format!("{ip} is listened on by {}", other.told_to(network)));
    }
    let behind = state.networks.values().filter(|n| n.uplink().as_ref() == Some(&id));
    for other in behind {
        let router = [other.router.ipv4.map(IpAddr::V4), other.router.ipv6.map(IpAddr::V6)];
        if router.contains(&Some(ip)) {
            return Err(format!("{ip} is taken by the router of {}", other.told_to(network)));
        }
        if !other.is(network) && listens(other, ip) {
            return Err(format!("{ip} is listened on by {}", other.told_to(network)));
        }
    }
    let has = |n: &&Network| n.kind == NetworkKind::Ovn && n.subnets().any(|net| net.contains(&ip));
    if let Some(other) = state.networks.values().find(has) {
        return Err(format!("{ip} is in the subnet of {}", other.told_to(network)));
    }
    for instance in state.instances.values() {
        for port in port::of(state, instance) {
            if port.logical.external_routes.iter().any(|net| net.contains(&ip)) {
                let (device, instance) = (&port.device, &instance.name);
                return Err(match network.project.is_default() || port.network.project == network.project {
                    true => format!("{ip} is routed to device {device} of instance {instance}"),
                    false => format!("{ip} is routed to an instance of another project"),
                });
            }
        }
    }
    Ok(())
}

/// Whether a bridge may have a forward of this address, whoever else there is: members have such, and it is not inside.
///
/// # Errors
/// Says why not.
pub(super) fn of_bridge(network: &Network, ip: IpAddr) -> Result<(), String> {
    let ordinary = match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unicast_link_local()
        }
    };
    match (ordinary, inside(network, ip)) {
        (false, _) => Err(format!("{ip} is not an address that others can send to")),
        (true, true) => Err(format!("{ip} is in the subnet of network {} itself", network.name)),
        (true, false) => Ok(()),
    }
}

fn inside(network: &Network, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => network.subnet4().is_some_and(|net| net.contains(&ip)),
        IpAddr::V6(ip) => network.subnet6().is_some_and(|net| net.contains(&ip)),
    }
}

/// Whether nobody else uses what a forward of a bridge is to listen on.
///
/// # Errors
/// Names the holder.
pub(crate) fn free_for_bridge(state: &ClusterState, network: &Network, forward: &Forward) -> Result<(), String> {
    let ip = forward.listen;
    for other in state.networks.values().filter(|other| !other.is(network)) {
        let name = other.told_to(network);
        let routers = match ip {
            IpAddr::V4(ip) => check::router4(other, ip).is_ok(),
            IpAddr::V6(ip) => !other.ranges6("ipv6.ovn.ranges").is_empty() && check::router6(other, ip).is_ok(),
        };
        match () {
            () if listens(other, ip) => return Err(format!("{ip} is listened on by {name}")),
            () if routers => return Err(format!("{ip} is for routers of networks behind {name}")),
            // Members have addresses on an uplink, and none but the gateway's on others.
            () if other.kind != NetworkKind::Physical && inside(other, ip) => {
                return Err(format!("{ip} is in the subnet of {name}"));
            }
            () => {}
        }
    }
    for member in state.members.values() {
        for address in [&member.announced.api_address, &member.announced.cluster_address] {
            let Ok(own) = address.parse::<SocketAddr>() else { continue };
            let port = |(transport, listen, ..): &(Transport, u16, IpAddr, u16)| {
                *transport == Transport::Tcp && *listen == own.port()
            };
            if own.ip() == ip && (forward.default_target().is_some() || forward.mapped().iter().any(port)) {
                return Err(format!("{own} is where member {} is reached", member.name));
            }
        }
    }
    Ok(())
}

/// Whether routers on this uplink say of each address behind them that it is theirs (`ovn.ingress_mode=l2proxy`); else
/// the next hop has routes to them.
pub fn answered(uplink: &Network) -> bool {
    uplink.key("ovn.ingress_mode") != Some("routed")
}

/// The most bits of addresses in an external route that a router answers for one by one: 64 addresses.
pub const PROXIED_BITS: u8 = 6;

/// Each address of an external route; none of one that is too large to be answered for.
pub fn each(route: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let bits = route.max_prefix_len() - route.prefix_len();
    let count: u32 = if bits <= PROXIED_BITS { 1 << bits } else { 0 };
    let first = route.network();
    (0..count).map(move |at| match first {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) | at).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) | u128::from(at)).into(),
    })
}

/// Whether the network listens on an address.
pub fn listens(network: &Network, ip: IpAddr) -> bool {
    network.forwards.contains_key(&ip) || network.balancers.contains_key(&ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::balance::ForwardPort;
    use crate::{Generation, NetworkName, NodeId};

    #[test]
    fn members_are_reached_as_before() {
        let member = serde_json::from_value(serde_json::json!({
            "id": 1, "name": "node1", "certificate": "0".repeat(64), "joined_at": 1, "duty": "Active",
            "health": "Online", "failure_domain": "", "description": "", "groups": [], "config": {},
            "announced": {"api_address": "192.0.2.1:8443", "cluster_address": "[2001:db8::1]:8444", "version": "",
                "feature_level": 2, "architecture": "", "cpus": 1, "memory": 1, "drivers": {}, "storage_drivers": {}},
        }));
        let mut state = ClusterState::default();
        state.members.insert(NodeId(1), member.unwrap());
        let network = Network::new(NetworkName::new("lab").unwrap(), NetworkKind::Bridge);
        let verdict = |listen: &str, protocol, listen_port: &str, rest: &[(&str, &str)]| {
            let listen: IpAddr = listen.parse().unwrap();
            let (description, target_port) = (String::new(), String::new());
            let port = ForwardPort {
                description: description.clone(),
                protocol,
                listen_port: listen_port.into(),
                target_port,
                target_address: listen,
            };
            let config = rest.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let forward = Forward { listen, description, config, ports: vec![port], generation: Generation(1) };
            free_for_bridge(&state, &network, &forward)
        };
        let rest = [("target_address", "10.0.0.9")];
        assert_eq!(verdict("192.0.2.1", Transport::Tcp, "80,443", &[]), Ok(()));
        assert_eq!(verdict("192.0.2.1", Transport::Udp, "8443", &[]), Ok(()));
        assert_eq!(verdict("192.0.2.2", Transport::Tcp, "8443", &rest), Ok(()));
        for (listen, port, rest) in
            [("192.0.2.1", "8000-9000", &[][..]), ("192.0.2.1", "80", &rest), ("2001:db8::1", "8444", &[])]
        {
            let why = verdict(listen, Transport::Tcp, port, rest).unwrap_err();
            assert!(why.ends_with("is where member node1 is reached"), "{why}");
        }
    }
}
