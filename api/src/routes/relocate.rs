//! `POST` of an instance that is more than a new name: to another member, another pool, another project.

use basalt_model::command::InstanceCommand;
use basalt_model::device::{self, Device};
use basalt_model::instance::{Instance, MovePlan, Phase, Placement, Spec, Target};
use basalt_model::{Command, InstanceName, NodeId, PoolName, ProjectName, StateView};
use serde_json::Map;

use super::instance::instance_resources;
use super::{instance_create, run, spec};
use crate::call::Call;
use crate::dto::instance::Rename;
use crate::error::Error;
use crate::operation::New;
use crate::reply::{self, Reply};

/// Whether the request asks for more than another name.
pub(super) fn is_move(call: &Call, body: &Rename) -> bool {
    body.migration || call.query("target").is_some() || !body.pool.is_empty() || !body.project.is_empty()
}

/// Begins the move, and waits for its end in an operation.
pub(super) async fn relocate(call: Call, instance: Instance, body: Rename) -> Reply {
    let elsewhere = call.query("target").is_some() || !body.pool.is_empty() || !body.project.is_empty();
    if body.target.is_some() || !elsewhere {
        return Err(Error::NotImplemented(
            "sending an instance to another server; within the cluster name a target, a pool or a project".into(),
        ));
    }
    if body.instance_only || body.container_only {
        return Err(Error::invalid("instance_only", "snapshots move with their instance: delete them first"));
    }
    // `live` is sent for stopped ones too, and means nothing for them.
    if matches!(instance.phase(), Some(Phase::Running | Phase::Frozen)) {
        return Err(Error::Refused("Instance is running: stop it to move it".into()));
    }
    if let Some(lost) = run::lost_home(&call.view, &instance) {
        return Err(lost);
    }
    let plan = plan(&call, &instance, &body)?;
    let to = match call.query("target") {
        Some(_) => named_member(&call.view, &plan.target).filter(|node| Some(*node) == home(&instance)),
        None => home(&instance),
    };
    let name = plan.name.clone();
    let project = plan.project.clone();
    let expect = Some(instance.generation);
    let command = InstanceCommand::Move { id: instance.id, to, plan: Box::new(plan), expect };
    call.propose(Command::Instance(command)).await?;
    // Without a volume to be carried there is no landing: it is done. One that is quick may have ended by now.
    let given = call.api.view().instances.get(&instance.id).map(|i| i.errands.landings);
    let landing = given.filter(|landing| *landing > instance.errands.landings);
    let new = New {
        project: Some(project.clone()),
        resources: instance_resources(&name),
        ..call.instance_operation("Migrating instance", &instance)
    };
    let api = call.api.clone();
    let operation = api.operations.start(new, |handle| async move {
        if let Some(landing) = landing {
            run::moved(&call.api, instance.id, landing, &handle).await?;
        }
        call.happened("instance-migrated", format!("/1.0/instances/{name}"), Some(&project));
        Ok(Map::new())
    });
    reply::operation(&operation)
}

fn home(instance: &Instance) -> Option<NodeId> {
    instance.placement.home().map(|(node, _)| node)
}

fn named_member(view: &StateView, target: &Target) -> Option<NodeId> {
    match target {
        Target::Member(name) => view.member_named(name).map(|m| m.id),
        Target::Any | Target::Group(_) => None,
    }
}

/// What the instance becomes.
fn plan(call: &Call, instance: &Instance, body: &Rename) -> Result<MovePlan, Error> {
    let project = match body.project.as_str() {
        "" => instance.project.clone(),
        text => {
            let found = ProjectName::new(text).ok().filter(|p| call.view.projects.contains_key(p) && call.who.sees(p));
            found.ok_or_else(|| Error::NotFound(format!("Project {text:?}")))?
        }
    };
    let name = match body.name.as_str() {
        "" => instance.name.clone(),
        text => InstanceName::new(text).map_err(|e| Error::invalid("name", e))?,
    };
    let target = match call.query("target") {
        Some(_) => instance_create::target(call, &project)?,
        None => instance.target.clone(),
    };
    let spec = planned_spec(call, instance, &project, body)?;
    Ok(MovePlan { target, project, name, spec })
}

fn planned_spec(call: &Call, instance: &Instance, project: &ProjectName, body: &Rename) -> Result<Spec, Error> {
    let present = &instance.spec;
    let mut given = present.config.clone();
    given.extend(body.config.clone().unwrap_or_default());
    let mut devices = present.devices.clone();
    devices.extend(body.devices.clone().unwrap_or_default());
    let named: Vec<String> = match &body.profiles {
        Some(names) => names.clone(),
        None => present.profiles.iter().map(ToString::to_string).collect(),
    };
    let mut spec = Spec {
        config: spec::config(spec::replaced_config(&present.config, given))?,
        devices: spec::devices(devices)?,
        profiles: spec::profiles(&call.view, project, &named)?,
        ..present.clone()
    };
    if !body.pool.is_empty() {
        let pool = PoolName::new(body.pool.as_str()).map_err(|e| Error::invalid("pool", e))?;
        if !call.view.pools.contains_key(&pool) {
            return Err(Error::NotFound(format!("Storage pool {:?}", pool.as_str())));
        }
        into_pool(&call.view, project, &mut spec, &pool)?;
    }
    spec::with_macs(&call.view, project, &mut spec);
    Ok(spec)
}

/// Gives `spec` a root disk of its own in `pool`, otherwise like the one that it has.
fn into_pool(view: &StateView, project: &ProjectName, spec: &mut Spec, pool: &PoolName) -> Result<(), Error> {
    let expanded = view.expanded_devices(project, spec);
    let root = expanded.into_iter().find(|(_, p)| matches!(device::parse(p), Ok(Device::Root { .. })));
    let (name, mut properties) = root.ok_or_else(|| Error::invalid("pool", "the instance has no root disk"))?;
    properties.insert("pool".into(), pool.to_string());
    spec.devices.insert(name, properties);
    Ok(())
}

/// Whether an instance is on its way, and to whom, for people.
pub(super) fn progress(view: &StateView, instance: &Instance) -> Option<String> {
    let Placement::Moving(on_its_way) = &instance.placement else { return None };
    Some(match on_its_way.to.and_then(|node| view.members.get(&node)) {
        Some(member) => format!("Copying to {}", member.name),
        None => "Looking for a member".into(),
    })
}
