//! A tree seen as its guest sees it: links are followed, and lead to where they lead within the tree.
//!
//! The kernel resolves each path in one call (`openat2` with `RESOLVE_IN_ROOT`): an absolute link and `..` stay inside,
//! however the guest moves things meanwhile, and `/proc`'s magic links are never followed. What is found is held by an
//! `O_PATH` descriptor and looked at before anything is opened for real. All calls block.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Attributes, Node, NodeKind, refused};

/// How often a path is looked up anew while the guest moves folders about.
const TRIES: usize = 100;

/// A guest's `/`.
#[derive(Debug)]
pub struct Chroot {
    root: OwnedFd,
    resolve: ResolveFlags,
}

/// A folder in it.
#[derive(Debug)]
pub struct Folder {
    node: Node,
}

/// A folder that is being listed.
#[derive(Debug)]
pub struct Listing {
    folder: Folder,
    dir: Dir,
}

impl Chroot {
    /// A folder of ours that no guest runs in. Mounts in it are not entered.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(root, flags, Mode::empty())?;
        Ok(Chroot { root, resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV })
    }

    /// The root of a running process, with all that is mounted in it. `process` is its open folder in `/proc`.
    pub fn of_process(process: impl AsFd) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(process, "root", flags, Mode::empty())?;
        Ok(Chroot { root, resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS })
    }

    /// What is at `path`; a link there is followed, or is the answer.
    pub fn node(&self, path: &Path, follow: bool) -> io::Result<Node> {
        let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        Node::open(self.look(path, OFlags::PATH | last)?)
    }

    /// The folder that holds `path`, and the last name of `path`, which is never `.` or `..`.
    pub fn place(&self, path: &Path) -> io::Result<(Folder, OsString)> {
        let name = path.file_name().ok_or_else(|| refused("names no entry"))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let node = Node::open(self.look(parent, OFlags::PATH | OFlags::DIRECTORY)?)?;
        Ok((Folder { node }, name.to_owned()))
    }

    fn look(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        for _ in 0..TRIES {
            match fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), self.resolve) {
                // The kernel could not prove that a concurrent rename did not move us out: ask again.
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

impl Folder {
    /// The folder itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// One of its entries, itself.
    pub fn entry(&self, name: &OsStr) -> io::Result<Node> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Node::open(fs::openat(self.node.fd(), name, flags, Mode::empty())?)
    }

    /// Makes a file and opens it for reading and writing; it is an error if the name is taken by whatever it be.
    pub fn create(&self, name: &OsStr, mode: u32, append: bool) -> io::Result<File> {
        let mut flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        flags.set(OFlags::APPEND, append);
        let fd = fs::openat(self.node.fd(), name, flags, Mode::from_raw_mode(mode & 0o777))?;
        // The umask is not asked.
        fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(File::from(fd))
    }

    /// Makes a folder.
    pub fn mkdir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        fs::mkdirat(self.node.fd(), name, Mode::from_raw_mode(mode & 0o777))?;
        let made = self.entry(name)?;
        match made.attributes().kind {
            NodeKind::Dir => made.chmod(mode),
            // The guest has put something else there by now.
            _ => Ok(()),
        }
    }

    /// Removes what is no folder.
    pub fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(fs::unlinkat(self.node.fd(), name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub fn rmdir(&self, name: &OsStr) -> io::Result<()> {
        Ok(fs::unlinkat(self.node.fd(), name, AtFlags::REMOVEDIR)?)
    }

    /// Moves an entry to another folder or name.
    pub fn rename(&self, name: &OsStr, to: &Folder, new: &OsStr, replace: bool) -> io::Result<()> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        Ok(fs::renameat_with(self.node.fd(), name, to.node.fd(), new, flags)?)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        Ok(fs::symlinkat(target, self.node.fd(), name)?)
    }

    /// Makes `new` in `to` another name of `name`.
    pub fn hard_link(&self, name: &OsStr, to: &Folder, new: &OsStr) -> io::Result<()> {
        Ok(fs::linkat(self.node.fd(), name, to.node.fd(), new, AtFlags::empty())?)
    }
}

impl Node {
    /// The entry behind an open file, even if it has no name any more.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Node::open(file.try_clone()?.into())
    }

    /// What the link says.
    pub fn target(&self) -> io::Result<PathBuf> {
        let target = fs::readlinkat(self.fd(), "", Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Opens exactly this regular file for real.
    pub fn reopen(&self, read: bool, write: bool, append: bool) -> io::Result<File> {
        if self.attributes().kind != NodeKind::File {
            return Err(refused("names no regular file"));
        }
        let mut flags = match (read, write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (true | false, false) => OFlags::RDONLY,
        };
        flags |= OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags.set(OFlags::APPEND, append);
        Ok(File::from(fs::open(self.in_proc(), flags, Mode::empty())?))
    }

    /// Sets times of last access and last change of content, in seconds since 1970.
    pub fn set_times(&self, accessed: i64, modified: i64) -> io::Result<()> {
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        let times = Timestamps { last_access: at(accessed), last_modification: at(modified) };
        Ok(fs::utimensat(fs::CWD, self.in_proc(), &times, AtFlags::empty())?)
    }

    /// Begins to list this folder.
    pub fn list(self) -> io::Result<Listing> {
        if self.attributes().kind != NodeKind::Dir {
            return Err(Errno::NOTDIR.into());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Dir::new(fs::openat(self.fd(), ".", flags, Mode::empty())?)?;
        Ok(Listing { folder: Folder { node: self }, dir })
    }

    /// Magic number of the file system that it is on, as in statfs(2).
    pub fn filesystem(&self) -> io::Result<u64> {
        Ok(fs::fstatfs(self.fd())?.f_type as u64)
    }

    fn in_proc(&self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }
}

impl Listing {
    /// The next entries, at most `count`; none at the end. What vanishes meanwhile is left out.
    pub fn next(&mut self, count: usize) -> io::Result<Vec<(OsString, Attributes)>> {
        let mut entries = Vec::new();
        while entries.len() < count {
            let Some(entry) = self.dir.read() else { break };
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            match self.folder.entry(&name) {
                Ok(node) => entries.push((name, node.attributes().clone())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests;
