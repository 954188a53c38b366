//! Takes snapshots when their schedule says so: `snapshots.schedule`.
//!
//! **Invariants.** What is due in a minute has one id, made of the instance and the minute: two leaders around a change,
//! or a lost answer, make one snapshot. A minute in which nobody led is over, as with cron.

use std::sync::Arc;
use std::time::Duration;

use basalt_api::{clock, snapshot_name};
use basalt_model::command::SnapshotCommand;
use basalt_model::config::is_true;
use basalt_model::instance::{Instance, Phase};
use basalt_model::restriction;
use basalt_model::schedule::Schedule;
use basalt_model::{Cluster, Command, InstanceId, ProposeError, SnapshotId, StateView, Timestamp};
use basalt_runtime::Shutdown;
use sha2::{Digest, Sha256};

use crate::fact::Clock;

/// How often it is looked whether a new minute has begun.
const LOOK: Duration = Duration::from_secs(5);
const MINUTE: u64 = 60_000_000;

/// Looks until shutdown.
pub async fn run(cluster: Arc<dyn Cluster>, time: Clock, shutdown: Shutdown) {
    let mut seen = time.now().0 / MINUTE;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let minute = time.now().0 / MINUTE;
        if minute <= seen {
            continue;
        }
        seen = minute;
        let standing = cluster.standing();
        if standing.leader != Some(standing.me) {
            continue;
        }
        for create in due(&cluster.view(), Timestamp(minute * MINUTE)) {
            match cluster.propose(Command::Snapshot(create)).await {
                Ok(_) => {}
                Err(ProposeError::Rejected(why)) => tracing::info!(%why, "a scheduled snapshot is left out"),
                Err(error) => tracing::warn!(%error, "a scheduled snapshot could not be proposed"),
            }
        }
    }
}

/// What is to be taken in the minute that begins at `at`.
fn due(view: &StateView, at: Timestamp) -> Vec<SnapshotCommand> {
    view.instances.values().filter(|i| wants(view, i, at)).filter_map(|i| create(view, i, at)).collect()
}

fn wants(view: &StateView, instance: &Instance, at: Timestamp) -> bool {
    let config = view.expanded_config(&instance.project, &instance.spec);
    let Some(text) = config.get("snapshots.schedule").filter(|text| !text.is_empty()) else { return false };
    let up = matches!(instance.phase(), Some(Phase::Running | Phase::Frozen));
    let project = view.projects.get(&instance.project);
    if project.is_none_or(|p| restriction::blocks(p, "restricted.snapshots")) {
        return false;
    }
    let stopped_too = config.get("snapshots.schedule.stopped").is_some_and(|v| is_true(v));
    instance.made() && (up || stopped_too) && Schedule::parse(text).is_ok_and(|s| s.names(clock::minute(at)))
}

fn create(view: &StateView, instance: &Instance, at: Timestamp) -> Option<SnapshotCommand> {
    let named = snapshot_name::name(view, instance, at);
    let expires_at = snapshot_name::expiry(view, instance, at);
    match (named, expires_at) {
        (Ok(name), Ok(expires_at)) => {
            Some(SnapshotCommand::Create { instance: instance.id, id: id(instance.id, at), name, at, expires_at })
        }
        (Err(why), _) | (_, Err(why)) => {
            tracing::warn!(instance = %instance.name, why, "its scheduled snapshot cannot be named or ended");
            None
        }
    }
}

/// The one id of what is due then: like a version 7 UUID it begins with the time.
fn id(instance: InstanceId, at: Timestamp) -> SnapshotId {
    let digest = Sha256::digest(format!("{instance}/{}", at.0));
    let mut random = [0u8; 10];
    random.copy_from_slice(&digest[..10]);
    SnapshotId(uuid::Builder::from_unix_timestamp_millis(at.0 / 1000, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_for_one_instance_and_minute() {
        let instance = InstanceId(uuid::Uuid::from_u128(1));
        let (first, later) = (id(instance, Timestamp(60_000_000)), id(instance, Timestamp(120_000_000)));
        assert_eq!(first, id(instance, Timestamp(60_000_000)));
        assert!(first < later && first.0.get_version_num() == 7);
        assert_ne!(first, id(InstanceId(uuid::Uuid::from_u128(2)), Timestamp(60_000_000)));
    }
}
