//! The agent of one member: the real planner, its plans carried out one effect at a time, so that it can be killed
//! between any two. What is here mirrors `basalt_node::agent::{task, execute}`, which do the same with real drivers.

use basalt_driver::State;
use basalt_model::command::{InstanceCommand, PoolCommand, SnapshotCommand};
use basalt_model::instance::{Intent, Move, Origin, Phase, Placement, Report, StopMode};
use basalt_model::pool::PoolStatus;
use basalt_model::{Command, InstanceId, NodeId, Rejected, Timestamp};
use basalt_node::agent::desired::desired;
use basalt_node::agent::plan::{self, Desired, Step};

use super::log::{Answer, Owner};
use super::node::Node;
use super::world::{World, pool};
use super::{landing, oracle};

/// An instance that is being worked on.
#[derive(Debug)]
pub(super) struct Task {
    /// `None` for something that has no home here.
    wanted: Option<Desired>,
    steps: Vec<Step>,
    next: usize,
    /// The cluster was told something and has not answered.
    waits: bool,
    /// A step failed: once that is told, the pass is over.
    ends: bool,
    /// A move that is to end here; it has no steps of the planner's.
    pub(super) landing: Option<Box<Move>>,
}

/// A step that did not work: what to report.
struct Trouble {
    phase: Phase,
    made: bool,
    reason: String,
}

/// One move of the agent of `at`: whatever instance it picks.
pub(super) fn act(world: &mut World, at: NodeId) -> Result<(), String> {
    if !world.nodes[&at].caught_up && !catch_up(world, at) {
        return Ok(());
    }
    say_how_pools_are(world, at);
    let ids = concerns(&world.nodes[&at]);
    let Some(id) = world.pick(&ids) else { return Ok(()) };
    advance(world, at, id)
}

/// Everything that is here or ought to be.
pub(super) fn concerns(node: &Node) -> Vec<InstanceId> {
    let mut ids: Vec<InstanceId> = node.replica.state.concerning(node.id).map(|i| i.id).collect();
    ids.extend(node.host.ids().chain(node.tasks.keys().copied()));
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// One effect for one instance, or a fresh plan for it.
pub(super) fn advance(world: &mut World, at: NodeId, id: InstanceId) -> Result<(), String> {
    match world.node(at).tasks.get(&id) {
        Some(task) if task.waits => Ok(()),
        Some(task) if task.landing.is_some() => landing::step(world, at, id),
        Some(_) => step(world, at, id),
        None => {
            look(world, at, id);
            Ok(())
        }
    }
}

/// A linearizable read: the replica catches up with what is committed now. `false` when no quorum answers.
fn catch_up(world: &mut World, at: NodeId) -> bool {
    if !world.connected(at) || world.mishap(10) {
        return false;
    }
    super::act::apply_all(world, at).is_ok() && {
        world.node(at).caught_up = true;
        true
    }
}

fn say_how_pools_are(world: &mut World, at: NodeId) {
    let told = |node: &Node| {
        let pool = node.replica.state.pools.get(&pool());
        pool.is_none_or(|p| p.status.contains_key(&at)) || !node.replica.state.members.contains_key(&at)
    };
    if told(&world.nodes[&at]) || world.log.waits(Owner::Background(at)) {
        return;
    }
    let status = PoolStatus::Ready { total: 100 << 30 };
    let command = Command::Pool(PoolCommand::Status { name: pool(), node: at, status });
    world.propose(Owner::Background(at), at, command);
}

/// What is wanted against what is.
fn look(world: &mut World, at: NodeId, id: InstanceId) {
    let node = &world.nodes[&at];
    let view = &node.replica.state;
    let actual = node.host.actual(id);
    if let Some(on_its_way) = view.instances.get(&id).and_then(|i| i.placement.moving()) {
        if on_its_way.to == Some(at) {
            let landing = Some(Box::new(on_its_way.clone()));
            let task = Task { wanted: None, steps: Vec::new(), next: 0, waits: false, ends: false, landing };
            world.node(at).tasks.insert(id, task);
            return;
        }
        if on_its_way.from == at {
            return;
        }
    }
    let wanted = view.instances.get(&id).and_then(|i| desired(view, i, at, true));
    let steps = match &wanted {
        Some(wanted) => plan::plan(wanted, &actual),
        None => {
            let steps = plan::plan_orphan(&actual);
            // Only a quorum may say that it has no home here.
            if !steps.is_empty() && (!catch_up(world, at) || at_home(world, at, id)) {
                return;
            }
            steps
        }
    };
    if !steps.is_empty() {
        world.note(|| format!("{at} plans for {id}: {steps:?}"));
        world.node(at).tasks.insert(id, Task { wanted, steps, next: 0, waits: false, ends: false, landing: None });
    }
}

fn at_home(world: &World, at: NodeId, id: InstanceId) -> bool {
    world.nodes[&at].replica.state.concerning(at).any(|i| i.id == id)
}

/// The next step of a pass.
fn step(world: &mut World, at: NodeId, id: InstanceId) -> Result<(), String> {
    let node = world.node(at);
    let Some(task) = node.tasks.get(&id) else { return Ok(()) };
    let (Some(step), wanted) = (task.steps.get(task.next).cloned(), task.wanted.clone()) else {
        node.tasks.remove(&id);
        return Ok(());
    };
    let Some(wanted) = wanted else {
        destroy(world, at, id, &step);
        world.node(at).tasks.get_mut(&id).expect("it was there").next += 1;
        return Ok(());
    };
    if node.replica.state.instances.get(&id).is_none_or(|i| i.placement.moving().is_some()) {
        node.tasks.remove(&id);
        return Ok(());
    }
    match &step {
        Step::Report { phase, made, reason } => {
            let reason = reason.clone().unwrap_or_default();
            tell(world, at, &wanted, Trouble { phase: *phase, made: *made, reason });
        }
        Step::Restored(restore) => {
            let trouble = Trouble { phase: Phase::Stopped, made: true, reason: String::new() };
            settle(world, at, &wanted, restore.request, trouble);
        }
        Step::Forget => {
            ask(world, at, id, Command::Instance(InstanceCommand::Forget { id, epoch: wanted.epoch }));
        }
        Step::DeleteEphemeral => {
            world.client.gone(id);
            let (intent, stop, now) = (Intent::Deleted, StopMode::default(), world.clock(at));
            let delete = InstanceCommand::SetRun { id, intent, restart: false, stop, at: now };
            ask(world, at, id, Command::Instance(delete));
        }
        Step::DestroyStrays => return Err("there is only one pool".into()),
        Step::TakeSnapshot(_)
        | Step::SnapshotTaken(_)
        | Step::SnapshotFailed(..)
        | Step::RemoveSnapshot(_)
        | Step::ForgetSnapshot(_) => snapshot_step(world, at, &wanted, &step)?,
        Step::EnsureVolume
        | Step::Prepare
        | Step::Start
        | Step::Stop(_)
        | Step::Pause
        | Step::Resume
        | Step::RestoreSnapshot(_)
        | Step::DestroyGuest
        | Step::DestroyVolume => match effect(world, at, &wanted, &step)? {
            Ok(true) => world.node(at).tasks.get_mut(&id).expect("it was there").next += 1,
            Ok(false) => {}
            Err(trouble) => {
                world.count("failed steps");
                world.note(|| format!("{at}: {step:?} of {id} failed: {}", trouble.reason));
                if wanted.run.intent == Intent::Deleted {
                    world.node(at).tasks.remove(&id);
                } else {
                    world.node(at).tasks.get_mut(&id).expect("it was there").ends = true;
                    tell(world, at, &wanted, trouble);
                }
            }
        },
    }
    Ok(())
}

/// One step about a snapshot: on the host, or told to the cluster.
fn snapshot_step(world: &mut World, at: NodeId, wanted: &Desired, step: &Step) -> Result<(), String> {
    let (instance, epoch) = (wanted.id, wanted.epoch);
    let fails = world.mishap(5);
    world.note(|| format!("{at} does {step:?} for {instance}"));
    let next = |world: &mut World| world.node(at).tasks.get_mut(&instance).expect("it was there").next += 1;
    match step {
        Step::TakeSnapshot(id) if fails => {
            world.node(at).tasks.get_mut(&instance).expect("it was there").ends = true;
            let failed = SnapshotCommand::Failed { instance, id: *id, epoch, reason: "is full".into() };
            ask(world, at, instance, Command::Snapshot(failed));
        }
        Step::TakeSnapshot(id) => {
            world.count("snapshots");
            world.node(at).host.take_snapshot(instance, *id)?;
            next(world);
        }
        Step::SnapshotTaken(id) => {
            let taken = SnapshotCommand::Taken { instance, id: *id, epoch, size: 1 };
            ask(world, at, instance, Command::Snapshot(taken));
        }
        Step::SnapshotFailed(id, why) => {
            let failed = SnapshotCommand::Failed { instance, id: *id, epoch, reason: (*why).to_owned() };
            ask(world, at, instance, Command::Snapshot(failed));
        }
        Step::RemoveSnapshot(_) if fails => {
            world.node(at).tasks.remove(&instance);
        }
        Step::RemoveSnapshot(id) => {
            if let Some(volume) = world.node(at).host.volumes.get_mut(&instance) {
                volume.snapshots.remove(id);
            }
            next(world);
        }
        Step::ForgetSnapshot(id) => {
            let forget = SnapshotCommand::Forget { instance, id: *id, epoch };
            ask(world, at, instance, Command::Snapshot(forget));
        }
        other => return Err(format!("{other:?} is no step about a snapshot")),
    }
    Ok(())
}

/// One step on the host: `Ok(true)` when it is done, `Ok(false)` when there is more of it to do.
fn effect(world: &mut World, at: NodeId, wanted: &Desired, step: &Step) -> Result<Result<bool, Trouble>, String> {
    let id = wanted.id;
    let made = wanted.report.as_ref().is_some_and(|r| r.made);
    let trouble = |made, phase| move |reason: String| Trouble { phase, made, reason };
    world.note(|| format!("{at} does {step:?} for {id}"));
    let fails = world.mishap(3);
    Ok(match step {
        Step::EnsureVolume if fails || !image_is_there(world, at, id) => {
            Err(trouble(false, Phase::Failed)("the image is not to be had".into()))
        }
        Step::EnsureVolume => {
            oracle::may_make_volume(world, at, id)?;
            landing::make_volume(world, at, wanted).map_err(trouble(false, Phase::Failed))
        }
        Step::Prepare | Step::Start if fails => Err(trouble(true, Phase::Failed)("the host is out of luck".into())),
        Step::Prepare => world.node(at).host.prepare(wanted).map(|()| true).map_err(trouble(true, Phase::Failed)),
        Step::Start => {
            oracle::may_start(world, at, wanted)?;
            world.count("starts");
            world.ran.insert(id);
            let now = world.now;
            world.node(at).host.start(wanted, now).map(|()| true).map_err(trouble(true, Phase::Failed))
        }
        Step::Stop(mode) => {
            oracle::may_stop(world, at, wanted)?;
            let stubborn = world.mishap(15);
            let stopped = world.node(at).host.stop(id, *mode, stubborn);
            stopped.map(|()| true).map_err(trouble(true, Phase::Running))
        }
        Step::Pause => {
            let paused = world.node(at).host.set_state(id, State::Running, State::Frozen);
            paused.map(|()| true).map_err(trouble(true, Phase::Running))
        }
        Step::Resume => {
            let resumed = world.node(at).host.set_state(id, State::Frozen, State::Running);
            resumed.map(|()| true).map_err(trouble(true, Phase::Frozen))
        }
        Step::RestoreSnapshot(_) if fails => Err(trouble(true, Phase::Failed)("the snapshot cannot be read".into())),
        Step::RestoreSnapshot(snapshot) => {
            oracle::may_restore(world, at, id, *snapshot)?;
            world.count("restores");
            world.node(at).host.restore(id, *snapshot).map(|()| true).map_err(trouble(true, Phase::Failed))
        }
        Step::DestroyGuest | Step::DestroyVolume if fails => Err(trouble(made, Phase::Failed)("is busy".into())),
        Step::DestroyGuest | Step::DestroyVolume => {
            destroy(world, at, id, step);
            Ok(true)
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
        | Step::Report { .. } => Ok(true),
    })
}

fn destroy(world: &mut World, at: NodeId, id: InstanceId, step: &Step) {
    let host = &mut world.node(at).host;
    match step {
        Step::DestroyGuest => {
            host.guests.remove(&id);
            world.planted.remove(&(id, at));
        }
        Step::DestroyVolume => {
            host.volumes.remove(&id);
        }
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

fn image_is_there(world: &World, at: NodeId, id: InstanceId) -> bool {
    let view = &world.nodes[&at].replica.state;
    view.instances.get(&id).is_none_or(|i| match &i.spec.origin {
        Origin::Empty => true,
        Origin::Image(fingerprint) => view.image_with(fingerprint).is_some(),
        Origin::Copy(_) => true,
    })
}

fn tell(world: &mut World, at: NodeId, wanted: &Desired, trouble: Trouble) {
    settle(world, at, wanted, wanted.run.request, trouble);
}

fn settle(world: &mut World, at: NodeId, wanted: &Desired, request: u64, trouble: Trouble) {
    let after_held = wanted.report.as_ref().map_or(Timestamp::NEVER, |r| Timestamp(r.at.0 + 1));
    let report = Report {
        epoch: wanted.epoch,
        generation: wanted.generation,
        phase: trouble.phase,
        made: trouble.made,
        request,
        reason: Some(trouble.reason).filter(|reason| !reason.is_empty()),
        at: world.clock(at).max(after_held),
    };
    ask(world, at, wanted.id, Command::Instance(InstanceCommand::Report { id: wanted.id, report }));
}

pub(super) fn ask(world: &mut World, at: NodeId, id: InstanceId, command: Command) {
    world.node(at).tasks.get_mut(&id).expect("only a task asks").waits = true;
    world.propose(Owner::Task(at, id), at, command);
}

/// The cluster has answered a task: a refusal because the state has moved on is fine, the next look plans afresh.
pub(super) fn answered(node: &mut Node, id: InstanceId, answer: &Answer) {
    let Some(task) = node.tasks.get_mut(&id) else { return };
    match answer {
        // After every word about a move it is looked again.
        _ if task.landing.is_some() => {
            node.tasks.remove(&id);
        }
        Answer::Applied | Answer::Rejected(Rejected::Stale(_) | Rejected::NotFound { .. }) if !task.ends => {
            task.waits = false;
            task.next += 1;
        }
        Answer::Applied | Answer::Rejected(_) | Answer::Failed | Answer::Unknown => {
            node.tasks.remove(&id);
        }
    }
}

/// Whether the agent of this node has nothing to do.
pub(super) fn idle(node: &Node) -> bool {
    let view = &node.replica.state;
    node.tasks.is_empty()
        && concerns(node).into_iter().all(|id| {
            let actual = node.host.actual(id);
            match view.instances.get(&id).and_then(|i| desired(view, i, node.id, true)) {
                None if view.concerning(node.id).any(|i| i.id == id) => true,
                Some(wanted) => plan::plan(&wanted, &actual).is_empty(),
                None => plan::plan_orphan(&actual).is_empty(),
            }
        })
}

/// Whether it waits for a home and has not been refused one.
pub(super) fn waits_for_home(placement: &Placement) -> bool {
    matches!(placement, Placement::Unplaced { refused: None })
}
