//! A pool without a file system of its own: volumes are records in memory and folders below a given one.
//!
//! It passes the conformance suite but for what images bring into volumes: what a test writes into a root is in its
//! snapshots, copies and streams. Faults can be planted.

mod snapshots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use basalt_model::pool::PoolKind;
use basalt_model::{Epoch, Fingerprint, InstanceId, SnapshotId};

use crate::image::ImageFiles;
use crate::{Error, ErrorKind, FoundVolume, Origin, Progress, Root, Snapshots, Space, Transfers, VolumeStore};

/// See the module's head.
#[derive(Debug)]
pub struct FakeStore {
    kind: PoolKind,
    base: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<InstanceId, Volume>,
    images: BTreeSet<Fingerprint>,
    faults: VecDeque<(&'static str, ErrorKind)>,
    total: u64,
}

#[derive(Debug)]
struct Volume {
    epoch: Epoch,
    complete: bool,
    /// Oldest first.
    snapshots: Vec<SnapshotId>,
}

impl FakeStore {
    /// A pool of 10 GiB whose roots are folders below `base`. Of kind zfs, it takes sizes; of kind dir, it refuses them.
    pub fn new(kind: PoolKind, base: impl Into<PathBuf>) -> Self {
        let state = State { total: 10 << 30, ..State::default() };
        FakeStore { kind, base: base.into(), state: Mutex::new(state) }
    }

    /// The next call of `method` (its name in the trait) fails so, having done nothing. Several are used in order.
    pub fn fail_next(&self, method: &'static str, kind: ErrorKind) {
        self.lock().faults.push_back((method, kind));
    }

    /// Leaves a volume as a crash in the middle of `ensure` would.
    pub fn plant_half_made(&self, id: InstanceId) {
        self.lock().volumes.insert(id, Volume { epoch: Epoch(0), complete: false, snapshots: Vec::new() });
    }

    /// Sets the size of the pool.
    pub fn set_total(&self, bytes: u64) {
        self.lock().total = bytes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, method: &'static str) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock();
        let planted = state.faults.iter().position(|(name, _)| *name == method).and_then(|at| state.faults.remove(at));
        match planted {
            None => Ok(state),
            Some((_, kind)) => Err(fault(method, kind)),
        }
    }

    fn path(&self, id: InstanceId) -> PathBuf {
        self.base.join("instances").join(id.to_string())
    }

    fn found(&self, id: InstanceId) -> Root {
        Root { path: self.path(id).join("rootfs"), idmap_mounts: true }
    }

    /// The volume if it is complete; one with another epoch is an error.
    fn existing(&self, state: &State, id: InstanceId, epoch: Epoch) -> Result<Option<Root>, Error> {
        match state.volumes.get(&id) {
            Some(volume) if volume.complete && volume.epoch != epoch => {
                Err(Error::Epoch { id, found: volume.epoch, wanted: epoch })
            }
            Some(volume) if volume.complete => Ok(Some(self.found(id))),
            Some(_) | None => Ok(None),
        }
    }

    fn sized(&self, size: Option<u64>) -> Result<(), Error> {
        match (self.kind, size) {
            (PoolKind::Dir, Some(_)) => Err(Error::unsupported("fake pool", "cannot limit the size of a volume")),
            (PoolKind::Dir, None) | (PoolKind::Zfs, _) => Ok(()),
        }
    }
}

fn fault(method: &'static str, kind: ErrorKind) -> Error {
    let (what, why) = ("fake pool".to_owned(), format!("planted fault of {method}"));
    match kind {
        ErrorKind::NotFound => Error::NotFound { what: why },
        ErrorKind::NoSpace => Error::NoSpace { place: what, step: why, source: "planted".into() },
        ErrorKind::Invalid => Error::Invalid { what, why },
        ErrorKind::Unsupported => Error::Unsupported { what, why },
        ErrorKind::Busy => Error::Busy { what, why },
        ErrorKind::Host => Error::Host { place: what, step: why, source: "planted".into() },
    }
}

/// What is gone is a success.
fn clear(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(host(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn host(error: std::io::Error) -> Error {
    Error::io("fake pool", "make folder", error)
}

#[async_trait]
impl VolumeStore for FakeStore {
    fn kind(&self) -> PoolKind {
        self.kind
    }

    async fn list(&self) -> Result<Vec<FoundVolume>, Error> {
        let state = self.enter("list")?;
        let found = |(id, volume): (&InstanceId, &Volume)| FoundVolume {
            id: *id,
            epoch: volume.epoch,
            bytes_used: None,
            complete: volume.complete,
        };
        Ok(state.volumes.iter().map(found).collect())
    }

    async fn ensure(&self, id: InstanceId, epoch: Epoch, origin: Origin<'_>, size: Option<u64>) -> Result<Root, Error> {
        let mut state = self.enter("ensure")?;
        self.sized(size)?;
        if let Some(root) = self.existing(&state, id, epoch)? {
            return Ok(root);
        }
        if let Origin::Image(fp) = origin
            && !state.images.contains(fp)
        {
            return Err(Error::not_found(format!("image {fp} in the fake pool")));
        }
        clear(&self.snapshots_folder(id))?;
        clear(&self.path(id))?;
        std::fs::create_dir_all(self.found(id).path).map_err(host)?;
        state.volumes.insert(id, Volume { epoch, complete: true, snapshots: Vec::new() });
        Ok(self.found(id))
    }

    async fn root(&self, id: InstanceId) -> Result<Option<Root>, Error> {
        let state = self.enter("root")?;
        Ok(state.volumes.get(&id).filter(|volume| volume.complete).map(|_| self.found(id)))
    }

    async fn resize(&self, id: InstanceId, size: Option<u64>) -> Result<(), Error> {
        let state = self.enter("resize")?;
        self.sized(size)?;
        let there = state.volumes.get(&id).is_some_and(|volume| volume.complete);
        if there { Ok(()) } else { Err(Error::not_found(format!("volume {id}"))) }
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), Error> {
        let mut state = self.enter("destroy")?;
        state.volumes.remove(&id);
        clear(&self.snapshots_folder(id))?;
        clear(&self.path(id))
    }

    async fn usage(&self, id: InstanceId) -> Result<u64, Error> {
        let state = self.enter("usage")?;
        let there = state.volumes.get(&id).is_some_and(|volume| volume.complete);
        if there { Ok(4096) } else { Err(Error::not_found(format!("volume {id}"))) }
    }

    async fn space(&self) -> Result<Space, Error> {
        let state = self.enter("space")?;
        Ok(Space { total: state.total, used: (4096 * state.volumes.len() as u64).min(state.total) })
    }

    async fn has_image(&self, fp: &Fingerprint) -> Result<bool, Error> {
        Ok(self.enter("has_image")?.images.contains(fp))
    }

    async fn ensure_image(&self, fp: &Fingerprint, _files: &ImageFiles, _progress: &Progress) -> Result<(), Error> {
        self.enter("ensure_image")?.images.insert(fp.clone());
        Ok(())
    }

    async fn destroy_image(&self, fp: &Fingerprint) -> Result<(), Error> {
        self.enter("destroy_image")?.images.remove(fp);
        Ok(())
    }

    async fn images(&self) -> Result<Vec<Fingerprint>, Error> {
        Ok(self.enter("images")?.images.iter().cloned().collect())
    }

    fn snapshots(&self) -> &dyn Snapshots {
        self
    }

    fn transfers(&self) -> &dyn Transfers {
        self
    }
}
