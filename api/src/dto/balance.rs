//! What listens on an uplink for those inside a network: forwards and load balancers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Map;

/// Ports of a forward.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkForwardPort"))]
#[serde(default)]
pub struct ForwardPort {
    pub description: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `80,90-99`.
    pub listen_port: String,
    /// As many, one for all, or nothing for the same.
    pub target_port: String,
    pub target_address: String,
}

/// A forward, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkForward"))]
#[serde(default)]
pub struct Forward {
    pub listen_address: String,
    pub location: String,
    pub description: String,
    pub config: Map,
    pub ports: Vec<ForwardPort>,
}

/// `PUT`; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkForwardPut"))]
#[serde(default)]
pub struct ForwardPut {
    pub description: Option<String>,
    pub config: Option<Map>,
    pub ports: Option<Vec<ForwardPort>>,
}

/// One that takes a share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancerBackend"))]
#[serde(default)]
pub struct Backend {
    pub name: String,
    pub description: String,
    pub target_port: String,
    pub target_address: String,
}

/// Ports of a load balancer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancerPort"))]
#[serde(default)]
pub struct BalancerPort {
    pub description: String,
    pub protocol: String,
    pub listen_port: String,
    pub target_backend: Vec<String>,
}

/// A load balancer, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancer"))]
#[serde(default)]
pub struct Balancer {
    pub listen_address: String,
    pub location: String,
    pub description: String,
    pub config: Map,
    pub backends: Vec<Backend>,
    pub ports: Vec<BalancerPort>,
}

/// `PUT`; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancerPut"))]
#[serde(default)]
pub struct BalancerPut {
    pub description: Option<String>,
    pub config: Option<Map>,
    pub backends: Option<Vec<Backend>>,
    pub ports: Option<Vec<BalancerPort>>,
}

/// A port of a backend, and what is thought of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancerBackendPort"))]
#[serde(default)]
pub struct CheckedPort {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub port: u16,
    /// `online`, `offline`, `error`; `unknown` before the first check, and where no instance of the network is.
    pub status: String,
}

/// A backend, and what is thought of its ports.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancerBackendHealth"))]
#[serde(default)]
pub struct BackendHealth {
    pub address: String,
    pub ports: Vec<CheckedPort>,
}

/// The state of a load balancer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkLoadBalancerState"))]
#[serde(default)]
pub struct BalancerState {
    /// By the name of the backend; empty when backends are not checked.
    pub backend_health: BTreeMap<String, BackendHealth>,
}
