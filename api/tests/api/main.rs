//! The API over in-memory ports: the real router, real sockets, real pipes; only the cluster has no consensus and guests
//! are processes of this machine.

#![allow(clippy::disallowed_methods)] // tests spawn tasks and processes of their own
#![allow(clippy::unwrap_used)] // helpers of tests, too, fail by panicking

mod access;
mod bodies;
mod client;
mod exec;
mod guests;
mod images;
mod instances;
mod members;
mod objects;
mod ports;
mod stock;
mod world;
