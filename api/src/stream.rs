//! Streams to guests over websockets.

pub(crate) mod console;
pub(crate) mod exec;
mod fd;
mod socket;
