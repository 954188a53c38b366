//! Handlers, one file per object.
pub(crate) mod pending;
pub(crate) mod server;
