//! After the host has booted: guests start in order of `boot.autostart.priority`, each followed by its
//! `boot.autostart.delay`. Until its turn an instance is held: its task leaves it alone.
//!
//! What is to be started is found as always, by planning; this only says when. Killed in the middle, the next start of
//! the agent holds those that still do not run, and goes on.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use basalt_model::{InstanceId, StateView};

use super::plan::{Step, plan};
use super::{Agent, desired, observe};

/// How long one guest may take before the next one gets its turn.
const TURN: Duration = Duration::from_secs(60);

/// Instances that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<BTreeSet<InstanceId>>);

impl Held {
    /// Whether `id` must wait.
    pub(super) fn holds(&self, id: InstanceId) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<InstanceId>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One guest to start, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    priority: Reverse<u64>,
    id: InstanceId,
    delay: u64,
}

/// Finds what is to start because the host has booted, and holds it; the returned turns are for [`take`].
pub(super) async fn hold(agent: &Agent, view: &StateView) -> Turns {
    let mut turns = Vec::new();
    for instance in view.assigned_to(agent.parts.me) {
        let Some(wanted) = desired::desired(view, instance, agent.parts.me, true) else { continue };
        let settled = wanted.report.as_ref().is_some_and(|r| r.request >= wanted.run.request);
        let Ok(actual) = observe::actual(&agent.parts, instance.id, Some(instance)).await else { continue };
        if settled && plan(&wanted, &actual).contains(&Step::Start) {
            let config = view.expanded_config(&instance.project, &instance.spec);
            let number = |key: &str| config.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
            turns.push(Turn {
                priority: Reverse(number("boot.autostart.priority")),
                id: instance.id,
                delay: number("boot.autostart.delay"),
            });
        }
    }
    turns.sort();
    *agent.held.lock() = turns.iter().map(|turn| turn.id).collect();
    Turns(turns)
}

/// What [`hold`] found.
#[derive(Debug)]
pub(super) struct Turns(Vec<Turn>);

/// Gives each its turn.
pub(super) async fn take(agent: Arc<Agent>, turns: Turns) {
    let shutdown = agent.parts.supervisor.shutdown().clone();
    for turn in turns.0 {
        let before = agent.parts.cluster.view();
        let held_report = before.instances.get(&turn.id).and_then(|i| i.report.clone());
        agent.held.lock().remove(&turn.id);
        agent.wake(turn.id);
        let reported = async {
            let mut view = before;
            while view.instances.get(&turn.id).is_some_and(|i| i.report == held_report) {
                view = agent.parts.cluster.changed_since(view.version).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = tokio::time::timeout(TURN, reported) => {
                if outcome.is_err() {
                    tracing::warn!(instance = %turn.id, "slow to start after the host's boot: going on with the next");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(turn.delay)) => {}
        }
    }
}
