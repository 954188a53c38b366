//! One entry of a tree, held by an `O_PATH` descriptor: it cannot be swapped for another under our hands.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// What `lstat` says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes on disk.
    pub allocated: u64,
    /// Hard links.
    pub links: u64,
    /// Device and inode: equal for two names of one file.
    pub identity: (u64, u64),
    /// Last change of content, seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Which device a device node names.
    pub device: u64,
}

/// One entry. Links are never followed.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    attributes: Attributes,
}

impl Node {
    pub(super) fn open(fd: OwnedFd) -> io::Result<Self> {
        let stat = fs::fstat(&fd)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => NodeKind::File,
            FileType::Directory => NodeKind::Dir,
            FileType::Symlink => NodeKind::Symlink,
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            FileType::CharacterDevice => NodeKind::CharDevice,
            FileType::BlockDevice => NodeKind::BlockDevice,
            FileType::Unknown => return Err(io::Error::other("the entry is of an unknown type")),
        };
        let attributes = Attributes {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            links: stat.st_nlink,
            identity: (stat.st_dev, stat.st_ino),
            modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            device: stat.st_rdev,
        };
        Ok(Node { fd, attributes })
    }

    /// Its attributes when it was opened.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Changes owner and group. The kernel clears set-uid bits and file capabilities of a file by that.
    pub fn chown(&self, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(fs::chownat(&self.fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
    }

    /// Changes the mode; a link has none, and is refused.
    pub fn chmod(&self, mode: u32) -> io::Result<()> {
        if self.attributes.kind == NodeKind::Symlink {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a symbolic link has no mode"));
        }
        Ok(fs::chmod(self.magic().as_str(), Mode::from_raw_mode(mode & 0o7777))?)
    }

    /// Sets access and change times.
    pub fn set_modified(&self, (seconds, nanos): (i64, u32)) -> io::Result<()> {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(fs::utimensat(fs::CWD, self.magic().as_str(), &times, AtFlags::empty())?)
    }

    /// Names of its extended attributes. A file system without any has none.
    pub fn xattrs(&self) -> io::Result<Vec<OsString>> {
        let mut names = vec![0u8; 1024];
        loop {
            match fs::listxattr(self.magic().as_str(), names.as_mut_slice()) {
                Ok(length) => {
                    names.truncate(length);
                    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                    return Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect());
                }
                Err(rustix::io::Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One extended attribute, if it is there.
    pub fn xattr(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0u8; 256];
        loop {
            match fs::getxattr(self.magic().as_str(), name.as_ref(), value.as_mut_slice()) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(rustix::io::Errno::RANGE) if value.len() < 1 << 17 => value.resize(value.len() * 8, 0),
                Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, name: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
        let name = name.as_ref();
        if name.as_bytes().contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the attribute's name holds a zero byte"));
        }
        Ok(fs::setxattr(self.magic().as_str(), name, value, XattrFlags::empty())?)
    }

    /// Takes an extended attribute away.
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(fs::removexattr(self.magic().as_str(), name.as_ref())?)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The kernel's own name for our descriptor. It jumps to exactly this entry, also to a link itself.
    fn magic(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}
