//! Instances: lists, single ones, updates, rename, delete.

use basalt_model::command::InstanceCommand;
use basalt_model::instance::{Instance, Intent, Kind, Phase, Spec, StopMode};
use basalt_model::{Command, InstanceName, ProjectName};
use http::header::IF_MATCH;
use serde_json::Map;

use super::render::{self, Live};
use super::{relocate, restore, run, spec};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::instance::{Put, Rename};
use crate::dto::operation::{Class, Operation};
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::operation::New;
use crate::reply::{self, Reply};

/// How often a merge is made anew when others change the instance at the same time.
const MERGE_TRIES: usize = 20;

impl Call {
    /// The kind of instances that the path speaks of; `/1.0/instances` speaks of all.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.path.split('/').nth(2) {
            Some("containers") => Some(Kind::Container),
            Some("virtual-machines") => Some(Kind::VirtualMachine),
            Some(_) | None => None,
        }
    }

    /// The instance that the request is about.
    ///
    /// # Errors
    /// There is none of that name in the project, or the caller may not see it.
    pub(crate) fn instance(&self, name: &str) -> Result<Instance, Error> {
        let project = self.project()?;
        let missing = || Error::NotFound("Instance".into());
        let valid = InstanceName::new(name).map_err(|_| missing())?;
        let found = self.view.instance(&project, &valid).filter(|i| self.kind().is_none_or(|k| k == i.spec.kind));
        found.cloned().ok_or_else(missing)
    }

    /// The operation that an instance is busy with.
    pub(crate) fn instance_operation(&self, description: &'static str, instance: &Instance) -> New {
        New {
            class: Class::Task,
            description,
            project: Some(instance.project.clone()),
            resources: instance_resources(&instance.name),
            ..New::default()
        }
    }
}

/// Without `?project=`: lxc takes everything after the last slash for the name.
pub(super) fn instance_resources(name: &InstanceName) -> Vec<(&'static str, String)> {
    vec![("instances", format!("/1.0/instances/{name}")), ("containers", format!("/1.0/containers/{name}"))]
}

pub(crate) async fn list(call: Call) -> Reply {
    let projects = call.projects()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let kind = call.kind();
    let chosen = |project: &ProjectName| {
        let first = (project.clone(), None::<InstanceName>);
        // The index is ordered by project and name.
        call.view
            .instance_names
            .iter()
            .filter(move |((p, _), _)| *p == first.0)
            .filter_map(|(_, id)| call.view.instances.get(id))
            .filter(|i| kind.is_none_or(|k| k == i.spec.kind))
            .collect::<Vec<_>>()
    };
    let instances: Vec<&Instance> = projects.iter().flat_map(chosen).collect();
    let live = call.api.ports.telemetry.live().await;
    match call.recursion() {
        0 => reply::sync(names(&call, &instances, &filter, &live)),
        1 => {
            let all = instances.iter().map(|i| render::instance(&call.view, i, live.contains_key(&i.id)));
            reply::sync(all.filter(|i| filter.takes(i)).collect::<Vec<_>>())
        }
        _ => {
            let fields = call.fields()?;
            let all = instances.iter().map(|i| render::full(&call.view, i, live.get(&i.id)));
            let chosen = all.filter(|i| filter.takes(i)).map(|i| render::only(i, fields.as_deref()));
            reply::sync(chosen.collect::<Vec<_>>())
        }
    }
}

fn names(call: &Call, instances: &[&Instance], filter: &Filter, live: &Live) -> Vec<String> {
    let root = call.path.split('/').nth(2).unwrap_or("instances");
    let url = |i: &Instance| format!("/1.0/{root}/{}{}", i.name, i.project.suffix());
    let takes = |i: &Instance| filter.takes(&render::instance(&call.view, i, live.contains_key(&i.id)));
    instances.iter().filter(|i| takes(i)).map(|i| url(i)).collect()
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let instance = call.instance(&name)?;
    let etag = etag::of(&render::editable(&instance));
    let live = call.api.ports.telemetry.live().await;
    let live = live.get(&instance.id);
    match call.recursion() {
        0 => reply::sync_etag(render::instance(&call.view, &instance, live.is_some()), &etag),
        _ => reply::sync_etag(render::full(&call.view, &instance, live), &etag),
    }
}

/// Backups of an instance: there are none, as nothing makes any yet.
pub(crate) async fn backups(call: Call, Segment(name): Segment<String>) -> Reply {
    call.instance(&name)?;
    reply::sync([""; 0])
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    let instance = call.instance(&name)?;
    if let Some(snapshot) = body.restore.as_deref().filter(|name| !name.is_empty()) {
        return restore::restore(&call, &instance, snapshot, body.stateful.unwrap_or_default()).await;
    }
    let given = body.config.clone().unwrap_or_default();
    let changed = Spec {
        architecture: match body.architecture.as_deref() {
            Some("") | None => instance.spec.architecture.clone(),
            Some(text) => spec::architecture(text)?,
        },
        description: body.description.unwrap_or_default(),
        ephemeral: body.ephemeral.unwrap_or_default(),
        config: spec::config(spec::replaced_config(&instance.spec.config, given))?,
        devices: spec::devices(body.devices.unwrap_or_default())?,
        profiles: match &body.profiles {
            Some(names) => spec::profiles(&call.view, &instance.project, names)?,
            None => spec::profiles(&call.view, &instance.project, &["default".to_owned()])?,
        },
        ..instance.spec.clone()
    };
    update(&call, &instance, changed, false).await?;
    let new = call.instance_operation("Updating instance", &instance);
    // The change is made; the operation only says so in the shape that clients wait for.
    let operation = call.api.operations.start(new, |_| async { Ok(Map::new()) });
    reply::operation(&operation)
}

pub(crate) async fn patch(mut call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    // The state of this member may be behind. What is made from it is applied only if it still holds, and nothing is
    // refused on its word.
    let mut confirmed = false;
    for _ in 0..MERGE_TRIES {
        let merged = call.instance(&name).and_then(|instance| Ok((patched(&call, &instance, body.clone())?, instance)));
        let outcome = match merged {
            Ok((changed, instance)) => update(&call, &instance, changed, true).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => return reply::empty(),
            // It may have happened.
            Err(Error::Unavailable(why)) => return Err(Error::Unavailable(why)),
            Err(_) if !confirmed => {}
            // Two merges crossed: without `If-Match` neither wants to know, so this one is made anew.
            Err(Error::Changed(_)) if !call.headers.contains_key(IF_MATCH) => {}
            Err(error) => return Err(error),
        }
        call.confirm().await?;
        confirmed = true;
    }
    Err(Error::Unavailable("the instance is changed all the time by others: try again".into()))
}

fn patched(call: &Call, instance: &Instance, body: Put) -> Result<Spec, Error> {
    let present = &instance.spec;
    let mut devices = present.devices.clone();
    devices.extend(body.devices.unwrap_or_default());
    let given = body.config.unwrap_or_default();
    spec::plain_text("config", &given)?;
    let merged = spec::merged(&present.config, given);
    Ok(Spec {
        architecture: match body.architecture.as_deref() {
            Some("") | None => present.architecture.clone(),
            Some(text) => spec::architecture(text)?,
        },
        description: body.description.unwrap_or_else(|| present.description.clone()),
        ephemeral: body.ephemeral.unwrap_or(present.ephemeral),
        config: spec::config(spec::replaced_config(&present.config, merged))?,
        devices: spec::devices(devices)?,
        profiles: match &body.profiles {
            Some(names) => spec::profiles(&call.view, &instance.project, names)?,
            None => present.profiles.clone(),
        },
        ..present.clone()
    })
}

/// Proposes the new spec; with `merges` only if the old one is still what it was made from.
async fn update(call: &Call, instance: &Instance, mut changed: Spec, merges: bool) -> Result<(), Error> {
    etag::check(&call.headers, &etag::of(&render::editable(instance)))?;
    spec::with_macs(&call.view, &instance.project, &mut changed);
    let guarded = merges || call.headers.contains_key(IF_MATCH);
    let expect = guarded.then_some(instance.generation);
    let update = InstanceCommand::UpdateSpec { id: instance.id, expect, spec: Box::new(changed) };
    call.propose(Command::Instance(update)).await?;
    call.happened("instance-updated", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
    Ok(())
}

/// Rename, or move.
pub(crate) async fn post(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let instance = call.instance(&name)?;
    if relocate::is_move(&call, &body) {
        return relocate::relocate(call, instance, body).await;
    }
    let to = InstanceName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    if matches!(instance.phase(), Some(Phase::Running | Phase::Frozen)) {
        return Err(Error::Refused("Renaming of running instance not allowed".into()));
    }
    let rename = InstanceCommand::Rename { id: instance.id, name: to.clone() };
    call.propose(Command::Instance(rename)).await?;
    call.happened("instance-renamed", format!("/1.0/instances/{to}"), Some(&instance.project));
    let new = New { resources: instance_resources(&to), ..call.instance_operation("Renaming instance", &instance) };
    let operation = call.api.operations.start(new, |_| async { Ok(Map::new()) });
    reply::operation(&operation)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let instance = call.instance(&name)?;
    if matches!(instance.phase(), Some(Phase::Running | Phase::Frozen)) {
        return Err(Error::Refused("Instance is running".into()));
    }
    if let Some(lost) = run::lost_home(&call.view, &instance) {
        return Err(lost);
    }
    let delete = InstanceCommand::SetRun {
        id: instance.id,
        intent: Intent::Deleted,
        restart: false,
        stop: StopMode::default(),
        at: clock::now(),
    };
    call.propose(Command::Instance(delete)).await?;
    let request = call.api.view().instances.get(&instance.id).map_or(0, |i| i.run.request);
    let operation = deleting(&call, instance, request);
    reply::operation(&operation)
}

fn deleting(call: &Call, instance: Instance, request: u64) -> Operation {
    let new = call.instance_operation("Deleting instance", &instance);
    let call = call.clone();
    let api = call.api.clone();
    api.operations.start(new, |_| async move {
        run::gone(&call.api, instance.id, request).await?;
        call.happened("instance-deleted", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
        Ok(Map::new())
    })
}
