//! The users: they ask random members for random things, ask again when no answer comes, and remember what they were
//! promised.

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::command::{ImageCommand, InstanceCommand, MemberCommand, ProjectCommand, SnapshotCommand};
use basalt_model::evacuation::{Mode, Order, Task};
use basalt_model::image::{Format, Image};
use basalt_model::instance::{
    CopyOf, Instance, Intent, Kind, MovePlan, Origin, Phase, Placement, Run, Spec, StopMode, Target,
};
use basalt_model::member::Duty;
use basalt_model::project::Project;
use basalt_model::snapshot::{Snapshot, Stage};
use basalt_model::{
    Command, Fingerprint, Generation, ImageKey, InstanceId, InstanceName, MemberName, NodeId, ProfileName, ProjectName,
    SnapshotId, SnapshotName, Timestamp,
};
use rand::Rng;

use super::act;
use super::log::{Answer, Owner};
use super::world::World;

/// How often a creation is asked for again when no answer comes.
const TRIES: u8 = 4;
/// How many instances there are at most.
const CROWD: usize = 9;

/// What the users know of an instance of theirs.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// Its creation was acknowledged.
    pub(super) promised: bool,
    /// Somebody may have deleted it.
    pub(super) gone: bool,
    /// The last of its edits that was acknowledged.
    pub(super) marker: u64,
    /// It may have gone back to an earlier configuration: edits of it may be lost.
    pub(super) restored: bool,
}

#[derive(Debug, Clone)]
enum Goal {
    Create(InstanceId),
    Edit(InstanceId, u64),
    Image(Fingerprint, NodeId),
    Token(NodeId),
    Other,
}

#[derive(Debug, Clone)]
struct Op {
    goal: Goal,
    tries: u8,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) known: BTreeMap<InstanceId, Known>,
    /// Images whose upload was acknowledged and that nobody has ever asked to remove, with their holder.
    pub(super) images: BTreeMap<Fingerprint, NodeId>,
    unwanted: BTreeSet<Fingerprint>,
    ops: BTreeMap<u64, Op>,
    next: u64,
}

impl Client {
    /// From now on nobody is surprised if this instance is not there.
    pub(super) fn gone(&mut self, id: InstanceId) {
        self.known.entry(id).or_default().gone = true;
    }

    pub(super) fn idle(&self) -> bool {
        self.ops.is_empty()
    }
}

fn ask(world: &mut World, goal: Goal, command: Command) {
    let up = world.up();
    let Some(at) = world.pick(&up) else { return };
    world.client.next += 1;
    let op = world.client.next;
    world.client.ops.insert(op, Op { goal, tries: 0 });
    world.count("requests");
    world.propose(Owner::Client(op), at, command);
}

/// What an answer means to the users.
pub(super) fn answered(world: &mut World, op: u64, command: &Command, answer: &Answer) {
    let Some(Op { goal, tries }) = world.client.ops.remove(&op) else { return };
    match (goal, answer) {
        (Goal::Create(id), Answer::Applied) => world.client.known.entry(id).or_default().promised = true,
        (Goal::Create(id), Answer::Failed | Answer::Unknown) if tries < TRIES => {
            let up = world.up();
            if let Some(at) = world.pick(&up) {
                world.client.ops.insert(op, Op { goal: Goal::Create(id), tries: tries + 1 });
                world.propose(Owner::Client(op), at, command.clone());
            }
        }
        (Goal::Edit(id, marker), Answer::Applied) => {
            let known = world.client.known.entry(id).or_default();
            known.marker = known.marker.max(marker);
        }
        (Goal::Image(fingerprint, holder), Answer::Applied) if !world.client.unwanted.contains(&fingerprint) => {
            world.client.images.insert(fingerprint, holder);
        }
        (Goal::Token(id), Answer::Applied) => {
            let now = Timestamp(world.now);
            ask(world, Goal::Other, act::join_commands(id, now).1);
        }
        (Goal::Create(_) | Goal::Edit(..) | Goal::Image(..) | Goal::Token(_) | Goal::Other, _) => {}
    }
}

/// A random wish.
pub(super) fn act(world: &mut World) -> Result<(), String> {
    let up = world.up();
    let Some(at) = world.pick(&up) else { return Ok(()) };
    match world.rng.random_range(0..100) {
        0..28 => create(world, at),
        28..58 => run(world, at),
        58..70 => snapshot(world, at),
        70..76 => edit(world, at),
        76..80 => relocate(world, at),
        80..84 => rename(world, at),
        84..88 => add_image(world),
        88..90 => remove_image(world, at),
        90..92 => add_project(world),
        92..95 => tidy(world, at),
        95..98 => maintain(world),
        _ => leave(world, at),
    }
    Ok(())
}

/// A machine wants to become a member.
pub(super) fn join(world: &mut World) -> Result<(), String> {
    if world.log.head().members.len() < 5 {
        let id = NodeId(world.log.head().next_node);
        let now = Timestamp(world.now);
        ask(world, Goal::Token(id), act::join_commands(id, now).0);
    }
    Ok(())
}

fn name(world: &mut World) -> InstanceName {
    let name = world.pick(&["web-1", "web-2", "web-3", "db", "mail", "ci", "git", "vpn"]).expect("there are some");
    InstanceName::new(name).expect("a valid name")
}

fn fingerprint(by: u32) -> Fingerprint {
    Fingerprint::new(format!("{by:064x}")).expect("a valid fingerprint")
}

fn create(world: &mut World, at: NodeId) {
    if world.nodes[&at].replica.state.instances.len() >= CROWD {
        return;
    }
    let id = InstanceId(uuid::Uuid::from_u128(u128::from(world.rng.random::<u64>())));
    let mut config = BTreeMap::new();
    for (key, value, percent) in
        [("limits.memory", "1GiB", 40), ("boot.autorestart", "true", 30), ("boot.autostart", "true", 10)]
    {
        if world.chance(percent) {
            config.insert(key.to_owned(), value.to_owned());
        }
    }
    let origin = origin(world, at);
    let target = match world.chance(15) {
        true => {
            Target::Member(MemberName::new(format!("node{}", world.rng.random_range(1..=4))).expect("a valid name"))
        }
        false => Target::Any,
    };
    let instance = Instance {
        id,
        project: ProjectName::default_project(),
        name: name(world),
        created_at: Timestamp(world.now),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin,
            description: String::new(),
            ephemeral: world.chance(15),
            config,
            devices: BTreeMap::new(),
            profiles: vec![ProfileName::default_profile()],
        },
        target,
        run: Run { intent: if world.chance(60) { Intent::Running } else { Intent::Stopped }, ..Run::stopped() },
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    };
    world.client.known.insert(id, Known::default());
    ask(world, Goal::Create(id), Command::Instance(InstanceCommand::Create(Box::new(instance))));
}

fn some_instance(world: &mut World, at: NodeId) -> Option<Instance> {
    let seen: Vec<InstanceId> = world.nodes[&at].replica.state.instances.keys().copied().collect();
    let id = world.pick(&seen)?;
    world.nodes[&at].replica.state.instances.get(&id).cloned()
}

fn run(world: &mut World, at: NodeId) {
    let Some(instance) = some_instance(world, at) else { return };
    let (intent, restart) = match world.rng.random_range(0..100) {
        0..30 => (Intent::Running, false),
        30..45 => (Intent::Running, true),
        45..70 => (Intent::Stopped, false),
        70..85 => (Intent::Frozen, false),
        _ => (Intent::Deleted, false),
    };
    let stop = StopMode { force: world.chance(50), timeout_secs: Some(30) };
    set_run(world, instance.id, intent, restart, stop);
}

fn set_run(world: &mut World, id: InstanceId, intent: Intent, restart: bool, stop: StopMode) {
    if intent == Intent::Deleted {
        world.client.gone(id);
    }
    let command = InstanceCommand::SetRun { id, intent, restart, stop, at: Timestamp(world.now) };
    ask(world, Goal::Other, Command::Instance(command));
}

/// A stopped instance is to live elsewhere.
fn relocate(world: &mut World, at: NodeId) {
    let still = |i: &&Instance| i.settled() && i.phase() == Some(Phase::Stopped);
    let still: Vec<Instance> = world.nodes[&at].replica.state.instances.values().filter(still).cloned().collect();
    let Some(instance) = world.pick(&still) else { return };
    let members: Vec<NodeId> = world.log.head().members.keys().copied().collect();
    let to = if world.chance(50) { world.pick(&members) } else { None };
    world.client.known.entry(instance.id).or_default().restored = true;
    let plan = MovePlan {
        target: Target::Any,
        project: instance.project,
        name: if world.chance(20) { name(world) } else { instance.name },
        spec: instance.spec,
    };
    let command = InstanceCommand::Move { id: instance.id, to, plan: Box::new(plan), expect: None };
    ask(world, Goal::Other, Command::Instance(command));
}

/// What an instance is made from: often another one.
fn origin(world: &mut World, at: NodeId) -> Origin {
    let made: Vec<InstanceId> =
        world.nodes[&at].replica.state.instances.values().filter(|i| i.made()).map(|i| i.id).collect();
    let source = world.pick(&made).filter(|_| world.chance(25));
    let Some(source) = source else {
        return match world.chance(30) {
            true => Origin::Image(fingerprint(world.rng.random_range(0..8))),
            false => Origin::Empty,
        };
    };
    let ready: Vec<SnapshotId> =
        world.nodes[&at].replica.state.snapshots_of(source).filter(|s| s.is_ready()).map(|s| s.id).collect();
    let point = world.pick(&ready).filter(|_| world.chance(30));
    let fresh = |old| (old, SnapshotId(uuid::Uuid::from_u128(u128::from(world.rng.random::<u64>()))));
    let snapshots = if point.is_some() { Vec::new() } else { ready.into_iter().map(fresh).collect() };
    Origin::Copy(Box::new(CopyOf { source, point, snapshots }))
}

/// A snapshot is made, renamed, deleted, or gone back to.
fn snapshot(world: &mut World, at: NodeId) {
    let Some(instance) = some_instance(world, at) else { return };
    let there: Vec<SnapshotId> =
        world.nodes[&at].replica.state.snapshots_of(instance.id).filter(|s| s.is_ready()).map(|s| s.id).collect();
    let name = world.pick(&["s0", "s1", "s2", "s3"]).expect("there are some");
    let name = SnapshotName::new(name).expect("a valid name");
    let id = instance.id;
    let command = match (world.pick(&there), world.rng.random_range(0..4)) {
        (None, _) | (_, 0) => {
            let fresh = SnapshotId(uuid::Uuid::from_u128(u128::from(world.rng.random::<u64>())));
            let at = Timestamp(world.now);
            Command::Snapshot(SnapshotCommand::Create {
                instance: id,
                id: fresh,
                name,
                at,
                expires_at: Timestamp::NEVER,
            })
        }
        (Some(held), 1) => Command::Snapshot(SnapshotCommand::Delete { instance: id, id: held }),
        (Some(held), 2) => Command::Snapshot(SnapshotCommand::Rename { instance: id, id: held, name }),
        (Some(held), _) => {
            world.client.known.entry(id).or_default().restored = true;
            let stop = StopMode { force: true, timeout_secs: None };
            Command::Instance(InstanceCommand::Restore { id, snapshot: held, spec: Box::new(instance.spec), stop })
        }
    };
    ask(world, Goal::Other, command);
}

fn edit(world: &mut World, at: NodeId) {
    let Some(instance) = some_instance(world, at) else { return };
    let marker = world.now;
    let mut spec = instance.spec;
    spec.config.insert("user.marker".into(), marker.to_string());
    let expect = Some(instance.generation);
    let command = InstanceCommand::UpdateSpec { id: instance.id, expect, spec: Box::new(spec) };
    ask(world, Goal::Edit(instance.id, marker), Command::Instance(command));
}

fn rename(world: &mut World, at: NodeId) {
    let Some(instance) = some_instance(world, at) else { return };
    let name = name(world);
    ask(world, Goal::Other, Command::Instance(InstanceCommand::Rename { id: instance.id, name }));
}

fn add_image(world: &mut World) {
    let fingerprint = fingerprint(world.rng.random_range(0..8));
    let members: Vec<NodeId> = world.log.head().members.keys().copied().collect();
    let Some(holder) = world.pick(&members) else { return };
    let image = Image {
        project: ProjectName::default_project(),
        fingerprint: fingerprint.clone(),
        kind: Kind::Container,
        architecture: "x86_64".into(),
        format: Format::Unified,
        filename: String::new(),
        size: 1,
        public: false,
        properties: BTreeMap::new(),
        created_at: Timestamp(1),
        uploaded_at: Timestamp(1),
        expires_at: Timestamp::NEVER,
        last_used_at: Timestamp::NEVER,
        holders: [holder].into(),
        cached: false,
        auto_update: false,
        update_source: None,
        profiles: None,
    };
    ask(world, Goal::Image(fingerprint, holder), Command::Image(ImageCommand::Add(Box::new(image))));
}

fn remove_image(world: &mut World, at: NodeId) {
    let known: Vec<ImageKey> = world.nodes[&at].replica.state.images.keys().cloned().collect();
    if let Some(image) = world.pick(&known) {
        world.client.images.remove(&image.name);
        world.client.unwanted.insert(image.name.clone());
        ask(world, Goal::Other, Command::Image(ImageCommand::Remove(image)));
    }
}

fn add_project(world: &mut World) {
    let name = world.pick(&["dev", "lab", "ops"]).expect("there are some");
    let project = Project {
        name: ProjectName::new(name).expect("a valid name"),
        description: String::new(),
        config: BTreeMap::new(),
        created_at: Timestamp(1),
        generation: Generation(1),
    };
    ask(world, Goal::Other, Command::Project(ProjectCommand::Add(project)));
}

/// What the API does by itself: deletes what could not be given a home or could not be made. And what the operator does:
/// takes out members whose machine is lost.
pub(super) fn tidy(world: &mut World, at: NodeId) {
    let hopeless = |i: &Instance| match &i.placement {
        Placement::Unplaced { refused } => refused.is_some(),
        Placement::Moving(_) => false,
        Placement::On { .. } => {
            i.run.intent != Intent::Deleted && i.current_report().is_some_and(|r| r.phase == Phase::Failed && !r.made)
        }
    };
    let instances = world.nodes[&at].replica.state.instances.values();
    let hopeless: Vec<InstanceId> = instances.filter(|i| hopeless(i)).map(|i| i.id).collect();
    for id in hopeless {
        set_run(world, id, Intent::Deleted, false, StopMode::default());
    }
    let failed = |s: &&Snapshot| matches!(s.stage, Stage::Failed { .. });
    let failed: Vec<_> =
        world.nodes[&at].replica.state.snapshots.values().filter(failed).map(|s| (s.instance, s.id)).collect();
    for (instance, id) in failed {
        ask(world, Goal::Other, Command::Snapshot(SnapshotCommand::Delete { instance, id }));
    }
    for id in act::lost(world) {
        ask(world, Goal::Other, Command::Member(MemberCommand::Remove { id, force: true }));
    }
}

/// A member is emptied for maintenance, or it is over.
fn maintain(world: &mut World) {
    let head = world.log.head();
    let members: Vec<NodeId> = head.members.keys().copied().collect();
    let emptied: Vec<NodeId> = head.members.values().filter(|m| m.duty == Duty::Evacuated).map(|m| m.id).collect();
    let modes = [Mode::Own, Mode::Own, Mode::Migrate, Mode::Stop];
    let wanted = match world.pick(&emptied).filter(|_| world.chance(60)) {
        Some(id) => Some((id, Task::Fill)),
        None => world.pick(&members).zip(world.pick(&modes).map(Task::Empty)),
    };
    let Some((id, task)) = wanted else { return };
    let order = Order { task, at: Timestamp(world.now) };
    ask(world, Goal::Other, Command::Member(MemberCommand::Order { id, order }));
}

/// A member is taken out in good order: nothing lives on it.
fn leave(world: &mut World, at: NodeId) {
    let view = &world.nodes[&at].replica.state;
    let empty = |id: &NodeId| view.assigned_to(*id).next().is_none();
    let able: Vec<NodeId> = view.members.keys().copied().filter(empty).collect();
    if view.members.len() > 3
        && let Some(id) = world.pick(&able)
    {
        ask(world, Goal::Other, Command::Member(MemberCommand::Remove { id, force: false }));
    }
}
