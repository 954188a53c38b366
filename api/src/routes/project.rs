//! Projects.

mod clear;

use basalt_model::command::ProjectCommand;
use basalt_model::config::{self, PROJECT};
use basalt_model::network::NetworkKind;
use basalt_model::project::Project;
use basalt_model::quota::{self, Resource, Share};
use basalt_model::{Command, Generation, GroupName, NetworkKey, NetworkName, PoolName, ProjectName, StateView};
use http::header::IF_MATCH;
use serde_json::Map;

use super::{render, spec};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto;
use crate::dto::network::{Put, Rename};
use crate::dto::operation::Class;
use crate::dto::project as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::operation::New;
use crate::reply::{self, Reply};

/// What is its own in every project, and what all share.
const FEATURES: &[(&str, &str)] = &[
    ("features.images", "false"),
    ("features.networks", "false"),
    ("features.networks.zones", "false"),
    ("features.profiles", "true"),
    ("features.storage.volumes", "true"),
];

fn show(call: &Call, project: &Project) -> wire::Project {
    let view = &call.view;
    let suffix = project.name.suffix();
    let instances = view.instances.values().filter(|i| i.project == project.name).map(render::instance_url);
    let profiles = view.profiles.values().filter(|p| p.project == project.name);
    let profiles = profiles.map(|p| format!("/1.0/profiles/{}{suffix}", p.name));
    let zones = view.zones.values().filter(|zone| zone.project == project.name);
    let zones = zones.map(|zone| format!("/1.0/network-zones/{}{suffix}", zone.name));
    let networks = view.networks.keys().filter(|id| id.project == project.name);
    let networks = networks.map(|id| format!("/1.0/networks/{}{suffix}", id.name));
    let acls = view.acls.keys().filter(|id| id.project == project.name);
    let acls = acls.map(|id| format!("/1.0/network-acls/{}{suffix}", id.name));
    let sets = view.address_sets.keys().filter(|id| id.project == project.name);
    let sets = sets.map(|id| format!("/1.0/network-address-sets/{}{suffix}", id.name));
    let images = view.images_of(&project.name).map(|image| format!("/1.0/images/{}{suffix}", image.fingerprint));
    let used_by =
        instances.chain(profiles).chain(zones).chain(networks).chain(acls).chain(sets).chain(images).collect();
    wire::Project {
        name: project.name.to_string(),
        description: project.description.clone(),
        config: shown_config(project),
        used_by,
    }
}

fn shown_config(project: &Project) -> dto::Map {
    let mut config: dto::Map = FEATURES.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    if project.name == ProjectName::default_project() {
        // Clients take the default project to hold what all share.
        config.values_mut().for_each(|v| *v = "true".into());
    }
    config.extend(project.config.clone());
    config
}

fn find(call: &Call, name: &str) -> Result<Project, Error> {
    let missing = || Error::NotFound("Project".into());
    let name = ProjectName::new(name).map_err(|_| missing())?;
    call.view.projects.get(&name).filter(|p| call.who.sees(&p.name)).cloned().ok_or_else(missing)
}

fn tag(project: &Project) -> String {
    etag::of(&(&project.description, shown_config(project)))
}

/// What is to be kept of a configuration: the features that always hold need no record.
fn config(view: &StateView, name: &ProjectName, mut given: dto::Map) -> Result<dto::Map, Error> {
    spec::plain_text("config", &given)?;
    let default = *name == ProjectName::default_project();
    given.retain(|key, value| {
        let fixed = FEATURES.iter().find(|(k, _)| k == key);
        !value.is_empty() && !fixed.is_some_and(|(_, v)| v == value || (default && value == "true"))
    });
    config::validate(PROJECT, &given).map_err(|wrong| Error::keys("config", &wrong))?;
    known(view, &given)?;
    Ok(given)
}

/// What a project's keys name must exist: a slip of the pen would open or close something else.
fn known(view: &StateView, config: &dto::Map) -> Result<(), Error> {
    let missing = |key: &str, what: &str, name: &str| {
        Err(Error::invalid(format!("config.{key}"), format!("there is no {what} {name:?}")))
    };
    let words = |key: &str| {
        let value = config.get(key).map(String::as_str).unwrap_or_default();
        value.split(',').map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    for key in config.keys() {
        if let Some(pool) = key.strip_prefix("limits.disk.pool.")
            && !PoolName::new(pool).is_ok_and(|name| view.pools.contains_key(&name))
        {
            return missing(key, "storage pool", pool);
        }
    }
    for group in words("restricted.cluster.groups") {
        if !GroupName::new(group).is_ok_and(|name| view.groups.contains_key(&name)) {
            return missing("restricted.cluster.groups", "cluster group", group);
        }
    }
    for uplink in words("restricted.networks.uplinks") {
        let found = NetworkName::new(uplink).ok().and_then(|name| view.networks.get(&NetworkKey::in_default(name)));
        if found.is_none_or(|network| network.kind == NetworkKind::Ovn) {
            return missing("restricted.networks.uplinks", "uplink", uplink);
        }
    }
    // Bridges of the host may be named as well; they are none of the cluster's objects.
    match words("restricted.networks.access").into_iter().find(|name| NetworkName::new(*name).is_err()) {
        Some(network) => missing("restricted.networks.access", "network", network),
        None => Ok(()),
    }
}

pub(crate) async fn list(call: Call) -> Reply {
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let projects = call.view.projects.values().filter(|p| call.who.sees(&p.name));
    let projects = projects.map(|p| show(&call, p)).filter(|p| filter.takes(p));
    match call.recursion() {
        0 => reply::sync(projects.map(|p| format!("/1.0/projects/{}", p.name)).collect::<Vec<_>>()),
        _ => reply::sync(projects.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let project = find(&call, &name)?;
    reply::sync_etag(show(&call, &project), &tag(&project))
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Project>) -> Reply {
    let name = ProjectName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let project = Project {
        config: config(&call.view, &name, body.config)?,
        description: body.description,
        created_at: clock::now(),
        generation: Generation(1),
        name: name.clone(),
    };
    call.propose(Command::Project(ProjectCommand::Add(project))).await?;
    let location = format!("/1.0/projects/{name}");
    call.happened("project-created", location.clone(), Some(&name));
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    let project = find(&call, &name)?;
    let description = body.description.unwrap_or_default();
    update(&call, &project, description, body.config.unwrap_or_default()).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    let project = find(&call, &name)?;
    let description = body.description.unwrap_or_else(|| project.description.clone());
    let config = spec::merged(&project.config, body.config.unwrap_or_default());
    update(&call, &project, description, config).await
}

async fn update(call: &Call, present: &Project, description: String, given: dto::Map) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let update = ProjectCommand::Update {
        name: present.name.clone(),
        expect: call.headers.contains_key(IF_MATCH).then_some(present.generation),
        description,
        config: config(&call.view, &present.name, given)?,
    };
    call.propose(Command::Project(update)).await?;
    call.happened("project-updated", format!("/1.0/projects/{}", present.name), Some(&present.name));
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let project = find(&call, &name)?;
    let to = ProjectName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let rename = ProjectCommand::Rename { name: project.name, to: to.clone() };
    call.propose(Command::Project(rename)).await?;
    call.happened("project-renamed", format!("/1.0/projects/{to}"), Some(&to));
    // It is of no project: whoever asked listens in another one than either name, and would never hear of the end.
    let new = New { class: Class::Task, description: "Renaming project", ..New::default() };
    reply::operation(&call.api.operations.start(new, |_| async { Ok(Map::new()) }))
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let project = find(&call, &name)?;
    if call.flag("force") && project.name != ProjectName::default_project() {
        clear::all(&call, &project.name).await?;
    }
    call.propose(Command::Project(ProjectCommand::Remove(project.name.clone()))).await?;
    call.happened("project-deleted", format!("/1.0/projects/{}", project.name), None);
    reply::empty()
}

/// How much of each resource is promised, and may be; -1 where there is no limit.
pub(crate) async fn state(call: Call, Segment(name): Segment<String>) -> Reply {
    let project = find(&call, &name)?;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let shown = |(resource, share): (Resource, Share)| {
        let limit = share.limit.map_or(-1, number);
        (resource.word(), wire::Resource { limit, usage: number(share.used) })
    };
    let resources = quota::shares(&call.view, &project).into_iter().map(shown).collect();
    reply::sync(wire::State { resources })
}
