//! How the group runs on this member.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of [`crate::RaftCluster`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the log and the snapshot.
    pub raft_dir: PathBuf,
    /// Folder of the node's key, its certificates and its id.
    pub identity_dir: PathBuf,
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// A follower asks for an election after silence of `election_max` plus a random time between these two.
    pub election_min: Duration,
    pub election_max: Duration,
    /// How long a proposal looks for a leader before it gives up with `NoLeader`.
    pub leader_wait: Duration,
    /// How long a proposal that may be in the log is waited for before it is `Unknown`.
    pub commit_wait: Duration,
    /// How many entries are applied between snapshots, and how many are kept behind one for members that lag.
    pub snapshot_every: u64,
    pub keep_entries: u64,
    /// Size of a log segment. Two are held on disk ahead of need, so that votes can be written on a full disk.
    pub segment_bytes: u64,
    /// How often the leader compares the group with the members of the state.
    pub reconcile: Duration,
}

impl Options {
    /// The defaults: a lost leader is replaced within about a second.
    pub fn new(raft_dir: impl Into<PathBuf>, identity_dir: impl Into<PathBuf>) -> Self {
        Options {
            raft_dir: raft_dir.into(),
            identity_dir: identity_dir.into(),
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(350),
            election_max: Duration::from_millis(550),
            leader_wait: Duration::from_secs(5),
            commit_wait: Duration::from_secs(3),
            snapshot_every: 3000,
            keep_entries: 500,
            segment_bytes: 8 << 20,
            reconcile: Duration::from_secs(1),
        }
    }
}
