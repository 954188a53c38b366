//! A snapshot of an instance: its volume at a moment, and what the instance was then.
//!
//! ```text
//!  user Create -> Wanted --home--> Ready --user Delete--> Doomed --home--> gone
//!                    |                                      ^
//!                    +---home--> Failed ----user Delete-----+        what comes with a copy: Coming -> Ready
//! ```
//! The user wishes, the home does and says so under its epoch. A record precedes what lies on disk and outlives it, so
//! nothing on disk is ever without a record. The id names it on disk: a rename touches the record only.

use serde::{Deserialize, Serialize};

use crate::instance::Spec;
use crate::{InstanceId, SnapshotId, SnapshotName, Timestamp};

/// How far a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The user wants it; the home has not taken it yet.
    Wanted,
    /// It is there.
    Ready,
    /// It could not be taken.
    Failed { reason: String },
    /// The user wants it gone; the home has not removed it yet.
    Doomed,
    /// Comes along with the volume of a copy that is being made.
    Coming,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub instance: InstanceId,
    pub name: SnapshotName,
    pub created_at: Timestamp,
    /// When it is to be removed by itself.
    pub expires_at: Timestamp,
    /// The instance as it was.
    pub spec: Spec,
    pub stage: Stage,
    /// Bytes that it took when it was taken, beyond what it shares; 0 where that is not known.
    pub size: u64,
}

impl Snapshot {
    /// Whether users see it: it is there, and nobody has asked for its end.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether its name is taken by it.
    pub fn holds_name(&self) -> bool {
        match self.stage {
            Stage::Wanted | Stage::Ready | Stage::Coming => true,
            Stage::Failed { .. } | Stage::Doomed => false,
        }
    }
}
