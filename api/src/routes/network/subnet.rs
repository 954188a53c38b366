//! Chooses subnets: `auto` becomes a private one that neither the cluster nor this host uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use basalt_model::network::{Network, NetworkKind};
use basalt_model::{ProjectName, StateView};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rand::Rng;

use crate::dto::Map;
use crate::error::Error;

/// How many random subnets are tried.
const TRIES: usize = 1000;

/// The configuration with every `auto` resolved. A new network without an IPv4 address gets one, a logical network an
/// IPv6 one too, and an uplink; a present one that is set to `auto` again keeps what it has.
pub(super) fn concrete(
    view: &StateView,
    project: &ProjectName,
    kind: NetworkKind,
    mut config: Map,
    present: Option<&Network>,
) -> Result<Map, Error> {
    config.retain(|key, value| !value.is_empty() && !key.starts_with("volatile."));
    if kind == NetworkKind::Physical {
        return Ok(config);
    }
    if kind == NetworkKind::Ovn && !config.contains_key("network") {
        config.insert("network".into(), only_uplink(view, project)?);
    }
    let translated = config.get("network").is_none_or(|uplink| uplink != "none");
    let wanted = |config: &Map, key: &str, default: &str| config.get(key).map_or(default, String::as_str) == "auto";
    let kept = |key: &str| present.and_then(|n| n.config.get(key)).filter(|v| v.parse::<IpNet>().is_ok()).cloned();
    let default4 = if present.is_some() { "none" } else { "auto" };
    if wanted(&config, "ipv4.address", default4) {
        let address = match kept("ipv4.address") {
            Some(address) => address,
            None => free4(&used(view)).ok_or_else(|| exhausted("ipv4.address"))?.to_string(),
        };
        config.insert("ipv4.address".into(), address);
        if translated {
            config.entry("ipv4.nat".into()).or_insert_with(|| "true".into());
        }
    }
    let default6 = if present.is_none() && kind == NetworkKind::Ovn { "auto" } else { "none" };
    if wanted(&config, "ipv6.address", default6) {
        let address = match kept("ipv6.address") {
            Some(address) => address,
            None => free6(&used(view)).ok_or_else(|| exhausted("ipv6.address"))?.to_string(),
        };
        config.insert("ipv6.address".into(), address);
        if translated {
            config.entry("ipv6.nat".into()).or_insert_with(|| "true".into());
        }
    }
    bridge_address(&config)?;
    Ok(config)
}

/// The uplink of a logical network that names none: the only physical network that is open to the project.
fn only_uplink(view: &StateView, project: &ProjectName) -> Result<String, Error> {
    let open = |n: &&Network| n.kind == NetworkKind::Physical && view.may_lead_out(project, &n.name);
    let mut physical = view.networks.values().filter(open);
    match (physical.next(), physical.next()) {
        (Some(only), None) => Ok(only.name.to_string()),
        (None, _) | (Some(_), Some(_)) => {
            let why =
                "is missing: name the uplink, a network of type physical or bridge, or none for an isolated network";
            Err(Error::invalid("config.network", why))
        }
    }
}

fn exhausted(key: &str) -> Error {
    Error::invalid(key, "no free private subnet was found: name one")
}

/// The bridge's own address must be one that a machine can have.
fn bridge_address(config: &Map) -> Result<(), Error> {
    for key in ["ipv4.address", "ipv6.address"] {
        let Some(net) = config.get(key).and_then(|v| v.parse::<IpNet>().ok()) else { continue };
        let small = net.max_prefix_len() - net.prefix_len() < 2;
        if small || net.addr() == net.network() || (net.addr().is_ipv4() && net.addr() == net.broadcast()) {
            return Err(Error::invalid(key, format!("{net} is not the address of a machine in a subnet")));
        }
    }
    Ok(())
}

/// Subnets that are taken: those of the cluster's networks, of this host's interfaces, and of its members.
fn used(view: &StateView) -> Vec<IpNet> {
    let networks = view
        .networks
        .values()
        .flat_map(|n| [n.subnet4().map(IpNet::V4), n.subnet6().map(IpNet::V6)].into_iter().flatten());
    let members = view.members.values().flat_map(|m| [&m.announced.api_address, &m.announced.cluster_address]);
    let members = members.filter_map(|a| a.parse::<std::net::SocketAddr>().ok()).map(|a| IpNet::from(a.ip()));
    networks.chain(members).chain(host()).collect()
}

fn host() -> Vec<IpNet> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |storage: Option<nix::sys::socket::SockaddrStorage>| -> Option<IpAddr> {
        let storage = storage?;
        let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    interfaces.filter_map(|i| IpNet::with_netmask(ip(i.address)?, ip(i.netmask)?).ok()).collect()
}

fn overlaps(candidate: IpNet, used: &[IpNet]) -> bool {
    used.iter().any(|u| u.contains(&candidate.network()) || candidate.contains(&u.network()))
}

fn free4(used: &[IpNet]) -> Option<IpNet> {
    let mut random = rand::rng();
    (0..TRIES).find_map(|_| {
        let address = Ipv4Addr::new(10, random.random_range(1..255), random.random_range(0..255), 1);
        let net = IpNet::V4(Ipv4Net::new(address, 24).ok()?);
        (!overlaps(net, used)).then_some(net)
    })
}

fn free6(used: &[IpNet]) -> Option<IpNet> {
    let mut random = rand::rng();
    (0..TRIES).find_map(|_| {
        // A unique local address with a random global id (RFC 4193).
        let part = |random: &mut rand::rngs::ThreadRng| random.random::<u16>();
        let id = [0xfd42, part(&mut random), part(&mut random), part(&mut random)];
        let address = Ipv6Addr::new(id[0], id[1], id[2], id[3], 0, 0, 0, 1);
        let net = IpNet::V6(Ipv6Net::new(address, 64).ok()?);
        (!overlaps(net, used)).then_some(net)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn auto_becomes_concrete_and_masqueraded() {
        let config =
            concrete(&StateView::default(), &ProjectName::default_project(), NetworkKind::Bridge, Map::new(), None)
                .unwrap();
        let net: IpNet = config["ipv4.address"].parse().unwrap();
        assert_eq!(net.prefix_len(), 24);
        assert_eq!(config["ipv4.nat"], "true");
        assert!(!config.contains_key("ipv6.address"));
    }

    #[test]
    fn none_stays_none_and_own_addresses_are_kept() {
        let (view, all) = (StateView::default(), ProjectName::default_project());
        let config = concrete(&view, &all, NetworkKind::Bridge, map(&[("ipv4.address", "none")]), None).unwrap();
        assert_eq!(config, map(&[("ipv4.address", "none")]));
        let config = concrete(&view, &all, NetworkKind::Bridge, map(&[("ipv4.address", "10.3.4.1/24")]), None).unwrap();
        assert_eq!(config, map(&[("ipv4.address", "10.3.4.1/24")]));
        for bad in ["10.3.4.0/24", "10.3.4.255/24", "10.3.4.1/32"] {
            assert!(concrete(&view, &all, NetworkKind::Bridge, map(&[("ipv4.address", bad)]), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn logical_networks_get_both_families_and_an_uplink() {
        let (view, all) = (StateView::default(), ProjectName::default_project());
        assert!(concrete(&view, &all, NetworkKind::Ovn, Map::new(), None).unwrap_err().to_string().contains("network"));
        let config = concrete(&view, &all, NetworkKind::Ovn, map(&[("network", "none")]), None).unwrap();
        assert!(config["ipv4.address"].ends_with("/24") && config["ipv6.address"].ends_with("/64"));
        assert!(!config.contains_key("ipv4.nat") && !config.contains_key("ipv6.nat"));
        let config =
            concrete(&view, &all, NetworkKind::Ovn, map(&[("network", "up"), ("ipv6.address", "none")]), None).unwrap();
        assert_eq!((config["ipv4.nat"].as_str(), config.get("ipv6.nat")), ("true", None));
    }

    #[test]
    fn used_subnets_are_avoided() {
        let used: Vec<IpNet> = (1..255)
            .filter(|second| *second != 77)
            .map(|second| format!("10.{second}.0.0/16").parse().unwrap())
            .collect();
        let net = (0..50).find_map(|_| free4(&used)).unwrap();
        assert!(net.to_string().starts_with("10.77."), "{net}");
    }
}
