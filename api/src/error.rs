//! What a request can fail with, and the only place where HTTP codes are decided.

use axum::response::{IntoResponse, Response};
use basalt_model::config::InvalidKey;
use basalt_model::{ProposeError, ReadError, Rejected};
use http::StatusCode;

use crate::dto::envelope::Envelope;
use crate::port::PortError;
use crate::reply;

/// Why a request was refused. The text is public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field of the request is not acceptable.
    #[error("{field}: {why}")]
    Invalid { field: String, why: String },
    /// The request makes no sense as it is, or the object's state does not allow it.
    #[error("{0}")]
    Refused(String),
    #[error("not authorized")]
    NotTrusted,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0} not found")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("ETag doesn't match: {0}")]
    Changed(String),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    Timeout,
    #[error("{0} is not a method of this path")]
    NoSuchMethod(String),
    #[error("not implemented: {0}")]
    NotImplemented(String),
    #[error("not initialised: run `basalt init`")]
    NotInitialised,
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    NoSpace(String),
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A field that is not acceptable.
    pub fn invalid(field: impl Into<String>, why: impl ToString) -> Self {
        Error::Invalid { field: field.into(), why: why.to_string() }
    }

    /// Wrong keys of a configuration, all at once.
    pub fn keys(field: &str, wrong: &[InvalidKey]) -> Self {
        let why: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Error::Invalid { field: field.into(), why: why.join("; ") }
    }

    /// The HTTP code of each.
    pub fn code(&self) -> StatusCode {
        match self {
            Error::Invalid { .. } | Error::Refused(_) => StatusCode::BAD_REQUEST,
            Error::NotTrusted | Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            // Stock servers say 501 here; no client looks, and a 5xx is for what is wrong with us.
            Error::NoSuchMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Changed(_) => StatusCode::PRECONDITION_FAILED,
            Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Timeout => StatusCode::REQUEST_TIMEOUT,
            Error::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Error::NotInitialised | Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::NotFound { what, name } => Error::NotFound(format!("{} {name:?}", capital(&what))),
            // A module of Ansible compares this very text.
            Rejected::AlreadyExists { what, .. } if what == "certificate" => {
                Error::Conflict("Certificate already in trust store".into())
            }
            Rejected::AlreadyExists { what, name } => {
                Error::Conflict(format!("{} {name:?} already exists", capital(&what)))
            }
            Rejected::Changed { what, generation } => {
                Error::Changed(format!("the {what} was changed by somebody else (now at generation {generation})"))
            }
            Rejected::Busy(why) => Error::Refused(why),
            Rejected::Taken(why) => Error::Conflict(why),
            Rejected::Invalid { field, why } => Error::Invalid { field, why },
            Rejected::Stale(_) | Rejected::FeatureLevel { .. } => Error::Unavailable(rejected.to_string()),
            Rejected::Token(_) => Error::Forbidden(rejected.to_string()),
        }
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejected) => rejected.into(),
            ProposeError::NoLeader(_) => {
                Error::Unavailable(format!("{error}; nothing was changed, lists are still answered"))
            }
            ProposeError::Unknown(_) => {
                Error::Unavailable(format!("{error}; look before trying again, it may have happened"))
            }
            ProposeError::Storage(_) => Error::Unavailable(error.to_string()),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Error::Unavailable(format!("{error}; nothing was changed, lists are still answered"))
    }
}

impl From<PortError> for Error {
    fn from(error: PortError) -> Self {
        match error {
            PortError::NotFound(what) => Error::NotFound(what),
            PortError::Invalid(why) => Error::Refused(why),
            PortError::Conflict(why) => Error::Conflict(why),
            PortError::NotRunning => Error::Refused("Instance is not running".into()),
            PortError::Unavailable(why) => Error::Unavailable(why),
            PortError::NoSpace(why) => Error::NoSpace(why),
            PortError::Internal(why) => Error::Internal(why),
        }
    }
}

/// `instance` to `Instance`: how error texts begin.
fn capital(what: &str) -> String {
    let mut chars = what.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = self.code();
        if code.is_server_error() {
            tracing::warn!(code = code.as_u16(), error = %self, "request failed");
        }
        reply::json(code, &Envelope::<()>::error(code.as_u16(), self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_clients_match() {
        let not_found = Rejected::NotFound { what: "instance".into(), name: "c1".into() };
        assert_eq!(Error::from(not_found).to_string(), "Instance \"c1\" not found");
        let trusted = Rejected::AlreadyExists { what: "certificate".into(), name: "ab".into() };
        assert_eq!(Error::from(trusted).to_string(), "Certificate already in trust store");
        assert_eq!(Error::from(PortError::NotRunning).to_string(), "Instance is not running");
        assert_eq!(Error::NotTrusted.to_string(), "not authorized");
    }

    #[test]
    fn no_quorum_is_503() {
        for error in [ProposeError::NoLeader("x".into()), ProposeError::Unknown("x".into())] {
            assert_eq!(Error::from(error).code(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
