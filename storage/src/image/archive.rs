//! Writes a tar stream: ustar headers, and pax records for all that does not fit them (long names, large numbers, parts of
//! seconds, extended attributes, holes in form 1.0). What [`super::tarball`] reads, and GNU tar and Go's reader too.

use std::io::{self, Write};

use tar::Header;

const BLOCK: usize = 512;
const NAME: usize = 100;
/// What fits the octal fields of a header.
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// What a member is; the values are the format's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File = b'0' as isize,
    HardLink = b'1' as isize,
    Symlink = b'2' as isize,
    Dir = b'5' as isize,
    Fifo = b'6' as isize,
}

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// What a link says.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where a file's data lies: start and end of each run, and the whole length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) runs: Vec<(u64, u64)>,
    pub(super) size: u64,
}

impl Layout {
    fn stored(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    fn has_holes(&self) -> bool {
        self.stored() != self.size
    }

    /// The map in front of the data, in whole blocks.
    fn map(&self) -> Vec<u8> {
        let mut map = format!("{}\n", self.runs.len());
        for (start, end) in &self.runs {
            map.push_str(&format!("{start}\n{}\n", end - start));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        map
    }
}

/// A tar stream.
pub(super) struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Archive { out }
    }

    /// A member without data.
    pub(super) fn bare(&mut self, entry: &Entry) -> io::Result<()> {
        self.head(entry, Vec::new(), &entry.path, 0)
    }

    /// A file whose data `write` puts out, run by run and exactly as long as `layout` says.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        layout: &Layout,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let stored = layout.stored();
        match layout.has_holes() {
            false => self.head(entry, Vec::new(), &entry.path, stored)?,
            true => {
                let map = layout.map();
                let records = [
                    ("GNU.sparse.major", b"1".to_vec()),
                    ("GNU.sparse.minor", b"0".to_vec()),
                    ("GNU.sparse.name", entry.path.clone()),
                    ("GNU.sparse.realsize", layout.size.to_string().into_bytes()),
                ];
                let records = records.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect();
                self.head(entry, records, b"GNUSparseFile.0/file", map.len() as u64 + stored)?;
                self.out.write_all(&map)?;
            }
        }
        write(&mut self.out)?;
        self.pad(stored)
    }

    /// The end mark.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn head(&mut self, entry: &Entry, mut records: Vec<(Vec<u8>, Vec<u8>)>, path: &[u8], size: u64) -> io::Result<()> {
        let mut add = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
        if path.len() > NAME {
            add("path", path.to_vec());
        }
        if entry.link.len() > NAME {
            add("linkpath", entry.link.clone());
        }
        for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
            if id > MAX_ID {
                add(key, id.to_string().into_bytes());
            }
        }
        if size > MAX_SIZE {
            add("size", size.to_string().into_bytes());
        }
        match entry.modified {
            (seconds @ ..0, _) => add("mtime", seconds.to_string().into_bytes()),
            (_, 0) => {}
            (seconds, nanos) => add("mtime", format!("{seconds}.{nanos:09}").into_bytes()),
        }
        for (name, value) in &entry.xattrs {
            records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
        }
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            let extension = Entry { path: b"PaxHeaders.0/member".to_vec(), ..blank(entry) };
            self.out.write_all(header(&extension, &extension.path, b'x', body.len() as u64).as_bytes())?;
            self.out.write_all(&body)?;
            self.pad(body.len() as u64)?;
        }
        self.out.write_all(header(entry, path, entry.kind as u8, size).as_bytes())
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = usize::try_from(length.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.out.write_all(&[0; BLOCK][..rest])
    }
}

/// An entry for what only describes another.
fn blank(entry: &Entry) -> Entry {
    Entry { link: Vec::new(), mode: 0o644, uid: 0, gid: 0, modified: (0, 0), xattrs: Vec::new(), ..entry.clone() }
}

fn header(entry: &Entry, path: &[u8], kind: u8, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    let (path, link) = (&path[..path.len().min(NAME)], &entry.link[..entry.link.len().min(NAME)]);
    old.name[..path.len()].copy_from_slice(path);
    old.linkname[..link.len()].copy_from_slice(link);
    old.linkflag = [kind];
    header.set_size(size.min(MAX_SIZE));
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.min(MAX_ID).into());
    header.set_gid(entry.gid.min(MAX_ID).into());
    header.set_mtime(u64::try_from(entry.modified.0).unwrap_or(0).min(MAX_SIZE));
    header.set_cksum();
    header
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}
