//! The `/1.0` API of Basalt: the one door to a cluster, in the shapes of LXD 5.0 and Incus 6.0.
//!
//! ```text
//!   unix socket ---.                                     .--> Cluster port   (propose, view)
//!   TLS :8443 -----+--> serve --> router --> routes/* ---+--> Guests, Images, Telemetry, Membership (this member)
//!   cluster port --'     |          |                    '--> Peers          (the member that is the home)
//!                     Origin     auth, dialect, error
//! ```
//!
//! **Purpose.** Turns requests into commands and the replicated state into objects. [`dto`] holds the wire types and is
//! all that is built without the feature `server`.
//!
//! **Invariants.** HTTP codes are decided in `error` alone, the differences between the two dialects in `dialect`, who
//! may do what in `auth`. Ids, timestamps, MAC addresses and subnets are chosen here, by the proposer. Lists are served
//! from the local replica. Any member answers any request: what belongs to another member is sent on through
//! [`port::Peers`], never redirected.
//!
//! **Failure.** Without a quorum lists go on, marked `X-Basalt-Stale: true`; what changes something is refused with 503.
//! A long call is an operation in the memory of one member: when that member dies the operation is gone, while what it
//! asked for stands in the replicated state. A panic in a handler becomes a 500.
//!
//! **Not here.** No host is touched but for reading facts of network interfaces; no connection to another member is
//! opened; nothing is placed.

pub mod dto;

#[cfg(feature = "server")]
mod api;
#[cfg(feature = "server")]
mod arrival;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
mod call;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
mod dialect;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
mod etag;
#[cfg(feature = "server")]
pub mod event;
#[cfg(feature = "server")]
mod filter;
#[cfg(feature = "server")]
mod forward;
#[cfg(feature = "server")]
mod gzip;
#[cfg(feature = "server")]
mod metrics;
#[cfg(feature = "server")]
mod openapi;
#[cfg(feature = "server")]
pub mod operation;
#[cfg(feature = "server")]
pub mod port;
#[cfg(feature = "server")]
mod pull;
#[cfg(feature = "server")]
mod reference;
#[cfg(feature = "server")]
mod reply;
#[cfg(feature = "server")]
mod route;
#[cfg(feature = "server")]
mod router;
#[cfg(feature = "server")]
mod routes;
#[cfg(feature = "server")]
mod secret;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
pub mod snapshot_name;
#[cfg(feature = "server")]
mod stream;
#[cfg(feature = "server")]
mod task;
#[cfg(feature = "server")]
pub mod token;

#[cfg(feature = "server")]
pub use api::{Api, Context};
#[cfg(feature = "server")]
pub use auth::{ForwardedIdentity, Origin, PeerCertificate};
#[cfg(feature = "server")]
pub use error::Error;
#[cfg(feature = "server")]
pub use event::EventHub;
#[cfg(feature = "server")]
pub use serve::{Limits, serve_cluster, serve_tls, serve_unix};
