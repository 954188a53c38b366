//! What the leader does beside leading: gives homes to instances, new ones to those that move, notices members
//! that fall silent, empties them for maintenance, records what is wrong, removes what has expired, keeps images that came
//! from elsewhere current, and logical networks as they are wanted.
//!
//! **Invariants.** Every controller runs on every member and acts only while that member leads; two that act at once,
//! around a change of leader, are harmless because apply checks each choice against the state as it then is. A pass is
//! begun by a change or by a timer and does the same work whatever the cause.

pub mod evacuation;
pub mod health;
pub mod images;
pub mod moves;
pub mod network;
pub mod placement;
pub mod schedule;
pub mod tidy;
pub mod warnings;
