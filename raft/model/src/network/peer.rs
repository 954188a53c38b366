//! Peerings: two networks whose routers know each other. Each side has a record; traffic flows once both have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Network;
use crate::{ClusterState, Generation, NetworkKey, PeerName};

/// One side of a peering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub name: PeerName,
    pub description: String,
    /// `user.*` only.
    pub config: BTreeMap<String, String>,
    pub target: NetworkKey,
    pub generation: Generation,
}

/// The network on the other side, if that has a peer that points back.
pub fn joined<'a>(state: &'a ClusterState, network: &Network, peer: &Peer) -> Option<&'a Network> {
    let other = state.networks.get(&peer.target)?;
    other.peers.values().any(|back| network.goes_by(&back.target)).then_some(other)
}
