//! Copies a whole tree: shared blocks where the file system can (reflink), else in the kernel, holes kept.
//!
//! Owners, modes, times, hard links, attributes and special files are kept. The target is ours alone while this runs. The
//! source may be a running guest's: what vanishes or shrinks meanwhile is copied as far as it is found.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Gid, Mode, SeekFrom, Timespec, Timestamps, Uid, XattrFlags};

use crate::beneath::{Attributes, Node, NodeKind, Tree, Visit};

/// Copies everything below `source` into the empty `target`. The root folders' own attributes stay as they are. Blocks.
pub(crate) fn tree(source: &Tree, target: &Tree) -> io::Result<()> {
    let mut copy = Copy { source, target, linked: HashMap::new(), reflink: true, without: &[] };
    copy.run(&mut |_| {})
}

/// The same for a whole volume: the root folder's owner and mode too, which belong to how the ids in the tree stand; but
/// nothing of what lies in it under a name in `without`. `copied` is told the bytes of each file.
pub(crate) fn volume(source: &Path, target: &Path, without: &[&str], copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    let (source, target) = (Tree::open(source)?, Tree::open(target)?);
    Copy { source: &source, target: &target, linked: HashMap::new(), reflink: true, without }.run(copied)?;
    let (from, to) = (source.node("")?, target.node("")?);
    to.chown(from.attributes().uid, from.attributes().gid)?;
    to.chmod(from.attributes().mode)
}

struct Copy<'a> {
    source: &'a Tree,
    target: &'a Tree,
    /// The first copied name of each file that has several.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Until the file system says that it cannot.
    reflink: bool,
    /// Names in the root that are left out; none of them is a folder.
    without: &'a [&'a str],
}

impl Copy<'_> {
    fn run(&mut self, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
        let source = self.source;
        source.walk(&mut |path, node, visit| {
            if path.as_os_str().is_empty() || self.without.iter().any(|name| path.as_os_str() == OsStr::new(name)) {
                return Ok(());
            }
            match self.entry(path, node, visit) {
                // Gone since it was listed; its folder is ours and still there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !source.exists(path)? => Ok(()),
                Ok(()) if node.attributes().kind == NodeKind::File => {
                    copied(node.attributes().size);
                    Ok(())
                }
                other => other,
            }
        })
    }

    fn entry(&mut self, path: &Path, node: &Node, visit: Visit) -> io::Result<()> {
        let found = node.attributes();
        if found.kind == NodeKind::Dir {
            return match visit {
                Visit::Enter => self.target.mkdir(path, 0o700),
                // Last, as each new entry changes the times.
                Visit::Leave => attributes(node, &self.target.node(path)?),
            };
        }
        if found.links > 1
            && let Some(first) = self.linked.get(&found.identity)
        {
            return self.target.hard_link(first, path);
        }
        match found.kind {
            NodeKind::File => self.file(path, node)?,
            NodeKind::Symlink => self.target.symlink(node.target()?, path)?,
            NodeKind::Fifo | NodeKind::Socket | NodeKind::CharDevice | NodeKind::BlockDevice => {
                self.target.mknod(path, found.kind, 0o600, found.device)?;
            }
            NodeKind::Dir => {}
        }
        if found.kind != NodeKind::File {
            attributes(node, &self.target.node(path)?)?;
        }
        if found.links > 1 {
            self.linked.insert(found.identity, path.to_owned());
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, node: &Node) -> io::Result<()> {
        let from = node.reopen(true, false, false)?;
        let to = self.target.create(path, 0o600)?;
        let found = node.attributes();
        if found.size > 0 {
            self.content(&from, &to, found.size)?;
        }
        fs::fchown(&to, Some(Uid::from_raw(found.uid)), Some(Gid::from_raw(found.gid)))?;
        for name in node.xattrs()? {
            if let Some(value) = node.xattr(&name)? {
                fs::fsetxattr(&to, &name, &value, XattrFlags::empty())?;
            }
        }
        fs::fchmod(&to, Mode::from_raw_mode(found.mode))?;
        Ok(fs::futimens(&to, &times(found))?)
    }

    fn content(&mut self, from: &File, to: &File, size: u64) -> io::Result<()> {
        use rustix::io::Errno;
        if self.reflink {
            match fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                    self.reflink = false
                }
                Err(error) => return Err(error.into()),
            }
        }
        to.set_len(size)?;
        let mut at = 0;
        while let Some((start, end)) = next_data(from, at, size)? {
            copy_run(from, to, start, end)?;
            at = end;
        }
        Ok(())
    }
}

/// The next run of data at or after `at`.
pub(crate) fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::io::Errno;
    if at >= size {
        return Ok(None);
    }
    let start = match fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // No notion of holes here: all is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    let end = fs::seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end.min(size))).filter(|(start, end)| start < end))
}

fn copy_run(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use rustix::io::Errno;
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let want = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), want) {
            // Shorter than it said: its guest cut it meanwhile, and what is missing reads as zeros.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP) => {
                return copy_by_hand(from, to, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0u8; 256 << 10];
    while at < end {
        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let got = from.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

/// Gives a new entry what the old one has. The owner first: changing it clears set-uid bits and capabilities.
fn attributes(from: &Node, to: &Node) -> io::Result<()> {
    let found = from.attributes();
    to.chown(found.uid, found.gid)?;
    for name in from.xattrs()? {
        if let Some(value) = from.xattr(&name)? {
            to.set_xattr(&name, &value)?;
        }
    }
    if found.kind != NodeKind::Symlink {
        to.chmod(found.mode)?;
    }
    to.set_modified(found.modified)
}

fn times(found: &Attributes) -> Timestamps {
    let time = Timespec { tv_sec: found.modified.0, tv_nsec: found.modified.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests;
