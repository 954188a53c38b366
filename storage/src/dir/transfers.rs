//! Copies inside of a dir pool, and volumes that come and go as streams. Both build the volume with its snapshots in one
//! folder of `tmp`, which is moved into place in two steps: the snapshots, and then the volume that makes them count.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use basalt_model::{InstanceId, SnapshotId};
use tokio::io::{AsyncRead, AsyncWrite};

use super::claim::Claim;
use super::make_folder;
use super::stamp::{SnapshotStamp, VolumeStamp};
use super::store::{DirStore, Inner, sync_file_system};
use crate::transfer::{self, Label, Sink, Source};
use crate::{Error, NewVolume, Parcel, Point, Progress, Root, Snapshots, Transfers, shift};

#[async_trait]
impl Transfers for DirStore {
    async fn copy(&self, from: InstanceId, parcel: &Parcel, to: NewVolume, progress: &Progress) -> Result<Root, Error> {
        let (parcel, progress) = (parcel.clone(), progress.clone());
        self.committing("copy volume", move |inner, claim| inner.copy((from, &parcel), to, &progress, claim)).await
    }

    async fn send(
        &self,
        from: InstanceId,
        parcel: &Parcel,
        out: &mut (dyn AsyncWrite + Send + Unpin),
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut sources = Vec::new();
        for (old, new) in &parcel.snapshots {
            let view = self.view(from, Point::Snapshot(*old)).await?;
            sources.push(Source { label: Label::Snapshot(*new), view, live: false });
        }
        let view = self.view(from, parcel.point).await?;
        sources.push(Source { label: Label::Point, view, live: parcel.point == Point::Now });
        transfer::send(&self.place(), sources, out, progress).await
    }

    async fn receive(
        &self,
        to: NewVolume,
        input: &mut (dyn AsyncRead + Send + Unpin),
        progress: &Progress,
    ) -> Result<Root, Error> {
        let found = self.blocking("find volume", move |inner| inner.kept(to)).await?;
        if let Some(root) = found {
            return Ok(root);
        }
        let parts = self.blocking("prepare volume", |inner| inner.parts()).await?;
        let mut landing = Landing { store: self, id: to.id, parts: parts.clone(), number: 0 };
        let received = transfer::receive(&self.place(), &mut landing, input, progress).await;
        self.committing("store volume", move |inner, claim| {
            let done = received.and_then(|()| inner.settle_parts(&parts, to, claim));
            inner.sweep(&parts.base);
            done
        })
        .await
    }
}

/// A volume that is being built, with its snapshots.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    base: PathBuf,
}

impl Parts {
    fn volume(&self) -> PathBuf {
        self.base.join("volume")
    }

    fn snapshots(&self) -> PathBuf {
        self.base.join("snapshots")
    }

    fn snapshot(&self, snapshot: SnapshotId) -> PathBuf {
        self.snapshots().join(snapshot.to_string())
    }
}

impl Inner {
    /// The volume if it is there already; else what is left of it is removed.
    fn kept(&self, to: NewVolume) -> Result<Option<Root>, Error> {
        if to.size.is_some() {
            return Err(self.no_quota());
        }
        let kept = self.existing(to.id, to.epoch)?;
        if kept.is_none() {
            self.remove(to.id)?;
        }
        Ok(kept)
    }

    fn parts(&self) -> Result<Parts, Error> {
        let parts = Parts { base: self.temp()? };
        for folder in [parts.volume(), parts.snapshots()] {
            make_folder(&folder, 0o700).map_err(|error| self.failed("make folder", error))?;
        }
        Ok(parts)
    }

    fn copy(
        &self,
        (from, parcel): (InstanceId, &Parcel),
        to: NewVolume,
        progress: &Progress,
        claim: &Claim,
    ) -> Result<Root, Error> {
        if let Some(root) = self.kept(to)? {
            return Ok(root);
        }
        if parcel.point == Point::Now {
            self.present(from)?;
            shift::settle(&self.root(from).path)?;
        }
        let parts = self.parts()?;
        let mut copied = |bytes| progress.add(bytes);
        let mut fill = || {
            for (number, (old, new)) in (1..).zip(&parcel.snapshots) {
                let (source, target) = (self.folder_at(from, Point::Snapshot(*old))?, parts.snapshot(*new));
                make_folder(&target, 0o700).map_err(|error| self.failed("make folder", error))?;
                self.duplicate(&source, &target, &mut copied)?;
                self.stamp_snapshot(&target, to.id, *new, number)?;
            }
            self.duplicate(&self.folder_at(from, parcel.point)?, &parts.volume(), &mut copied)
        };
        let done = fill().and_then(|()| self.settle_parts(&parts, to, claim));
        self.sweep(&parts.base);
        done
    }

    fn stamp_snapshot(&self, folder: &Path, id: InstanceId, snapshot: SnapshotId, number: u64) -> Result<(), Error> {
        let stamp = SnapshotStamp { instance: id, snapshot, number };
        stamp.write(folder).map_err(|error| self.failed("stamp snapshot", error))
    }

    fn settle_parts(&self, parts: &Parts, to: NewVolume, claim: &Claim) -> Result<Root, Error> {
        let failed = |error| self.failed("store volume", error);
        VolumeStamp { instance: to.id, epoch: to.epoch }.write(&parts.volume()).map_err(failed)?;
        sync_file_system(&parts.base).map_err(failed)?;
        let snapshots = std::fs::read_dir(parts.snapshots()).map_err(failed)?.next().is_some();
        claim.commit(|| {
            if snapshots {
                self.rename(&parts.snapshots(), &self.snapshots(to.id))?;
            }
            self.rename(&parts.volume(), &self.volume(to.id))
        })?;
        Ok(self.root(to.id))
    }
}

/// Where a stream's trees come to lie.
struct Landing<'a> {
    store: &'a DirStore,
    id: InstanceId,
    parts: Parts,
    number: u64,
}

#[async_trait]
impl Sink for Landing<'_> {
    async fn begin(&mut self, label: Label) -> Result<PathBuf, Error> {
        let Label::Snapshot(snapshot) = label else { return Ok(self.parts.volume()) };
        let target = self.parts.snapshot(snapshot);
        let made = target.clone();
        let make = move |inner: &Inner| make_folder(&made, 0o700).map_err(|error| inner.failed("make folder", error));
        self.store.blocking("make folder", make).await?;
        Ok(target)
    }

    async fn finish(&mut self, label: Label) -> Result<(), Error> {
        let Label::Snapshot(snapshot) = label else { return Ok(()) };
        self.number += 1;
        let (target, id, number) = (self.parts.snapshot(snapshot), self.id, self.number);
        self.store.blocking("stamp snapshot", move |inner| inner.stamp_snapshot(&target, id, snapshot, number)).await
    }
}
