//! One member: its replica, its host, its agent.

use std::collections::BTreeMap;

use basalt_model::{ClusterState, InstanceId, NodeId};

use super::agent::Task;
use super::host::Host;

/// A member's copy of the state.
#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) applied: usize,
    pub(super) state: ClusterState,
    /// Encoded state and how many entries are in it.
    snapshot: Option<(usize, Vec<u8>)>,
}

impl Replica {
    pub(super) fn take_snapshot(&mut self) -> Result<(), String> {
        let bytes = rmp_serde::to_vec_named(&self.state).map_err(|e| format!("a snapshot cannot be encoded: {e}"))?;
        self.snapshot = Some((self.applied, bytes));
        Ok(())
    }

    /// Back to what is on disk: the snapshot. What the log holds beyond it is applied once a leader says that it is
    /// committed.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        (self.applied, self.state) = match &self.snapshot {
            None => (0, ClusterState::default()),
            Some((at, bytes)) => {
                (*at, rmp_serde::from_slice(bytes).map_err(|e| format!("a snapshot cannot be decoded: {e}"))?)
            }
        };
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// The agent runs.
    Up,
    /// The agent does not; the host, and the guests on it, may well.
    Down,
    /// The machine is gone for good, or is no member any more.
    Gone,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) life: Life,
    /// Which side of a partition it is on.
    pub(super) side: u8,
    pub(super) replica: Replica,
    pub(super) host: Host,
    pub(super) tasks: BTreeMap<InstanceId, Task>,
    /// Whether this agent has made sure, since it began, that its view is not older than what it did in earlier lives.
    pub(super) caught_up: bool,
    /// Whom it believes to lead.
    pub(super) believes: Option<NodeId>,
    /// How far its clock is off; changes when it restarts.
    pub(super) skew: u64,
}

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        Node {
            id,
            life: Life::Up,
            side: 0,
            replica: Replica::default(),
            host: Host::default(),
            tasks: BTreeMap::new(),
            caught_up: false,
            believes: None,
            skew: 0,
        }
    }

    pub(super) fn up(&self) -> bool {
        self.life == Life::Up
    }
}
