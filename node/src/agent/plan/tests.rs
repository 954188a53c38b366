use basalt_driver::{Found, State};
use basalt_model::instance::{Intent, Phase, Report, Restore, Run, StopMode};
use basalt_model::{Epoch, Generation, InstanceId, SnapshotId, Timestamp};

use super::{Actual, Desired, FoundVolume, SnapshotWish, Step, plan, plan_orphan};

fn id() -> InstanceId {
    "11111111-1111-4111-8111-111111111111".parse().unwrap()
}

fn wanted(intent: Intent, request: u64, start: u64) -> Desired {
    Desired {
        id: id(),
        epoch: Epoch(1),
        generation: Generation(1),
        configuration: Generation(1),
        run: Run { intent, request, start, stop: StopMode::default() },
        report: None,
        autostart: None,
        autorestart: false,
        ephemeral: false,
        remake: false,
        restore: None,
        snapshots: Vec::new(),
    }
}

fn reported(mut desired: Desired, phase: Phase, request: u64) -> Desired {
    desired.report = Some(Report {
        epoch: Epoch(1),
        generation: Generation(1),
        phase,
        made: true,
        request,
        reason: None,
        at: Timestamp(1),
    });
    desired
}

fn guest(state: State, start: u64) -> Found {
    Found {
        id: id(),
        epoch: Epoch(1),
        state,
        start,
        generation: Generation(1),
        pid: None,
        started_at: None,
        same_boot: true,
    }
}

fn host(guest: Option<Found>) -> Actual {
    Actual { guest, volume: Some(FoundVolume { epoch: Epoch(1), complete: true }), strays: false }
}

fn last_phase(steps: &[Step]) -> Option<Phase> {
    steps.iter().rev().find_map(|s| match s {
        Step::Report { phase, .. } => Some(*phase),
        Step::EnsureVolume
        | Step::Prepare
        | Step::Start
        | Step::Stop(_)
        | Step::Pause
        | Step::Resume
        | Step::DestroyGuest
        | Step::DestroyVolume
        | Step::TakeSnapshot(_)
        | Step::SnapshotTaken(_)
        | Step::SnapshotFailed(..)
        | Step::RemoveSnapshot(_)
        | Step::ForgetSnapshot(_)
        | Step::RestoreSnapshot(_)
        | Step::Restored(_)
        | Step::DestroyStrays
        | Step::DeleteEphemeral
        | Step::Forget => None,
    })
}

#[test]
fn a_new_instance_is_made_then_reported() {
    let steps = plan(&wanted(Intent::Stopped, 0, 0), &Actual::default());
    assert_eq!(steps[0], Step::EnsureVolume);
    assert_eq!(last_phase(&steps), Some(Phase::Stopped));
    let steps = plan(&wanted(Intent::Running, 1, 1), &Actual::default());
    assert_eq!(steps[..3], [Step::EnsureVolume, Step::Prepare, Step::Start]);
}

#[test]
fn a_half_made_volume_is_made_again_but_lost_data_is_not() {
    let half = Actual { guest: None, volume: Some(FoundVolume { epoch: Epoch(0), complete: false }), strays: false };
    assert_eq!(plan(&wanted(Intent::Stopped, 0, 0), &half)[0], Step::EnsureVolume);
    let lost = plan(&reported(wanted(Intent::Stopped, 0, 0), Phase::Stopped, 0), &Actual::default());
    assert_eq!(last_phase(&lost), Some(Phase::Failed));
    assert!(!lost.contains(&Step::EnsureVolume));
}

#[test]
fn a_root_that_is_made_anew_takes_the_place_of_that_of_an_earlier_epoch() {
    let volume = |epoch: u64, complete| Some(FoundVolume { epoch: Epoch(epoch), complete });
    let actual = |guest, volume| Actual { guest, volume, strays: false };
    let mut desired = Desired { epoch: Epoch(2), remake: true, ..wanted(Intent::Stopped, 3, 1) };
    // The guest of before goes first, whatever is left of the volume.
    assert_eq!(plan(&desired, &actual(Some(guest(State::Stopped, 1)), volume(1, true))), [Step::DestroyGuest]);
    for left in [volume(1, true), volume(1, false), volume(2, false), None] {
        let steps = plan(&desired, &actual(None, left));
        assert_eq!(steps[0], Step::EnsureVolume, "{left:?}");
        assert_eq!(last_phase(&steps), Some(Phase::Stopped));
    }
    // Killed after it was made: it is told, and never made twice.
    let told = [Step::Report { phase: Phase::Stopped, made: true, reason: None }];
    assert_eq!(plan(&desired, &actual(None, volume(2, true))), told);
    // What was asked for later is not yet known here.
    assert_eq!(plan(&desired, &actual(None, volume(3, true))), []);
    // One that failed waits until something is asked for.
    let failed = |request| Report {
        epoch: Epoch(2),
        generation: Generation(1),
        phase: Phase::Failed,
        made: false,
        request,
        reason: None,
        at: Timestamp(1),
    };
    desired.report = Some(failed(3));
    assert_eq!(plan(&desired, &actual(None, volume(1, true))), []);
    desired.report = Some(failed(2));
    assert_eq!(plan(&desired, &actual(None, volume(1, true)))[0], Step::EnsureVolume);
    // Once it was made, a volume of an earlier epoch is no reason to make another one.
    desired.report = Some(Report { made: true, phase: Phase::Stopped, ..failed(3) });
    assert_eq!(last_phase(&plan(&desired, &actual(None, volume(1, true)))), Some(Phase::Failed));
}

#[test]
fn settled_and_as_wanted_means_nothing_to_do() {
    let desired = reported(wanted(Intent::Running, 3, 2), Phase::Running, 3);
    assert_eq!(plan(&desired, &host(Some(guest(State::Running, 2)))), []);
    let desired = reported(wanted(Intent::Stopped, 4, 2), Phase::Stopped, 4);
    assert_eq!(plan(&desired, &host(None)), []);
}

#[test]
fn a_restart_stops_the_old_guest_first() {
    let desired = reported(wanted(Intent::Running, 4, 3), Phase::Running, 3);
    let steps = plan(&desired, &host(Some(guest(State::Running, 2))));
    assert!(matches!(steps[..], [Step::Stop(_), Step::Prepare, Step::Start, Step::Report { .. }]));
}

#[test]
fn a_start_whose_report_was_lost_is_only_reported() {
    let desired = reported(wanted(Intent::Running, 4, 3), Phase::Stopped, 3);
    let steps = plan(&desired, &host(Some(guest(State::Running, 3))));
    assert!(matches!(steps[..], [Step::Report { phase: Phase::Running, .. }]));
}

#[test]
fn a_guest_that_ends_by_itself_stays_down_unless_autorestart() {
    let mut desired = reported(wanted(Intent::Running, 1, 1), Phase::Running, 1);
    let actual = host(Some(guest(State::Stopped, 1)));
    assert_eq!(last_phase(&plan(&desired, &actual)), Some(Phase::Stopped));
    desired.autorestart = true;
    assert!(plan(&desired, &actual).contains(&Step::Start));
}

#[test]
fn a_host_that_booted_restores_the_last_state() {
    let mut desired = reported(wanted(Intent::Running, 1, 1), Phase::Running, 1);
    let mut before = guest(State::Stopped, 1);
    before.same_boot = false;
    let actual = host(Some(before));
    assert!(plan(&desired, &actual).contains(&Step::Start));
    desired.autostart = Some(false);
    assert_eq!(last_phase(&plan(&desired, &actual)), Some(Phase::Stopped));
    let mut stopped = reported(wanted(Intent::Stopped, 2, 1), Phase::Stopped, 2);
    assert_eq!(plan(&stopped, &actual), []);
    stopped.autostart = Some(true);
    assert!(plan(&stopped, &actual).contains(&Step::Start));
}

#[test]
fn a_changed_configuration_reaches_a_running_guest() {
    let mut desired = reported(wanted(Intent::Running, 1, 1), Phase::Running, 1);
    desired.configuration = Generation(2);
    assert_eq!(plan(&desired, &host(Some(guest(State::Running, 1)))), [Step::Prepare]);
    desired.run.intent = Intent::Stopped;
    let desired = reported(desired, Phase::Stopped, 1);
    assert_eq!(plan(&desired, &host(Some(guest(State::Stopped, 1)))), [], "the next start prepares it anyway");
}

#[test]
fn nothing_runs_under_another_epoch() {
    let desired = wanted(Intent::Running, 1, 1);
    let mut newer = guest(State::Running, 1);
    newer.epoch = Epoch(2);
    assert_eq!(plan(&desired, &host(Some(newer))), []);
    let mut later = wanted(Intent::Running, 1, 1);
    later.epoch = Epoch(2);
    let steps = plan(&later, &host(Some(guest(State::Running, 1))));
    assert_eq!(steps, [Step::DestroyGuest]);
}

#[test]
fn deletion_removes_everything_then_forgets() {
    let desired = reported(wanted(Intent::Deleted, 2, 1), Phase::Running, 1);
    let actual = host(Some(guest(State::Running, 1)));
    assert_eq!(plan(&desired, &actual), [Step::DestroyGuest, Step::DestroyVolume, Step::Forget]);
    assert_eq!(plan_orphan(&actual), [Step::DestroyGuest, Step::DestroyVolume]);
    assert_eq!(plan_orphan(&Actual::default()), []);
}

#[test]
fn an_ephemeral_instance_vanishes_after_it_has_run() {
    let mut desired = reported(wanted(Intent::Running, 1, 1), Phase::Running, 1);
    desired.ephemeral = true;
    let steps = plan(&desired, &host(Some(guest(State::Stopped, 1))));
    assert_eq!(steps.last(), Some(&Step::DeleteEphemeral));
    let mut fresh = wanted(Intent::Stopped, 0, 0);
    fresh.ephemeral = true;
    assert!(!plan(&fresh, &Actual::default()).contains(&Step::DeleteEphemeral));
}

/// Every intent × state × settled pair: the plan never starts what is not wanted to run, and a plan that is carried
/// out leaves nothing to do.
#[test]
fn carried_out_plans_leave_nothing_to_do() {
    let states = [None, Some(State::Stopped), Some(State::Running), Some(State::Frozen)];
    for intent in [Intent::Stopped, Intent::Running, Intent::Frozen] {
        for state in states {
            for held in [None, Some(Phase::Stopped), Some(Phase::Running), Some(Phase::Frozen), Some(Phase::Failed)] {
                let mut desired = wanted(intent, 5, 2);
                if let Some(phase) = held {
                    desired = reported(desired, phase, 4);
                }
                let mut actual = host(state.map(|s| guest(s, 1)));
                for step in plan(&desired, &actual) {
                    perform(&step, &mut desired, &mut actual);
                }
                assert_eq!(plan(&desired, &actual), [], "{intent:?} {state:?} {held:?}");
            }
        }
    }
}

fn perform(step: &Step, desired: &mut Desired, actual: &mut Actual) {
    let mut set = |state| actual.guest = Some(guest(state, desired.run.start));
    match step {
        Step::EnsureVolume => actual.volume = Some(FoundVolume { epoch: Epoch(1), complete: true }),
        Step::Start | Step::Resume => set(State::Running),
        Step::Stop(_) => set(State::Stopped),
        Step::Pause => set(State::Frozen),
        Step::DestroyGuest => actual.guest = None,
        Step::DestroyVolume => actual.volume = None,
        Step::Prepare
        | Step::TakeSnapshot(_)
        | Step::SnapshotTaken(_)
        | Step::SnapshotFailed(..)
        | Step::RemoveSnapshot(_)
        | Step::ForgetSnapshot(_)
        | Step::RestoreSnapshot(_)
        | Step::Restored(_)
        | Step::DestroyStrays
        | Step::DeleteEphemeral
        | Step::Forget => {}
        Step::Report { phase, .. } => {
            let request = desired.run.request;
            *desired = reported(desired.clone(), *phase, request);
        }
    }
}

fn snapshot() -> SnapshotId {
    "11111111-1111-4111-8111-222222222222".parse().unwrap()
}

#[test]
fn a_snapshot_is_taken_before_a_later_request_and_removed_after_all_else() {
    let mut desired = reported(wanted(Intent::Running, 4, 3), Phase::Stopped, 3);
    desired.snapshots = vec![SnapshotWish::Remove(snapshot()), SnapshotWish::Take(snapshot())];
    let steps = plan(&desired, &host(None));
    assert_eq!(steps, [Step::TakeSnapshot(snapshot()), Step::SnapshotTaken(snapshot())]);
    desired.snapshots.pop();
    assert!(plan(&desired, &host(None)).contains(&Step::Start));
    let desired =
        Desired { snapshots: desired.snapshots, ..reported(wanted(Intent::Stopped, 3, 3), Phase::Stopped, 3) };
    let steps = plan(&desired, &host(None));
    assert_eq!(steps, [Step::RemoveSnapshot(snapshot()), Step::ForgetSnapshot(snapshot())]);
}

#[test]
fn a_restore_is_settled_before_the_guest_starts_again() {
    let restore = Restore { snapshot: snapshot(), request: 5 };
    let mut desired = reported(wanted(Intent::Running, 6, 4), Phase::Running, 4);
    desired.restore = Some(restore);
    let steps = plan(&desired, &host(Some(guest(State::Running, 3))));
    let back = [Step::RestoreSnapshot(snapshot()), Step::Restored(restore)];
    assert_eq!((&steps[0], &steps[1..]), (&Step::Stop(StopMode::default()), &back[..]));
    // Killed after the stop: the rest is done, and nothing is started.
    assert_eq!(plan(&desired, &host(Some(guest(State::Stopped, 3)))), back);
    // Killed in the middle of the restore itself.
    let half = Actual { guest: None, volume: Some(FoundVolume { epoch: Epoch(0), complete: false }), strays: false };
    assert_eq!(plan(&desired, &half), back);
    desired.restore = None;
    desired = reported(desired, Phase::Stopped, 5);
    assert_eq!(plan(&desired, &host(Some(guest(State::Stopped, 3))))[..2], [Step::Prepare, Step::Start]);
}

#[test]
fn who_waits_for_a_snapshot_of_a_lost_volume_is_told() {
    let mut desired = reported(wanted(Intent::Stopped, 1, 1), Phase::Failed, 1);
    desired.snapshots = vec![SnapshotWish::Take(snapshot())];
    assert!(matches!(plan(&desired, &Actual::default())[..], [Step::SnapshotFailed(..)]));
    // A view that is older than the host knows nothing: leave it alone.
    let newer = Actual { guest: None, volume: Some(FoundVolume { epoch: Epoch(2), complete: true }), strays: false };
    assert_eq!(plan(&desired, &newer), []);
}
