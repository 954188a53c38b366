//! `GET /1.0/resources`: what the host has.

use serde::{Deserialize, Serialize};

/// Resources of one member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Resources {
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: Cards,
    pub network: Cards,
    pub storage: Disks,
    pub usb: Devices,
    pub pci: Devices,
    pub system: System,
    pub load: Load,
}

/// Processors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostCpu"))]
#[serde(default)]
pub struct Cpu {
    pub architecture: String,
    pub sockets: Vec<Socket>,
    pub total: u64,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostSocket"))]
#[serde(default)]
pub struct Socket {
    pub name: String,
    pub vendor: String,
    pub socket: u64,
    pub cores: Vec<Core>,
}

/// One core.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostCore"))]
#[serde(default)]
pub struct Core {
    pub core: u64,
    pub die: u64,
    pub threads: Vec<Thread>,
}

/// One hardware thread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostThread"))]
#[serde(default)]
pub struct Thread {
    pub id: i64,
    pub thread: u64,
    pub numa_node: u64,
    pub online: bool,
    pub isolated: bool,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostMemory"))]
#[serde(default)]
pub struct Memory {
    pub nodes: Vec<serde_json::Value>,
    pub hugepages_total: u64,
    pub hugepages_used: u64,
    pub hugepages_size: u64,
    pub used: u64,
    pub total: u64,
}

/// Cards, which are not looked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostCards"))]
#[serde(default)]
pub struct Cards {
    pub cards: Vec<serde_json::Value>,
    pub total: u64,
}

/// Disks, which are not looked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostDisks"))]
#[serde(default)]
pub struct Disks {
    pub disks: Vec<serde_json::Value>,
    pub total: u64,
}

/// Devices, which are not looked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostDevices"))]
#[serde(default)]
pub struct Devices {
    pub devices: Vec<serde_json::Value>,
    pub total: u64,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostSystem"))]
#[serde(default)]
pub struct System {
    pub uuid: String,
    pub vendor: String,
    pub product: String,
    pub family: String,
    pub version: String,
    pub sku: String,
    pub serial: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// Load averages.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostLoad"))]
#[serde(default)]
pub struct Load {
    #[serde(rename = "Average1Min")]
    pub average1: f64,
    #[serde(rename = "Average5Min")]
    pub average5: f64,
    #[serde(rename = "Average10Min")]
    pub average10: f64,
    #[serde(rename = "Processes")]
    pub processes: u64,
}
