//! What lies on disk: the log and the snapshot; and the state machine between them.

pub(crate) mod log;
pub(crate) mod machine;
mod segment;
pub(crate) mod snapshot;
mod spare;
mod writer;

pub(crate) use log::Log;
pub(crate) use machine::Machine;
pub(crate) use snapshot::SnapshotFile;

#[cfg(test)]
mod tests;
