//! The faults stop: everything that is broken for a while is mended, and all parts work until nothing is left to do.

use basalt_model::NodeId;

use super::log::Stage;
use super::node::Life;
use super::world::World;
use super::{act, agent, client, oracle};

/// Rounds of everybody's work after which it is said never to end.
const ROUNDS: u32 = 400;

/// Mends, then works until nothing is left to do.
pub(super) fn come_to_rest(world: &mut World) -> Result<(), String> {
    world.note(|| "the faults stop".into());
    world.faults = false;
    act::heal(world)?;
    let down: Vec<NodeId> = world.nodes.values().filter(|n| n.life == Life::Down).map(|n| n.id).collect();
    for id in down {
        act::revive(world, id)?;
    }
    for _ in 0..ROUNDS {
        world.now += 1;
        round(world)?;
        oracle::after_step(world)?;
        if oracle::unrest(world).is_none() {
            return Ok(());
        }
    }
    Err(format!("never comes to rest: {}", oracle::unrest(world).unwrap_or_default()))
}

fn round(world: &mut World) -> Result<(), String> {
    if world.log.leader.is_none_or(|leader| !world.quorum(leader)) {
        act::elect(world)?;
    }
    for command in std::mem::take(&mut world.log.late) {
        world.commit(command)?;
    }
    let keys: Vec<u64> = world.log.proposals.keys().copied().collect();
    for key in &keys {
        if world.log.proposals.get(key).is_some_and(|p| p.stage == Stage::Sent) {
            act::commit(world, *key)?;
        }
    }
    for id in world.up() {
        act::apply_all(world, id)?;
        world.node(id).believes = world.log.leader;
    }
    for key in &keys {
        act::respond_to(world, *key);
    }
    act::health(world)?;
    act::placement(world)?;
    for id in world.up() {
        agent::act(world, id)?;
        for instance in agent::concerns(&world.nodes[&id]) {
            agent::advance(world, id, instance)?;
        }
    }
    if let Some(leader) = world.log.leader.filter(|_| world.client.idle()) {
        client::tidy(world, leader);
    }
    Ok(())
}
