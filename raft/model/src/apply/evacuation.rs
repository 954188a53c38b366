//! Steps of evacuations. The leader plans them; here it is only held against the state that they were planned for.

use super::instance::{alive, find, set_run};
use super::{Outcome, not_found};
use crate::evacuation::{Leg, MARK, Order, Task, TripStep};
use crate::instance::Placement;
use crate::member::Duty;
use crate::{ClusterState, InstanceId, NodeId, Rejected, Timestamp};

/// A new order takes the place of one that is not done.
pub(super) fn order(state: &mut ClusterState, id: NodeId, order: Order) -> Outcome {
    let member = state.members.get_mut(&id).ok_or_else(|| not_found("member", id))?;
    member.duty = match order.task {
        Task::Empty(_) => Duty::Evacuated,
        Task::Fill => Duty::Active,
    };
    member.order = Some(order);
    Ok(())
}

/// Nothing is left to do for the order that was given at `at`.
pub(super) fn done(state: &mut ClusterState, id: NodeId, at: Timestamp) -> Outcome {
    let member = state.members.get_mut(&id).ok_or_else(|| not_found("member", id))?;
    if member.order.is_some_and(|order| order.at == at) {
        member.order = None;
    }
    Ok(())
}

pub(super) fn step(state: &mut ClusterState, id: InstanceId, step: &TripStep) -> Outcome {
    let found = alive(state, id)?;
    if found.errands.trip != step.expect {
        return Err(Rejected::Stale(format!("instance {} has gone on meanwhile", found.name)));
    }
    if !matches!(found.placement, Placement::On { .. }) {
        return Err(Rejected::Busy(format!("instance {} has no home yet", found.name)));
    }
    // One who was leader, and has not heard of a later order, must not set out anybody.
    let of_order = |at: Timestamp| state.members.values().any(|m| m.order.is_some_and(|order| order.at == at));
    let begins = step.to.as_ref().filter(|to| step.expect.as_ref().is_none_or(|before| before.order != to.order));
    if begins.is_some_and(|to| !of_order(to.order)) {
        return Err(Rejected::Stale("the order is done, or has given way to another".into()));
    }
    // It may refuse, so it comes first.
    if let Some((intent, stop)) = step.run {
        set_run(state, id, intent, false, stop, step.at)?;
    }
    let instance = find(state, id)?;
    if step.to.as_ref().is_some_and(|trip| matches!(trip.leg, Leg::Out { .. } | Leg::Back)) {
        instance.errands.move_failed = None;
    }
    instance.errands.trip = step.to.clone();
    remark(state, id)
}

/// Makes the mark say what the trip does, whatever somebody has written there.
pub(super) fn remark(state: &mut ClusterState, id: InstanceId) -> Outcome {
    let trip = state.instances.get(&id).and_then(|i| i.errands.trip.as_ref());
    let origin = trip.and_then(|trip| state.members.get(&trip.origin)).map(|m| m.name.to_string());
    let config = &mut find(state, id)?.spec.config;
    match origin {
        Some(name) => config.insert(MARK.into(), name),
        None => config.remove(MARK),
    };
    Ok(())
}
