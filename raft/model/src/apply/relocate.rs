//! Moves of stopped instances: to another member, another pool, another project.
//!
//! One commit point: `Landed`, proposed by the new home once it holds a complete volume under the move's own epoch.
//! Until then the old home is the home; after it, the old home sees that it is not and removes what it has. A move that
//! is aborted leaves the old home as it was; what the new one has made by then is stamped with an epoch that is never
//! used again.

use super::evacuation::remark;
use super::instance::{alive, check_spec, find, keep_volatile, same_nature};
use super::{Outcome, exists, expect_generation, not_found};
use crate::evacuation::Leg;
use crate::instance::{Instance, Move, MovePlan, Phase, Placement, Report};
use crate::member::Duty;
use crate::snapshot::Stage;
use crate::{ClusterState, Epoch, Generation, InstanceId, NodeId, Rejected, Timestamp};

/// The user's wish. Without a volume to be carried (same member, same pool) it is done at once.
pub(super) fn begin(
    state: &mut ClusterState,
    id: InstanceId,
    to: Option<NodeId>,
    plan: &MovePlan,
    expect: Option<Generation>,
) -> Outcome {
    let found = alive(state, id)?;
    expect_generation("instance", expect, found.generation)?;
    let Placement::On { node, epoch } = found.placement else {
        return Err(Rejected::Busy(format!("instance {} has no home yet", found.name)));
    };
    at_rest(state, &found)?;
    same_nature(&found, &plan.spec)?;
    if let Some(to) = to {
        open_member(state, to)?;
    }
    fits(state, &found, plan)?;
    // One at rest is moved by its user: where it goes is where it belongs from now on.
    if found.errands.trip.as_ref().is_some_and(|trip| trip.leg == Leg::Rest) {
        find(state, id)?.errands.trip = None;
        remark(state, id)?;
    }
    let same_pool = state.root_pool(&found.project, &found.spec) == state.root_pool(&plan.project, &plan.spec);
    if to == Some(node) && same_pool {
        become_planned(state, &found, plan)?;
        return Ok(());
    }
    let landing = epoch.max(found.errands.landings).next();
    let instance = find(state, id)?;
    instance.errands.landings = landing;
    instance.errands.move_failed = None;
    instance.placement = Placement::Moving(Box::new(Move { from: node, epoch, to, landing, plan: plan.clone() }));
    Ok(())
}

/// Stopped, and nothing else is to be done for it.
fn at_rest(state: &ClusterState, found: &Instance) -> Outcome {
    let name = &found.name;
    let busy = |why: &str| Err(Rejected::Busy(format!("instance {name} {why}")));
    if !found.made() {
        return busy("has no root file system yet");
    }
    let down = matches!(found.phase(), Some(Phase::Stopped | Phase::Failed));
    if !found.settled() || !down {
        return busy("must be stopped to be moved");
    }
    if found.pending_restore().is_some() {
        return busy("is being restored");
    }
    if state.snapshots_of(found.id).any(|s| s.stage == Stage::Wanted) {
        return busy("is having a snapshot taken");
    }
    super::copy::not_a_source(state, found.id, None)
}

fn open_member(state: &ClusterState, node: NodeId) -> Outcome {
    let member = state.members.get(&node).ok_or_else(|| not_found("member", node))?;
    match member.duty {
        Duty::Active => Ok(()),
        Duty::Evacuated => Err(Rejected::Stale(format!("member {} is evacuated", member.name))),
    }
}

/// Whether the instance can become what the plan says.
fn fits(state: &ClusterState, found: &Instance, plan: &MovePlan) -> Outcome {
    if !state.projects.contains_key(&plan.project) {
        return Err(not_found("project", &plan.project));
    }
    let key = (plan.project.clone(), plan.name.clone());
    if state.instance_names.get(&key).is_some_and(|holder| *holder != found.id) {
        return Err(exists("instance", &plan.name));
    }
    check_spec(state, &plan.project, &plan.spec)
}

/// Gives the instance its new project, name and spec.
fn become_planned(state: &mut ClusterState, found: &Instance, plan: &MovePlan) -> Outcome {
    fits(state, found, plan)?;
    let spec = keep_volatile(&found.spec, &plan.spec);
    let planned = Instance { spec: spec.clone(), project: plan.project.clone(), ..found.clone() };
    super::address::settle(state, &planned)?;
    state.instance_names.remove(&(found.project.clone(), found.name.clone()));
    state.instance_names.insert((plan.project.clone(), plan.name.clone()), found.id);
    let instance = find(state, found.id)?;
    instance.project = plan.project.clone();
    instance.name = plan.name.clone();
    instance.spec = spec;
    instance.target = plan.target.clone();
    instance.generation = instance.generation.next();
    remark(state, found.id)
}

/// The move of this landing, with its instance.
fn under_way(state: &ClusterState, id: InstanceId, landing: Epoch) -> Result<(Instance, Move), Rejected> {
    let found = state.instances.get(&id).ok_or_else(|| not_found("instance", id))?;
    match found.placement.moving().filter(|m| m.landing == landing) {
        Some(on_its_way) => Ok((found.clone(), on_its_way.clone())),
        None => Err(Rejected::Stale(format!("instance {} is not on its way to epoch {landing}", found.name))),
    }
}

/// The leader's choice.
pub(super) fn assign(state: &mut ClusterState, id: InstanceId, landing: Epoch, node: NodeId) -> Outcome {
    let (found, mut on_its_way) = under_way(state, id, landing)?;
    open_member(state, node)?;
    if on_its_way.to.is_some() {
        return Err(Rejected::Stale(format!("instance {} is already on its way", found.name)));
    }
    on_its_way.to = Some(node);
    find(state, id)?.placement = Placement::Moving(Box::new(on_its_way));
    Ok(())
}

/// The commit. What the plan names may have gone meanwhile: then the move is aborted, and the new home sees that.
pub(super) fn landed(state: &mut ClusterState, id: InstanceId, landing: Epoch, at: Timestamp) -> Outcome {
    if state.instances.get(&id).is_some_and(|i| matches!(i.placement, Placement::On { epoch, .. } if epoch == landing))
    {
        return Ok(());
    }
    let (found, on_its_way) = under_way(state, id, landing)?;
    let Some(node) = on_its_way.to else {
        return Err(Rejected::Stale(format!("instance {} is on its way to nobody", found.name)));
    };
    if let Err(why) = become_planned(state, &found, &on_its_way.plan) {
        return abort(state, id, landing, &why.to_string());
    }
    let instance = find(state, id)?;
    instance.placement = Placement::On { node, epoch: landing };
    instance.errands.restore = None;
    // Clocks differ: no report is older than the one before it.
    let at = found.report.as_ref().map_or(at, |held| held.at.max(at));
    let report = |generation: Generation| Report {
        epoch: landing,
        generation,
        phase: Phase::Stopped,
        made: true,
        request: instance.run.request,
        reason: None,
        at,
    };
    instance.report = Some(report(instance.generation));
    Ok(())
}

/// Nothing has happened: the home is what it was.
pub(super) fn abort(state: &mut ClusterState, id: InstanceId, landing: Epoch, reason: &str) -> Outcome {
    let (_, on_its_way) = under_way(state, id, landing)?;
    let instance = find(state, id)?;
    instance.placement = Placement::On { node: on_its_way.from, epoch: on_its_way.epoch };
    instance.errands.move_failed = Some(reason.to_owned());
    Ok(())
}

/// A member is taken out: what was on its way to it stays where it is.
pub(super) fn abort_all(state: &mut ClusterState, node: NodeId, reason: &str) {
    let bound: Vec<(InstanceId, Epoch)> =
        state.instances.values().filter_map(|i| i.placement.landing_on(node).map(|m| (i.id, m.landing))).collect();
    for (id, landing) in bound {
        // It was found a moment ago.
        let _ = abort(state, id, landing, reason);
    }
}
