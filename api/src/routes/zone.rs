//! Network zones. A project has its own, or shares those of the default project.

pub(crate) mod records;

use std::collections::BTreeSet;

use basalt_model::command::{Expect, ZoneCommand};
use basalt_model::network::zone::{PeerField, Zone, peer_key};
use basalt_model::{Command, ProjectName, ZoneName};
use http::header::IF_MATCH;

use super::spec;
use crate::call::{Call, Json, Segment};
use crate::dto::Map;
use crate::dto::network::Put;
use crate::dto::zone as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn show(call: &Call, zone: &Zone) -> wire::Zone {
    wire::Zone {
        name: zone.name.to_string(),
        description: zone.description.clone(),
        config: shown_config(call, zone),
        used_by: call.seen(call.view.zone_users(&zone.name)),
        project: zone.project.to_string(),
    }
}

/// Secrets of peers are for those who may set them.
fn shown_config(call: &Call, zone: &Zone) -> Map {
    let mut config = zone.config.clone();
    if !call.who.full() {
        config.retain(|key, _| !matches!(peer_key(key), Some((_, PeerField::Key))));
    }
    config
}

/// The zone of that name, among those of the request's project.
fn find(call: &Call, name: &str) -> Result<Zone, Error> {
    let missing = || Error::NotFound("Network zone".into());
    let project = call.view.zone_project(&call.project()?);
    let name = ZoneName::new(name).map_err(|_| missing())?;
    call.view.zones.get(&name).filter(|zone| zone.project == project).cloned().ok_or_else(missing)
}

fn tag(call: &Call, zone: &Zone) -> String {
    etag::of(&(&zone.description, shown_config(call, zone)))
}

fn url(zone: &Zone) -> String {
    format!("/1.0/network-zones/{}{}", zone.name, zone.project.suffix())
}

fn happened(call: &Call, action: &str, project: &ProjectName, path: String) {
    call.happened(action, path, Some(project));
}

pub(crate) async fn list(call: Call) -> Reply {
    let projects: BTreeSet<ProjectName> = call.projects()?.iter().map(|p| call.view.zone_project(p)).collect();
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let zones = call.view.zones.values().filter(|zone| projects.contains(&zone.project));
    let zones = zones.map(|zone| (url(zone), show(&call, zone))).filter(|(_, zone)| filter.takes(zone));
    match call.recursion() {
        0 => reply::sync(zones.map(|(url, _)| url).collect::<Vec<_>>()),
        _ => reply::sync(zones.map(|(_, zone)| zone).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let zone = find(&call, &name)?;
    reply::sync_etag(show(&call, &zone), &tag(&call, &zone))
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Zone>) -> Reply {
    let project = call.view.zone_project(&call.project()?);
    let name = ZoneName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let zone = Zone { description: body.description, config: config(body.config)?, ..Zone::new(name, project) };
    let location = url(&zone);
    let (name, project) = (zone.name.clone(), zone.project.clone());
    call.propose(Command::Zone(ZoneCommand::Put { zone: Box::new(zone), expect: Expect::Absent })).await?;
    happened(&call, "network-zone-created", &project, format!("/1.0/network-zones/{name}"));
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    let present = find(&call, &name)?;
    let config = config(body.config.unwrap_or_default())?;
    let description = body.description.unwrap_or_default();
    update(&call, &present, Zone { description, config, ..present.clone() }).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    let present = find(&call, &name)?;
    let config = config(spec::merged(&present.config, body.config.unwrap_or_default()))?;
    let description = body.description.unwrap_or_else(|| present.description.clone());
    update(&call, &present, Zone { description, config, ..present.clone() }).await
}

async fn update(call: &Call, present: &Zone, zone: Zone) -> Reply {
    etag::check(&call.headers, &tag(call, present))?;
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    call.propose(Command::Zone(ZoneCommand::Put { zone: Box::new(zone), expect })).await?;
    let path = format!("/1.0/network-zones/{}", present.name);
    happened(call, "network-zone-updated", &present.project, path);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let zone = find(&call, &name)?;
    call.propose(Command::Zone(ZoneCommand::Remove(zone.name))).await?;
    happened(&call, "network-zone-deleted", &zone.project, format!("/1.0/network-zones/{name}"));
    reply::empty()
}

/// Keys that are set; what they mean is found out where they are applied.
fn config(mut given: Map) -> Result<Map, Error> {
    spec::plain_text("config", &given)?;
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}
