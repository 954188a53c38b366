//! Warnings: what is wrong now.

use serde::{Deserialize, Serialize};

/// One warning.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// Always `new`: a warning goes away when its cause does.
    pub status: String,
    pub entity_url: String,
}
