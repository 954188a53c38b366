//! The port of what a volume was: snapshots, and volumes that travel or are copied with them.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use basalt_model::{Epoch, InstanceId, SnapshotId};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::shift::IdMap;
use crate::{Error, Progress, Root};

/// A moment of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// As it is now. Of a volume that a guest writes to, a driver that has only copies sees a blurred moment.
    Now,
    /// As it was.
    Snapshot(SnapshotId),
}

/// A volume's tree at one point, to read. It is valid while this value lives, and not longer.
#[derive(Debug)]
pub struct TreeView {
    volume: PathBuf,
    map: Option<IdMap>,
    /// What the driver holds for the view.
    _lease: Option<Box<dyn Debug + Send + Sync>>,
}

impl TreeView {
    /// For drivers: the volume's folder, how its ids stand, and what is held as long as the view lives.
    pub fn new(volume: PathBuf, map: Option<IdMap>, lease: Option<Box<dyn Debug + Send + Sync>>) -> Self {
        TreeView { volume, map, _lease: lease }
    }

    /// The volume's own folder: `rootfs`, and beside it what the image brought (`metadata.yaml`, `templates`) and small
    /// files of ours.
    pub fn volume(&self) -> &Path {
        &self.volume
    }

    /// What becomes `/`. Its content is the guest's: open nothing in it but through [`crate::beneath`].
    pub fn root(&self) -> PathBuf {
        self.volume.join(crate::ROOTFS)
    }

    /// Where the guest's ids stand in the tree; `None` when they are the guest's own.
    pub fn shifted(&self) -> Option<IdMap> {
        self.map
    }
}

/// The snapshots of a pool's volumes. Each is keyed by its own id, so renaming one touches no disk.
///
/// **Who may call, cancellation.** As for [`crate::VolumeStore`]: the agent that holds the instance's epoch, one call at a
/// time for one volume (a view that lives counts as a call that runs). After a dropped future or a crash the call is
/// repeated. A volume or snapshot that is not there is [`Error::NotFound`].
#[async_trait]
pub trait Snapshots: Send + Sync + Debug {
    /// Takes a snapshot of a complete volume. Idempotent: one that is complete is kept as it is; a half-made one is made
    /// anew.
    async fn take(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error>;

    /// Complete snapshots of the volume, oldest first. Of a volume that is not there, none.
    async fn list(&self, id: InstanceId) -> Result<Vec<SnapshotId>, Error>;

    /// Gives the volume the snapshot's content. Its stamp (instance, epoch), its size and *all* snapshots, newer ones
    /// too, stay. The guest is stopped. Repeatable after a crash at any instruction: at any moment the volume is either
    /// the old or the new one.
    async fn restore(&self, id: InstanceId, snapshot: SnapshotId) -> Result<Root, Error>;

    /// Removes it; what is gone is a success.
    async fn remove(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error>;

    /// Bytes that removing it would free, as far as known. May walk the tree: seconds, not microseconds.
    async fn usage(&self, id: InstanceId, snapshot: SnapshotId) -> Result<u64, Error>;

    /// The tree as it was at that point.
    async fn view(&self, id: InstanceId, point: Point) -> Result<TreeView, Error>;
}

/// What travels: the volume at `point`, and with it the named snapshots, each with the id that it gets at its new place,
/// oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// What the new volume holds.
    pub point: Point,
    /// Old and new id of each snapshot.
    pub snapshots: Vec<(SnapshotId, SnapshotId)>,
}

impl Parcel {
    /// The volume without snapshots.
    pub fn of(point: Point) -> Self {
        Parcel { point, snapshots: Vec::new() }
    }
}

/// A volume that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewVolume {
    /// Whose it is.
    pub id: InstanceId,
    /// What is stamped on it.
    pub epoch: Epoch,
    /// Its limit in bytes; [`Error::Unsupported`] where the pool has none.
    pub size: Option<u64>,
}

/// Making volumes out of volumes, here or on another member.
///
/// Both ways of making are idempotent like [`crate::VolumeStore::ensure`]: a complete volume with this epoch is kept and
/// nothing is read, one with another is refused with [`Error::Epoch`], a half-made one is made anew. All or nothing.
#[async_trait]
pub trait Transfers: Send + Sync + Debug {
    /// Makes volume `to` out of volume `from` of this pool, without copying bytes where the driver can.
    async fn copy(&self, from: InstanceId, parcel: &Parcel, to: NewVolume, progress: &Progress) -> Result<Root, Error>;

    /// Writes the parcel as a stream that `receive` of every driver reads. Owner ids travel as the guest's own. Counts
    /// the bytes written.
    async fn send(
        &self,
        from: InstanceId,
        parcel: &Parcel,
        out: &mut (dyn AsyncWrite + Send + Unpin),
        progress: &Progress,
    ) -> Result<(), Error>;

    /// Makes the volume from such a stream, and reads it to its end. A stream that ends early, is damaged or hostile is
    /// [`Error::Invalid`] and leaves nothing but what `ensure` and `destroy` take for half-made. Counts the bytes read.
    async fn receive(
        &self,
        to: NewVolume,
        input: &mut (dyn AsyncRead + Send + Unpin),
        progress: &Progress,
    ) -> Result<Root, Error>;
}
