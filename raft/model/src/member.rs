//! A member of the cluster: one machine with its agent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::evacuation::Order;
use crate::{Fingerprint, GroupName, MemberName, NodeId, Timestamp};

/// What an agent says of its machine: at start, and when it changes. Never telemetry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announcement {
    /// `host:port` of the public API.
    pub api_address: String,
    /// `host:port` of node-to-node traffic.
    pub cluster_address: String,
    /// The agent's version, for people.
    pub version: String,
    /// The highest cluster feature level that the agent understands.
    pub feature_level: u32,
    /// Kernel's word for the architecture, e.g. `x86_64`.
    pub architecture: String,
    /// Hardware threads.
    pub cpus: u32,
    /// Physical memory, in bytes.
    pub memory: u64,
    /// Kinds of guests that the host can run (see `instance::Kind::as_str`), with the engine's version.
    pub drivers: BTreeMap<String, String>,
    /// Storage drivers that the host can serve, with their version.
    pub storage_drivers: BTreeMap<String, String>,
    /// What OVN calls this machine (`system-id` of its switch), if it has a part in logical networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chassis: Option<String>,
}

/// Whether new instances may be placed here, as the operator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duty {
    Active,
    /// Emptied for maintenance; nothing is placed here.
    Evacuated,
}

/// What an operator gives a member to do. That it votes, or leads, is no role: the cluster chooses that itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It never votes, as long as there is another member that can.
    DatabaseClient,
    /// It carries the gateways of OVN networks.
    OvnChassis,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::DatabaseClient, Role::OvnChassis];

    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::DatabaseClient => "database-client",
            Role::OvnChassis => "ovn-chassis",
        }
    }

    /// The role of that name, if there is one.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// What the leader's health controller believes. Silent is not dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    Online,
    /// No heartbeat for `cluster.offline_threshold`.
    Offline {
        since: Timestamp,
    },
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: NodeId,
    pub name: MemberName,
    /// Of the node's own certificate, made by the cluster's CA.
    pub certificate: Fingerprint,
    /// That certificate, as PEM: a joiner whose reply was lost gets the same one again.
    #[serde(default)]
    pub certificate_pem: String,
    pub joined_at: Timestamp,
    /// Hash of the token's secret that was redeemed, so that a joiner whose reply was lost may ask again.
    #[serde(default)]
    pub redeemed: Option<Fingerprint>,
    /// Admitted, and not heard of yet: it may have died before it knew that it was admitted.
    #[serde(default)]
    pub awaited: bool,
    pub duty: Duty,
    /// What is being done to get there: it is emptied, or filled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    pub health: Health,
    pub failure_domain: String,
    pub description: String,
    pub groups: BTreeSet<GroupName>,
    /// Given by the operator.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
    /// Keys of the member's own: `scheduler.instance`, `user.*`.
    pub config: BTreeMap<String, String>,
    pub announced: Announcement,
}

/// A named set of members, for `target=@group`. Which members are in it is said by [`Member::groups`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: GroupName,
    pub description: String,
}
