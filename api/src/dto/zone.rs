//! Network zones and their records.

use serde::{Deserialize, Serialize};

use super::Map;

/// One zone, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkZone"))]
#[serde(default)]
pub struct Zone {
    pub name: String,
    pub description: String,
    pub config: Map,
    pub used_by: Vec<String>,
    pub project: String,
}

/// One value of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkZoneRecordEntry"))]
#[serde(default)]
pub struct Entry {
    /// `A`, `AAAA`, `CNAME`, `TXT` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// In seconds; 0 for 300.
    #[serde(skip_serializing_if = "zero")]
    pub ttl: u64,
    pub value: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn zero(ttl: &u64) -> bool {
    *ttl == 0
}

/// What a zone holds under one name, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkZoneRecord"))]
#[serde(default)]
pub struct Record {
    /// Relative to the zone; `@` for the zone itself.
    pub name: String,
    pub description: String,
    pub entries: Vec<Entry>,
    pub config: Map,
}

/// `PUT` of a record; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkZoneRecordPut"))]
#[serde(default)]
pub struct RecordPut {
    pub description: Option<String>,
    pub entries: Option<Vec<Entry>>,
    pub config: Option<Map>,
}
