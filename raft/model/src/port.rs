//! The ports through which services see the cluster. They are implemented by `basalt-raft` (the real one), by its
//! `testing` module (same apply, no consensus) and by the simulation.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Applied, Command, NodeId, Rejected, StateView, Version};

/// Why a command was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Apply refused it: nothing changed, on any replica.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It surely did not enter the log: there is no leader that this member can reach, or it has no quorum.
    #[error("the cluster has no leader that can be reached from here: {0}")]
    NoLeader(String),
    /// It may or may not have happened. Ask with a linearizable read before deciding anything from it.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// This member's or the leader's log cannot be written (disk full, I/O error). It did not happen.
    #[error("the replicated log cannot be written: {0}")]
    Storage(String),
}

/// Why a linearizable read could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no quorum confirms the state: {0}")]
pub struct ReadError(pub String);

/// How the group looks from this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub me: NodeId,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    /// How long ago this member last heard from a leader that has a quorum (on the leader: last quorum of acknowledgements).
    pub last_contact: Option<Duration>,
    /// Whether what [`Cluster::view`] returns may be old: no leader, or silence for longer than an election timeout.
    pub stale: bool,
    /// Index of the last entry this member knows of, and of the last one applied.
    pub last_log: u64,
    pub applied: Version,
}

/// The replicated state, as every service sees it.
#[async_trait]
pub trait Cluster: Send + Sync + fmt::Debug {
    /// Proposes a command from any member; forwarded to the leader inside. Returns once it is committed, applied on
    /// the leader, and applied on this member, so that [`Cluster::view`] shows it. Cancelling leaves the outcome unknown.
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError>;

    /// The local replica's state: never waits, may be old.
    fn view(&self) -> StateView;

    /// A state that is no older than the call: for what decides.
    async fn linearizable(&self) -> Result<StateView, ReadError>;

    /// Waits until the local replica has applied something after `version`; cancel-safe.
    async fn changed_since(&self, version: Version) -> StateView;

    /// How the group looks from here.
    fn standing(&self) -> Standing;
}

/// What the leader knows of a member from its last heartbeat.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Load {
    /// Time since the last heartbeat.
    pub age: Duration,
    /// 1-minute load average.
    pub load1: f64,
    /// Memory that could still be given out, in bytes (`MemAvailable`).
    pub memory_available: u64,
    /// Free bytes by pool name.
    pub pool_free: std::collections::BTreeMap<String, u64>,
    /// Time since the machine's boot.
    pub uptime: Duration,
}

/// Last heartbeat, load and free capacity of members; kept in the leader's memory, never in the log.
pub trait Liveness: Send + Sync {
    /// `None` when the member was not heard since this leader began.
    fn load(&self, node: NodeId) -> Option<Load>;
}
