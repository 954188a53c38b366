//! The cluster as a whole.

use std::collections::BTreeMap;

use super::{Outcome, expect_generation, invalid, not_found};
use crate::command::{ClusterCommand, Init};
use crate::network::NetworkKind;
use crate::network::check::NORTHBOUND;
use crate::profile::Profile;
use crate::project::Project;
use crate::{ClusterState, Generation, NodeId, ProfileName, ProjectName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &ClusterCommand) -> Outcome {
    match command {
        ClusterCommand::Init(init) => begin(state, init),
        ClusterCommand::SetConfig { set, expect } => {
            expect_generation("server configuration", *expect, state.config_generation)?;
            northbound_stays(state, set)?;
            for (key, value) in set {
                match value {
                    Some(value) => state.config.insert(key.clone(), value.clone()),
                    None => state.config.remove(key),
                };
            }
            state.config_generation = state.config_generation.next();
            Ok(())
        }
        ClusterCommand::SetApiCertificate { certificate, key } => {
            state.secrets.api_certificate = certificate.clone();
            state.secrets.api_key = key.clone();
            Ok(())
        }
        ClusterCommand::RaiseFeatureLevel { level } => {
            let lagging = state.members.values().find(|m| m.announced.feature_level < *level);
            match lagging {
                Some(member) => Err(Rejected::Busy(format!(
                    "member {} only understands feature level {}",
                    member.name, member.announced.feature_level
                ))),
                None => {
                    state.feature_level = state.feature_level.max(*level);
                    Ok(())
                }
            }
        }
    }
}

/// Logical networks live in the northbound database: the cluster may not forget where that is.
fn northbound_stays(state: &ClusterState, set: &BTreeMap<String, Option<String>>) -> Outcome {
    let gone = set.get(NORTHBOUND).is_some_and(|value| value.as_deref().unwrap_or_default().is_empty());
    match state.networks.values().find(|n| gone && n.kind == NetworkKind::Ovn) {
        Some(network) => Err(invalid(NORTHBOUND, format!("is needed by network {}", network.name))),
        None => Ok(()),
    }
}

fn begin(state: &mut ClusterState, init: &Init) -> Outcome {
    if !state.cluster_id.is_nil() {
        return Err(Rejected::Busy("the cluster is already initialised".into()));
    }
    if init.member.id != NodeId(1) {
        return Err(Rejected::Stale("the first member's id is 1".into()));
    }
    if let Some(group) = init.member.groups.first() {
        return Err(not_found("cluster group", group));
    }
    *state = ClusterState {
        cluster_id: init.cluster_id,
        secrets: init.secrets.clone(),
        feature_level: init.member.announced.feature_level,
        next_node: 2,
        ..ClusterState::default()
    };
    state.members.insert(init.member.id, init.member.clone());
    let project = ProjectName::default_project();
    state.projects.insert(
        project.clone(),
        Project {
            name: project.clone(),
            description: "Default project".into(),
            config: Default::default(),
            created_at: init.at,
            generation: Generation(1),
        },
    );
    let profile = ProfileName::default_profile();
    state.profiles.insert(
        (project.clone(), profile.clone()),
        Profile {
            project,
            name: profile,
            description: "Default profile".into(),
            config: Default::default(),
            devices: Default::default(),
            generation: Generation(1),
        },
    );
    Ok(())
}
