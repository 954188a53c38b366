//! Streams to guests over websockets.

pub(crate) mod console;
pub(crate) mod exec;
mod fd;
pub(crate) mod files;
mod sftp;
pub(crate) mod socket;
