//! What can be configured, for programs: the shape of Incus's option tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /1.0/metadata/configuration`: kind of object, then group of keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Configuration"))]
#[serde(default)]
pub struct Configuration {
    pub configs: BTreeMap<String, BTreeMap<String, Group>>,
}

/// Keys that belong together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ConfigurationGroup"))]
#[serde(default)]
pub struct Group {
    /// Each holds one key, under its name.
    pub keys: Vec<BTreeMap<String, Key>>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ConfigurationKey"))]
#[serde(default)]
pub struct Key {
    pub shortdesc: String,
    pub longdesc: String,
    /// `bool`, `integer` or `string`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What holds when the key is not set.
    pub defaultdesc: String,
    /// `yes` when a change reaches a running guest at once, else `no`.
    pub liveupdate: String,
    /// `global`, or `local` for what each member has of its own.
    pub scope: String,
}
