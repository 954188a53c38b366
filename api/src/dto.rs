//! Wire types of the `/1.0` API: field names and shapes as LXD 5.0 and Incus 6.0 speak them.
//!
//! Built without the feature `server`, this module is all there is of the crate: it is what a client needs. Every type
//! both reads and writes; unknown fields are ignored and missing ones take their empty value, because callers of very
//! different ages send these objects back whole.

pub mod access;
pub mod acl;
pub mod address_set;
pub mod balance;
pub mod certificate;
pub mod cluster;
pub mod diagnosis;
pub mod envelope;
pub mod event;
pub mod image;
pub mod image_metadata;
pub mod instance;
pub mod metadata;
pub mod network;
pub mod operation;
pub mod peer;
pub mod pool;
pub mod profile;
pub mod project;
pub mod resources;
pub mod server;
pub mod state;
pub mod warning;
pub mod zone;

use std::collections::BTreeMap;

/// Configuration keys, and anything else that maps text to text.
pub type Map = BTreeMap<String, String>;
/// Devices by name.
pub type Devices = BTreeMap<String, Map>;

/// How "never" is written.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Never, as text: what a missing time means.
pub fn zero_time() -> String {
    ZERO_TIME.to_owned()
}
