//! Volumes that come from elsewhere: copies, and moves with their one commit. Mirrors `basalt_node::agent::{copy, carry,
//! landing}`.

use basalt_driver::State;
use basalt_model::command::InstanceCommand;
use basalt_model::instance::{CopyOf, Move, Origin};
use basalt_model::{Command, InstanceId, NodeId};
use basalt_node::agent::plan::Desired;

use super::agent::ask;
use super::host::Volume;
use super::oracle;
use super::world::World;

/// What the home of an instance sends, if it can be reached and holds it.
fn sent(world: &mut World, at: NodeId, source: InstanceId, home: NodeId) -> Result<Volume, String> {
    let reachable = |world: &World| world.nodes[&home].up() && world.nodes[&home].side == world.nodes[&at].side;
    if world.mishap(10) || home != at && !reachable(world) {
        return Err("the stream broke off".into());
    }
    // The sender asks a quorum first.
    if home != at && !world.connected(home) {
        return Err("the sender has no quorum".into());
    }
    let volume = world.nodes[&home].host.volumes.get(&source).filter(|v| v.complete);
    volume.cloned().ok_or_else(|| "the source has no volume".into())
}

/// Half of making an instance's volume, or the rest of it. `true` when it is complete.
pub(super) fn make_volume(world: &mut World, at: NodeId, wanted: &Desired) -> Result<bool, String> {
    let view = &world.nodes[&at].replica.state;
    let origin = view.instances.get(&wanted.id).map(|i| i.spec.origin.clone());
    let done = world.nodes[&at].host.volumes.get(&wanted.id).is_some_and(|v| v.complete);
    let begun = world.nodes[&at].host.volumes.contains_key(&wanted.id);
    let Some(Origin::Copy(copy)) = origin.filter(|_| begun && !done) else {
        return Ok(world.node(at).host.ensure_volume(wanted));
    };
    let volume = copied(world, at, &copy)?;
    world.count("copies");
    let made = Volume { epoch: wanted.epoch, complete: true, ..volume };
    world.node(at).host.volumes.insert(wanted.id, made);
    Ok(true)
}

fn copied(world: &mut World, at: NodeId, copy: &CopyOf) -> Result<Volume, String> {
    let view = &world.nodes[&at].replica.state;
    let (home, _) = view.instances.get(&copy.source).and_then(|i| i.placement.home()).ok_or("the source is gone")?;
    let source = sent(world, at, copy.source, home)?;
    let content = match copy.point {
        None => source.content,
        Some(point) => *source.snapshots.get(&point).ok_or("the snapshot is gone")?,
    };
    let mut volume = Volume { content, ..Volume::default() };
    for (old, new) in &copy.snapshots {
        let content = *source.snapshots.get(old).ok_or("a snapshot is gone")?;
        volume.snapshots.insert(*new, content);
        world.shots.insert(*new, content);
    }
    Ok(volume)
}

/// One effect of a landing: half a volume, the rest of it, the word of it.
pub(super) fn step(world: &mut World, at: NodeId, id: InstanceId) -> Result<(), String> {
    let Some(on_its_way) = world.nodes[&at].tasks.get(&id).and_then(|t| t.landing.clone()) else { return Ok(()) };
    let landing = on_its_way.landing;
    match world.nodes[&at].host.volumes.get(&id).map(|v| (v.complete, v.epoch)) {
        Some((true, epoch)) if epoch == landing => {
            let now = world.clock(at);
            ask(world, at, id, Command::Instance(InstanceCommand::Landed { id, landing, at: now }));
        }
        Some((_, epoch)) if epoch != landing => {
            world.node(at).host.volumes.remove(&id);
        }
        None => {
            let half = Volume { epoch: landing, ..Volume::default() };
            world.node(at).host.volumes.insert(id, half);
        }
        Some(_) => match pulled(world, at, id, &on_its_way) {
            Ok(volume) => {
                world.node(at).host.volumes.insert(id, Volume { epoch: landing, ..volume });
            }
            Err(reason) => {
                world.note(|| format!("{at} cannot pull {id}: {reason}"));
                ask(world, at, id, Command::Instance(InstanceCommand::AbortMove { id, landing, reason }));
            }
        },
    }
    Ok(())
}

fn pulled(world: &mut World, at: NodeId, id: InstanceId, on_its_way: &Move) -> Result<Volume, String> {
    let from = on_its_way.from;
    let volume = sent(world, at, id, from)?;
    // The sender asks a quorum, so that its own agent sees the move from then on, and looks whether the guest is down.
    super::act::apply_all(world, from)?;
    let still = world.nodes[&from].replica.state.instances.get(&id).and_then(|i| i.placement.moving());
    if still.is_none_or(|m| m.landing != on_its_way.landing) {
        return Err("it is not on its way any more".into());
    }
    if world.nodes[&from].host.guests.get(&id).is_some_and(|g| g.state != State::Stopped) {
        return Err("it runs".into());
    }
    // Snapshots that were doomed before stay behind.
    let view = &world.nodes[&at].replica.state;
    let ready: Vec<_> = view.snapshots_of(id).filter(|s| s.is_ready()).map(|s| s.id).collect();
    let snapshots = volume.snapshots.iter().filter(|(s, _)| ready.contains(s)).map(|(s, c)| (*s, *c)).collect();
    oracle::may_send(world, at, id, &ready)?;
    world.count("volumes moved");
    Ok(Volume { snapshots, ..volume })
}
