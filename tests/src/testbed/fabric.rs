//! The network between the nodes, and its faults.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::slot::{Record, Slot};
use crate::host;

/// How a node is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing in, nothing out.
    Both,
    /// It hears nobody, but is heard.
    Deaf,
    /// It hears everybody, but is not heard.
    Mute,
}

/// The bridge and its namespaces.
#[derive(Debug, Clone)]
pub struct Fabric {
    record: Record,
}

impl Fabric {
    pub(super) fn new(slot: &Slot) -> Self {
        Self { record: slot.record().clone() }
    }

    /// The namespace of the bridge: a client that runs in it reaches every node.
    pub fn netns(&self) -> String {
        format!("{}-fab", self.record.prefix)
    }

    /// A node's address.
    pub fn address(&self, number: usize) -> Ipv4Addr {
        let [a, b, c] = self.record.net();
        let last = u8::try_from(number).expect("a testbed has fewer than 250 nodes");
        Ipv4Addr::new(a, b, c, last)
    }

    /// The fabric's own address, where nodes reach it.
    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c] = self.record.net();
        Ipv4Addr::new(a, b, c, 254)
    }

    /// A node's address between the switches (see [`super::ovn`]).
    pub(super) fn tunnel(&self, number: usize) -> Ipv4Addr {
        let [a, b, c, last] = self.address(number).octets();
        Ipv4Addr::new(a, b, c + 1, last)
    }

    /// The world outside, as networks of OVN see it: its addresses with prefix lengths, both in namespace
    /// [`Fabric::netns`].
    pub fn outside(&self) -> (String, String) {
        let [a, b, c] = self.record.net();
        (format!("{a}.{b}.{}.254/24", c + 2), format!("fd00:{b:x}:2::fe/64"))
    }

    /// The keys of a physical network that leads there, from every node; 50 routers and listeners have room.
    pub fn uplink(&self) -> Vec<String> {
        let (v4, v6) = self.outside();
        let subnet = v4.rsplit_once('.').map(|(subnet, _)| subnet).unwrap_or_default();
        let ranges = format!("ipv4.ovn.ranges={subnet}.10-{subnet}.59");
        vec!["parent=eth2".into(), format!("ipv4.gateway={v4}"), ranges, format!("ipv6.gateway={v6}")]
    }

    /// The bridges that OVN needs: between the switches, and to the world outside.
    pub(super) fn up_for_ovn(&self) -> Result<()> {
        let (v4, v6) = self.outside();
        for bridge in ["br1", "br2"] {
            self.inside(&["link", "add", bridge, "type", "bridge"])?;
            self.inside(&["link", "set", bridge, "up"])?;
        }
        self.inside(&["addr", "add", &v4, "dev", "br2"])?;
        self.inside(&["addr", "add", &v6, "dev", "br2", "nodad"]).map(drop)
    }

    /// Plugs a node into both.
    pub(super) fn plug_for_ovn(&self, number: usize) -> Result<()> {
        let netns = format!("{}-n{number}", self.record.prefix);
        for (link, bridge, port) in [("eth1", "br1", format!("u{number}")), ("eth2", "br2", format!("o{number}"))] {
            self.inside(&["link", "add", link, "netns", &netns, "type", "veth", "peer", "name", &port])?;
            self.inside(&["link", "set", &port, "master", bridge, "up"])?;
            // Userspace reads packets as they were sent: a checksum that the card was to write would never be there.
            self.without_offload(&self.netns(), &port)?;
            self.without_offload(&netns, link)?;
            host::run(&["ip", "-n", &netns, "link", "set", link, "up"])?;
        }
        self.without_offload(&self.netns(), "br2")
    }

    fn without_offload(&self, netns: &str, link: &str) -> Result<()> {
        let enter = format!("--net=/run/netns/{netns}");
        host::run(&["nsenter", &enter, "ethtool", "-K", link, "tx", "off"]).map(drop)
    }

    pub(super) fn up(&self, host_link: bool) -> Result<()> {
        let fabric = self.netns();
        let [a, b, c] = self.record.net();
        host::run(&["ip", "netns", "add", &fabric])?;
        self.inside(&["link", "set", "lo", "up"])?;
        self.inside(&["link", "add", "br0", "type", "bridge"])?;
        self.inside(&["addr", "add", &format!("{}/24", self.gateway()), "dev", "br0"])?;
        self.inside(&["link", "set", "br0", "up"])?;
        if host_link {
            let link = format!("{}-host", self.record.prefix);
            host::run(&["ip", "link", "add", &link, "type", "veth", "peer", "name", "ph", "netns", &fabric])?;
            self.inside(&["link", "set", "ph", "master", "br0", "up"])?;
            host::run(&["ip", "addr", "add", &format!("{a}.{b}.{c}.250/24"), "dev", &link])?;
            host::run(&["ip", "link", "set", &link, "up"])?;
        }
        Ok(())
    }

    /// Makes the namespace of a node and plugs it in.
    pub(super) fn plug(&self, number: usize) -> Result<(String, Ipv4Addr)> {
        let netns = format!("{}-n{number}", self.record.prefix);
        let (port, address) = (format!("p{number}"), self.address(number));
        host::run(&["ip", "netns", "add", &netns])?;
        host::run(&["ip", "-n", &netns, "link", "set", "lo", "up"])?;
        let veth = ["link", "add", "eth0", "netns", &netns, "type", "veth", "peer", "name", &port];
        self.inside(&veth)?;
        self.inside(&["link", "set", &port, "master", "br0", "up"])?;
        host::run(&["ip", "-n", &netns, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host::run(&["ip", "-n", &netns, "link", "set", "eth0", "up"])?;
        Ok((netns, address))
    }

    fn inside(&self, arguments: &[&str]) -> Result<String> {
        let fabric = self.netns();
        let mut argv = vec!["ip", "-n", &fabric];
        argv.extend(arguments);
        host::run(&argv)
    }
}

/// Drops the traffic of a node's link. Packets vanish, nothing is reset: what a pulled cable looks like.
///
/// # Errors
/// When nftables refuses.
pub(super) fn cut(netns: &str, how: Cut) -> Result<()> {
    heal(netns);
    let mut rules = "add table inet testbed_cut\n".to_owned();
    if how != Cut::Mute {
        rules.push_str("add chain inet testbed_cut i { type filter hook input priority -300; }\n");
        rules.push_str("add rule inet testbed_cut i iifname eth0 drop\n");
    }
    if how != Cut::Deaf {
        rules.push_str("add chain inet testbed_cut o { type filter hook output priority -300; }\n");
        rules.push_str("add rule inet testbed_cut o oifname eth0 drop\n");
    }
    host::run(&["nsenter", &format!("--net=/run/netns/{netns}"), "nft", &rules]).map(drop)
}

/// Undoes [`cut`].
pub(super) fn heal(netns: &str) {
    host::try_run(&["nsenter", &format!("--net=/run/netns/{netns}"), "nft", "delete table inet testbed_cut"]);
}
