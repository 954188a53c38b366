//! Warnings: what is wrong, or was.

use serde::{Deserialize, Serialize};

/// One warning.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Warning {
    pub uuid: String,
    pub location: String,
    pub project: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub count: i64,
    pub first_seen_at: String,
    pub last_seen_at: String,
    pub last_message: String,
    /// `low`, `moderate` or `high`.
    pub severity: String,
    /// `new`, `acknowledged` or `resolved`.
    pub status: String,
    pub entity_url: String,
}

/// `PUT` of a warning.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "WarningPut"))]
#[serde(default)]
pub struct Put {
    /// `acknowledged` or `new`.
    pub status: String,
}
