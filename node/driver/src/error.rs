//! Why a driver could not do what it was told.

use basalt_model::InstanceId;

/// An error of a driver: the operation, the instance, the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No trace of the instance where one is needed.
    #[error("instance {id} is not known to the host")]
    NotFound { id: InstanceId },
    /// It must run for this, and does not.
    #[error("instance {id} is not running")]
    NotRunning { id: InstanceId },
    /// It runs under a newer epoch than the caller's; the caller is not its owner any more.
    #[error("instance {id} belongs to epoch {found}, not {given}")]
    Epoch { id: InstanceId, found: basalt_model::Epoch, given: basalt_model::Epoch },
    /// A clean stop did not end in time.
    #[error("instance {id} did not stop within {secs} s; use force to kill it")]
    Timeout { id: InstanceId, secs: u32 },
    /// The host lacks something; the text says what to install or switch on.
    #[error("{0}")]
    Host(String),
    /// The spec asks for what this driver cannot do; the text names the key.
    #[error("{0}")]
    Unsupported(String),
    /// A step on the host failed. `detail` is the tail of the engine's own log, when there is one.
    #[error("{doing} of instance {id}: {detail}")]
    Step {
        id: InstanceId,
        doing: &'static str,
        detail: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}
