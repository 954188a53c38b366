//! What must hold: after every entry, after every step, at certain effects, and at rest.

use std::collections::BTreeMap;

use basalt_driver::State;
use basalt_model::command::{InstanceCommand, MemberCommand, SnapshotCommand};
use basalt_model::evacuation::{Leg, Task};
use basalt_model::instance::{Instance, Intent, Phase, Placement};
use basalt_model::snapshot::{Snapshot, Stage};
use basalt_model::{ClusterState, Command, Epoch, Fingerprint, InstanceId, NodeId, Rejected, SnapshotId, invariant};
use basalt_node::agent::plan::Desired;

use super::agent;
use super::node::Life;
use super::world::World;

/// After each entry of the log.
pub(super) fn after_commit(world: &mut World, command: &Command, verdict: &Result<(), Rejected>) -> Result<(), String> {
    let [.., before, after] = world.log.history.as_slice() else { return Ok(()) };
    let broken = invariant::check(after);
    if !broken.is_empty() {
        return Err(format!("after {command:?}: {}", broken.join("; ")));
    }
    if verdict.is_err() && before != after {
        return Err(format!("refused, but changed: {command:?}"));
    }
    if let (Command::Instance(InstanceCommand::Create(instance)), Err(why)) = (command, verdict)
        && before.instances.contains_key(&instance.id)
    {
        return Err(format!("a creation that was asked for again was refused: {why}"));
    }
    for (id, old) in before.instances.iter() {
        match after.instances.get(id) {
            Some(new) => kept(old, new)?,
            None => vanished(world, old, command)?,
        }
    }
    snapshots(world, before, after)?;
    if let Command::Snapshot(SnapshotCommand::Taken { instance, id, .. }) = command
        && after.snapshots.get(&(*instance, *id)).is_some_and(Snapshot::is_ready)
        && lives(world, after, *instance)
    {
        let shot = held(world, after, *instance, *id);
        let shot = shot.ok_or_else(|| format!("snapshot {id} of {instance} is said to be taken, and is not there"))?;
        world.shots.entry(*id).or_insert(shot);
    }
    if let (Command::Instance(InstanceCommand::Landed { id, landing, .. }), Ok(())) = (command, verdict) {
        landed(world, before, after, *id, *landing)?;
    }
    promises(world, after)?;
    let homes: Vec<_> =
        after.instances.values().filter_map(|i| i.placement.home().map(|(node, epoch)| (i.id, node, epoch))).collect();
    let gone: Vec<InstanceId> =
        before.instances.keys().filter(|id| !after.instances.contains_key(*id)).copied().collect();
    if let Some((id, restart)) = asked_to_run(command)
        && let Some(old) = before.instances.get(&id)
        && let Some(new) = after.instances.get(&id)
        && (restart || matches!(old.phase(), Some(Phase::Failed)))
    {
        world.restarts.insert((id, new.run.start));
    }
    travels(before, after)?;
    let done = after.members.values().any(|m| {
        let given = before.members.get(&m.id).is_some_and(|before| before.order.is_some());
        given && m.order.is_none()
    });
    let moved_back = |i: &Instance| {
        let home = i.placement.home().map(|(home, _)| home);
        let gone = before.instances.get(&i.id).and_then(|old| old.errands.trip.as_ref());
        i.errands.trip.is_none() && gone.is_some_and(|trip| Some(trip.origin) == home && trip.leg == Leg::Arrived)
    };
    let back = after.instances.values().filter(|i| moved_back(i)).count();
    for _ in 0..back {
        world.count("came back");
    }
    if done {
        world.count("orders done");
    }
    world.homes.extend(homes);
    for id in gone {
        world.ran.remove(&id);
    }
    Ok(())
}

/// The instance that a command asks to run, and whether a fresh guest is wanted.
fn asked_to_run(command: &Command) -> Option<(InstanceId, bool)> {
    match command {
        Command::Instance(InstanceCommand::SetRun { id, intent: Intent::Running, restart, .. }) => {
            Some((*id, *restart))
        }
        Command::Instance(InstanceCommand::Trip { id, step }) => {
            step.run.filter(|(intent, _)| *intent == Intent::Running).map(|_| (*id, false))
        }
        _ => None,
    }
}

/// When the last step of an order is done, everything is where it is to be, or it is said why it is not.
fn travels(before: &ClusterState, after: &ClusterState) -> Result<(), String> {
    for member in before.members.values() {
        let done = after.members.get(&member.id).is_some_and(|m| m.order.is_none());
        let Some(order) = member.order.filter(|_| done) else { continue };
        let alive = |i: &&Instance| i.run.intent != Intent::Deleted;
        for instance in after.instances.values().filter(alive) {
            let trip = instance.errands.trip.as_ref();
            let said = trip.is_some_and(|trip| trip.order == order.at && trip.failed.is_some());
            let here = instance.placement.home().is_some_and(|(home, _)| home == member.id);
            let runs = instance.settled() && matches!(instance.phase(), Some(Phase::Running | Phase::Frozen));
            let wrong = match order.task {
                // A user may have started it again since.
                Task::Empty(_) => here && runs && trip.is_none_or(|trip| trip.order != order.at),
                Task::Fill => trip.is_some_and(|trip| trip.origin == member.id),
            };
            if wrong && !said {
                let (name, place) = (&instance.name, &instance.placement);
                return Err(format!("{:?} of {} is done, and {name} is {place:?}, {trip:?}", order.task, member.name));
            }
        }
    }
    Ok(())
}

/// At the sending of a volume: all its snapshots are there.
pub(super) fn may_send(world: &World, at: NodeId, id: InstanceId, ready: &[SnapshotId]) -> Result<(), String> {
    let view = &world.nodes[&at].replica.state;
    match ready.iter().find(|s| held(world, view, id, **s).is_none()) {
        Some(lost) => Err(format!("snapshot {lost} of {id} is not where the instance is moved from")),
        None => Ok(()),
    }
}

/// At the commit of a move: the new home holds what the old one does, and the old one does not run it.
fn landed(
    world: &World,
    before: &ClusterState,
    after: &ClusterState,
    id: InstanceId,
    landing: Epoch,
) -> Result<(), String> {
    let Some(on_its_way) = before.instances.get(&id).and_then(|i| i.placement.moving()) else { return Ok(()) };
    let Some((home, epoch)) = after.instances.get(&id).and_then(|i| i.placement.home()) else { return Ok(()) };
    if epoch != landing {
        return Ok(());
    }
    let volume = |node: NodeId| world.nodes[&node].host.volumes.get(&id);
    let Some(new) = volume(home).filter(|v| v.complete && v.epoch == landing) else {
        return Err(format!("{id} is said to have landed on {home}, which holds {:?}", volume(home)));
    };
    if let Some(old) = volume(on_its_way.from)
        && old.content != new.content
    {
        return Err(format!("{id} has moved with content {}, and had {}", new.content, old.content));
    }
    let running = world.nodes[&on_its_way.from].host.guests.get(&id).is_some_and(|g| g.state != State::Stopped);
    match running {
        true => Err(format!("{id} has moved away under its running guest")),
        false => Ok(()),
    }
}

/// Whether the instance is to stay, on a machine that is still there: a late word about anything else proves nothing.
fn lives(world: &World, state: &ClusterState, id: InstanceId) -> bool {
    let Some(instance) = state.instances.get(&id).filter(|i| i.run.intent != Intent::Deleted) else { return false };
    let home = instance.placement.home().and_then(|(home, _)| world.nodes.get(&home));
    home.is_some_and(|node| node.life != Life::Gone)
}

/// What the home of an instance holds of a snapshot.
fn held(world: &World, state: &ClusterState, instance: InstanceId, id: SnapshotId) -> Option<u64> {
    let (home, _) = state.instances.get(&instance)?.placement.home()?;
    world.nodes.get(&home)?.host.volumes.get(&instance)?.snapshots.get(&id).copied()
}

/// Snapshots go only when somebody asked for it and nothing is left of them; a restore that is said to be done, is.
fn snapshots(world: &World, before: &ClusterState, after: &ClusterState) -> Result<(), String> {
    for ((instance, id), old) in before.snapshots.iter() {
        if after.snapshots.contains_key(&(*instance, *id)) || !after.instances.contains_key(instance) {
            continue;
        }
        if old.stage != Stage::Doomed {
            return Err(format!("snapshot {} of {instance} is lost", old.name));
        }
        if held(world, before, *instance, *id).is_some() {
            return Err(format!("snapshot {} of {instance} is forgotten, and there is something of it", old.name));
        }
    }
    for (id, old) in before.instances.iter() {
        let Some((restore, new)) = old.pending_restore().zip(after.instances.get(id)) else { continue };
        if new.pending_restore().is_some() || new.phase() != Some(Phase::Stopped) {
            continue;
        }
        let home = new.placement.home().and_then(|(home, _)| world.nodes.get(&home));
        let content = home.and_then(|n| n.host.volumes.get(id)).map(|v| v.content);
        if content.is_some() && content != world.shots.get(&restore.snapshot).copied() {
            return Err(format!("instance {} is said to be restored, and holds {content:?}", old.name));
        }
    }
    Ok(())
}

/// At a restore: it takes away what the guest has written, so it is done for who asked for it, and never after.
pub(super) fn may_restore(world: &World, at: NodeId, id: InstanceId, snapshot: SnapshotId) -> Result<(), String> {
    let host = &world.nodes[&at].host;
    if host.guests.get(&id).is_some_and(|g| g.state != State::Stopped) {
        return Err(format!("{at} restores {id} under its running guest"));
    }
    let pending = world.log.head().instances.get(&id).is_none_or(|i| i.pending_restore().is_some());
    let (now, then) = (host.volumes.get(&id).map(|v| v.content), world.shots.get(&snapshot).copied());
    match pending || now == then {
        true => Ok(()),
        false => Err(format!("{at} restores {id} once more: what its guest wrote since is lost")),
    }
}

/// An instance that was there before and after an entry.
fn kept(old: &Instance, new: &Instance) -> Result<(), String> {
    let name = &old.name;
    if let Some((node, epoch)) = old.placement.home() {
        match new.placement.home() {
            None => return Err(format!("instance {name} has lost its home")),
            Some(home) if home != (node, epoch) && home.1 <= epoch => {
                return Err(format!("instance {name} has moved without a new epoch"));
            }
            Some(_) => {}
        }
        if let Some(held) = old.current_report()
            && new.current_report().is_none_or(|now| now.request < held.request)
        {
            return Err(format!("instance {name} has lost what was reported of it"));
        }
    }
    let volatile = |i: &Instance| i.spec.config.get("volatile.stray").cloned();
    if volatile(old) != volatile(new) {
        return Err(format!("instance {name} was changed under an epoch that is not its own"));
    }
    Ok(())
}

/// An instance that an entry has removed: nothing of it may be left where it lived.
fn vanished(world: &World, old: &Instance, command: &Command) -> Result<(), String> {
    let Some((home, _)) = old.placement.home() else { return Ok(()) };
    match command {
        Command::Member(MemberCommand::Remove { id, force: true }) if *id == home => Ok(()),
        Command::Instance(InstanceCommand::Forget { .. }) if world.nodes[&home].host.holds(old.id) => {
            Err(format!("instance {} is forgotten, but there is something of it on {home}", old.name))
        }
        Command::Instance(InstanceCommand::Forget { .. }) => Ok(()),
        other => Err(format!("instance {} has vanished by {other:?}", old.name)),
    }
}

/// What was acknowledged to users.
fn promises(world: &World, state: &ClusterState) -> Result<(), String> {
    for (id, known) in world.client.known.iter().filter(|(_, k)| k.promised && !k.gone) {
        let Some(instance) = state.instances.get(id) else {
            // The operator has given up the machine that held it, with everything on it.
            let lost = |(i, node, _): &&(InstanceId, NodeId, Epoch)| i == id && !state.members.contains_key(node);
            match world.homes.iter().any(|home| lost(&home)) {
                true => continue,
                false => return Err(format!("instance {id} was promised and is not there")),
            }
        };
        let marker = instance.spec.config.get("user.marker").and_then(|m| m.parse().ok()).unwrap_or(0);
        if marker < known.marker && !known.restored {
            return Err(format!("edit {} of instance {} was acknowledged and is lost", known.marker, instance.name));
        }
    }
    // An image goes with the member that alone held it.
    let lost = |(image, holder): &(&Fingerprint, &NodeId)| {
        state.image_with(image).is_none() && state.members.contains_key(*holder)
    };
    match world.client.images.iter().find(lost) {
        Some((image, _)) => Err(format!("image {image} was acknowledged and is lost")),
        None => Ok(()),
    }
}

/// After each step: what runs, runs once and at home.
pub(super) fn after_step(world: &World) -> Result<(), String> {
    let mut running: BTreeMap<InstanceId, NodeId> = BTreeMap::new();
    for node in world.nodes.values().filter(|n| n.life != Life::Gone) {
        for guest in node.host.guests.values().filter(|g| g.state != State::Stopped) {
            if world.planted.contains(&(guest.id, node.id)) && guest.epoch == Epoch(0) {
                continue;
            }
            if let Some(other) = running.insert(guest.id, node.id) {
                return Err(format!("instance {} runs on {other} and on {}", guest.id, node.id));
            }
            if !world.homes.contains(&(guest.id, node.id, guest.epoch)) {
                return Err(format!("{} runs on {} under epoch {}: never its home", guest.id, node.id, guest.epoch));
            }
        }
    }
    Ok(())
}

/// At the start of a guest.
pub(super) fn may_start(world: &World, at: NodeId, wanted: &Desired) -> Result<(), String> {
    let id = wanted.id;
    let Some(instance) = world.log.head().instances.get(&id) else {
        return Err(format!("{at} starts {id}, which is deleted and forgotten"));
    };
    if instance.placement.home() != Some((at, wanted.epoch)) {
        return Err(format!("{at} starts {id}, whose home is {:?}", instance.placement));
    }
    let stopped = instance.run.intent == Intent::Stopped && instance.settled();
    match stopped && wanted.autostart != Some(true) {
        true => Err(format!("{at} starts {}, which the user has stopped", instance.name)),
        false => Ok(()),
    }
}

/// At the stop of a guest that is to run: only a restart replaces a running guest.
pub(super) fn may_stop(world: &World, at: NodeId, wanted: &Desired) -> Result<(), String> {
    // Whoever goes back to a snapshot gives up what the guest does.
    let running = |g: &&basalt_driver::Found| g.state == State::Running && wanted.restore.is_none();
    let Some(guest) = world.nodes[&at].host.guests.get(&wanted.id).filter(running) else { return Ok(()) };
    let (from, to) = (guest.start + 1, wanted.run.start);
    let asked = world.restarts.range((wanted.id, from)..=(wanted.id, to.max(from))).next().is_some();
    match wanted.run.intent == Intent::Running && !asked && wanted.autostart != Some(true) {
        true => Err(format!("{at} replaces the running guest of {}, which nobody asked for", wanted.id)),
        false => Ok(()),
    }
}

/// At the making of a volume.
pub(super) fn may_make_volume(world: &World, at: NodeId, id: InstanceId) -> Result<(), String> {
    match world.ran.contains(&id) && !world.nodes[&at].host.volumes.contains_key(&id) {
        true => Err(format!("{at} makes the volume of {id} anew: its data would be lost in silence")),
        false => Ok(()),
    }
}

/// When the faults have stopped and everything is done.
pub(super) fn at_rest(world: &World) -> Result<(), String> {
    after_step(world)?;
    let head = world.log.head();
    for instance in head.instances.values() {
        at_rest_instance(world, instance)?;
    }
    for node in world.nodes.values().filter(|n| n.up()) {
        if node.replica.state != *head {
            return Err(format!("replica {} differs at rest", node.id));
        }
        let stray = |id: &InstanceId| {
            let home = head.instances.get(id).and_then(|i| i.placement.home());
            home.is_none_or(|(home, _)| home != node.id)
        };
        if let Some(orphan) = node.host.ids().find(stray) {
            return Err(format!("orphaned on {}: {orphan}", node.id));
        }
    }
    Ok(())
}

fn at_rest_instance(world: &World, instance: &Instance) -> Result<(), String> {
    let name = &instance.name;
    let Placement::On { node, epoch } = instance.placement else {
        return Err(format!("instance {name} has no home at rest"));
    };
    let Some(report) = instance.current_report().filter(|_| instance.settled()) else {
        return Err(format!("instance {name} is not settled at rest"));
    };
    let guest = world.nodes[&node].host.guests.get(&instance.id);
    if let Some(guest) = guest.filter(|g| g.epoch != epoch) {
        return Err(format!("the guest of {name} is of epoch {}, not {epoch}", guest.epoch));
    }
    let state = guest.map_or(State::Stopped, |g| g.state);
    let agrees = match report.phase {
        Phase::Stopped | Phase::Failed => state == State::Stopped,
        Phase::Running => state == State::Running,
        Phase::Frozen => state == State::Frozen,
    };
    if !agrees {
        return Err(format!("instance {name} is reported {:?} and is {state:?}", report.phase));
    }
    let volume = world.nodes[&node].host.volumes.get(&instance.id);
    let records: BTreeMap<SnapshotId, u64> = world
        .log
        .head()
        .snapshots_of(instance.id)
        .filter(|s| s.is_ready())
        .filter_map(|s| Some((s.id, *world.shots.get(&s.id)?)))
        .collect();
    if report.made && volume.is_some_and(|v| v.snapshots != records) {
        return Err(format!("instance {name} has snapshots {records:?} and its volume {volume:?}"));
    }
    if report.made && volume.is_none_or(|v| !v.complete || v.epoch != epoch) {
        return Err(format!("instance {name} is reported as made and its volume is {volume:?}"));
    }
    Ok(())
}

/// Why all is not at rest yet, if it is not.
pub(super) fn unrest(world: &World) -> Option<String> {
    let head = world.log.head();
    if !world.log.proposals.is_empty() || !world.log.late.is_empty() || !world.client.idle() {
        return Some("something is under way".into());
    }
    if let Some(node) = world.nodes.values().find(|n| n.up() && n.replica.applied < world.log.entries.len()) {
        return Some(format!("replica {} lags", node.id));
    }
    if let Some(node) = world.nodes.values().find(|n| n.up() && !agent::idle(n)) {
        return Some(format!("the agent of {} has work to do: {:?}", node.id, node.tasks));
    }
    if let Some(member) = head.members.values().find(|m| !world.nodes[&m.id].up()) {
        return Some(format!("member {} is not there", member.name));
    }
    let busy = |s: &&Snapshot| matches!(s.stage, Stage::Wanted | Stage::Doomed | Stage::Failed { .. });
    if let Some(snapshot) = head.snapshots.values().find(busy) {
        return Some(format!("snapshot {} of {} is {:?}", snapshot.name, snapshot.instance, snapshot.stage));
    }
    let waiting = |i: &&Instance| i.placement.home().is_none() || i.run.intent == Intent::Deleted;
    if let Some(instance) = head.instances.values().find(|i| i.placement.moving().is_some()) {
        return Some(format!("instance {} is on its way: {:?}", instance.name, instance.placement));
    }
    if let Some(member) = head.members.values().find(|m| m.order.is_some()) {
        return Some(format!("member {} is still being emptied or filled: {:?}", member.name, member.order));
    }
    let travels = |i: &&Instance| i.errands.trip.as_ref().is_some_and(|trip| trip.leg != Leg::Rest);
    if let Some(instance) = head.instances.values().find(travels) {
        return Some(format!("instance {} travels: {:?}", instance.name, instance.errands.trip));
    }
    head.instances.values().find(waiting).map(|i| format!("instance {} waits: {:?} {:?}", i.name, i.placement, i.run))
}
