//! What there is to know of logical networks before rows are made of it: everything resolved, nothing to look up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use basalt_model::device::Rates;
use basalt_model::network::acl::{Action, Direction, Terms};
use basalt_model::network::balance::{HealthCheck, Mapped};
use basalt_model::{AclKey, Mac, NetworkKey, PeerName, SetKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub networks: Vec<Network>,
    pub lists: BTreeMap<AclKey, List>,
    pub sets: BTreeMap<SetKey, Set>,
}

/// How guests come to their IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode6 {
    /// By themselves.
    #[default]
    Slaac,
    /// By themselves, with the rest told by DHCP.
    Stateless,
    /// By DHCP.
    Stateful,
}

/// One logical network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub number: u32,
    /// For people who look at the rows; rules name lists, sets and networks of its project.
    pub name: NetworkKey,
    /// The router's, on all its ports.
    pub mac: Mac,
    /// The router's addresses inside, with the length of the prefix.
    pub gateway4: Option<Ipv4Net>,
    pub gateway6: Option<Ipv6Net>,
    /// Seconds that a DHCP lease lasts; `None` when DHCP is off.
    pub lease4: Option<u32>,
    pub mode6: Mode6,
    pub mtu: u32,
    pub domain: String,
    pub search: Vec<String>,
    /// Name servers that guests are told.
    pub resolvers: Vec<IpAddr>,
    /// `None` for an isolated network.
    pub outside: Option<Outside>,
    pub ports: Vec<Port>,
    pub listeners: Vec<Listener>,
    pub peers: Vec<Joined>,
}

/// The way out of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// What chassis know the uplink by (`ovn-bridge-mappings`).
    pub uplink: String,
    /// The router's addresses on the uplink.
    pub addresses: Vec<IpNet>,
    /// Who routes further, one for each family at most.
    pub next_hops: Vec<IpAddr>,
    /// Subnets inside, and what their traffic looks like outside.
    pub snat: Vec<(IpNet, IpAddr)>,
    /// Chassis that may carry the traffic, the one with the highest number first in line.
    pub chassis: Vec<(String, u16)>,
}

/// An interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The logical port's name.
    pub name: String,
    /// The last part of its key.
    pub key: String,
    /// What DNS calls the instance, without the domain.
    pub host: String,
    pub mac: Mac,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Subnets beyond the guest that are routed to it.
    pub routes: Vec<IpNet>,
    /// Addresses at the guest, as the uplink sees them, that the router says there to be its own.
    pub proxied: BTreeSet<IpAddr>,
    /// Where it may be plugged in, its home first.
    pub chassis: Vec<String>,
    /// Whether frames with other sources are dropped.
    pub secured: bool,
    /// Whether it is kept from other isolated interfaces of the network.
    pub isolated: bool,
    /// What it may carry; networks of this kind know no priorities.
    pub rates: Rates,
    /// `None` without lists.
    pub guard: Option<Guard>,
}

/// An access control list, with the rules that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub name: AclKey,
    pub number: u32,
    pub rules: Vec<Said>,
}

/// An address set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub number: u32,
    pub nets: BTreeSet<IpNet>,
}

/// One rule, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its place among those of its direction.
    pub index: usize,
    pub direction: Direction,
    pub action: Action,
    pub logged: bool,
    pub terms: Terms,
}

/// What keeps watch over an interface that has lists, or is on a network that has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    pub lists: BTreeSet<AclKey>,
    /// What becomes of traffic that no rule is about, and whether that is logged.
    pub ingress: (Action, bool),
    pub egress: (Action, bool),
}

/// A forward or a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub address: IpAddr,
    /// Where all goes that no port is about.
    pub rest: Option<IpAddr>,
    pub ports: Vec<Mapped>,
    pub check: Option<HealthCheck>,
    /// Whether the router says to its neighbours on the uplink that the address is its.
    pub answered: bool,
}

/// A peering that both sides have, seen from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub name: PeerName,
    /// The other network.
    pub number: u32,
    pub gateway4: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    /// All that is inside it.
    pub subnets: Vec<IpNet>,
}

impl Network {
    /// What the names of its rows begin with.
    pub fn prefix(&self) -> String {
        basalt_model::network::prefix(self.number)
    }

    /// The key of one of its rows.
    pub fn key(&self, what: &str) -> String {
        format!("net{}/{what}", self.number)
    }

    /// All that is inside it: its subnets, and what is routed to its interfaces.
    pub fn inside(&self) -> impl Iterator<Item = IpNet> {
        self.subnets().chain(self.ports.iter().flat_map(|port| port.routes.iter().copied()))
    }

    /// Its subnets.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        let v4 = self.gateway4.map(|net| IpNet::V4(net.trunc()));
        v4.into_iter().chain(self.gateway6.map(|net| IpNet::V6(net.trunc())))
    }
}

/// Priorities of chassis for one network: spread over networks, and the same for a chassis whoever else there is.
pub fn priorities(group: &str, chassis: impl IntoIterator<Item = String>) -> Vec<(String, u16)> {
    let mut names: Vec<String> = chassis.into_iter().collect();
    names.sort();
    names.dedup();
    let mut taken = BTreeSet::new();
    let mut given = |name: &str| {
        let mut number = (hash(&format!("{group}/{name}")) % 32_767) as u16;
        while !taken.insert(number) {
            number = (number + 1) % 32_767;
        }
        number + 1
    };
    names.into_iter().map(|name| (name.clone(), given(&name))).collect()
}

/// FNV-1a with a last stir: the same everywhere and for ever, which the standard library's hash is not.
fn hash(text: &str) -> u64 {
    let folded =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let stirred = (folded ^ (folded >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let stirred = (stirred ^ (stirred >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    stirred ^ (stirred >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_spread_and_stay() {
        let of = |group: &str, names: &[&str]| priorities(group, names.iter().map(|n| (*n).to_owned()));
        let first = |group: &str| of(group, &["a", "b", "c"]).into_iter().max_by_key(|(_, p)| *p).map(|(name, _)| name);
        let mut counts = BTreeMap::new();
        for number in 0..300 {
            *counts.entry(first(&format!("basalt-net{number}"))).or_insert(0) += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|n| (60..140).contains(n)), "{counts:?}");
        let (two, three) = (of("g", &["b", "a"]), of("g", &["c", "b", "a"]));
        assert!(two.iter().all(|kept| three.contains(kept)), "{two:?} {three:?}");
    }
}
