//! Snapshots, copies and moves, case by case: what is refused, what waits for what, and what a late word may do.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::command::{ClusterCommand, MemberCommand};
use basalt_model::command::{Init, InstanceCommand, PoolCommand, ProfileCommand, SnapshotCommand};
use basalt_model::evacuation::{Leg, MARK, Mode, Order, Task, Trip, TripStep};
use basalt_model::instance::{
    CopyOf, Devices, Instance, Intent, Kind, MovePlan, Origin, Phase, Placement, Report, Run, Spec, StopMode, Target,
};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::secrets::Secrets;
use basalt_model::snapshot::Stage;
use basalt_model::{
    ClusterState, Command, Epoch, Fingerprint, Generation, InstanceId, InstanceName, MemberName, NodeId, PoolName,
    ProfileName, ProjectName, Rejected, SnapshotId, SnapshotName, Timestamp, invariant,
};
use uuid::Uuid;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn member(id: NodeId) -> Member {
    Member {
        id,
        name: MemberName::new(format!("node{id}")).unwrap(),
        certificate: Fingerprint::new("0".repeat(64)).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: String::new(),
        description: String::new(),
        groups: BTreeSet::new(),
        roles: BTreeSet::new(),
        config: BTreeMap::new(),
        announced: Announcement { feature_level: 2, ..Announcement::default() },
    }
}

fn in_pool(pool: &str) -> Devices {
    let root = [("type", "disk"), ("path", "/"), ("pool", pool)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    [("root".to_owned(), root.into())].into()
}

/// Two members, two pools, and an instance `a` that is made and stopped on the first.
struct World(ClusterState);

impl World {
    fn new() -> Self {
        let init =
            Init { cluster_id: Uuid::from_u128(7), secrets: Secrets::default(), member: member(A), at: Timestamp(1) };
        let mut world = World(ClusterState::default());
        world.ok(Command::Cluster(ClusterCommand::Init(Box::new(init))));
        world.0.members.insert(B, member(B));
        world.0.next_node = 3;
        for pool in ["p", "q"] {
            world.ok(Command::Pool(PoolCommand::Add(Pool {
                name: PoolName::new(pool).unwrap(),
                kind: PoolKind::Dir,
                description: String::new(),
                config: BTreeMap::new(),
                member_config: BTreeMap::new(),
                status: BTreeMap::new(),
                generation: Generation(1),
            })));
        }
        world.ok(Command::Profile(ProfileCommand::Update {
            project: ProjectName::default_project(),
            name: ProfileName::default_profile(),
            expect: None,
            description: String::new(),
            config: BTreeMap::new(),
            devices: in_pool("p"),
        }));
        world.create("a", Origin::Empty);
        world.report(id("a"), 1, 0);
        world
    }

    fn ok(&mut self, command: Command) {
        self.0.apply(&command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert_eq!(invariant::check(&self.0), Vec::<String>::new(), "{command:?}");
    }

    fn refused(&mut self, command: Command) -> Rejected {
        let before = self.0.clone();
        let why = self.0.apply(&command).unwrap_err();
        assert_eq!(self.0, before, "{command:?}");
        why
    }

    fn busy(&mut self, command: Command, because: &str) {
        let why = self.refused(command.clone());
        assert!(matches!(why, Rejected::Busy(_)) && why.to_string().contains(because), "{command:?}: {why}");
    }

    fn create(&mut self, name: &str, origin: Origin) {
        self.ok(Command::Instance(create(name, origin)));
        self.ok(Command::Instance(InstanceCommand::Place { id: id(name), node: A, epoch: Epoch(1) }));
    }

    fn report(&mut self, id: InstanceId, epoch: u64, request: u64) {
        let report = Report {
            epoch: Epoch(epoch),
            generation: Generation(1),
            phase: Phase::Stopped,
            made: true,
            request,
            reason: None,
            at: Timestamp(request + 1),
        };
        self.ok(Command::Instance(InstanceCommand::Report { id, report }));
    }

    fn snapshot(&mut self, number: u128) {
        self.ok(take(number));
        self.ok(taken(number));
    }

    fn get(&self, name: &str) -> &Instance {
        self.0.instances.get(&id(name)).unwrap()
    }

    fn plan(&self) -> MovePlan {
        let found = self.get("a").clone();
        MovePlan { target: Target::Any, project: found.project, name: found.name, spec: found.spec }
    }

    fn relocate(&self, to: NodeId, plan: MovePlan) -> Command {
        Command::Instance(InstanceCommand::Move { id: id("a"), to: Some(to), plan: Box::new(plan), expect: None })
    }
}

fn id(name: &str) -> InstanceId {
    InstanceId(Uuid::from_u128(u128::from(name.as_bytes()[0])))
}

fn shot(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

fn create(name: &str, origin: Origin) -> InstanceCommand {
    InstanceCommand::Create(Box::new(Instance {
        id: id(name),
        project: ProjectName::default_project(),
        name: InstanceName::new(name).unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin,
            description: String::new(),
            ephemeral: false,
            config: BTreeMap::new(),
            devices: Devices::new(),
            profiles: vec![ProfileName::default_profile()],
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    }))
}

fn take(number: u128) -> Command {
    let (name, at) = (SnapshotName::new(format!("s{number}")).unwrap(), Timestamp(5));
    let (instance, id) = (id("a"), shot(number));
    Command::Snapshot(SnapshotCommand::Create { instance, id, name, at, expires_at: Timestamp::NEVER })
}

fn taken(number: u128) -> Command {
    Command::Snapshot(SnapshotCommand::Taken { instance: id("a"), id: shot(number), epoch: Epoch(1), size: 1 })
}

fn remove(number: u128) -> Command {
    Command::Snapshot(SnapshotCommand::Delete { instance: id("a"), id: shot(number) })
}

fn forget(number: u128) -> Command {
    Command::Snapshot(SnapshotCommand::Forget { instance: id("a"), id: shot(number), epoch: Epoch(1) })
}

fn run(intent: Intent) -> Command {
    let stop = StopMode::default();
    Command::Instance(InstanceCommand::SetRun { id: id("a"), intent, restart: false, stop, at: Timestamp(1) })
}

fn restore(world: &World, number: u128) -> Command {
    let (spec, stop) = (Box::new(world.get("a").spec.clone()), StopMode::default());
    Command::Instance(InstanceCommand::Restore { id: id("a"), snapshot: shot(number), spec, stop })
}

fn landed(landing: u64) -> Command {
    Command::Instance(InstanceCommand::Landed { id: id("a"), landing: Epoch(landing), at: Timestamp(9) })
}

fn abort(landing: u64) -> Command {
    let reason = "no space".to_owned();
    Command::Instance(InstanceCommand::AbortMove { id: id("a"), landing: Epoch(landing), reason })
}

fn copy_of_a(snapshots: &[(u128, u128)], point: Option<u128>) -> Origin {
    let snapshots = snapshots.iter().map(|(old, new)| (shot(*old), shot(*new))).collect();
    Origin::Copy(Box::new(CopyOf { source: id("a"), point: point.map(shot), snapshots }))
}

#[test]
fn a_snapshot_that_is_gone_does_not_come_back() {
    let mut world = World::new();
    world.snapshot(1);
    world.ok(take(1));
    assert!(matches!(world.refused(forget(1)), Rejected::Busy(_)));
    world.ok(remove(1));
    // Its name is free before the home has come to it.
    let name = SnapshotName::new("s1").unwrap();
    let again =
        SnapshotCommand::Create { instance: id("a"), id: shot(9), name, at: Timestamp(6), expires_at: Timestamp(0) };
    world.ok(Command::Snapshot(again));
    world.ok(forget(1));
    world.ok(forget(1));
    assert!(matches!(world.refused(take(1)), Rejected::Stale(_)));
    // What is said of one that was doomed meanwhile changes nothing.
    world.ok(remove(9));
    let late = SnapshotCommand::Taken { instance: id("a"), id: shot(9), epoch: Epoch(1), size: 1 };
    world.ok(Command::Snapshot(late));
    assert_eq!(world.0.snapshots.get(&(id("a"), shot(9))).unwrap().stage, Stage::Doomed);
}

#[test]
fn a_restore_and_what_must_wait_for_it() {
    let mut world = World::new();
    world.snapshot(1);
    world.ok(run(Intent::Running));
    world.report(id("a"), 1, 1);
    world.ok(restore(&world, 1));
    let held = world.get("a").run;
    assert_eq!(
        (held.request, held.start, held.intent),
        (3, 2, Intent::Running),
        "one request to restore, one to start"
    );
    world.busy(remove(1), "being restored");
    world.busy(take(2), "being restored");
    let again = restore(&world, 1);
    world.busy(again, "being restored");
    world.report(id("a"), 1, 2);
    assert_eq!(world.get("a").pending_restore(), None);
    world.ok(take(2));
    let again = restore(&world, 1);
    world.busy(again, "being taken");
    world.ok(remove(1));
    let gone = restore(&world, 1);
    world.busy(gone, "not there");
}

#[test]
fn the_source_of_a_copy_stays_until_the_copy_is_made() {
    for made in [true, false] {
        let mut world = World::new();
        world.snapshot(1);
        world.snapshot(2);
        world.create("b", copy_of_a(&[(1, 11)], None));
        world.busy(run(Intent::Deleted), "copied to instance b");
        world.busy(remove(1), "copied");
        let back = restore(&world, 1);
        world.busy(back, "copied");
        let away = world.relocate(B, world.plan());
        world.busy(away, "copied");
        world.ok(remove(2));
        let coming = Command::Snapshot(SnapshotCommand::Delete { instance: id("b"), id: shot(11) });
        world.busy(coming, "still being copied");
        if made {
            world.report(id("b"), 1, 0);
            assert!(world.0.snapshots.get(&(id("b"), shot(11))).unwrap().is_ready());
        } else {
            let (stop, at) = (StopMode::default(), Timestamp(1));
            let intent = Intent::Deleted;
            let undo = InstanceCommand::SetRun { id: id("b"), intent, restart: false, stop, at };
            world.ok(Command::Instance(undo));
            world.ok(Command::Instance(InstanceCommand::Forget { id: id("b"), epoch: Epoch(1) }));
            assert_eq!(world.0.snapshots_of(id("b")).count(), 0);
        }
        world.ok(run(Intent::Deleted));
    }
}

#[test]
fn a_copy_that_failed_at_first_is_whole_when_it_is_made_after_all() {
    let mut world = World::new();
    world.snapshot(1);
    world.create("b", copy_of_a(&[(1, 11)], None));
    let failed = Report {
        epoch: Epoch(1),
        generation: Generation(1),
        phase: Phase::Failed,
        made: false,
        request: 0,
        reason: None,
        at: Timestamp(1),
    };
    world.ok(Command::Instance(InstanceCommand::Report { id: id("b"), report: failed }));
    let (stop, at) = (StopMode::default(), Timestamp(1));
    let again = InstanceCommand::SetRun { id: id("b"), intent: Intent::Running, restart: false, stop, at };
    world.ok(Command::Instance(again));
    world.report(id("b"), 1, 1);
    assert!(world.0.snapshots.get(&(id("b"), shot(11))).unwrap().is_ready());
}

#[test]
fn a_copy_of_what_is_not_there_is_refused() {
    let mut world = World::new();
    world.snapshot(1);
    world.ok(take(2));
    for origin in [copy_of_a(&[(2, 12)], None), copy_of_a(&[], Some(2)), copy_of_a(&[(1, 11), (1, 12)], None)] {
        world.refused(Command::Instance(create("b", origin)));
    }
    world.ok(run(Intent::Deleted));
    world.refused(Command::Instance(create("b", copy_of_a(&[], None))));
}

#[test]
fn a_move_has_one_commit_and_its_aborts_leave_all_as_it_was() {
    let mut world = World::new();
    world.snapshot(1);
    let away = world.relocate(B, world.plan());
    world.ok(away.clone());
    assert_eq!(world.get("a").placement.home(), Some((A, Epoch(1))), "until the commit");
    for command in [run(Intent::Running), run(Intent::Deleted), take(2), away.clone()] {
        world.busy(command, "being moved");
    }
    world.ok(abort(2));
    assert_eq!(world.get("a").placement, Placement::On { node: A, epoch: Epoch(1) });
    assert_eq!(world.get("a").errands.move_failed.as_deref(), Some("no space"));
    // The word of the first try comes too late, whatever it says.
    world.ok(away);
    assert!(matches!(world.refused(landed(2)), Rejected::Stale(_)));
    assert!(matches!(world.refused(abort(2)), Rejected::Stale(_)));
    world.ok(landed(3));
    world.ok(landed(3));
    assert!(matches!(world.refused(abort(3)), Rejected::Stale(_)));
    let moved = world.get("a");
    assert_eq!((moved.placement.home(), moved.made(), moved.settled()), (Some((B, Epoch(3))), true, true));
    assert_eq!(world.0.snapshots_of(id("a")).count(), 1);
    // What the old home still says is old.
    assert!(matches!(world.refused(taken(1)), Rejected::Stale(_)));
    world.ok(run(Intent::Running));
    let again = world.relocate(A, world.plan());
    world.busy(again, "must be stopped");
}

#[test]
fn a_move_whose_plan_no_longer_holds_is_aborted_at_its_commit() {
    let mut world = World::new();
    let mut plan = world.plan();
    plan.name = InstanceName::new("z").unwrap();
    world.ok(world.relocate(B, plan));
    world.create("z", Origin::Empty);
    world.ok(landed(2));
    assert_eq!(world.get("a").placement.home(), Some((A, Epoch(1))));
    assert!(world.get("a").errands.move_failed.as_ref().unwrap().contains("already exists"));
}

#[test]
fn without_bytes_to_carry_a_move_is_done_at_once() {
    let mut world = World::new();
    let mut plan = world.plan();
    plan.name = InstanceName::new("z").unwrap();
    world.ok(world.relocate(A, plan));
    assert_eq!((world.get("a").name.as_str(), world.get("a").placement.home()), ("z", Some((A, Epoch(1)))));
    // Another pool of the same member means bytes.
    let mut plan = world.plan();
    plan.spec.devices = in_pool("q");
    world.ok(world.relocate(A, plan));
    assert!(world.get("a").placement.landing_on(A).is_some());
}

#[test]
fn a_member_that_goes_takes_no_instance_with_it_that_was_on_its_way_there() {
    let mut world = World::new();
    world.ok(world.relocate(B, world.plan()));
    world.ok(Command::Member(MemberCommand::Remove { id: B, force: false }));
    assert_eq!(world.get("a").placement.home(), Some((A, Epoch(1))));
    let mut world = World::new();
    world.ok(world.relocate(B, world.plan()));
    world.ok(Command::Member(MemberCommand::Remove { id: A, force: true }));
    assert!(world.0.instances.is_empty() && world.0.snapshots.is_empty());
}

fn trip(leg: Leg) -> Trip {
    Trip { origin: A, target: Target::Any, starts: true, leg, order: Timestamp(9), failed: None }
}

fn order(id: NodeId, task: Task, at: u64) -> Command {
    Command::Member(MemberCommand::Order { id, order: Order { task, at: Timestamp(at) } })
}

fn step(expect: Option<Trip>, to: Option<Trip>, run: Option<Intent>) -> Command {
    let run = run.map(|intent| (intent, StopMode::default()));
    let step = Box::new(TripStep { expect, to, run, at: Timestamp(9) });
    Command::Instance(InstanceCommand::Trip { id: id("a"), step })
}

#[test]
fn a_step_of_a_trip_holds_only_for_the_state_that_it_was_planned_for() {
    let mut world = World::new();
    let mark = |world: &World| world.get("a").spec.config.get(MARK).cloned();
    let out = trip(Leg::Out { from: A, moves: true });
    assert!(matches!(world.refused(step(None, Some(out.clone()), None)), Rejected::Stale(_)), "nobody has ordered it");
    world.ok(order(A, Task::Empty(Mode::Own), 9));
    world.ok(step(None, Some(out.clone()), Some(Intent::Stopped)));
    assert_eq!((mark(&world).as_deref(), world.get("a").run.request), (Some("node1"), 1));
    assert!(matches!(world.refused(step(None, Some(out.clone()), None)), Rejected::Stale(_)));
    // Whatever the user writes there, it says where the instance belongs.
    let mut spec = world.get("a").spec.clone();
    spec.config.insert(MARK.into(), "elsewhere".into());
    world.ok(Command::Instance(InstanceCommand::UpdateSpec { id: id("a"), expect: None, spec: Box::new(spec) }));
    assert_eq!(mark(&world).as_deref(), Some("node1"));
    world.report(id("a"), 1, 1);
    world.ok(world.relocate(B, world.plan()));
    world.busy(step(Some(out.clone()), Some(trip(Leg::Rest)), None), "being moved");
    world.ok(landed(2));
    world.ok(step(Some(out), Some(trip(Leg::Rest)), None));
    assert_eq!(mark(&world).as_deref(), Some("node1"));
    // Its user moves it: where it goes, it belongs.
    world.ok(order(A, Task::Fill, 10));
    world.ok(world.relocate(A, world.plan()));
    assert_eq!((mark(&world), world.get("a").errands.trip.clone()), (None, None));
    world.ok(landed(3));
    assert_eq!(mark(&world), None, "though the plan had it");
}

#[test]
fn a_move_that_was_planned_for_another_generation_is_refused() {
    let mut world = World::new();
    let Command::Instance(InstanceCommand::Move { id, to, plan, .. }) = world.relocate(B, world.plan()) else {
        panic!("a move");
    };
    let moves = |expect| {
        let (plan, expect) = (plan.clone(), Some(Generation(expect)));
        Command::Instance(InstanceCommand::Move { id, to, plan, expect })
    };
    assert!(matches!(world.refused(moves(2)), Rejected::Changed { .. }));
    world.ok(moves(1));
}

#[test]
fn an_order_sets_the_duty_and_gives_way_to_the_next() {
    let mut world = World::new();
    let done = |at| Command::Member(MemberCommand::OrderDone { id: B, at: Timestamp(at) });
    world.ok(order(B, Task::Empty(Mode::Own), 5));
    assert_eq!(world.0.members.get(&B).unwrap().duty, Duty::Evacuated);
    world.ok(order(B, Task::Fill, 6));
    world.ok(done(5));
    let member = world.0.members.get(&B).unwrap();
    assert_eq!((member.duty, member.order.map(|o| o.at)), (Duty::Active, Some(Timestamp(6))), "that was another one");
    world.ok(done(6));
    assert_eq!(world.0.members.get(&B).unwrap().order, None);
}

fn remake(world: &World, origin: Origin, snapshots_too: bool) -> Command {
    let spec = Box::new(Spec { origin, ..world.get("a").spec.clone() });
    Command::Instance(InstanceCommand::Remake { id: id("a"), spec, snapshots_too, at: Timestamp(9), expect: None })
}

/// A copy `b` of what `a` is, with a snapshot of its own.
fn with_b() -> World {
    let mut world = World::new();
    world.create("b", Origin::Empty);
    world.report(id("b"), 1, 0);
    let name = SnapshotName::new("theirs").unwrap();
    let (instance, shot, at) = (id("b"), shot(50), Timestamp(5));
    let take = SnapshotCommand::Create { instance, id: shot, name, at, expires_at: Timestamp::NEVER };
    world.ok(Command::Snapshot(take));
    world.ok(Command::Snapshot(SnapshotCommand::Taken { instance, id: shot, epoch: Epoch(1), size: 1 }));
    world
}

fn copy_of_b() -> Origin {
    Origin::Copy(Box::new(CopyOf { source: id("b"), point: None, snapshots: vec![(shot(50), shot(51))] }))
}

#[test]
fn a_root_that_is_made_anew_has_an_epoch_of_its_own() {
    let mut world = with_b();
    world.snapshot(1);
    let lossy = remake(&world, Origin::Empty, false);
    world.busy(lossy, "has snapshots");
    let refresh = remake(&world, copy_of_b(), true);
    world.ok(refresh);
    let found = world.get("a").clone();
    assert_eq!(found.placement, Placement::On { node: A, epoch: Epoch(2) });
    assert!(found.remade() && !found.made() && !found.settled());
    assert_eq!(found.spec.origin, copy_of_b());
    // What it had is gone, and what comes is not there yet.
    let stages: Vec<_> = world.0.snapshots_of(id("a")).map(|s| (s.id, s.stage.clone())).collect();
    assert_eq!(stages, [(shot(51), Stage::Coming)]);
    assert!(matches!(world.refused(take(1)), Rejected::Stale(_)));
    // Nobody takes the source away, and the old home's word counts no more.
    let gone = SnapshotCommand::Delete { instance: id("b"), id: shot(50) };
    world.busy(Command::Snapshot(gone), "copied to instance a");
    let old = Report {
        epoch: Epoch(1),
        generation: Generation(1),
        phase: Phase::Stopped,
        made: true,
        request: 1,
        reason: None,
        at: Timestamp(9),
    };
    let old = Command::Instance(InstanceCommand::Report { id: id("a"), report: old });
    assert!(matches!(world.refused(old), Rejected::Stale(_)));
    let again = remake(&world, Origin::Empty, true);
    world.busy(again, "must be stopped");
    world.report(id("a"), 2, 1);
    assert!(world.get("a").made() && world.get("a").settled());
    assert!(world.0.snapshots.get(&(id("a"), shot(51))).unwrap().is_ready());
    assert!(world.0.copies.is_empty());
    // Once more, from nothing: no epoch comes twice.
    world.ok(Command::Snapshot(SnapshotCommand::Delete { instance: id("a"), id: shot(51) }));
    let again = remake(&world, Origin::Empty, true);
    world.ok(again);
    assert_eq!(world.get("a").placement, Placement::On { node: A, epoch: Epoch(3) });
}

#[test]
fn what_cannot_be_made_anew() {
    let mut world = with_b();
    let itself = remake(&world, copy_of_a(&[], None), true);
    assert!(matches!(world.refused(itself), Rejected::Invalid { field, .. } if field == "source"));
    let unknown = Origin::Image(Fingerprint::new("c".repeat(64)).unwrap());
    let unknown = remake(&world, unknown, true);
    assert!(matches!(world.refused(unknown), Rejected::NotFound { .. }));
    world.snapshot(1);
    world.ok(take(2));
    let busy = remake(&world, Origin::Empty, true);
    world.busy(busy, "snapshot taken");
    world.ok(taken(2));
    world.ok(run(Intent::Running));
    let starting = remake(&world, Origin::Empty, true);
    world.busy(starting, "must be stopped");
}

#[test]
fn a_remake_that_failed_is_tried_with_something_else() {
    let mut world = World::new();
    let first = remake(&world, Origin::Empty, false);
    world.ok(first);
    let failed = Report {
        epoch: Epoch(2),
        generation: Generation(2),
        phase: Phase::Failed,
        made: false,
        request: 1,
        reason: Some("no space".into()),
        at: Timestamp(9),
    };
    world.ok(Command::Instance(InstanceCommand::Report { id: id("a"), report: failed }));
    let second = remake(&world, Origin::Empty, false);
    world.ok(second);
    assert_eq!(world.get("a").errands.remake, Some(Epoch(3)));
}
