//! This host's part in logical networks, over its switch's database: what it is as a chassis, the interfaces of its
//! guests, the ways out.
//!
//! ```text
//!   [ovn] of the configuration --> system-id, encapsulation, southbound        (chassis)
//!   view: interfaces here      --> ports of the integration bridge, iface-id    (follow, pass)
//!   view: uplinks              --> a bridge to the world, and its mapping        (uplink)
//!                                        |
//!                    the switch's database --> ovs-vswitchd, ovn-controller
//! ```
//!
//! **Invariants.** A port is in the database before its guest starts, and until its guest has ended. A guest that reboots
//! by itself is back on its network at once, also while no agent runs, for no event of ours is needed: the kernel's
//! datapath takes an interface by its name each time that one appears, and the userspace one, which does not see that it
//! is another interface, is told by the engine that makes it ([`Joined::Program`]). A port is ours when its iface-id is
//! the name of an interface of an instance; nothing else in the database is touched but what the configuration names.
//!
//! **Failure.** All is looked at again with each pass of an instance, with the timer, and for an instance whose ports
//! somebody takes away at once (losses). A switch that cannot be reached
//! keeps guests with such interfaces from being started, and does nothing to those that run.

mod chassis;
mod losses;
mod uplink;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use basalt_driver::{Joined, SwitchPort};
use basalt_model::instance::Instance;
use basalt_model::network::{address, port};
use basalt_model::{Cluster, ClusterState, InstanceId, StateView};
use basalt_net::{Host, IfName};
use basalt_ovn::vswitch::{BoundPort, Facts, MARK, Switch};
use basalt_runtime::{CommandRunner, chain};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Parts, guest};
use crate::config::Ovn;

/// How long a start waits for its addresses to be chosen: the leader does that as soon as it hears of the interface.
const CHOSEN: Duration = Duration::from_secs(10);
/// How long it then waits for the network to know the port. The guest runs by now, and keeps trying by itself.
const UP: Duration = Duration::from_secs(10);
/// The key by which ovn-controller learns it.
const DATAPATH: &str = "ovn-bridge-datapath-type";
/// What Geneve adds to a packet, over IPv4 and over IPv6.
const GENEVE: (u32, u32) = (58, 78);
/// The MTU of logical networks that say nothing else.
const MTU: u32 = 1442;

/// The switch of this host, as far as it is ours to change.
#[derive(Debug)]
pub struct Overlay {
    switch: Switch,
    options: Ovn,
    host: Arc<Host>,
    runner: Arc<dyn CommandRunner>,
    chassis: watch::Sender<Option<String>>,
}

impl Overlay {
    /// Nothing is done before [`Overlay::run`] or a pass of the agent.
    pub fn new(switch: Switch, options: Ovn, host: Arc<Host>, runner: Arc<dyn CommandRunner>) -> Self {
        Overlay { switch, options, host, runner, chassis: watch::Sender::new(None) }
    }

    /// What OVN calls this host, once the switch has said so.
    pub fn chassis(&self) -> watch::Receiver<Option<String>> {
        self.chassis.subscribe()
    }

    /// Binds the ports of an instance that is about to start, once their addresses are chosen.
    pub(super) async fn ready_for(&self, cluster: &dyn Cluster, instance: &Instance) -> Result<(), String> {
        let view = chosen(cluster, instance.id).await;
        let Some(instance) = view.instances.get(&instance.id) else { return Ok(()) };
        if let Some(lack) = self.lack(&view, instance).await {
            return Err(lack);
        }
        self.follow(&view, Some(instance), instance.id, true).await
    }

    /// What a start of this instance would fail for.
    async fn lack(&self, view: &ClusterState, instance: &Instance) -> Option<String> {
        if port::of(view, instance).is_empty() {
            return None;
        }
        let there = std::path::Path::new("/sbin/ethtool").exists();
        (self.plain().await && !there)
            .then(|| "the switch's userspace datapath needs /sbin/ethtool: apt-get install ethtool".into())
    }

    /// Makes the ports what they are to be: those of the instance's interfaces if it runs, none if not.
    pub(super) async fn follow(
        &self,
        view: &ClusterState,
        instance: Option<&Instance>,
        id: InstanceId,
        runs: bool,
    ) -> Result<(), String> {
        let wanted: BTreeMap<String, String> = match instance.filter(|_| runs) {
            Some(instance) => {
                port::of(view, instance).iter().map(|p| (guest::host_interface(id, &p.device), p.name())).collect()
            }
            None => BTreeMap::new(),
        };
        let bound: BTreeMap<String, BoundPort> = match self.bound().await {
            Ok(all) => {
                all.into_iter().filter(|p| owner(&p.iface_id) == Some(id)).map(|p| (p.interface.clone(), p)).collect()
            }
            // A host whose switch is away: what has no ports loses none.
            Err(_) if wanted.is_empty() => return Ok(()),
            Err(why) => return Err(why),
        };
        for interface in bound.keys().filter(|name| !wanted.contains_key(*name)) {
            self.unbind(interface).await?;
        }
        let is = |interface: &String, port: &String| bound.get(interface).is_some_and(|found| found.iface_id == *port);
        for (interface, port) in wanted.iter().filter(|(interface, port)| !is(interface, port)) {
            let bridge = &self.options.integration_bridge;
            self.switch.bind_port(bridge, interface, port).await.map_err(|e| chain(&e))?;
        }
        for interface in wanted.keys().filter(|name| bound.get(*name).is_some_and(|found| found.off)) {
            self.switch_on(interface).await;
        }
        Ok(())
    }

    /// Waits until the network knows the ports of an instance that was started. What does not come up in time is said in
    /// the log and not held against the guest: with the northbound database away it runs, and is let in later.
    pub(super) async fn up(&self, view: &ClusterState, instance: &Instance) {
        for port in port::of(view, instance) {
            let name = port.name();
            if let Err(error) = self.switch.port_up(&name, UP).await {
                let (instance, device) = (&instance.name, &port.device);
                tracing::warn!(%instance, device, port = name, error = chain(&error), "the interface is not up yet");
            }
        }
    }

    /// How the host's end of an interface on a logical network is joined, and its MTU.
    pub(super) async fn interface(&self, port: &port::Port<'_>) -> (Joined, u32) {
        let asked = port.network.key("bridge.mtu").and_then(|text| text.parse().ok());
        let room = self.room().await;
        let mtu = asked.unwrap_or_else(|| room.map_or(MTU, |room| room.min(MTU)));
        if let Some(room) = room.filter(|room| *room < mtu) {
            let network = &port.network.name;
            tracing::warn!(%network, mtu, room, "packets of this size do not fit between members: set bridge.mtu");
        }
        let to = || SwitchPort {
            database: self.options.switch.clone(),
            bridge: self.options.integration_bridge.clone(),
            port: port.name(),
            keys: vec!["iface-id", MARK],
        };
        let joined = if self.plain().await { Joined::Program(to()) } else { Joined::Kernel };
        (joined, mtu)
    }

    /// The largest packet of a guest that fits into one between chassis; `None` when the link cannot be found.
    pub(crate) async fn room(&self) -> Option<u32> {
        let address: IpAddr = self.switch.facts().await.ok()?.encap_ip?.parse().ok()?;
        let links = self.host.list_links().await.ok()?;
        let link = links.iter().find(|link| link.addresses.iter().any(|a| a.ip == address))?;
        let overhead = if address.is_ipv4() { GENEVE.0 } else { GENEVE.1 };
        link.mtu.checked_sub(overhead)
    }

    /// Whether packets are switched by a program, which reads them as guests wrote them.
    async fn plain(&self) -> bool {
        let told = self.switch.facts().await.ok().and_then(|facts| datapath(&facts));
        // A guest that runs gets its new configuration also while the switch is away.
        told.or_else(|| self.options.datapath.clone()).as_deref() == Some("netdev")
    }

    /// Interfaces that are bound to a port of an instance, ours to unbind.
    async fn bound(&self) -> Result<Vec<BoundPort>, String> {
        let bound = self.switch.ports().await.map_err(|e| chain(&e))?;
        Ok(bound.into_iter().filter(|port| owner(&port.iface_id).is_some()).collect())
    }

    /// Switches on an interface that a guest is behind. A switch in userspace reads the flags of a device that it takes,
    /// and writes them back with its own: when the device was switched on between the two, that is undone (seen with Open
    /// vSwitch 3.1, once in a hundred starts).
    async fn switch_on(&self, interface: &str) {
        let Ok(name) = IfName::new(interface) else { return };
        match self.host.ensure_up(&name).await {
            Ok(()) => tracing::info!(interface, "it was off, and is switched on"),
            // It may be gone with its guest.
            Err(error) => tracing::debug!(interface, error = chain(&error), "it is off, and stays so"),
        }
    }

    async fn unbind(&self, interface: &str) -> Result<(), String> {
        self.switch.unbind_port(interface).await.map_err(|e| chain(&e))
    }

    /// Ports of instances that have no home here go, and uplinks become what they are to be.
    pub(super) async fn pass(&self, parts: &Parts, view: &StateView) {
        if let Err(why) = self.uplinks(parts, view).await {
            tracing::warn!(why, "uplinks of logical networks are not as they are to be; trying again");
        }
        let Ok(bound) = self.bound().await else { return };
        let stray = |view: &ClusterState, port: &str| {
            owner(port).is_some_and(|id| !view.concerning(parts.me).any(|instance| instance.id == id))
        };
        let strays: Vec<_> = bound.into_iter().filter(|port| stray(view, &port.iface_id)).collect();
        if strays.is_empty() {
            return;
        }
        let Ok(fresh) = parts.cluster.linearizable().await else { return };
        for BoundPort { interface, iface_id, .. } in strays.into_iter().filter(|port| stray(&fresh, &port.iface_id)) {
            tracing::warn!(interface, port = iface_id, "removing a leaked port");
            if let Err(why) = self.unbind(&interface).await {
                tracing::warn!(why, "the leaked port could not be removed");
            }
        }
    }
}

/// The state once every interface of the instance has its addresses, or after a while: then the start goes on without.
async fn chosen(cluster: &dyn Cluster, id: InstanceId) -> StateView {
    let mut view = cluster.view();
    let lacks = |view: &ClusterState| {
        let ports = view.instances.get(&id).map(|instance| port::of(view, instance)).unwrap_or_default();
        ports.iter().find_map(|p| address::lacking(view, id, &p.device))
    };
    let waiting = async {
        while lacks(&view).is_some() {
            view = cluster.changed_since(view.version).await;
        }
    };
    let done = timeout(CHOSEN, waiting).await;
    if let (Err(_), Some(why)) = (done, lacks(&view)) {
        tracing::warn!(instance = %id, why, "starting without");
    }
    view
}

/// What the integration bridge is to be switched by, as set on the host.
fn datapath(facts: &Facts) -> Option<String> {
    facts.external_ids.get(DATAPATH).cloned()
}

/// The instance that a port of ours is of: `basalt-netN-instance-ID-DEVICE`.
fn owner(port: &str) -> Option<InstanceId> {
    let (number, rest) = port.strip_prefix("basalt-net")?.split_once("-instance-")?;
    number.parse::<u32>().ok()?;
    rest.get(..36).filter(|_| rest.as_bytes().get(36) == Some(&b'-'))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_say_whose_they_are() {
        let id: InstanceId = "11111111-1111-4111-8111-111111111111".parse().unwrap();
        let name = basalt_model::network::port_name(7, id, "eth-0");
        assert_eq!(owner(&name), Some(id));
        for other in
            ["vm1", "basalt-net-instance-x", &name[1..], "incus-net7-instance-x", name.trim_end_matches("-eth-0")]
        {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
