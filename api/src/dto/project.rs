//! Projects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Map;

/// One project; also what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Project {
    pub name: String,
    pub description: String,
    pub config: Map,
    pub used_by: Vec<String>,
}

/// `GET …/state`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ProjectState"))]
#[serde(default)]
pub struct State {
    pub resources: BTreeMap<String, Resource>,
}

/// Limit (-1 for none) and use of a resource; the wire has capitals here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ProjectResource"))]
#[serde(default, rename_all = "PascalCase")]
pub struct Resource {
    pub limit: i64,
    pub usage: i64,
}
