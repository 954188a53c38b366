//! Gives a home to every instance that has none, or says why there is none.

use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::InstanceCommand;
use basalt_model::instance::Placement;
use basalt_model::{Cluster, Command, Epoch, ProposeError, StateView};
use basalt_runtime::Shutdown;
use basalt_scheduler::Decision;
use futures_util::future::join_all;

use super::health::Heartbeats;
use crate::fact::Clock;
use crate::metrics::SchedulerMetrics;

/// How many instances are placed in one pass: their proposals share a few disk writes.
const BATCH: usize = 256;

/// How long an instance waits for reasons that may pass by themselves: a pool that is being made, a member that has
/// just fallen silent.
const PATIENCE: u64 = 8;
/// A new leader listens this long for the first heartbeats before it chooses: it may not know yet who is dead.
const LISTEN: Duration = Duration::from_millis(2500);

/// Places until shutdown.
pub async fn run(
    cluster: Arc<dyn Cluster>,
    heartbeats: Arc<Heartbeats>,
    clock: Clock,
    metrics: SchedulerMetrics,
    shutdown: Shutdown,
) {
    let mut view = cluster.view();
    loop {
        let standing = cluster.standing();
        if standing.leader == Some(standing.me) && waits(&view) && knows(&heartbeats, &view) {
            let _timer = metrics.pass_seconds.start_timer();
            metrics.passes.inc();
            place(&*cluster, &heartbeats, &clock, &view, &metrics).await;
        }
        let again = if waits(&view) { Duration::from_millis(200) } else { Duration::from_secs(2) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = cluster.changed_since(view.version) => view = changed,
            () = tokio::time::sleep(again) => view = cluster.view(),
        }
    }
}

fn waits(view: &StateView) -> bool {
    view.instances.values().any(|i| matches!(i.placement, Placement::Unplaced { refused: None }))
}

/// Whether enough is known of who is there: everybody was heard, or those that were not had their time.
pub(super) fn knows(heartbeats: &Heartbeats, view: &StateView) -> bool {
    let all_heard = view.members.keys().all(|node| !view.online(*node) || heartbeats.heard(*node));
    heartbeats.leading_for().is_some_and(|time| all_heard || time > LISTEN)
}

async fn place(
    cluster: &dyn Cluster,
    heartbeats: &Heartbeats,
    clock: &Clock,
    view: &StateView,
    metrics: &SchedulerMetrics,
) {
    let mut decisions = basalt_scheduler::next_placements(view, heartbeats, BATCH);
    let now = clock.now();
    let young =
        |id: &basalt_model::InstanceId| view.instances.get(id).is_some_and(|i| now < i.created_at.plus_secs(PATIENCE));
    decisions.retain(|decision| match decision {
        Decision::Place { .. } => true,
        Decision::Refuse { id, passing, .. } => !(*passing && young(id)),
    });
    let outcomes = join_all(decisions.into_iter().map(|decision| async {
        let (command, count) = match decision {
            Decision::Place { id, node } => (InstanceCommand::Place { id, node, epoch: Epoch(1) }, &metrics.placed),
            Decision::Refuse { id, reason, .. } => (InstanceCommand::RefusePlacement { id, reason }, &metrics.refused),
        };
        let outcome = cluster.propose(Command::Instance(command)).await;
        if outcome.is_ok() { count } else { &metrics.failures }.inc();
        outcome
    }))
    .await;
    for error in outcomes.into_iter().filter_map(Result::err) {
        match error {
            // Lost a race: the next pass sees the state as it is.
            ProposeError::Rejected(why) => tracing::debug!(%why, "a placement was refused"),
            ProposeError::NoLeader(_) | ProposeError::Unknown(_) | ProposeError::Storage(_) => {
                tracing::warn!(%error, "a placement could not be proposed; trying again");
            }
        }
    }
}
