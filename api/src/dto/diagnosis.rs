//! What is wrong with a logical network, and where a packet would go. Not of the peers' API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /1.0/networks/{name}/doctor`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Diagnosis {
    /// Nothing is wrong, and everything could be looked at.
    pub healthy: bool,
    /// What is wrong comes first.
    pub findings: Vec<Finding>,
    /// What members said of their switches.
    pub hosts: BTreeMap<String, Host>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Finding {
    /// `error`, or `note` for what is only worth knowing.
    pub severity: String,
    /// `state`, `northbound`, `southbound`, `gateway`, `port` or `host`.
    pub station: String,
    /// The member; empty when it is nowhere in particular.
    pub location: String,
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// A member's switch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SwitchHost"))]
#[serde(default)]
pub struct Host {
    /// What OVN calls it; empty when it takes no part.
    pub chassis: String,
    /// Where its southbound database is.
    pub southbound: String,
    /// The largest packet of a guest that fits into one between members, in bytes; 0 when that is not known.
    pub room: u32,
    /// Interfaces of instances by their logical ports.
    pub ports: BTreeMap<String, HostPort>,
    /// Why it could not be looked at; empty when it could.
    pub lacking: String,
}

/// An interface of an instance on a member's switch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SwitchPort"))]
#[serde(default)]
pub struct HostPort {
    pub interface: String,
    /// Whether the switch has taken it.
    pub plugged: bool,
    /// What the switch says against it.
    pub error: String,
    /// Whether it is switched off on the host.
    pub off: bool,
}

/// `GET /1.0/network-trace`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkTrace"))]
#[serde(default)]
pub struct Trace {
    /// `delivered`, `left`, `asks` (the next router who it is), `answered`, `dropped` or `rejected`.
    pub outcome: String,
    /// The outcome in words.
    pub end: String,
    pub steps: Vec<Step>,
    /// The member that looked.
    pub location: String,
    /// What `ovn-trace` said; only for those who may see all projects.
    pub raw: String,
}

/// One station of a packet's way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkTraceStep"))]
#[serde(default)]
pub struct Step {
    pub at: String,
    pub what: String,
}
