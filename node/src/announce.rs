//! What this machine says of itself to the cluster: at start and when it changes, never telemetry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::{FEATURE_LEVEL, MemberCommand};
use basalt_model::member::Announcement;
use basalt_model::{Cluster, Command, NodeId};
use basalt_runtime::{Backoff, Shutdown};
use tokio::sync::watch;

use crate::fact::Machine;

/// What can be said before the addresses are known.
#[derive(Debug, Clone, Default)]
pub struct Abilities {
    pub machine: Machine,
    /// Kinds of guests to the engine's version.
    pub drivers: BTreeMap<String, String>,
    pub storage_drivers: BTreeMap<String, String>,
}

impl Abilities {
    /// The whole announcement.
    pub fn announce(&self, api_address: String, cluster_address: String) -> Announcement {
        Announcement {
            api_address,
            cluster_address,
            version: env!("CARGO_PKG_VERSION").into(),
            feature_level: FEATURE_LEVEL,
            architecture: self.machine.architecture.clone(),
            cpus: self.machine.cpus,
            memory: self.machine.memory,
            drivers: self.drivers.clone(),
            storage_drivers: self.storage_drivers.clone(),
            // Not known before the switch has been asked.
            chassis: None,
        }
    }
}

/// Tells the cluster what has changed since this member last spoke: at its start, and when it becomes a chassis. Its
/// addresses stay, and so does the chassis while the switch cannot be asked.
pub async fn run(
    cluster: Arc<dyn Cluster>,
    me: NodeId,
    abilities: Abilities,
    mut chassis: watch::Receiver<Option<String>>,
    shutdown: Shutdown,
) {
    loop {
        let known = chassis.borrow_and_update().clone();
        if !tell(&*cluster, me, &abilities, known, &shutdown).await {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Nobody can say any more that it changed.
            changed = chassis.changed() => if changed.is_err() { return },
        }
    }
}

/// False at shutdown.
async fn tell(
    cluster: &dyn Cluster,
    me: NodeId,
    abilities: &Abilities,
    chassis: Option<String>,
    shutdown: &Shutdown,
) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut view = cluster.view();
    loop {
        match view.members.get(&me).map(|member| (member.awaited, member.announced.clone())) {
            // A fresh joiner does not know itself yet: the state is on its way.
            None => {
                tokio::select! {
                    () = shutdown.cancelled() => return false,
                    changed = cluster.changed_since(view.version) => view = changed,
                }
            }
            Some((awaited, told)) => {
                let mut now = abilities.announce(told.api_address.clone(), told.cluster_address.clone());
                now.chassis = chassis.clone().or_else(|| told.chassis.clone());
                if now == told && !awaited {
                    return true;
                }
                let command = MemberCommand::Announce { id: me, announcement: Box::new(now) };
                match cluster.propose(Command::Member(command)).await {
                    Ok(_) => return true,
                    Err(error) => {
                        tracing::debug!(%error, "not announced yet");
                        tokio::select! {
                            () = shutdown.cancelled() => return false,
                            () = tokio::time::sleep(backoff.next_delay()) => view = cluster.view(),
                        }
                    }
                }
            }
        }
    }
}
