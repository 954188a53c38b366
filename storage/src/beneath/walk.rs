//! Walking and removing whole trees, with one descriptor per level.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, OFlags};

use super::{Node, NodeKind, Tree, resolve_at};

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Whether it is a folder (links are not).
    pub is_dir: bool,
}

/// When a walk shows an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Before what is in it.
    Enter,
    /// A folder, after all that is in it.
    Leave,
}

/// Deeper trees are refused: each level holds a descriptor, and no honest image is near it.
const MAX_DEPTH: usize = 512;
/// Folders that removal holds open at once.
const MAX_OPEN: usize = 64;

impl Tree {
    /// The entries of a folder, sorted by name.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<Vec<Entry>> {
        let dir = self.resolve(path.as_ref(), OFlags::DIRECTORY)?;
        list(dir.as_fd())
    }

    /// Shows every entry, the root (as the empty path) first, to `visit`. Folders are shown again when left.
    pub fn walk<E: From<io::Error>>(
        &self,
        visit: &mut dyn FnMut(&Path, &Node, Visit) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = Node::open(self.lookup(Path::new(""))?)?;
        let mut path = PathBuf::new();
        visit(&path, &root, Visit::Enter)?;
        descend(&root, &mut path, 0, visit)?;
        visit(&path, &root, Visit::Leave)
    }

    /// Removes everything in the tree; the root folder itself stays. Any depth: what lies too deep is moved up first.
    pub fn clear(&self) -> io::Result<()> {
        let mut moved = 0;
        loop {
            let entries = list(self.resolve(Path::new(""), OFlags::DIRECTORY)?.as_fd())?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                self.remove_below(self.root.as_fd(), &entry.name, 0, &mut moved)?;
            }
        }
    }

    /// Removes an entry and all below it; what is gone already is a success.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        match self.stat(path) {
            Ok(found) if found.kind == NodeKind::Dir => {
                self.subtree(path)?.clear()?;
                self.remove(path)
            }
            Ok(_) => self.remove(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remove_below(&self, parent: BorrowedFd<'_>, name: &OsStr, depth: usize, moved: &mut u64) -> io::Result<()> {
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= MAX_OPEN {
            *moved += 1;
            // The next round of `clear` finds it.
            return Ok(fs::renameat(parent, name, &self.root, format!(".basalt-deep-{moved}"))?);
        }
        let dir = resolve_at(parent, Path::new(name), OFlags::DIRECTORY)?;
        for entry in list(dir.as_fd())? {
            self.remove_below(dir.as_fd(), &entry.name, depth + 1, moved)?;
        }
        match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }
}

fn descend<E: From<io::Error>>(
    dir: &Node,
    path: &mut PathBuf,
    depth: usize,
    visit: &mut dyn FnMut(&Path, &Node, Visit) -> Result<(), E>,
) -> Result<(), E> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("the tree is deeper than {MAX_DEPTH} folders")).into());
    }
    let entries = list(resolve_at(dir.fd(), Path::new(""), OFlags::DIRECTORY)?.as_fd())?;
    for entry in entries {
        let node = match resolve_at(dir.fd(), Path::new(&entry.name), OFlags::PATH) {
            // The tree of a running guest changes under us.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => Node::open(other?)?,
        };
        path.push(&entry.name);
        visit(path, &node, Visit::Enter)?;
        if node.attributes().kind == NodeKind::Dir {
            descend(&node, path, depth + 1, visit)?;
            visit(path, &node, Visit::Leave)?;
        }
        path.pop();
    }
    Ok(())
}

fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            known => known,
        };
        entries.push(Entry { name: OsString::from_vec(name.to_vec()), is_dir: kind == FileType::Directory });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
