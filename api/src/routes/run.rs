//! Waits until the home of an instance has done what was asked of it, as the replicated state tells.

use std::time::{Duration, Instant};

use basalt_model::command::{InstanceCommand, SnapshotCommand};
use basalt_model::instance::{Instance, Intent, Phase, Placement, StopMode};
use basalt_model::member::Health;
use basalt_model::snapshot::Stage;
use basalt_model::{Command, Epoch, InstanceId, NodeId, SnapshotId, StateView, Timestamp};

use super::{evacuation, relocate};
use crate::api::Api;
use crate::call::propose;
use crate::clock;
use crate::error::Error;
use crate::operation::Handle;

/// How often a wait looks whether the quorum is still there.
const LOOK: Duration = Duration::from_secs(5);
/// How long a wait goes on without a quorum before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the remains of a failed creation may take to be gone.
const CLEANUP: Duration = Duration::from_secs(120);

/// Asks `look` at every change until it has an answer.
async fn until<T>(api: &Api, mut look: impl FnMut(&StateView) -> Option<Result<T, Error>>) -> Result<T, Error> {
    let mut view = api.view();
    let mut blind: Option<Instant> = None;
    loop {
        if let Some(answer) = look(&view) {
            return answer;
        }
        tokio::select! {
            next = api.ports.cluster.changed_since(view.version) => view = next,
            () = tokio::time::sleep(LOOK) => {
                let stale = api.ports.cluster.standing().stale;
                let since = blind.get_or_insert_with(Instant::now);
                match stale {
                    false => blind = None,
                    true if since.elapsed() > PATIENCE => {
                        return Err(Error::Unavailable("the quorum is gone: whether it was done is unknown".into()));
                    }
                    true => {}
                }
            }
        }
    }
}

/// The member that is the instance's home, when it is out of reach.
pub(super) fn lost_home(view: &StateView, instance: &Instance) -> Option<Error> {
    let (node, _) = instance.placement.home()?;
    let member = view.members.get(&node)?;
    matches!(member.health, Health::Offline { .. }).then(|| {
        Error::Unavailable(format!("member {}, the home of instance {}, is offline", member.name, instance.name))
    })
}

/// Waits until a new instance exists, and runs if it is to; undoes it when that fails.
pub(super) async fn created(api: &Api, id: InstanceId, handle: &Handle) -> Result<(), Error> {
    handle.progress(PROGRESS, "Looking for a member");
    let outcome = until(api, |view| {
        let Some(instance) = view.instances.get(&id) else {
            return Some(Err(Error::Refused("the instance was deleted meanwhile".into())));
        };
        creation(view, instance, handle)
    })
    .await;
    match outcome {
        Ok(Made::Whole) => Ok(()),
        Ok(Made::NotStarted(why)) => Err(Error::Refused(why)),
        Err(error) => {
            undo(api, id).await;
            Err(error)
        }
    }
}

/// Where clients look for how far a creation is.
const PROGRESS: &str = "create_instance_progress";

/// How far a creation came.
enum Made {
    Whole,
    /// It exists, but could not be started: it stays, as a stopped instance.
    NotStarted(String),
}

fn creation(view: &StateView, instance: &Instance, handle: &Handle) -> Option<Result<Made, Error>> {
    if let Placement::Unplaced { refused } = &instance.placement {
        return match refused {
            Some(why) => Some(Err(Error::Refused(why.clone()))),
            None => {
                handle.progress(PROGRESS, "Looking for a member");
                None
            }
        };
    }
    if let Some(lost) = lost_home(view, instance) {
        return Some(Err(lost));
    }
    let Some(report) = instance.current_report() else {
        let home = instance.placement.home().and_then(|(node, _)| view.members.get(&node));
        let home = home.map(|m| m.name.to_string()).unwrap_or_default();
        handle.progress(PROGRESS, format!("Making the root file system on {home}"));
        return None;
    };
    let why = || report.reason.clone().unwrap_or_else(|| "its home does not say why".into());
    match report.phase {
        Phase::Failed if !report.made => Some(Err(Error::Refused(format!("Failed creating instance: {}", why())))),
        Phase::Failed => Some(Ok(Made::NotStarted(format!("Failed to start: {}", why())))),
        Phase::Running | Phase::Frozen => Some(Ok(Made::Whole)),
        Phase::Stopped if !instance.settled() => {
            handle.progress(PROGRESS, "Starting");
            None
        }
        Phase::Stopped => match (&report.reason, instance.run.intent) {
            (Some(why), Intent::Running) => Some(Ok(Made::NotStarted(format!("Failed to start: {why}")))),
            (Some(_) | None, _) => Some(Ok(Made::Whole)),
        },
    }
}

/// Deletes what a failed creation left, so that its name is free again.
async fn undo(api: &Api, id: InstanceId) {
    let delete = InstanceCommand::SetRun {
        id,
        intent: Intent::Deleted,
        restart: false,
        stop: StopMode { force: true, timeout_secs: None },
        at: clock::now(),
    };
    match propose(api, Command::Instance(delete)).await {
        Ok(_) => {
            let gone = until(api, |view| (!view.instances.contains_key(&id)).then_some(Ok(())));
            // It is on its way out in any case: the record says so.
            let _ = tokio::time::timeout(CLEANUP, gone).await;
        }
        Err(Error::NotFound(_)) => {}
        Err(error) => tracing::warn!(instance = %id, %error, "what is left of a failed creation stays"),
    }
}

/// Waits until the home has settled request number `request`.
pub(super) async fn settled(api: &Api, id: InstanceId, request: u64, wanted: Phase) -> Result<(), Error> {
    until(api, |view| {
        let Some(instance) = view.instances.get(&id) else {
            // An ephemeral instance is gone once it stops.
            return Some(match wanted {
                Phase::Stopped => Ok(()),
                Phase::Running | Phase::Frozen | Phase::Failed => {
                    Err(Error::Refused("the instance was deleted meanwhile".into()))
                }
            });
        };
        if let Some(lost) = lost_home(view, instance) {
            return Some(Err(lost));
        }
        let report = instance.current_report().filter(|r| r.request >= request)?;
        Some(match (report.phase == wanted, &report.reason) {
            (true, _) => Ok(()),
            (false, Some(why)) => Err(Error::Refused(why.clone())),
            (false, None) if report.phase == Phase::Failed => Err(Error::Refused("it failed; see the log".into())),
            // It ended, or another request overtook this one.
            (false, None) => Ok(()),
        })
    })
    .await
}

/// Waits until a deleted instance is gone.
pub(super) async fn gone(api: &Api, id: InstanceId, request: u64) -> Result<(), Error> {
    until(api, |view| {
        let Some(instance) = view.instances.get(&id) else { return Some(Ok(())) };
        if let Some(lost) = lost_home(view, instance) {
            return Some(Err(lost));
        }
        let report = instance.current_report().filter(|r| r.request >= request && r.phase == Phase::Failed)?;
        report.reason.clone().map(|why| Err(Error::Refused(why)))
    })
    .await
}

/// Waits until a move has come to its end, either way.
pub(super) async fn moved(api: &Api, id: InstanceId, landing: Epoch, handle: &Handle) -> Result<(), Error> {
    until(api, |view| {
        let Some(instance) = view.instances.get(&id) else {
            return Some(Err(Error::Refused("the instance was deleted meanwhile".into())));
        };
        if let Some(text) = relocate::progress(view, instance) {
            handle.progress("fs_progress", text);
            // A home that is out of reach for a while comes back, or the move is given up by its other end.
            return None;
        }
        let (_, epoch) = instance.placement.home()?;
        Some(match (epoch >= landing, &instance.errands.move_failed) {
            (true, _) => Ok(()),
            (false, Some(why)) => Err(Error::Refused(format!("Failed moving instance: {why}"))),
            (false, None) => Err(Error::Refused("Failed moving instance: it was given up".into())),
        })
    })
    .await
}

/// Waits until a root file system that is made anew under `epoch` is there, or is known not to be.
pub(super) async fn remade(api: &Api, id: InstanceId, epoch: Epoch, handle: &Handle) -> Result<(), Error> {
    until(api, |view| {
        let Some(instance) = view.instances.get(&id) else {
            return Some(Err(Error::Refused("the instance was deleted meanwhile".into())));
        };
        // Something was asked for after it, which only one that is made or has failed allows.
        if instance.placement.home().is_none_or(|(_, now)| now != epoch) {
            return Some(Ok(()));
        }
        if let Some(lost) = lost_home(view, instance) {
            return Some(Err(lost));
        }
        let Some(report) = instance.current_report() else {
            handle.progress("fs_progress", "Making the root file system anew");
            return None;
        };
        match (report.made, report.phase) {
            (true, _) => Some(Ok(())),
            (false, Phase::Failed) => {
                let why = report.reason.as_deref().unwrap_or("its home does not say why");
                Some(Err(Error::Refused(format!("Failed making the root file system anew: {why}"))))
            }
            (false, Phase::Stopped | Phase::Running | Phase::Frozen) => None,
        }
    })
    .await
}

/// Waits until nothing is left to do for the order that a member was given at `order`.
pub(super) async fn carried_out(api: &Api, node: NodeId, order: Timestamp, handle: &Handle) -> Result<(), Error> {
    until(api, |view| {
        let Some(member) = view.members.get(&node) else {
            return Some(Err(Error::Refused("the member was removed meanwhile".into())));
        };
        match member.order {
            Some(other) if other.at != order => {
                return Some(Err(Error::Refused("another evacuation or restore has taken its place".into())));
            }
            Some(_) => {}
            None => return Some(evacuation::failures(view, order).map_or(Ok(()), |why| Err(Error::Refused(why)))),
        }
        if let Health::Offline { .. } = member.health {
            let why = format!("member {} is offline: it goes on once the member is back", member.name);
            return Some(Err(Error::Unavailable(why)));
        }
        if let Some(text) = evacuation::progress(view, order) {
            handle.progress(evacuation::PROGRESS, text);
        }
        None
    })
    .await
}

/// Waits until the home has taken a snapshot; a record of one that could not be taken is removed.
pub(super) async fn snapshot_taken(api: &Api, instance: InstanceId, id: SnapshotId) -> Result<(), Error> {
    let outcome = until(api, |view| {
        let gone = || Some(Err(Error::Refused("the snapshot was deleted meanwhile".into())));
        let (Some(home), Some(snapshot)) = (view.instances.get(&instance), view.snapshots.get(&(instance, id))) else {
            return gone();
        };
        match &snapshot.stage {
            Stage::Ready => Some(Ok(())),
            Stage::Doomed => gone(),
            Stage::Failed { reason } => Some(Err(Error::Refused(format!("Failed creating snapshot: {reason}")))),
            Stage::Wanted | Stage::Coming => lost_home(view, home).map(Err),
        }
    })
    .await;
    let failed =
        |view: &StateView| view.snapshots.get(&(instance, id)).is_some_and(|s| matches!(s.stage, Stage::Failed { .. }));
    if outcome.is_err() && failed(&api.view()) {
        // It is in nobody's way: a name that failed is free, and the leader tidies up after a while.
        let delete = Command::Snapshot(SnapshotCommand::Delete { instance, id });
        if let Err(error) = propose(api, delete).await {
            tracing::warn!(snapshot = %id, %error, "the record of a failed snapshot stays for now");
        }
    }
    outcome
}

/// Waits until the home has removed a snapshot.
pub(super) async fn snapshot_gone(api: &Api, instance: InstanceId, id: SnapshotId) -> Result<(), Error> {
    until(api, |view| {
        let home = view.instances.get(&instance).filter(|_| view.snapshots.contains_key(&(instance, id)));
        match home {
            None => Some(Ok(())),
            Some(home) => lost_home(view, home).map(Err),
        }
    })
    .await
}
