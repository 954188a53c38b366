//! Removes snapshots whose time has come, and records of those that could not be taken.

use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::SnapshotCommand;
use basalt_model::snapshot::{Snapshot, Stage};
use basalt_model::{Cluster, Command, ProposeError, StateView, Timestamp};
use basalt_runtime::Shutdown;

use crate::fact::Clock;

/// How often it is looked.
const PASS: Duration = Duration::from_secs(20);
/// How long a record of a snapshot that could not be taken is kept for those who wait for it, in seconds.
const FAILED: u64 = 300;

/// Looks until shutdown.
pub async fn run(cluster: Arc<dyn Cluster>, clock: Clock, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PASS) => {}
        }
        let standing = cluster.standing();
        if standing.leader != Some(standing.me) {
            continue;
        }
        for delete in due(&cluster.view(), clock.now()) {
            match cluster.propose(Command::Snapshot(delete)).await {
                Ok(_) => {}
                // It is gone, or in use: the next pass looks again.
                Err(ProposeError::Rejected(why)) => tracing::debug!(%why, "a snapshot stays for now"),
                Err(error) => {
                    tracing::warn!(%error, "expired snapshots could not be removed; trying again");
                    break;
                }
            }
        }
    }
}

fn due(view: &StateView, now: Timestamp) -> Vec<SnapshotCommand> {
    let over = |s: &&Snapshot| match s.stage {
        Stage::Ready => s.expires_at != Timestamp::NEVER && s.expires_at <= now,
        Stage::Failed { .. } => s.created_at.plus_secs(FAILED) <= now,
        Stage::Wanted | Stage::Doomed | Stage::Coming => false,
    };
    let delete = |s: &Snapshot| SnapshotCommand::Delete { instance: s.instance, id: s.id };
    view.snapshots.values().filter(over).map(delete).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use basalt_model::instance::{Kind, Origin, Spec};
    use basalt_model::{ClusterState, InstanceId, SnapshotId, SnapshotName, Version};

    use super::*;

    fn snapshot(number: u128, stage: Stage, expires_at: u64) -> Snapshot {
        Snapshot {
            id: SnapshotId(uuid::Uuid::from_u128(number)),
            instance: InstanceId(uuid::Uuid::from_u128(1)),
            name: SnapshotName::new(format!("s{number}")).unwrap(),
            created_at: Timestamp(1),
            expires_at: Timestamp(expires_at),
            spec: Spec {
                kind: Kind::Container,
                architecture: String::new(),
                origin: Origin::Empty,
                description: String::new(),
                ephemeral: false,
                config: Default::default(),
                devices: Default::default(),
                profiles: Vec::new(),
            },
            stage,
            size: 0,
        }
    }

    #[test]
    fn only_what_is_over_goes() {
        let mut state = ClusterState::default();
        let failed = || Stage::Failed { reason: String::new() };
        for one in [
            snapshot(1, Stage::Ready, 0),
            snapshot(2, Stage::Ready, 1_000_000_000),
            snapshot(3, Stage::Ready, 1_000_000_001),
            snapshot(4, failed(), 0),
            snapshot(5, Stage::Wanted, 5),
        ] {
            state.snapshots.insert((one.instance, one.id), one);
        }
        let view = StateView::new(Version(1), Arc::new(state));
        let ids = |now: u64| -> Vec<u128> {
            let id = |command| match command {
                SnapshotCommand::Delete { id, .. } => id.0.as_u128(),
                other => panic!("{other:?}"),
            };
            due(&view, Timestamp(now)).into_iter().map(id).collect()
        };
        assert_eq!(ids(1_000), Vec::<u128>::new());
        assert_eq!(ids(1_000_000_000), [2, 4]);
    }
}
