//! Ways out of logical networks: for each uplink a bridge of the switch, and the mapping by which OVN finds it.
//!
//! ```text
//!   physical, parent an Open vSwitch bridge     that bridge
//!   physical, parent a network interface        a bridge of ours with the interface as its port
//!   physical, parent a Linux bridge, or bridge  a bridge of ours, with a veth pair between the two
//! ```
//!
//! A bridge of ours is called `bsu` and a digest of the network's name; the pair `bsa` (Linux bridge) and `bsb`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use basalt_model::network::{Network, NetworkKind};
use basalt_model::{ClusterState, NetworkName, StateView};
use basalt_net::{IfName, Link, Scope};
use basalt_ovn::ovsdb::value::Datum;
use basalt_ovn::vswitch::Datapath;
use basalt_runtime::{Invocation, chain};
use sha2::{Digest, Sha256};

use super::{Overlay, Parts, datapath};

const BRIDGE: &str = "bsu";
/// How long the switch may take to make a bridge.
const MADE: Duration = Duration::from_secs(10);

/// Where a network's packets leave this host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// A bridge of the switch that is there already.
    Switch(String),
    /// An interface that is to be a port.
    Port(String),
    /// A Linux bridge.
    Bridge(String),
}

impl Overlay {
    /// Makes what is wanted; what fails is told after the rest was tried.
    pub(super) async fn uplinks(&self, parts: &Parts, view: &StateView) -> Result<(), String> {
        let wanted = wanted(view);
        let facts = match self.switch.facts().await {
            Ok(facts) => facts,
            Err(_) if wanted.is_empty() => return Ok(()),
            Err(error) => return Err(chain(&error)),
        };
        let by = match datapath(&facts).as_deref() {
            Some("netdev") => Datapath::Netdev,
            Some(_) | None => Datapath::System,
        };
        let mut failed = Vec::new();
        let (links, bridges) = (self.links().await?, self.bridges().await?);
        for (name, network) in &wanted {
            let made = match way(network, &links, &bridges) {
                Ok(way) => self.lead_out(name, &way, by).await,
                Err(why) => Err(why),
            };
            failed.extend(made.err().map(|why| format!("network {name}: {why}")));
        }
        let kept: BTreeSet<String> = wanted.keys().map(|name| own(BRIDGE, name)).collect();
        let strays: Vec<&String> = bridges.iter().filter(|b| ours(b) && !kept.contains(*b)).collect();
        if !strays.is_empty()
            && let Ok(fresh) = parts.cluster.linearizable().await
        {
            let kept: BTreeSet<String> = self::wanted(&fresh).keys().map(|name| own(BRIDGE, name)).collect();
            for bridge in strays.into_iter().filter(|b| !kept.contains(*b)) {
                failed.extend(self.take_away(bridge, &facts.mappings).await.err());
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(failed.join("; ")),
        }
    }

    async fn links(&self) -> Result<Vec<Link>, String> {
        self.host.list_links().await.map_err(|e| chain(&e))
    }

    async fn bridges(&self) -> Result<BTreeSet<String>, String> {
        let tables = self.switch.watch().loaded(MADE).await.map_err(|e| chain(&e))?;
        let rows = tables.table("Bridge").values();
        Ok(rows.filter_map(|row| row.get("name").and_then(Datum::as_str).map(str::to_owned)).collect())
    }

    async fn lead_out(&self, network: &NetworkName, way: &Way, by: Datapath) -> Result<(), String> {
        let made = || async { self.switch.ensure_bridge(&own(BRIDGE, network), by, MADE).await.map_err(|e| chain(&e)) };
        let joined = |port: String| async move {
            let id = format!("basalt-uplink-{network}");
            self.switch.bind_port(&own(BRIDGE, network), &port, &id).await.map_err(|e| chain(&e))
        };
        let bridge = own(BRIDGE, network);
        let mapped = match way {
            Way::Switch(there) => there.clone(),
            Way::Port(port) => {
                made().await?;
                joined(port.clone()).await?;
                self.host.ensure_up(&interface(port)?).await.map_err(|e| chain(&e))?;
                bridge
            }
            Way::Bridge(there) => {
                let (a, b) = (interface(&own("bsa", network))?, interface(&own("bsb", network))?);
                self.host.ensure_pair(&a, &b).await.map_err(|e| chain(&e))?;
                if by == Datapath::Netdev {
                    self.without_offload(&a).await?;
                }
                self.host.ensure_port(&interface(there)?, &a, None).await.map_err(|e| chain(&e))?;
                made().await?;
                joined(b.to_string()).await?;
                bridge
            }
        };
        self.switch.set_mapping(network.as_str(), Some(&mapped)).await.map_err(|e| chain(&e))
    }

    /// The switch reads what the host's own programs send as it was written: checksums must be in it.
    async fn without_offload(&self, link: &IfName) -> Result<(), String> {
        let invocation = Invocation::new("ethtool").args(["-K", link.as_str(), "tx", "off"]);
        self.runner.run(invocation).await.map(drop).map_err(|e| chain(&e))
    }

    /// Removes a bridge of ours and what led to it. The mapping goes first: OVN must not use what is half gone.
    async fn take_away(&self, bridge: &str, mappings: &BTreeMap<String, String>) -> Result<(), String> {
        for (network, _) in mappings.iter().filter(|(_, to)| *to == bridge) {
            self.switch.set_mapping(network, None).await.map_err(|e| chain(&e))?;
        }
        self.switch.remove_bridge(bridge).await.map_err(|e| chain(&e))?;
        let pair = interface(&bridge.replacen(BRIDGE, "bsa", 1))?;
        self.host.remove_port(&pair).await.map_err(|e| chain(&e))
    }
}

/// Networks that are the way out of others, and those that can be nothing else.
fn wanted(view: &ClusterState) -> BTreeMap<NetworkName, Network> {
    let used: BTreeSet<NetworkName> =
        view.networks.values().filter_map(Network::uplink).map(|uplink| uplink.name).collect();
    let leads = |n: &&Network| match n.kind {
        NetworkKind::Physical => true,
        NetworkKind::Bridge => used.contains(&n.name),
        NetworkKind::Ovn => false,
    };
    view.networks.values().filter(leads).map(|n| (n.name.clone(), n.clone())).collect()
}

fn way(network: &Network, links: &[Link], bridges: &BTreeSet<String>) -> Result<Way, String> {
    let parent = match network.kind {
        NetworkKind::Bridge | NetworkKind::Ovn => return Ok(Way::Bridge(network.name.to_string())),
        NetworkKind::Physical => network.key("parent").ok_or("parent: is not set")?,
    };
    if bridges.contains(parent) {
        return Ok(Way::Switch(parent.to_owned()));
    }
    let link = links.iter().find(|l| l.name == parent).ok_or_else(|| format!("parent: this host has no {parent}"))?;
    if link.kind.as_deref() == Some("bridge") {
        return Ok(Way::Bridge(parent.to_owned()));
    }
    let address = link.addresses.iter().find(|a| a.scope == Scope::Global);
    match address {
        Some(address) => Err(format!("parent: {parent} has the address {}, and would lose its traffic", address.ip)),
        None => Ok(Way::Port(parent.to_owned())),
    }
}

/// A name of at most 13 characters that follows from the network's.
fn own(prefix: &str, network: &NetworkName) -> String {
    let digest = Sha256::digest(network.as_str());
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}")
}

fn ours(bridge: &str) -> bool {
    bridge.strip_prefix(BRIDGE).is_some_and(|hex| hex.len() == 10 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn interface(name: &str) -> Result<IfName, String> {
    IfName::new(name).map_err(|e| chain(&e))
}
