//! Warnings, as the cluster keeps them: see `basalt_model::warning`.

use basalt_model::command::WarningCommand;
use basalt_model::warning::{Status, Warning};
use basalt_model::{Command, ProjectName, WarningId};
use uuid::Uuid;

use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::warning as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn show(call: &Call, warning: &Warning) -> wire::Warning {
    let cause = &warning.cause;
    let member = cause.node.and_then(|node| call.view.members.get(&node));
    let suffix = cause.project.as_ref().map(ProjectName::suffix).unwrap_or_default();
    wire::Warning {
        uuid: warning.id.to_string(),
        location: member.map(|m| m.name.to_string()).unwrap_or_default(),
        project: cause.project.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: cause.kind.as_str().into(),
        count: i64::try_from(warning.count).unwrap_or(i64::MAX),
        first_seen_at: clock::text(warning.first_seen),
        last_seen_at: clock::text(warning.last_seen),
        last_message: warning.message.clone(),
        severity: cause.kind.severity().into(),
        status: warning.status.as_str().into(),
        entity_url: format!("{}{suffix}", cause.entity),
    }
}

/// How many are not resolved.
pub(super) fn open(call: &Call) -> usize {
    call.view.warnings.values().filter(|w| w.status != Status::Resolved).count()
}

fn find(call: &Call, id: &str) -> Result<Warning, Error> {
    let missing = || Error::NotFound("Warning".into());
    let id = WarningId(Uuid::parse_str(id).map_err(|_| missing())?);
    call.view.warnings.get(&id).cloned().ok_or_else(missing)
}

fn tag(warning: &Warning) -> String {
    etag::of(&warning.status)
}

/// Of all projects and of none; with `project=` only of that one.
pub(crate) async fn list(call: Call) -> Reply {
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let wanted: Option<ProjectName> = call.query("project").map(|_| call.project()).transpose()?;
    let of = |w: &&Warning| wanted.is_none() || w.cause.project == wanted;
    let shown = call.view.warnings.values().filter(of).map(|w| show(&call, w)).filter(|w| filter.takes(w));
    match call.recursion() {
        0 => reply::sync(shown.map(|w| format!("/1.0/warnings/{}", w.uuid)).collect::<Vec<_>>()),
        _ => reply::sync(shown.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(id): Segment<String>) -> Reply {
    let warning = find(&call, &id)?;
    reply::sync_etag(show(&call, &warning), &tag(&warning))
}

/// Marks it as seen, or as new again. `PUT` and `PATCH` are the same: there is only the status to change.
pub(crate) async fn put(call: Call, Segment(id): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let warning = find(&call, &id)?;
    etag::check(&call.headers, &tag(&warning))?;
    let (status, action) = match body.status.as_str() {
        "acknowledged" => (Status::Acknowledged, "warning-acknowledged"),
        "new" => (Status::New, "warning-reset"),
        other => return Err(Error::invalid("status", format!("{other:?} is neither acknowledged nor new"))),
    };
    call.propose(Command::Warning(WarningCommand::SetStatus { id: warning.id, status })).await?;
    call.happened(action, format!("/1.0/warnings/{id}"), warning.cause.project.as_ref());
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment(id): Segment<String>) -> Reply {
    let warning = find(&call, &id)?;
    call.propose(Command::Warning(WarningCommand::Remove(warning.id))).await?;
    call.happened("warning-deleted", format!("/1.0/warnings/{id}"), warning.cause.project.as_ref());
    reply::empty()
}
