//! What is wrong with the cluster, kept until somebody has seen it.
//!
//! ```text
//!   raise -> New <--> Acknowledged      raised again with another message: count goes up, the status stays
//!              \        /
//!               Resolved                the cause is gone; raised again it is New, and counts on
//! ```
//! One record for each [`Cause`]. Producers compare what they find with what is recorded ([`updates`]) and propose only
//! differences: a cause that goes on writes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::WarningCommand;
use crate::instance::{Instance, Phase, Placement};
use crate::member::Health;
use crate::pool::PoolStatus;
use crate::{ClusterState, NodeId, ProjectName, Timestamp, WarningId};

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    OfflineMember,
    PoolUnavailable,
    InstanceFailure,
    /// A host cannot do something that guests may ask of it.
    HostLacks,
    /// Fewer members vote than should: one more failure may stop the cluster.
    LowVoters,
    /// An image is on fewer reachable members than `cluster.images_minimal_replica` asks for.
    ImageReplicas,
    /// OVN's northbound database cannot be written: logical networks stay as they are.
    NorthboundUnreachable,
    /// The northbound database will not have a network as it is configured.
    NetworkFailure,
}

impl Kind {
    /// As people are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::OfflineMember => "Offline cluster member",
            Kind::PoolUnavailable => "Storage pool unavailable",
            Kind::InstanceFailure => "Instance failure",
            Kind::HostLacks => "Host lacks a facility",
            Kind::LowVoters => "Too few voting cluster members",
            Kind::ImageReplicas => "Too few copies of an image",
            Kind::NorthboundUnreachable => "OVN northbound database unavailable",
            Kind::NetworkFailure => "Network failure",
        }
    }

    /// `low`, `moderate` or `high`.
    pub fn severity(self) -> &'static str {
        match self {
            Kind::OfflineMember | Kind::PoolUnavailable | Kind::LowVoters | Kind::NorthboundUnreachable => "high",
            Kind::InstanceFailure | Kind::ImageReplicas | Kind::NetworkFailure => "moderate",
            Kind::HostLacks => "low",
        }
    }
}

/// What two warnings about the same have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cause {
    pub kind: Kind,
    pub project: Option<ProjectName>,
    /// Path of the object in the API, without `?project=`; for hosts the facility.
    pub entity: String,
    pub node: Option<NodeId>,
}

/// Whether somebody has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    New,
    Acknowledged,
    Resolved,
}

impl Status {
    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::New => "new",
            Status::Acknowledged => "acknowledged",
            Status::Resolved => "resolved",
        }
    }
}

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub id: WarningId,
    pub cause: Cause,
    pub message: String,
    pub status: Status,
    /// How often it was raised.
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

/// Resolved warnings are kept for a day.
const KEEP: u64 = 24 * 3600;

/// What is wrong as the replicated state tells, with what to say. `voters` are those members that vote.
pub fn causes(state: &ClusterState, voters: &[NodeId]) -> BTreeMap<Cause, String> {
    let mut found = BTreeMap::new();
    for member in state.members.values().filter(|m| m.health != Health::Online) {
        let entity = format!("/1.0/cluster/members/{}", member.name);
        let cause = Cause { kind: Kind::OfflineMember, project: None, entity, node: Some(member.id) };
        found.insert(cause, format!("Member {} does not answer", member.name));
    }
    for pool in state.pools.values() {
        for (node, status) in &pool.status {
            let PoolStatus::Failed { reason } = status else { continue };
            let entity = format!("/1.0/storage-pools/{}", pool.name);
            let cause = Cause { kind: Kind::PoolUnavailable, project: None, entity, node: Some(*node) };
            found.insert(cause, reason.clone());
        }
    }
    for instance in state.instances.values() {
        let Some(why) = failure(instance) else { continue };
        let entity = format!("/1.0/instances/{}", instance.name);
        let node = instance.placement.home().map(|(node, _)| node);
        let project = Some(instance.project.clone());
        found.insert(Cause { kind: Kind::InstanceFailure, project, entity, node }, why);
    }
    let online = voters.iter().filter(|node| state.online(**node)).count();
    if state.members.len() >= 3 && online < 3 {
        let cause = Cause { kind: Kind::LowVoters, project: None, entity: "/1.0/cluster".into(), node: None };
        found.insert(cause, format!("Only {online} voting members answer; with 3 one of them may fail"));
    }
    replicas(state, &mut found);
    found
}

fn failure(instance: &Instance) -> Option<String> {
    match (&instance.placement, instance.current_report()) {
        (Placement::Unplaced { refused: Some(why) }, _) => Some(why.clone()),
        (Placement::On { .. }, Some(report)) if report.phase == Phase::Failed => report.reason.clone(),
        (Placement::Unplaced { refused: None } | Placement::On { .. } | Placement::Moving(_), _) => None,
    }
}

fn replicas(state: &ClusterState, found: &mut BTreeMap<Cause, String>) {
    let Some(wanted) = state.config.get("cluster.images_minimal_replica").and_then(|text| text.parse().ok()) else {
        return;
    };
    let wanted: usize = wanted;
    let wanted = wanted.min(state.members.len());
    for image in state.images.values() {
        let there = image.holders.iter().filter(|node| state.online(**node)).count();
        if there < wanted {
            let entity = format!("/1.0/images/{}", image.fingerprint);
            // Those of the default project concern all.
            let project = Some(&image.project).filter(|project| !project.is_default()).cloned();
            let cause = Cause { kind: Kind::ImageReplicas, project, entity, node: None };
            found.insert(cause, format!("It is on {there} reachable members; {wanted} are wanted"));
        }
    }
}

/// What is to be recorded so that the warnings about which `mine` says yes are those that were found. Empty when
/// nothing has changed.
pub fn updates(
    state: &ClusterState,
    found: &BTreeMap<Cause, String>,
    mine: impl Fn(&Cause) -> bool,
    at: Timestamp,
    mut fresh: impl FnMut() -> WarningId,
) -> Vec<WarningCommand> {
    let mut commands = Vec::new();
    let held: BTreeMap<&Cause, &Warning> = state.warnings.values().map(|w| (&w.cause, w)).collect();
    for (cause, message) in found.iter().filter(|(cause, _)| mine(cause)) {
        let same = |w: &&Warning| w.status != Status::Resolved && w.message == *message;
        if held.get(cause).is_none_or(|w| !same(w)) {
            let id = held.get(cause).map_or_else(&mut fresh, |w| w.id);
            commands.push(WarningCommand::Raise { id, cause: cause.clone(), message: message.clone(), at });
        }
    }
    for (cause, warning) in held {
        if !mine(cause) || found.contains_key(cause) {
            continue;
        }
        match warning.status {
            Status::New | Status::Acknowledged => commands.push(WarningCommand::Resolve { id: warning.id, at }),
            Status::Resolved if at > warning.last_seen.plus_secs(KEEP) => {
                commands.push(WarningCommand::Remove(warning.id));
            }
            Status::Resolved => {}
        }
    }
    commands
}
