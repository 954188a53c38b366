//! Networks: defined once in the cluster, realised on every member.
//!
//! ```text
//!  Bridge    a Linux bridge on each member               may be the uplink of logical networks
//!  Ovn       a logical switch and router, one in all     NICs have addresses from `ClusterState::addresses`
//!  Physical  an interface of each member                 only an uplink: its ranges give the routers their addresses
//! ```
//! Those of type `Ovn` may belong to a project, see [`own`].

pub mod acl;
pub mod address;
pub mod address_set;
pub mod balance;
pub mod check;
pub mod listen;
pub(crate) mod nic;
pub mod own;
pub mod peer;
pub mod port;
pub mod zone;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use balance::{Balancer, Forward};
use peer::Peer;

use crate::config::{self, Key};
use crate::{AclKey, Generation, InProject, InstanceId, Mac, NetworkKey, NetworkName, PeerName, ProjectName};

/// What realises a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// A Linux bridge on every member, with DHCP, DNS and NAT.
    Bridge,
    /// A logical switch with a router, of OVN: one network for all members.
    Ovn,
    /// An interface that every member has: the way out for logical networks.
    Physical,
}

impl NetworkKind {
    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            NetworkKind::Bridge => "bridge",
            NetworkKind::Ovn => "ovn",
            NetworkKind::Physical => "physical",
        }
    }

    /// The configuration keys of such networks.
    pub fn keys(self) -> &'static [Key] {
        match self {
            NetworkKind::Bridge => config::NETWORK,
            NetworkKind::Ovn => config::NETWORK_OVN,
            NetworkKind::Physical => config::NETWORK_PHYSICAL,
        }
    }
}

impl std::str::FromStr for NetworkKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bridge" => Ok(NetworkKind::Bridge),
            "ovn" => Ok(NetworkKind::Ovn),
            "physical" => Ok(NetworkKind::Physical),
            other => Err(format!("{other:?} is not supported: use bridge, ovn or physical")),
        }
    }
}

/// Where a router is on its uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterAddress {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl RouterAddress {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The addresses of an interface on a logical network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicAddress {
    pub network: NetworkKey,
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
}

impl NicAddress {
    /// Both, as far as they are.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// One managed network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: NetworkName,
    /// Whose it is.
    #[serde(default = "ProjectName::default_project", skip_serializing_if = "ProjectName::is_default")]
    pub project: ProjectName,
    pub kind: NetworkKind,
    pub description: String,
    /// Keys of [`NetworkKind::keys`]; `ipv4.address` is the bridge's or router's own address with its prefix length.
    pub config: BTreeMap<String, String>,
    pub generation: Generation,
    /// Given by apply and never again: what the network is called in northbound rows. 0 for a bridge from before
    /// networks were counted.
    #[serde(default, skip_serializing_if = "zero")]
    pub number: u32,
    /// The router's addresses on the uplink, once they are chosen.
    #[serde(default, skip_serializing_if = "RouterAddress::is_none")]
    pub router: RouterAddress,
    /// The IPv4 address that was chosen last for an interface: the next is looked for behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Ipv4Addr>,
    /// By the address that is listened on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forwards: BTreeMap<IpAddr, Forward>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub balancers: BTreeMap<IpAddr, Balancer>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<PeerName, Peer>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn zero(number: &u32) -> bool {
    *number == 0
}

impl Network {
    /// One of the default project that was not applied yet.
    pub fn new(name: NetworkName, kind: NetworkKind) -> Self {
        Network {
            name,
            project: ProjectName::default_project(),
            kind,
            description: String::new(),
            config: BTreeMap::new(),
            generation: Generation(1),
            number: 0,
            router: RouterAddress::default(),
            given: None,
            forwards: BTreeMap::new(),
            balancers: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    /// What it is found by.
    pub fn id(&self) -> NetworkKey {
        self.beside(self.name.clone())
    }

    /// Whether that is what it is found by.
    pub fn goes_by(&self, id: &NetworkKey) -> bool {
        self.name == id.name && self.project == id.project
    }

    /// A name of its project: of a list that it has, of a network beside it.
    pub fn beside<N>(&self, name: N) -> InProject<N> {
        InProject { project: self.project.clone(), name }
    }

    /// Whether both are one network.
    pub fn is(&self, other: &Network) -> bool {
        self.name == other.name && self.project == other.project
    }

    /// What it is called in an answer about a network of another project: users of a project are not told of what is in
    /// others.
    pub(crate) fn told_to(&self, other: &Network) -> String {
        match () {
            () if self.project == other.project => format!("network {}", self.name),
            () if other.project.is_default() => format!("network {} of project {}", self.name, self.project),
            () => "a network of another project".into(),
        }
    }

    /// The lists that all its interfaces have, and what becomes of the rest of their traffic.
    pub fn acls(&self) -> (Vec<AclKey>, acl::Defaults) {
        let (names, defaults) = acl::assigned(&self.config).unwrap_or_default();
        (names.into_iter().map(|name| self.beside(name)).collect(), defaults)
    }

    /// The value of a key, unless it is unset or `none`.
    pub fn key(&self, name: &str) -> Option<&str> {
        self.config.get(name).map(String::as_str).filter(|v| !v.is_empty() && *v != "none")
    }

    /// Whether a key says yes; `default` when it is not set.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.key(name).map_or(default, config::is_true)
    }

    /// The gateway's IPv4 address with the prefix length: the router's own on a bridge or logical network, the next
    /// hop's on a physical one.
    pub fn subnet4(&self) -> Option<Ipv4Net> {
        self.key(self.gateway_key(true))?.parse().ok()
    }

    /// The same of IPv6.
    pub fn subnet6(&self) -> Option<Ipv6Net> {
        self.key(self.gateway_key(false))?.parse().ok()
    }

    /// Both, as far as they are.
    pub fn subnets(&self) -> impl Iterator<Item = ipnet::IpNet> + use<> {
        let v4 = self.subnet4().map(|net| ipnet::IpNet::V4(net.trunc()));
        v4.into_iter().chain(self.subnet6().map(|net| ipnet::IpNet::V6(net.trunc())))
    }

    /// Which key holds the subnet.
    pub fn gateway_key(&self, v4: bool) -> &'static str {
        match (self.kind, v4) {
            (NetworkKind::Bridge | NetworkKind::Ovn, true) => "ipv4.address",
            (NetworkKind::Bridge | NetworkKind::Ovn, false) => "ipv6.address",
            (NetworkKind::Physical, true) => "ipv4.gateway",
            (NetworkKind::Physical, false) => "ipv6.gateway",
        }
    }

    /// The network through which a logical one reaches the world, always one of the default project; `None` for an
    /// isolated one.
    pub fn uplink(&self) -> Option<NetworkKey> {
        match self.kind {
            NetworkKind::Ovn => NetworkName::new(self.key("network")?).ok().map(NetworkKey::in_default),
            NetworkKind::Bridge | NetworkKind::Physical => None,
        }
    }

    /// Ranges of IPv4 addresses under `key`.
    pub fn ranges4(&self, key: &str) -> Vec<(Ipv4Addr, Ipv4Addr)> {
        self.key(key).and_then(|text| config::parse_ranges(text).ok()).unwrap_or_default()
    }

    /// Ranges of IPv6 addresses under `key`.
    pub fn ranges6(&self, key: &str) -> Vec<(Ipv6Addr, Ipv6Addr)> {
        self.key(key).and_then(|text| config::parse_ranges(text).ok()).unwrap_or_default()
    }

    /// Addresses of forwards and load balancers.
    pub fn listening(&self) -> impl Iterator<Item = IpAddr> {
        self.forwards.keys().chain(self.balancers.keys()).copied()
    }

    /// Subnets beyond the uplink's own that are routed to it: what listens and external routes may be taken from.
    pub fn routes(&self) -> Vec<ipnet::IpNet> {
        let of = |key| self.key(key).and_then(|text| config::parse_networks(text).ok()).unwrap_or_default();
        [of("ipv4.routes"), of("ipv6.routes")].concat()
    }
}

/// The ranges of a list of ports such as `80,90-99`.
///
/// # Errors
/// Names the part that is none.
pub fn ports(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let ends = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
        ends.filter(|(a, b)| 0 < *a && a <= b)
            .ok_or_else(|| format!("{part:?} is not a port, or a range such as 90-99"))
    };
    text.split(',').map(range).collect()
}

/// What northbound names of the network with this number begin with.
pub fn prefix(number: u32) -> String {
    format!("basalt-net{number}")
}

/// The logical port of an interface.
pub fn port_name(number: u32, instance: InstanceId, device: &str) -> String {
    format!("{}-instance-{instance}-{device}", prefix(number))
}

/// The router's hardware address: of our own range, other for each network, and not likely another cluster's.
pub fn router_mac(cluster: Uuid, number: u32) -> Mac {
    let (id, [_, a, b, c]) = (cluster.as_bytes(), number.to_be_bytes());
    Mac([0x02, id[14], id[15], a, b, c])
}

/// The address that a machine with this hardware address gives itself (RFC 4291, appendix A); only in prefixes of up to
/// 64 bits.
pub fn eui64(prefix: Ipv6Net, mac: Mac) -> Option<Ipv6Addr> {
    let [a, b, c, d, e, f] = mac.0;
    let host = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    let net = u128::from(prefix.network()) >> 64 << 64;
    (prefix.prefix_len() <= 64).then(|| Ipv6Addr::from(net | u128::from(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_numbers() {
        let id = InstanceId(Uuid::from_u128(5));
        assert_eq!(port_name(7, id, "eth0"), format!("basalt-net7-instance-{id}-eth0"));
        assert_ne!(router_mac(Uuid::from_u128(9), 1), router_mac(Uuid::from_u128(9), 2));
    }

    #[test]
    fn machines_name_themselves() {
        let mac: Mac = "00:16:3e:0a:0b:0c".parse().unwrap();
        assert_eq!(eui64("fd42::1/64".parse().unwrap(), mac), Some("fd42::216:3eff:fe0a:b0c".parse().unwrap()));
        assert_eq!(eui64("fd42::1/80".parse().unwrap(), mac), None);
    }
}
