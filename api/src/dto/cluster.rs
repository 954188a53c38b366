//! The cluster, its members and groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Map;
use super::pool::Usage;

/// `GET /1.0/cluster`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Cluster {
    pub server_name: String,
    pub enabled: bool,
    /// Keys that a joiner must supply; none are needed.
    pub member_config: Vec<MemberKey>,
}

/// A key of one member's own part of an object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ClusterMemberKey"))]
#[serde(default)]
pub struct MemberKey {
    pub entity: String,
    pub name: String,
    pub key: String,
    pub value: String,
    pub description: String,
}

/// `PUT /1.0/cluster`: begin, join or leave a cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ClusterPut"))]
#[serde(default)]
pub struct Put {
    pub server_name: String,
    pub enabled: bool,
    pub member_config: Vec<MemberKey>,
    pub cluster_address: String,
    pub cluster_certificate: String,
    /// `host:port` of this member's API.
    pub server_address: String,
    /// A join token, whole.
    pub cluster_token: String,
    /// The same, as LXD's clients call it.
    pub cluster_password: String,
}

/// A join token, as base64 of its JSON is handed around.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinToken {
    pub server_name: String,
    pub fingerprint: String,
    /// At most five.
    pub addresses: Vec<String>,
    pub secret: String,
    pub expires_at: String,
}

/// `POST /1.0/cluster/members`, and rename of a member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MemberName {
    pub server_name: String,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Member {
    pub server_name: String,
    pub url: String,
    /// Whether it votes.
    pub database: bool,
    /// `Online`, `Offline` or `Evacuated`.
    pub status: String,
    pub message: String,
    pub architecture: String,
    pub roles: Vec<String>,
    pub failure_domain: String,
    pub description: String,
    pub config: Map,
    pub groups: Vec<String>,
}

/// `PUT` of a member; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MemberPut {
    pub roles: Option<Vec<String>>,
    pub failure_domain: Option<String>,
    pub description: Option<String>,
    pub config: Option<Map>,
    pub groups: Option<Vec<String>>,
}

/// `GET …/state` of a member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MemberState {
    pub sysinfo: SysInfo,
    pub storage_pools: BTreeMap<String, PoolState>,
}

/// Load of a machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SysInfo {
    pub uptime: i64,
    pub load_averages: Vec<f64>,
    pub total_ram: u64,
    pub free_ram: u64,
    pub shared_ram: u64,
    pub buffered_ram: u64,
    pub total_swap: u64,
    pub free_swap: u64,
    pub processes: u16,
    pub logical_cpus: u64,
}

/// Space of a pool on a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct PoolState {
    pub space: Usage,
    pub inodes: Usage,
}

/// `POST …/state` of a member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MemberStatePost {
    /// `evacuate` or `restore`.
    pub action: String,
    /// `auto`, `migrate`, `stop` or `force-stop`; empty for what each instance's `cluster.evacuate` says.
    pub mode: String,
}

/// A group of members; also what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Group {
    pub name: String,
    pub description: String,
    pub members: Vec<String>,
}

/// `PUT` of a group; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct GroupPut {
    pub description: Option<String>,
    pub members: Option<Vec<String>>,
}

/// `PUT /1.0/cluster/certificate`.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ClusterCertificate"))]
#[serde(default)]
pub struct Certificate {
    /// PEM.
    pub cluster_certificate: String,
    /// PEM.
    pub cluster_certificate_key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
