//! Networks of type ovn on three nodes, with real packets: between nodes, to the world outside and back, through lists,
//! forwards, load balancers and peerings, and through faults.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

mod away;
mod faults;
mod guest;
mod limits;
mod place;
mod rules;
mod seeing;
mod services;
mod talk;
mod ways;
mod world;
