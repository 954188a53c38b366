//! Reads a tar stream with bounded memory: ustar, GNU long names and sparse files, pax records (names, sizes, owners,
//! times, extended attributes, sparse format 1.0).
//!
//! A reader of our own, over the header type of the `tar` crate, because that crate's archive keeps extension records
//! of any length in memory and takes an archive that was cut off between two members for a whole one.

use std::io::{self, Read};

use tar::Header;

mod pax;
mod sparse;

use pax::Records;
use sparse::Segment;

const BLOCK: usize = 512;
/// Extension records and sparse maps above this are refused.
const MAX_EXTENSION: u64 = 1 << 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    Dir,
    Symlink,
    HardLink,
    Fifo,
    Device,
}

/// One member of an archive, as it says itself; nothing here has been judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: (i64, u32),
    /// Length of the file that it becomes.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where its stored bytes belong.
    segments: Vec<Segment>,
}

/// A tar stream.
pub(crate) struct TarReader<R> {
    stream: R,
    /// Bytes of the current member (with padding) that were not read yet.
    pending: u64,
}

/// Extensions that describe the member that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Records,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        TarReader { stream, pending: 0 }
    }

    /// The next member; `None` after the end mark. A stream without end mark was cut off.
    pub(crate) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            let pending = std::mem::take(&mut self.pending);
            self.discard(pending)?;
            let Some(header) = self.header()? else { return Ok(None) };
            let stored = header.entry_size()?;
            match header.entry_type().as_byte() {
                b'L' => extensions.path = Some(until_zero(self.extension(stored)?)),
                b'K' => extensions.link = Some(until_zero(self.extension(stored)?)),
                b'x' => extensions.pax = Records::parse(&self.extension(stored)?)?,
                // Global records describe the archive, not members; ours to read past.
                b'g' => drop(self.extension(stored)?),
                _ => return self.member(&header, extensions).map(Some),
            }
        }
    }

    /// Hands out the member's bytes, each run with its offset. Holes are left out.
    pub(crate) fn data(
        &mut self,
        member: &Member,
        take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0u8; 128 << 10];
        for segment in &member.segments {
            let mut done = 0;
            while done < segment.length {
                let want = buffer.len().min(usize::try_from(segment.length - done).unwrap_or(usize::MAX));
                let got = self.stream.read(&mut buffer[..want])?;
                if got == 0 {
                    return Err(cut_off());
                }
                self.pending -= got as u64;
                take(segment.offset + done, &buffer[..got])?;
                done += got as u64;
            }
        }
        Ok(())
    }

    /// Reads what follows the end mark, so that check sums of the compressed stream are seen.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(|_| ())
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        self.stream.read_exact(header.as_mut_bytes()).map_err(short)?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum()? != sum {
            return Err(bad("a header's check sum is wrong"));
        }
        Ok(Some(header))
    }

    /// The content of an extension header.
    fn extension(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > MAX_EXTENSION {
            return Err(bad("an extension record is too long"));
        }
        let mut bytes = vec![0u8; usize::try_from(length).map_err(|_| bad("an extension record is too long"))?];
        self.stream.read_exact(&mut bytes).map_err(short)?;
        self.discard(padding(length))?;
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> io::Result<Member> {
        let pax = &extensions.pax;
        let kind = kind(header)?;
        let mut stored = pax.number("size")?.map_or_else(|| header.entry_size(), Ok)?;
        if kind != MemberKind::File {
            // Old writers leave a size on links and folders; no data follows them.
            stored = if kind == MemberKind::HardLink && pax.get("size").is_some() { stored } else { 0 };
        }
        self.pending = stored.checked_add(padding(stored)).ok_or_else(|| bad("a size is too large"))?;
        let sparse = match (header.as_gnu(), header.entry_type().is_gnu_sparse()) {
            (Some(gnu), true) => Some(sparse::gnu(gnu, &mut self.stream)?),
            (None, true) => return Err(bad("a sparse member has no GNU header")),
            (_, false) if pax.has_prefix("GNU.sparse.") => {
                let (map, taken) = sparse::pax(pax, &mut self.stream, stored)?;
                self.pending -= taken;
                Some(map)
            }
            (_, false) => None,
        };
        let in_stream = stored - (stored + padding(stored) - self.pending);
        let (segments, size) = sparse::settle(sparse, in_stream)?;
        let old = header.as_old();
        let name = pax.get("GNU.sparse.name").or(pax.get("path")).map(<[u8]>::to_vec);
        Ok(Member {
            path: name.or(extensions.path).unwrap_or_else(|| header.path_bytes().into_owned()),
            link: pax
                .get("linkpath")
                .map(<[u8]>::to_vec)
                .or(extensions.link)
                .unwrap_or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default()),
            kind: if kind == MemberKind::File && old_style_dir(header) { MemberKind::Dir } else { kind },
            mode: number(&old.mode, || header.mode())? & 0o7777,
            uid: id(pax.number("uid")?.map_or_else(|| number(&old.uid, || header.uid()), Ok)?)?,
            gid: id(pax.number("gid")?.map_or_else(|| number(&old.gid, || header.gid()), Ok)?)?,
            modified: match pax.time("mtime")? {
                Some(time) => time,
                None => (i64::try_from(number(&old.mtime, || header.mtime())?).unwrap_or(0), 0),
            },
            size,
            xattrs: pax.xattrs(),
            segments,
        })
    }

    fn discard(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.stream).take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(cut_off()) }
    }
}

/// Some writers leave a field blank for zero.
fn number<T: Default>(field: &[u8], read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { read() }
}

fn kind(header: &Header) -> io::Result<MemberKind> {
    Ok(match header.entry_type().as_byte() {
        b'0' | 0 | b'7' | b'S' => MemberKind::File,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' | b'4' => MemberKind::Device,
        b'5' => MemberKind::Dir,
        b'6' => MemberKind::Fifo,
        other => return Err(bad(&format!("a member is of the unknown type {:?}", char::from(other)))),
    })
}

/// Before POSIX, a folder was a file whose name ends with a slash.
fn old_style_dir(header: &Header) -> bool {
    header.as_ustar().is_none() && header.as_gnu().is_none() && header.path_bytes().ends_with(b"/")
}

fn id(value: u64) -> io::Result<u32> {
    // The highest one means "leave as it is" to chown.
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or_else(|| bad("an owner id is too large"))
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Members are padded to whole blocks.
fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

fn short(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof && error.raw_os_error().is_none() { cut_off() } else { error }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
