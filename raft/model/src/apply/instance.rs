//! Instances.

use super::{Outcome, exists, expect_generation, invalid, not_found};
use crate::command::InstanceCommand;
use crate::device::{self, Device};
use crate::instance::{
    Devices, Errands, Instance, Intent, Origin, Phase, Placement, Report, Run, Spec, StopMode, Target,
};
use crate::network::nic;
use crate::snapshot::Snapshot;
use crate::{
    ClusterState, Epoch, Generation, InstanceId, InstanceName, NodeId, ProjectName, Rejected, Table, Timestamp,
};

/// How many of the instances that are gone are remembered. A creation that is under way lasts seconds; this many
/// deletions take far longer.
const GRAVES: u64 = 1024;

pub(super) fn apply(state: &mut ClusterState, command: &InstanceCommand) -> Outcome {
    match command {
        InstanceCommand::Create(instance) => create(state, instance),
        InstanceCommand::Place { id, node, epoch } => place(state, *id, *node, *epoch),
        InstanceCommand::RefusePlacement { id, reason } => {
            let instance = find(state, *id)?;
            if let Placement::Unplaced { refused } = &mut instance.placement {
                *refused = Some(reason.clone());
            }
            Ok(())
        }
        InstanceCommand::UpdateSpec { id, expect, spec } => update_spec(state, *id, *expect, spec),
        InstanceCommand::Rename { id, name } => rename(state, *id, name),
        InstanceCommand::SetRun { id, intent, restart, stop, at } => set_run(state, *id, *intent, *restart, *stop, *at),
        InstanceCommand::Report { id, report } => accept_report(state, *id, report),
        InstanceCommand::Forget { id, epoch } => forget(state, *id, *epoch),
        InstanceCommand::SetVolatile { id, epoch, set } => {
            let instance = owned(state, *id, *epoch)?;
            for (key, value) in set.iter().filter(|(key, _)| key.starts_with("volatile.")) {
                match value {
                    Some(value) => instance.spec.config.insert(key.clone(), value.clone()),
                    None => instance.spec.config.remove(key),
                };
            }
            Ok(())
        }
        InstanceCommand::Restore { id, snapshot, spec, stop } => {
            super::snapshot::restore(state, *id, *snapshot, spec, *stop)
        }
        InstanceCommand::Move { id, to, plan, expect } => super::relocate::begin(state, *id, *to, plan, *expect),
        InstanceCommand::AssignMove { id, landing, node } => super::relocate::assign(state, *id, *landing, *node),
        InstanceCommand::Landed { id, landing, at } => super::relocate::landed(state, *id, *landing, *at),
        InstanceCommand::AbortMove { id, landing, reason } => super::relocate::abort(state, *id, *landing, reason),
        InstanceCommand::Trip { id, step } => super::evacuation::step(state, *id, step),
        InstanceCommand::Remake { id, spec, snapshots_too, at, expect } => {
            super::remake::begin(state, *id, spec, (*snapshots_too, *at), *expect)
        }
    }
}

pub(super) fn find(state: &mut ClusterState, id: InstanceId) -> Result<&mut Instance, Rejected> {
    state.instances.get_mut(&id).ok_or_else(|| not_found("instance", id))
}

/// The instance, if `epoch` is still its present one.
pub(super) fn owned(state: &mut ClusterState, id: InstanceId, epoch: Epoch) -> Result<&mut Instance, Rejected> {
    let instance = find(state, id)?;
    match instance.placement.home() {
        Some((_, present)) if present == epoch => Ok(instance),
        Some((_, present)) => Err(Rejected::Stale(format!("instance {id} is at epoch {present}, not {epoch}"))),
        None => Err(Rejected::Stale(format!("instance {id} has no home"))),
    }
}

fn create(state: &mut ClusterState, instance: &Instance) -> Outcome {
    if let Some(same) = state.instances.get(&instance.id) {
        // The proposer asks again because it does not know whether the first try got through. By now it may have been
        // renamed: only what never changes says that it is the same.
        return match same.project == instance.project && same.created_at == instance.created_at {
            true => Ok(()),
            false => Err(exists("instance id", instance.id)),
        };
    }
    if state.graves.contains_key(&instance.id) {
        return Err(Rejected::Stale(format!("instance {} was created before, and is deleted", instance.id)));
    }
    let key = (instance.project.clone(), instance.name.clone());
    if !state.projects.contains_key(&instance.project) {
        return Err(not_found("project", &instance.project));
    }
    if state.instance_names.contains_key(&key) {
        return Err(exists("instance", &instance.name));
    }
    let coming = coming(state, instance)?;
    match &instance.target {
        Target::Any => {}
        Target::Member(name) if state.members.values().any(|m| m.name == *name) => {}
        Target::Member(name) => return Err(not_found("member", name)),
        Target::Group(name) if state.groups.contains_key(name) => {}
        Target::Group(name) => return Err(not_found("cluster group", name)),
    }
    check_spec(state, &instance.project, &instance.spec)?;
    let fresh = Instance {
        errands: Errands::default(),
        generation: Generation(1),
        placement: Placement::Unplaced { refused: None },
        report: None,
        // Created stopped or, in one step, to be started as soon as it exists.
        run: match instance.run.intent {
            Intent::Running => Run { intent: Intent::Running, request: 1, start: 1, stop: StopMode::default() },
            Intent::Stopped | Intent::Frozen | Intent::Deleted => Run::stopped(),
        },
        ..instance.clone()
    };
    super::address::settle(state, &fresh)?;
    super::copy::begin(state, &fresh, coming);
    if let Origin::Image(fingerprint) = &fresh.spec.origin {
        super::image::used(state, &fresh.project, fingerprint, fresh.created_at);
    }
    state.instance_names.insert(key, fresh.id);
    state.instances.insert(fresh.id, fresh);
    Ok(())
}

/// Whether there is what the instance is to be made from; the snapshots that come with it.
pub(super) fn coming(state: &ClusterState, instance: &Instance) -> Result<Vec<Snapshot>, Rejected> {
    match &instance.spec.origin {
        Origin::Empty => Ok(Vec::new()),
        Origin::Image(fingerprint) => match state.images.contains_key(&state.image_key(&instance.project, fingerprint))
        {
            true => Ok(Vec::new()),
            false => Err(not_found("image", fingerprint)),
        },
        Origin::Copy(copy) => super::copy::check(state, instance, copy),
    }
}

/// Profiles, networks and pools that the spec names must exist; without a root disk there is no home for its data.
pub(super) fn check_spec(state: &ClusterState, project: &ProjectName, spec: &Spec) -> Outcome {
    for profile in &spec.profiles {
        if state.profile_of(project, profile).is_none() {
            return Err(not_found("profile", profile));
        }
    }
    let devices = state.expanded_devices(project, spec);
    check_devices(state, project, &devices)?;
    match devices.values().filter(|p| matches!(device::parse(p), Ok(Device::Root { .. }))).count() {
        1 => Ok(()),
        0 => Err(invalid(
            "devices",
            "no root disk: add a disk device with path=/ and pool=<storage pool> to the instance or one of its profiles",
        )),
        _ => Err(invalid("devices", "more than one root disk: only one disk device may have path=/")),
    }
}

/// Devices must be readable, and the networks and pools that they name must exist.
pub(super) fn check_devices(state: &ClusterState, project: &ProjectName, devices: &Devices) -> Outcome {
    for (name, properties) in devices {
        let refused = |e: device::InvalidDevice| invalid(&format!("devices.{name}.{}", e.key), e.why);
        let device = device::parse(properties).map_err(refused)?;
        match &device {
            Device::Root { pool, .. } if !state.pools.contains_key(pool) => {
                return Err(not_found("storage pool", pool));
            }
            Device::Nic { network: Some(network), .. } => match state.network_of(project, network) {
                None => return Err(not_found("network", network)),
                Some(network) => nic::on(state, network, properties, &device).map_err(refused)?,
            },
            Device::Nic { network: None, .. } => nic::bridged(None, properties, &device).map_err(refused)?,
            Device::Root { .. } | Device::Disk { .. } | Device::None => {}
        }
    }
    Ok(())
}

fn place(state: &mut ClusterState, id: InstanceId, node: NodeId, epoch: Epoch) -> Outcome {
    let Some(member) = state.members.get(&node) else { return Err(not_found("member", node)) };
    if member.duty != crate::member::Duty::Active {
        return Err(Rejected::Stale(format!("member {} is evacuated", member.name)));
    }
    let instance = find(state, id)?;
    match instance.placement {
        Placement::Unplaced { .. } if epoch == Epoch(1) => {
            instance.placement = Placement::On { node, epoch };
            Ok(())
        }
        Placement::Unplaced { .. } => Err(Rejected::Stale("the first epoch is 1".into())),
        Placement::On { .. } | Placement::Moving(_) => {
            Err(Rejected::Stale(format!("instance {} already has a home", instance.name)))
        }
    }
}

/// The instance, unless it is on its way out or to another home.
pub(super) fn alive(state: &ClusterState, id: InstanceId) -> Result<Instance, Rejected> {
    let found = state.instances.get(&id).ok_or_else(|| not_found("instance", id))?;
    if let Placement::Moving(to) = &found.placement {
        return Err(to.busy(&found.name));
    }
    match found.run.intent {
        Intent::Deleted => Err(Rejected::Busy(format!("instance {} is being deleted", found.name))),
        Intent::Stopped | Intent::Running | Intent::Frozen => Ok(found.clone()),
    }
}

fn update_spec(state: &mut ClusterState, id: InstanceId, expect: Option<Generation>, spec: &Spec) -> Outcome {
    let found = find(state, id)?.clone();
    expect_generation("instance", expect, found.generation)?;
    let found = alive(state, found.id)?;
    replace_spec(state, &found, spec)
}

/// What an instance is and what it was made from never change.
pub(super) fn same_nature(found: &Instance, spec: &Spec) -> Outcome {
    match found.spec.kind == spec.kind && found.spec.origin == spec.origin {
        true => Ok(()),
        false => Err(invalid("type", "an instance's type and origin cannot change")),
    }
}

/// `spec`, with what the home found out since the user read the instance: that is not the user's to drop.
pub(super) fn keep_volatile(found: &Spec, spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    for (key, value) in found.config.iter().filter(|(key, _)| key.starts_with("volatile.")) {
        spec.config.entry(key.clone()).or_insert_with(|| value.clone());
    }
    spec
}

/// Puts `spec` in place of what `found` has, if it can live with it where it is.
pub(super) fn replace_spec(state: &mut ClusterState, found: &Instance, spec: &Spec) -> Outcome {
    same_nature(found, spec)?;
    check_spec(state, &found.project, spec)?;
    let (old, new) = (state.root_pool(&found.project, &found.spec), state.root_pool(&found.project, spec));
    if old != new {
        return Err(invalid("devices", "the root disk's pool cannot be changed by an update: move the instance"));
    }
    let changed = Instance { spec: keep_volatile(&found.spec, spec), ..found.clone() };
    super::address::settle(state, &changed)?;
    let instance = find(state, found.id)?;
    instance.spec = changed.spec;
    instance.generation = instance.generation.next();
    super::evacuation::remark(state, found.id)
}

fn rename(state: &mut ClusterState, id: InstanceId, name: &InstanceName) -> Outcome {
    let found = find(state, id)?.clone();
    if let Placement::Moving(to) = &found.placement {
        return Err(to.busy(&found.name));
    }
    if found.run.intent != Intent::Stopped && found.phase() != Some(Phase::Stopped)
        || matches!(found.phase(), Some(Phase::Running | Phase::Frozen))
    {
        return Err(Rejected::Busy(format!("instance {} must be stopped to be renamed", found.name)));
    }
    let key = (found.project.clone(), name.clone());
    if state.instance_names.contains_key(&key) {
        return Err(exists("instance", name));
    }
    state.instance_names.remove(&(found.project.clone(), found.name.clone()));
    state.instance_names.insert(key, id);
    let instance = find(state, id)?;
    instance.name = name.clone();
    instance.generation = instance.generation.next();
    Ok(())
}

pub(super) fn set_run(
    state: &mut ClusterState,
    id: InstanceId,
    intent: Intent,
    restart: bool,
    stop: StopMode,
    at: Timestamp,
) -> Outcome {
    if intent == Intent::Deleted {
        super::copy::not_a_source(state, id, None)?;
    }
    let instance = find(state, id)?;
    if let Placement::Moving(to) = &instance.placement {
        return Err(to.busy(&instance.name));
    }
    if instance.run.intent == Intent::Deleted {
        return match intent {
            Intent::Deleted => Ok(()),
            Intent::Stopped | Intent::Running | Intent::Frozen => {
                Err(Rejected::Busy(format!("instance {} is being deleted", instance.name)))
            }
        };
    }
    if intent == Intent::Deleted {
        if instance.spec.config.get("security.protection.delete").is_some_and(|v| crate::config::is_true(v)) {
            return Err(Rejected::Busy(format!("instance {} is protected from deletion", instance.name)));
        }
        if matches!(instance.placement, Placement::Unplaced { .. }) {
            // Nobody ever made anything of it: there is nothing to destroy.
            bury(state, id);
            return Ok(());
        }
    }
    // A guest that is there, or may be about to be, stays: a thaw, or a start that crosses another request, must not
    // replace it. Only a settled report can say that there is none.
    let none = match instance.phase() {
        Some(Phase::Stopped | Phase::Failed) => instance.settled(),
        Some(Phase::Running | Phase::Frozen) | None => false,
    };
    let fresh = intent == Intent::Running && (restart || none || instance.run.start == 0);
    let run = &mut instance.run;
    run.intent = intent;
    run.request += 1;
    run.start += u64::from(fresh);
    run.stop = stop;
    if intent == Intent::Running {
        instance.last_used_at = at;
    }
    Ok(())
}

fn accept_report(state: &mut ClusterState, id: InstanceId, report: &Report) -> Outcome {
    let instance = owned(state, id, report.epoch)?;
    if report.request > instance.run.request {
        return Err(Rejected::Stale(format!("request {} was never made", report.request)));
    }
    let held = instance.current_report();
    // Reports of one agent may overtake each other when an answer is lost: an older one never wins.
    if held.is_some_and(|held| held.request > report.request || held.at > report.at) {
        return Ok(());
    }
    // What was made once stays so: whoever tells of a failure may not have seen its own earlier report yet.
    let made = report.made || held.is_some_and(|held| held.made);
    instance.report = Some(Report { made, ..report.clone() });
    if made || report.phase == Phase::Failed {
        super::copy::end(state, id, made);
    }
    Ok(())
}

fn forget(state: &mut ClusterState, id: InstanceId, epoch: Epoch) -> Outcome {
    if !state.instances.contains_key(&id) {
        return Ok(());
    }
    let instance = owned(state, id, epoch)?;
    if instance.run.intent != Intent::Deleted {
        return Err(Rejected::Busy(format!("instance {} is not being deleted", instance.name)));
    }
    bury(state, id);
    Ok(())
}

/// Takes an instance out for good.
pub(super) fn bury(state: &mut ClusterState, id: InstanceId) {
    let Some(instance) = state.instances.get(&id).cloned() else { return };
    state.instance_names.remove(&(instance.project, instance.name));
    state.instances.remove(&id);
    state.copies.remove(&id);
    super::address::release(state, id);
    let snapshots: Vec<_> = state.snapshots_of(id).map(|s| s.id).collect();
    for snapshot in snapshots {
        state.snapshots.remove(&(id, snapshot));
    }
    lay(&mut state.graves, &mut state.burials, id);
}

/// Puts one more into the row of the dead; the oldest make room.
pub(super) fn lay<K: Ord + Clone>(graves: &mut Table<K, u64>, burials: &mut u64, id: K) {
    *burials += 1;
    graves.insert(id, *burials);
    let kept_from = burials.saturating_sub(GRAVES);
    if graves.len() as u64 > GRAVES {
        graves.retain(|_, at| *at > kept_from);
    }
}
