//! Networks.

use serde::{Deserialize, Serialize};

use super::Map;
use super::state::{Address, Counters};

/// One network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    pub name: String,
    pub description: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub config: Map,
    pub managed: bool,
    pub status: String,
    pub locations: Vec<String>,
    pub used_by: Vec<String>,
    pub project: String,
}

/// `POST /1.0/networks`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Post {
    pub name: String,
    pub description: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub config: Map,
}

/// `PUT` of a network, pool, project, profile or group; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Put {
    pub description: Option<String>,
    pub config: Option<Map>,
}

/// A new name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rename {
    pub name: String,
}

/// Live state of a network on one member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub addresses: Vec<Address>,
    pub counters: Counters,
    pub hwaddr: String,
    pub mtu: i64,
    pub state: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub bond: Option<serde_json::Value>,
    pub bridge: Option<Bridge>,
    pub vlan: Option<serde_json::Value>,
    pub ovn: Option<serde_json::Value>,
}

/// Facts of a bridge.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridge {
    pub id: String,
    pub stp: bool,
    pub forward_delay: u64,
    pub vlan_default: u64,
    pub vlan_filtering: bool,
    pub upper_devices: Vec<String>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    pub hostname: String,
    pub hwaddr: String,
    pub address: String,
    /// `static`, `dynamic` or `gateway`.
    #[serde(rename = "type")]
    pub kind: String,
    pub location: String,
}
