//! Copies inside of a ZFS pool, by clones, and volumes that come and go as streams.

use std::path::PathBuf;

use async_trait::async_trait;
use basalt_model::{InstanceId, SnapshotId};
use basalt_runtime::spawn_blocking;
use tokio::io::{AsyncRead, AsyncWrite};

use super::argv;
use super::names::{self, Dataset, EPOCH, INSTANCE, READY};
use super::store::{ZfsStore, close};
use crate::beneath::Tree;
use crate::transfer::{self, Label, Sink, Source};
use crate::{Error, NewVolume, Parcel, Point, Progress, Root, Snapshots, Transfers};

#[async_trait]
impl Transfers for ZfsStore {
    async fn copy(
        &self,
        from: InstanceId,
        parcel: &Parcel,
        to: NewVolume,
        _progress: &Progress,
    ) -> Result<Root, Error> {
        if let Some(root) = self.existing(to.id, to.epoch).await? {
            return Ok(root);
        }
        self.present(from).await?;
        let unsettled = self.begin(to.id);
        let made = self.clone_all(from, parcel, to).await;
        if let Err(error) = made {
            // The first error is told; what stays goes with the next call for this volume, or when the pool is opened.
            if let Err(error) = self.clear(to.id).await {
                tracing::warn!(volume = %to.id, %error, "half-made copy not removed");
            }
            return Err(error);
        }
        unsettled.settled();
        self.ready(&self.names.volume(to.id)).await
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
        let sent = transfer::send(&self.zfs.place, sources, out, progress).await;
        self.drop_views().await?;
        sent
    }

    async fn receive(
        &self,
        to: NewVolume,
        input: &mut (dyn AsyncRead + Send + Unpin),
        progress: &Progress,
    ) -> Result<Root, Error> {
        if let Some(root) = self.existing(to.id, to.epoch).await? {
            return Ok(root);
        }
        let dataset = self.names.volume(to.id);
        let (instance, epoch, limit) = (to.id.to_string(), to.epoch.to_string(), Self::limit(to.size));
        let properties = [(INSTANCE, instance.as_str()), (EPOCH, &epoch), ("refquota", &limit)];
        self.zfs.run("create volume", argv::create(&dataset, &properties)).await?;
        self.zfs.mount(&dataset).await?;
        let mut landing = Landing { store: self, dataset: &dataset, used: false };
        let received = transfer::receive(&self.zfs.place, &mut landing, input, progress).await;
        if let Err(error) = received {
            if let Err(error) = self.clear(to.id).await {
                tracing::warn!(volume = %to.id, %error, "half-made volume not removed");
            }
            return Err(error);
        }
        self.zfs.run("stamp volume", argv::set(&dataset.name, (READY, "yes"))).await?;
        self.ready(&dataset).await
    }
}

impl ZfsStore {
    /// The volume comes last, and makes the branches that hold its snapshots count.
    async fn clone_all(&self, from: InstanceId, parcel: &Parcel, to: NewVolume) -> Result<(), Error> {
        let _reading = self.origins.read().await;
        let (instance, epoch, limit) = (to.id.to_string(), to.epoch.to_string(), Self::limit(to.size));
        let stamps = [(INSTANCE, instance.as_str()), (EPOCH, &epoch)];
        for (number, (old, new)) in (1..).zip(&parcel.snapshots) {
            let (source, branch) = (self.find_taken(from, *old).await?.name(), self.names.branch(to.id, number));
            self.zfs.run("clone snapshot", argv::clone_unmounted(&source, &branch.name, &stamps)).await?;
            self.zfs.run("take snapshot", argv::snapshot(&names::taken(&branch.name, *new))).await?;
        }
        let source = match parcel.point {
            Point::Snapshot(snapshot) => self.find_taken(from, snapshot).await?.name(),
            Point::Now => {
                self.settle_ids(from).await?;
                let hidden = names::kept(&self.names.volume(from).name);
                self.zfs.run("take snapshot", argv::snapshot(&hidden)).await?;
                hidden
            }
        };
        let properties = [&stamps[..], &[("refquota", limit.as_str()), (READY, "yes")]].concat();
        // One transaction with its stamps: it is whole or it is not there.
        self.zfs.run("clone volume", argv::clone(&source, &self.names.volume(to.id), &properties)).await
    }

    /// Has the content of a mounted dataset reach the pool.
    async fn synced(&self, dataset: &Dataset) -> Result<(), Error> {
        let mount = dataset.mount.clone();
        let synced = spawn_blocking("sync volume", move || {
            std::fs::File::open(mount).and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        });
        synced.await?.map_err(|error| self.io("sync volume", error))
    }
}

/// Where a stream's trees come to lie: all in the volume's own dataset, one after the other, with a snapshot after each.
struct Landing<'a> {
    store: &'a ZfsStore,
    dataset: &'a Dataset,
    used: bool,
}

impl Landing<'_> {
    async fn taken(&self, snapshot: SnapshotId) -> Result<(), Error> {
        let name = names::taken(&self.dataset.name, snapshot);
        self.store.zfs.run("take snapshot", argv::snapshot(&name)).await
    }
}

#[async_trait]
impl Sink for Landing<'_> {
    async fn begin(&mut self, _label: Label) -> Result<PathBuf, Error> {
        let (mount, again) = (self.dataset.mount.clone(), std::mem::replace(&mut self.used, true));
        let prepared = spawn_blocking("prepare volume", move || match again {
            true => Tree::open(&mount)?.clear(),
            false => close(&mount),
        });
        prepared.await?.map_err(|error| self.store.io("prepare volume", error))?;
        Ok(self.dataset.mount.clone())
    }

    async fn finish(&mut self, label: Label) -> Result<(), Error> {
        self.store.synced(self.dataset).await?;
        match label {
            Label::Snapshot(snapshot) => self.taken(snapshot).await,
            Label::Point => Ok(()),
        }
    }
}
