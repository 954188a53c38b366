//! The planner of one instance: what is wanted and what is, in; the steps that close the gap, out. Pure.
//!
//! ```text
//!            view.assigned_to(me)          driver.list + store.list
//!                    |                               |
//!                 Desired                         Actual
//!                    +------------> plan <-----------+
//!                                    |
//!                               Vec<Step>      done in order by instance_task; the first failure ends the pass
//! ```
//!
//! **Invariants.** The same inputs give the same steps. An empty plan means nothing is to be done. Every plan may be
//! begun again after a crash at any step: each step is idempotent, and the report that settles a request comes last.
//! Nothing runs under an epoch that is not the desired one. What was made once is never made again from its image.

use basalt_driver::{Found, State};
use basalt_model::instance::{Intent, Phase, Report, Restore, Run, StopMode};
use basalt_model::snapshot::Stage;
use basalt_model::{Epoch, Generation, InstanceId, SnapshotId};

/// What the replicated state wants of an instance whose home is this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub id: InstanceId,
    pub epoch: Epoch,
    pub generation: Generation,
    /// Changes with whatever a guest is made from: its own spec and its profiles.
    pub configuration: Generation,
    pub run: Run,
    /// The last report under this epoch.
    pub report: Option<Report>,
    /// `boot.autostart`; `None` restores the last state.
    pub autostart: Option<bool>,
    /// `boot.autorestart`, and there is budget left for it now.
    pub autorestart: bool,
    /// The instance is to vanish once it has stopped.
    pub ephemeral: bool,
    /// A volume of an earlier epoch is not its content any more: it gives way to one that is made anew.
    pub remake: bool,
    /// A restore that is not settled yet.
    pub restore: Option<Restore>,
    /// Snapshots that there is something to do for, oldest first.
    pub snapshots: Vec<SnapshotWish>,
}

/// What is wanted of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotWish {
    Take(SnapshotId),
    Remove(SnapshotId),
}

impl SnapshotWish {
    /// What a snapshot's record asks of the home.
    pub fn of(id: SnapshotId, stage: &Stage) -> Option<Self> {
        match stage {
            Stage::Wanted => Some(SnapshotWish::Take(id)),
            Stage::Doomed => Some(SnapshotWish::Remove(id)),
            Stage::Ready | Stage::Failed { .. } | Stage::Coming => None,
        }
    }
}

/// A volume as found in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundVolume {
    pub epoch: Epoch,
    /// False for what a crash left half-made.
    pub complete: bool,
}

/// What there is of an instance on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    pub guest: Option<Found>,
    pub volume: Option<FoundVolume>,
    /// There is a volume of it in a pool that is not its own.
    pub strays: bool,
}

impl Actual {
    fn state(&self) -> State {
        self.guest.as_ref().map_or(State::Stopped, |g| g.state)
    }

    /// Whether the guest's last start was in another boot of the host (or left no trace).
    fn ended_with_host(&self) -> bool {
        self.guest.as_ref().is_none_or(|g| !g.same_boot)
    }
}

/// One idempotent action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes the root volume from the instance's origin, in place of what is to give way.
    EnsureVolume,
    /// Writes what the driver needs, from the present configuration.
    Prepare,
    Start,
    Stop(StopMode),
    Pause,
    Resume,
    /// Removes every trace of the guest but its volume.
    DestroyGuest,
    DestroyVolume,
    /// Removes what moves have left of it in pools that are not its own.
    DestroyStrays,
    TakeSnapshot(SnapshotId),
    /// Tells the cluster that it is there.
    SnapshotTaken(SnapshotId),
    /// Tells the cluster that it cannot be taken.
    SnapshotFailed(SnapshotId, &'static str),
    RemoveSnapshot(SnapshotId),
    /// Tells the cluster that nothing is left of it.
    ForgetSnapshot(SnapshotId),
    /// Gives the volume the content of a snapshot.
    RestoreSnapshot(SnapshotId),
    /// Tells the cluster that this restore is done and the guest is down, before anything else is done.
    Restored(Restore),
    /// Asks the cluster to delete an ephemeral instance that has stopped.
    DeleteEphemeral,
    /// Tells the cluster that nothing is left.
    Forget,
    /// Tells the cluster how it stands, settling the present request.
    Report {
        phase: Phase,
        made: bool,
        reason: Option<String>,
    },
}

/// Steps for an instance whose home is this node.
pub fn plan(desired: &Desired, actual: &Actual) -> Vec<Step> {
    if let Some(guest) = &actual.guest {
        if guest.epoch > desired.epoch {
            // The view is older than what this host was told before: wait for it to catch up.
            return Vec::new();
        }
        if guest.epoch < desired.epoch {
            // Left from an earlier stay here. It must not run beside the present one, nor be taken for it.
            return vec![Step::DestroyGuest];
        }
    }
    match desired.run.intent {
        Intent::Deleted => delete(actual),
        // The view is older than what this host was told before.
        Intent::Stopped | Intent::Running | Intent::Frozen
            if actual.volume.is_some_and(|found| found.complete && found.epoch > desired.epoch) =>
        {
            Vec::new()
        }
        Intent::Stopped | Intent::Running | Intent::Frozen => match volume(desired, actual) {
            Some(steps) if steps.is_empty() => without_volume(desired),
            Some(steps) => steps,
            None => with_volume(desired, actual),
        },
    }
}

/// What to do for an instance whose volume is as it should be. Snapshots are taken before what was asked for after
/// them; they are removed when there is nothing else to do, so that one that cannot be removed is in nobody's way.
fn with_volume(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let take = |wish: &SnapshotWish| match wish {
        SnapshotWish::Take(id) => vec![Step::TakeSnapshot(*id), Step::SnapshotTaken(*id)],
        SnapshotWish::Remove(_) => Vec::new(),
    };
    let taken: Vec<Step> = desired.snapshots.iter().flat_map(take).collect();
    if !taken.is_empty() {
        return taken;
    }
    let steps = match &desired.restore {
        Some(restore) => go_back(desired, actual, *restore),
        None if settled(desired) => keep(desired, actual),
        None => carry_out(desired, actual),
    };
    match (steps.is_empty(), actual.strays) {
        (true, true) => vec![Step::DestroyStrays],
        (true, false) => removals(desired),
        (false, _) => steps,
    }
}

fn removals(desired: &Desired) -> Vec<Step> {
    let remove = |wish: &SnapshotWish| match wish {
        SnapshotWish::Remove(id) => vec![Step::RemoveSnapshot(*id), Step::ForgetSnapshot(*id)],
        SnapshotWish::Take(_) => Vec::new(),
    };
    desired.snapshots.iter().flat_map(remove).collect()
}

/// The volume is gone or was never made, and that is known: whoever waits for a snapshot is told so.
fn without_volume(desired: &Desired) -> Vec<Step> {
    let settle = |wish: &SnapshotWish| match wish {
        SnapshotWish::Take(id) => {
            vec![Step::SnapshotFailed(*id, "the instance's volume is gone from the storage pool")]
        }
        SnapshotWish::Remove(id) => vec![Step::RemoveSnapshot(*id), Step::ForgetSnapshot(*id)],
    };
    desired.snapshots.iter().flat_map(settle).collect()
}

/// Back to a snapshot. Settled before the guest starts again: done twice, it would take away what the guest has done.
fn go_back(desired: &Desired, actual: &Actual, restore: Restore) -> Vec<Step> {
    let back = [Step::RestoreSnapshot(restore.snapshot), Step::Restored(restore)];
    match actual.state() {
        State::Stopped => back.into(),
        State::Running | State::Frozen => std::iter::once(Step::Stop(desired.run.stop)).chain(back).collect(),
    }
}

/// Steps for an instance found here whose home is elsewhere, or that no longer exists. Only to be carried out after a
/// linearizable read has confirmed it: the local view may be older than what this host was told before a crash.
pub fn plan_orphan(actual: &Actual) -> Vec<Step> {
    let mut steps = delete(actual);
    steps.retain(|step| *step != Step::Forget);
    steps
}

fn settled(desired: &Desired) -> bool {
    desired.report.as_ref().is_some_and(|r| r.request >= desired.run.request)
}

fn delete(actual: &Actual) -> Vec<Step> {
    let mut steps = Vec::new();
    if actual.guest.is_some() {
        steps.push(Step::DestroyGuest);
    }
    if actual.volume.is_some() {
        steps.push(Step::DestroyVolume);
    }
    steps.push(Step::Forget);
    steps
}

/// What to do about the root volume; `None` when it is as it should be.
fn volume(desired: &Desired, actual: &Actual) -> Option<Vec<Step>> {
    let made = desired.report.as_ref().is_some_and(|r| r.made);
    let failed = |why: &str| match &desired.report {
        Some(r) if r.phase == Phase::Failed && settled(desired) => Vec::new(),
        Some(_) | None => vec![Step::Report { phase: Phase::Failed, made, reason: Some(why.into()) }],
    };
    match actual.volume {
        Some(found) if found.complete && found.epoch != desired.epoch && (made || !desired.remake) => {
            Some(failed("its volume here is from an earlier stay"))
        }
        Some(found) if found.complete && found.epoch == desired.epoch => None,
        // A restore that was cut off may have left it half-made: it is done again.
        Some(_) if made && desired.restore.is_some() => None,
        Some(_) | None if made => Some(failed("its volume is gone from the storage pool")),
        // A creation that failed is not tried again until the user asks for something.
        Some(_) | None if settled(desired) => Some(Vec::new()),
        Some(_) | None => {
            let mut steps = vec![Step::EnsureVolume];
            steps.extend(carry_out(desired, actual));
            Some(steps)
        }
    }
}

fn report(phase: Phase) -> Step {
    Step::Report { phase, made: true, reason: None }
}

/// Carries out a request that is not settled yet.
fn carry_out(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let same_start = actual.guest.as_ref().is_some_and(|g| g.start == desired.run.start);
    let stop = desired.run.stop;
    match (desired.run.intent, actual.state()) {
        (Intent::Stopped, State::Stopped) => stopped(desired),
        (Intent::Stopped, State::Running | State::Frozen) => {
            let mut steps = vec![Step::Stop(stop)];
            steps.extend(stopped(desired));
            steps
        }
        // A guest that is not there is started, even if it may have run and ended since: the request is not settled.
        (Intent::Running, State::Stopped) => vec![Step::Prepare, Step::Start, report(Phase::Running)],
        (Intent::Running, State::Running) if same_start => vec![report(Phase::Running)],
        (Intent::Running, State::Frozen) if same_start => vec![Step::Resume, report(Phase::Running)],
        (Intent::Running, State::Running | State::Frozen) => {
            vec![Step::Stop(stop), Step::Prepare, Step::Start, report(Phase::Running)]
        }
        (Intent::Frozen, State::Running) => vec![Step::Pause, report(Phase::Frozen)],
        (Intent::Frozen, State::Frozen) => vec![report(Phase::Frozen)],
        (Intent::Frozen, State::Stopped) => {
            vec![Step::Report { phase: Phase::Stopped, made: true, reason: Some("Instance is not running".into()) }]
        }
        (Intent::Deleted, _) => Vec::new(),
    }
}

fn stopped(desired: &Desired) -> Vec<Step> {
    // Created a moment ago and never started: an ephemeral instance only vanishes after it has run.
    match desired.ephemeral && desired.run.start > 0 {
        true => vec![report(Phase::Stopped), Step::DeleteEphemeral],
        false => vec![report(Phase::Stopped)],
    }
}

/// Keeps an instance whose latest request is settled: follows what the guest does by itself.
fn keep(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let Some(held) = &desired.report else { return Vec::new() };
    let mut steps = Vec::new();
    match (held.phase, actual.state()) {
        (Phase::Running | Phase::Frozen, State::Stopped) => return ended(desired, actual),
        (Phase::Stopped, State::Stopped) => {
            // Only a host that has booted since the report makes a stopped guest start by itself.
            let booted_since = actual.guest.as_ref().is_some_and(|g| !g.same_boot && g.start > 0);
            return match booted_since && desired.autostart == Some(true) {
                true => vec![Step::Prepare, Step::Start, report(Phase::Running)],
                false if desired.ephemeral && desired.run.start > 0 => vec![Step::DeleteEphemeral],
                false => Vec::new(),
            };
        }
        (Phase::Failed, State::Stopped) => return Vec::new(),
        (Phase::Running, State::Running) | (Phase::Frozen, State::Frozen) => {}
        (Phase::Stopped | Phase::Failed | Phase::Frozen, State::Running) => steps.push(report(Phase::Running)),
        (Phase::Stopped | Phase::Failed | Phase::Running, State::Frozen) => steps.push(report(Phase::Frozen)),
    }
    if actual.guest.as_ref().is_some_and(|g| g.generation != desired.configuration) {
        // Limits reach a running guest at once; the rest waits for its next start.
        steps.insert(0, Step::Prepare);
    }
    steps
}

/// A guest that ran is gone without having been asked to.
fn ended(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let wanted = desired.run.intent == Intent::Running;
    let again = match actual.ended_with_host() {
        true => desired.autostart.unwrap_or(wanted),
        false => wanted && desired.autorestart,
    };
    match again {
        true => vec![Step::Prepare, Step::Start, report(Phase::Running)],
        false => stopped(desired),
    }
}

#[cfg(test)]
mod tests;
