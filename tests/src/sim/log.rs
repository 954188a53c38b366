//! What is committed: an append-only list of commands with the state after each, and the proposals on their way to it.

use std::collections::BTreeMap;

use basalt_model::{ClusterState, Command, InstanceId, NodeId, Rejected};

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Task(NodeId, InstanceId),
    /// A controller, or the part of an agent that says how the host's pools are.
    Background(NodeId),
    Client(u64),
}

/// What the proposer hears.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Applied,
    Rejected(Rejected),
    /// It surely did not happen.
    Failed,
    /// It may have happened, or happen yet.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Sent,
    /// In the log at this index.
    Committed(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub(super) owner: Owner,
    pub(super) from: NodeId,
    pub(super) command: Command,
    pub(super) stage: Stage,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) entries: Vec<(Command, Result<(), Rejected>)>,
    /// `history[i]` is the state after `i` entries.
    pub(super) history: Vec<ClusterState>,
    pub(super) leader: Option<NodeId>,
    pub(super) proposals: BTreeMap<u64, Proposal>,
    /// Commands whose proposers have given up on them; they may get through yet.
    pub(super) late: Vec<Command>,
    next: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Log { history: vec![ClusterState::default()], ..Log::default() }
    }

    /// The state that is committed.
    pub(super) fn head(&self) -> &ClusterState {
        self.history.last().expect("it begins with one")
    }

    /// Appends; where, and how it was judged.
    pub(super) fn commit(&mut self, command: Command) -> usize {
        let mut state = self.head().clone();
        let verdict = state.apply(&command);
        self.entries.push((command, verdict));
        self.history.push(state);
        self.entries.len()
    }

    pub(super) fn propose(&mut self, owner: Owner, from: NodeId, command: Command) -> u64 {
        self.next += 1;
        self.proposals.insert(self.next, Proposal { owner, from, command, stage: Stage::Sent });
        self.next
    }

    pub(super) fn waits(&self, owner: Owner) -> bool {
        self.proposals.values().any(|p| p.owner == owner)
    }
}
