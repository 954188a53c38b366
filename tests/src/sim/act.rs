//! What can happen next. Each function is one small thing; which one happens is a throw of weighted dice.

use std::collections::BTreeSet;

use basalt_driver::State;
use basalt_model::command::{IdentityCommand, InstanceCommand, MemberCommand};
use basalt_model::identity::{Grant, Token};
use basalt_model::instance::{Phase, Report};
use basalt_model::member::Health;
use basalt_model::{Command, Epoch, Fingerprint, Generation, InstanceId, NodeId, Timestamp, TokenId};
use basalt_scheduler::Decision;
use rand::Rng;

use super::host::Volume;
use super::log::{Answer, Owner, Stage};
use super::node::Life;
use super::world::{Idle, World, member};
use super::{agent, client};

type Action = fn(&mut World) -> Result<(), String>;

const ACTIONS: [(u32, Action); 20] = [
    (400, some_agent),
    (240, apply_some),
    (240, deliver),
    (160, respond),
    (140, client::act),
    (60, placement),
    (30, health),
    (50, elect),
    (25, late),
    (40, restart),
    (20, snapshot),
    (12, guest_exits),
    (10, crash),
    (10, heal),
    (8, stray),
    (6, partition),
    (5, plant),
    (4, reboot),
    (3, client::join),
    (1, burn),
];

/// One random thing.
pub(super) fn any(world: &mut World) -> Result<(), String> {
    let all: u32 = ACTIONS.iter().map(|(weight, _)| weight).sum();
    let mut thrown = world.rng.random_range(0..all);
    for (weight, action) in ACTIONS {
        if thrown < weight {
            return action(world);
        }
        thrown -= weight;
    }
    Ok(())
}

fn some_agent(world: &mut World) -> Result<(), String> {
    let up = world.up();
    match world.pick(&up) {
        Some(node) => agent::act(world, node),
        None => Ok(()),
    }
}

/// One entry on one replica.
fn apply_one(world: &mut World, id: NodeId) -> Result<(), String> {
    let at = world.nodes[&id].replica.applied;
    let (command, committed) = world.log.entries[at].clone();
    let replica = &mut world.node(id).replica;
    let verdict = replica.state.apply(&command);
    replica.applied += 1;
    if verdict != committed {
        return Err(format!("replica {id} judges entry {} as {verdict:?}, not {committed:?}", at + 1));
    }
    if world.nodes[&id].replica.state != world.log.history[at + 1] {
        return Err(format!("replica {id} differs after entry {}: {command:?}", at + 1));
    }
    Ok(())
}

/// The replica applies all that is committed.
pub(super) fn apply_all(world: &mut World, id: NodeId) -> Result<(), String> {
    while world.nodes[&id].replica.applied < world.log.entries.len() {
        apply_one(world, id)?;
    }
    Ok(())
}

/// Some replica that hears the leader applies some of what it has not.
fn apply_some(world: &mut World) -> Result<(), String> {
    let end = world.log.entries.len();
    let behind = |id: &NodeId| world.nodes[id].replica.applied < end && world.connected(*id);
    let behind: Vec<NodeId> = world.up().into_iter().filter(behind).collect();
    let Some(id) = world.pick(&behind) else { return Ok(()) };
    let leader = world.log.leader;
    world.node(id).believes = leader;
    let most = end - world.nodes[&id].replica.applied;
    for _ in 0..world.rng.random_range(1..=most) {
        apply_one(world, id)?;
    }
    Ok(())
}

/// A proposal arrives at the leader, or does not.
fn deliver(world: &mut World) -> Result<(), String> {
    let sent = |stage: &Stage| *stage == Stage::Sent;
    let keys: Vec<u64> = world.log.proposals.iter().filter(|(_, p)| sent(&p.stage)).map(|(key, _)| *key).collect();
    let Some(key) = world.pick(&keys) else { return Ok(()) };
    let from = world.log.proposals[&key].from;
    if !world.connected(from) {
        match world.rng.random_range(0..4) {
            0 => world.answer(key, Answer::Failed),
            1 => world.answer(key, Answer::Unknown),
            _ => {}
        }
        return Ok(());
    }
    match world.rng.random_range(0..100) {
        0..5 => world.answer(key, Answer::Failed),
        5..12 => world.answer(key, Answer::Unknown),
        _ => commit(world, key)?,
    }
    Ok(())
}

pub(super) fn commit(world: &mut World, key: u64) -> Result<(), String> {
    let Some(command) = world.log.proposals.get(&key).map(|p| p.command.clone()) else { return Ok(()) };
    let at = world.commit(command)?;
    if let Some(proposal) = world.log.proposals.get_mut(&key) {
        proposal.stage = Stage::Committed(at);
    }
    Ok(())
}

/// A proposer hears of its entry once its own replica has applied it; or never.
fn respond(world: &mut World) -> Result<(), String> {
    let done = |stage: &Stage| matches!(stage, Stage::Committed(_));
    let keys: Vec<u64> = world.log.proposals.iter().filter(|(_, p)| done(&p.stage)).map(|(key, _)| *key).collect();
    match world.pick(&keys) {
        Some(key) if world.mishap(8) => world.answer(key, Answer::Unknown),
        Some(key) => respond_to(world, key),
        None => {}
    }
    Ok(())
}

pub(super) fn respond_to(world: &mut World, key: u64) {
    let Some((from, Stage::Committed(at))) = world.log.proposals.get(&key).map(|p| (p.from, p.stage)) else { return };
    if world.nodes[&from].replica.applied < at {
        return;
    }
    match world.log.entries[at - 1].1.clone() {
        Ok(()) => world.answer(key, Answer::Applied),
        Err(rejected) => world.answer(key, Answer::Rejected(rejected)),
    }
}

/// A command whose proposer has given up gets through, or never will.
fn late(world: &mut World) -> Result<(), String> {
    let Some(at) = world.log.late.len().checked_sub(1) else { return Ok(()) };
    let at = world.rng.random_range(0..=at);
    let leads = world.log.leader.is_some_and(|leader| world.quorum(leader));
    match leads && world.chance(70) {
        true => {
            let command = world.log.late.swap_remove(at);
            world.count("late commits");
            world.commit(command).map(|_| ())
        }
        false if world.chance(50) => {
            world.log.late.swap_remove(at);
            Ok(())
        }
        false => Ok(()),
    }
}

/// Whoever believes to lead gives homes to those that wait, as far as it knows.
pub(super) fn placement(world: &mut World) -> Result<(), String> {
    let believers = |id: &NodeId| world.nodes[id].believes == Some(*id);
    let believers: Vec<NodeId> = world.up().into_iter().filter(believers).collect();
    let Some(id) = world.pick(&believers) else { return Ok(()) };
    if world.log.waits(Owner::Background(id)) {
        return Ok(());
    }
    let decisions = basalt_scheduler::next_placements(&world.nodes[&id].replica.state, &Idle, 16);
    for decision in decisions {
        let command = match decision {
            Decision::Place { id, node } => InstanceCommand::Place { id, node, epoch: Epoch(1) },
            Decision::Refuse { id, reason, .. } => InstanceCommand::RefusePlacement { id, reason },
        };
        world.propose(Owner::Background(id), id, Command::Instance(command));
    }
    moves(world, id);
    let (view, now) = (world.nodes[&id].replica.state.clone(), Timestamp(world.now));
    for command in basalt_scheduler::evacuations(&view, &Idle, now) {
        world.propose(Owner::Background(id), id, command);
    }
    Ok(())
}

/// Choices for moves, and ends of those that cannot come to one. Mirrors `basalt_node::controller::moves`.
fn moves(world: &mut World, leader: NodeId) {
    let view = world.nodes[&leader].replica.state.clone();
    for instance in view.instances.values() {
        let Some(on_its_way) = instance.placement.moving() else { continue };
        let (id, landing) = (instance.id, on_its_way.landing);
        let command = match (on_its_way.to, basalt_scheduler::next_home(&view, &Idle, instance)) {
            (None, Some(Ok(node))) => InstanceCommand::AssignMove { id, landing, node },
            (None, Some(Err(reason))) => InstanceCommand::AbortMove { id, landing, reason },
            (Some(node), _) if !view.online(node) => {
                InstanceCommand::AbortMove { id, landing, reason: "its new home is offline".into() }
            }
            (Some(_) | None, _) => continue,
        };
        world.propose(Owner::Background(leader), leader, Command::Instance(command));
    }
}

/// The leader marks who is silent, and who is there again.
pub(super) fn health(world: &mut World) -> Result<(), String> {
    let Some(leader) = world.log.leader.filter(|l| world.nodes[l].up() && !world.log.waits(Owner::Background(*l)))
    else {
        return Ok(());
    };
    let side = world.nodes[&leader].side;
    let members: Vec<_> = world.nodes[&leader].replica.state.members.values().map(|m| (m.id, m.health)).collect();
    for (id, health) in members {
        let heard = world.nodes.get(&id).is_some_and(|n| n.up() && n.side == side);
        let verdict = match (health, heard) {
            (Health::Online, false) => Health::Offline { since: Timestamp(world.now) },
            (Health::Offline { .. }, true) => Health::Online,
            (Health::Online, true) | (Health::Offline { .. }, false) => continue,
        };
        let command = MemberCommand::SetHealth { id, health: verdict };
        world.propose(Owner::Background(leader), leader, Command::Member(command));
    }
    Ok(())
}

/// Somebody with a majority behind it becomes leader. The one before may go on believing in itself.
pub(super) fn elect(world: &mut World) -> Result<(), String> {
    let held = world.log.leader.filter(|leader| world.quorum(*leader));
    if held.is_some() && !world.chance(30) {
        return Ok(());
    }
    let able: Vec<NodeId> = world.up().into_iter().filter(|id| world.quorum(*id)).collect();
    world.log.leader = world.pick(&able).or(held);
    if let Some(leader) = world.log.leader {
        // A new leader first applies everything that was committed before it.
        apply_all(world, leader)?;
        world.node(leader).believes = Some(leader);
        world.count("elections");
        world.note(|| format!("{leader} leads"));
    }
    Ok(())
}

fn snapshot(world: &mut World) -> Result<(), String> {
    let up = world.up();
    match world.pick(&up) {
        Some(id) => world.node(id).replica.take_snapshot(),
        None => Ok(()),
    }
}

fn guest_exits(world: &mut World) -> Result<(), String> {
    let here = |n: &super::node::Node| {
        let running = n.host.guests.values().filter(|g| g.state == State::Running);
        running.map(|g| (n.id, g.id)).collect::<Vec<_>>()
    };
    let running: Vec<(NodeId, InstanceId)> = world.nodes.values().flat_map(here).collect();
    if let Some((node, id)) = world.pick(&running) {
        world.note(|| format!("{id} on {node} exits by itself"));
        world.count("guests exited");
        if let Some(guest) = world.node(node).host.guests.get_mut(&id) {
            guest.state = State::Stopped;
        }
    }
    Ok(())
}

fn crash(world: &mut World) -> Result<(), String> {
    let up = world.up();
    if let Some(id) = world.pick(&up) {
        world.note(|| format!("{id} is killed"));
        world.count("crashes");
        world.kill(id, Life::Down);
    }
    Ok(())
}

fn reboot(world: &mut World) -> Result<(), String> {
    let up = world.up();
    if let Some(id) = world.pick(&up) {
        world.note(|| format!("the host of {id} reboots"));
        world.count("reboots");
        world.kill(id, Life::Down);
        world.node(id).host.reboot();
    }
    Ok(())
}

fn restart(world: &mut World) -> Result<(), String> {
    let down: Vec<NodeId> = world.nodes.values().filter(|n| n.life == Life::Down).map(|n| n.id).collect();
    match world.pick(&down) {
        Some(id) => revive(world, id),
        None => Ok(()),
    }
}

pub(super) fn revive(world: &mut World, id: NodeId) -> Result<(), String> {
    world.note(|| format!("{id} begins again"));
    let skew = world.rng.random_range(0..2000);
    let node = world.node(id);
    node.life = Life::Up;
    node.skew = skew;
    node.replica.restart()?;
    world.count("snapshots restored");
    Ok(())
}

fn partition(world: &mut World) -> Result<(), String> {
    let up = world.up();
    if let Some(id) = world.pick(&up) {
        world.note(|| format!("{id} is cut off"));
        world.count("partitions");
        let side = world.rng.random_range(1..=2);
        world.node(id).side = side;
    }
    Ok(())
}

pub(super) fn heal(world: &mut World) -> Result<(), String> {
    for node in world.nodes.values_mut() {
        node.side = 0;
    }
    Ok(())
}

/// A machine is lost for good; the operator says so to the cluster in time.
fn burn(world: &mut World) -> Result<(), String> {
    let members = world.log.head().members.len();
    let gone =
        world.nodes.values().filter(|n| n.life == Life::Gone && world.log.head().members.contains_key(&n.id)).count();
    let up = world.up();
    if members - gone < 4 || gone > 0 {
        return Ok(());
    }
    if let Some(id) = world.pick(&up) {
        world.note(|| format!("the machine of {id} burns down"));
        world.count("machines lost");
        world.kill(id, Life::Gone);
        world.node(id).host = super::host::Host::default();
        world.planted.retain(|(_, at)| *at != id);
    }
    Ok(())
}

/// Something speaks under an epoch that is not its own.
fn stray(world: &mut World) -> Result<(), String> {
    let known: Vec<InstanceId> = world.log.head().instances.keys().copied().collect();
    let Some(id) = world.pick(&known) else { return Ok(()) };
    let Some(instance) = world.log.head().instances.get(&id) else { return Ok(()) };
    let (request, present) = (instance.run.request, instance.placement.home().map_or(Epoch(0), |(_, epoch)| epoch));
    // One that a move may yet give out would be right once it has come.
    let epoch = if present == Epoch(0) || world.chance(50) { Epoch(0) } else { Epoch(present.0 + 1_000_000) };
    let command = match world.rng.random_range(0..3) {
        0 => InstanceCommand::Forget { id, epoch },
        1 => InstanceCommand::SetVolatile {
            id,
            epoch,
            set: [("volatile.stray".to_owned(), Some("1".to_owned()))].into(),
        },
        _ => {
            let at = Timestamp(u64::MAX / 2);
            let report = Report {
                epoch,
                generation: Generation(1),
                phase: Phase::Stopped,
                made: false,
                request,
                reason: None,
                at,
            };
            InstanceCommand::Report { id, report }
        }
    };
    world.count("stray commands");
    world.log.late.push(Command::Instance(command));
    Ok(())
}

/// A guest of an earlier stay is found on a host, running; and perhaps a volume that was never completed.
fn plant(world: &mut World) -> Result<(), String> {
    let waiting = world.log.head().instances.values().filter(|i| agent::waits_for_home(&i.placement));
    let waiting: Vec<InstanceId> = waiting.map(|i| i.id).collect();
    let up = world.up();
    if let (Some(id), Some(node)) = (world.pick(&waiting), world.pick(&up)) {
        if world.nodes[&node].host.holds(id) {
            return Ok(());
        }
        world.note(|| format!("{node} has a guest of {id} from an earlier stay"));
        world.count("leftovers");
        world.planted.insert((id, node));
        let left = basalt_driver::Found {
            id,
            epoch: Epoch(0),
            state: State::Running,
            start: 1,
            generation: Generation(0),
            pid: None,
            started_at: None,
            same_boot: true,
        };
        let half_made = world.chance(50);
        let host = &mut world.node(node).host;
        host.guests.insert(id, left);
        if half_made {
            host.volumes.insert(id, Volume::default());
        }
    }
    Ok(())
}

/// A member joins at once: for the beginning.
pub(super) fn join(world: &mut World) {
    let id = NodeId(world.log.head().next_node);
    let (token, joined) = join_commands(id, Timestamp(1));
    for command in [token, joined] {
        world.log.commit(command);
    }
    world.nodes.insert(id, super::node::Node::new(id));
}

/// The token for a joiner, and its redemption.
pub(super) fn join_commands(id: NodeId, at: Timestamp) -> (Command, Command) {
    let token = TokenId(uuid::Uuid::from_u128(u128::from(id.0)));
    let secret_hash = Fingerprint::new("f".repeat(64)).expect("a valid fingerprint");
    let member = member(id);
    let granted = Token {
        id: token,
        secret_hash: secret_hash.clone(),
        grant: Grant::Join(member.name.clone()),
        created_at: at,
        expires_at: Timestamp::NEVER,
    };
    let join = MemberCommand::Join { token, secret_hash, member: Box::new(member), at };
    (Command::Identity(IdentityCommand::AddToken(granted)), Command::Member(join))
}

/// Members that are gone for good, but not yet removed.
pub(super) fn lost(world: &World) -> BTreeSet<NodeId> {
    let members = world.log.head().members.keys();
    members.filter(|id| world.nodes.get(id).is_some_and(|n| n.life == Life::Gone)).copied().collect()
}
