//! What the replicated state says of logical networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use basalt_model::ClusterState;
use basalt_model::instance::Instance;
use basalt_model::member::{Duty, Member, Role};
use basalt_model::network::{self as model, NetworkKind, listen, port, router_mac};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::beside;
use super::facts::{Facts, Mode6, Network, Outside, Port, priorities};

/// The MTU when none is set: what Geneve leaves of 1500 bytes over IPv4.
const MTU: u32 = 1442;
const DOMAIN: &str = "basalt";
/// How long a DHCP lease lasts, in seconds. Addresses do not change while an interface lives.
const LEASE: u32 = 3600;

/// Reads them. An interface without a hardware address, or without an address that its network has to give, is not there
/// yet: it comes whole.
pub fn read(state: &ClusterState) -> Facts {
    let chassis = carriers(state);
    let logical = |n: &&model::Network| n.kind == NetworkKind::Ovn && n.number > 0;
    let mut networks: BTreeMap<u32, Network> =
        state.networks.values().filter(logical).map(|n| (n.number, network(state, n, &chassis))).collect();
    for port in port::all(state) {
        if let Some(net) = networks.get_mut(&port.network.number) {
            net.ports.extend(interface(state, &port));
        }
    }
    let logical = state.networks.values().filter(logical);
    let peers: Vec<_> = logical.map(|n| (n.number, beside::peers(state, n, &networks))).collect();
    for (number, peers) in peers {
        if let Some(net) = networks.get_mut(&number) {
            net.peers = peers;
        }
    }
    Facts { networks: networks.into_values().collect(), lists: beside::lists(state), sets: beside::sets(state) }
}

/// Chassis that may be gateways: of members with the role for it, or of all when nobody has it; of those in service, or of
/// all when none is.
fn carriers(state: &ClusterState) -> Vec<String> {
    let all: Vec<&Member> = state.members.values().filter(|member| member.announced.chassis.is_some()).collect();
    let given = or_all(all, |member| member.roles.contains(&Role::OvnChassis));
    let active = or_all(given, |member| member.duty == Duty::Active);
    active.into_iter().filter_map(|member| member.announced.chassis.clone()).collect()
}

/// Chassis through which a network may reach its uplink, the first in line first; none for an isolated one.
pub fn gateways(state: &ClusterState, network: &model::Network) -> Vec<String> {
    if network.uplink().is_none() {
        return Vec::new();
    }
    let mut ranked = priorities(&model::prefix(network.number), carriers(state));
    ranked.sort_by_key(|(_, priority)| std::cmp::Reverse(*priority));
    ranked.into_iter().map(|(name, _)| name).collect()
}

/// Those that fit, or all when none does.
fn or_all(all: Vec<&Member>, fits: impl Fn(&Member) -> bool) -> Vec<&Member> {
    let some: Vec<&Member> = all.iter().copied().filter(|member| fits(member)).collect();
    if some.is_empty() { all } else { some }
}

fn network(state: &ClusterState, network: &model::Network, chassis: &[String]) -> Network {
    let (gateway4, gateway6) = (network.subnet4(), network.subnet6());
    let uplink = network.uplink().and_then(|name| state.networks.get(&name));
    Network {
        number: network.number,
        name: network.id(),
        mac: router_mac(state.cluster_id, network.number),
        gateway4,
        gateway6,
        lease4: network.flag("ipv4.dhcp", true).then_some(LEASE),
        // Nobody makes an address of his own in a prefix that long.
        mode6: if gateway6.is_some_and(|net| net.prefix_len() > 64) { Mode6::Stateful } else { Mode6::Stateless },
        mtu: network.key("bridge.mtu").and_then(|text| text.parse().ok()).unwrap_or(MTU),
        domain: network.key("dns.domain").unwrap_or(DOMAIN).to_owned(),
        search: Vec::new(),
        resolvers: uplink.map(resolvers).unwrap_or_default(),
        outside: uplink.map(|uplink| outside(network, uplink, chassis)),
        ports: Vec::new(),
        listeners: uplink.map(|uplink| beside::listeners(network, uplink)).unwrap_or_default(),
        peers: Vec::new(),
    }
}

/// Name servers behind an uplink: a bridge of ours serves names itself.
fn resolvers(uplink: &model::Network) -> Vec<IpAddr> {
    match uplink.kind {
        NetworkKind::Bridge => {
            let v4 = uplink.subnet4().map(|net| IpAddr::V4(net.addr()));
            v4.into_iter().chain(uplink.subnet6().map(|net| IpAddr::V6(net.addr()))).collect()
        }
        NetworkKind::Physical | NetworkKind::Ovn => {
            let text = uplink.key("dns.nameservers").unwrap_or_default();
            text.split(',').filter_map(|one| one.trim().parse().ok()).collect()
        }
    }
}

fn outside(network: &model::Network, uplink: &model::Network, chassis: &[String]) -> Outside {
    let (next4, next6) = (uplink.subnet4(), uplink.subnet6());
    let at4 = network.router.ipv4.zip(next4);
    let at6 = network.router.ipv6.zip(next6);
    let addresses4 = at4.and_then(|(ip, net)| Ipv4Net::new(ip, net.prefix_len()).ok()).map(IpNet::V4);
    let addresses6 = at6.and_then(|(ip, net)| Ipv6Net::new(ip, net.prefix_len()).ok()).map(IpNet::V6);
    let snat4 = network.subnet4().filter(|_| network.flag("ipv4.nat", false)).zip(at4);
    let snat6 = network.subnet6().filter(|_| network.flag("ipv6.nat", false)).zip(at6);
    let snat4 = snat4.map(|(net, (ip, _))| (IpNet::V4(net.trunc()), IpAddr::V4(ip)));
    let snat6 = snat6.map(|(net, (ip, _))| (IpNet::V6(net.trunc()), IpAddr::V6(ip)));
    let hop4 = at4.map(|(_, net)| IpAddr::V4(net.addr()));
    let hop6 = at6.map(|(_, net)| IpAddr::V6(net.addr()));
    Outside {
        uplink: uplink.name.to_string(),
        addresses: addresses4.into_iter().chain(addresses6).collect(),
        next_hops: hop4.into_iter().chain(hop6).collect(),
        snat: snat4.into_iter().chain(snat6).collect(),
        chassis: priorities(&model::prefix(network.number), chassis.iter().cloned()),
    }
}

fn interface(state: &ClusterState, port: &port::Port<'_>) -> Option<Port> {
    let held = port.address.filter(|held| port.network.goes_by(&held.network));
    let (ipv4, ipv6) = (held.and_then(|held| held.ipv4), held.and_then(|held| held.ipv6));
    let lacks =
        port.network.subnet4().is_some() && ipv4.is_none() || port.network.subnet6().is_some() && ipv6.is_none();
    if lacks {
        return None;
    }
    Some(Port {
        name: port.name(),
        key: format!("{}/{}", port.instance.id, port.device),
        host: port.instance.name.to_string(),
        mac: port.mac?,
        ipv4,
        ipv6,
        routes: port.logical.routes.iter().chain(&port.logical.external_routes).copied().collect(),
        proxied: proxied(state, port, (ipv4, ipv6)),
        chassis: chassis(state, port.instance),
        secured: port.filter.mac.unwrap_or(true),
        isolated: port.filter.isolated,
        rates: port.rates,
        guard: beside::guard(port),
    })
}

/// What the router answers for on the uplink (`ovn.ingress_mode`): addresses that no NAT hides, and external routes.
fn proxied(
    state: &ClusterState,
    port: &port::Port<'_>,
    (ipv4, ipv6): (Option<Ipv4Addr>, Option<Ipv6Addr>),
) -> BTreeSet<IpAddr> {
    let network = port.network;
    let uplink = network.uplink().and_then(|name| state.networks.get(&name));
    if !uplink.is_some_and(listen::answered) {
        return BTreeSet::new();
    }
    let shown4 = ipv4.filter(|_| !network.flag("ipv4.nat", false)).map(IpAddr::V4);
    let shown6 = ipv6.filter(|_| !network.flag("ipv6.nat", false)).map(IpAddr::V6);
    let external = port.logical.external_routes.iter().flat_map(listen::each);
    shown4.into_iter().chain(shown6).chain(external).collect()
}

/// Where the instance may be plugged in: at home, and where it is moving to.
fn chassis(state: &ClusterState, instance: &Instance) -> Vec<String> {
    let home = instance.placement.home().map(|(node, _)| node);
    let next = instance.placement.moving().and_then(|on_its_way| on_its_way.to);
    let mut nodes: Vec<_> = home.into_iter().chain(next).collect();
    nodes.dedup();
    nodes.iter().filter_map(|node| state.members.get(node)?.announced.chassis.clone()).collect()
}

#[cfg(test)]
mod tests;
