//! What talking to an image server can fail with.

use basalt_api::port::PortError;
use basalt_storage::ErrorKind;

use super::url::Url;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The URL, or the address behind it, may not be asked.
    #[error("{url}: {why}")]
    Refused { url: String, why: String },
    #[error("{0}")]
    Missing(String),
    /// No connection, no answer, not in time.
    #[error("{url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    /// The server sent what it must not: a bad status, a wrong hash, too much, too little.
    #[error("{url}: {why}")]
    Broken { url: String, why: String },
    /// This host is at fault.
    #[error("{0}")]
    Host(String),
    #[error(transparent)]
    Store(basalt_storage::Error),
}

impl Error {
    pub(super) fn refused(url: &Url, why: impl ToString) -> Self {
        Error::Refused { url: url.to_string(), why: why.to_string() }
    }

    pub(super) fn unreachable(url: &Url, why: impl ToString) -> Self {
        Error::Unreachable { url: url.to_string(), why: why.to_string() }
    }

    pub(super) fn broken(url: &Url, why: impl ToString) -> Self {
        Error::Broken { url: url.to_string(), why: why.to_string() }
    }
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        let text = basalt_runtime::chain(&error);
        match error {
            Error::Missing(what) => PortError::NotFound(what),
            Error::Refused { .. } | Error::Broken { .. } => PortError::Invalid(text),
            Error::Unreachable { .. } => PortError::Unavailable(text),
            Error::Host(_) => PortError::Internal(text),
            Error::Store(error) => match error.kind() {
                ErrorKind::NoSpace => PortError::NoSpace(text),
                ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Unsupported => PortError::Invalid(text),
                ErrorKind::Busy => PortError::Conflict(text),
                ErrorKind::Host => PortError::Internal(text),
            },
        }
    }
}
