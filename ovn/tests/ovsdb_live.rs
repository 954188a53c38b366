//! The client against real ovsdb-servers: what it says of each request is compared with what is in the database.
//!
//! Everything is in temporary folders and on loopback. What is not installed is said.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

#[path = "ovsdb_live/bed.rs"]
mod bed;
#[path = "ovsdb_live/cluster.rs"]
mod cluster;
#[path = "ovsdb_live/faults.rs"]
mod faults;
#[path = "ovsdb_live/requests.rs"]
mod requests;
#[path = "ovsdb_live/switch.rs"]
mod switch;
#[path = "ovsdb_live/tls.rs"]
mod tls;
