//! Network zones and their records.

use std::collections::BTreeMap;

use super::{Outcome, invalid, next_generation, not_found};
use crate::command::{Expect, ZoneCommand};
use crate::network::zone::{self, Record, Zone};
use crate::{ClusterState, ProjectName, Rejected, ZoneName};

const WHAT: &str = "network zone";
const RECORD: &str = "network zone record";

pub(super) fn apply(state: &mut ClusterState, command: &ZoneCommand) -> Outcome {
    match command {
        ZoneCommand::Put { zone, expect } => put(state, zone, *expect),
        ZoneCommand::Remove(name) => {
            find(state, name)?;
            if let Some(user) = state.zone_users(name).into_iter().next() {
                return Err(Rejected::Taken(format!("network zone {name} is used by {user}")));
            }
            state.zones.remove(name);
            Ok(())
        }
        ZoneCommand::PutRecord { zone, record, expect } => {
            let mut zone = find(state, zone)?;
            let found = zone.records.get(&record.name).map(|r| r.generation);
            let generation = next_generation(RECORD, &record.name, found, *expect)?;
            zone.records.insert(record.name.clone(), Record { generation, ..record.as_ref().clone() });
            check(state, &zone)?;
            state.zones.insert(zone.name.clone(), zone);
            Ok(())
        }
        ZoneCommand::RemoveRecord { zone, name } => {
            let mut zone = find(state, zone)?;
            zone.records.remove(name).ok_or_else(|| not_found(RECORD, name))?;
            state.zones.insert(zone.name.clone(), zone);
            Ok(())
        }
    }
}

fn find(state: &ClusterState, name: &ZoneName) -> Result<Zone, Rejected> {
    state.zones.get(name).cloned().ok_or_else(|| not_found(WHAT, name))
}

fn put(state: &mut ClusterState, zone: &Zone, expect: Expect) -> Outcome {
    let found = state.zones.get(&zone.name);
    let generation = next_generation(WHAT, &zone.name, found.map(|z| z.generation), expect)?;
    let (project, records) = match found {
        Some(found) => (found.project.clone(), found.records.clone()),
        None => (zone.project.clone(), BTreeMap::new()),
    };
    let zone = Zone { project, records, generation, ..zone.clone() };
    check(state, &zone)?;
    state.zones.insert(zone.name.clone(), zone);
    Ok(())
}

/// Whether a zone may be as it is.
pub(crate) fn check(state: &ClusterState, zone: &Zone) -> Outcome {
    if !state.projects.contains_key(&zone.project) {
        return Err(not_found("project", &zone.project));
    }
    if state.zone_project(&zone.project) != zone.project {
        return Err(invalid(
            "project",
            format!("{} has no zones of its own: {} is not set", zone.project, zone::FEATURE),
        ));
    }
    zone::check(zone).map_err(|e| invalid(&e.key, e.why))
}

/// A project that has zones goes on having zones of its own.
pub(super) fn stay(state: &ClusterState, project: &ProjectName, config: &BTreeMap<String, String>) -> Outcome {
    let own = *project == ProjectName::default_project()
        || config.get(zone::FEATURE).is_some_and(|value| crate::config::is_true(value));
    match state.zones.values().find(|zone| zone.project == *project) {
        Some(zone) if !own => {
            Err(Rejected::Busy(format!("{} cannot be taken away: the project has zone {}", zone::FEATURE, zone.name)))
        }
        Some(_) | None => Ok(()),
    }
}
