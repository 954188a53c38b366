//! Warnings: what is wrong with the cluster now, read from its state. One goes away when its cause does.

use basalt_model::Timestamp;
use basalt_model::instance::{Phase, Placement};
use basalt_model::member::Health;
use basalt_model::pool::PoolStatus;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::render;
use crate::call::{Call, Segment};
use crate::clock;
use crate::dto::warning::Warning;
use crate::error::Error;
use crate::filter::Filter;
use crate::reply::{self, Reply};

/// The same id for the same cause, wherever it is asked for.
fn id(kind: &str, entity: &str, location: &str) -> Uuid {
    let hash = Sha256::digest(format!("{kind}\n{entity}\n{location}"));
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hash[..16]);
    Uuid::new_v8(bytes)
}

struct Cause {
    kind: &'static str,
    severity: &'static str,
    entity: String,
    location: String,
    project: String,
    message: String,
    since: Timestamp,
}

fn warning(cause: Cause) -> Warning {
    let since = clock::text(cause.since);
    Warning {
        uuid: id(cause.kind, &cause.entity, &cause.location).to_string(),
        location: cause.location,
        project: cause.project,
        kind: cause.kind.into(),
        count: 1,
        first_seen_at: since.clone(),
        last_seen_at: since,
        last_message: cause.message,
        severity: cause.severity.into(),
        status: "new".into(),
        entity_url: cause.entity,
    }
}

/// All of them.
pub(super) fn all(call: &Call) -> Vec<Warning> {
    let mut causes = members(call);
    causes.extend(pools(call));
    causes.extend(instances(call));
    causes.into_iter().map(warning).collect()
}

fn members(call: &Call) -> Vec<Cause> {
    let offline = call.view.members.values().filter_map(|m| match m.health {
        Health::Online => None,
        Health::Offline { since } => Some(Cause {
            kind: "Offline cluster member",
            severity: "high",
            entity: format!("/1.0/cluster/members/{}", m.name),
            location: m.name.to_string(),
            project: String::new(),
            message: format!("Member {} does not answer", m.name),
            since,
        }),
    });
    offline.collect()
}

fn pools(call: &Call) -> Vec<Cause> {
    let mut causes = Vec::new();
    for pool in call.view.pools.values() {
        for (node, status) in &pool.status {
            let PoolStatus::Failed { reason } = status else { continue };
            let member = call.view.members.get(node);
            causes.push(Cause {
                kind: "Storage pool unavailable",
                severity: "high",
                entity: format!("/1.0/storage-pools/{}", pool.name),
                location: member.map(|m| m.name.to_string()).unwrap_or_default(),
                project: String::new(),
                message: reason.clone(),
                since: Timestamp::NEVER,
            });
        }
    }
    causes
}

fn instances(call: &Call) -> Vec<Cause> {
    let broken = call.view.instances.values().filter(|i| call.who.sees(&i.project)).filter_map(|i| {
        let message = match (&i.placement, i.current_report()) {
            (Placement::Unplaced { refused: Some(why) }, _) => why.clone(),
            (Placement::On { .. }, Some(report)) if report.phase == Phase::Failed => report.reason.clone()?,
            (Placement::Unplaced { refused: None } | Placement::On { .. }, _) => return None,
        };
        Some(Cause {
            kind: "Instance failure",
            severity: "moderate",
            entity: render::instance_url(i),
            location: render::location(&call.view, i),
            project: i.project.to_string(),
            message,
            since: i.current_report().map_or(Timestamp::NEVER, |r| r.at),
        })
    });
    broken.collect()
}

pub(crate) async fn list(call: Call) -> Reply {
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let warnings = all(&call).into_iter().filter(|w| filter.takes(w));
    match call.recursion() {
        0 => reply::sync(warnings.map(|w| format!("/1.0/warnings/{}", w.uuid)).collect::<Vec<_>>()),
        _ => reply::sync(warnings.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(id): Segment<String>) -> Reply {
    let found = all(&call).into_iter().find(|w| w.uuid == id);
    reply::sync(found.ok_or_else(|| Error::NotFound("Warning".into()))?)
}
