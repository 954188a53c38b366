//! OVN and Open vSwitch through their databases: an OVSDB client (RFC 7047), and what is written with it.
//!
//! ```text
//! vswitch: ports, bridges, mappings of this host
//!     |                              Session --requests (pipelined)--> one link at a time ----> ovsdb-server
//!     +--> transact, monitor ------>   |  ^                            unix | tcp | ssl, next remote when lost
//!                                      |  '--replies, echo, updates--- wire: bytes -> whole JSON texts, bounded
//!                                      v
//!                                   Monitor: tables as they are, kept over reconnects
//! ```
//!
//! Invariants: a transaction is sent at most once, and its end is one of four that the caller can tell apart (done, not
//! sent, refused, unknown). A monitor's tables are always those of one moment of the database, and contain what a
//! transaction did before its answer is given out. After a reconnect only what changed meanwhile is asked for, where the server
//! remembers it. A server that is not what was asked for (other schema, not the leader of its cluster) is never used.
//!
//! On failure: a link that ends, is silent, or talks nonsense is dropped, and the session dials on, from remote to remote with
//! backoff, until its last handle is gone. Requests wait for a link until their deadline. Nothing a server sends
//! makes us panic or keep more than [`session::SessionOptions::limit`] bytes of one message.
//!
//! It does not lock (`lock`, `steal`), convert or create databases.

pub mod acl_log;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod fake;
pub mod marker;
pub mod monitor;
pub mod nb;
pub mod northbound;
pub mod ovsdb;
pub mod reconcile;
pub mod session;
pub mod southbound;
pub mod topology;
pub mod trace;
pub mod vswitch;
pub mod wire;

pub use error::{Error, Refusal};
