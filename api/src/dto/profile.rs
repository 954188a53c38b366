//! Profiles.

use serde::{Deserialize, Serialize};

use super::{Devices, Map};

/// One profile; also what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Profile {
    pub name: String,
    pub description: String,
    pub config: Map,
    pub devices: Devices,
    pub used_by: Vec<String>,
    pub project: String,
}

/// `PUT` of a profile; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ProfilePut"))]
#[serde(default)]
pub struct Put {
    pub description: Option<String>,
    pub config: Option<Map>,
    pub devices: Option<Devices>,
}
