//! Storage pools: defined once in the cluster, realised on every member.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Generation, NodeId, PoolName};

/// What serves a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// Plain directories.
    Dir,
    /// OpenZFS or zfs-fuse.
    Zfs,
}

impl PoolKind {
    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            PoolKind::Dir => "dir",
            PoolKind::Zfs => "zfs",
        }
    }
}

/// How the pool stands on one member, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolStatus {
    Ready {
        /// Bytes that the pool can hold in all.
        total: u64,
    },
    Failed {
        reason: String,
    },
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub name: PoolName,
    pub kind: PoolKind,
    pub description: String,
    /// Keys of `config::pool` that hold for every member.
    pub config: BTreeMap<String, String>,
    /// Keys of one member only (`source`, `size`, `zfs.pool_name`), over those of `config`.
    pub member_config: BTreeMap<NodeId, BTreeMap<String, String>>,
    pub status: BTreeMap<NodeId, PoolStatus>,
    pub generation: Generation,
}
