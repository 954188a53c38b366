//! What can go wrong with the group as a whole. What can go wrong with one command is `basalt_model::ProposeError`.

use std::io;
use std::path::{Path, PathBuf};

/// Why the replicated state cannot be opened, begun or served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log or a snapshot on disk is not what was written. It is never served; the text says how to go on.
    #[error("{}: {what}. This member's copy of the replicated state is damaged and is not used. To rejoin: on another \
             member run `basalt cluster remove --force NAME`, here stop basaltd and empty the state folder, then join \
             again with a new token", .path.display())]
    Damaged { path: PathBuf, what: String },
    /// A file of the state folder cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another process has the folder open.
    #[error("{} is in use by another basaltd", .0.display())]
    InUse(PathBuf),
    /// This member already belongs to a cluster.
    #[error("this member already belongs to cluster {0}")]
    AlreadyMember(uuid::Uuid),
    /// The first command of the cluster was not accepted.
    #[error("the cluster could not be begun")]
    Bootstrap(#[source] basalt_model::ProposeError),
    /// A certificate or key is not acceptable.
    #[error(transparent)]
    Pki(#[from] crate::pki::Error),
    /// The consensus engine refuses to run.
    #[error("the consensus engine stopped: {0}")]
    Engine(String),
    /// Two metrics of one name: a registry was given to two members.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// Whether waiting for free space may help.
    pub(crate) fn is_full(error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
