//! Carries out the planner's steps. A step that fails is reported, which settles the user's request.

use std::sync::Arc;

use basalt_driver::InstanceDriver;
use basalt_model::command::InstanceCommand;
use basalt_model::instance::{Instance, Intent, Origin, Phase, Report, StopMode};
use basalt_model::{Command, InstanceId, ProposeError, Rejected, StateView};
use basalt_storage::VolumeStore;

use super::plan::{Desired, Step};
use super::{Agent, Parts, copy, guest, snapshots, templates};

/// Why not all steps were done.
pub(super) enum Stopped {
    /// A step failed and the cluster knows.
    Reported,
    /// The cluster could not be told: the pass is to be made again later.
    Unreported(String),
}

/// A step that did not work: what to report.
struct Failure {
    phase: Phase,
    made: bool,
    reason: String,
}

/// How an instance stands that went back to a snapshot: down, whatever comes next.
const RESTORED: Failure = Failure { phase: Phase::Stopped, made: true, reason: String::new() };

/// Does `steps` in order; the first failure ends the pass.
pub(super) async fn all(agent: &Arc<Agent>, wanted: &Desired, steps: &[Step]) -> Result<(), Stopped> {
    for step in steps {
        let parts = &agent.parts;
        let view = parts.cluster.view();
        let Some(instance) = view.instances.get(&wanted.id) else { return Ok(()) };
        if instance.placement.moving().is_some() {
            // Another home is getting ready: nothing is begun here any more.
            return Ok(());
        }
        let told = match step {
            Step::Report { phase, made, reason } => {
                tell(parts, wanted, Failure { phase: *phase, made: *made, reason: reason.clone().unwrap_or_default() })
                    .await
            }
            Step::Forget => propose(parts, InstanceCommand::Forget { id: wanted.id, epoch: wanted.epoch }).await,
            Step::DeleteEphemeral => {
                let stop = StopMode::default();
                let at = parts.clock.now();
                let intent = Intent::Deleted;
                propose(parts, InstanceCommand::SetRun { id: wanted.id, intent, restart: false, stop, at }).await
            }
            Step::TakeSnapshot(snapshot) => match snapshots::take(parts, &view, instance, *snapshot).await {
                Ok(()) => continue,
                Err(reason) => {
                    tracing::warn!(instance = %instance.name, %snapshot, reason, "the snapshot could not be taken");
                    parts.metrics.failures.inc();
                    let failed = snapshots::failed(wanted, *snapshot, reason);
                    tell_of(parts, Command::Snapshot(failed)).await.map_err(Stopped::Unreported)?;
                    return Err(Stopped::Reported);
                }
            },
            // Tried again until it works: the user's wish stands, and nothing else waits for it.
            Step::RemoveSnapshot(snapshot) => match snapshots::remove(parts, &view, instance, *snapshot).await {
                Ok(()) => continue,
                Err(reason) => return Err(Stopped::Unreported(reason)),
            },
            Step::DestroyStrays => match destroy_strays(parts, &view, instance).await {
                Ok(()) => continue,
                Err(reason) => return Err(Stopped::Unreported(reason)),
            },
            Step::SnapshotTaken(snapshot) => {
                let taken = snapshots::taken(parts, &view, instance, wanted, *snapshot).await;
                tell_of(parts, Command::Snapshot(taken)).await
            }
            Step::SnapshotFailed(snapshot, why) => {
                let failed = snapshots::failed(wanted, *snapshot, (*why).to_owned());
                tell_of(parts, Command::Snapshot(failed)).await
            }
            Step::ForgetSnapshot(snapshot) => {
                tell_of(parts, Command::Snapshot(snapshots::forget(wanted, *snapshot))).await
            }
            Step::Restored(restore) => settle(parts, wanted, restore.request, RESTORED).await,
            Step::EnsureVolume
            | Step::Prepare
            | Step::Start
            | Step::Stop(_)
            | Step::Pause
            | Step::Resume
            | Step::RestoreSnapshot(_)
            | Step::DestroyGuest
            | Step::DestroyVolume => match host(agent, &view, instance, wanted, step).await {
                Ok(()) => continue,
                Err(failure) => {
                    tracing::warn!(instance = %instance.name, id = %wanted.id, ?step, reason = failure.reason, "failed");
                    parts.metrics.failures.inc();
                    // A deletion that fails is tried again: the user's wish stands and settles nothing else.
                    if wanted.run.intent == Intent::Deleted {
                        return Err(Stopped::Unreported(failure.reason));
                    }
                    tell(parts, wanted, failure).await.map_err(Stopped::Unreported)?;
                    return Err(Stopped::Reported);
                }
            },
        };
        told.map_err(Stopped::Unreported)?;
    }
    Ok(())
}

/// Removes what is left of an instance that has no home here.
pub(super) async fn orphan(parts: &Parts, id: InstanceId, steps: &[Step]) -> Result<(), String> {
    for step in steps {
        match step {
            Step::DestroyGuest => destroy_guest(parts, id).await?,
            Step::DestroyVolume => destroy_volume(parts, id).await?,
            Step::EnsureVolume
            | Step::Prepare
            | Step::Start
            | Step::Stop(_)
            | Step::Pause
            | Step::Resume
            | Step::TakeSnapshot(_)
            | Step::SnapshotTaken(_)
            | Step::SnapshotFailed(..)
            | Step::RemoveSnapshot(_)
            | Step::ForgetSnapshot(_)
            | Step::RestoreSnapshot(_)
            | Step::Restored(_)
            | Step::DestroyStrays
            | Step::DeleteEphemeral
            | Step::Forget
            | Step::Report { .. } => {}
        }
    }
    Ok(())
}

/// One step on the host.
async fn host(
    agent: &Arc<Agent>,
    view: &StateView,
    instance: &Instance,
    wanted: &Desired,
    step: &Step,
) -> Result<(), Failure> {
    let parts = &agent.parts;
    let made = wanted.report.as_ref().is_some_and(|r| r.made);
    let failed = |made: bool| move |reason: String| Failure { phase: Phase::Failed, made, reason };
    parts.metrics.steps.inc();
    match step {
        Step::EnsureVolume => ensure_volume(parts, view, instance, wanted).await.map_err(failed(false)),
        Step::Prepare => {
            let spec = guest::build(agent, view, instance, wanted).await.map_err(failed(true))?;
            driver(parts, instance).map_err(failed(true))?.prepare(&spec).await.map_err(text).map_err(failed(true))
        }
        Step::Start => {
            if parts.host_network {
                parts.networks.ready_for(parts, view, instance).await.map_err(failed(true))?;
            }
            if let Some(overlay) = &parts.overlay {
                overlay.ready_for(&*parts.cluster, instance).await.map_err(failed(true))?;
            }
            let spec = guest::build(agent, view, instance, wanted).await.map_err(failed(true))?;
            if parts.host_network {
                rule(parts, wanted.id).await.map_err(failed(true))?;
            }
            templates::render(parts, view, instance).await.map_err(failed(true))?;
            // From here on nobody can begin to move it away: see `carry`.
            let _held = parts.pools.lock(wanted.id).read().await;
            let now = parts.cluster.view();
            if now.instances.get(&wanted.id).is_some_and(|i| i.placement.moving().is_some()) {
                return Err(failed(true)("it is being moved".into()));
            }
            driver(parts, instance).map_err(failed(true))?.start(&spec).await.map_err(text).map_err(failed(true))?;
            parts.samples.started(wanted.id);
            if let Some(overlay) = &parts.overlay {
                overlay.up(&now, instance).await;
            }
            Ok(())
        }
        Step::Stop(mode) => {
            let driver = driver(parts, instance).map_err(failed(true))?;
            driver.stop(wanted.id, *mode).await.map_err(|error| {
                // The guest did not want to: it runs on, and the cluster is told so.
                let phase =
                    if matches!(error, basalt_driver::Error::Timeout { .. }) { Phase::Running } else { Phase::Failed };
                Failure { phase, made: true, reason: text(error) }
            })
        }
        Step::Pause => driver(parts, instance).map_err(failed(true))?.pause(wanted.id).await.map_err(|e| Failure {
            phase: Phase::Running,
            made: true,
            reason: text(e),
        }),
        Step::Resume => driver(parts, instance).map_err(failed(true))?.resume(wanted.id).await.map_err(|e| Failure {
            phase: Phase::Frozen,
            made: true,
            reason: text(e),
        }),
        Step::DestroyGuest => destroy_guest(parts, wanted.id).await.map_err(failed(made)),
        Step::DestroyVolume => destroy_volume(parts, wanted.id).await.map_err(failed(made)),
        Step::RestoreSnapshot(snapshot) => {
            snapshots::restore(parts, view, instance, *snapshot).await.map_err(failed(true))
        }
        Step::TakeSnapshot(_)
        | Step::SnapshotTaken(_)
        | Step::SnapshotFailed(..)
        | Step::RemoveSnapshot(_)
        | Step::ForgetSnapshot(_)
        | Step::Restored(_)
        | Step::DestroyStrays
        | Step::DeleteEphemeral
        | Step::Forget
        | Step::Report { .. } => Ok(()),
    }
}

/// Puts in force what its interfaces are held to. Hardware addresses may just have been drawn.
async fn rule(parts: &Parts, id: InstanceId) -> Result<(), String> {
    let now = parts.cluster.view();
    let Some(instance) = now.instances.get(&id) else { return Ok(()) };
    parts.networks.hold(&now, instance).await?;
    parts.networks.guard(parts, &now, instance).await
}

fn text(error: impl std::error::Error + 'static) -> String {
    basalt_runtime::chain(&error)
}

fn driver<'a>(parts: &'a Parts, instance: &Instance) -> Result<&'a Arc<dyn InstanceDriver>, String> {
    let kind = instance.spec.kind;
    parts.drivers.get(&kind).ok_or_else(|| format!("this member cannot run instances of type {}", kind.as_str()))
}

async fn ensure_volume(parts: &Parts, view: &StateView, instance: &Instance, wanted: &Desired) -> Result<(), String> {
    let (pool, size) = guest::root_disk(view, instance).ok_or("the instance has no root disk")?;
    let store = parts.pools.get(&pool)?;
    // What it is made from is here before what was goes.
    let origin = match &instance.spec.origin {
        Origin::Empty => basalt_storage::Origin::Empty,
        Origin::Image(fingerprint) => parts.images.origin(parts, view, (&pool, &*store), fingerprint).await?,
        Origin::Copy(copy) => return copy::make(parts, view, instance, wanted, copy).await,
    };
    give_way(parts, &*store, wanted).await?;
    store.ensure(wanted.id, wanted.epoch, origin, size).await.map_err(text)?;
    Ok(())
}

/// Removes a volume that another one takes the place of, if one is to.
pub(super) async fn give_way(parts: &Parts, store: &dyn VolumeStore, wanted: &Desired) -> Result<(), String> {
    if !wanted.remake {
        return Ok(());
    }
    let old = store.find(wanted.id).await.map_err(text)?.filter(|found| found.epoch < wanted.epoch);
    if old.is_some() {
        let _held = parts.pools.lock(wanted.id).write().await;
        store.destroy(wanted.id).await.map_err(text)?;
    }
    Ok(())
}

async fn destroy_guest(parts: &Parts, id: InstanceId) -> Result<(), String> {
    for driver in parts.drivers.values() {
        driver.destroy(id).await.map_err(text)?;
    }
    if let Some(overlay) = &parts.overlay {
        overlay.follow(&parts.cluster.view(), None, id, false).await?;
    }
    if parts.host_network {
        parts.networks.release(id).await?;
    }
    parts.samples.forget(id);
    Ok(())
}

async fn destroy_volume(parts: &Parts, id: InstanceId) -> Result<(), String> {
    let _held = parts.pools.lock(id).write().await;
    for (_, store) in parts.pools.open() {
        store.destroy(id).await.map_err(text)?;
    }
    Ok(())
}

/// Removes what a move has left in pools that are not the instance's own.
async fn destroy_strays(parts: &Parts, view: &StateView, instance: &Instance) -> Result<(), String> {
    let (own, _) = guest::root_disk(view, instance).ok_or("the instance has no root disk")?;
    let _held = parts.pools.lock(instance.id).write().await;
    for (_, store) in parts.pools.open().into_iter().filter(|(name, _)| *name != own) {
        store.destroy(instance.id).await.map_err(text)?;
    }
    Ok(())
}

/// Reports a phase for the present request.
async fn tell(parts: &Parts, wanted: &Desired, failure: Failure) -> Result<(), String> {
    settle(parts, wanted, wanted.run.request, failure).await
}

/// Reports a phase for `request`.
async fn settle(parts: &Parts, wanted: &Desired, request: u64, failure: Failure) -> Result<(), String> {
    let held = wanted.report.as_ref();
    let at = parts.clock.now().max(held.map_or(Default::default(), |r| basalt_model::Timestamp(r.at.0 + 1)));
    let report = Report {
        epoch: wanted.epoch,
        generation: wanted.generation,
        phase: failure.phase,
        made: failure.made,
        request,
        reason: Some(failure.reason).filter(|reason| !reason.is_empty()),
        at,
    };
    propose(parts, InstanceCommand::Report { id: wanted.id, report }).await
}

async fn propose(parts: &Parts, command: InstanceCommand) -> Result<(), String> {
    tell_of(parts, Command::Instance(command)).await
}

/// Proposes; a refusal because the state has moved on is fine, the next look plans afresh.
async fn tell_of(parts: &Parts, command: Command) -> Result<(), String> {
    match parts.cluster.propose(command).await {
        Ok(_) | Err(ProposeError::Rejected(Rejected::Stale(_) | Rejected::NotFound { .. })) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
