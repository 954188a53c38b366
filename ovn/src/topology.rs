//! What the northbound database is to hold: a pure function of the replicated state.
//!
//! ```text
//!  view --read--> facts (one struct a network, addresses and chassis resolved) --rows--> Rows (keys, columns)
//!
//!                        uplink                  names of network 7
//!                          |                     ----------------------------------------------
//!                 [ls-ext] localnet              basalt-net7-ls-ext-lsp-provider
//!                          |                     basalt-net7-ls-ext-lsp-router
//!  gateway chassis: lrp-ext  (SNAT, default routes)
//!                  [lr]                          basalt-net7-lr
//!                     lrp-int (RA)               basalt-net7-lr-lrp-int
//!                          |                     basalt-net7-ls-int-lsp-router
//!                 [ls-int] DHCP, DNS             basalt-net7-ls-int
//!                  |    |    |
//!                 NICs of instances              basalt-net7-instance-<id>-<device>
//! ```
//! **Invariants.** The same state gives the same rows, on every member. Keys come from numbers and ids, never from names
//! that people may change. A network that cannot be expressed is left out and said so; others are not held up by it.

mod beside;
mod desired;
pub mod facts;
mod guard;
mod listeners;
mod network;
mod outside;
mod peers;
mod ports;
mod read;
mod sets;

use uuid::Uuid;

pub use desired::Desired;
pub use facts::Facts;
pub use read::{gateways, read};

use crate::nb::Rows;

/// The rows that `facts` call for.
pub fn rows(owner: Uuid, facts: &Facts) -> Rows {
    let mut rows = Rows::new(owner);
    for net in &facts.networks {
        network::add(&mut rows, net);
        outside::add(&mut rows, net);
        ports::add(&mut rows, net);
        listeners::add(&mut rows, net);
        peers::add(&mut rows, net);
        guard::add(&mut rows, facts, net);
    }
    rows
}
