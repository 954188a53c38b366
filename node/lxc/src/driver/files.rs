//! Folders and programs that the driver needs.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use basalt_driver::Error;
use basalt_model::InstanceId;

use crate::record::gone;

/// Where the engine's programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) start: PathBuf,
    pub(crate) stop: PathBuf,
    pub(crate) attach: PathBuf,
    pub(crate) console: PathBuf,
}

impl Programs {
    pub(crate) fn of_host() -> Self {
        let find = |name| find(name).unwrap_or_else(|| PathBuf::from("/usr/bin").join(name));
        Programs {
            start: find("lxc-start"),
            stop: find("lxc-stop"),
            attach: find("lxc-attach"),
            console: find("lxc-console"),
        }
    }

    pub(crate) fn all(&self) -> [&Path; 4] {
        [&self.start, &self.stop, &self.attach, &self.console]
    }
}

/// A program of the host, where its administrators keep them.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Makes `STATE/lxc` and gives its path without links, as it becomes part of names that are compared.
pub(super) fn make_root(state_dir: &Path) -> Result<PathBuf, Error> {
    let path = state_dir.join("lxc");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&path).and_then(|()| path.canonicalize());
    made.map_err(|error| Error::Host(format!("cannot make {}: {error}", path.display())))
}

/// The prefix goes into paths and into config lines.
pub(super) fn check_prefix(prefix: String) -> Result<String, Error> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if prefix.split('/').all(part) {
        Ok(prefix)
    } else {
        Err(Error::Host(format!(
            "cgroup prefix {prefix:?}: may only hold names of letters, digits, -, _ and . between slashes"
        )))
    }
}

/// Every instance that has a runtime folder.
pub(super) fn instances(lxc_path: &Path) -> Result<Vec<InstanceId>, Error> {
    let failed = |error: std::io::Error| Error::Host(format!("cannot list {}: {error}", lxc_path.display()));
    let mut ids = Vec::<InstanceId>::new();
    for entry in std::fs::read_dir(lxc_path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<InstanceId>().ok()));
    }
    Ok(ids)
}

/// Where the engine keeps a lock file for each name it ever heard of.
fn locks(lxc_path: &Path) -> PathBuf {
    Path::new("/run/lxc/lock").join(lxc_path.strip_prefix("/").unwrap_or(lxc_path))
}

pub(super) fn remove_lock(lxc_path: &Path, id: InstanceId) -> std::io::Result<()> {
    gone(std::fs::remove_file(locks(lxc_path).join(format!(".{id}"))))
}

/// Removes the folders of locks that are this node's own, if they are empty.
pub(super) fn remove_lock_folders(lxc_path: &Path) {
    let locks = locks(lxc_path);
    for folder in [Some(locks.as_path()), locks.parent()].into_iter().flatten() {
        // Another guest's lock is in it, and so it stays.
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_paths_without_surprises() {
        assert!(check_prefix("basalt/node-1".into()).is_ok());
        for bad in ["", "/a", "a/", "a//b", "../a", "a/..", "a b", "a\nlxc.init.cmd = x"] {
            assert!(check_prefix(bad.into()).is_err(), "{bad:?}");
        }
    }
}
