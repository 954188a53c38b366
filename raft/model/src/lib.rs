//! The vocabulary of a Basalt cluster and the state machine that Raft replicates.
//!
//! ```text
//!   Command --apply--> ClusterState --view--> what controllers, agents and the API read
//! ```
//!
//! **Purpose.** One place for what the cluster *is*: typed ids, validated names, records, the commands that change
//! them and the questions that may be asked of them. No tokio, no disk, no network.
//!
//! **Invariants.** [`ClusterState::apply`] is a pure function of the state and the command: no clock, no chance, no
//! environment, no hash order. It validates and never chooses: ids, placement, addresses and timestamps come inside
//! the command. A refusal is data ([`Rejected`]), the same on every replica. [`invariant::check`] says what must hold
//! after every apply.
//!
//! **Failure.** Nothing here can fail but by refusing; a panic in `apply` is a bug, and property tests look for it.

pub mod apply;
pub mod command;
pub mod config;
pub mod device;
pub mod evacuation;
pub mod generation;
pub mod id;
pub mod identity;
pub mod image;
pub mod in_project;
pub mod instance;
pub mod invariant;
pub mod limit;
pub mod member;
pub mod network;
pub mod pool;
pub mod port;
pub mod profile;
pub mod project;
pub mod quota;
pub mod restriction;
pub mod schedule;
pub mod secrets;
pub mod snapshot;
pub mod state;
pub mod table;
pub mod view;
pub mod warning;

pub use apply::{Applied, Rejected};
pub use command::Command;
pub use generation::{Epoch, Generation, Timestamp, Version};
pub use id::{
    AclName, AliasName, Fingerprint, GroupName, InstanceId, InstanceName, Mac, MemberName, NetworkName, NodeId,
    PeerName, PoolName, ProfileName, ProjectName, RecordName, SetName, SnapshotId, SnapshotName, TokenId, WarningId,
    ZoneName,
};
pub use in_project::{AclKey, AliasKey, ImageKey, InProject, NetworkKey, SetKey};
pub use port::{Cluster, ProposeError, ReadError};
pub use state::ClusterState;
pub use table::Table;
pub use view::StateView;
