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

    pub(super) fn up(&self, host_link: bool) -> Result<()> {
        let fabric = self.netns();
        let [a, b, c] = self.record.net();
        host::run(&["ip", "netns", "add", &fabric])?;
        self.inside(&["link", "set", "lo", "up"])?;
        self.inside(&["link", "add", "br0", "type", "bridge"])?;
        self.inside(&["addr", "add", &format!("{a}.{b}.{c}.254/24"), "dev", "br0"])?;
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
