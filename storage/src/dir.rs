//! Pools in plain folders.
//!
//! ```text
//! <pool>/pool.json              whose pool this is
//!        instances/<id>/        volume.json (the stamp), rootfs/, what the image brings beside it
//!        snapshots/<id>/<snapshot>/   a copy of such a folder: snapshot.json (its stamp, in place of the volume's)
//!        images/<fingerprint>/  an unpacked image
//!        tmp/                   what is being made or removed
//! ```
//!
//! Everything is made in `tmp` and renamed into place when it is whole and on disk, and renamed back before it is
//! removed. So after a crash all that is half-made lies in `tmp`, which is emptied when the pool is opened. Snapshots go
//! before their volume and come before it: those without one are half-made too.
//!
//! Snapshots and copies share their blocks with the volume where the file system can (reflink). A restore makes the new
//! folder in `tmp` and exchanges the two in one step.

mod claim;
mod snapshots;
mod stamp;
mod store;
mod transfers;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use basalt_model::PoolName;
use basalt_runtime::spawn_blocking;

use crate::{Error, StorageHost};
use stamp::PoolStamp;
pub(crate) use store::DirStore;

/// Folders of a pool that are closed to all but root, or (`instances`) may be passed through by guests' id maps.
const FOLDERS: [(&str, u32); 4] = [("instances", 0o711), ("snapshots", 0o700), ("images", 0o700), ("tmp", 0o700)];

/// Opens the pool, making it when it is not there.
pub(crate) async fn open(
    host: &StorageHost,
    name: &PoolName,
    config: &BTreeMap<String, String>,
) -> Result<DirStore, Error> {
    let base = base(host, name, config)?;
    let stamp = PoolStamp { pool: name.clone(), member: host.member.clone() };
    let (pool, runner) = (name.clone(), host.runner.clone());
    spawn_blocking("open dir pool", move || {
        prepare(&base, &stamp)?;
        DirStore::open(pool, base, runner)
    })
    .await?
}

/// Removes the pool unless it holds volumes.
pub(crate) async fn remove(
    host: &StorageHost,
    name: &PoolName,
    config: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let base = base(host, name, config)?;
    let stamp = PoolStamp { pool: name.clone(), member: host.member.clone() };
    let own = !config.contains_key("source");
    spawn_blocking("remove dir pool", move || take_away(&base, &stamp, own)).await?
}

fn base(host: &StorageHost, name: &PoolName, config: &BTreeMap<String, String>) -> Result<PathBuf, Error> {
    match config.get("source").filter(|source| !source.is_empty()) {
        None => Ok(host.pool_dir(name)),
        Some(source) if Path::new(source).is_absolute() && Path::new(source) != Path::new("/") => {
            Ok(PathBuf::from(source))
        }
        Some(source) => Err(Error::invalid(format!("pool {name}"), format!("source {source:?} is no absolute folder"))),
    }
}

fn prepare(base: &Path, stamp: &PoolStamp) -> Result<(), Error> {
    let failed = |error: io::Error| Error::io(format!("pool {}", stamp.pool), "make folders", error);
    make_folder(base, 0o711).map_err(failed)?;
    match PoolStamp::read(base).map_err(failed)? {
        Some(found) if found == *stamp => {}
        Some(found) => {
            let why = format!("belongs to pool {} of member {}", found.pool, found.member);
            return Err(Error::invalid(format!("pool {}", stamp.pool), format!("{} {why}", base.display())));
        }
        // A crash may have come between the stamp and the folders, never the other way round.
        None if std::fs::read_dir(base).map_err(failed)?.next().is_some() => {
            let why = format!("{} is not empty and not a pool of ours", base.display());
            return Err(Error::invalid(format!("pool {}", stamp.pool), why));
        }
        None => stamp.write(base).map_err(failed)?,
    }
    for (folder, mode) in FOLDERS {
        make_folder(&base.join(folder), mode).map_err(failed)?;
    }
    Ok(())
}

fn take_away(base: &Path, stamp: &PoolStamp, own: bool) -> Result<(), Error> {
    let place = format!("pool {}", stamp.pool);
    let failed = |error: io::Error| Error::io(place.clone(), "remove", error);
    match PoolStamp::read(base).map_err(failed)? {
        None => return Ok(()),
        Some(found) if found != *stamp => {
            return Err(Error::invalid(place, format!("{} belongs to another pool", base.display())));
        }
        Some(_) => {}
    }
    let tree = crate::beneath::Tree::open(base).map_err(failed)?;
    if tree.exists("instances").map_err(failed)? && !tree.read_dir("instances").map_err(failed)?.is_empty() {
        return Err(Error::Busy { what: place, why: "it holds volumes".into() });
    }
    for (folder, _) in FOLDERS {
        tree.remove_all(folder).map_err(failed)?;
    }
    // Last: until then a repeated call still knows that the folder is ours.
    PoolStamp::remove(base).map_err(failed)?;
    if own {
        std::fs::remove_dir(base).map_err(failed)?;
    }
    Ok(())
}

/// Makes a folder with its parents; an existing one keeps its owner and gets the mode.
pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
