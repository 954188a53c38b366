//! Node-to-node traffic that is not Raft: requests sent on to another member, heartbeats, image files, volumes, live states,
//! and the hand-shake of joining.
//!
//! Everything but `POST /internal/join` is served on the cluster port only, where mutual TLS has proved that the caller
//! is a member; joining is served on the public port, where a one-time token proves it.

pub mod heartbeat;
pub mod images;
pub mod join;
pub mod live;
pub mod peers;
pub mod volumes;

/// Routes of the cluster port, beside those of Raft and of the API.
pub const HEARTBEAT: &str = "/internal/heartbeat";
pub const LIVE: &str = "/internal/live";
pub const IMAGES: &str = "/internal/images";
pub const VOLUMES: &str = "/internal/volumes";
/// Route of the public port.
pub const JOIN: &str = "/internal/join";
