//! Empties members and fills them again, step by step, as [`basalt_scheduler::evacuations`] says.
//!
//! **Failure.** Everything that was done lies in the replicated state; a new leader goes on from there.

use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::InstanceCommand;
use basalt_model::{Cluster, Command, ProposeError, Rejected, StateView};
use basalt_runtime::Shutdown;
use futures_util::future::join_all;

use super::health::Heartbeats;
use super::placement::knows;
use crate::fact::Clock;

/// How long it waits after a refusal: what is in the way, such as a snapshot that is being taken, takes a moment.
const PAUSE: Duration = Duration::from_millis(500);

/// Works until shutdown.
pub async fn run(cluster: Arc<dyn Cluster>, heartbeats: Arc<Heartbeats>, clock: Clock, shutdown: Shutdown) {
    let mut view = cluster.view();
    loop {
        let standing = cluster.standing();
        let mut refused = false;
        if standing.leader == Some(standing.me) && busy(&view) && knows(&heartbeats, &view) {
            let commands = basalt_scheduler::evacuations(&view, &*heartbeats, clock.now());
            let outcomes = join_all(commands.into_iter().map(|c| propose(&*cluster, &view, &clock, c))).await;
            refused = outcomes.contains(&false);
        }
        if refused {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => view = cluster.view(),
            }
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = cluster.changed_since(view.version) => view = changed,
            () = tokio::time::sleep(Duration::from_secs(2)) => view = cluster.view(),
        }
    }
}

fn busy(view: &StateView) -> bool {
    view.members.values().any(|m| m.order.is_some()) || view.instances.values().any(|i| i.errands.trip.is_some())
}

/// Whether it got through.
async fn propose(cluster: &dyn Cluster, view: &StateView, clock: &Clock, command: Command) -> bool {
    let moves = if let Command::Instance(InstanceCommand::Move { id, .. }) = &command { Some(*id) } else { None };
    match (cluster.propose(command).await, moves) {
        (Ok(_), _) => true,
        // What is in the way goes by, or a race was lost: the next pass sees the state as it is.
        (Err(ProposeError::Rejected(why @ (Rejected::Busy(_) | Rejected::Stale(_) | Rejected::Changed { .. }))), _) => {
            tracing::debug!(%why, "a step of an evacuation was refused");
            false
        }
        (Err(ProposeError::Rejected(why)), Some(id)) => {
            tracing::warn!(instance = %id, %why, "it cannot be moved");
            if let Some(command) = basalt_scheduler::give_up_move(view, id, &why.to_string(), clock.now()) {
                let _ = cluster.propose(command).await;
            }
            false
        }
        (Err(error), _) => {
            tracing::warn!(%error, "a step of an evacuation could not be proposed; trying again");
            false
        }
    }
}
