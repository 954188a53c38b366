//! Events of `/1.0/events`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Map;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Operation,
    Lifecycle,
    Logging,
    NetworkAcl,
}

/// One event; `metadata` is an [`super::operation::Operation`], a [`Lifecycle`] or a [`Logging`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub timestamp: String,
    pub metadata: Value,
    /// The member on which it happened.
    #[serde(default)]
    pub location: String,
    /// Empty for what belongs to no project.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// Something happened to an object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// `instance-started` and the like.
    pub action: String,
    /// URL of the object.
    pub source: String,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub context: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requestor: Option<Requestor>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// Who asked for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Requestor {
    pub username: String,
    pub protocol: String,
    pub address: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    pub message: String,
    pub level: String,
    pub context: Map,
}
