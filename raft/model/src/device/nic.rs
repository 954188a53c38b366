//! What interfaces have beside their place: limits, filters, and what only logical networks can give them.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{InvalidDevice, bad, get};
use crate::AclName;
use crate::config::{is_false, is_true, parse_networks};
use crate::instance::Devices;
use crate::limit::parse_rate;
use crate::network::acl::{self, Defaults};

/// How much an interface may carry, in bits a second, and how urgent what it sends is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// To the guest.
    pub ingress: Option<u64>,
    /// From the guest.
    pub egress: Option<u64>,
    /// What the kernel calls the priority of a packet, of those from the guest. Bridges only.
    pub priority: Option<u32>,
}

/// What an interface is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Sending from other hardware addresses; on logical networks, from other IP addresses too. `None` when nothing is
    /// said: yes on logical networks, no on bridges.
    pub mac: Option<bool>,
    /// Sending from other IPv4 addresses than its fixed one. Bridges only.
    pub ipv4: bool,
    /// The same of IPv6.
    pub ipv6: bool,
    /// Reaching other isolated interfaces of the network.
    pub isolated: bool,
}

/// What an interface has on managed networks alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logical {
    /// Subnets behind the instance, routed to it inside the network. Networks of type ovn only.
    pub routes: Vec<IpNet>,
    /// The same, known to the uplink too: taken from the uplink's routes.
    pub external_routes: Vec<IpNet>,
    /// Access control lists, beside those of the network.
    pub acls: Vec<AclName>,
    pub defaults: Defaults,
}

impl Logical {
    /// Whether it says anything of lists.
    pub fn is_guarded(&self) -> bool {
        !self.acls.is_empty() || self.defaults != Defaults::default()
    }
}

/// The keys that only interfaces on logical networks have.
pub const LOGICAL_KEYS: &[&str] = &["ipv4.routes", "ipv4.routes.external", "ipv6.routes", "ipv6.routes.external"];

/// The keys that only interfaces on bridges have.
pub const BRIDGED_KEYS: &[&str] = &["limits.priority", "security.ipv4_filtering", "security.ipv6_filtering"];

type Properties = BTreeMap<String, String>;

/// Whether there is an interface with keys that members of level 1 do not know.
pub(crate) fn understood_from_level_2(devices: &Devices) -> bool {
    let is_new = |key: &String| {
        key.starts_with("limits.") || key.starts_with("security.") || LOGICAL_KEYS.contains(&key.as_str())
    };
    let nics = devices.values().filter(|p| p.get("type").is_some_and(|kind| kind == "nic"));
    nics.flat_map(|p| p.keys()).any(is_new)
}

pub(super) fn rates(properties: &Properties) -> Result<Rates, InvalidDevice> {
    let rate = |key: &str| get(properties, key).map(parse_rate).transpose().map_err(|why| bad(key, why));
    let priority = |text: &str| {
        let why = || format!("{text:?} is not a whole number between 0 and 4294967295");
        text.parse().map_err(|_| bad("limits.priority", why()))
    };
    let (ingress, egress, both) = (rate("limits.ingress")?, rate("limits.egress")?, rate("limits.max")?);
    Ok(Rates {
        ingress: both.or(ingress),
        egress: both.or(egress),
        priority: get(properties, "limits.priority").map(priority).transpose()?,
    })
}

pub(super) fn filter(properties: &Properties) -> Result<Filter, InvalidDevice> {
    let flag = |key: &str| match get(properties, key) {
        None => Ok(None),
        Some(text) if is_true(text) => Ok(Some(true)),
        Some(text) if is_false(text) => Ok(Some(false)),
        Some(text) => Err(bad(key, format!("{text:?} is neither true nor false"))),
    };
    Ok(Filter {
        mac: flag("security.mac_filtering")?,
        ipv4: flag("security.ipv4_filtering")?.unwrap_or(false),
        ipv6: flag("security.ipv6_filtering")?.unwrap_or(false),
        isolated: flag("security.port_isolation")?.unwrap_or(false),
    })
}

pub(super) fn logical(properties: &Properties) -> Result<Logical, InvalidDevice> {
    let subnets = |key: &str, v4: bool| {
        let nets = parse_networks(get(properties, key).unwrap_or_default()).map_err(|e| bad(key, e))?;
        match nets.iter().find(|net| net.addr().is_ipv4() != v4 || net.trunc() != **net) {
            Some(net) => Err(bad(key, format!("{net} is not a subnet of IPv{}", if v4 { 4 } else { 6 }))),
            None => Ok(nets),
        }
    };
    let both = |v4: &str, v6: &str| Ok([subnets(v4, true)?, subnets(v6, false)?].concat());
    let (acls, defaults) = acl::assigned(properties)?;
    Ok(Logical {
        acls,
        defaults,
        routes: both("ipv4.routes", "ipv6.routes")?,
        external_routes: both("ipv4.routes.external", "ipv6.routes.external")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn rates_are_read() {
        let read = rates(&map(&[("limits.ingress", "10Mbit"), ("limits.priority", "7")])).unwrap();
        assert_eq!(read, Rates { ingress: Some(10_000_000), egress: None, priority: Some(7) });
        let read = rates(&map(&[("limits.ingress", "10Mbit"), ("limits.max", "1Gbit")])).unwrap();
        assert_eq!((read.ingress, read.egress), (Some(1_000_000_000), Some(1_000_000_000)));
        for (key, text) in [("limits.egress", "10MB"), ("limits.max", "0"), ("limits.priority", "-1")] {
            assert_eq!(rates(&map(&[(key, text)])).unwrap_err().key, key);
        }
    }

    #[test]
    fn filters_are_read() {
        let read = filter(&map(&[("security.mac_filtering", "false"), ("security.ipv6_filtering", "yes")])).unwrap();
        assert_eq!(read, Filter { mac: Some(false), ipv6: true, ..Filter::default() });
        let key = "security.ipv4_filtering";
        assert_eq!(filter(&map(&[(key, "perhaps")])).unwrap_err().key, key);
    }
}
