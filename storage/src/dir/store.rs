//! The volumes and images of a dir pool.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use basalt_model::pool::PoolKind;
use basalt_model::{Epoch, Fingerprint, InstanceId, PoolName};
use basalt_runtime::{CommandRunner, spawn_blocking};

use super::claim::Claim;
use super::make_folder;
use super::stamp::VolumeStamp;
use crate::beneath::{Node, NodeKind, Tree, Visit};
use crate::image::{ImageFiles, Limits, unpack};
use crate::{
    Error, FoundVolume, Origin, Progress, ROOTFS, Root, Snapshots, Space, Transfers, VolumeStore, copy, filesystem,
};

/// A pool in a folder. See the module's head for the layout.
#[derive(Debug, Clone)]
pub(crate) struct DirStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pool: PoolName,
    pub(super) base: PathBuf,
    idmap_mounts: bool,
    runner: Arc<dyn CommandRunner>,
    temps: AtomicU64,
}

impl DirStore {
    /// Opens a prepared folder and removes what an earlier run left half-made. Blocks.
    pub(super) fn open(pool: PoolName, base: PathBuf, runner: Arc<dyn CommandRunner>) -> Result<Self, Error> {
        let failed = |error| Error::io(format!("pool {pool}"), "open", error);
        let idmap_mounts = filesystem::idmap_mounts(&base).map_err(failed)?;
        Tree::open(&base.join("tmp")).and_then(|tree| tree.clear()).map_err(failed)?;
        let inner = Inner { pool, base, idmap_mounts, runner, temps: AtomicU64::new(0) };
        inner.sweep_snapshots()?;
        Ok(DirStore { inner: Arc::new(inner) })
    }

    pub(super) fn place(&self) -> String {
        self.inner.place()
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        spawn_blocking(name, move || work(&inner)).await?
    }

    /// The same for work whose last move shows.
    pub(super) async fn committing<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Inner, &Claim) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let claim = Claim::default();
        let _held = claim.hold();
        self.blocking(name, move |inner| work(inner, &claim)).await
    }
}

#[async_trait]
impl VolumeStore for DirStore {
    fn kind(&self) -> PoolKind {
        PoolKind::Dir
    }

    async fn list(&self) -> Result<Vec<FoundVolume>, Error> {
        self.blocking("list volumes", Inner::list).await
    }

    async fn find(&self, id: InstanceId) -> Result<Option<FoundVolume>, Error> {
        self.blocking("find volume", move |inner| inner.found(id)).await
    }

    async fn ensure(&self, id: InstanceId, epoch: Epoch, origin: Origin<'_>, size: Option<u64>) -> Result<Root, Error> {
        if size.is_some() {
            return Err(self.inner.no_quota());
        }
        let image = match origin {
            Origin::Empty => None,
            Origin::Image(fp) => Some(fp.clone()),
        };
        self.committing("ensure volume", move |inner, claim| inner.ensure(id, epoch, image.as_ref(), claim)).await
    }

    async fn root(&self, id: InstanceId) -> Result<Option<Root>, Error> {
        self.blocking("find volume", move |inner| Ok(inner.stamp(id)?.map(|_| inner.root(id)))).await
    }

    async fn resize(&self, id: InstanceId, size: Option<u64>) -> Result<(), Error> {
        match size {
            Some(_) => Err(self.inner.no_quota()),
            None => self.blocking("find volume", move |inner| inner.present(id)).await,
        }
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), Error> {
        self.blocking("destroy volume", move |inner| inner.remove(id)).await
    }

    async fn usage(&self, id: InstanceId) -> Result<u64, Error> {
        let measure = move |inner: &Inner| inner.present(id).and_then(|()| inner.measure(&inner.volume(id)));
        self.blocking("measure volume", measure).await
    }

    async fn space(&self) -> Result<Space, Error> {
        self.blocking("measure pool", |inner| filesystem::space(&inner.base).map_err(|e| inner.failed("measure", e)))
            .await
    }

    async fn has_image(&self, fp: &Fingerprint) -> Result<bool, Error> {
        let path = self.inner.image(fp);
        self.blocking("find image", move |inner| path.try_exists().map_err(|e| inner.failed("find image", e))).await
    }

    async fn ensure_image(&self, fp: &Fingerprint, files: &ImageFiles, progress: &Progress) -> Result<(), Error> {
        if self.has_image(fp).await? {
            return Ok(());
        }
        let place = self.inner.place();
        let temp = self.blocking("prepare image", |inner| inner.temp()).await?;
        let limits = self.blocking("measure pool", |inner| inner.limits()).await?;
        let job = unpack::Job { place: &place, files, into: &temp, limits, progress };
        let unpacked = unpack::unpack(&*self.inner.runner, job).await;
        let fp = fp.clone();
        self.blocking("store image", move |inner| {
            let done = unpacked.and_then(|()| inner.settle(&temp, &inner.image(&fp)));
            done.inspect_err(|_| inner.sweep(&temp))
        })
        .await
    }

    async fn destroy_image(&self, fp: &Fingerprint) -> Result<(), Error> {
        let path = self.inner.image(fp);
        self.blocking("destroy image", move |inner| inner.discard(&path, "destroy image")).await
    }

    async fn images(&self) -> Result<Vec<Fingerprint>, Error> {
        self.blocking("list images", |inner| {
            let names = inner.names("images")?;
            Ok(names.into_iter().filter_map(|name| Fingerprint::new(name).ok()).collect())
        })
        .await
    }

    fn snapshots(&self) -> &dyn Snapshots {
        self
    }

    fn transfers(&self) -> &dyn Transfers {
        self
    }
}

impl Inner {
    pub(super) fn place(&self) -> String {
        format!("pool {}", self.pool)
    }

    pub(super) fn failed(&self, step: &str, error: io::Error) -> Error {
        Error::io(self.place(), step, error)
    }

    pub(super) fn no_quota(&self) -> Error {
        Error::unsupported(self.place(), "a dir pool cannot limit the size of a volume")
    }

    pub(super) fn volume(&self, id: InstanceId) -> PathBuf {
        self.base.join("instances").join(id.to_string())
    }

    fn image(&self, fp: &Fingerprint) -> PathBuf {
        self.base.join("images").join(fp.as_str())
    }

    pub(super) fn root(&self, id: InstanceId) -> Root {
        Root { path: self.volume(id).join(ROOTFS), idmap_mounts: self.idmap_mounts }
    }

    /// The stamp of a complete volume.
    pub(super) fn stamp(&self, id: InstanceId) -> Result<Option<VolumeStamp>, Error> {
        let stamp = VolumeStamp::read(&self.volume(id)).map_err(|error| self.failed("read stamp", error))?;
        Ok(stamp.filter(|stamp| stamp.instance == id))
    }

    pub(super) fn present(&self, id: InstanceId) -> Result<(), Error> {
        self.stamp(id)?.map(|_| ()).ok_or_else(|| Error::not_found(format!("volume {id}")))
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let read = || -> io::Result<Vec<String>> {
            let entries = std::fs::read_dir(self.base.join(folder))?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        read().map_err(|error| self.failed("list", error))
    }

    fn list(&self) -> Result<Vec<FoundVolume>, Error> {
        let ids = self.names("instances")?.into_iter().filter_map(|name| name.parse::<InstanceId>().ok());
        let found = ids.map(|id| {
            let stamp = self.stamp(id)?;
            let epoch = stamp.map_or(Epoch(0), |stamp| stamp.epoch);
            Ok(FoundVolume { id, epoch, bytes_used: None, complete: stamp.is_some() })
        });
        found.collect()
    }

    fn found(&self, id: InstanceId) -> Result<Option<FoundVolume>, Error> {
        let there = self.volume(id).try_exists().map_err(|error| self.failed("find volume", error))?;
        let stamp = self.stamp(id)?;
        let epoch = stamp.map_or(Epoch(0), |stamp| stamp.epoch);
        Ok(there.then_some(FoundVolume { id, epoch, bytes_used: None, complete: stamp.is_some() }))
    }

    /// The volume if it is complete; one with another epoch is an error.
    pub(super) fn existing(&self, id: InstanceId, epoch: Epoch) -> Result<Option<Root>, Error> {
        match self.stamp(id)? {
            Some(stamp) if stamp.epoch == epoch => Ok(Some(self.root(id))),
            Some(stamp) => Err(Error::Epoch { id, found: stamp.epoch, wanted: epoch }),
            None => Ok(None),
        }
    }

    /// Removes a volume, whole or not. Its snapshots go first: as long as it is found, the call will be repeated.
    pub(super) fn remove(&self, id: InstanceId) -> Result<(), Error> {
        self.discard(&self.snapshots(id), "remove snapshots")?;
        self.discard(&self.volume(id), "remove volume")
    }

    /// Removes snapshots whose volume a crash has kept from coming into place.
    fn sweep_snapshots(&self) -> Result<(), Error> {
        for id in self.names("snapshots")?.into_iter().filter_map(|name| name.parse::<InstanceId>().ok()) {
            if self.stamp(id)?.is_none() {
                self.discard(&self.snapshots(id), "remove half-made snapshots")?;
            }
        }
        Ok(())
    }

    fn ensure(&self, id: InstanceId, epoch: Epoch, image: Option<&Fingerprint>, claim: &Claim) -> Result<Root, Error> {
        if let Some(root) = self.existing(id, epoch)? {
            return Ok(root);
        }
        self.remove(id)?;
        let temp = self.temp()?;
        let made = self.fill(&temp, image).and_then(|()| {
            let stamp = VolumeStamp { instance: id, epoch };
            stamp.write(&temp).map_err(|error| self.failed("stamp volume", error))?;
            claim.commit(|| self.rename(&temp, &self.volume(id)))
        });
        made.inspect_err(|_| self.sweep(&temp))?;
        Ok(self.root(id))
    }

    fn fill(&self, temp: &Path, image: Option<&Fingerprint>) -> Result<(), Error> {
        let failed = |error| self.failed("fill volume", error);
        let Some(fp) = image else {
            std::fs::create_dir(temp.join(ROOTFS)).map_err(failed)?;
            return std::os::unix::fs::chown(temp.join(ROOTFS), Some(0), Some(0))
                .and_then(|()| {
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                    std::fs::set_permissions(temp.join(ROOTFS), mode)
                })
                .map_err(failed);
        };
        let source = match Tree::open(&self.image(fp)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("image {fp} in {}", self.place())));
            }
            other => other.map_err(failed)?,
        };
        let target = Tree::open(temp).map_err(failed)?;
        copy::tree(&source, &target).map_err(failed)?;
        // The stamp says that the volume is whole, so its content has to be on disk before it.
        sync_file_system(temp).map_err(failed)
    }

    /// A new folder in `tmp`.
    pub(super) fn temp(&self) -> Result<PathBuf, Error> {
        let path = self.base.join("tmp").join(self.temps.fetch_add(1, Ordering::Relaxed).to_string());
        make_folder(&path, 0o700).map_err(|error| self.failed("make temporary folder", error))?;
        Ok(path)
    }

    fn limits(&self) -> Result<Limits, Error> {
        let bytes = filesystem::free(&self.base).map_err(|error| self.failed("measure", error))?;
        Ok(Limits { bytes, ..Limits::default() })
    }

    fn settle(&self, temp: &Path, target: &Path) -> Result<(), Error> {
        sync_file_system(temp).map_err(|error| self.failed("sync", error))?;
        if target.try_exists().map_err(|error| self.failed("store", error))? {
            // Two callers unpacked the same image; the first one won.
            self.sweep(temp);
            return Ok(());
        }
        self.rename(temp, target)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let parent = to.parent().unwrap_or(&self.base);
        let moved = std::fs::rename(from, to).and_then(|()| File::open(parent)?.sync_all());
        moved.map_err(|error| self.failed("move into place", error))
    }

    /// Takes `path` out of sight at once, and then away.
    pub(super) fn discard(&self, path: &Path, step: &str) -> Result<(), Error> {
        let failed = |error| self.failed(step, error);
        let number = self.temps.fetch_add(1, Ordering::Relaxed);
        let gone = self.base.join("tmp").join(format!("{number}-gone"));
        match std::fs::rename(path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        }
        let tree = Tree::open(&self.base.join("tmp")).map_err(failed)?;
        tree.remove_all(format!("{number}-gone")).map_err(failed)
    }

    /// Best effort after an error that is already on its way: what stays goes when the pool is opened next.
    pub(super) fn sweep(&self, temp: &Path) {
        let name = temp.file_name().unwrap_or_default();
        let removed = Tree::open(&self.base.join("tmp")).and_then(|tree| tree.remove_all(name));
        if let Err(error) = removed {
            tracing::warn!(pool = %self.pool, path = %temp.display(), %error, "temporary folder not removed");
        }
    }

    /// Bytes on disk of a folder.
    pub(super) fn measure(&self, folder: &Path) -> Result<u64, Error> {
        let (mut bytes, mut seen) = (0u64, std::collections::HashSet::new());
        let mut add = |_: &Path, node: &Node, visit: Visit| {
            let found = node.attributes();
            let counted = found.links < 2 || found.kind == NodeKind::Dir || seen.insert(found.identity);
            if visit == Visit::Enter && counted {
                bytes = bytes.saturating_add(found.allocated);
            }
            Ok::<_, io::Error>(())
        };
        let walked = Tree::open(folder).and_then(|tree| tree.walk(&mut add));
        walked.map_err(|error| self.failed("measure volume", error))?;
        Ok(bytes)
    }
}

pub(super) fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}
