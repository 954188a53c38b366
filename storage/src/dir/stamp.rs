//! Small files that say whose a pool and a volume are.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use basalt_model::{Epoch, InstanceId, MemberName, PoolName, SnapshotId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const POOL: &str = "pool.json";
const VOLUME: &str = "volume.json";
const SNAPSHOT: &str = "snapshot.json";

/// The stamps of volumes and snapshots: a copy of a whole folder leaves them out.
pub(super) const STAMPS: [&str; 2] = [VOLUME, SNAPSHOT];

/// Whose a pool folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PoolStamp {
    pub(super) pool: PoolName,
    pub(super) member: MemberName,
}

/// Whose a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeStamp {
    pub(super) instance: InstanceId,
    pub(super) epoch: Epoch,
}

/// Whose a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotStamp {
    pub(super) instance: InstanceId,
    pub(super) snapshot: SnapshotId,
    /// Higher than that of each one before it.
    pub(super) number: u64,
}

impl SnapshotStamp {
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        told(read(&folder.join(SNAPSHOT)))
    }

    /// Writes and syncs it.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        write(&folder.join(SNAPSHOT), self)
    }
}

impl PoolStamp {
    pub(super) fn read(base: &Path) -> io::Result<Option<Self>> {
        read(&base.join(POOL))
    }

    pub(super) fn write(&self, base: &Path) -> io::Result<()> {
        let temp = base.join(".pool.json.new");
        write(&temp, self)?;
        std::fs::rename(temp, base.join(POOL))?;
        File::open(base)?.sync_all()
    }

    pub(super) fn remove(base: &Path) -> io::Result<()> {
        std::fs::remove_file(base.join(POOL))
    }
}

impl VolumeStamp {
    /// `None` for a missing or unreadable stamp: the volume is half-made.
    pub(super) fn read(volume: &Path) -> io::Result<Option<Self>> {
        told(read(&volume.join(VOLUME)))
    }

    /// Writes and syncs it.
    pub(super) fn write(&self, volume: &Path) -> io::Result<()> {
        write(&volume.join(VOLUME), self)
    }
}

fn told<T>(found: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match found {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotADirectory) => Ok(None),
        other => other,
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_data()
}
