//! The task of one instance: look, plan, act; again until there is nothing to do, then wait to be woken.

use std::sync::Arc;
use std::time::Duration;

use basalt_driver::State;
use basalt_model::InstanceId;
use basalt_runtime::Backoff;
use tokio::sync::Notify;

use super::plan::{self, Step};
use super::{Agent, desired, execute, landing, observe};

/// How a pass ended.
pub(super) enum Pass {
    /// Nothing is left to do.
    Done,
    /// Something was done: look again.
    Again,
    /// Something that is not the instance's fault is in the way.
    Later(String),
    /// There is no such instance here, and nothing of it.
    Gone,
}

/// Runs until shutdown, or until the instance is gone from here.
pub(super) async fn run(agent: Arc<Agent>, id: InstanceId, notify: Arc<Notify>) {
    let shutdown = agent.parts.supervisor.shutdown().clone();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = notify.notified() => {}
        }
        loop {
            if shutdown.is_cancelled() {
                return;
            }
            match pass(&agent, id).await {
                Pass::Again => backoff.reset(),
                Pass::Done => break,
                Pass::Gone => {
                    agent.retire(id, &notify);
                    return;
                }
                Pass::Later(why) => {
                    tracing::warn!(instance = %id, %why, "not possible now; trying again");
                    agent.parts.metrics.deferred.inc();
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(backoff.next_delay()) => {}
                        () = notify.notified() => {}
                    }
                }
            }
        }
    }
}

async fn pass(agent: &Arc<Agent>, id: InstanceId) -> Pass {
    let parts = &agent.parts;
    if agent.held.holds(id) {
        return Pass::Done;
    }
    let view = parts.cluster.view();
    let instance = view.instances.get(&id);
    if let Some((instance, on_its_way)) = instance.and_then(|i| Some((i, i.placement.moving()?))) {
        return match on_its_way.to == Some(parts.me) {
            true => landing::pass(agent, &view, instance, on_its_way).await,
            // Its old home has nothing to do, and anybody else nothing to keep of an earlier stay.
            false if on_its_way.from == parts.me => Pass::Done,
            false => orphan(agent, id).await,
        };
    }
    let Some(wanted) = instance.and_then(|i| desired::desired(&view, i, parts.me, agent.restart_budget(id))) else {
        return orphan(agent, id).await;
    };
    let actual = match observe::actual(parts, id, instance).await {
        Ok(actual) => actual,
        Err(why) => return Pass::Later(why),
    };
    parts.samples.guest(id, actual.guest.as_ref());
    if let Some(instance) = instance.filter(|_| parts.host_network) {
        let held = parts.networks.hold(&view, instance).await;
        if let Err(why) = held.and(parts.networks.guard(parts, &view, instance).await) {
            tracing::warn!(instance = %id, why, "limits and filters of its interfaces are not in force; trying again");
        }
    }
    if let Some(overlay) = &parts.overlay {
        let runs = actual.guest.as_ref().is_some_and(|guest| guest.state != State::Stopped);
        // The rest of the pass does not wait for a switch.
        if let Err(why) = overlay.follow(&view, instance, id, runs).await {
            tracing::warn!(instance = %id, why, "its ports are not as they are to be; trying again");
        }
    }
    let steps = plan::plan(&wanted, &actual);
    if steps.is_empty() {
        return Pass::Done;
    }
    let settled = wanted.report.as_ref().is_some_and(|r| r.request >= wanted.run.request);
    if settled && steps.contains(&Step::Start) {
        agent.note_restart(id);
    }
    let Ok(_permit) = agent.working.acquire().await else { return Pass::Done };
    tracing::debug!(instance = %id, ?steps, "working");
    match execute::all(agent, &wanted, &steps).await {
        Ok(()) => Pass::Again,
        Err(execute::Stopped::Reported) => Pass::Again,
        Err(execute::Stopped::Unreported(why)) => Pass::Later(why),
    }
}

/// There is something here that the local view does not place here. The view may be old, so the quorum is asked.
async fn orphan(agent: &Arc<Agent>, id: InstanceId) -> Pass {
    let parts = &agent.parts;
    let actual = match observe::actual(parts, id, None).await {
        Ok(actual) => actual,
        Err(why) => return Pass::Later(why),
    };
    let steps = plan::plan_orphan(&actual);
    if steps.is_empty() {
        parts.samples.forget(id);
        return Pass::Gone;
    }
    let fresh = match parts.cluster.linearizable().await {
        Ok(fresh) => fresh,
        Err(error) => return Pass::Later(error.to_string()),
    };
    if fresh.concerning(parts.me).any(|i| i.id == id) {
        return Pass::Again;
    }
    tracing::warn!(instance = %id, "no longer at home here: removing what is left of it");
    parts.metrics.orphans.inc();
    match execute::orphan(parts, id, &steps).await {
        Ok(()) => Pass::Again,
        Err(why) => Pass::Later(why),
    }
}
