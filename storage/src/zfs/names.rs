//! Names of datasets and properties.

use std::path::{Path, PathBuf};

use basalt_model::{Fingerprint, InstanceId, SnapshotId};

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
/// In the order in which they can be destroyed.
pub(super) const FOLDERS: [&str; 5] = ["views", "instances", "branches", "deleted", "images"];

/// What names of snapshots begin with: one that users know, and one of ours that lives as long as clones of it.
const TAKEN: &str = "snap-";
const KEPT: &str = "kept-";
/// The branch that is about to become the volume.
const NEXT: &str = "next";

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

    /// What the volume was before. Its mount point is the volume's, but it is never mounted there.
    pub(super) fn branch(&self, id: InstanceId, number: u64) -> Dataset {
        self.branch_named(id, &number.to_string())
    }

    /// The branch that is about to become the volume.
    pub(super) fn next(&self, id: InstanceId) -> Dataset {
        self.branch_named(id, NEXT)
    }

    fn branch_named(&self, id: InstanceId, name: &str) -> Dataset {
        Dataset { name: format!("{}/{id}.{name}", self.folder("branches")), mount: self.volume(id).mount }
    }

    /// A clone of a snapshot, to look at.
    pub(super) fn new_view(&self) -> Dataset {
        self.dataset("views", &uuid::Uuid::new_v4().to_string())
    }

    /// A place for a dataset that has clones and nothing else to live for.
    pub(super) fn aside(&self) -> String {
        format!("{}/{}", self.folder("deleted"), uuid::Uuid::new_v4())
    }

    /// A dataset as `zfs get` names it, if it is one of that folder: its own name and where it is mounted.
    pub(super) fn child(&self, folder: &str, name: &str) -> Dataset {
        self.dataset(folder, name)
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

/// The name of a user's snapshot of a dataset.
pub(super) fn taken(dataset: &str, snapshot: SnapshotId) -> String {
    format!("{dataset}@{TAKEN}{snapshot}")
}

/// A new name for a snapshot that only clones need.
pub(super) fn kept(dataset: &str) -> String {
    format!("{dataset}@{KEPT}{}", uuid::Uuid::new_v4())
}

/// Which user's snapshot a name is of.
pub(super) fn read_taken(name: &str) -> Option<SnapshotId> {
    name.split_once('@')?.1.strip_prefix(TAKEN)?.parse().ok()
}

/// Whether a snapshot lives for its clones alone.
pub(super) fn is_kept(name: &str) -> bool {
    name.split_once('@').is_some_and(|(_, name)| name.starts_with(KEPT))
}

/// Whose branch a child of `branches` is, and its number; none is the next one's.
pub(super) fn read_branch(child: &str) -> Option<(InstanceId, Option<u64>)> {
    let (id, number) = child.rsplit_once('.')?;
    let number = if number == NEXT { None } else { Some(number.parse().ok()?) };
    Some((id.parse().ok()?, number))
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
