//! Storage pools.

use serde::{Deserialize, Serialize};

use super::Map;

/// One pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Pool {
    pub name: String,
    pub driver: String,
    pub description: String,
    pub config: Map,
    pub status: String,
    pub locations: Vec<String>,
    pub used_by: Vec<String>,
}

/// `POST /1.0/storage-pools`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PoolPost"))]
#[serde(default)]
pub struct Post {
    pub name: String,
    pub driver: String,
    pub description: String,
    pub config: Map,
}

/// `GET …/resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PoolResources"))]
#[serde(default)]
pub struct Resources {
    pub space: Usage,
    pub inodes: Usage,
}

/// How much of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Usage {
    pub used: u64,
    pub total: u64,
}

/// A storage volume (of an instance).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Volume {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub content_type: String,
    pub description: String,
    pub config: Map,
    pub used_by: Vec<String>,
    pub location: String,
    pub project: String,
    pub created_at: String,
}
