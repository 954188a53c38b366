//! Live state of instances.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::zero_time;

/// What `PUT …/state` can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceAction"))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Start,
    Stop,
    Restart,
    Freeze,
    Unfreeze,
}

/// The live state of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InstanceState"))]
#[serde(default)]
pub struct State {
    pub status: String,
    pub status_code: u16,
    pub disk: BTreeMap<String, Disk>,
    pub memory: Memory,
    pub network: BTreeMap<String, Interface>,
    pub pid: i64,
    pub processes: i64,
    pub cpu: Cpu,
    pub started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_info: Option<OsInfo>,
}

impl Default for State {
    fn default() -> Self {
        State {
            status: String::new(),
            status_code: 0,
            disk: BTreeMap::new(),
            memory: Memory::default(),
            network: BTreeMap::new(),
            pid: 0,
            processes: 0,
            cpu: Cpu::default(),
            started_at: zero_time(),
            os_info: None,
        }
    }
}

/// Space of a disk device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "DiskState"))]
#[serde(default)]
pub struct Disk {
    pub usage: i64,
    pub total: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MemoryState"))]
#[serde(default)]
pub struct Memory {
    pub usage: i64,
    pub usage_peak: i64,
    pub total: i64,
    pub swap_usage: i64,
    pub swap_usage_peak: i64,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CpuState"))]
#[serde(default)]
pub struct Cpu {
    pub usage: i64,
    pub allocated_time: i64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Interface {
    pub addresses: Vec<Address>,
    pub counters: Counters,
    pub hwaddr: String,
    pub host_name: String,
    pub mtu: i64,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast` or `loopback`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Address {
    /// `inet` or `inet6`.
    pub family: String,
    pub address: String,
    /// Prefix length.
    pub netmask: String,
    /// `local`, `link` or `global`.
    pub scope: String,
}

/// Traffic of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Counters {
    pub bytes_received: i64,
    pub bytes_sent: i64,
    pub packets_received: i64,
    pub packets_sent: i64,
    pub errors_received: i64,
    pub errors_sent: i64,
    pub packets_dropped_outbound: i64,
    pub packets_dropped_inbound: i64,
}

/// What runs in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct OsInfo {
    pub os: String,
    pub os_version: String,
    pub kernel_version: String,
    pub hostname: String,
    pub fqdn: String,
}
