//! Copies of instances: what is copied stays until the copy is made, or is known not to be.

use super::{Outcome, invalid, not_found};
use crate::instance::{CopyOf, Instance};
use crate::snapshot::{Snapshot, Stage};
use crate::{ClusterState, InstanceId, Rejected, SnapshotId};

/// Whether `instance` can be made as a copy; the snapshots that come along.
pub(super) fn check(state: &ClusterState, instance: &Instance, copy: &CopyOf) -> Result<Vec<Snapshot>, Rejected> {
    let source = super::instance::alive(state, copy.source)?;
    if source.spec.kind != instance.spec.kind {
        return Err(invalid("type", format!("the source is a {}", source.spec.kind.as_str())));
    }
    if !source.made() {
        return Err(Rejected::Busy(format!("instance {} has no root file system yet", source.name)));
    }
    if source.pending_restore().is_some() {
        return Err(Rejected::Busy(format!("instance {} is being restored", source.name)));
    }
    let ready = |id: &SnapshotId| {
        let found = state.snapshots.get(&(source.id, *id)).filter(|s| s.is_ready());
        found.ok_or_else(|| not_found("snapshot", id))
    };
    if let Some(point) = &copy.point {
        ready(point)?;
    }
    let mut coming: Vec<Snapshot> = Vec::new();
    for (old, new) in &copy.snapshots {
        let found = ready(old)?;
        if coming.iter().any(|s| s.id == *new || s.name == found.name) {
            return Err(invalid("source.snapshots", format!("{new} comes twice")));
        }
        coming.push(Snapshot { id: *new, instance: instance.id, stage: Stage::Coming, ..found.clone() });
    }
    Ok(coming)
}

/// A new instance: if it is a copy, its source is held from now on.
pub(super) fn begin(state: &mut ClusterState, fresh: &Instance, coming: Vec<Snapshot>) {
    if let crate::instance::Origin::Copy(copy) = &fresh.spec.origin {
        state.copies.insert(fresh.id, copy.source);
    }
    for snapshot in coming {
        state.snapshots.insert((fresh.id, snapshot.id), snapshot);
    }
}

/// A copy is made, with its snapshots, or is known not to be: its source is let go.
pub(super) fn end(state: &mut ClusterState, id: InstanceId, made: bool) {
    // One that failed at first, and was let go then, may be made when it is asked for again.
    state.copies.remove(&id);
    if !made {
        return;
    }
    let coming: Vec<_> = state.snapshots_of(id).filter(|s| s.stage == Stage::Coming).map(|s| s.id).collect();
    for snapshot in coming {
        if let Some(snapshot) = state.snapshots.get_mut(&(id, snapshot)) {
            snapshot.stage = Stage::Ready;
        }
    }
}

/// Refuses what would take something away under a copy that is being made of it: of the instance, or of one snapshot.
pub(super) fn not_a_source(state: &ClusterState, id: InstanceId, snapshot: Option<SnapshotId>) -> Outcome {
    let uses = |copy: &CopyOf| match snapshot {
        None => true,
        Some(one) => copy.point == Some(one) || copy.snapshots.iter().any(|(old, _)| *old == one),
    };
    let copies =
        state.copies.iter().filter(|(_, source)| **source == id).filter_map(|(new, _)| state.instances.get(new));
    let mut users = copies.filter(|i| match &i.spec.origin {
        crate::instance::Origin::Copy(copy) => uses(copy),
        crate::instance::Origin::Empty | crate::instance::Origin::Image(_) => false,
    });
    match users.next() {
        Some(user) => Err(Rejected::Busy(format!(
            "it is being copied to instance {}: wait until that is done, or delete the copy",
            user.name
        ))),
        None => Ok(()),
    }
}
