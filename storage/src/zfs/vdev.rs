//! Where a pool's data lies: what the configuration says, and the file that it defaults to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use basalt_model::PoolName;

use super::names;
use crate::dir::make_folder;
use crate::{Error, StorageHost, filesystem};

const GIB: u64 = 1 << 30;

/// What a pool is made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A sparse file. `own` when it is at our default place, hence ours to remove.
    File { path: PathBuf, size: Option<u64>, own: bool },
    /// A whole disk or partition.
    Device(PathBuf),
    /// A dataset, or a whole zpool, that the operator made.
    Existing(String),
}

/// What the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) source: Source,
    /// The zpool; for an existing dataset the one that it is in.
    pub(super) zpool: String,
    /// Where links to the vdev are put for the import; for our own file the folder that it is in.
    pub(super) import: PathBuf,
}

/// Reads the configuration. Says what is wrong with the first bad key.
pub(super) fn wanted(host: &StorageHost, pool: &PoolName, config: &BTreeMap<String, String>) -> Result<Wanted, Error> {
    let bad = |why: String| Error::invalid(format!("pool {pool}"), why);
    let given = |key: &str| config.get(key).map(String::as_str).filter(|text| !text.is_empty());
    let disks = host.state_dir.join("disks");
    let size =
        given("size").map(|text| bytes(text).ok_or_else(|| bad(format!("size {text:?} is no size")))).transpose()?;
    let source = match given("source") {
        None => Source::File { path: disks.join(format!("{pool}.img")), size, own: true },
        Some(path) if path.split('/').any(|part| part == "..") => return Err(bad(format!("source {path:?} holds .."))),
        Some(path) if path.starts_with("/dev/") => Source::Device(path.into()),
        Some(path) if path.starts_with('/') => Source::File { path: path.into(), size, own: false },
        Some(name) if names::is_dataset(name) => Source::Existing(name.to_owned()),
        Some(other) => return Err(bad(format!("source {other:?} is neither a path nor a dataset"))),
    };
    let zpool = match (&source, given("zfs.pool_name")) {
        (Source::Existing(dataset), None) => dataset.split('/').next().unwrap_or(dataset).to_owned(),
        (Source::Existing(_), Some(_)) => {
            return Err(bad("zfs.pool_name and a source that is a dataset exclude each other".into()));
        }
        (Source::File { .. } | Source::Device(_), None) => format!("basalt-{}-{pool}", host.member),
        (Source::File { .. } | Source::Device(_), Some(name)) => {
            let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !letter || name.contains('/') || !names::is_dataset(name) {
                return Err(bad(format!("zfs.pool_name {name:?} cannot name a zpool")));
            }
            name.to_owned()
        }
    };
    let import = match &source {
        Source::File { own: true, .. } => disks,
        Source::File { .. } | Source::Device(_) | Source::Existing(_) => disks.join(format!("{pool}.import")),
    };
    Ok(Wanted { source, zpool, import })
}

/// `10GiB`, `500MB`, `1024`.
fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => GIB,
        "TiB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

/// A fifth of what is free, between 5 and 30 GiB.
fn default_size(free: u64) -> u64 {
    (free / 5).clamp(5 * GIB, 30 * GIB)
}

impl Wanted {
    /// The file or device; an existing dataset has none of ours.
    pub(super) fn vdev(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path, .. } | Source::Device(path) => Some(path),
            Source::Existing(_) => None,
        }
    }

    /// The dataset that holds all of ours.
    pub(super) fn root(&self) -> &str {
        match &self.source {
            Source::File { .. } | Source::Device(_) => &self.zpool,
            Source::Existing(dataset) => dataset,
        }
    }

    /// Says, durably, that the vdev is being made: what lies there holds nothing yet.
    pub(super) fn begin(&self) -> io::Result<()> {
        make_folder(&self.import, 0o700)?;
        File::create(self.mark())?.sync_all()?;
        File::open(&self.import)?.sync_all()
    }

    pub(super) fn is_being_made(&self) -> io::Result<bool> {
        self.mark().try_exists()
    }

    pub(super) fn made(&self) -> io::Result<()> {
        gone(std::fs::remove_file(self.mark()))
    }

    fn mark(&self) -> PathBuf {
        self.import.join(format!("{}.making", self.zpool))
    }

    /// Makes the sparse file where the source is one. An existing file of the operator's keeps its length.
    pub(super) fn make_file(&self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let Source::File { path, size, own } = &self.source else { return Ok(()) };
        let parent = path.parent().unwrap_or(path);
        if *own {
            make_folder(parent, 0o700)?;
        }
        let size = match size {
            Some(size) => *size,
            None => default_size(filesystem::free(parent)?),
        };
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        if *own {
            // Whatever an earlier try left would be taken for another pool's.
            file.set_len(0)?;
        }
        if file.metadata()?.len() == 0 {
            file.set_len(size)?;
        }
        file.sync_all()
    }

    /// Makes the folder from which the pool is imported: a search of `/dev` or of a stranger's folder would be slow.
    pub(super) fn link(&self) -> io::Result<()> {
        make_folder(&self.import, 0o700)?;
        let (Source::File { path, own: false, .. } | Source::Device(path)) = &self.source else { return Ok(()) };
        let link = self.import.join("vdev");
        gone(std::fs::remove_file(&link))?;
        std::os::unix::fs::symlink(path, link)
    }

    /// Removes what we made around the vdev, and the file itself if it is at our own place.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.made()?;
        match &self.source {
            Source::File { path, own: true, .. } => gone(std::fs::remove_file(path)),
            Source::File { .. } | Source::Device(_) | Source::Existing(_) => {
                gone(std::fs::remove_file(self.import.join("vdev")))?;
                gone(std::fs::remove_dir(&self.import))
            }
        }
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use basalt_model::MemberName;
    use basalt_runtime::ScriptedRunner;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Wanted, Error> {
        let host = StorageHost {
            state_dir: "/s".into(),
            runner: Arc::new(ScriptedRunner::new()),
            member: MemberName::new("n1").unwrap(),
        };
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        wanted(&host, &PoolName::new("fast").unwrap(), &config)
    }

    #[test]
    fn sources() {
        let own = |size| Source::File { path: "/s/disks/fast.img".into(), size, own: true };
        let found = read(&[]).unwrap();
        assert_eq!((found.source, found.zpool.as_str()), (own(None), "basalt-n1-fast"));
        assert_eq!(found.import, Path::new("/s/disks"));
        assert_eq!(read(&[("size", "2GiB"), ("source", "")]).unwrap().source, own(Some(2 << 30)));
        let found = read(&[("source", "/dev/vdb"), ("zfs.pool_name", "tank")]).unwrap();
        assert_eq!((found.source, found.zpool.as_str()), (Source::Device("/dev/vdb".into()), "tank"));
        let found = read(&[("source", "/srv/x.img")]).unwrap();
        assert_eq!(found.import, Path::new("/s/disks/fast.import"));
        let found = read(&[("source", "tank/basalt")]).unwrap();
        assert_eq!((found.root(), found.zpool.as_str()), ("tank/basalt", "tank"));
        for bad in [
            [("source", "../x"), ("size", "")],
            [("source", "/dev/../etc/passwd"), ("size", "")],
            [("source", "-f"), ("size", "")],
            [("source", "tank@snap"), ("size", "")],
            [("source", "tank"), ("zfs.pool_name", "x")],
            [("zfs.pool_name", "a/b"), ("size", "")],
            [("zfs.pool_name", "1a"), ("size", "")],
            [("size", "0"), ("source", "")],
            [("size", "5 elephants"), ("source", "")],
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn default_sizes() {
        assert_eq!(default_size(GIB), 5 * GIB);
        assert_eq!(default_size(50 * GIB), 10 * GIB);
        assert_eq!(default_size(1000 * GIB), 30 * GIB);
    }
}
