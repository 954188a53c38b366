//! Address sets of networks.

use serde::{Deserialize, Serialize};

use super::Map;

/// One set, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkAddressSet"))]
#[serde(default)]
pub struct AddressSet {
    pub name: String,
    pub description: String,
    pub config: Map,
    /// Addresses and networks, of both families.
    pub addresses: Vec<String>,
    pub used_by: Vec<String>,
    pub project: String,
}

/// `PUT`; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkAddressSetPut"))]
#[serde(default)]
pub struct Put {
    pub description: Option<String>,
    pub config: Option<Map>,
    pub addresses: Option<Vec<String>>,
}
