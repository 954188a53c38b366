//! What can go wrong between a caller and a member, in the classes a caller decides by. The cause is in `source()`,
//! not in the text; [`Error::next_step`] is what a user can do about it.

use std::io;
use std::time::Duration;

use basalt_api::dto::operation::Operation;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The member answered with an error.
    #[error("{text}")]
    Api { code: u16, text: String },
    /// An operation ended in failure, or was cancelled.
    #[error("{}", operation_text(.0))]
    Operation(Box<Operation>),
    /// No connection to `target`.
    #[error("cannot connect to {target}")]
    Connect { target: String, source: io::Error },
    /// The connection was lost, or refused to go on, while `doing`. Whether the member did it is unknown.
    #[error("{doing}: the connection failed")]
    Transport { doing: String, source: Cause },
    /// No answer in time. Whether the member did it is unknown.
    #[error("{doing}: no answer within {} s", after.as_secs())]
    Deadline { doing: String, after: Duration },
    /// The answer is not what the API promises.
    #[error("{doing}: unexpected answer: {detail}")]
    Protocol { doing: String, detail: String },
    /// A file or stream of the caller's failed.
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
    /// Something the caller gave (an address, a token, a certificate) is not well formed.
    #[error("{0}")]
    Invalid(String),
}

fn operation_text(operation: &Operation) -> String {
    if operation.err.is_empty() {
        format!("operation {} ended as {}", operation.id, operation.status)
    } else {
        operation.err.clone()
    }
}

impl Error {
    pub(crate) fn protocol(doing: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Protocol { doing: doing.into(), detail: detail.into() }
    }

    pub(crate) fn transport(doing: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Transport { doing: doing.into(), source: source.into() }
    }

    /// The HTTP code, when the member answered with an error.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { code, .. } => Some(*code),
            Self::Operation(_)
            | Self::Connect { .. }
            | Self::Transport { .. }
            | Self::Deadline { .. }
            | Self::Protocol { .. }
            | Self::Io { .. }
            | Self::Invalid(_) => None,
        }
    }

    /// The object asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// What the user can do about it, where that is known.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Connect { target, source } => Some(connect_hint(target, source)),
            Self::Api { code: 403, text } if text.contains("not authorized") => Some(
                "this client's certificate is not trusted there: run `basalt trust token NAME` on a member, then \
                 `basalt remote add NAME TOKEN` here"
                    .to_owned(),
            ),
            Self::Api { code: 412, .. } => Some("somebody else changed it meanwhile: look again and repeat".to_owned()),
            // It says itself what to do.
            Self::Api { code: 503, text } if text.contains("not initialised") => None,
            Self::Api { code: 503, .. } => {
                Some("the cluster may be choosing a leader: try again, or look at `basalt cluster list`".to_owned())
            }
            Self::Transport { .. } | Self::Deadline { .. } => Some(
                "whether it was done is unknown: look with `basalt list` or `basalt operation list` before repeating"
                    .to_owned(),
            ),
            Self::Api { .. } | Self::Operation(_) | Self::Protocol { .. } | Self::Io { .. } | Self::Invalid(_) => None,
        }
    }
}

fn connect_hint(target: &str, source: &io::Error) -> String {
    let socket = target.starts_with("unix:");
    match source.kind() {
        io::ErrorKind::NotFound if socket => {
            "is basaltd running on this machine? Start it, or name its socket with BASALT_SOCKET or BASALT_DIR"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied if socket => {
            "run it as root, or as a member of the group that owns the socket".to_owned()
        }
        io::ErrorKind::ConnectionRefused if socket => {
            "the socket is there but nobody listens: is basaltd running?".to_owned()
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
            "is that member up, and is the address right? Any other member of the cluster will do".to_owned()
        }
        io::ErrorKind::InvalidData => {
            "its certificate is not the one this client knows: if the cluster's certificate was changed, remove the \
             remote and add it again"
                .to_owned()
        }
        _ => "check the address and the network".to_owned(),
    }
}
