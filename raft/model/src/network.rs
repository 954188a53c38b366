//! Networks: defined once in the cluster, realised on every member.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Generation, NetworkName};

/// What realises a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// A Linux bridge on every member, with DHCP, DNS and NAT.
    Bridge,
}

impl NetworkKind {
    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            NetworkKind::Bridge => "bridge",
        }
    }
}

/// One managed network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: NetworkName,
    pub kind: NetworkKind,
    pub description: String,
    /// Keys of `config::network`; `ipv4.address` is the bridge's own address with its prefix length.
    pub config: BTreeMap<String, String>,
    pub generation: Generation,
}
