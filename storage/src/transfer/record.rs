//! The stream's inner layer: records. All numbers are little-endian.
//!
//! ```text
//! stream  (tree)* Z          snapshots, oldest first, then the point itself
//! tree    T label, entries, E count
//! entry   D attributes ... U                 a folder, what is in it, and up again
//!         F attributes size (offset length data)* 0 0      what no run covers is a hole
//!         L attributes target | S attributes kind device | H name path-of-an-earlier-entry
//! attributes  name mode uid gid seconds nanos (xattr-name value)*
//! ```
//!
//! An entry has its name alone: a path can only be built by going down. Everything read is bounded and judged here, so the
//! rest need not doubt it: names are names, modes and ids are in range.

use std::io;
use std::os::unix::ffi::OsStrExt;

use basalt_model::SnapshotId;

use super::Label;
use super::block::{Reader, Writer, bad};
use crate::beneath::NodeKind;

const NAME: usize = 255;
const PATH: usize = 1 << 16;
const TARGET: usize = 4095;
const XATTRS: usize = 1024;
/// As large as the kernel lets one be.
const XATTR: usize = 64 << 10;
const XATTRS_BYTES: usize = 1 << 20;

/// What an entry has beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Meta {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Tree(Label),
    End { entries: u64 },
    Last,
    Dir(Meta),
    Up,
    File(Meta, u64),
    Symlink(Meta, Vec<u8>),
    Special(Meta, NodeKind, u64),
    HardLink { name: Vec<u8>, existing: Vec<u8> },
}

/// A run of a file's data; an empty one ends the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Run {
    pub(super) const END: Run = Run { offset: 0, length: 0 };

    pub(super) fn write(self, out: &mut Writer) -> io::Result<()> {
        out.put(&self.offset.to_le_bytes())?;
        out.put(&self.length.to_le_bytes())
    }

    pub(super) fn read(input: &mut Reader) -> io::Result<Self> {
        Ok(Run { offset: number(input)?, length: number(input)? })
    }
}

impl Record {
    pub(super) fn write(&self, out: &mut Writer) -> io::Result<()> {
        match self {
            Record::Tree(Label::Point) => out.put(&[b'T', 0]),
            Record::Tree(Label::Snapshot(id)) => {
                out.put(&[b'T', 1])?;
                out.put(id.0.as_bytes())
            }
            Record::End { entries } => {
                out.put(b"E")?;
                out.put(&entries.to_le_bytes())
            }
            Record::Last => out.put(b"Z"),
            Record::Dir(meta) => meta.write(b'D', out),
            Record::Up => out.put(b"U"),
            Record::File(meta, size) => {
                meta.write(b'F', out)?;
                out.put(&size.to_le_bytes())
            }
            Record::Symlink(meta, target) => {
                meta.write(b'L', out)?;
                text(out, target, TARGET)
            }
            Record::Special(meta, kind, device) => {
                meta.write(b'S', out)?;
                out.put(&[special(*kind).ok_or_else(|| bad("cannot hold such an entry"))?])?;
                out.put(&device.to_le_bytes())
            }
            Record::HardLink { name, existing } => {
                out.put(b"H")?;
                text(out, name, NAME)?;
                text(out, existing, PATH)
            }
        }
    }

    pub(super) fn read(input: &mut Reader) -> io::Result<Self> {
        Ok(match byte(input)? {
            b'T' => Record::Tree(label(input)?),
            b'E' => Record::End { entries: number(input)? },
            b'Z' => Record::Last,
            b'D' => Record::Dir(Meta::read(input)?),
            b'U' => Record::Up,
            b'F' => Record::File(Meta::read(input)?, number(input)?),
            b'L' => {
                let (meta, target) = (Meta::read(input)?, read_text(input, TARGET)?);
                if target.is_empty() || target.contains(&0) {
                    return Err(bad("holds a link to nowhere"));
                }
                Record::Symlink(meta, target)
            }
            b'S' => {
                let (meta, kind) = (Meta::read(input)?, byte(input)?);
                let kind = SPECIAL.iter().find(|(code, _)| *code == kind).map(|(_, kind)| *kind);
                Record::Special(meta, kind.ok_or_else(|| bad("holds an entry of an unknown kind"))?, number(input)?)
            }
            b'H' => {
                let name = name(input)?;
                let existing = read_text(input, PATH)?;
                match existing.split(|byte| *byte == b'/').all(is_name) {
                    true => Record::HardLink { name, existing },
                    false => return Err(bad("holds a hard link to outside of itself")),
                }
            }
            _ => return Err(bad("holds a record of an unknown kind")),
        })
    }
}

const SPECIAL: [(u8, NodeKind); 4] =
    [(0, NodeKind::Fifo), (1, NodeKind::Socket), (2, NodeKind::CharDevice), (3, NodeKind::BlockDevice)];

fn special(kind: NodeKind) -> Option<u8> {
    SPECIAL.iter().find(|(_, known)| *known == kind).map(|(code, _)| *code)
}

fn label(input: &mut Reader) -> io::Result<Label> {
    match byte(input)? {
        0 => Ok(Label::Point),
        1 => {
            let mut id = [0; 16];
            input.exact(&mut id)?;
            Ok(Label::Snapshot(SnapshotId(uuid::Uuid::from_bytes(id))))
        }
        _ => Err(bad("holds a tree of an unknown kind")),
    }
}

impl Meta {
    fn write(&self, tag: u8, out: &mut Writer) -> io::Result<()> {
        out.put(&[tag])?;
        text(out, &self.name, NAME)?;
        for number in [self.mode, self.uid, self.gid] {
            out.put(&number.to_le_bytes())?;
        }
        out.put(&self.modified.0.to_le_bytes())?;
        out.put(&self.modified.1.to_le_bytes())?;
        let bytes: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.xattrs.len() > XATTRS || bytes > XATTRS_BYTES {
            return Err(bad("cannot hold so many extended attributes of one entry"));
        }
        out.put(&u32::try_from(self.xattrs.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        for (name, value) in &self.xattrs {
            text(out, name, NAME)?;
            text(out, value, XATTR)?;
        }
        Ok(())
    }

    fn read(input: &mut Reader) -> io::Result<Self> {
        let name = name(input)?;
        let (mode, uid, gid) = (small(input)?, small(input)?, small(input)?);
        let modified = (i64::from_le_bytes(number(input)?.to_le_bytes()), small(input)?);
        // The highest id means "leave as it is" to chown.
        if mode > 0o7777 || uid == u32::MAX || gid == u32::MAX || modified.1 >= 1_000_000_000 {
            return Err(bad("holds a mode, an owner or a time that no file can have"));
        }
        let count = small(input)? as usize;
        let (mut xattrs, mut bytes) = (Vec::new(), 0);
        for _ in 0..count {
            let (name, value) = (read_text(input, NAME)?, read_text(input, XATTR)?);
            bytes += name.len() + value.len();
            if name.is_empty() || name.contains(&0) || bytes > XATTRS_BYTES || count > XATTRS {
                return Err(bad("holds extended attributes that no file can have"));
            }
            xattrs.push((name, value));
        }
        Ok(Meta { name, mode, uid, gid, modified, xattrs })
    }
}

fn name(input: &mut Reader) -> io::Result<Vec<u8>> {
    let name = read_text(input, NAME)?;
    if is_name(&name) { Ok(name) } else { Err(bad("holds a name that no file can have")) }
}

fn is_name(name: &[u8]) -> bool {
    let plain = !name.is_empty() && name.len() <= NAME && name != b"." && name != b"..";
    plain && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

fn text(out: &mut Writer, text: &[u8], most: usize) -> io::Result<()> {
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= most);
    let length = length.ok_or_else(|| bad(&format!("cannot hold more than {most} bytes of this")))?;
    out.put(&length.to_le_bytes())?;
    out.put(text)
}

fn read_text(input: &mut Reader, most: usize) -> io::Result<Vec<u8>> {
    let length = small(input)? as usize;
    if length > most {
        return Err(bad("holds a text that is too long"));
    }
    input.bytes(length)
}

fn byte(input: &mut Reader) -> io::Result<u8> {
    let mut byte = [0];
    input.exact(&mut byte)?;
    Ok(byte[0])
}

fn small(input: &mut Reader) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn number(input: &mut Reader) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A path in a tree as it travels.
pub(super) fn path(path: &std::path::Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
