//! Snapshots of a ZFS pool. See the module's head for how a volume goes back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use basalt_model::{InstanceId, SnapshotId};
use basalt_runtime::spawn_blocking;

use super::argv;
use super::branches::{Taken, has_clones};
use super::names::{self, Dataset, EPOCH, INSTANCE, READY};
use super::parse;
use super::run::is_missing;
use super::store::ZfsStore;
use crate::shift::{self, IdMap};
use crate::{Error, Point, ROOTFS, Root, Snapshots, TreeView};

/// A clone that is looked at. It is destroyed some time after this is dropped, by the next call that could mind it.
#[derive(Debug)]
struct Lease {
    dataset: Dataset,
    released: Arc<Mutex<Vec<Dataset>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).push(self.dataset.clone());
    }
}

#[async_trait]
impl Snapshots for ZfsStore {
    async fn take(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error> {
        self.present(id).await?;
        if self.taken(id).await?.iter().any(|taken| taken.id == snapshot) {
            return Ok(());
        }
        self.settle_ids(id).await?;
        let name = names::taken(&self.names.volume(id).name, snapshot);
        self.zfs.run("take snapshot", argv::snapshot(&name)).await
    }

    async fn list(&self, id: InstanceId) -> Result<Vec<SnapshotId>, Error> {
        match self.stamp_of(id).await? {
            Some(found) if found.complete => Ok(self.taken(id).await?.into_iter().map(|taken| taken.id).collect()),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    async fn restore(&self, id: InstanceId, snapshot: SnapshotId) -> Result<Root, Error> {
        self.drop_views().await?;
        self.present(id).await?;
        let (taken, dataset) = (self.find_taken(id, snapshot).await?, self.names.volume(id));
        self.zfs.unmount(&dataset).await?;
        let back = match taken.newest {
            true => self.zfs.rollback("roll back", &taken.name()).await.inspect_err(|error| {
                tracing::warn!(volume = %id, %error, "going back by a clone");
            }),
            false => self.branch_off(id, &taken).await,
        };
        // A clone leads there too, whatever the rollback has done.
        if back.is_err() && taken.newest {
            self.branch_off(id, &taken).await?;
        } else {
            back?;
        }
        self.ready(&dataset).await
    }

    async fn remove(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error> {
        self.drop_views().await?;
        self.heal(id).await?;
        if !self.zfs.exists(&self.names.volume(id).name).await? {
            return Ok(());
        }
        let Some(taken) = self.taken(id).await?.into_iter().find(|taken| taken.id == snapshot) else { return Ok(()) };
        match self.zfs.try_destroy(&taken.name()).await {
            Err(error) if has_clones(error.stderr()) => {
                self.zfs.rename("hide snapshot", &taken.name(), &names::kept(&taken.dataset)).await?;
            }
            Err(error) if !is_missing(&error) => return Err(self.zfs.failed("remove snapshot", error)),
            Ok(()) | Err(_) => {}
        }
        match taken.dataset == self.names.volume(id).name {
            true => Ok(()),
            false => self.sweep().await,
        }
    }

    async fn usage(&self, id: InstanceId, snapshot: SnapshotId) -> Result<u64, Error> {
        self.present(id).await?;
        Ok(self.find_taken(id, snapshot).await?.used)
    }

    async fn view(&self, id: InstanceId, point: Point) -> Result<TreeView, Error> {
        self.drop_views().await?;
        self.present(id).await?;
        match point {
            Point::Now => {
                let map = self.settle_ids(id).await?;
                Ok(TreeView::new(self.names.volume(id).mount, map, None))
            }
            Point::Snapshot(snapshot) => self.view_taken(&self.find_taken(id, snapshot).await?).await,
        }
    }
}

impl ZfsStore {
    /// Finishes what a crash left of a move of ids, and has all that was written reach the pool.
    pub(super) async fn settle_ids(&self, id: InstanceId) -> Result<Option<IdMap>, Error> {
        let root = self.ready(&self.names.volume(id)).await?;
        let settle = move || {
            let map = shift::settle(&root.path)?;
            let synced = std::fs::File::open(root.volume()).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
            synced.map(|()| map).map_err(|error| Error::io(names::text(root.volume()), "sync", error))
        };
        spawn_blocking("settle ids", settle).await?
    }

    /// Makes the volume a clone of one of its snapshots. The new one is whole before the old one is put aside.
    async fn branch_off(&self, id: InstanceId, taken: &Taken) -> Result<(), Error> {
        const KEPT: [&str; 4] = [INSTANCE, EPOCH, READY, "refquota"];
        let reading = self.origins.read().await;
        let (volume, next) = (self.names.volume(id), self.names.next(id));
        let unsettled = self.begin(id);
        self.zfs.destroy("destroy half-made volume", &next.name).await?;
        let found = self.zfs.get(&volume.name, &KEPT).await?;
        let found = found.ok_or_else(|| Error::not_found(format!("volume {id} in {}", self.zfs.place)))?;
        let mut properties: Vec<_> = KEPT[..3].iter().filter_map(|name| Some((*name, found.local(name)?))).collect();
        let quota = found.bytes("refquota").filter(|bytes| *bytes > 0).map(|bytes| bytes.to_string());
        properties.push(("refquota", quota.as_deref().unwrap_or("none")));
        self.zfs.run("clone snapshot", argv::clone_unmounted(&taken.name(), &next.name, &properties)).await?;
        let old = self.names.branch(id, self.free_branch(id).await?);
        self.zfs.rename("put volume aside", &volume.name, &old.name).await?;
        self.advance(id).await?;
        unsettled.settled();
        drop(reading);
        // The volume has gone back; space that is not freed now is when the pool is opened next.
        if let Err(error) = self.shrink(&old).await.and(self.sweep().await) {
            tracing::warn!(volume = %id, %error, "the volume's old content not removed");
        }
        Ok(())
    }

    /// Lets go of what a branch holds beyond its snapshots.
    pub(super) async fn shrink(&self, branch: &Dataset) -> Result<(), Error> {
        let all = self.zfs.get_all(&branch.name, &["createtxg"]).await?;
        let snapshots = all.iter().filter(|(name, _)| name.contains('@'));
        match snapshots.max_by_key(|(_, found)| found.bytes("createtxg")) {
            Some((newest, _)) => self.zfs.rollback("shrink branch", newest).await,
            None => Ok(()),
        }
    }

    /// A clone of a snapshot, mounted.
    async fn view_taken(&self, taken: &Taken) -> Result<TreeView, Error> {
        let reading = self.origins.read().await;
        let dataset = self.names.new_view();
        // From here on it is cleaned up, whatever happens.
        let lease = Lease { dataset: dataset.clone(), released: self.released.clone() };
        self.zfs.run("clone snapshot", argv::clone(&taken.name(), &dataset, &[])).await?;
        drop(reading);
        self.zfs.mount(&dataset).await?;
        let folder: PathBuf = dataset.mount.clone();
        let map = spawn_blocking("read id map", move || shift::settle(&folder.join(ROOTFS))).await??;
        Ok(TreeView::new(dataset.mount, map, Some(Box::new(lease))))
    }

    /// Destroys the views that nobody looks at any more.
    pub(super) async fn drop_views(&self) -> Result<(), Error> {
        loop {
            let next = self.released.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(view) = next else { return Ok(()) };
            if let Err(error) = self.remove(&view).await {
                self.released.lock().unwrap_or_else(PoisonError::into_inner).push(view);
                return Err(error);
            }
        }
    }

    /// Destroys the views of an earlier run.
    pub(super) async fn sweep_views(&self) -> Result<(), Error> {
        let folder = self.names.folder("views");
        let all = self.zfs.get_all(&folder, &["used"]).await?;
        for (name, _) in parse::children(&all, &folder) {
            self.remove(&self.names.child("views", name)).await?;
        }
        Ok(())
    }
}
