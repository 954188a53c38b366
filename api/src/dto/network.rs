//! Networks.

use serde::{Deserialize, Serialize};

use super::Map;
use super::state::{Address, Counters};

/// One network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkPost"))]
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
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ConfigPut"))]
#[serde(default)]
pub struct Put {
    pub description: Option<String>,
    pub config: Option<Map>,
}

/// A new name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Rename {
    pub name: String,
}

/// Live state of a network on one member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkState"))]
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
    pub ovn: Option<Ovn>,
    /// The way through a logical network. Not of the peers' API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basalt_path: Option<Way>,
}

/// Facts of a bridge.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkBridge"))]
#[serde(default)]
pub struct Bridge {
    pub id: String,
    pub stp: bool,
    pub forward_delay: u64,
    pub vlan_default: u64,
    pub vlan_filtering: bool,
    pub upper_devices: Vec<String>,
}

/// Facts of a logical network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkOvn"))]
#[serde(default)]
pub struct Ovn {
    /// The member through which the network reaches its uplink now; empty when none does, or when nobody can tell.
    pub chassis: String,
    pub logical_router: String,
    pub logical_switch: String,
    pub uplink_ipv4: String,
    pub uplink_ipv6: String,
}

/// The way from the uplink to the instances of a logical network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkWay"))]
#[serde(default)]
pub struct Way {
    /// The network outside; empty for an isolated one.
    pub uplink: String,
    /// Members that carry what leaves, the first in line first.
    pub gateways: Vec<Gateway>,
    pub ports: Vec<WayPort>,
    /// Why it is not known where ports are and who the gateway is; empty when it is.
    pub lacking: String,
}

/// A member that may carry what leaves a logical network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkGateway"))]
#[serde(default)]
pub struct Gateway {
    /// The member, or a chassis that is none.
    pub location: String,
    pub active: bool,
}

/// An interface of an instance, as a port of a logical switch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkWayPort"))]
#[serde(default)]
pub struct WayPort {
    pub instance: String,
    pub project: String,
    pub device: String,
    pub addresses: Vec<String>,
    /// The instance's home.
    pub location: String,
    /// The member where it is plugged in, or a chassis that is none; empty when it is not.
    pub bound: String,
    pub up: bool,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLease"))]
#[serde(default)]
pub struct Lease {
    pub hostname: String,
    pub hwaddr: String,
    pub address: String,
    /// `static`, `dynamic`, `gateway` or `uplink`.
    #[serde(rename = "type")]
    pub kind: String,
    pub location: String,
}

/// An address that is in use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkAllocation"))]
#[serde(default)]
pub struct Allocation {
    /// One address, with its prefix length.
    pub addresses: String,
    pub used_by: String,
    /// `network`, `instance` or `uplink`.
    #[serde(rename = "type")]
    pub kind: String,
    pub hwaddr: String,
    pub nat: bool,
    pub network: String,
}
