//! The volumes and images of a ZFS pool.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use async_trait::async_trait;
use basalt_model::pool::PoolKind;
use basalt_model::{Epoch, Fingerprint, InstanceId};
use basalt_runtime::spawn_blocking;
use tokio::sync::{Mutex, RwLock};

use super::names::{self, Dataset, EPOCH, INSTANCE, Names, READY};
use super::parse::{self, Properties};
use super::run::{Zfs, is_missing};
use super::{Flavour, argv};
use crate::dir::make_folder;
use crate::image::{ImageFiles, Limits, unpack};
use crate::{Error, FoundVolume, Origin, Progress, Root, Snapshots, Space, Transfers, VolumeStore, filesystem};

const STAMPS: [&str; 4] = [INSTANCE, EPOCH, READY, "used"];

/// A pool on ZFS. See the module's head for the layout.
#[derive(Debug)]
pub(crate) struct ZfsStore {
    pub(super) zfs: Zfs,
    pub(super) names: Names,
    /// Cloning takes it for reading; moving and removing what has no clones for writing.
    pub(super) origins: RwLock<()>,
    /// Volumes with steps of an earlier call left to do.
    unsettled: std::sync::Mutex<BTreeSet<InstanceId>>,
    /// Views that nobody looks at any more.
    pub(super) released: Arc<std::sync::Mutex<Vec<Dataset>>>,
    /// One image is unpacked at a time; clones of others go on meanwhile.
    unpacking: Mutex<()>,
}

/// A volume's stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) epoch: Epoch,
    pub(super) complete: bool,
    used: Option<u64>,
}

impl ZfsStore {
    pub(super) fn new(zfs: Zfs, names: Names) -> Self {
        let origins = RwLock::new(());
        ZfsStore {
            zfs,
            names,
            origins,
            unsettled: Default::default(),
            released: Arc::default(),
            unpacking: Mutex::new(()),
        }
    }

    pub(super) fn unsettled(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(id: InstanceId, found: &Properties) -> Stamp {
        let ours = found.local(INSTANCE) == Some(id.to_string().as_str());
        let epoch = found.local(EPOCH).and_then(|text| text.parse().ok()).filter(|_| ours).map(Epoch);
        Stamp {
            epoch: epoch.unwrap_or_default(),
            complete: epoch.is_some() && found.local(READY).is_some(),
            used: found.bytes("used"),
        }
    }

    pub(super) async fn stamp_of(&self, id: InstanceId) -> Result<Option<Stamp>, Error> {
        self.heal(id).await?;
        let found = self.zfs.get(&self.names.volume(id).name, &STAMPS).await?;
        Ok(found.map(|found| Self::stamp(id, &found)))
    }

    pub(super) async fn present(&self, id: InstanceId) -> Result<Stamp, Error> {
        let found = self.stamp_of(id).await?.filter(|stamp| stamp.complete);
        found.ok_or_else(|| Error::not_found(format!("volume {id} in {}", self.zfs.place)))
    }

    pub(super) async fn ready(&self, dataset: &Dataset) -> Result<Root, Error> {
        self.zfs.mount(dataset).await?;
        let idmap_mounts = match self.zfs.flavour {
            Flavour::Fuse => false,
            Flavour::Kernel => filesystem::idmap_mounts(&dataset.mount).map_err(|e| self.io("look at mount", e))?,
        };
        Ok(Root { path: dataset.rootfs(), idmap_mounts })
    }

    pub(super) fn io(&self, step: &str, error: std::io::Error) -> Error {
        Error::io(&self.zfs.place, step, error)
    }

    /// The volume if it is complete; one with another epoch is an error, and what is half-made is removed.
    pub(super) async fn existing(&self, id: InstanceId, epoch: Epoch) -> Result<Option<Root>, Error> {
        match self.stamp_of(id).await? {
            Some(found) if found.complete && found.epoch == epoch => {
                return self.ready(&self.names.volume(id)).await.map(Some);
            }
            Some(found) if found.complete => return Err(Error::Epoch { id, found: found.epoch, wanted: epoch }),
            Some(_) => self.clear(id).await?,
            None if self.unsettled().contains(&id) => self.clear(id).await?,
            None => false,
        };
        self.unsettled().remove(&id);
        Ok(None)
    }

    async fn make_empty(&self, dataset: &Dataset, properties: &[argv::Property<'_>]) -> Result<(), Error> {
        self.zfs.run("create volume", argv::create(dataset, properties)).await?;
        self.zfs.mount(dataset).await?;
        close(&dataset.mount).and_then(|()| make_folder(&dataset.rootfs(), 0o755)).map_err(|e| self.io("fill", e))?;
        self.zfs.run("stamp volume", argv::set(&dataset.name, (READY, "yes"))).await
    }

    async fn make_clone(
        &self,
        fp: &Fingerprint,
        dataset: &Dataset,
        properties: &[argv::Property<'_>],
    ) -> Result<(), Error> {
        let _reading = self.origins.read().await;
        let snapshot = self.names.image(fp).snapshot();
        // One transaction with its stamps: it is whole or it is not there.
        let properties = [properties, &[(READY, "yes")]].concat();
        match self.zfs.try_run(argv::clone(&snapshot, dataset, &properties)).await {
            Err(error) if is_missing(&error) => Err(Error::not_found(format!("image {fp} in {}", self.zfs.place))),
            other => other.map_err(|error| self.zfs.failed("clone image", error)),
        }
    }

    async fn unpack_image(&self, fp: &Fingerprint, files: &ImageFiles, progress: &Progress) -> Result<(), Error> {
        let image = self.names.image(fp);
        self.zfs.run("create image", argv::create(&image, &[])).await?;
        self.zfs.mount(&image).await?;
        close(&image.mount).map_err(|error| self.io("fill image", error))?;
        let bytes = filesystem::free(&image.mount).map_err(|error| self.io("measure", error))?;
        let limits = Limits { bytes, ..Limits::default() };
        let job = unpack::Job { place: &self.zfs.place, files, into: &image.mount, limits, progress };
        unpack::unpack(&*self.zfs.runner, job).await?;
        let mount = image.mount.clone();
        let synced = spawn_blocking("sync image", move || {
            Ok::<_, std::io::Error>(rustix::fs::syncfs(std::fs::File::open(mount)?)?)
        });
        synced.await?.map_err(|error| self.io("sync image", error))?;
        self.zfs.unmount(&image).await?;
        self.zfs.run("snapshot image", argv::snapshot(&image.snapshot())).await
    }

    /// Removes images that a crash left half-made. Only while nobody can be making one.
    pub(super) async fn sweep_images(&self) -> Result<(), Error> {
        let folder = self.names.folder("images");
        let all = self.zfs.get_all(&folder, &["used"]).await?;
        for (name, _) in parse::children(&all, &folder) {
            let dataset =
                Dataset { name: format!("{folder}/{name}"), mount: self.names.mounts.join("images").join(name) };
            if !all.contains_key(&dataset.snapshot()) {
                tracing::info!(dataset = dataset.name, "removing a half-made image");
                self.remove(&dataset).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&self, dataset: &Dataset) -> Result<(), Error> {
        self.zfs.unmount(dataset).await?;
        self.zfs.destroy("destroy", &dataset.name).await
    }

    pub(super) fn limit(size: Option<u64>) -> String {
        size.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string())
    }
}

/// The volume's own folder is nobody's business but the agent's.
pub(super) fn close(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

#[async_trait]
impl VolumeStore for ZfsStore {
    fn kind(&self) -> PoolKind {
        PoolKind::Zfs
    }

    async fn list(&self) -> Result<Vec<FoundVolume>, Error> {
        let folder = self.names.folder("instances");
        let all = self.zfs.get_all(&folder, &STAMPS).await?;
        let found = parse::children(&all, &folder).filter_map(|(name, properties)| {
            let id = name.parse().ok()?;
            let Stamp { epoch, complete, used } = Self::stamp(id, properties);
            Some(FoundVolume { id, epoch, bytes_used: used, complete })
        });
        Ok(found.collect())
    }

    async fn find(&self, id: InstanceId) -> Result<Option<FoundVolume>, Error> {
        let found = self.stamp_of(id).await?;
        Ok(found.map(|Stamp { epoch, complete, used }| FoundVolume { id, epoch, bytes_used: used, complete }))
    }

    async fn ensure(&self, id: InstanceId, epoch: Epoch, origin: Origin<'_>, size: Option<u64>) -> Result<Root, Error> {
        let dataset = self.names.volume(id);
        if let Some(root) = self.existing(id, epoch).await? {
            return Ok(root);
        }
        let (instance, epoch, limit) = (id.to_string(), epoch.to_string(), Self::limit(size));
        let properties = [(INSTANCE, instance.as_str()), (EPOCH, &epoch), ("refquota", &limit)];
        match origin {
            Origin::Empty => self.make_empty(&dataset, &properties).await?,
            Origin::Image(fp) => self.make_clone(fp, &dataset, &properties).await?,
        }
        self.ready(&dataset).await
    }

    async fn root(&self, id: InstanceId) -> Result<Option<Root>, Error> {
        match self.stamp_of(id).await? {
            Some(found) if found.complete => self.ready(&self.names.volume(id)).await.map(Some),
            Some(_) | None => Ok(None),
        }
    }

    async fn resize(&self, id: InstanceId, size: Option<u64>) -> Result<(), Error> {
        self.present(id).await?;
        let command = argv::set(&self.names.volume(id).name, ("refquota", &Self::limit(size)));
        match self.zfs.try_run(command).await {
            Err(error) if error.stderr().contains("less than current used") => {
                Err(Error::invalid(format!("volume {id}"), "it holds more than the new size"))
            }
            other => other.map_err(|error| self.zfs.failed("resize volume", error)),
        }
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), Error> {
        self.drop_views().await?;
        let dataset = self.names.volume(id);
        let found = self.zfs.get(&dataset.name, &["origin"]).await?;
        let left = self.clear(id).await?;
        self.unsettled().remove(&id);
        let image = format!("{}/", self.names.folder("images"));
        let origin = found.as_ref().and_then(|found| found.get("origin"));
        // An image is swept when it is told to go; all else that a clone leaves may have waited for this one.
        if left || origin.is_some_and(|origin| !origin.starts_with(&image)) {
            self.sweep().await?;
        }
        Ok(())
    }

    async fn usage(&self, id: InstanceId) -> Result<u64, Error> {
        Ok(self.present(id).await?.used.unwrap_or(0))
    }

    async fn space(&self) -> Result<Space, Error> {
        let found = self.zfs.get(&self.names.root, &["used", "available"]).await?;
        let found = found.ok_or_else(|| Error::not_found(self.zfs.place.clone()))?;
        let used = found.bytes("used").unwrap_or(0);
        Ok(Space { total: used.saturating_add(found.bytes("available").unwrap_or(0)), used })
    }

    async fn has_image(&self, fp: &Fingerprint) -> Result<bool, Error> {
        self.zfs.exists(&self.names.image(fp).snapshot()).await
    }

    async fn ensure_image(&self, fp: &Fingerprint, files: &ImageFiles, progress: &Progress) -> Result<(), Error> {
        let _alone = self.unpacking.lock().await;
        if self.has_image(fp).await? {
            return Ok(());
        }
        let (image, deleted) = (self.names.image(fp), self.names.deleted(fp));
        self.remove(&image).await?;
        if self.zfs.exists(&names::snapshot(&deleted)).await? {
            let _writing = self.origins.write().await;
            return self.zfs.rename("bring image back", &deleted, &image.name).await;
        }
        let made = self.unpack_image(fp, files, progress).await;
        if made.is_err()
            && let Err(error) = self.remove(&image).await
        {
            // The first error is told; what stays is swept when the pool is opened or the image asked for again.
            tracing::warn!(image = %fp, %error, "half-made image not removed");
        }
        made
    }

    async fn destroy_image(&self, fp: &Fingerprint) -> Result<(), Error> {
        let _alone = self.unpacking.lock().await;
        let _writing = self.origins.write().await;
        let image = self.names.image(fp);
        if !self.zfs.exists(&image.name).await? {
            return Ok(());
        }
        let all = self.zfs.get_all(&self.names.root, &["origin"]).await?;
        let snapshot = image.snapshot();
        if all.values().any(|found| found.get("origin") == Some(&snapshot)) {
            return self.zfs.rename("put image aside", &image.name, &self.names.deleted(fp)).await;
        }
        self.remove(&image).await
    }

    async fn images(&self) -> Result<Vec<Fingerprint>, Error> {
        let folder = self.names.folder("images");
        let all = self.zfs.get_all(&folder, &["used"]).await?;
        let whole = parse::children(&all, &folder)
            .filter(|(name, _)| all.contains_key(&names::snapshot(&format!("{folder}/{name}"))));
        Ok(whole.filter_map(|(name, _)| Fingerprint::new(name).ok()).collect())
    }

    fn snapshots(&self) -> &dyn Snapshots {
        self
    }

    fn transfers(&self) -> &dyn Transfers {
        self
    }
}
