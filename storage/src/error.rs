//! What can go wrong, told with the pool or volume and the step; [`Error::kind`] is what callers branch on.

use std::io;

use basalt_model::{Epoch, InstanceId};
use basalt_runtime::{BoxError, ExecError};

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object does not exist.
    NotFound,
    /// The pool, or the disk below it, is full. Repeating helps once there is space.
    NoSpace,
    /// The input is wrong (a hostile image, a bad key, a stale epoch): repeating does not help.
    Invalid,
    /// This host or driver cannot do it.
    Unsupported,
    /// Something else uses it; repeating later may help.
    Busy,
    /// The host failed; repeating may help.
    Host,
}

/// An error of the storage layer.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The object does not exist.
    #[error("{what} not found")]
    NotFound {
        /// Volume, image or pool.
        what: String,
    },
    /// No space.
    #[error("{place}: no space left ({step})")]
    NoSpace {
        /// The pool or folder that is full.
        place: String,
        /// What was being done.
        step: String,
        /// The system's word.
        source: BoxError,
    },
    /// Wrong input.
    #[error("{what}: {why}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// Why.
        why: String,
    },
    /// The volume carries another epoch than the caller holds: one of the two is stale, and nothing was touched.
    #[error("volume {id} carries epoch {found}, not {wanted}")]
    Epoch {
        /// The volume.
        id: InstanceId,
        /// What is stamped on it.
        found: Epoch,
        /// What the caller holds.
        wanted: Epoch,
    },
    /// Not possible here.
    #[error("{what}: {why}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// Why it cannot be.
        why: String,
    },
    /// In use.
    #[error("{what} is in use: {why}")]
    Busy {
        /// The object.
        what: String,
        /// By what.
        why: String,
    },
    /// The host failed.
    #[error("{place}: {step}")]
    Host {
        /// The pool, volume or folder.
        place: String,
        /// What was being done.
        step: String,
        /// The cause.
        source: BoxError,
    },
}

impl Error {
    /// What callers branch on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::NoSpace { .. } => ErrorKind::NoSpace,
            Error::Invalid { .. } | Error::Epoch { .. } => ErrorKind::Invalid,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Busy { .. } => ErrorKind::Busy,
            Error::Host { .. } => ErrorKind::Host,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), why: why.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, why: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), why: why.into() }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Error::NotFound { what: what.into() }
    }

    /// Sorts a system error: a full disk is told apart from the rest.
    pub(crate) fn io(place: impl Into<String>, step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (place, step, source) = (place.into(), step.into(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { place, step, source: source.into() }
            }
            io::ErrorKind::ResourceBusy => Error::Busy { what: format!("{place} ({step})"), why: source.to_string() },
            _ => Error::Host { place, step, source: source.into() },
        }
    }

    /// Sorts the failure of a host command by what it printed.
    pub(crate) fn exec(place: impl Into<String>, step: impl Into<String>, source: ExecError) -> Self {
        let (place, step) = (place.into(), step.into());
        let said = source.stderr().to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if let ExecError::NotFound { program } = &source {
            return Error::unsupported(place, format!("program {program} is not installed"));
        }
        if says(&["out of space", "no space left", "quota exceeded", "write failed because no space"]) {
            return Error::NoSpace { place, step, source: source.into() };
        }
        if says(&["is busy", "device busy", "resource busy"]) {
            return Error::Busy { what: format!("{place} ({step})"), why: source.stderr().trim().to_owned() };
        }
        Error::Host { place, step, source: source.into() }
    }
}

/// A blocking task of ours that panicked.
impl From<basalt_runtime::Panicked> for Error {
    fn from(panicked: basalt_runtime::Panicked) -> Self {
        Error::Host { place: "storage".into(), step: panicked.name.into(), source: panicked.into() }
    }
}
