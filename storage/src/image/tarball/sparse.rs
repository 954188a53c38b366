//! Sparse members: the old GNU form (map in headers) and pax form 1.0 (map in front of the data).

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::pax::{Records, number};
use super::{BLOCK, MAX_EXTENSION, bad, short};

/// A run of stored bytes and where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A map and the length of the whole file.
pub(super) type Map = (Vec<Segment>, u64);

const MAX_SEGMENTS: usize = 65_536;

/// The map of an old GNU member: four entries in its header, more in blocks that follow it.
pub(super) fn gnu(header: &GnuHeader, stream: &mut dyn Read) -> io::Result<Map> {
    let mut segments = Vec::new();
    collect(&header.sparse, &mut segments)?;
    let mut more = header.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        stream.read_exact(block.as_mut_bytes()).map_err(short)?;
        collect(&block.sparse, &mut segments)?;
        more = block.is_extended();
    }
    Ok((segments, header.real_size()?))
}

fn collect(entries: &[GnuSparseHeader], segments: &mut Vec<Segment>) -> io::Result<()> {
    for entry in entries.iter().filter(|entry| !entry.is_empty()) {
        if segments.len() >= MAX_SEGMENTS {
            return Err(bad("a sparse file has too many pieces"));
        }
        segments.push(Segment { offset: entry.offset()?, length: entry.length()? });
    }
    Ok(())
}

/// The map in front of a pax 1.0 sparse member's data, and the bytes it took.
pub(super) fn pax(records: &Records, stream: &mut dyn Read, stored: u64) -> io::Result<(Map, u64)> {
    if records.get("GNU.sparse.major") != Some(b"1") {
        return Err(bad("a sparse file is stored in an old pax form that is not understood"));
    }
    let size = records.number("GNU.sparse.realsize")?.ok_or_else(|| bad("a sparse file has no size"))?;
    let mut map = Reader { stream, line: Vec::new(), block: [0; BLOCK], at: BLOCK, taken: 0 };
    let count = map.number()?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_SEGMENTS);
    let count = count.ok_or_else(|| bad("a sparse file has too many pieces"))?;
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(Segment { offset: map.number()?, length: map.number()? });
    }
    if map.taken > stored {
        return Err(bad("a sparse map is longer than its member"));
    }
    Ok(((segments, size), map.taken))
}

/// Decimal lines in whole blocks.
struct Reader<'a> {
    stream: &'a mut dyn Read,
    line: Vec<u8>,
    block: [u8; BLOCK],
    at: usize,
    taken: u64,
}

impl Reader<'_> {
    fn number(&mut self) -> io::Result<u64> {
        self.line.clear();
        loop {
            if self.at == BLOCK {
                if self.taken >= MAX_EXTENSION {
                    return Err(bad("a sparse map is too long"));
                }
                self.stream.read_exact(&mut self.block).map_err(short)?;
                self.taken += BLOCK as u64;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            if byte == b'\n' {
                return number(&self.line).ok_or_else(|| bad("a sparse map is broken"));
            }
            if self.line.len() >= 20 {
                return Err(bad("a sparse map is broken"));
            }
            self.line.push(byte);
        }
    }
}

/// Checks a map against the bytes that are stored; without a map, they are one run.
pub(super) fn settle(map: Option<Map>, stored: u64) -> io::Result<Map> {
    let Some((segments, size)) = map else {
        return Ok((vec![Segment { offset: 0, length: stored }], stored));
    };
    let (mut end, mut sum) = (0u64, 0u64);
    for segment in &segments {
        if segment.offset < end {
            return Err(bad("pieces of a sparse file overlap"));
        }
        end = segment.offset.checked_add(segment.length).ok_or_else(|| bad("a sparse file is too large"))?;
        sum += segment.length;
    }
    if end > size || sum != stored {
        return Err(bad("a sparse map does not fit its member"));
    }
    Ok((segments, size))
}
