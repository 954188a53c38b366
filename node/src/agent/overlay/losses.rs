//! Whether anybody takes our ports off the switch, or switches them off: their instances are looked at again at once, not
//! with the timer.

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::InstanceId;
use basalt_ovn::monitor::Tables;
use basalt_ovn::vswitch::{BoundPort, ports};
use basalt_runtime::Shutdown;
use tokio::sync::mpsc;

use super::{Overlay, owner};

/// What of the switch's database a look may find missing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The bridge and the logical port of each interface of an instance.
    ports: BTreeMap<String, (Option<String>, String)>,
    /// Interfaces that are switched off, with their logical ports.
    off: BTreeMap<String, String>,
    bridges: BTreeSet<String>,
}

impl Seen {
    fn of(ports: Vec<BoundPort>, bridges: BTreeSet<String>) -> Self {
        let ours: Vec<BoundPort> = ports.into_iter().filter(|port| owner(&port.iface_id).is_some()).collect();
        let off = ours.iter().filter(|port| port.off).map(|port| (port.interface.clone(), port.iface_id.clone()));
        let off = off.collect();
        Seen {
            ports: ours.into_iter().map(|port| (port.interface, (port.bridge, port.iface_id))).collect(),
            off,
            bridges,
        }
    }

    fn read(tables: &Tables) -> Self {
        let bridges = tables.table("Bridge").values().filter_map(|row| row.get("name")?.as_str().map(str::to_owned));
        Seen::of(ports(tables), bridges.collect())
    }

    /// Instances of ports that were there and are not, or are otherwise, and of those that are off now.
    fn lost(&self, now: &Seen) -> BTreeSet<InstanceId> {
        let gone = self.ports.iter().filter(|(interface, port)| now.ports.get(*interface) != Some(*port));
        let off = now.off.iter().filter(|(interface, _)| !self.off.contains_key(*interface));
        gone.map(|(_, (_, port))| port).chain(off.map(|(_, port)| port)).filter_map(|port| owner(port)).collect()
    }
}

impl Overlay {
    /// Wakes the instances whose ports are lost, until shutdown. A port that is lost with its bridge cannot be bound before
    /// the bridge is there again: then its instance is woken once more. Our own hand wakes too, and finds nothing to do.
    pub(in crate::agent) async fn watch(&self, wakes: mpsc::Sender<InstanceId>, shutdown: Shutdown) {
        let mut watch = self.switch.watch();
        let (mut before, mut lost) = (Seen::default(), BTreeSet::new());
        loop {
            if let Some(tables) = watch.snapshot() {
                let now = Seen::read(&tables);
                let mut woken = before.lost(&now);
                lost.extend(&woken);
                if !now.bridges.is_subset(&before.bridges) {
                    woken.append(&mut lost);
                }
                before = now;
                for id in woken {
                    tracing::debug!(instance = %id, "a port of it is gone from the switch");
                    if wakes.send(id).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = watch.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(interface: &str, id: InstanceId, bridge: Option<&str>) -> BoundPort {
        BoundPort {
            bridge: bridge.map(str::to_owned),
            interface: interface.into(),
            iface_id: basalt_model::network::port_name(7, id, "eth0"),
            ofport: None,
            error: None,
            off: false,
            installed: false,
        }
    }

    #[test]
    fn lost_is_what_was_there_and_is_not() {
        let id = |n: u8| InstanceId(uuid::Uuid::from_u128(n.into()));
        let seen = |ports: Vec<BoundPort>| Seen::of(ports, BTreeSet::new());
        let full = || vec![port("a", id(1), Some("br-int")), port("b", id(2), Some("br-int"))];
        let before = seen(full());
        assert_eq!(before.lost(&seen(full())), BTreeSet::new());
        assert_eq!(before.lost(&seen(vec![port("a", id(1), Some("br-int"))])), BTreeSet::from([id(2)]));
        assert_eq!(before.lost(&seen(vec![port("a", id(1), None)])), BTreeSet::from([id(1), id(2)]));
        let mut more = full();
        more.push(port("c", id(3), Some("br-int")));
        assert_eq!(before.lost(&seen(more)), BTreeSet::new(), "what is new is nobody's loss");
        let off = || {
            let mut all = full();
            all[1].off = true;
            seen(all)
        };
        assert_eq!(before.lost(&off()), BTreeSet::from([id(2)]));
        assert_eq!(off().lost(&off()), BTreeSet::new(), "it was looked at when it went off");
        assert_eq!(off().lost(&before), BTreeSet::new());
        // Ports of other programs are no concern of ours.
        let foreign = BoundPort { iface_id: "vm1".into(), ..port("f", id(4), None) };
        assert_eq!(seen(vec![foreign]), seen(Vec::new()));
    }
}
