//! Names of datasets and properties.

use std::path::{Path, PathBuf};

use basalt_model::{Fingerprint, InstanceId};

/// Whose pool it is. The last one is set last.
pub(super) const MEMBER: &str = "basalt:member";
pub(super) const STATE_DIR: &str = "basalt:state-dir";
pub(super) const POOL: &str = "basalt:pool";
/// Whose volume it is.
pub(super) const INSTANCE: &str = "basalt:instance";
pub(super) const EPOCH: &str = "basalt:epoch";
/// Present once the volume is whole.
pub(super) const READY: &str = "basalt:ready";

/// The snapshot that makes an image complete.
pub(super) const SNAPSHOT: &str = "readonly";
pub(super) const FOLDERS: [&str; 3] = ["images", "instances", "deleted"];

/// Where things are in one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The dataset that holds all of ours.
    pub(super) root: String,
    /// The folder that volumes and images are mounted below.
    pub(super) mounts: PathBuf,
}

/// A dataset and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) mount: PathBuf,
}

impl Names {
    pub(super) fn folder(&self, folder: &str) -> String {
        format!("{}/{folder}", self.root)
    }

    pub(super) fn volume(&self, id: InstanceId) -> Dataset {
        self.dataset("instances", &id.to_string())
    }

    pub(super) fn image(&self, fp: &Fingerprint) -> Dataset {
        self.dataset("images", fp.as_str())
    }

    pub(super) fn deleted(&self, fp: &Fingerprint) -> String {
        format!("{}/{fp}", self.folder("deleted"))
    }

    fn dataset(&self, folder: &str, name: &str) -> Dataset {
        Dataset { name: format!("{}/{name}", self.folder(folder)), mount: self.mounts.join(folder).join(name) }
    }
}

impl Dataset {
    pub(super) fn snapshot(&self) -> String {
        snapshot(&self.name)
    }

    /// The folder inside that becomes `/`.
    pub(super) fn rootfs(&self) -> PathBuf {
        self.mount.join("rootfs")
    }
}

pub(super) fn snapshot(dataset: &str) -> String {
    format!("{dataset}@{SNAPSHOT}")
}

/// Whether a text may name a dataset: it becomes an argument.
pub(super) fn is_dataset(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
    };
    text.len() <= 128 && text.split('/').all(part)
}

/// A path as an argument or property; ours are UTF-8, and others cannot be told to ZFS.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
