//! What the leader does beside leading: gives homes to instances, and notices members that fall silent.
//!
//! **Invariants.** Every controller runs on every member and acts only while that member leads; two that act at once,
//! around a change of leader, are harmless because apply checks each choice against the state as it then is. A pass is
//! begun by a change or by a timer and does the same work whatever the cause.

pub mod health;
pub mod placement;
