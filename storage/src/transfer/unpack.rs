//! Makes a tree of records, in a new folder. Blocks.
//!
//! Folders are held open on the way down and get their attributes on the way up: each new entry changes their times, and
//! a default ACL or a set-gid bit would be handed down.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::block::{Reader, bad};
use super::record::{Meta, Record, Run};
use super::{Label, STAMPS, broken};
use crate::Error;
use crate::beneath::{NodeKind, Tree};

/// Deeper trees are refused, as they are by all that walks trees here.
const MAX_DEPTH: usize = 512;
/// Zeros of this many bytes become a hole.
const HOLE: usize = 64 << 10;

/// What the next tree is.
pub(super) fn begin(input: &mut Reader) -> io::Result<Label> {
    match Record::read(input)? {
        Record::Tree(label) => Ok(label),
        Record::Last => Err(bad("holds no volume")),
        _ => Err(bad("holds an entry of no tree")),
    }
}

/// That nothing follows the last tree.
pub(super) fn end(mut input: Reader) -> io::Result<()> {
    match Record::read(&mut input)? {
        Record::Last => input.end(),
        _ => Err(bad("goes on behind the volume")),
    }
}

/// Reads one tree into the empty folder `into`.
pub(super) fn tree(place: &str, into: &Path, mut input: Reader) -> Result<Reader, Error> {
    let root = Tree::open(into).map_err(|error| Error::io(place, "open folder", error))?;
    let mut unpack = Unpack { place, root: &root, open: Vec::new(), entries: 0, plain: false };
    loop {
        let record = Record::read(&mut input).map_err(|error| broken(place, error))?;
        match record {
            Record::End { entries } => {
                unpack.end(entries)?;
                return Ok(input);
            }
            record => unpack.take(record, &mut input)?,
        }
    }
}

struct Unpack<'a> {
    place: &'a str,
    root: &'a Tree,
    /// The folders that lead to where we are.
    open: Vec<(Tree, Meta)>,
    entries: u64,
    /// The file system refused an attribute; said once.
    plain: bool,
}

impl Unpack<'_> {
    fn here(&self) -> &Tree {
        self.open.last().map_or(self.root, |(tree, _)| tree)
    }

    fn take(&mut self, record: Record, input: &mut Reader) -> Result<(), Error> {
        self.entries += 1;
        match record {
            Record::Dir(meta) => self.enter(meta),
            Record::Up => {
                self.entries -= 1;
                self.leave()
            }
            Record::File(meta, size) => self.file(&meta, size, input),
            Record::Symlink(meta, target) => {
                self.make(&meta.name, |tree, name| tree.symlink(OsStr::from_bytes(&target), name))?;
                self.dress(&meta, NodeKind::Symlink)
            }
            Record::Special(meta, kind, device) => {
                self.make(&meta.name, |tree, name| tree.mknod(name, kind, 0o600, device))?;
                self.dress(&meta, kind)
            }
            Record::HardLink { name, existing } => self.link(&name, &existing),
            Record::Tree(_) | Record::Last | Record::End { .. } => self.stream(Err(bad("ends a tree too early"))),
        }
    }

    fn end(self, entries: u64) -> Result<(), Error> {
        match self.open.is_empty() && self.entries == entries {
            true => Ok(()),
            false => self.stream(Err(bad("lacks entries of a tree"))),
        }
    }

    fn enter(&mut self, meta: Meta) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return self.stream(Err(bad("holds folders that lie too deep")));
        }
        self.make(&meta.name, |tree, name| tree.mkdir(name, 0o700))?;
        let tree = self.here().subtree(OsStr::from_bytes(&meta.name));
        let tree = self.done(&meta.name, tree)?;
        self.open.push((tree, meta));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        let Some((_, meta)) = self.open.pop() else {
            return self.stream(Err(bad("goes up out of its tree")));
        };
        self.dress(&meta, NodeKind::Dir)
    }

    fn file(&mut self, meta: &Meta, size: u64, input: &mut Reader) -> Result<(), Error> {
        let file = self.make(&meta.name, |tree, name| tree.create(name, 0o600))?;
        self.done(&meta.name, file.set_len(size))?;
        let mut at = 0;
        loop {
            let run = self.stream(Run::read(input))?;
            if run == Run::END {
                break;
            }
            let end = run.offset.checked_add(run.length).filter(|end| run.offset >= at && *end <= size);
            let Some(end) = end.filter(|_| run.length > 0) else {
                return self.stream(Err(bad("holds data outside of its file")));
            };
            let mut to = run.offset;
            let mut failed = None;
            let read = input.run(run.length, &mut |part| {
                let written = write(&file, to, part);
                to += part.len() as u64;
                written.map_err(|error| {
                    failed = Some(error);
                    bad("could not be written")
                })
            });
            if let Some(error) = failed {
                return self.done(&meta.name, Err(error));
            }
            self.stream(read)?;
            at = end;
        }
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        self.done(&meta.name, fs::fchown(&file, owner.0, owner.1))?;
        self.attributes(meta, &mut |name, value| Ok(fs::fsetxattr(&file, name, value, XattrFlags::empty())?))?;
        self.done(&meta.name, fs::fchmod(&file, Mode::from_raw_mode(meta.mode)))?;
        let time = Timespec { tv_sec: meta.modified.0, tv_nsec: meta.modified.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        self.done(&meta.name, fs::futimens(&file, &times))
    }

    fn link(&mut self, name: &[u8], existing: &[u8]) -> Result<(), Error> {
        let mut new: PathBuf = self.open.iter().map(|(_, meta)| OsStr::from_bytes(&meta.name)).collect();
        new.push(OsStr::from_bytes(name));
        self.check(name)?;
        let existing = Path::new(OsStr::from_bytes(existing));
        self.done(name, self.root.hard_link(existing, new))
    }

    fn make<T>(&self, name: &[u8], make: impl FnOnce(&Tree, &OsStr) -> io::Result<T>) -> Result<T, Error> {
        self.check(name)?;
        self.done(name, make(self.here(), OsStr::from_bytes(name)))
    }

    /// Our own stamps are never another's to give.
    fn check(&self, name: &[u8]) -> Result<(), Error> {
        let ours = self.open.is_empty() && STAMPS.iter().any(|stamp| stamp.as_bytes() == name);
        if ours { self.stream(Err(bad("holds a stamp of its own"))) } else { Ok(()) }
    }

    /// Gives a new entry its attributes. The owner first: changing it clears set-uid bits and capabilities.
    fn dress(&mut self, meta: &Meta, kind: NodeKind) -> Result<(), Error> {
        let node = self.here().node(OsStr::from_bytes(&meta.name));
        let node = self.done(&meta.name, node)?;
        self.done(&meta.name, node.chown(meta.uid, meta.gid))?;
        self.attributes(meta, &mut |name, value| node.set_xattr(name, value))?;
        if kind != NodeKind::Symlink {
            self.done(&meta.name, node.chmod(meta.mode))?;
        }
        self.done(&meta.name, node.set_modified(meta.modified))
    }

    fn attributes(&mut self, meta: &Meta, set: &mut dyn FnMut(&OsStr, &[u8]) -> io::Result<()>) -> Result<(), Error> {
        for (name, value) in meta.xattrs.iter().filter(|(name, _)| super::is_kept(name)) {
            match set(OsStr::from_bytes(name), value) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => {
                    if !std::mem::replace(&mut self.plain, true) {
                        let name = String::from_utf8_lossy(name);
                        tracing::warn!(pool = self.place, %name, "the file system does not keep such attributes");
                    }
                }
                other => self.done(&meta.name, other)?,
            }
        }
        Ok(())
    }

    /// Sorts an error of making an entry: what only a wrong stream can cause is the stream's fault.
    fn done<T, E: Into<io::Error>>(&self, name: &[u8], result: Result<T, E>) -> Result<T, Error> {
        result.map_err(|error| {
            let error = error.into();
            let shown: String = String::from_utf8_lossy(name).chars().take(100).collect();
            let wrong = [
                Errno::EXIST,
                Errno::INVAL,
                Errno::NOENT,
                Errno::NOTDIR,
                Errno::ISDIR,
                Errno::LOOP,
                Errno::PERM,
                Errno::FBIG,
                Errno::XDEV,
                Errno::NAMETOOLONG,
                Errno::OVERFLOW,
            ];
            match Errno::from_io_error(&error) {
                Some(errno) if wrong.contains(&errno) => {
                    Error::invalid("volume refused", format!("the stream's entry {shown:?} cannot be made: {error}"))
                }
                None if error.kind() == io::ErrorKind::InvalidInput => {
                    Error::invalid("volume refused", format!("the stream's entry {shown:?}: {error}"))
                }
                Some(_) | None => Error::io(self.place, format!("unpack {shown:?}"), error),
            }
        })
    }

    fn stream<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| broken(self.place, error))
    }
}

/// Zeros become holes: the file has its length already.
fn write(file: &File, at: u64, part: &[u8]) -> io::Result<()> {
    let mut start = 0;
    while start < part.len() {
        let hole = |at: usize| part[at..].iter().take(HOLE).all(|byte| *byte == 0);
        let mut end = start;
        while end < part.len() && !hole(end) {
            end = (end + HOLE).min(part.len());
        }
        file.write_all_at(&part[start..end], at + start as u64)?;
        while end < part.len() && hole(end) {
            end = (end + HOLE).min(part.len());
        }
        start = end;
    }
    Ok(())
}
