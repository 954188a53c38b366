//! The packet that an interface would send to an address: to whom it would hand it first.

use std::net::IpAddr;

use super::{Packet, Payload};
use crate::topology::Facts;
use crate::topology::facts::Network;

/// Why there is no such packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// The question makes no sense.
    Unfit(String),
    /// The guest would ask who has the address, and nobody would answer.
    Nobody(String),
}

/// Of the interface with this logical port.
///
/// # Errors
/// See [`Stuck`].
pub fn packet(facts: &Facts, port: &str, to: IpAddr, payload: Payload) -> Result<Packet, Stuck> {
    let found = facts.networks.iter().find_map(|net| Some((net, net.ports.iter().find(|p| p.name == port)?)));
    let unready = || Stuck::Unfit("instance: its interface has no address yet, or no home".into());
    let (net, from) = found.ok_or_else(unready)?;
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    let own = if to.is_ipv4() { from.ipv4.map(IpAddr::V4) } else { from.ipv6.map(IpAddr::V6) };
    let own =
        own.ok_or_else(|| Stuck::Unfit(format!("address: the interface has no {family} address to send from")))?;
    if own == to {
        return Err(Stuck::Unfit(format!("address: {to} is the interface's own")));
    }
    let next = next(net, to).ok_or_else(|| match inside(net, to) {
        true => Stuck::Nobody(format!("no interface of network {} has {to}, so nobody answers for it", net.name)),
        false => Stuck::Unfit(format!("address: network {} has no {family} router", net.name)),
    })?;
    let switch = format!("{}-ls-int", net.prefix());
    Ok(Packet { port: port.to_owned(), switch, mac: from.mac, next, from: own, to, payload })
}

fn inside(net: &Network, to: IpAddr) -> bool {
    net.subnets().any(|subnet| subnet.contains(&to))
}

/// Whose hardware address the guest would find.
fn next(net: &Network, to: IpAddr) -> Option<basalt_model::Mac> {
    let router = match to {
        IpAddr::V4(_) => net.gateway4.map(|gateway| IpAddr::V4(gateway.addr())),
        IpAddr::V6(_) => net.gateway6.map(|gateway| IpAddr::V6(gateway.addr())),
    };
    if !inside(net, to) || router == Some(to) {
        return router.map(|_| net.mac);
    }
    let has = |port: &&crate::topology::facts::Port| {
        port.ipv4.map(IpAddr::V4) == Some(to) || port.ipv6.map(IpAddr::V6) == Some(to)
    };
    net.ports.iter().find(has).map(|port| port.mac)
}
