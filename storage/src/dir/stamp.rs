//! Small files that say whose a pool and a volume are.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use basalt_model::{Epoch, InstanceId, MemberName, PoolName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const POOL: &str = "pool.json";
const VOLUME: &str = "volume.json";

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
        match read(&volume.join(VOLUME)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            other => other,
        }
    }

    /// Writes and syncs it.
    pub(super) fn write(&self, volume: &Path) -> io::Result<()> {
        write(&volume.join(VOLUME), self)
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
