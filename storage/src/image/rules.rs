//! What an image's archives may hold: pure decisions on one member after the other, the same for a scan and an unpack.
//!
//! Refused: absolute paths, `..`, names below anything but a folder (so nothing goes through a link), two members for
//! one path (folders excepted), hard links to anything but an earlier file of the same tree, devices outside `/dev`,
//! too many or too large members. Skipped in silence: devices below `/dev`, which the guest's `/dev` mount hides anyway,
//! and members beside those that we know.
//!
//! The unpacker then makes what is admitted through [`crate::beneath`], so a gap here still ends at the new folder.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Limits;
use super::tarball::{Member, MemberKind};

pub(crate) const METADATA: &str = "metadata.yaml";
pub(crate) const TEMPLATES: &str = "templates";
pub(crate) const ROOTFS: &str = "rootfs";
/// The root of a virtual machine inside a unified image.
const DISK: &str = "rootfs.img";

/// Which archive of an image is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything in one.
    Unified,
    /// The metadata of a split image.
    Metadata,
    /// The root of a split image.
    Root,
}

/// What to do with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Skip,
    Metadata,
    /// The image is a virtual machine's.
    Disk,
    Dir(PathBuf),
    File(PathBuf),
    Symlink(PathBuf),
    HardLink {
        path: PathBuf,
        existing: PathBuf,
    },
    Fifo(PathBuf),
}

/// Why an image is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{} {why}", shown(.path))]
    Member { path: Vec<u8>, why: &'static str },
    #[error("it holds more than {0} members")]
    TooMany(u64),
    #[error("it unpacks to more than {0} bytes, which no honest image of its size does")]
    TooLarge(u64),
    #[error("it unpacks to more than the {0} bytes that are free")]
    NoSpace(u64),
}

fn shown(path: &[u8]) -> String {
    let mut text = format!("{:?}", String::from_utf8_lossy(path));
    if let Some((cut, _)) = text.char_indices().nth(200) {
        text.truncate(cut);
        text.push_str("…\"");
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Dir,
    File,
    Other,
}

/// Judges the members of one image, all parts together.
pub(crate) struct Rules {
    limits: Limits,
    allowed: u64,
    entries: u64,
    bytes: u64,
    /// What each path is, by a keyed hash: names are long and the uploader chooses how many there are.
    known: HashMap<u64, Class>,
    hasher: RandomState,
}

impl Rules {
    /// `packed` is the length of all the image's archives.
    pub(crate) fn new(limits: Limits, packed: u64) -> Self {
        let allowed = limits.allowed(packed);
        Rules { limits, allowed, entries: 0, bytes: 0, known: HashMap::new(), hasher: RandomState::new() }
    }

    /// Bytes that may still be unpacked. A stream is cut there, whatever its headers say.
    pub(crate) fn allowed(&self) -> u64 {
        self.allowed
    }

    /// What a stream that passed [`Rules::allowed`] is refused with.
    pub(crate) fn too_large(&self) -> Refusal {
        if self.allowed == self.limits.bytes { Refusal::NoSpace(self.allowed) } else { Refusal::TooLarge(self.allowed) }
    }

    /// Counts members and bytes; for formats that are unpacked by others, this is all that is asked.
    pub(crate) fn count(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Refusal::TooMany(self.limits.entries));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.allowed { Err(self.too_large()) } else { Ok(()) }
    }

    /// Judges one member.
    pub(crate) fn admit(&mut self, part: Part, member: &Member) -> Result<Action, Refusal> {
        self.count(if member.kind == MemberKind::File { member.size } else { 0 })?;
        let refuse = |why| Refusal::Member { path: member.path.clone(), why };
        let parts = self.split(&member.path).map_err(refuse)?;
        let (first, depth) = match (part, parts.first()) {
            (Part::Root, _) => (ROOTFS.as_bytes(), parts.len() + 1),
            (Part::Unified | Part::Metadata, None) => return Ok(Action::Skip),
            (Part::Unified | Part::Metadata, Some(first)) => (*first, parts.len()),
        };
        let path: PathBuf = match part {
            Part::Root => Path::new(ROOTFS).join(joined(&parts)),
            Part::Unified | Part::Metadata => joined(&parts),
        };
        let inner = &path;
        if first == ROOTFS.as_bytes() && part != Part::Metadata {
            return self.tree(inner, part, member).map_err(refuse);
        }
        if first == TEMPLATES.as_bytes() {
            return match member.kind {
                MemberKind::File | MemberKind::Dir => self.tree(inner, part, member).map_err(refuse),
                MemberKind::Symlink | MemberKind::HardLink | MemberKind::Fifo | MemberKind::Device => {
                    Err(refuse("is neither file nor folder, which is all that templates may be"))
                }
            };
        }
        if depth == 1 && first == METADATA.as_bytes() {
            self.take_name(inner, Class::File).map_err(refuse)?;
            return if member.kind == MemberKind::File { Ok(Action::Metadata) } else { Err(refuse("is no file")) };
        }
        if depth == 1 && first == DISK.as_bytes() && part == Part::Unified {
            return Ok(Action::Disk);
        }
        Ok(Action::Skip)
    }

    /// A member of a tree that is unpacked.
    fn tree(&mut self, path: &Path, part: Part, member: &Member) -> Result<Action, &'static str> {
        if member.kind == MemberKind::Device {
            let below_dev = path.strip_prefix(ROOTFS).is_ok_and(|inner| inner.starts_with("dev"));
            return if below_dev { Ok(Action::Skip) } else { Err("is a device outside /dev") };
        }
        self.parents(path)?;
        let path = path.to_owned();
        match member.kind {
            MemberKind::Dir => self.take_name(&path, Class::Dir).map(|()| Action::Dir(path)),
            MemberKind::File => self.take_name(&path, Class::File).map(|()| Action::File(path)),
            MemberKind::Fifo => self.take_name(&path, Class::Other).map(|()| Action::Fifo(path)),
            MemberKind::Symlink => {
                if member.link.is_empty() || member.link.len() > self.limits.path || member.link.contains(&0) {
                    return Err("is a link to nowhere");
                }
                self.take_name(&path, Class::Other).map(|()| Action::Symlink(path))
            }
            MemberKind::HardLink => {
                let existing = self.hard_link_target(part, &member.link)?;
                self.take_name(&path, Class::File).map(|()| Action::HardLink { path, existing })
            }
            MemberKind::Device => Err("is a device"),
        }
    }

    fn hard_link_target(&self, part: Part, link: &[u8]) -> Result<PathBuf, &'static str> {
        let outside = "is a hard link to outside of the image";
        let parts = self.split(link).map_err(|_| outside)?;
        let existing = match part {
            Part::Root => Path::new(ROOTFS).join(joined(&parts)),
            Part::Unified | Part::Metadata => joined(&parts),
        };
        if !existing.starts_with(ROOTFS) {
            return Err(outside);
        }
        match self.known.get(&self.key(&existing)) {
            Some(Class::File | Class::Other) => Ok(existing),
            Some(Class::Dir) => Err("is a hard link to a folder"),
            None => Err("is a hard link to what the image did not hold before"),
        }
    }

    /// Every folder above must be one; those that the image left out are made.
    fn parents(&mut self, path: &Path) -> Result<(), &'static str> {
        for parent in path.ancestors().skip(1).take_while(|parent| !parent.as_os_str().is_empty()) {
            let key = self.key(parent);
            match self.known.get(&key) {
                // All above it were looked at when it came.
                Some(Class::Dir) => return Ok(()),
                Some(Class::File | Class::Other) => return Err("lies below what is no folder"),
                None => {
                    self.known.insert(key, Class::Dir);
                }
            }
        }
        Ok(())
    }

    fn take_name(&mut self, path: &Path, class: Class) -> Result<(), &'static str> {
        match self.known.entry(self.key(path)) {
            Entry::Vacant(free) => {
                free.insert(class);
                Ok(())
            }
            Entry::Occupied(taken) if *taken.get() == Class::Dir && class == Class::Dir => Ok(()),
            Entry::Occupied(_) => Err("is there twice"),
        }
    }

    fn key(&self, path: &Path) -> u64 {
        self.hasher.hash_one(path.as_os_str())
    }

    fn split<'a>(&self, path: &'a [u8]) -> Result<Vec<&'a [u8]>, &'static str> {
        if path.starts_with(b"/") {
            return Err("is an absolute path");
        }
        if path.len() > self.limits.path {
            return Err("is too long a path");
        }
        let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        if parts.contains(&&b".."[..]) {
            return Err("goes upwards");
        }
        if parts.iter().any(|part| part.len() > 255 || part.contains(&0)) {
            return Err("holds a name that no file can have");
        }
        if parts.len() > self.limits.depth {
            return Err("lies too deep");
        }
        Ok(parts)
    }
}

fn joined(parts: &[&[u8]]) -> PathBuf {
    parts.iter().map(|part| OsStr::from_bytes(part)).collect()
}

#[cfg(test)]
mod tests;
