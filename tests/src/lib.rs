//! The harness: everything the suites in `tests/` share.
//!
//! ```text
//!   suites (tests/*.rs), demo, bench
//!        |            |
//!        v            v
//!    testbed ----> api (HTTP over a node's unix socket)      image (what containers are made of)
//!    nodes, fabric, faults, clean-up                          load (writers that remember what was acknowledged)
//!        |                                                    census (what lies on the hosts, counted from outside)
//!        |                                                    compat (stock clients, and what works with them)
//!        |
//!        v
//!    host, wait (programs of the host; conditions with deadlines)
//! ```
//!
//! **Invariants.** A testbed touches nothing outside its own namespaces, its own folder and the cgroups of its own
//! instances, and takes everything away again: when it is dropped, when its test panics, and, for a test process that
//! was killed, when the next testbed starts. Nothing here waits by sleeping until something is likely true; all waits
//! are on a condition with a deadline ([`wait`]).
//!
//! **Failure.** Helpers return `anyhow::Error` with what was being done; suites unwrap them. A missing facility prints
//! `skipped: why` (see `facility`).

// The ban on host commands outside the command runner is for the product. The harness stands outside of it: it is the
// user at a shell, blocking and without a supervisor.
#![allow(clippy::disallowed_methods)]

pub mod api;
pub mod bench;
pub mod census;
pub mod compat;
pub mod facility;
pub mod host;
pub mod image;
pub mod imageserver;
pub mod load;
pub mod python;
pub mod sim;
pub mod testbed;
pub mod wait;
