//! Where an instance is to live: pure functions of a view of the cluster, of what the leader hears from members, and of
//! a request.
//!
//! ```text
//!   instance --request--> Request --+
//!   view  ----capacity--> Board ----+--> filter: members that can take it, or why not, one by one
//!   liveness -----------> Board ----+        |
//!                                          score: the best of them       -> place
//!                                            |
//!                                          explain: the refusal in words
//! ```
//!
//! **Invariants.** No clock, no chance, no hash order, no I/O: the same inputs give the same answer. A placement passes
//! every filter. A refusal names every member with its reason. Sums over all instances are made once a call, not once
//! a request; a batch sees what it has itself placed before.
//!
//! **Failure.** Nothing here can fail but by refusing. The view may be old: apply checks again, and a lost race means
//! to plan afresh.
//!
//! **Not here.** Who proposes the choice, when, and what happens after a refusal (the node's placement controller).

mod capacity;
pub mod evacuate;
pub mod explain;
pub mod filter;
mod layers;
pub mod place;
pub mod request;
mod score;

pub use evacuate::{evacuations, give_up_move};
pub use explain::explain;
pub use filter::Reason;
pub use place::{Decision, Unplaceable, next_home, next_placements, place};
pub use request::Request;
pub use score::Score;
