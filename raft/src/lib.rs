//! The replicated state's engine: openraft with Basalt's log, state machine, transport and membership.
//!
//! **Purpose.** Every member proposes commands and reads the state; this crate makes them one sequence on all members.
//!
//! ```text
//!            propose / view / linearizable          (the `Cluster` port of basalt-model)
//!                          |
//!   pki, identity --- RaftCluster --- leadership, membership (leader: voters follow the state's members)
//!                          |
//!                       openraft
//!            /             |             \
//!     store::Log     store::Machine    transport  <== mutual TLS ==>  other members
//!   (segments, CRC)  (apply, snapshot)
//! ```
//!
//! **Invariants.** A vote and an entry are on disk before they are acknowledged. Apply answers are data; a snapshot of
//! the state is published once per applied batch. A damaged log or snapshot is never served. The private parts of the
//! state lie in files of mode 0600. Nothing generic leaves this crate.
//!
//! **Failure.** A full disk refuses commands with that reason and heals; any other failure to write stops the engine
//! (a second fsync would lie) and commands are refused until the program is restarted. A lost leader is replaced in
//! about a second. A member that was removed is told so and stops asking for votes.
//!
//! **What it does not do.** It knows nothing of what commands mean, and opens no listener: the node mounts
//! [`RaftCluster::service`] on its own.

mod error;
mod handle;
mod identity;
mod leadership;
mod membership;
mod metrics;
mod options;
pub mod pki;
mod store;
pub mod testing;
pub mod transport;
mod types;

pub use error::Error;
pub use handle::RaftCluster;
pub use identity::NodeIdentity;
pub use leadership::Leadership;
pub use options::Options;
