//! Snapshots of an instance's volume: what the planner's steps about them mean on this host.

use std::sync::Arc;

use basalt_model::command::SnapshotCommand;
use basalt_model::instance::Instance;
use basalt_model::{ClusterState, SnapshotId};
use basalt_runtime::chain;
use basalt_storage::VolumeStore;

use super::plan::Desired;
use super::{Parts, guest};

fn store(parts: &Parts, view: &ClusterState, instance: &Instance) -> Result<Arc<dyn VolumeStore>, String> {
    let (pool, _) = guest::root_disk(view, instance).ok_or("the instance has no root disk")?;
    parts.pools.get(&pool)
}

pub(super) async fn take(
    parts: &Parts,
    view: &ClusterState,
    instance: &Instance,
    snapshot: SnapshotId,
) -> Result<(), String> {
    parts.metrics.steps.inc();
    let _held = parts.pools.lock(instance.id).write().await;
    store(parts, view, instance)?.snapshots().take(instance.id, snapshot).await.map_err(|e| chain(&e))
}

pub(super) async fn remove(
    parts: &Parts,
    view: &ClusterState,
    instance: &Instance,
    snapshot: SnapshotId,
) -> Result<(), String> {
    parts.metrics.steps.inc();
    let _held = parts.pools.lock(instance.id).write().await;
    store(parts, view, instance)?.snapshots().remove(instance.id, snapshot).await.map_err(|e| chain(&e))
}

pub(super) async fn restore(
    parts: &Parts,
    view: &ClusterState,
    instance: &Instance,
    snapshot: SnapshotId,
) -> Result<(), String> {
    let store = store(parts, view, instance)?;
    let _held = parts.pools.lock(instance.id).write().await;
    store.snapshots().restore(instance.id, snapshot).await.map(|_| ()).map_err(|e| chain(&e))
}

/// The snapshot is there; how large it is is told as far as it is known.
pub(super) async fn taken(
    parts: &Parts,
    view: &ClusterState,
    instance: &Instance,
    wanted: &Desired,
    snapshot: SnapshotId,
) -> SnapshotCommand {
    let size = match store(parts, view, instance) {
        Ok(store) => store.snapshots().usage(instance.id, snapshot).await.unwrap_or_default(),
        Err(_) => 0,
    };
    SnapshotCommand::Taken { instance: wanted.id, id: snapshot, epoch: wanted.epoch, size }
}

pub(super) fn failed(wanted: &Desired, snapshot: SnapshotId, reason: String) -> SnapshotCommand {
    SnapshotCommand::Failed { instance: wanted.id, id: snapshot, epoch: wanted.epoch, reason }
}

pub(super) fn forget(wanted: &Desired, snapshot: SnapshotId) -> SnapshotCommand {
    SnapshotCommand::Forget { instance: wanted.id, id: snapshot, epoch: wanted.epoch }
}
