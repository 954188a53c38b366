//! Instances.

use serde::{Deserialize, Serialize};

use super::state::{Action, State};
use super::{Devices, Map};

/// One instance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Instance {
    pub name: String,
    pub description: String,
    pub status: String,
    pub status_code: u16,
    pub created_at: String,
    pub last_used_at: String,
    /// Its home, or `none` when there is a single member.
    pub location: String,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    pub project: String,
    pub architecture: String,
    pub config: Map,
    pub devices: Devices,
    pub ephemeral: bool,
    pub profiles: Vec<String>,
    pub stateful: bool,
    pub expanded_config: Map,
    pub expanded_devices: Devices,
}

/// One instance with all that hangs on it (`recursion=2`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceFull"))]
#[serde(default)]
pub struct Full {
    #[serde(flatten)]
    pub instance: Instance,
    pub backups: Vec<serde_json::Value>,
    pub state: State,
    pub snapshots: Vec<Snapshot>,
}

/// A snapshot of an instance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceSnapshot"))]
#[serde(default)]
pub struct Snapshot {
    pub name: String,
    pub created_at: String,
    pub expires_at: String,
    pub last_used_at: String,
    pub stateful: bool,
    pub size: i64,
    pub architecture: String,
    pub config: Map,
    pub devices: Devices,
    pub ephemeral: bool,
    pub expanded_config: Map,
    pub expanded_devices: Devices,
    pub profiles: Vec<String>,
}

/// `POST …/snapshots`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceSnapshotPost"))]
#[serde(default)]
pub struct SnapshotPost {
    /// Nothing lets the server choose one.
    pub name: String,
    pub stateful: bool,
    /// Nothing means what `snapshots.expiry` says, the zero time never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// `PUT` and `PATCH` of a snapshot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceSnapshotPut"))]
#[serde(default)]
pub struct SnapshotPut {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// What an instance is made from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceSource"))]
#[serde(default)]
pub struct Source {
    /// `image`, `none`, `copy` or `migration`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub properties: Map,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Without snapshots.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub instance_only: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub container_only: bool,
    /// Brings an existing copy up to date.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
}

/// `POST /1.0/instances`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstancePost"))]
#[serde(default)]
pub struct Post {
    pub name: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    pub source: Source,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance_type: String,
    pub start: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    #[serde(alias = "Config")]
    pub config: Map,
    #[serde(alias = "Devices")]
    pub devices: Devices,
    pub ephemeral: bool,
    /// Nothing means `["default"]`; an empty list means none.
    #[serde(alias = "Profiles")]
    pub profiles: Option<Vec<String>>,
    pub stateful: bool,
    pub description: String,
}

/// `POST …/rebuild`; its source is an image or nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceRebuild"))]
#[serde(default)]
pub struct Rebuild {
    pub source: Source,
}

/// `PUT` of an instance; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstancePut"))]
#[serde(default)]
pub struct Put {
    pub architecture: Option<String>,
    #[serde(alias = "Config")]
    pub config: Option<Map>,
    #[serde(alias = "Devices")]
    pub devices: Option<Devices>,
    pub ephemeral: Option<bool>,
    #[serde(alias = "Profiles")]
    pub profiles: Option<Vec<String>>,
    pub stateful: Option<bool>,
    pub description: Option<String>,
    /// Name of a snapshot to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
}

/// `POST` of an instance: rename or move.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceRename"))]
#[serde(default)]
pub struct Rename {
    pub name: String,
    pub migration: bool,
    pub live: bool,
    pub pool: String,
    pub project: String,
    pub instance_only: bool,
    pub container_only: bool,
    /// Where another server waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<serde_json::Value>,
    /// Incus sends these three as it names them itself.
    #[serde(alias = "Config", skip_serializing_if = "Option::is_none")]
    pub config: Option<Map>,
    #[serde(alias = "Devices", skip_serializing_if = "Option::is_none")]
    pub devices: Option<Devices>,
    #[serde(alias = "Profiles", skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
}

/// `PUT …/state`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceStatePut"))]
#[serde(default)]
pub struct StatePut {
    pub action: Option<Action>,
    /// Seconds; negative waits for ever, nothing or 0 kills.
    pub timeout: i64,
    pub force: bool,
    pub stateful: bool,
}

/// `PUT /1.0/instances`: the same for all of a project.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstancesStatePut"))]
#[serde(default)]
pub struct BulkState {
    pub state: StatePut,
}

/// `POST …/exec`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceExec"))]
#[serde(default)]
pub struct Exec {
    pub command: Vec<String>,
    #[serde(rename = "wait-for-websocket")]
    pub wait_for_websocket: bool,
    pub interactive: bool,
    pub environment: Map,
    pub width: u16,
    pub height: u16,
    #[serde(rename = "record-output")]
    pub record_output: bool,
    pub user: u32,
    pub group: u32,
    pub cwd: String,
}

/// `POST …/console`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceConsole"))]
#[serde(default)]
pub struct Console {
    pub width: u16,
    pub height: u16,
    #[serde(rename = "type")]
    pub kind: String,
    pub force: bool,
}

/// A message on a control socket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// `window-resize` or `signal`.
    pub command: String,
    /// `width` and `height`, as text.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub args: Map,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}
