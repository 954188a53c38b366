//! Snapshots and transfers of the fake. All its trees are small, so it copies them where it stands.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use basalt_model::{InstanceId, SnapshotId};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{FakeStore, State, Volume, clear, host};
use crate::transfer::{self, Label, Sink, Source};
use crate::{Error, NewVolume, Parcel, Point, Progress, Root, Snapshots, Transfers, TreeView, copy};

impl FakeStore {
    pub(super) fn snapshots_folder(&self, id: InstanceId) -> PathBuf {
        self.base.join("snapshots").join(id.to_string())
    }

    fn snapshot_folder(&self, id: InstanceId, snapshot: SnapshotId) -> PathBuf {
        self.snapshots_folder(id).join(snapshot.to_string())
    }

    fn folder_at(&self, state: &State, id: InstanceId, point: Point) -> Result<PathBuf, Error> {
        let volume = complete(state, id)?;
        match point {
            Point::Now => Ok(self.path(id)),
            Point::Snapshot(snapshot) if volume.snapshots.contains(&snapshot) => Ok(self.snapshot_folder(id, snapshot)),
            Point::Snapshot(snapshot) => Err(Error::not_found(format!("snapshot {snapshot} of volume {id}"))),
        }
    }
}

fn complete(state: &State, id: InstanceId) -> Result<&Volume, Error> {
    let found = state.volumes.get(&id).filter(|volume| volume.complete);
    found.ok_or_else(|| Error::not_found(format!("volume {id}")))
}

fn duplicate(from: &Path, to: &Path) -> Result<(), Error> {
    clear(to)?;
    std::fs::create_dir_all(to).map_err(host)?;
    copy::volume(from, to, &[], &mut |_| {}).map_err(host)
}

#[async_trait]
impl Snapshots for FakeStore {
    async fn take(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error> {
        let mut state = self.enter("take")?;
        if complete(&state, id)?.snapshots.contains(&snapshot) {
            return Ok(());
        }
        duplicate(&self.path(id), &self.snapshot_folder(id, snapshot))?;
        state.volumes.entry(id).and_modify(|volume| volume.snapshots.push(snapshot));
        Ok(())
    }

    async fn list(&self, id: InstanceId) -> Result<Vec<SnapshotId>, Error> {
        let state = self.enter("list_snapshots")?;
        Ok(complete(&state, id).map(|volume| volume.snapshots.clone()).unwrap_or_default())
    }

    async fn restore(&self, id: InstanceId, snapshot: SnapshotId) -> Result<Root, Error> {
        let state = self.enter("restore")?;
        duplicate(&self.folder_at(&state, id, Point::Snapshot(snapshot))?, &self.path(id))?;
        Ok(self.found(id))
    }

    async fn remove(&self, id: InstanceId, snapshot: SnapshotId) -> Result<(), Error> {
        let mut state = self.enter("remove")?;
        clear(&self.snapshot_folder(id, snapshot))?;
        state.volumes.entry(id).and_modify(|volume| volume.snapshots.retain(|other| *other != snapshot));
        Ok(())
    }

    async fn usage(&self, id: InstanceId, snapshot: SnapshotId) -> Result<u64, Error> {
        let state = self.enter("usage_snapshot")?;
        self.folder_at(&state, id, Point::Snapshot(snapshot)).map(|_| 4096)
    }

    async fn view(&self, id: InstanceId, point: Point) -> Result<TreeView, Error> {
        let state = self.enter("view")?;
        Ok(TreeView::new(self.folder_at(&state, id, point)?, None, None))
    }
}

#[async_trait]
impl Transfers for FakeStore {
    async fn copy(
        &self,
        from: InstanceId,
        parcel: &Parcel,
        to: NewVolume,
        _progress: &Progress,
    ) -> Result<Root, Error> {
        let mut state = self.enter("copy")?;
        self.sized(to.size)?;
        if let Some(root) = self.existing(&state, to.id, to.epoch)? {
            return Ok(root);
        }
        for (old, new) in &parcel.snapshots {
            let source = self.folder_at(&state, from, Point::Snapshot(*old))?;
            duplicate(&source, &self.snapshot_folder(to.id, *new))?;
        }
        duplicate(&self.folder_at(&state, from, parcel.point)?, &self.path(to.id))?;
        let snapshots = parcel.snapshots.iter().map(|(_, new)| *new).collect();
        state.volumes.insert(to.id, Volume { epoch: to.epoch, complete: true, snapshots });
        Ok(self.found(to.id))
    }

    async fn send(
        &self,
        from: InstanceId,
        parcel: &Parcel,
        out: &mut (dyn AsyncWrite + Send + Unpin),
        progress: &Progress,
    ) -> Result<(), Error> {
        let sources = {
            let state = self.enter("send")?;
            let source = |label, point| {
                let view = TreeView::new(self.folder_at(&state, from, point)?, None, None);
                Ok(Source { label, view, live: point == Point::Now })
            };
            let snapshots = parcel.snapshots.iter();
            let snapshots = snapshots.map(|(old, new)| source(Label::Snapshot(*new), Point::Snapshot(*old)));
            snapshots.chain([source(Label::Point, parcel.point)]).collect::<Result<Vec<_>, Error>>()?
        };
        transfer::send("fake pool", sources, out, progress).await
    }

    async fn receive(
        &self,
        to: NewVolume,
        input: &mut (dyn AsyncRead + Send + Unpin),
        progress: &Progress,
    ) -> Result<Root, Error> {
        {
            let mut state = self.enter("receive")?;
            self.sized(to.size)?;
            if let Some(root) = self.existing(&state, to.id, to.epoch)? {
                return Ok(root);
            }
            state.volumes.insert(to.id, Volume { epoch: to.epoch, complete: false, snapshots: Vec::new() });
        }
        let mut landing = Landing { store: self, id: to.id, snapshots: Vec::new() };
        transfer::receive("fake pool", &mut landing, input, progress).await?;
        let volume = Volume { epoch: to.epoch, complete: true, snapshots: landing.snapshots };
        self.lock().volumes.insert(to.id, volume);
        Ok(self.found(to.id))
    }
}

struct Landing<'a> {
    store: &'a FakeStore,
    id: InstanceId,
    snapshots: Vec<SnapshotId>,
}

#[async_trait]
impl Sink for Landing<'_> {
    async fn begin(&mut self, label: Label) -> Result<PathBuf, Error> {
        let folder = match label {
            Label::Snapshot(snapshot) => self.store.snapshot_folder(self.id, snapshot),
            Label::Point => self.store.path(self.id),
        };
        clear(&folder)?;
        std::fs::create_dir_all(&folder).map_err(host)?;
        Ok(folder)
    }

    async fn finish(&mut self, label: Label) -> Result<(), Error> {
        if let Label::Snapshot(snapshot) = label {
            self.snapshots.push(snapshot);
        }
        Ok(())
    }
}
