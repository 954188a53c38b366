//! The one helper for host-side opens under a tree that a guest or an image controls.
//!
//! Every path is relative to a [`Tree`] and is resolved by `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`,
//! `RESOLVE_NO_MAGICLINKS` and `RESOLVE_NO_XDEV`: no component may be a symbolic link, `..` or a mount. So whatever the
//! tree holds, and however it changes meanwhile, nothing outside it is opened, made, changed or removed.
//!
//! Absolute paths and `..` are refused with `InvalidInput` before the kernel is asked; a link in the way is `ELOOP`.
//! All calls block; use them from a blocking task.

mod chroot;
mod node;
mod walk;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags};

pub use chroot::{Chroot, Folder, Listing};
pub use node::{Attributes, Node, NodeKind};
pub use walk::{Entry, Visit};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A folder that is never left.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// A folder inside a tree and the name of one entry in it.
struct Place<'a> {
    parent: Parent<'a>,
    name: &'a OsStr,
}

enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Inner(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Root(fd) => *fd,
            Parent::Inner(fd) => fd.as_fd(),
        }
    }
}

impl Tree {
    /// Opens `root`, a path that only we control; links on the way to it are followed.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Tree { root })
    }

    /// A folder inside this tree as a tree of its own.
    pub fn subtree(&self, path: impl AsRef<Path>) -> io::Result<Tree> {
        let root = self.resolve(path.as_ref(), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Tree { root })
    }

    /// Opens a regular file for reading. Anything else (a pipe, a device) is refused and never opened for real.
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_regular(path.as_ref(), OFlags::RDONLY)
    }

    /// Opens an existing regular file for writing, without truncating it.
    pub fn open_for_write(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_regular(path.as_ref(), OFlags::WRONLY)
    }

    /// Makes a new file; it is an error if the name is taken by whatever it be.
    pub fn create(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let place = self.place(path.as_ref())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&place.parent, place.name, flags, Mode::from_raw_mode(mode & 0o777))?;
        // The umask is not asked.
        fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Puts `bytes` at `path`, in place of any file or link there (never through it), whole or not at all, also after
    /// a crash.
    pub fn replace(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> io::Result<()> {
        let path = path.as_ref();
        let mut name = OsString::from(".basalt-");
        name.push(path.file_name().ok_or_else(|| refused("names no file"))?);
        let temp = path.with_file_name(name);
        match self.remove(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = self.create(&temp, mode)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_data()?;
        self.rename(&temp, path)
    }

    /// Makes a folder.
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let place = self.place(path.as_ref())?;
        fs::mkdirat(&place.parent, place.name, Mode::from_raw_mode(mode & 0o777))?;
        self.node(path)?.chmod(mode)
    }

    /// Makes a symbolic link that says `target`; nothing looks at where it leads.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<()> {
        let place = self.place(path.as_ref())?;
        Ok(fs::symlinkat(target.as_ref(), &place.parent, place.name)?)
    }

    /// Makes `path` another name of `existing`, which must be in the tree. A link is named, not followed.
    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (self.place(existing.as_ref())?, self.place(path.as_ref())?);
        Ok(fs::linkat(&from.parent, from.name, &to.parent, to.name, AtFlags::empty())?)
    }

    /// Makes a named pipe.
    pub fn mkfifo(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        self.mknod(path, NodeKind::Fifo, mode, 0)
    }

    /// Makes a pipe, a socket without anybody at it, or a device node; other kinds are refused.
    pub fn mknod(&self, path: impl AsRef<Path>, kind: NodeKind, mode: u32, device: u64) -> io::Result<()> {
        let kind = match kind {
            NodeKind::Fifo => fs::FileType::Fifo,
            NodeKind::Socket => fs::FileType::Socket,
            NodeKind::CharDevice => fs::FileType::CharacterDevice,
            NodeKind::BlockDevice => fs::FileType::BlockDevice,
            NodeKind::File | NodeKind::Dir | NodeKind::Symlink => return Err(refused("would name no special file")),
        };
        let place = self.place(path.as_ref())?;
        fs::mknodat(&place.parent, place.name, kind, Mode::from_raw_mode(mode & 0o777), device)?;
        self.node(path)?.chmod(mode)
    }

    /// Moves an entry inside the tree, over whatever file is there.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (self.place(from.as_ref())?, self.place(to.as_ref())?);
        Ok(fs::renameat(&from.parent, from.name, &to.parent, to.name)?)
    }

    /// What a symbolic link says.
    pub fn readlink(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let place = self.place(path.as_ref())?;
        let target = fs::readlinkat(&place.parent, place.name, Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// The entry itself (a link is not followed): its attributes, and changes to them.
    pub fn node(&self, path: impl AsRef<Path>) -> io::Result<Node> {
        Node::open(self.lookup(path.as_ref())?)
    }

    /// Attributes of the entry itself.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Attributes> {
        Ok(self.node(path)?.attributes().clone())
    }

    /// Whether there is such an entry.
    pub fn exists(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        match self.lookup(path.as_ref()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a file, link, pipe or empty folder.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let place = self.place(path.as_ref())?;
        match fs::unlinkat(&place.parent, place.name, AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR) => Ok(fs::unlinkat(&place.parent, place.name, AtFlags::REMOVEDIR)?),
            other => Ok(other?),
        }
    }

    /// Changes owner and group of the entry itself.
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> io::Result<()> {
        self.node(path)?.chown(uid, gid)
    }

    /// Changes the mode of a file or folder.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        self.node(path)?.chmod(mode)
    }

    /// Makes the folder's entries durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(self.reopen()?)?)
    }

    /// The root as a real descriptor, for what `O_PATH` ones cannot do.
    pub(crate) fn reopen(&self) -> io::Result<OwnedFd> {
        self.resolve(Path::new(""), OFlags::DIRECTORY)
    }

    fn open_regular(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        // First a look that opens nothing: opening a device or a pipe already has effects.
        let seen = Node::open(self.lookup(path)?)?;
        if seen.attributes().kind != NodeKind::File {
            return Err(refused("is not a regular file"));
        }
        let file = File::from(self.resolve(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY)?);
        if !file.metadata()?.is_file() {
            return Err(refused("is not a regular file"));
        }
        Ok(file)
    }

    /// An `O_PATH` handle on the entry itself: with `O_PATH | O_NOFOLLOW` the kernel hands out a trailing link as such.
    fn lookup(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        resolve_at(self.root.as_fd(), normal(path)?, flags)
    }

    fn place<'a>(&'a self, path: &'a Path) -> io::Result<Place<'a>> {
        let path = normal(path)?;
        let name = path.file_name().ok_or_else(|| refused("names no entry"))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                Parent::Inner(self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY)?)
            }
            Some(_) | None => Parent::Root(self.root.as_fd()),
        };
        Ok(Place { parent, name })
    }
}

fn resolve_at(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match fs::openat2(root, path, flags, Mode::empty(), RESOLVE) {
            // The kernel could not prove that a concurrent rename did not move us out: ask again.
            Err(rustix::io::Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// Accepts relative paths of plain names only.
fn normal(path: &Path) -> io::Result<&Path> {
    for part in path.components() {
        match part {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err(refused("holds ..")),
            Component::RootDir | Component::Prefix(_) => return Err(refused("is absolute")),
        }
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(refused("holds a zero byte"));
    }
    Ok(path)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the path {why}"))
}

#[cfg(test)]
mod tests;
