//! Snapshots of an instance.

use basalt_model::command::SnapshotCommand;
use basalt_model::instance::Instance;
use basalt_model::restriction;
use basalt_model::snapshot::Snapshot;
use basalt_model::{Command, SnapshotId, SnapshotName, Timestamp};
use serde_json::Map;

use super::{render, run};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::instance::{Rename, SnapshotPost, SnapshotPut};
use crate::error::Error;
use crate::etag;
use crate::operation::New;
use crate::reply::{self, Reply};
use crate::snapshot_name;

/// How often another name is made up when somebody else takes the one that was.
const NAME_TRIES: usize = 20;

/// A snapshot by its name.
///
/// # Errors
/// There is none of that name.
pub(super) fn find(call: &Call, instance: &Instance, name: &str) -> Result<Snapshot, Error> {
    let valid = SnapshotName::new(name).ok();
    let found = valid.and_then(|name| call.view.snapshot_named(instance.id, &name).cloned());
    found.ok_or_else(|| Error::NotFound(format!("Snapshot {name:?} of instance {:?}", instance.name.as_str())))
}

fn url(instance: &Instance, name: &SnapshotName) -> String {
    format!("/1.0/instances/{}/snapshots/{name}", instance.name)
}

fn operation_of(call: &Call, description: &'static str, instance: &Instance, name: &SnapshotName) -> New {
    let mut new = call.instance_operation(description, instance);
    new.resources.push(("instances_snapshots", url(instance, name)));
    new
}

pub(crate) async fn list(call: Call, Segment(name): Segment<String>) -> Reply {
    let instance = call.instance(&name)?;
    let all = render::snapshots(&call.view, &instance);
    let root = call.path.split('/').nth(2).unwrap_or("instances");
    let suffix = instance.project.suffix();
    match call.recursion() {
        0 => {
            let url = |s: &crate::dto::instance::Snapshot| format!("/1.0/{root}/{name}/snapshots/{}{suffix}", s.name);
            reply::sync(all.iter().map(url).collect::<Vec<_>>())
        }
        _ => reply::sync(all),
    }
}

pub(crate) async fn get(call: Call, Segment((name, snapshot)): Segment<(String, String)>) -> Reply {
    let instance = call.instance(&name)?;
    let found = find(&call, &instance, &snapshot)?;
    reply::sync_etag(render::snapshot(&call.view, &instance, &found), &tag(&found))
}

/// What `PUT` may change.
fn tag(snapshot: &Snapshot) -> String {
    etag::of(&(snapshot.name.clone(), snapshot.expires_at))
}

pub(crate) async fn create(call: Call, Segment(name): Segment<String>, Json(body): Json<SnapshotPost>) -> Reply {
    let instance = call.instance(&name)?;
    if body.stateful {
        return Err(Error::invalid("stateful", "is not supported: snapshots hold no memory"));
    }
    let project = call.view.projects.get(&instance.project);
    if project.is_some_and(|p| restriction::blocks(p, "restricted.snapshots")) {
        return Err(Error::Forbidden(format!("Project {:?} does not allow snapshots", instance.project.as_str())));
    }
    if let Some(lost) = run::lost_home(&call.view, &instance) {
        return Err(lost);
    }
    let at = clock::now();
    let expires_at = expiry(&call, &instance, &body, at)?;
    let id = SnapshotId(uuid::Uuid::now_v7());
    let name = match body.name.is_empty() {
        false => {
            let name = SnapshotName::new(body.name).map_err(|e| Error::invalid("name", e))?;
            propose(&call, &instance, (id, &name), (at, expires_at)).await?;
            name
        }
        true => named(&call, &instance, id, (at, expires_at)).await?,
    };
    let new = operation_of(&call, "Snapshotting instance", &instance, &name);
    let (url, api) = (url(&instance, &name), call.api.clone());
    let operation = api.operations.start(new, |_| async move {
        run::snapshot_taken(&call.api, instance.id, id).await?;
        call.happened("instance-snapshot-created", url, Some(&instance.project));
        Ok(Map::new())
    });
    reply::operation(&operation)
}

async fn propose(
    call: &Call,
    instance: &Instance,
    (id, name): (SnapshotId, &SnapshotName),
    (at, expires_at): (Timestamp, Timestamp),
) -> Result<(), Error> {
    let create = SnapshotCommand::Create { instance: instance.id, id, name: name.clone(), at, expires_at };
    call.propose(Command::Snapshot(create)).await.map(|_| ())
}

/// Proposes it under the next free name of `snapshots.pattern`.
async fn named(
    call: &Call,
    instance: &Instance,
    id: SnapshotId,
    (at, expires_at): (Timestamp, Timestamp),
) -> Result<SnapshotName, Error> {
    for _ in 0..NAME_TRIES {
        let view = call.api.ports.cluster.linearizable().await?;
        let name = snapshot_name::name(&view, instance, at);
        let name = name.map_err(|e| Error::invalid("config.snapshots.pattern", e))?;
        match propose(call, instance, (id, &name), (at, expires_at)).await {
            Ok(()) => return Ok(name),
            Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Unavailable("others take every name that is made up: give one".into()))
}

/// When it ends: as asked for, or as the instance's configuration says.
fn expiry(call: &Call, instance: &Instance, body: &SnapshotPost, at: Timestamp) -> Result<Timestamp, Error> {
    if let Some(text) = &body.expires_at {
        return clock::parse(text).map_err(|e| Error::invalid("expires_at", e));
    }
    let given = snapshot_name::expiry(&call.view, instance, at);
    given.map_err(|e| Error::invalid("config.snapshots.expiry", e))
}

pub(crate) async fn put(
    call: Call,
    Segment((name, snapshot)): Segment<(String, String)>,
    Json(body): Json<SnapshotPut>,
) -> Reply {
    let expires_at = body.expires_at.unwrap_or_default();
    update(call, (name, snapshot), Some(expires_at)).await
}

pub(crate) async fn patch(
    call: Call,
    Segment((name, snapshot)): Segment<(String, String)>,
    Json(body): Json<SnapshotPut>,
) -> Reply {
    update(call, (name, snapshot), body.expires_at).await
}

async fn update(call: Call, (name, snapshot): (String, String), expires_at: Option<String>) -> Reply {
    let instance = call.instance(&name)?;
    let found = find(&call, &instance, &snapshot)?;
    etag::check(&call.headers, &tag(&found))?;
    if let Some(text) = expires_at {
        let expires_at = clock::parse(&text).map_err(|e| Error::invalid("expires_at", e))?;
        let update = SnapshotCommand::Update { instance: instance.id, id: found.id, expires_at };
        call.propose(Command::Snapshot(update)).await?;
        call.happened("instance-snapshot-updated", url(&instance, &found.name), Some(&instance.project));
    }
    let new = operation_of(&call, "Updating snapshot", &instance, &found.name);
    let operation = call.api.operations.start(new, |_| async { Ok(Map::new()) });
    reply::operation(&operation)
}

pub(crate) async fn rename(
    call: Call,
    Segment((name, snapshot)): Segment<(String, String)>,
    Json(body): Json<Rename>,
) -> Reply {
    let instance = call.instance(&name)?;
    let found = find(&call, &instance, &snapshot)?;
    if body.migration {
        return Err(Error::NotImplemented("sending a snapshot to another server".into()));
    }
    let to = SnapshotName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let rename = SnapshotCommand::Rename { instance: instance.id, id: found.id, name: to.clone() };
    call.propose(Command::Snapshot(rename)).await?;
    call.happened("instance-snapshot-renamed", url(&instance, &to), Some(&instance.project));
    let new = operation_of(&call, "Renaming snapshot", &instance, &to);
    let operation = call.api.operations.start(new, |_| async { Ok(Map::new()) });
    reply::operation(&operation)
}

pub(crate) async fn delete(call: Call, Segment((name, snapshot)): Segment<(String, String)>) -> Reply {
    let instance = call.instance(&name)?;
    let found = find(&call, &instance, &snapshot)?;
    if let Some(lost) = run::lost_home(&call.view, &instance) {
        return Err(lost);
    }
    let delete = SnapshotCommand::Delete { instance: instance.id, id: found.id };
    call.propose(Command::Snapshot(delete)).await?;
    let new = operation_of(&call, "Deleting snapshot", &instance, &found.name);
    let (url, api) = (url(&instance, &found.name), call.api.clone());
    let operation = api.operations.start(new, |_| async move {
        run::snapshot_gone(&call.api, instance.id, found.id).await?;
        call.happened("instance-snapshot-deleted", url, Some(&instance.project));
        Ok(Map::new())
    });
    reply::operation(&operation)
}
