//! The emptying of a member for maintenance, and its return.
//!
//! An operator gives a member an [`Order`]; the leader carries it out, and takes it back when nothing is left to do. How
//! far each instance is lies in its [`Trip`], so that whatever dies in the middle, the next leader goes on from there.
//!
//! ```text
//!            Empty                                                       Fill
//!   at home ------> Out: stop -> move away -> Arrived: start -> Rest ------> Back: stop -> move home -> Arrived: start
//!                    |                                           ^             |                               |
//!                    +-- stays here: stop -----------------------+             |                            no trip
//!                    +-- cannot be stopped or moved: `failed` ---+-------------+
//! ```

use serde::{Deserialize, Serialize};

use crate::instance::{Intent, StopMode, Target};
use crate::{NodeId, Timestamp};

/// The key of an instance's configuration that names the member where it belongs, for clients.
pub const MARK: &str = "volatile.evacuate.origin";

/// What becomes of the guests of a member that is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// What each one's `cluster.evacuate` says.
    Own,
    /// They are moved; those that cannot be run on, and are named.
    Migrate,
    Stop,
    Force,
}

/// What is to be done with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    Empty(Mode),
    /// What was taken away comes back.
    Fill,
}

/// A task, told from others by when it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub task: Task,
    pub at: Timestamp,
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leg {
    /// It is to leave this member, or only to be stopped there.
    Out { from: NodeId, moves: bool },
    /// It is to go where it belongs.
    Back,
    /// It is where it was to go, and is starting.
    Arrived,
    /// Nothing is to be done until the member where it belongs is filled again.
    Rest,
}

/// The travels of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// Where it belongs.
    pub origin: NodeId,
    /// Where the user wanted it before.
    pub target: Target,
    /// Whether it is to run at the end.
    pub starts: bool,
    pub leg: Leg,
    /// The order that it was last part of.
    pub order: Timestamp,
    /// Why it is not where that order wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One step of a trip, with what is asked of the guest in the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripStep {
    /// How far it was when the step was planned; refused when that is no longer so.
    pub expect: Option<Trip>,
    pub to: Option<Trip>,
    pub run: Option<(Intent, StopMode)>,
    pub at: Timestamp,
}
