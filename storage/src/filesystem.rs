//! What the file system below a folder is and can do.

use std::io;
use std::path::Path;

use rustix::fs;

use crate::Space;

/// Magic numbers of `statfs`, and the kernel from which the file system can be mounted with an id map.
const IDMAP_SINCE: &[(u64, (u32, u32))] = &[
    (0xEF53, (5, 12)),      // ext4
    (0x5846_5342, (5, 12)), // xfs
    (0x9123_683E, (5, 15)), // btrfs
    (0xF2F5_2010, (5, 18)), // f2fs
    (0x0102_1994, (6, 3)),  // tmpfs
    (0xCA45_1A4E, (6, 18)), // bcachefs
];
const ZFS_MAGIC: u64 = 0x2FC1_2FC1;

/// Whether the file system that holds `path` can be mounted with an id map. FUSE (hence zfs-fuse), NFS and overlayfs
/// cannot. Kernel OpenZFS can from 2.2 on: its version is in `/sys/module/zfs/version`.
pub(crate) fn idmap_mounts(path: &Path) -> io::Result<bool> {
    let magic = u64::try_from(fs::statfs(path)?.f_type).unwrap_or(0);
    if magic == ZFS_MAGIC {
        let version = std::fs::read_to_string("/sys/module/zfs/version").unwrap_or_default();
        return Ok(leading_version(&version).is_some_and(|found| found >= (2, 2)) && kernel()? >= (5, 12));
    }
    let since = IDMAP_SINCE.iter().find(|(known, _)| *known == magic).map(|(_, since)| *since);
    match since {
        Some(since) => Ok(kernel()? >= since),
        None => Ok(false),
    }
}

fn kernel() -> io::Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    leading_version(&release).ok_or_else(|| io::Error::other(format!("kernel release {release:?} is no version")))
}

/// The first two numbers of a text such as `6.1.0-56-cloud` or `2.2.2-1`.
pub(crate) fn leading_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Size and use of the file system that holds `path`, counted as an ordinary user sees it.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let found = fs::statvfs(path)?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    Ok(Space {
        total: used.saturating_add(found.f_bavail).saturating_mul(found.f_frsize),
        used: used.saturating_mul(found.f_frsize),
    })
}

/// Bytes that may still be written.
pub(crate) fn free(path: &Path) -> io::Result<u64> {
    let space = space(path)?;
    Ok(space.total.saturating_sub(space.used))
}

/// Whether `path` is the root of a mount: it and its parent are on different devices.
pub(crate) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let here = match fs::lstat(path) {
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        other => other?,
    };
    let parent = fs::lstat(path.parent().unwrap_or(path))?;
    Ok(here.st_dev != parent.st_dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(leading_version("6.1.0-56-cloud-amd64\n"), Some((6, 1)));
        assert_eq!(leading_version("2.2.2-1"), Some((2, 2)));
        assert_eq!(leading_version("none"), None);
    }

    #[test]
    fn proc_has_no_idmap_and_is_a_mount() {
        assert!(!idmap_mounts(Path::new("/proc")).unwrap());
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/none-such")).unwrap());
    }
}
