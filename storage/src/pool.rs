//! Opening, removing and probing pools: the one place that knows every driver.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use basalt_model::pool::PoolKind;
use basalt_model::{MemberName, PoolName};
use basalt_runtime::CommandRunner;

use crate::{Error, VolumeStore, dir, zfs};

/// What drivers need of the host.
#[derive(Debug, Clone)]
pub struct StorageHost {
    /// The agent's state folder; everything that no `source` places elsewhere lies below it.
    pub state_dir: PathBuf,
    /// Runs host commands.
    pub runner: Arc<dyn CommandRunner>,
    /// This member: several may share one machine, and each has pools of its own.
    pub member: MemberName,
}

impl StorageHost {
    /// Where the volumes of a pool are found.
    pub fn pool_dir(&self, pool: &PoolName) -> PathBuf {
        self.state_dir.join("storage-pools").join(pool.as_str())
    }
}

/// Opens a pool on this host, making it when it is not there, and sweeps what a crashed run left half-made.
///
/// Keys of `config`, all optional. dir: `source` (a folder). zfs: `source` (a file, a block device, or an existing pool
/// or dataset), `size` (of a new file; 20 % of the free space between 5 and 30 GiB by default), `zfs.pool_name`
/// (`basalt-<member>-<pool>` by default). Other keys are left to others.
pub async fn open_pool(
    host: &StorageHost,
    name: &PoolName,
    kind: PoolKind,
    config: &BTreeMap<String, String>,
) -> Result<Arc<dyn VolumeStore>, Error> {
    match kind {
        PoolKind::Dir => Ok(Arc::new(dir::open(host, name, config).await?)),
        PoolKind::Zfs => Ok(Arc::new(zfs::open(host, name, config).await?)),
    }
}

/// Removes a pool with its images. Refused with [`Error::Busy`] while it holds volumes; what is gone is a success.
pub async fn remove_pool(
    host: &StorageHost,
    name: &PoolName,
    kind: PoolKind,
    config: &BTreeMap<String, String>,
) -> Result<(), Error> {
    match kind {
        PoolKind::Dir => dir::remove(host, name, config).await,
        PoolKind::Zfs => zfs::remove(host, name, config).await,
    }
}

/// Which drivers this host can serve: their version, or why not.
pub async fn probe(runner: &dyn CommandRunner) -> BTreeMap<PoolKind, Result<String, String>> {
    BTreeMap::from([
        (PoolKind::Dir, Ok(env!("CARGO_PKG_VERSION").to_owned())),
        (PoolKind::Zfs, zfs::probe(runner).await),
    ])
}
