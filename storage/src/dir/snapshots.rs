//! Snapshots of a dir pool: copies of whole volume folders.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use basalt_model::{InstanceId, SnapshotId};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::claim::Claim;
use super::make_folder;
use super::stamp::{STAMPS, SnapshotStamp};
use super::store::{DirStore, Inner, sync_file_system};
use crate::{Error, Point, ROOTFS, Root, Snapshots, TreeView, copy, shift};

#[async_trait]
impl Snapshots for DirStore {
    async fn take(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error> {
        self.committing("take snapshot", move |inner, claim| inner.take(id, snapshot, claim)).await
    }

    async fn list(&self, id: InstanceId) -> Result<Vec<SnapshotId>, Error> {
        self.blocking("list snapshots", move |inner| match inner.stamp(id)? {
            None => Ok(Vec::new()),
            Some(_) => Ok(inner.snapshots_of(id)?.into_iter().map(|stamp| stamp.snapshot).collect()),
        })
        .await
    }

    async fn restore(&self, id: InstanceId, snapshot: SnapshotId) -> Result<Root, Error> {
        self.committing("restore snapshot", move |inner, claim| inner.restore(id, snapshot, claim)).await
    }

    async fn remove(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error> {
        self.blocking("remove snapshot", move |inner| {
            inner.discard(&inner.snapshot(id, snapshot), "remove snapshot")?;
            // Not the last one, or gone already.
            let _ = std::fs::remove_dir(inner.snapshots(id));
            Ok(())
        })
        .await
    }

    async fn usage(&self, id: InstanceId, snapshot: SnapshotId) -> Result<u64, Error> {
        self.blocking("measure snapshot", move |inner| inner.measure(&inner.taken(id, snapshot)?)).await
    }

    async fn view(&self, id: InstanceId, point: Point) -> Result<TreeView, Error> {
        self.blocking("view volume", move |inner| inner.view(id, point)).await
    }
}

impl Inner {
    /// Where the snapshots of a volume lie.
    pub(super) fn snapshots(&self, id: InstanceId) -> PathBuf {
        self.base.join("snapshots").join(id.to_string())
    }

    fn snapshot(&self, id: InstanceId, snapshot: SnapshotId) -> PathBuf {
        self.snapshots(id).join(snapshot.to_string())
    }

    /// The folder of a complete snapshot of a complete volume.
    fn taken(&self, id: InstanceId, snapshot: SnapshotId) -> Result<PathBuf, Error> {
        self.present(id)?;
        let path = self.snapshot(id, snapshot);
        match SnapshotStamp::read(&path).map_err(|error| self.failed("read stamp", error))? {
            Some(stamp) if stamp.instance == id && stamp.snapshot == snapshot => Ok(path),
            Some(_) | None => Err(Error::not_found(format!("snapshot {snapshot} of volume {id}"))),
        }
    }

    /// Stamps of complete snapshots, oldest first.
    pub(super) fn snapshots_of(&self, id: InstanceId) -> Result<Vec<SnapshotStamp>, Error> {
        let folder = self.snapshots(id);
        let names = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => {
                found.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
            }
        };
        let mut stamps = Vec::new();
        for name in names.map_err(|error| self.failed("list snapshots", error))? {
            let stamp = SnapshotStamp::read(&folder.join(&name)).map_err(|error| self.failed("read stamp", error))?;
            stamps.extend(
                stamp.filter(|stamp| stamp.instance == id && name.to_str() == Some(&stamp.snapshot.to_string())),
            );
        }
        stamps.sort_by_key(|stamp| (stamp.number, stamp.snapshot));
        Ok(stamps)
    }

    fn take(&self, id: InstanceId, snapshot: SnapshotId, claim: &Claim) -> Result<(), Error> {
        self.present(id)?;
        let all = self.snapshots_of(id)?;
        if all.iter().any(|stamp| stamp.snapshot == snapshot) {
            return Ok(());
        }
        shift::settle(&self.root(id).path)?;
        let target = self.snapshot(id, snapshot);
        self.discard(&target, "remove half-made snapshot")?;
        let number = all.last().map_or(1, |stamp| stamp.number + 1);
        let temp = self.temp()?;
        let taken = self.duplicate(&self.volume(id), &temp, &mut |_| {}).and_then(|()| {
            let stamp = SnapshotStamp { instance: id, snapshot, number };
            stamp.write(&temp).and_then(|()| sync_file_system(&temp)).map_err(|error| self.failed("sync", error))?;
            make_folder(&self.snapshots(id), 0o700).map_err(|error| self.failed("make folder", error))?;
            claim.commit(|| self.rename(&temp, &target))
        });
        taken.inspect_err(|_| self.sweep(&temp))
    }

    fn restore(&self, id: InstanceId, snapshot: SnapshotId, claim: &Claim) -> Result<Root, Error> {
        let (source, volume) = (self.taken(id, snapshot)?, self.volume(id));
        let stamp = self.stamp(id)?.ok_or_else(|| Error::not_found(format!("volume {id}")))?;
        let temp = self.temp()?;
        let restored = self.duplicate(&source, &temp, &mut |_| {}).and_then(|()| {
            stamp.write(&temp).and_then(|()| sync_file_system(&temp)).map_err(|error| self.failed("sync", error))?;
            claim.commit(|| self.exchange(&temp, &volume))
        });
        // What is in `tmp` now is the old volume, or the new one that was not to be.
        self.sweep(&temp);
        restored.map(|()| self.root(id))
    }

    fn exchange(&self, new: &Path, old: &Path) -> Result<(), Error> {
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let why = "its file system cannot exchange two folders in one step, which a restore needs";
                return Err(Error::unsupported(self.place(), why));
            }
            other => other.map_err(|error| self.failed("move into place", error.into()))?,
        }
        let synced = std::fs::File::open(old.parent().unwrap_or(&self.base)).and_then(|folder| folder.sync_all());
        synced.map_err(|error| self.failed("move into place", error))
    }

    /// Copies a volume's folder, as a volume or as a snapshot, without its stamp.
    pub(super) fn duplicate(&self, from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> Result<(), Error> {
        copy::volume(from, to, &STAMPS, copied).map_err(|error| self.failed("copy volume", error))
    }

    pub(super) fn view(&self, id: InstanceId, point: Point) -> Result<TreeView, Error> {
        let folder = self.folder_at(id, point)?;
        let map = shift::settle(&folder.join(ROOTFS))?;
        Ok(TreeView::new(folder, map, None))
    }

    /// The folder that holds the tree of that point.
    pub(super) fn folder_at(&self, id: InstanceId, point: Point) -> Result<PathBuf, Error> {
        match point {
            Point::Now => self.present(id).map(|()| self.volume(id)),
            Point::Snapshot(snapshot) => self.taken(id, snapshot),
        }
    }
}
