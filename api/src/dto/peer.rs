//! Peerings of networks.

use serde::{Deserialize, Serialize};

use super::Map;

/// One side of a peering, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkPeer"))]
#[serde(default)]
pub struct Peer {
    pub name: String,
    pub description: String,
    pub config: Map,
    pub target_project: String,
    pub target_network: String,
    /// `Pending` until the other network has a peer that points back, then `Created`.
    pub status: String,
    pub used_by: Vec<String>,
    /// `local`.
    #[serde(rename = "type")]
    pub kind: String,
}
