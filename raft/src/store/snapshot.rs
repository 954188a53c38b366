//! The snapshot: one file, checked by checksums, replaced as a whole.
//!
//! ```text
//!   head (64 bytes: magic, version, lengths, CRCs)  metadata  state         (both named MessagePack)
//! ```
//! It is written beside and renamed, so a crash leaves the old one or the new one. A reader holds the open file: it may
//! be replaced while it is being sent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use basalt_model::ClusterState;

use crate::Error;
use crate::identity::sync_dir;
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"BASALTSN";
const VERSION: u32 = 1;
const HEAD: usize = 64;

/// An open snapshot file.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    file: Arc<File>,
    pub(crate) length: u64,
    /// Set while it is not installed: where it was received.
    received: Option<Arc<Received>>,
}

/// A file that goes when nobody needs it.
#[derive(Debug)]
struct Received(PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        // After an installation it has another name.
        let _ = fs::remove_file(&self.0);
    }
}

fn current(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// Removes what a crash left of unfinished snapshots.
pub(crate) fn sweep(dir: &Path) -> Result<(), Error> {
    for item in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = item.map_err(Error::io("list", dir))?.path();
        let unfinished = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("snapshot."));
        if unfinished {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes the snapshot, for a member that begins anew.
pub(crate) fn remove(dir: &Path) -> Result<(), Error> {
    let path = current(dir);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("remove", &path)(e)),
    }
}

/// Reads the snapshot; `None` when there is none yet.
pub(crate) fn load(dir: &Path) -> Result<Option<(SnapshotMeta, ClusterState)>, Error> {
    let path = current(dir);
    match fs::read(&path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|what| Error::damaged(&path, what)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

/// Opens the snapshot to be sent.
pub(crate) fn open(dir: &Path) -> io::Result<Option<(SnapshotMeta, SnapshotFile)>> {
    let file = match File::open(current(dir)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let file = SnapshotFile::new(file, None)?;
    Ok(Some((file.meta()?, file)))
}

/// Writes a snapshot in place of the one before; it is on disk when this returns.
pub(crate) fn write(dir: &Path, meta: &SnapshotMeta, state: &ClusterState) -> io::Result<SnapshotFile> {
    let bytes = encode(meta, state)?;
    let beside = dir.join("snapshot.new");
    let mut file = private(&beside)?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    fs::rename(&beside, current(dir))?;
    sync_dir(dir).map_err(io::Error::other)?;
    SnapshotFile::new(file, None)
}

/// Where a snapshot that another member sends is put together.
#[derive(Debug)]
pub(crate) struct Receiver {
    file: File,
    path: Received,
}

impl Receiver {
    pub(crate) fn begin(dir: &Path, name: u64) -> io::Result<Self> {
        let path = dir.join(format!("snapshot.received-{name}"));
        Ok(Receiver { file: private(&path)?, path: Received(path) })
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)
    }

    /// Syncs it and looks whether it is whole; it may be installed now.
    pub(crate) fn finish(self) -> io::Result<SnapshotFile> {
        self.file.sync_all()?;
        let file = SnapshotFile::new(self.file, Some(Arc::new(self.path)))?;
        decode(&file.read_all()?).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
        Ok(file)
    }
}

/// Makes `file` the snapshot of `dir`, if it is whole; returns what it holds.
pub(crate) fn install(dir: &Path, file: &SnapshotFile) -> io::Result<(SnapshotMeta, ClusterState)> {
    let bytes = file.read_all()?;
    let decoded = decode(&bytes).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
    match &file.received {
        Some(received) => fs::rename(&received.0, current(dir))?,
        None => drop(write(dir, &decoded.0, &decoded.1)?),
    }
    sync_dir(dir).map_err(io::Error::other)?;
    Ok(decoded)
}

impl SnapshotFile {
    fn new(file: File, received: Option<Arc<Received>>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(SnapshotFile { file: Arc::new(file), length, received })
    }

    /// Reads a piece; empty at the end.
    pub(crate) fn piece(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut piece = vec![0; size.min(left)];
        self.file.read_exact_at(&mut piece, offset)?;
        Ok(piece)
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        self.piece(0, usize::MAX)
    }

    fn meta(&self) -> io::Result<SnapshotMeta> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let head = self.piece(0, HEAD)?;
        let (length, _) = lengths(&head).map_err(invalid)?;
        let meta = self.piece(HEAD as u64, length)?;
        rmp_serde::from_slice(&meta).map_err(|e| invalid(e.to_string()))
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn encode(meta: &SnapshotMeta, state: &ClusterState) -> io::Result<Vec<u8>> {
    let meta = rmp_serde::to_vec_named(meta).map_err(io::Error::other)?;
    let mut bytes = vec![0; HEAD];
    bytes.extend_from_slice(&meta);
    rmp_serde::encode::write_named(&mut bytes, state).map_err(io::Error::other)?;
    let body = crc32fast::hash(&bytes[HEAD..]);
    let length = bytes.len() as u64;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&(meta.len() as u64).to_le_bytes());
    bytes[20..28].copy_from_slice(&length.to_le_bytes());
    bytes[28..32].copy_from_slice(&body.to_le_bytes());
    let head = crc32fast::hash(&bytes[..32]);
    bytes[32..36].copy_from_slice(&head.to_le_bytes());
    Ok(bytes)
}

/// Length of the metadata, and of the whole.
fn lengths(head: &[u8]) -> Result<(usize, usize), String> {
    let field = |at: usize, n: usize| {
        let mut value = [0; 8];
        value[..n].copy_from_slice(&head[at..at + n]);
        u64::from_le_bytes(value)
    };
    if head.len() < HEAD || &head[..8] != MAGIC {
        return Err("it does not begin as a snapshot".into());
    }
    if field(32, 4) != u64::from(crc32fast::hash(&head[..32])) {
        return Err("the checksum of its head is wrong".into());
    }
    if field(8, 4) != u64::from(VERSION) {
        return Err("it was written by a newer version".into());
    }
    let size = |at| usize::try_from(field(at, 8)).map_err(|e| e.to_string());
    Ok((size(12)?, size(20)?))
}

fn decode(bytes: &[u8]) -> Result<(SnapshotMeta, ClusterState), String> {
    let (meta, whole) = lengths(bytes)?;
    if bytes.len() != whole {
        return Err(format!("it has {} bytes instead of {whole}", bytes.len()));
    }
    let crc = u32::from_le_bytes(bytes[28..32].try_into().expect("four bytes"));
    if crc != crc32fast::hash(&bytes[HEAD..]) {
        return Err("its checksum is wrong".into());
    }
    let (meta, state) = bytes[HEAD..].split_at_checked(meta).ok_or("its metadata is cut off")?;
    let read = |e: rmp_serde::decode::Error| format!("it cannot be read: {e}");
    Ok((rmp_serde::from_slice(meta).map_err(read)?, rmp_serde::from_slice(state).map_err(read)?))
}

#[cfg(test)]
mod tests;
