//! Snapshots of instances, and going back to one.

use super::instance::{alive, lay, owned, replace_spec};
use super::{Outcome, exists, not_found};
use crate::command::SnapshotCommand;
use crate::instance::{Intent, Restore, Spec, StopMode};
use crate::snapshot::{Snapshot, Stage};
use crate::{ClusterState, InstanceId, Rejected, SnapshotId, SnapshotName};

pub(super) fn apply(state: &mut ClusterState, command: &SnapshotCommand) -> Outcome {
    match command {
        SnapshotCommand::Create { .. } => create(state, command),
        SnapshotCommand::Rename { instance, id, name } => rename(state, *instance, *id, name),
        SnapshotCommand::Update { instance, id, expires_at } => {
            find(state, *instance, *id)?.expires_at = *expires_at;
            Ok(())
        }
        SnapshotCommand::Delete { instance, id } => delete(state, *instance, *id),
        SnapshotCommand::Taken { instance, id, epoch, size } => {
            owned(state, *instance, *epoch)?;
            let snapshot = find(state, *instance, *id)?;
            // One that was doomed meanwhile stays so: its home removes it next.
            if snapshot.stage == Stage::Wanted {
                snapshot.stage = Stage::Ready;
                snapshot.size = *size;
            }
            Ok(())
        }
        SnapshotCommand::Failed { instance, id, epoch, reason } => {
            owned(state, *instance, *epoch)?;
            let snapshot = find(state, *instance, *id)?;
            if snapshot.stage == Stage::Wanted {
                snapshot.stage = Stage::Failed { reason: reason.clone() };
            }
            Ok(())
        }
        SnapshotCommand::Forget { instance, id, epoch } => {
            if !state.snapshots.contains_key(&(*instance, *id)) {
                return Ok(());
            }
            owned(state, *instance, *epoch)?;
            let snapshot = find(state, *instance, *id)?;
            if snapshot.stage != Stage::Doomed {
                return Err(Rejected::Busy(format!("snapshot {} is not being deleted", snapshot.name)));
            }
            state.snapshots.remove(&(*instance, *id));
            lay(&mut state.snapshot_graves, &mut state.snapshot_burials, *id);
            Ok(())
        }
    }
}

fn find(state: &mut ClusterState, instance: InstanceId, id: SnapshotId) -> Result<&mut Snapshot, Rejected> {
    state.snapshots.get_mut(&(instance, id)).ok_or_else(|| not_found("snapshot", id))
}

fn free_name(state: &ClusterState, instance: InstanceId, name: &SnapshotName) -> Outcome {
    match state.snapshots_of(instance).any(|s| s.holds_name() && s.name == *name) {
        true => Err(exists("snapshot", name)),
        false => Ok(()),
    }
}

fn create(state: &mut ClusterState, command: &SnapshotCommand) -> Outcome {
    let SnapshotCommand::Create { instance, id, name, at, expires_at } = command else { return Ok(()) };
    if let Some(same) = state.snapshots.get(&(*instance, *id)) {
        // Asked for again, because the first answer was lost.
        return match same.created_at == *at {
            true => Ok(()),
            false => Err(exists("snapshot id", id)),
        };
    }
    if state.snapshot_graves.contains_key(id) {
        return Err(Rejected::Stale(format!("snapshot {id} was created before, and is deleted")));
    }
    let found = alive(state, *instance)?;
    if !found.made() {
        return Err(Rejected::Busy(format!("instance {} has no root file system yet", found.name)));
    }
    if found.pending_restore().is_some() {
        return Err(Rejected::Busy(format!("instance {} is being restored", found.name)));
    }
    free_name(state, *instance, name)?;
    let snapshot = Snapshot {
        id: *id,
        instance: *instance,
        name: name.clone(),
        created_at: *at,
        expires_at: *expires_at,
        spec: found.spec,
        stage: Stage::Wanted,
        size: 0,
    };
    state.snapshots.insert((*instance, *id), snapshot);
    Ok(())
}

fn rename(state: &mut ClusterState, instance: InstanceId, id: SnapshotId, name: &SnapshotName) -> Outcome {
    let found = find(state, instance, id)?;
    if !found.is_ready() {
        return Err(Rejected::Busy(format!("snapshot {} is not there yet, or no longer", found.name)));
    }
    free_name(state, instance, name)?;
    find(state, instance, id)?.name = name.clone();
    Ok(())
}

fn delete(state: &mut ClusterState, instance: InstanceId, id: SnapshotId) -> Outcome {
    let restoring = state.instances.get(&instance).and_then(|i| i.pending_restore());
    super::copy::not_a_source(state, instance, Some(id))?;
    let snapshot = find(state, instance, id)?;
    if restoring.is_some_and(|restore| restore.snapshot == id) {
        return Err(Rejected::Busy(format!("snapshot {} is being restored", snapshot.name)));
    }
    if snapshot.stage == Stage::Coming {
        return Err(Rejected::Busy(format!("snapshot {} is still being copied", snapshot.name)));
    }
    snapshot.stage = Stage::Doomed;
    Ok(())
}

/// Asks for an instance as it was. One that is to run is started again once it is restored: a request of its own, so
/// that a restore that is done is never repeated under a guest that runs again.
pub(super) fn restore(
    state: &mut ClusterState,
    id: InstanceId,
    snapshot: SnapshotId,
    spec: &Spec,
    stop: StopMode,
) -> Outcome {
    let found = alive(state, id)?;
    let name = &found.name;
    let Some(wanted) = state.snapshots.get(&(id, snapshot)) else { return Err(not_found("snapshot", snapshot)) };
    if !wanted.is_ready() {
        return Err(Rejected::Busy(format!("snapshot {} is not there yet, or no longer", wanted.name)));
    }
    if found.pending_restore().is_some() {
        return Err(Rejected::Busy(format!("instance {name} is being restored")));
    }
    if state.snapshots_of(id).any(|s| s.stage == Stage::Wanted) {
        return Err(Rejected::Busy(format!("a snapshot of instance {name} is being taken")));
    }
    if !found.made() {
        return Err(Rejected::Busy(format!("instance {name} has no root file system yet")));
    }
    super::copy::not_a_source(state, id, None)?;
    replace_spec(state, &found, spec)?;
    let instance = super::instance::find(state, id)?;
    let run = &mut instance.run;
    run.request += 1;
    run.stop = stop;
    instance.errands.restore = Some(Restore { snapshot, request: run.request });
    if matches!(run.intent, Intent::Running | Intent::Frozen) {
        run.intent = Intent::Running;
        run.request += 1;
        run.start += 1;
    }
    Ok(())
}
