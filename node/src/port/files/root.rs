//! A guest's `/`, and what may be done in it: what the guest's own root could do, and no more.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use basalt_api::port::files::{OpenOptions, SetAttributes};
use basalt_storage::beneath::{Chroot, Folder, Listing, Node, NodeKind};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::owner::{Ids, Owners};

/// Links that one open may follow in its last component, as in the kernel.
const MAX_LINKS: usize = 40;

/// File systems that hold files (their numbers in statfs(2)). Others are windows on a kernel, which the host's rights
/// open wider than the guest's: their files are not opened or changed.
const FILE_SYSTEMS: [u64; 26] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // zfs
    0xCA45_1A4E, // bcachefs
    0xF2F5_2010, // f2fs
    0x3153_464A, // jfs
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0x6573_5546, // fuse, virtiofs
    0x7371_7368, // squashfs
    0xE0F5_E1E2, // erofs
    0x9660,      // iso9660
    0x1501_3346, // udf
    0x4D44,      // fat
    0x2011_BAB0, // exfat
    0x7366_746E, // ntfs
    0x6969,      // nfs
    0xFF53_4D42, // cifs
    0xFE53_4D42, // smb2
    0x0102_1997, // 9p
    0x00C3_6400, // ceph
    0x0116_1970, // gfs2
    0x7461_636F, // ocfs2
    0x6163_6673, // acfs
];

/// Where a guest's files are.
#[derive(Debug)]
pub(super) struct Root {
    chroot: Chroot,
    owners: Arc<Owners>,
    /// Whether it is what a running guest sees, with kernel file systems in it.
    live: bool,
}

/// What is to be done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// The folder of a process in `/proc`; `None` if there is no such process.
pub(super) fn process(pid: u32) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match fs::open(format!("/proc/{pid}"), flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Root {
    /// What a running process has as its root.
    pub(super) fn of_process(process: &OwnedFd) -> io::Result<Root> {
        // A container has mounts of its own. Whoever shares ours would give away the host's files.
        if namespace(process.as_fd())? == namespace(fs::open("/proc/self", OFlags::PATH, Mode::empty())?.as_fd())? {
            return Err(io::Error::other("the guest's process is not in a container"));
        }
        let owners = Owners { uids: ids(process, "uid_map")?, gids: ids(process, "gid_map")? };
        Ok(Root { chroot: Chroot::of_process(process)?, owners: Arc::new(owners), live: true })
    }

    /// A volume that no guest runs on.
    pub(super) fn of_volume(chroot: Chroot, owners: Owners) -> Root {
        Root { chroot, owners: Arc::new(owners), live: false }
    }

    pub(super) fn owners(&self) -> Arc<Owners> {
        Arc::clone(&self.owners)
    }

    /// An entry to look at.
    pub(super) fn node(&self, path: &Path, follow: bool) -> io::Result<Node> {
        self.chroot.node(path, follow)
    }

    /// A folder to list.
    pub(super) fn list(&self, path: &Path) -> io::Result<Listing> {
        let node = self.chroot.node(path, true)?;
        self.obeys_owner(&node, Use::Read)?;
        node.list()
    }

    /// The folder in which the last name of `path` may be made, moved or removed.
    pub(super) fn place(&self, path: &Path) -> io::Result<(Folder, OsString)> {
        let (folder, name) = self.chroot.place(path)?;
        self.may(folder.node(), Use::Write)?;
        Ok((folder, name))
    }

    /// Opens a regular file, or makes one: also where a link says that there is one, as the guest's kernel would.
    pub(super) fn open(&self, path: &Path, how: OpenOptions) -> io::Result<File> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match (self.chroot.node(&path, true), how.create) {
                (Ok(_), Some(_)) if how.exclusive => return Err(Errno::EXIST.into()),
                (Ok(node), _) => return self.open_node(&node, how),
                (Err(error), Some(mode)) if error.kind() == io::ErrorKind::NotFound => {
                    let (folder, name) = self.place(&path)?;
                    match folder.create(&name, mode, how.append) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !how.exclusive => {}
                        made => return made,
                    }
                    // A link that leads to nothing yet; or somebody was faster.
                    match folder.entry(&name).and_then(|node| node.target()) {
                        Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
                        Err(_) => continue,
                    }
                }
                (Err(error), _) => return Err(error),
            }
        }
        Err(Errno::LOOP.into())
    }

    fn open_node(&self, node: &Node, how: OpenOptions) -> io::Result<File> {
        if node.attributes().kind == NodeKind::Dir {
            return Err(Errno::ISDIR.into());
        }
        if how.read || !how.write {
            self.may(node, Use::Read)?;
        }
        if how.write {
            self.may(node, Use::Write)?;
        }
        let file = node.reopen(how.read, how.write, how.append)?;
        if how.write && how.truncate {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// Changes what is given, in the order that keeps all of it: a change of owner clears set-uid bits.
    pub(super) fn set(&self, node: &Node, set: SetAttributes) -> io::Result<()> {
        if let Some(size) = set.size {
            self.may(node, Use::Write)?;
            if node.attributes().kind == NodeKind::Dir {
                return Err(Errno::ISDIR.into());
            }
            node.reopen(false, true, false)?.set_len(size)?;
        }
        if (SetAttributes { size: None, ..set }) == SetAttributes::default() {
            return Ok(());
        }
        self.owned(node)?;
        if set.uid.is_some() || set.gid.is_some() {
            let held = node.attributes();
            let uid = set.uid.map_or(Ok(held.uid), |uid| self.owners.uids.outside(uid))?;
            let gid = set.gid.map_or(Ok(held.gid), |gid| self.owners.gids.outside(gid))?;
            node.chown(uid, gid)?;
        }
        if let Some(mode) = set.mode {
            node.chmod(mode)?;
        }
        if let Some((accessed, modified)) = set.times {
            node.set_times(accessed, modified)?;
        }
        Ok(())
    }

    /// Refuses what the guest's root may not do as an owner: to files of others, or to a kernel's.
    pub(super) fn owned(&self, node: &Node) -> io::Result<()> {
        let found = node.attributes();
        match self.owners.know(found.uid, found.gid) {
            true => self.holds_files(node),
            false => Err(Errno::PERM.into()),
        }
    }

    fn may(&self, node: &Node, what: Use) -> io::Result<()> {
        self.obeys_owner(node, what)?;
        self.holds_files(node)
    }

    /// The guest's root passes over modes only where it knows the owner.
    fn obeys_owner(&self, node: &Node, what: Use) -> io::Result<()> {
        let found = node.attributes();
        let others = match what {
            Use::Read => 0o4,
            Use::Write => 0o2,
        };
        match self.owners.know(found.uid, found.gid) || found.mode & others != 0 {
            true => Ok(()),
            false => Err(Errno::ACCESS.into()),
        }
    }

    fn holds_files(&self, node: &Node) -> io::Result<()> {
        match !self.live || FILE_SYSTEMS.contains(&node.filesystem()?) {
            true => Ok(()),
            false => Err(Errno::ACCESS.into()),
        }
    }
}

/// Which mounts a process sees.
fn namespace(process: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let found = fs::statat(process, "ns/mnt", AtFlags::empty())?;
    Ok((found.st_dev, found.st_ino))
}

fn ids(process: &OwnedFd, map: &str) -> io::Result<Ids> {
    let mut text = String::new();
    let file = fs::openat(process, map, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(file).read_to_string(&mut text)?;
    Ids::parse(&text)
}
