//! The node behind the API's ports: adapters between what the API asks for and what drivers, pools, Raft and other
//! members offer. Each is a thin translation; decisions lie on either side.

pub mod files;
pub mod guests;
pub mod images;
pub mod membership;
pub mod parts;
mod publish;
pub mod telemetry;
