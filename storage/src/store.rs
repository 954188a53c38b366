//! The port: what a pool on this host can do. The conformance suite in [`crate::testing`] says what each word means.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use basalt_model::pool::PoolKind;
use basalt_model::{Epoch, Fingerprint, InstanceId};

use crate::image::ImageFiles;
use crate::{Error, Snapshots, Transfers};

/// The folder of a volume that becomes `/`.
pub(crate) const ROOTFS: &str = "rootfs";

/// What a new volume starts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// An empty root folder.
    Empty,
    /// A copy of an image that [`VolumeStore::ensure_image`] has brought into the pool.
    Image(&'a Fingerprint),
}

/// A volume that is mounted and ready to become `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The folder that becomes `/`. Its parent is the volume's own folder, which the agent may keep small files in.
    pub path: PathBuf,
    /// Whether the file system can be mounted with an id map. If not, the tree must be [shifted](crate::shift::shift).
    pub idmap_mounts: bool,
}

impl Root {
    /// The volume's own folder. It is closed (0700) to everybody but its owner, so that set-uid programs of a guest
    /// cannot be reached by users of the host.
    pub fn volume(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

/// An instance volume as found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVolume {
    /// Whose it is.
    pub id: InstanceId,
    /// The epoch stamped on it; of a half-made volume that has no stamp yet, `Epoch(0)`.
    pub epoch: Epoch,
    /// Where the driver knows it without work.
    pub bytes_used: Option<u64>,
    /// False for what a crashed run left half-made: `ensure` makes it anew, `destroy` removes it.
    pub complete: bool,
}

/// How large the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes taken.
    pub used: u64,
}

/// How far a long step is, for people. Clones share the same counters.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counters: Arc<(AtomicU64, AtomicU64)>,
}

impl Progress {
    /// Nothing done of an unknown total.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how many bytes there are to do.
    pub fn set_total(&self, bytes: u64) {
        self.counters.1.store(bytes, Ordering::Relaxed);
    }

    /// Says that `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.counters.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes done, and in all (0 while unknown).
    pub fn get(&self) -> (u64, u64) {
        (self.counters.0.load(Ordering::Relaxed), self.counters.1.load(Ordering::Relaxed))
    }
}

/// A pool on this host.
///
/// **Who may call.** The agent that holds the instance's epoch. Calls for different volumes may run at the same time;
/// calls for one volume are serialised by the caller. **Cancellation.** Dropping a future may leave a half-made object
/// behind, which the next `ensure*` or `destroy*` of the same object finishes or removes; the same holds after `kill -9`.
#[async_trait]
pub trait VolumeStore: Send + Sync + Debug {
    /// What serves the pool.
    fn kind(&self) -> PoolKind;

    /// Every instance volume in the pool, half-made ones too.
    async fn list(&self) -> Result<Vec<FoundVolume>, Error>;

    /// One volume, half-made ones too. The agent asks it before each step: a driver that can answer without listing
    /// all of them should.
    async fn find(&self, id: InstanceId) -> Result<Option<FoundVolume>, Error> {
        Ok(self.list().await?.into_iter().find(|volume| volume.id == id))
    }

    /// Makes the volume from `origin` with the epoch stamped on it, mounts it, and limits it to `size` bytes where the
    /// pool can ([`Error::Unsupported`] where it cannot and a size is asked for). Idempotent: a complete volume keeps its
    /// content whatever `origin` says; a half-made one is made anew. A complete volume with another epoch is refused with
    /// [`Error::Epoch`] and not touched. The image must be in the pool, else [`Error::NotFound`].
    async fn ensure(&self, id: InstanceId, epoch: Epoch, origin: Origin<'_>, size: Option<u64>) -> Result<Root, Error>;

    /// The root of a complete volume, mounted; `None` when there is no complete one.
    async fn root(&self, id: InstanceId) -> Result<Option<Root>, Error>;

    /// Sets or lifts the limit on what the volume holds, its image's part included; [`Error::Unsupported`] where the pool
    /// has no quotas, [`Error::Invalid`] when it holds more already.
    async fn resize(&self, id: InstanceId, size: Option<u64>) -> Result<(), Error>;

    /// Removes the volume with all its snapshots, complete or half-made. Copies of it live on. What is gone already is a
    /// success.
    async fn destroy(&self, id: InstanceId) -> Result<(), Error>;

    /// Bytes that the volume takes beyond what it shares with its image. May walk the tree: seconds, not microseconds.
    async fn usage(&self, id: InstanceId) -> Result<u64, Error>;

    /// Size and use of the whole pool.
    async fn space(&self) -> Result<Space, Error>;

    /// Whether the image is unpacked in the pool.
    async fn has_image(&self, fp: &Fingerprint) -> Result<bool, Error>;

    /// Unpacks the image into the pool, once. All or nothing: an image that is refused leaves no trace.
    async fn ensure_image(&self, fp: &Fingerprint, files: &ImageFiles, progress: &Progress) -> Result<(), Error>;

    /// Removes the image from the pool; volumes made from it live on. What is gone already is a success.
    async fn destroy_image(&self, fp: &Fingerprint) -> Result<(), Error>;

    /// The images that are unpacked in the pool.
    async fn images(&self) -> Result<Vec<Fingerprint>, Error>;

    /// Snapshots of its volumes.
    fn snapshots(&self) -> &dyn Snapshots;

    /// Copies of its volumes, and volumes that come and go.
    fn transfers(&self) -> &dyn Transfers;
}
