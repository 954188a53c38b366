//! The node: everything that runs in `basaltd`, put together in one place.
//!
//! ```text
//!                        wiring (composition root, in reading order)
//!   config -> raft (Cluster) -> drivers, pools, networks -> agent -> controllers (act on the leader)
//!                 |                                            |
//!                 +--> api over port/* (unix socket, :8443)    +--> rpc (cluster port: raft, heartbeats, images, joins)
//!                            +--> remote (image servers)
//! ```
//!
//! **Purpose.** The agent drives this host toward its share of the replicated state; controllers on the leader give
//! instances a home and notice silence; `port` puts the node behind the API; `rpc` is what members say to each other
//! beside Raft, `remote` what is said to image servers; `sight` looks at
//! what OVN has made of networks.
//!
//! **Invariants.** Guests outlive this program: no shut-down path touches one. Every task is supervised and ends when
//! shutdown is asked for. Nothing is decided here that a lower crate could decide purely.
//!
//! **Failure.** See `agent` (host steps), `controller` (leader), `rpc::join` (joining). A node that cannot open its state
//! says how to rejoin and exits; it never serves a damaged copy.

pub mod agent;
pub mod announce;
pub mod config;
pub mod controller;
pub mod fact;
pub mod metrics;
pub mod port;
pub mod remote;
pub mod rpc;
pub mod sight;
pub mod wiring;

pub use config::Config;
pub use wiring::run;
