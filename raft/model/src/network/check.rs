//! What networks and addresses must be like. Pure; apply refuses by it, the chooser chooses by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::peer::Peer;
use super::{Network, NetworkKind, acl, balance, listen, own, zone};
use crate::apply::{Outcome, invalid, not_found};
use crate::{ClusterState, Rejected, ZoneName};

/// Where the northbound database is, as the cluster's configuration says.
pub const NORTHBOUND: &str = "network.ovn.northbound_connection";

/// Why a rule about lists or `@` subjects cannot be on a bridge.
pub(crate) const BEYOND: &str = "only networks of type ovn know who has a list, what is inside, and what is outside";

/// The last address of a subnet that a machine may have: health checks of load balancers come from it.
pub fn checker4(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.broadcast()).saturating_sub(1))
}

/// Whether an interface may have this address: in the subnet, and neither the gateway's nor for special use.
pub fn usable4(network: &Network, subnet: Ipv4Net, ip: Ipv4Addr) -> bool {
    let special = [subnet.network(), subnet.broadcast(), subnet.addr()];
    subnet.contains(&ip) && !special.contains(&ip) && !(network.kind == NetworkKind::Ovn && ip == checker4(subnet))
}

/// The same of IPv6.
pub fn usable6(subnet: Ipv6Net, ip: Ipv6Addr) -> bool {
    subnet.contains(&ip) && ip != subnet.network() && ip != subnet.addr()
}

fn within<T: PartialOrd>(ranges: &[(T, T)], ip: T) -> bool {
    ranges.iter().any(|(first, last)| *first <= ip && ip <= *last)
}

/// Whether a router may have this address on the uplink.
///
/// # Errors
/// Says why not.
pub fn router4(uplink: &Network, ip: Ipv4Addr) -> Result<(), String> {
    let Some(subnet) = uplink.subnet4() else { return Err(format!("network {} has no IPv4", uplink.name)) };
    match within(&uplink.ranges4("ipv4.ovn.ranges"), ip) && usable4(uplink, subnet, ip) {
        true => Ok(()),
        false => Err(format!("{ip} is not in ipv4.ovn.ranges of network {}", uplink.name)),
    }
}

/// The same of IPv6, where no ranges mean the whole subnet.
///
/// # Errors
/// Says why not.
pub fn router6(uplink: &Network, ip: Ipv6Addr) -> Result<(), String> {
    let Some(subnet) = uplink.subnet6() else { return Err(format!("network {} has no IPv6", uplink.name)) };
    let ranges = uplink.ranges6("ipv6.ovn.ranges");
    match usable6(subnet, ip) && (ranges.is_empty() || within(&ranges, ip)) {
        true => Ok(()),
        false => Err(format!("{ip} is not in ipv6.ovn.ranges of network {}", uplink.name)),
    }
}

/// Whether nobody but `network` has this address on the uplink.
///
/// # Errors
/// Names the holder.
pub fn free_on_uplink(state: &ClusterState, uplink: &Network, network: &Network, ip: IpAddr) -> Result<(), String> {
    let has = |n: &&Network| n.router.ipv4.map(IpAddr::V4) == Some(ip) || n.router.ipv6.map(IpAddr::V6) == Some(ip);
    let id = uplink.id();
    let beside = |n: &&Network| !n.is(network) && n.uplink().as_ref() == Some(&id);
    let others: Vec<&Network> = state.networks.values().filter(beside).collect();
    if let Some(other) = others.iter().copied().find(has) {
        return Err(format!("{ip} is taken by the router of {}", other.told_to(network)));
    }
    match others.into_iter().chain([network]).find(|n| listen::listens(n, ip)) {
        Some(other) => Err(format!("{ip} is listened on by {}", other.told_to(network))),
        None => Ok(()),
    }
}

/// Whether a network may be as it is, beside the others.
///
/// # Errors
/// Names the key, and who stands in its way.
pub(crate) fn network(state: &ClusterState, network: &Network) -> Outcome {
    for (key, value) in network.config.iter().filter(|(_, value)| !value.is_empty()) {
        // Bridges of old are as they are; nobody shall be locked out by a rule that came later.
        if let Some(known) =
            crate::config::find(network.kind.keys(), key).filter(|_| network.kind != NetworkKind::Bridge)
        {
            known.check.accepts(value).map_err(|why| invalid(key, why))?;
        }
    }
    own::check(state, &network.project, "networks")?;
    own::kind(network)?;
    no_overlap(state, network)?;
    zones(state, network)?;
    match network.kind {
        NetworkKind::Bridge => bridge(state, network),
        NetworkKind::Ovn => logical(state, network),
        NetworkKind::Physical => physical(network),
    }
}

/// No two networks may hold the same address: every member routes all of them, and routers may be joined.
fn no_overlap(state: &ClusterState, network: &Network) -> Outcome {
    for v4 in [true, false] {
        let key = network.gateway_key(v4);
        let Some(mine) = subnet(network, v4)? else { continue };
        let others = state.networks.values().filter(|o| !o.is(network));
        // Two ways out may lead into one subnet.
        for other in others.filter(|o| (o.kind, network.kind) != (NetworkKind::Physical, NetworkKind::Physical)) {
            if let Ok(Some(theirs)) = subnet(other, v4)
                && (theirs.contains(&mine) || mine.contains(&theirs))
            {
                return Err(invalid(key, format!("{mine} overlaps {theirs} of {}", other.told_to(network))));
            }
        }
        let listens = |n: &Network| n.listening().find(|ip| network.kind != NetworkKind::Physical && mine.contains(ip));
        if let Some((other, ip)) = state.networks.values().find_map(|n| Some((n, listens(n)?))) {
            let other = other.told_to(network);
            return Err(invalid(key, format!("{mine} holds {ip}, on which {other} listens")));
        }
    }
    Ok(())
}

fn subnet(network: &Network, v4: bool) -> Result<Option<IpNet>, Rejected> {
    let key = network.gateway_key(v4);
    match network.key(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<IpNet>()
            .ok()
            .filter(|net| net.addr().is_ipv4() == v4)
            .map(|net| Some(net.trunc()))
            .ok_or_else(|| invalid(key, format!("{text:?} is not an address with a prefix length"))),
    }
}

fn bridge(state: &ClusterState, network: &Network) -> Outcome {
    lists(state, network)?;
    for id in network.acls().0 {
        if let Some(field) = state.acls.get(&id).and_then(acl::Acl::beyond_bridges) {
            let why = format!("{field} of network ACL {} is about more than addresses: {BEYOND}", id.name);
            return Err(invalid("security.acls", why));
        }
    }
    for (ip, forward) in &network.forwards {
        listen::of_bridge(network, *ip).map_err(|why| invalid("listen_address", why))?;
        balance::check_forward(network, forward).map_err(|e| invalid(&e.key, e.why))?;
    }
    let ovn = network.ranges4("ipv4.ovn.ranges");
    if ovn.is_empty() {
        return Ok(());
    }
    let key = "ipv4.ovn.ranges";
    let Some(subnet) = network.subnet4() else { return Err(invalid(key, "the network has no ipv4.address")) };
    ranges_within(key, &ovn, |ip| usable4(network, subnet, ip), subnet)?;
    let dhcp = network.ranges4("ipv4.dhcp.ranges");
    if !network.flag("ipv4.dhcp", true) {
        return Ok(());
    }
    if dhcp.is_empty() {
        return Err(invalid("ipv4.dhcp.ranges", "must be set beside ipv4.ovn.ranges, or DHCP would give out the same"));
    }
    match ovn.iter().find(|(first, last)| dhcp.iter().any(|(a, b)| first <= b && a <= last)) {
        Some((first, last)) => Err(invalid(key, format!("{first}-{last} overlaps ipv4.dhcp.ranges"))),
        None => Ok(()),
    }
}

fn physical(network: &Network) -> Outcome {
    if network.key("parent").is_none() {
        return Err(invalid("parent", "is missing: the interface of the members that leads out"));
    }
    let keys = ["ipv4.ovn.ranges", "ipv6.ovn.ranges"];
    let (v4, v6) = (network.ranges4(keys[0]), network.ranges6(keys[1]));
    match network.subnet4() {
        Some(subnet) => ranges_within(keys[0], &v4, |ip| usable4(network, subnet, ip), subnet)?,
        None if v4.is_empty() => {}
        None => return Err(invalid(keys[0], "needs ipv4.gateway")),
    }
    match network.subnet6() {
        Some(subnet) => ranges_within(keys[1], &v6, |ip| usable6(subnet, ip), subnet),
        None if v6.is_empty() => Ok(()),
        None => Err(invalid(keys[1], "needs ipv6.gateway")),
    }
}

/// Both ends of each range must be addresses that a machine of the subnet may have.
fn ranges_within<T: Copy + std::fmt::Display>(
    key: &str,
    ranges: &[(T, T)],
    usable: impl Fn(T) -> bool,
    subnet: impl std::fmt::Display,
) -> Outcome {
    match ranges.iter().find(|(first, last)| !usable(*first) || !usable(*last)) {
        Some((first, last)) => Err(invalid(key, format!("{first}-{last} is not a range of machines in {subnet}"))),
        None => Ok(()),
    }
}

fn logical(state: &ClusterState, network: &Network) -> Outcome {
    if state.config.get(NORTHBOUND).is_none_or(String::is_empty) {
        return Err(invalid("type", format!("networks of type ovn need {NORTHBOUND} in the server configuration")));
    }
    if network.subnet4().is_none() && network.subnet6().is_none() {
        return Err(invalid("ipv4.address", "a network needs a subnet: ipv4.address and ipv6.address are both none"));
    }
    if let Some(subnet) = network.subnet4() {
        if subnet.prefix_len() > 29 || [subnet.network(), subnet.broadcast(), checker4(subnet)].contains(&subnet.addr())
        {
            let why = format!("{subnet} is not the address of a router in a subnet with room (/29 or larger)");
            return Err(invalid("ipv4.address", format!("{why}; its last address but one is for health checks")));
        }
        let ranges = network.ranges4("ipv4.dhcp.ranges");
        ranges_within("ipv4.dhcp.ranges", &ranges, |ip| subnet.contains(&ip), subnet)?;
    }
    if let Some(subnet) = network.subnet6()
        && (subnet.prefix_len() > 64 || subnet.addr() == subnet.network())
    {
        return Err(invalid(
            "ipv6.address",
            format!("{subnet} is not the address of a router in a subnet of at least /64"),
        ));
    }
    lists(state, network)?;
    listeners(state, network)?;
    for peer in network.peers.values() {
        peering(state, network, peer)?;
    }
    let Some(id) = network.uplink() else {
        return match ["ipv4.nat", "ipv6.nat"].into_iter().find(|key| network.flag(key, false)) {
            Some(key) => Err(invalid(key, "an isolated network (network=none) has nothing to be translated to")),
            None => Ok(()),
        };
    };
    let Some(uplink) = state.networks.get(&id) else { return Err(not_found("uplink network", id.name)) };
    has_room(state, network, uplink)
}

/// The zones that the network names must be there, and no project have two of them. On networks of the default project
/// are instances of others too, which may have zones of their own; on those of others are their own alone.
fn zones(state: &ClusterState, network: &Network) -> Outcome {
    let of = state.zone_project(&network.project);
    let open = |zone: &&zone::Zone| network.project.is_default() || zone.project == of;
    let find = |key: &'static str, name: &str| {
        let zone = ZoneName::new(name.trim()).ok().and_then(|name| state.zones.get(&name)).filter(open);
        zone.ok_or_else(|| invalid(key, format!("there is no network zone {:?}", name.trim())))
    };
    let mut seen: Vec<&zone::Zone> = Vec::new();
    for name in network.key(zone::FORWARD).into_iter().flat_map(|names| names.split(',')) {
        let zone = find(zone::FORWARD, name)?;
        if let Some(other) = seen.iter().find(|other| other.project == zone.project) {
            let why = format!("{} and {} are both zones of project {}", other.name, zone.name, zone.project);
            return Err(invalid(zone::FORWARD, why));
        }
        seen.push(zone);
    }
    for (key, top) in [(zone::REVERSE4, "in-addr.arpa"), (zone::REVERSE6, "ip6.arpa")] {
        let Some(name) = network.key(key) else { continue };
        let zone = find(key, name)?;
        if !zone.name.as_str().ends_with(top) {
            return Err(invalid(key, format!("{} is not a zone under {top}", zone.name)));
        }
    }
    Ok(())
}

/// The access control lists that the network names must be there.
fn lists(state: &ClusterState, network: &Network) -> Outcome {
    let (names, _) = acl::assigned(&network.config).map_err(|e| invalid(&e.key, e.why))?;
    match names.into_iter().find(|name| !state.acls.contains_key(&network.beside(name.clone()))) {
        Some(missing) => Err(not_found("network ACL", missing)),
        None => Ok(()),
    }
}

/// What listens for those inside must be able to, and lead to somebody who can be there.
fn listeners(state: &ClusterState, network: &Network) -> Outcome {
    for (ip, forward) in &network.forwards {
        listen::allowed(state, network, *ip).map_err(|why| invalid("listen_address", why))?;
        balance::check_forward(network, forward).map_err(|e| invalid(&e.key, e.why))?;
        if network.balancers.contains_key(ip) {
            return Err(invalid("listen_address", format!("{ip} is the address of a forward and of a load balancer")));
        }
    }
    for (ip, balancer) in &network.balancers {
        listen::allowed(state, network, *ip).map_err(|why| invalid("listen_address", why))?;
        balance::check_balancer(network, balancer).map_err(|e| invalid(&e.key, e.why))?;
    }
    Ok(())
}

fn peering(state: &ClusterState, network: &Network, peer: &Peer) -> Outcome {
    let field = "target_network";
    let Some(target) = state.networks.get(&peer.target) else { return Err(not_found("network", &peer.target)) };
    if target.kind != NetworkKind::Ovn || target.is(network) {
        return Err(invalid(field, format!("{} is not another network of type ovn", target.name)));
    }
    match network.peers.values().find(|p| p.target == peer.target && p.name != peer.name) {
        Some(other) => Err(invalid(field, format!("{} is the target of peer {} already", peer.target, other.name))),
        None => Ok(()),
    }
}

/// Whether the uplink can give the network's router an address.
fn has_room(state: &ClusterState, network: &Network, uplink: &Network) -> Outcome {
    let name = &uplink.name;
    if uplink.kind == NetworkKind::Ovn {
        return Err(invalid("network", format!("{name} is of type ovn: an uplink is of type physical or bridge")));
    }
    if uplink.subnet4().is_none() && uplink.subnet6().is_none() {
        return Err(invalid("network", format!("{name} has no address: set ipv4.gateway or ipv6.gateway on it")));
    }
    if uplink.subnet4().is_some() {
        let ranges = uplink.ranges4("ipv4.ovn.ranges");
        if ranges.is_empty() {
            return Err(invalid("network", format!("{name} has no ipv4.ovn.ranges to take the router's address from")));
        }
        let room: u64 = ranges.iter().map(|(a, b)| u64::from(u32::from(*b) - u32::from(*a)) + 1).sum();
        let id = uplink.id();
        let others = state.networks.values().filter(|n| !n.is(network) && n.uplink().as_ref() == Some(&id));
        if others.count() as u64 >= room {
            return Err(invalid("network", format!("all addresses in ipv4.ovn.ranges of {name} are taken")));
        }
    }
    Ok(())
}
