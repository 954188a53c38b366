//! What is known of logical networks without asking anybody: it is the same on every member.

use std::net::IpAddr;

use basalt_model::network::{self, Network, NetworkKind, port};
use ipnet::IpNet;

use crate::call::Call;
use crate::dto::network::{Lease, Ovn, State};
use crate::routes::render;

/// The MTU when none is set: what is left of 1500 bytes in a tunnel over IPv4.
const MTU: i64 = 1442;

/// The router and the switch, as northbound rows call them, and where the router is on its uplink.
pub(crate) fn state(call: &Call, network: &Network) -> State {
    let prefix = network::prefix(network.number);
    let nets = [network.subnet4().map(IpNet::V4), network.subnet6().map(IpNet::V6)];
    let shown = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    State {
        addresses: nets.into_iter().flatten().map(|net| render::address(net.addr(), net.prefix_len())).collect(),
        hwaddr: network::router_mac(call.view.cluster_id, network.number).to_string(),
        mtu: network.key("bridge.mtu").and_then(|text| text.parse().ok()).unwrap_or(MTU),
        state: "up".into(),
        kind: "broadcast".into(),
        ovn: Some(Ovn {
            chassis: String::new(),
            logical_router: format!("{prefix}-lr"),
            logical_switch: format!("{prefix}-ls-int"),
            uplink_ipv4: shown(network.router.ipv4.map(IpAddr::V4)),
            uplink_ipv6: shown(network.router.ipv6.map(IpAddr::V6)),
        }),
        ..State::default()
    }
}

/// Addresses on a logical network: the gateway's, and those of the instances that the caller may see.
pub(crate) fn leases(call: &Call, network: &Network) -> Vec<Lease> {
    let nets = [network.subnet4().map(IpNet::V4), network.subnet6().map(IpNet::V6)];
    let mac = network::router_mac(call.view.cluster_id, network.number);
    let mut leases: Vec<Lease> = nets
        .into_iter()
        .flatten()
        .map(|net| Lease {
            hostname: format!("{}.gw", network.name),
            hwaddr: mac.to_string(),
            address: net.addr().to_string(),
            kind: "gateway".into(),
            location: String::new(),
        })
        .collect();
    let visible = call.view.instances.values().filter(|i| call.who.sees(&i.project));
    for instance in visible {
        for port in port::of(&call.view, instance).into_iter().filter(|p| p.network.is(network)) {
            let Some(address) = port.address else { continue };
            let fixed = [port.fixed.0.map(IpAddr::V4), port.fixed.1.map(IpAddr::V6)];
            leases.extend(address.addresses().map(|ip| Lease {
                hostname: instance.name.to_string(),
                hwaddr: port.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                address: ip.to_string(),
                kind: if fixed.contains(&Some(ip)) { "static" } else { "dynamic" }.into(),
                location: render::location(&call.view, instance),
            }));
        }
    }
    leases.sort_by(|a, b| (&a.hostname, &a.address).cmp(&(&b.hostname, &b.address)));
    leases
}

/// The routers of logical networks on this uplink, as far as the caller may know of them.
pub(crate) fn routers(call: &Call, uplink: &Network) -> Vec<Lease> {
    let behind = call.view.networks.values();
    let behind = behind.filter(|n| n.kind == NetworkKind::Ovn && n.uplink() == Some(uplink.id()));
    let behind = behind.filter(|n| n.project.is_default() || call.who.sees(&n.project));
    behind
        .flat_map(|n| {
            let addresses = n.router.ipv4.map(IpAddr::V4).into_iter().chain(n.router.ipv6.map(IpAddr::V6));
            addresses.map(|ip| Lease {
                hostname: format!("{}.uplink", n.name),
                hwaddr: network::router_mac(call.view.cluster_id, n.number).to_string(),
                address: ip.to_string(),
                kind: "uplink".into(),
                location: String::new(),
            })
        })
        .collect()
}
