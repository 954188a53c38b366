//! SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02): what a packet says, and how answers are written.
//!
//! Decoding is total: whatever the bytes are, it ends with a request or with [`Malformed`], and takes no more memory than
//! the packet holds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::port::files::{FileAttributes, FileKind, SetAttributes};

/// Largest packet that is read. Clients send at most 256 KiB of data in one.
pub(super) const MAX_PACKET: usize = 257 * 1024;
/// Most data in one answer or write.
pub(super) const MAX_DATA: usize = 256 * 1024;
pub(super) const VERSION: u32 = 3;

const SIZE: u32 = 1;
const OWNERS: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

const POSIX_RENAME: &[u8] = b"posix-rename@openssh.com";
const HARD_LINK: &[u8] = b"hardlink@openssh.com";
const FSYNC: &[u8] = b"fsync@openssh.com";
const LIMITS: &[u8] = b"limits@openssh.com";

/// How a request ended, in the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

/// The packet is not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet")]
pub(super) struct Malformed;

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Open {
        path: &'a Path,
        flags: u32,
        set: SetAttributes,
    },
    Close {
        handle: u32,
    },
    Read {
        handle: u32,
        offset: u64,
        length: u32,
    },
    Write {
        handle: u32,
        offset: u64,
        data: &'a [u8],
    },
    Stat {
        path: &'a Path,
        follow: bool,
    },
    HandleStat {
        handle: u32,
    },
    SetStat {
        path: &'a Path,
        set: SetAttributes,
    },
    HandleSetStat {
        handle: u32,
        set: SetAttributes,
    },
    OpenDir {
        path: &'a Path,
    },
    ReadDir {
        handle: u32,
    },
    Remove {
        path: &'a Path,
    },
    Mkdir {
        path: &'a Path,
        set: SetAttributes,
    },
    Rmdir {
        path: &'a Path,
    },
    RealPath {
        path: &'a Path,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
        replace: bool,
    },
    ReadLink {
        path: &'a Path,
    },
    /// The target comes first, as OpenSSH has it; the draft says otherwise, and nobody follows it.
    Symlink {
        target: &'a Path,
        path: &'a Path,
    },
    HardLink {
        existing: &'a Path,
        path: &'a Path,
    },
    Sync {
        handle: u32,
    },
    Limits,
    Unknown,
}

/// Reads the version of a client's first packet.
pub(super) fn init(packet: &[u8]) -> Result<u32, Malformed> {
    let mut fields = Fields(packet);
    match fields.byte()? {
        1 => fields.u32(),
        _ => Err(Malformed),
    }
}

/// Reads a request and its number. A bad request may still tell its number, which the refusal needs.
pub(super) fn decode(packet: &[u8]) -> (Option<u32>, Result<Request<'_>, Malformed>) {
    let mut fields = Fields(packet);
    match (fields.byte(), fields.u32()) {
        (Ok(kind), Ok(id)) => (Some(id), request(kind, &mut fields)),
        (Err(_), _) | (_, Err(_)) => (None, Err(Malformed)),
    }
}

fn request<'a>(kind: u8, fields: &mut Fields<'a>) -> Result<Request<'a>, Malformed> {
    Ok(match kind {
        3 => Request::Open { path: fields.path()?, flags: fields.u32()?, set: fields.attributes()? },
        4 => Request::Close { handle: fields.handle()? },
        5 => Request::Read { handle: fields.handle()?, offset: fields.u64()?, length: fields.u32()? },
        6 => Request::Write { handle: fields.handle()?, offset: fields.u64()?, data: fields.string()? },
        7 => Request::Stat { path: fields.path()?, follow: false },
        8 => Request::HandleStat { handle: fields.handle()? },
        9 => Request::SetStat { path: fields.path()?, set: fields.attributes()? },
        10 => Request::HandleSetStat { handle: fields.handle()?, set: fields.attributes()? },
        11 => Request::OpenDir { path: fields.path()? },
        12 => Request::ReadDir { handle: fields.handle()? },
        13 => Request::Remove { path: fields.path()? },
        14 => Request::Mkdir { path: fields.path()?, set: fields.attributes()? },
        15 => Request::Rmdir { path: fields.path()? },
        16 => Request::RealPath { path: fields.path()? },
        17 => Request::Stat { path: fields.path()?, follow: true },
        18 => Request::Rename { from: fields.path()?, to: fields.path()?, replace: false },
        19 => Request::ReadLink { path: fields.path()? },
        20 => Request::Symlink { target: fields.path()?, path: fields.path()? },
        200 => extended(fields)?,
        _ => Request::Unknown,
    })
}

fn extended<'a>(fields: &mut Fields<'a>) -> Result<Request<'a>, Malformed> {
    Ok(match fields.string()? {
        POSIX_RENAME => Request::Rename { from: fields.path()?, to: fields.path()?, replace: true },
        HARD_LINK => Request::HardLink { existing: fields.path()?, path: fields.path()? },
        FSYNC => Request::Sync { handle: fields.handle()? },
        LIMITS => Request::Limits,
        _ => Request::Unknown,
    })
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }

    fn path(&mut self) -> Result<&'a Path, Malformed> {
        self.string().map(|bytes| Path::new(OsStr::from_bytes(bytes)))
    }

    /// Ours are four bytes; others were never given out, and no handle has the number 0.
    fn handle(&mut self) -> Result<u32, Malformed> {
        Ok(self.string()?.try_into().map_or(0, u32::from_be_bytes))
    }

    fn attributes(&mut self) -> Result<SetAttributes, Malformed> {
        let flags = self.u32()?;
        let mut set = SetAttributes::default();
        if flags & SIZE != 0 {
            set.size = Some(self.u64()?);
        }
        if flags & OWNERS != 0 {
            set.uid = Some(self.u32()?);
            set.gid = Some(self.u32()?);
        }
        if flags & PERMISSIONS != 0 {
            set.mode = Some(self.u32()? & 0o7777);
        }
        if flags & TIMES != 0 {
            set.times = Some((self.u32()?.into(), self.u32()?.into()));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..self.u32()? {
                let (_name, _value) = (self.string()?, self.string()?);
            }
        }
        Ok(set)
    }
}

/// Answers, one after the other, as they go to the client.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<u8>);

impl Answers {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn version(&mut self) {
        self.packet(2, |out| {
            out.u32(VERSION);
            for (name, version) in [(POSIX_RENAME, "1"), (HARD_LINK, "1"), (FSYNC, "1"), (LIMITS, "1")] {
                out.string(name);
                out.string(version.as_bytes());
            }
        });
    }

    pub(super) fn status(&mut self, id: u32, code: Code, text: &str) {
        self.packet(101, |out| {
            out.u32(id);
            out.u32(code as u32);
            out.string(text.as_bytes());
            out.string(b"en");
        });
    }

    pub(super) fn handle(&mut self, id: u32, handle: u32) {
        self.packet(102, |out| {
            out.u32(id);
            out.string(&handle.to_be_bytes());
        });
    }

    pub(super) fn data(&mut self, id: u32, data: &[u8]) {
        self.packet(103, |out| {
            out.u32(id);
            out.string(data);
        });
    }

    /// Names with what `ls -l` says of them, and their attributes.
    pub(super) fn names(&mut self, id: u32, names: &[(&OsStr, String, Option<&FileAttributes>)]) {
        self.packet(104, |out| {
            out.u32(id);
            out.u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
            for (name, long, attributes) in names {
                out.string(name.as_bytes());
                out.string(long.as_bytes());
                match attributes {
                    Some(attributes) => out.file(attributes),
                    None => out.u32(0),
                }
            }
        });
    }

    pub(super) fn attributes(&mut self, id: u32, attributes: &FileAttributes) {
        self.packet(105, |out| {
            out.u32(id);
            out.file(attributes);
        });
    }

    /// Largest packet, read and write; open handles.
    pub(super) fn limits(&mut self, id: u32, handles: usize) {
        self.packet(201, |out| {
            out.u32(id);
            for limit in [MAX_PACKET, MAX_DATA, MAX_DATA, handles] {
                out.0.extend_from_slice(&(limit as u64).to_be_bytes());
            }
        });
    }

    /// Writes a packet; its length is known, and filled in, at its end.
    fn packet(&mut self, kind: u8, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.u32(0);
        self.0.push(kind);
        fill(self);
        let length = u32::try_from(self.0.len() - start - 4).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn string(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn file(&mut self, attributes: &FileAttributes) {
        self.u32(SIZE | OWNERS | PERMISSIONS | TIMES);
        self.0.extend_from_slice(&attributes.size.to_be_bytes());
        self.u32(attributes.uid);
        self.u32(attributes.gid);
        self.u32(type_bits(attributes.kind) | attributes.mode);
        // The protocol has 32 bits, and needs an access time too.
        let modified = u32::try_from(attributes.modified.max(0)).unwrap_or(u32::MAX);
        self.u32(modified);
        self.u32(modified);
    }
}

fn type_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Fifo => 0o010_000,
        FileKind::CharDevice => 0o020_000,
        FileKind::Dir => 0o040_000,
        FileKind::BlockDevice => 0o060_000,
        FileKind::File => 0o100_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Socket => 0o140_000,
    }
}

/// An entry as `ls -l` prints it: some clients show nothing else.
pub(super) fn long_name(name: &OsStr, of: &FileAttributes) -> String {
    let kind = match of.kind {
        FileKind::Fifo => 'p',
        FileKind::CharDevice => 'c',
        FileKind::Dir => 'd',
        FileKind::BlockDevice => 'b',
        FileKind::File => '-',
        FileKind::Symlink => 'l',
        FileKind::Socket => 's',
    };
    let bit = |n: usize| if of.mode & (0o400 >> n) != 0 { ['r', 'w', 'x'][n % 3] } else { '-' };
    let mode: String = (0..9).map(bit).collect();
    let at = time::OffsetDateTime::from_unix_timestamp(of.modified).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let month = &at.month().to_string()[..3];
    let (links, uid, gid, size) = (of.links, of.uid, of.gid, of.size);
    let name = name.to_string_lossy();
    format!("{kind}{mode} {links:>4} {uid:<8} {gid:<8} {size:>8} {month} {:>2}  {} {name}", at.day(), at.year())
}
