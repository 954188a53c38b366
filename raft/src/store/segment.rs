//! The format of a log segment: pure functions between records and bytes.
//!
//! ```text
//!   segment  = head (64 bytes: magic, version, number, salt, first sequence, CRC) frame*  zeros up to its length
//!   frame    = header (32 bytes: magic, length, sequence, salt, CRC of payload, CRC of header) payload trailer
//!              padded with zeros to a multiple of 64
//!   payload  = (kind: 1 byte, length: 4 bytes, body)*
//! ```
//! One frame is one group commit: what was synced together stands or falls together. Segments are filled with zeros when
//! they are made, so that a commit overwrites blocks that exist and cannot meet a full disk.
//!
//! **What a bad frame means.** A frame is only written after the one before it is on disk. So a bad frame with a good
//! one after it was acknowledged once: damage. The last frame may have been torn by a crash: then the file ends inside
//! it, or a whole 512-byte sector of it was never written and still holds zeros; what was not acknowledged is dropped. A
//! last frame that is wrong in any other way was not torn but changed: damage. A frame's header lies in one sector.

use crate::Error;
use std::path::Path;

pub(crate) const HEAD: usize = 64;
const FRAME_HEADER: usize = 32;
const ALIGN: usize = 64;
const SECTOR: usize = 512;
/// Never zero, so that a sector at the end of a frame is never zero either.
const TRAILER: [u8; 4] = [0xB5; 4];
const SEGMENT_MAGIC: &[u8; 8] = b"BASALTLG";
const FRAME_MAGIC: u32 = 0x4652_4D31;
const VERSION: u32 = 1;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Vote,
    Entry,
    /// Entries after this log id (or all of them) are no more.
    Truncate,
    /// Entries up to this log id are no more.
    Purge,
    Committed,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Vote => 1,
            Kind::Entry => 2,
            Kind::Truncate => 3,
            Kind::Purge => 4,
            Kind::Committed => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Kind::Vote, Kind::Entry, Kind::Truncate, Kind::Purge, Kind::Committed].into_iter().find(|k| k.code() == code)
    }
}

/// Appends a record to a payload.
pub(crate) fn put_record(payload: &mut Vec<u8>, kind: Kind, value: &impl serde::Serialize) -> std::io::Result<()> {
    payload.push(kind.code());
    let at = payload.len();
    payload.extend([0; 4]);
    rmp_serde::encode::write_named(payload, value).map_err(std::io::Error::other)?;
    let length = u32::try_from(payload.len() - at - 4).map_err(std::io::Error::other)?;
    payload[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) first_sequence: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(SEGMENT_MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..20].copy_from_slice(&self.number.to_le_bytes());
        head[20..28].copy_from_slice(&self.salt.to_le_bytes());
        head[28..36].copy_from_slice(&self.first_sequence.to_le_bytes());
        let crc = crc32fast::hash(&head[..36]);
        head[36..40].copy_from_slice(&crc.to_le_bytes());
        head
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let head = bytes.get(..HEAD).ok_or("it is too short")?;
        if &head[..8] != SEGMENT_MAGIC {
            return Err("it does not begin as a log segment");
        }
        if u32_at(head, 36) != crc32fast::hash(&head[..36]) {
            return Err("the checksum of its head is wrong");
        }
        if u32_at(head, 8) != VERSION {
            return Err("it was written by a newer version");
        }
        Ok(Head { number: u64_at(head, 12), salt: u64_at(head, 20), first_sequence: u64_at(head, 28) })
    }
}

/// Bytes that a frame with this payload takes.
pub(crate) fn frame_size(payload: usize) -> usize {
    (FRAME_HEADER + payload + TRAILER.len()).next_multiple_of(ALIGN)
}

/// Appends a frame to `out`.
pub(crate) fn put_frame(out: &mut Vec<u8>, payload: &[u8], sequence: u64, salt: u64) {
    let at = out.len();
    out.extend(FRAME_MAGIC.to_le_bytes());
    out.extend(u32::try_from(payload.len()).expect("a frame is far smaller than 4 GiB").to_le_bytes());
    out.extend(sequence.to_le_bytes());
    out.extend(salt.to_le_bytes());
    out.extend(crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&out[at..]);
    out.extend(crc.to_le_bytes());
    out.extend_from_slice(payload);
    out.extend(TRAILER);
    out.resize(at + frame_size(payload.len()), 0);
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    pub(crate) head: Head,
    pub(crate) payloads: Vec<&'a [u8]>,
    pub(crate) next_sequence: u64,
    /// Where the next frame goes.
    pub(crate) end: usize,
    /// Behind `end` lies what a crash left of a frame that was never acknowledged.
    pub(crate) torn: bool,
}

/// Reads a segment. Only the last one may end in a torn frame.
pub(crate) fn scan<'a>(path: &Path, bytes: &'a [u8], last: bool) -> Result<Scanned<'a>, Error> {
    let damaged = |what: &str| Error::damaged(path, what);
    let head = Head::decode(bytes).map_err(damaged)?;
    let mut found = Scanned { head, payloads: Vec::new(), next_sequence: head.first_sequence, end: HEAD, torn: false };
    loop {
        let rest = &bytes[found.end.min(bytes.len())..];
        match look(rest, found.end, &head, found.next_sequence) {
            Look::Frame { payload, size } => {
                found.payloads.push(payload);
                found.next_sequence += 1;
                found.end += size;
            }
            Look::End => break,
            Look::Damaged(what) => return Err(damaged(&format!("{what} at offset {}", found.end))),
            Look::Torn if last => {
                found.torn = true;
                break;
            }
            Look::Torn => return Err(damaged(&format!("a record is incomplete at offset {}", found.end))),
        }
    }
    // Whether it looks like the end or like a tear: nothing good may follow.
    if let Some(at) = later_frame(bytes, found.end, &head, found.next_sequence) {
        return Err(damaged(&format!("a record is missing or wrong at offset {}, before the one at {at}", found.end)));
    }
    Ok(found)
}

enum Look<'a> {
    Frame { payload: &'a [u8], size: usize },
    End,
    Torn,
    Damaged(&'static str),
}

/// Looks at what should be the next frame: `rest` begins at `offset` in the file.
fn look<'a>(rest: &'a [u8], offset: usize, head: &Head, sequence: u64) -> Look<'a> {
    let zero = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
    if rest.len() < FRAME_HEADER {
        return if zero(rest) { Look::End } else { Look::Torn };
    }
    let header = &rest[..FRAME_HEADER];
    if zero(header) {
        // The first sector of a torn frame may be missing while later ones are there.
        return if zero(rest) { Look::End } else { Look::Torn };
    }
    let Some((found, length)) = header_at(header, head) else { return Look::Damaged("a record's head is wrong") };
    if found != sequence {
        return Look::Damaged("a record is out of sequence");
    }
    let Some(payload) = rest.get(FRAME_HEADER..FRAME_HEADER + length + TRAILER.len()) else { return Look::Torn };
    let (payload, trailer) = payload.split_at(length);
    if trailer == TRAILER && u32_at(header, 24) == crc32fast::hash(payload) {
        return Look::Frame { payload, size: frame_size(length) };
    }
    let end = offset + FRAME_HEADER + length + TRAILER.len();
    let first = (offset + 1).next_multiple_of(SECTOR);
    let unwritten = (first..end).step_by(SECTOR).any(|s| zero(&rest[s - offset..(s + SECTOR).min(end) - offset]));
    if unwritten { Look::Torn } else { Look::Damaged("the checksum of a record is wrong") }
}

/// Sequence and length in a header, if it is one of this segment.
fn header_at(header: &[u8], head: &Head) -> Option<(u64, usize)> {
    let good = u32_at(header, 0) == FRAME_MAGIC
        && u64_at(header, 16) == head.salt
        && u32_at(header, 28) == crc32fast::hash(&header[..28]);
    good.then(|| (u64_at(header, 8), u32_at(header, 4) as usize))
}

fn later_frame(bytes: &[u8], from: usize, head: &Head, sequence: u64) -> Option<usize> {
    let candidates = (from + ALIGN..bytes.len().saturating_sub(FRAME_HEADER)).step_by(ALIGN);
    candidates.into_iter().find(|at| {
        let header = &bytes[*at..*at + FRAME_HEADER];
        header[0] != 0 && header_at(header, head).is_some_and(|(found, _)| found > sequence)
    })
}

/// Whether a segment was made but its first write, the head with two frames, never ended: the head is still zeros, and
/// no frame says that a later write began.
pub(crate) fn never_used(bytes: &[u8], first_sequence: u64) -> bool {
    let head = &bytes[..HEAD.min(bytes.len())];
    let frames = (0..bytes.len().saturating_sub(FRAME_HEADER)).step_by(ALIGN).filter_map(|at| {
        let header = &bytes[at..at + FRAME_HEADER];
        (header[0] != 0).then(|| header_at(header, &Head { number: 0, salt: u64_at(header, 16), first_sequence: 0 }))?
    });
    head.iter().all(|b| *b == 0) && frames.into_iter().all(|(sequence, _)| sequence <= first_sequence + 1)
}

/// Splits a payload into records.
pub(crate) fn records(payload: &[u8]) -> impl Iterator<Item = Result<(Kind, &[u8]), &'static str>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (code, tail) = rest.split_first()?;
        let record = (|| {
            let kind = Kind::from_code(*code).ok_or("a record is of a kind that this version does not know")?;
            let (length, tail) = tail.split_at_checked(4).ok_or("a record is cut off")?;
            let (body, tail) = tail.split_at_checked(u32_at(length, 0) as usize).ok_or("a record is cut off")?;
            Ok(((kind, body), tail))
        })();
        Some(match record {
            Ok((record, tail)) => {
                rest = tail;
                Ok(record)
            }
            Err(what) => {
                rest = &[];
                Err(what)
            }
        })
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
