//! Profiles.

use std::collections::BTreeSet;

use basalt_model::command::ProfileCommand;
use basalt_model::profile::Profile;
use basalt_model::{Command, Generation, ProfileName};
use http::header::IF_MATCH;

use super::{render, spec};
use crate::call::{Call, Json, Segment};
use crate::dto::network::Rename;
use crate::dto::profile as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn show(call: &Call, profile: &Profile) -> wire::Profile {
    let users = call.view.profile_users(&profile.project, &profile.name);
    wire::Profile {
        name: profile.name.to_string(),
        description: profile.description.clone(),
        config: profile.config.clone(),
        devices: profile.devices.clone(),
        used_by: call.seen(users.map(render::instance_url).collect()),
        project: profile.project.to_string(),
    }
}

fn find(call: &Call, name: &str) -> Result<Profile, Error> {
    let missing = || Error::NotFound("Profile".into());
    let name = ProfileName::new(name).map_err(|_| missing())?;
    call.view.profiles.get(&(call.profile_project()?, name)).cloned().ok_or_else(missing)
}

fn tag(profile: &Profile) -> String {
    etag::of(&(&profile.description, &profile.config, &profile.devices))
}

fn url(profile: &Profile) -> String {
    format!("/1.0/profiles/{}{}", profile.name, profile.project.suffix())
}

pub(crate) async fn list(call: Call) -> Reply {
    let projects: BTreeSet<_> = call.projects()?.iter().map(|project| call.view.profile_project(project)).collect();
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let profiles = call.view.profiles.values().filter(|p| projects.contains(&p.project));
    let profiles = profiles.filter(|p| filter.takes(&show(&call, p)));
    match call.recursion() {
        0 => reply::sync(profiles.map(url).collect::<Vec<_>>()),
        _ => reply::sync(profiles.map(|p| show(&call, p)).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let profile = find(&call, &name)?;
    reply::sync_etag(show(&call, &profile), &tag(&profile))
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Profile>) -> Reply {
    let profile = Profile {
        project: call.profile_project()?,
        name: ProfileName::new(body.name).map_err(|e| Error::invalid("name", e))?,
        description: body.description,
        config: spec::config(body.config)?,
        devices: spec::devices(body.devices)?,
        generation: Generation(1),
    };
    let (location, project) = (format!("/1.0/profiles/{}", profile.name), profile.project.clone());
    call.propose(Command::Profile(ProfileCommand::Add(profile))).await?;
    call.happened("profile-created", location.clone(), Some(&project));
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let profile = find(&call, &name)?;
    let changed = Profile {
        description: body.description.unwrap_or_default(),
        config: body.config.unwrap_or_default(),
        devices: body.devices.unwrap_or_default(),
        ..profile.clone()
    };
    update(&call, &profile, changed).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let profile = find(&call, &name)?;
    let mut changed = profile.clone();
    changed.config = spec::merged(&changed.config, body.config.unwrap_or_default());
    changed.devices.extend(body.devices.unwrap_or_default());
    if let Some(description) = body.description {
        changed.description = description;
    }
    update(&call, &profile, changed).await
}

async fn update(call: &Call, present: &Profile, changed: Profile) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let update = ProfileCommand::Update {
        project: changed.project.clone(),
        name: changed.name.clone(),
        expect: call.headers.contains_key(IF_MATCH).then_some(present.generation),
        description: changed.description,
        config: spec::config(changed.config)?,
        devices: spec::devices(changed.devices)?,
    };
    call.propose(Command::Profile(update)).await?;
    call.happened("profile-updated", format!("/1.0/profiles/{}", present.name), Some(&present.project));
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let profile = find(&call, &name)?;
    let to = ProfileName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let location = format!("/1.0/profiles/{to}");
    let rename = ProfileCommand::Rename { project: profile.project.clone(), name: profile.name, to };
    call.propose(Command::Profile(rename)).await?;
    call.happened("profile-renamed", location.clone(), Some(&profile.project));
    reply::created(&location)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let profile = find(&call, &name)?;
    let source = format!("/1.0/profiles/{}", profile.name);
    let remove = ProfileCommand::Remove { project: profile.project.clone(), name: profile.name };
    call.propose(Command::Profile(remove)).await?;
    call.happened("profile-deleted", source, Some(&profile.project));
    reply::empty()
}
