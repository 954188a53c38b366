//! The API over in-memory ports: the real router, real sockets, real pipes; only the cluster has no consensus and guests
//! are processes of this machine.

#![allow(clippy::disallowed_methods)] // tests spawn tasks and processes of their own
#![allow(clippy::unwrap_used)] // helpers of tests, too, fail by panicking

mod access;
mod address_sets;
mod bodies;
mod bridges;
mod client;
mod copies;
mod exec;
mod guests;
mod images;
mod instances;
mod logical;
mod matrix;
mod members;
mod objects;
mod own_images;
mod own_networks;
mod ports;
mod projects;
mod snapshots;
mod stock;
mod world;
mod zones;
