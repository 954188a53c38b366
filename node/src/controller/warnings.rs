//! Keeps the recorded warnings in step with what is wrong: the leader for what the replicated state shows, each member
//! for what its own host lacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::warning::{self, Cause, Kind};
use basalt_model::{Cluster, Command, NodeId, StateView, WarningId};
use basalt_runtime::Shutdown;
use tokio::sync::watch;

use super::network::Findings;
use crate::fact::Clock;

/// How often is looked, at most: what comes and goes within this is not worth a record.
const PERIOD: Duration = Duration::from_secs(2);
/// Members that do not know warnings would refuse them.
const LEVEL: u32 = 2;

/// Watches until shutdown. `lacks` is what this host cannot do, each with what to do about it; `networks` is what the
/// leader finds wrong with logical networks.
pub async fn run(
    cluster: Arc<dyn Cluster>,
    lacks: Vec<String>,
    networks: watch::Receiver<Findings>,
    clock: Clock,
    shutdown: Shutdown,
) {
    loop {
        let view = cluster.view();
        if view.initialised() && view.feature_level >= LEVEL {
            let networks = networks.borrow().clone();
            look(&*cluster, &view, (&lacks, networks), &clock).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn look(cluster: &dyn Cluster, view: &StateView, (lacks, networks): (&[String], Findings), clock: &Clock) {
    let standing = cluster.standing();
    let me = standing.me;
    if !view.members.contains_key(&me) {
        return;
    }
    let own = |cause: &Cause| cause.kind == Kind::HostLacks && cause.node == Some(me);
    // What members that are gone lacked is the leader's to clear up.
    let gone = |cause: &Cause| cause.node.is_some_and(|node| !view.members.contains_key(&node));
    let fresh = || WarningId(uuid::Uuid::new_v4());
    let at = clock.now();
    let mut commands = warning::updates(view, &of_host(view, lacks, me), own, at, fresh);
    if standing.leader == Some(me) {
        let mut found = warning::causes(view, &standing.voters);
        found.extend(networks);
        let led = |cause: &Cause| cause.kind != Kind::HostLacks || gone(cause);
        commands.extend(warning::updates(view, &found, led, at, fresh));
    }
    for command in commands {
        if let Err(error) = cluster.propose(Command::Warning(command)).await {
            tracing::debug!(%error, "a warning is not recorded yet");
            return;
        }
    }
}

/// One for the host, with all that it lacks.
fn of_host(view: &StateView, lacks: &[String], me: NodeId) -> BTreeMap<Cause, String> {
    let Some(member) = view.members.get(&me).filter(|_| !lacks.is_empty()) else { return BTreeMap::new() };
    let entity = format!("/1.0/cluster/members/{}", member.name);
    let cause = Cause { kind: Kind::HostLacks, project: None, entity, node: Some(me) };
    [(cause, lacks.join("; "))].into()
}
