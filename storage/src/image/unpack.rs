//! Unpacks an image into a new, empty folder: `metadata.yaml`, `templates/`, `rootfs/`.
//!
//! Owners, modes with set-uid bits, times, hard links, holes, ACLs, `user.*` attributes and file capabilities are kept.
//! Other attributes (`trusted.*`, labels of the host's own security modules) are left out: they would speak to the
//! host, not to the guest. All is made through [`crate::beneath`]. The caller owns the folder, and throws it away when
//! this fails: after an error it holds a part of the image.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use basalt_runtime::{CommandRunner, spawn_blocking};
use rustix::fs::{self, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::codec::Format;
use super::rules::{Action, METADATA, Part, ROOTFS, Rules};
use super::scan::{self, Data, broken};
use super::tarball::Member;
use super::{ImageFiles, Limits, squashfs};
use crate::beneath::Tree;
use crate::{Error, Progress};

/// What to unpack, and where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The pool, for errors.
    pub(crate) place: &'a str,
    pub(crate) files: &'a ImageFiles,
    /// An empty folder that nobody else knows.
    pub(crate) into: &'a Path,
    pub(crate) limits: Limits,
    pub(crate) progress: &'a Progress,
}

/// Unpacks all parts.
pub(crate) async fn unpack(runner: &dyn CommandRunner, job: Job<'_>) -> Result<(), Error> {
    parts(runner, job).await.map_err(|error| match error {
        // Rules know of free bytes, not of pools.
        Error::NoSpace { step, source, .. } => Error::NoSpace { place: job.place.to_owned(), step, source },
        other => other,
    })
}

async fn parts(runner: &dyn CommandRunner, job: Job<'_>) -> Result<(), Error> {
    let (files, into) = (job.files.clone(), job.into.to_owned());
    let (place, limits, progress) = (job.place.to_owned(), job.limits, job.progress.clone());
    let tarballs = move || {
        progress.set_total(scan::packed(&files)?);
        let rules = Rules::new(limits, scan::packed(&files)?);
        Tarballs { files, into, place, rules, progress }.unpack()
    };
    let rest = spawn_blocking("unpack image", tarballs).await??;
    match rest {
        None => Ok(()),
        Some(rules) => squashfs::extract(runner, job, rules).await,
    }
}

struct Tarballs {
    files: ImageFiles,
    into: PathBuf,
    place: String,
    rules: Rules,
    progress: Progress,
}

impl Tarballs {
    /// Unpacks what is a tarball. Hands back the rules when the root is a squashfs and still to be done.
    fn unpack(mut self) -> Result<Option<Rules>, Error> {
        let tree = Tree::open(&self.into).map_err(|error| Error::io(&self.place, "open folder", error))?;
        let mut unpacker = Unpacker { tree: &tree, place: &self.place, folders: Vec::new(), plain: false };
        let root =
            self.files.rootfs.clone().map(|path| scan::format(&path).map(|format| (path, format))).transpose()?;
        let first = if root.is_some() { Part::Metadata } else { Part::Unified };
        let parts = [
            Some((self.files.metadata.clone(), first)),
            match &root {
                Some((path, Format::Tar(_))) => Some((path.clone(), Part::Root)),
                Some((path, Format::Squashfs)) => {
                    squashfs::check(path)?;
                    None
                }
                None => None,
                Some((_, Format::Qcow2)) => return Err(virtual_machine()),
            },
        ];
        for (path, part) in parts.into_iter().flatten() {
            scan::read(&path, part, &mut self.rules, &self.progress, &mut |action, member, data| {
                unpacker.take(action, member, data).map(ControlFlow::Continue)
            })?;
        }
        unpacker.finish()?;
        let squashfs = matches!(root, Some((_, Format::Squashfs)));
        let lacks = |name: &str| tree.exists(name).map(|there| !there).map_err(|e| Error::io(&self.place, "look", e));
        if lacks(METADATA)? {
            return Err(Error::invalid("image", "holds no metadata.yaml"));
        }
        if !squashfs && lacks(ROOTFS)? {
            return Err(Error::invalid("image", "holds no rootfs"));
        }
        Ok(squashfs.then_some(self.rules))
    }
}

fn virtual_machine() -> Error {
    Error::unsupported("image", "it is a virtual machine's, and this pool holds roots of containers")
}

struct Unpacker<'a> {
    tree: &'a Tree,
    place: &'a str,
    /// Folders and their times, set last: each new entry changes them.
    folders: Vec<(PathBuf, (i64, u32))>,
    /// The file system refused an attribute; said once.
    plain: bool,
}

impl Unpacker<'_> {
    fn take(&mut self, action: &Action, member: &Member, data: &mut Data<'_>) -> Result<(), Error> {
        match action {
            Action::Skip => Ok(()),
            Action::Disk => Err(virtual_machine()),
            Action::Metadata => self.file(Path::new(METADATA), member, data),
            Action::File(path) => self.file(path, member, data),
            Action::Dir(path) => self.dir(path, member),
            Action::Symlink(path) => {
                self.make(path, |tree| tree.symlink(OsStr::from_bytes(&member.link), path))?;
                let node = self.done(path, self.tree.node(path))?;
                self.done(path, node.chown(member.uid, member.gid))?;
                self.done(path, node.set_modified(member.modified))
            }
            Action::HardLink { path, existing } => self.make(path, |tree| tree.hard_link(existing, path)),
            Action::Fifo(path) => {
                self.make(path, |tree| tree.mkfifo(path, 0o600))?;
                let node = self.done(path, self.tree.node(path))?;
                self.done(path, node.chown(member.uid, member.gid))?;
                self.done(path, node.chmod(member.mode))?;
                self.done(path, node.set_modified(member.modified))
            }
        }
    }

    fn file(&mut self, path: &Path, member: &Member, data: &mut Data<'_>) -> Result<(), Error> {
        let file = self.make(path, |tree| tree.create(path, 0o600))?;
        let mut failed = None;
        let copied = data.copy(&mut |offset, run| {
            write_run(&file, offset, run).map_err(|error| {
                failed = Some(error);
                io::Error::other("not written")
            })
        });
        if let Some(error) = failed {
            return Err(Error::io(self.place, format!("write {}", path.display()), error));
        }
        copied.map_err(|error| broken(&error))?;
        self.done(path, file.set_len(member.size))?;
        // The owner first: changing it clears set-uid bits and capabilities.
        self.done(path, fs::fchown(&file, Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid))))?;
        self.attributes(path, member, &mut |name, value| Ok(fs::fsetxattr(&file, name, value, XattrFlags::empty())?))?;
        self.done(path, fs::fchmod(&file, Mode::from_raw_mode(member.mode)))?;
        let time = Timespec { tv_sec: member.modified.0, tv_nsec: member.modified.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        self.done(path, fs::futimens(&file, &times))
    }

    fn dir(&mut self, path: &Path, member: &Member) -> Result<(), Error> {
        if !self.done(path, self.tree.exists(path))? {
            self.make(path, |tree| tree.mkdir(path, 0o755))?;
        }
        let node = self.done(path, self.tree.node(path))?;
        self.done(path, node.chown(member.uid, member.gid))?;
        self.done(path, node.chmod(member.mode))?;
        self.attributes(path, member, &mut |name, value| node.set_xattr(name, value))?;
        self.folders.push((path.to_owned(), member.modified));
        Ok(())
    }

    /// Makes an entry, and the folders above it where the image left them out.
    fn make<T>(&self, path: &Path, make: impl Fn(&Tree) -> io::Result<T>) -> Result<T, Error> {
        let made = make(self.tree);
        if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return self.done(path, made);
        }
        let above: Vec<_> = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
        for folder in above.into_iter().rev() {
            match self.tree.mkdir(folder, 0o755) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => self.done(folder, other)?,
            }
        }
        self.done(path, make(self.tree))
    }

    fn attributes(
        &mut self,
        path: &Path,
        member: &Member,
        set: &mut dyn FnMut(&OsStr, &[u8]) -> io::Result<()>,
    ) -> Result<(), Error> {
        for (name, value) in member.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            match set(OsStr::from_bytes(name), value) {
                Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::OPNOTSUPP) => {
                    if !std::mem::replace(&mut self.plain, true) {
                        let name = String::from_utf8_lossy(name);
                        tracing::warn!(pool = self.place, %name, "the file system does not keep such attributes");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Err(Error::invalid("image", format!("{} has a broken attribute", path.display())));
                }
                other => self.done(path, other)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        for (path, modified) in self.folders.iter().rev() {
            self.done(path, self.tree.node(path).and_then(|node| node.set_modified(*modified)))?;
        }
        Ok(())
    }

    fn done<T, E: Into<io::Error>>(&self, path: &Path, result: Result<T, E>) -> Result<T, Error> {
        result.map_err(|error| Error::io(self.place, format!("unpack {}", path.display()), error))
    }
}

/// Attributes that mean something to the guest alone.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || [&b"security.capability"[..], b"system.posix_acl_access", b"system.posix_acl_default"].contains(&name)
}

/// Zeros become a hole; `set_len` gives the file its length.
fn write_run(file: &File, offset: u64, run: &[u8]) -> io::Result<()> {
    if run.iter().all(|byte| *byte == 0) { Ok(()) } else { file.write_all_at(run, offset) }
}

#[cfg(test)]
mod tests;
