//! What a zone holds: a pure function of the state, and of the addresses that guests on bridges were seen with (those
//! are DHCP's to give, so the state does not know them).
//!
//! ```text
//!  INSTANCE.ZONE        addresses of instances of the zone's project, on networks that name the zone
//!  NETWORK.gw.ZONE      a network's own addresses, of the default project or the zone's
//!  9.2.0.10.in-addr...  the name of who has an address, in a zone of its project that its network names
//!  RECORD.ZONE          what users added
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Zone;
use super::entry::{Data, TTL};
use crate::device::Device;
use crate::instance::{Instance, Intent};
use crate::network::{Network, NetworkKind, port};
use crate::{ClusterState, Mac, NetworkKey, ProjectName, ZoneName};

/// Addresses that interfaces of running guests were seen with.
pub type Seen = BTreeMap<Mac, Vec<IpAddr>>;

/// A guest may give itself any number of addresses; so many of an interface are told.
const SEEN_AT_MOST: usize = 8;

/// One record. Names are absolute, in lower case, without their last dot; those in the data too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rr {
    pub name: String,
    pub data: Data,
    /// In seconds.
    pub ttl: u32,
}

/// Somebody with addresses on a network.
struct Host<'a> {
    /// `None` for the network itself.
    instance: Option<&'a Instance>,
    network: &'a Network,
    ip: IpAddr,
}

impl Host<'_> {
    /// Its name in a zone, if it has one there. Two networks of one name in two projects must not share one.
    fn name(&self, zone: &ZoneName, project: &ProjectName) -> Option<String> {
        let label = match self.instance {
            Some(instance) if instance.project == *project => instance.name.to_string(),
            Some(_) => return None,
            None if self.network.project.is_default() || self.network.project == *project => {
                format!("{}.gw", self.network.name)
            }
            None => return None,
        };
        // Networks may have dots in their names.
        let plain = label.split('.').all(|part| !part.is_empty() && part.len() < 64);
        plain.then(|| format!("{label}.{zone}").to_ascii_lowercase())
    }
}

/// All that the zone holds but its SOA, in order, nothing twice.
pub fn content(state: &ClusterState, zone: &Zone, seen: &Seen) -> Vec<Rr> {
    let apex = zone.name.as_str();
    let own = zone.nameservers().into_iter().map(|ns| rr(apex, TTL, Data::Ns(ns.to_ascii_lowercase())));
    let records = zone.records.values().flat_map(|record| {
        let name = match record.name.as_str() {
            "@" => apex.to_owned(),
            label => format!("{label}.{apex}"),
        };
        let entries = record.entries.iter().filter_map(|entry| Some((entry.lifetime(), entry.data().ok()?)));
        entries.map(move |(ttl, data)| rr(&name, ttl, absolute(data, apex))).collect::<Vec<_>>()
    });
    let mut all: Vec<Rr> = own.chain(records).collect();
    // An alias is all that there is under its name (RFC 1034, 3.6.2), and users know what they name.
    let aliases: BTreeSet<String> =
        all.iter().filter(|rr| matches!(rr.data, Data::Cname(_))).map(|rr| rr.name.clone()).collect();
    let found = hosts(state, zone, seen);
    let generated = found.iter().flat_map(|host| [forward(zone, host), reverse(state, zone, host)]).flatten();
    all.extend(generated.filter(|rr| !aliases.contains(&rr.name)));
    one_lifetime(&mut all);
    all.sort();
    all.dedup();
    all
}

fn rr(name: &str, ttl: u32, data: Data) -> Rr {
    Rr { name: name.to_owned(), ttl, data }
}

/// Records of one name and type have one time to live (RFC 2181, 5.2): the shortest.
fn one_lifetime(all: &mut [Rr]) {
    let mut shortest: BTreeMap<(String, u16), u32> = BTreeMap::new();
    for rr in all.iter() {
        let ttl = shortest.entry((rr.name.clone(), rr.data.number())).or_insert(rr.ttl);
        *ttl = rr.ttl.min(*ttl);
    }
    for rr in all {
        rr.ttl = shortest.get(&(rr.name.clone(), rr.data.number())).copied().unwrap_or(rr.ttl);
    }
}

/// Names in what users wrote are relative to the zone unless they end in a dot.
fn absolute(data: Data, apex: &str) -> Data {
    let name = |name: String| match (name.as_str(), name.strip_suffix('.')) {
        ("@", _) => apex.to_owned(),
        (_, Some(absolute)) => absolute.to_owned(),
        (relative, None) => format!("{relative}.{apex}"),
    };
    match data {
        Data::Cname(host) => Data::Cname(name(host)),
        Data::Ns(host) => Data::Ns(name(host)),
        Data::Ptr(host) => Data::Ptr(name(host)),
        Data::Mx(preference, host) => Data::Mx(preference, name(host)),
        Data::Srv(priority, weight, port, host) => Data::Srv(priority, weight, port, name(host)),
        plain @ (Data::A(_) | Data::Aaaa(_) | Data::Caa(..) | Data::Sshfp(..) | Data::Tlsa(..) | Data::Txt(_)) => plain,
    }
}

fn forward(zone: &Zone, host: &Host<'_>) -> Option<Rr> {
    if !host.network.forward_zones().contains(&zone.name) {
        return None;
    }
    let data = match host.ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    };
    Some(rr(&host.name(&zone.name, &zone.project)?, TTL, data))
}

fn reverse(state: &ClusterState, zone: &Zone, host: &Host<'_>) -> Option<Rr> {
    if host.network.reverse_zone(host.ip.is_ipv4())? != zone.name {
        return None;
    }
    let owner = reversed(host.ip);
    owner.strip_suffix(zone.name.as_str()).filter(|rest| rest.is_empty() || rest.ends_with('.'))?;
    let zones = host.network.forward_zones();
    let named = |name: &ZoneName| host.name(name, &state.zones.get(name)?.project);
    Some(rr(&owner, TTL, Data::Ptr(zones.iter().find_map(named)?)))
}

/// The name under which the DNS keeps the name of an address.
fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let digits = bytes.iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Everybody on the networks that name the zone.
fn hosts<'a>(state: &'a ClusterState, zone: &Zone, seen: &Seen) -> Vec<Host<'a>> {
    let names = |network: &&Network| {
        let reverse = [true, false].into_iter().filter_map(|v4| network.reverse_zone(v4));
        network.forward_zones().into_iter().chain(reverse).any(|name| name == zone.name)
    };
    let networks: BTreeMap<_, _> = state.networks.values().filter(names).map(|n| (n.id(), n)).collect();
    let mut hosts = Vec::new();
    for network in networks.values().copied() {
        hosts.extend(nets(network).map(|net| Host { instance: None, network, ip: net.addr() }));
    }
    for port in port::all(state).into_iter().filter(|port| networks.contains_key(&port.network.id())) {
        let addresses = port.address.into_iter().flat_map(|address| address.addresses());
        hosts.extend(addresses.map(|ip| Host { instance: Some(port.instance), network: port.network, ip }));
    }
    if networks.values().any(|network| network.kind == NetworkKind::Bridge) {
        for instance in state.instances.values().filter(|i| i.run.intent != Intent::Deleted) {
            for (network, ip) in on_bridges(state, instance, &networks, seen) {
                hosts.push(Host { instance: Some(instance), network, ip });
            }
        }
    }
    let told = |host: &Host<'_>| {
        let key = if host.ip.is_ipv4() { "ipv4.nat" } else { "ipv6.nat" };
        zone.tells_of_nat() || !host.network.flag(key, false)
    };
    hosts.retain(told);
    hosts
}

/// A network's own addresses, with their prefix lengths.
fn nets(network: &Network) -> impl Iterator<Item = IpNet> {
    let nets = [network.subnet4().map(IpNet::V4), network.subnet6().map(IpNet::V6)];
    nets.into_iter().flatten()
}

/// What an instance has on bridges: addresses that users fixed, and those that it was seen with.
fn on_bridges<'a>(
    state: &ClusterState,
    instance: &Instance,
    networks: &BTreeMap<NetworkKey, &'a Network>,
    seen: &Seen,
) -> Vec<(&'a Network, IpAddr)> {
    let mut found = Vec::new();
    for (device, parsed) in state.parsed_devices(&instance.project, &instance.spec) {
        let Device::Nic { network: Some(name), mac, ipv4, ipv6, .. } = parsed else { continue };
        let Some(network) =
            networks.get(&state.meant(&instance.project, &name)).copied().filter(|n| n.kind == NetworkKind::Bridge)
        else {
            continue;
        };
        let drawn = || instance.spec.config.get(&format!("volatile.{device}.hwaddr"))?.parse().ok();
        let mac: Option<Mac> = mac.or_else(drawn);
        let fits = |ip: &IpAddr| nets(network).any(|net| net.contains(ip) && net.addr() != *ip);
        let told = mac.and_then(|mac| seen.get(&mac)).into_iter().flatten().copied().filter(fits).take(SEEN_AT_MOST);
        let fixed = ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6));
        found.extend(fixed.chain(told).map(|ip| (network, ip)));
    }
    found
}

#[cfg(test)]
mod tests;
