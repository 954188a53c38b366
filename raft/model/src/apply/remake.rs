//! A root file system that is made anew where it is: from an image, from nothing, or as another instance's.
//!
//! ```text
//!   epoch 3, made --Remake--> epoch 4 on the same member, not made --home: fetch, destroy epoch 3's, make--> made
//! ```
//! The epoch is what makes it safe to be begun again: a volume that is complete under the new one is what was asked for, and
//! one of an earlier epoch is what is to go. A remake that fails leaves a stopped instance that says why; the next start, or
//! the next remake, tries again.

use super::instance::{alive, check_spec, coming, find, keep_volatile, lay};
use super::{Outcome, expect_generation, invalid};
use crate::evacuation::Leg;
use crate::instance::{Instance, Intent, Origin, Phase, Placement, Spec};
use crate::snapshot::Stage;
use crate::{ClusterState, Generation, InstanceId, Rejected, Timestamp};

/// What the image says of itself: it goes with the image.
const BASE: &str = "volatile.base_image";

/// The user's wish.
pub(super) fn begin(
    state: &mut ClusterState,
    id: InstanceId,
    spec: &Spec,
    (snapshots_too, at): (bool, Timestamp),
    expect: Option<Generation>,
) -> Outcome {
    let found = alive(state, id)?;
    expect_generation("instance", expect, found.generation)?;
    let Placement::On { node, epoch } = found.placement else {
        return Err(Rejected::Busy(format!("instance {} has no home yet", found.name)));
    };
    at_rest(state, &found)?;
    let snapshots: Vec<_> = state.snapshots_of(id).map(|s| s.id).collect();
    if !snapshots_too && !snapshots.is_empty() {
        return Err(Rejected::Busy(format!("instance {} has snapshots, which would be lost: delete them", found.name)));
    }
    let planned = planned(state, &found, spec)?;
    let coming = coming(state, &planned)?;
    super::address::settle(state, &planned)?;
    for snapshot in snapshots {
        state.snapshots.remove(&(id, snapshot));
        lay(&mut state.snapshot_graves, &mut state.snapshot_burials, snapshot);
    }
    // Of a copy that failed.
    state.copies.remove(&id);
    super::copy::begin(state, &planned, coming);
    if let Origin::Image(fingerprint) = &planned.spec.origin {
        super::image::used(state, &planned.project, fingerprint, at);
    }
    let landing = epoch.max(found.errands.landings).next();
    let instance = find(state, id)?;
    instance.spec = planned.spec;
    instance.generation = instance.generation.next();
    instance.placement = Placement::On { node, epoch: landing };
    instance.errands.landings = landing;
    instance.errands.remake = Some(landing);
    instance.errands.restore = None;
    instance.run.intent = Intent::Stopped;
    instance.run.request += 1;
    super::evacuation::remark(state, id)
}

/// Stopped, and nothing else is to be done for it. One that could not be made may be tried again with something else.
fn at_rest(state: &ClusterState, found: &Instance) -> Outcome {
    let busy = |why: &str| Err(Rejected::Busy(format!("instance {} {why}", found.name)));
    if !found.settled() || !matches!(found.phase(), Some(Phase::Stopped | Phase::Failed)) {
        return busy("must be stopped for its root file system to be made anew");
    }
    if found.pending_restore().is_some() {
        return busy("is being restored");
    }
    if found.errands.trip.as_ref().is_some_and(|trip| trip.leg != Leg::Rest) {
        return busy("is being evacuated");
    }
    if state.snapshots_of(found.id).any(|s| s.stage == Stage::Wanted) {
        return busy("is having a snapshot taken");
    }
    super::copy::not_a_source(state, found.id, None)
}

/// The instance as it is to be: its kind and its pool stay.
fn planned(state: &ClusterState, found: &Instance, spec: &Spec) -> Result<Instance, Rejected> {
    if spec.kind != found.spec.kind {
        return Err(invalid("type", format!("instance {} is a {}", found.name, found.spec.kind.as_str())));
    }
    match &spec.origin {
        Origin::Copy(copy) if copy.source == found.id => {
            return Err(invalid("source", "an instance cannot be made from itself"));
        }
        Origin::Copy(_) | Origin::Image(_) | Origin::Empty => {}
    }
    check_spec(state, &found.project, spec)?;
    if state.root_pool(&found.project, &found.spec) != state.root_pool(&found.project, spec) {
        return Err(invalid("devices", "the root disk's pool cannot be changed: move the instance"));
    }
    let mut kept = keep_volatile(&found.spec, spec);
    if !spec.config.contains_key(BASE) {
        kept.config.remove(BASE);
    }
    Ok(Instance { spec: kept, ..found.clone() })
}
