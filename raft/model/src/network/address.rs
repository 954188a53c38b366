//! Chooses addresses: for interfaces on logical networks, and for routers on their uplinks. The leader's network
//! controller proposes what is found here; apply takes it only if it is still free and fits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use super::port::{self, Port};
use super::{Network, NetworkKind, check, eui64, router_mac};
use crate::command::{Allocation, NetworkCommand};
use crate::{ClusterState, InstanceId, NetworkKey};

/// How many addresses one command gives out.
const BATCH: usize = 256;
/// How many addresses of an uplink are looked at.
const LOOK: usize = 1 << 16;

/// The commands that give every router and every interface the addresses that it lacks; empty when nobody lacks any
/// that can be had.
pub fn wanted(state: &ClusterState) -> Vec<NetworkCommand> {
    let mut commands = routers(state);
    let mut free: BTreeMap<NetworkKey, Free<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for port in port::all(state) {
        let choice = choose(state, &port, &mut free);
        let held = port.address.filter(|a| port.network.goes_by(&a.network)).map(|a| (a.ipv4, a.ipv6));
        if held != Some(choice) && (held.is_some() || choice != (None, None)) {
            let (ipv4, ipv6) = choice;
            let (instance, network) = (port.instance.id, port.network.id());
            found.push(Allocation { instance, device: port.device, network, ipv4, ipv6 });
        }
    }
    commands.extend(found.chunks(BATCH).map(|batch| NetworkCommand::Allocate { addresses: batch.to_vec() }));
    commands
}

/// Why the interface cannot be used yet: an address that its network has to give, and that it has not got.
pub fn lacking(state: &ClusterState, instance: InstanceId, device: &str) -> Option<String> {
    let instance = state.instances.get(&instance)?;
    let port = port::of(state, instance).into_iter().find(|p| p.device == device)?;
    let held = port.address.map_or((None, None), |a| (a.ipv4, a.ipv6));
    let lack =
        |family: &str| Some(format!("device {device} has no {family} address of network {} yet", port.network.name));
    match (port.network.subnet4(), port.network.subnet6(), held) {
        (Some(_), _, (None, _)) => lack("IPv4"),
        (_, Some(_), (_, None)) => lack("IPv6"),
        _ => None,
    }
}

/// What the port has or can have.
fn choose<'a>(
    state: &'a ClusterState,
    port: &Port<'a>,
    free: &mut BTreeMap<NetworkKey, Free<'a>>,
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let network = port.network;
    let held = port.address.filter(|a| network.goes_by(&a.network));
    let v4 = match (network.subnet4(), port.fixed.0, held.and_then(|a| a.ipv4)) {
        (None, ..) => None,
        (Some(_), Some(fixed), _) => Some(fixed),
        (Some(subnet), None, Some(held)) if check::usable4(network, subnet, held) => Some(held),
        (Some(subnet), None, _) => free.entry(network.id()).or_insert_with(|| Free::new(state, network, subnet)).next(),
    };
    let holder = |address: Ipv6Addr| state.address_holders.get(&(network.id(), IpAddr::V6(address)));
    let mine = |(id, device): &(InstanceId, String)| *id == port.instance.id && *device == port.device;
    let v6 = network.subnet6().and_then(|subnet| {
        let own = port.fixed.1.or_else(|| eui64(subnet, port.mac?))?;
        holder(own).is_none_or(mine).then_some(own)
    });
    (v4, v6)
}

/// The addresses of a subnet that nobody has, from behind the one that was given last, round to it again.
///
/// What was released rests for as long as there are others: its neighbours may still send to the MAC address that had
/// it (the Linux ARP cache asks again only after `base_reachable_time`, 15 to 45 s), and OVN answers ARP itself, so
/// that nobody hears of the new one.
struct Free<'a> {
    network: &'a Network,
    subnet: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    /// What is still to be looked through.
    rest: Box<dyn Iterator<Item = u32>>,
}

impl<'a> Free<'a> {
    fn new(state: &ClusterState, network: &'a Network, subnet: Ipv4Net) -> Self {
        let key = |ip: u32| (network.id(), IpAddr::V4(Ipv4Addr::from(ip)));
        let held = state.address_holders.range(key(0)..=key(u32::MAX));
        let taken = held.filter_map(|((_, ip), _)| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect();
        let ranges = match network.ranges4("ipv4.dhcp.ranges") {
            ranges if ranges.is_empty() => vec![(subnet.network(), subnet.broadcast())],
            ranges => ranges,
        };
        let mut ranges: Vec<(u32, u32)> = ranges.into_iter().map(|(first, last)| (first.into(), last.into())).collect();
        ranges.sort_unstable();
        let behind = network.given.map_or(0, |given| u32::from(given).saturating_add(1));
        let upper = ranges.clone().into_iter().flat_map(move |(first, last)| first.max(behind)..=last);
        let all = ranges.into_iter().flat_map(|(first, last)| first..=last);
        Free { network, subnet, taken, rest: Box::new(upper.chain(all)) }
    }

    fn next(&mut self) -> Option<Ipv4Addr> {
        let (network, subnet, taken) = (self.network, self.subnet, &mut self.taken);
        let mut candidates = self.rest.by_ref().map(Ipv4Addr::from);
        candidates.find(|ip| check::usable4(network, subnet, *ip) && taken.insert(*ip))
    }
}

/// Routers that have no address on their uplink, or one that is not theirs any more.
fn routers(state: &ClusterState) -> Vec<NetworkCommand> {
    // Chosen in this pass, by uplink.
    let mut given: BTreeSet<(NetworkKey, IpAddr)> = BTreeSet::new();
    let mut commands = Vec::new();
    for network in state.networks.values().filter(|n| n.kind == NetworkKind::Ovn) {
        let Some(uplink) = network.uplink().and_then(|name| state.networks.get(&name)) else { continue };
        let mut chosen = network.router;
        let free = |ip: IpAddr, given: &BTreeSet<(NetworkKey, IpAddr)>| {
            check::free_on_uplink(state, uplink, network, ip).is_ok() && !given.contains(&(uplink.id(), ip))
        };
        if chosen.ipv4.is_none_or(|ip| check::router4(uplink, ip).is_err()) {
            let all =
                uplink.ranges4("ipv4.ovn.ranges").into_iter().flat_map(|(a, b)| u32::from(a)..=u32::from(b)).take(LOOK);
            let fits = |ip: &Ipv4Addr| check::router4(uplink, *ip).is_ok() && free((*ip).into(), &given);
            chosen.ipv4 = all.map(Ipv4Addr::from).find(fits);
        }
        if chosen.ipv6.is_none_or(|ip| check::router6(uplink, ip).is_err()) {
            let ranges = uplink.ranges6("ipv6.ovn.ranges");
            let own = uplink.subnet6().and_then(|net| eui64(net, router_mac(state.cluster_id, network.number)));
            let own = own.filter(|_| ranges.is_empty());
            let all =
                ranges.into_iter().flat_map(|(a, b)| u128::from(a)..=u128::from(b)).take(LOOK).map(Ipv6Addr::from);
            let fits = |ip: &Ipv6Addr| check::router6(uplink, *ip).is_ok() && free((*ip).into(), &given);
            chosen.ipv6 = own.into_iter().chain(all).find(fits);
        }
        if chosen != network.router {
            given.extend(chosen.ipv4.map(|ip| (uplink.id(), ip.into())));
            given.extend(chosen.ipv6.map(|ip| (uplink.id(), ip.into())));
            let (network, ipv4, ipv6) = (network.id(), chosen.ipv4, chosen.ipv6);
            commands.push(NetworkCommand::AllocateUplink { network, ipv4, ipv6 });
        }
    }
    commands
}
