//! Files of guests, as their owner sees them: paths begin at the guest's `/`, ids are the guest's own (0 is its root),
//! and no path, link or race leads out of the guest.
//!
//! A running guest is seen with all that is mounted in it; of a stopped one there is the root volume. Each call finds the
//! guest anew, so a guest may start and stop between two calls. Open files and folders stay with what they were opened in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use basalt_model::InstanceId;
use bytes::Bytes;

use super::PortError;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("No such file or directory")]
    NotFound,
    #[error("Permission denied")]
    Permission,
    #[error("File exists")]
    Exists,
    #[error("Directory not empty")]
    NotEmpty,
    #[error("Is a directory")]
    IsDir,
    #[error("Not a directory")]
    NotDir,
    #[error("Too many levels of symbolic links")]
    Loop,
    #[error("No space left on device")]
    NoSpace,
    #[error("Read-only file system")]
    ReadOnly,
    /// The request makes no sense for this file, or the path is malformed.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Other(String),
    /// The guest itself could not be reached.
    #[error(transparent)]
    Guest(#[from] PortError),
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAttributes {
    pub kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owners as the guest knows them; those that it does not know are 65534.
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u64,
    /// Last change of content, in seconds since 1970.
    pub modified: i64,
}

/// What to change; `None` stays. Size is set first and times last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttributes {
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
    /// Last access and last change of content, in seconds since 1970.
    pub times: Option<(i64, i64)>,
}

/// How to open a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    pub read: bool,
    pub write: bool,
    /// Whatever is written goes to the end.
    pub append: bool,
    pub truncate: bool,
    /// Makes the file with this mode if there is none; it belongs to the guest's root.
    pub create: Option<u32>,
    /// With `create`: it is an error if there is something already.
    pub exclusive: bool,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    pub name: OsString,
    /// Of the entry itself, also if it is a link.
    pub attributes: FileAttributes,
}

/// An open regular file.
#[async_trait]
pub trait OpenFile: Send + Sync {
    /// At most `length` bytes; none at the end of the file, fewer only there.
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, FileError>;
    /// Writes all of `bytes`.
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), FileError>;
    async fn attributes(&self) -> Result<FileAttributes, FileError>;
    async fn set_attributes(&self, set: SetAttributes) -> Result<(), FileError>;
    /// Returns when all that was written is durable.
    async fn sync(&self) -> Result<(), FileError>;
}

/// A folder that is being listed.
#[async_trait]
pub trait OpenDir: Send + Sync {
    /// The next entries, at most `count` of them, in no order and without `.` and `..`; none when all were told.
    async fn next(&mut self, count: usize) -> Result<Vec<FileEntry>, FileError>;
}

/// Files of this member's guests. The API only calls it on the member that is the instance's home.
///
/// Paths without a leading `/` begin there too. Links on the way are followed as within the guest; the last component is
/// followed by `open`, `open_dir`, `set_attributes`, and by `stat` if asked for, and by nothing else.
#[async_trait]
pub trait Files: Send + Sync {
    async fn stat(&self, id: InstanceId, path: &Path, follow: bool) -> Result<FileAttributes, FileError>;
    async fn set_attributes(&self, id: InstanceId, path: &Path, set: SetAttributes) -> Result<(), FileError>;
    /// Only regular files can be opened.
    async fn open(&self, id: InstanceId, path: &Path, how: OpenOptions) -> Result<Arc<dyn OpenFile>, FileError>;
    async fn open_dir(&self, id: InstanceId, path: &Path) -> Result<Box<dyn OpenDir>, FileError>;
    async fn mkdir(&self, id: InstanceId, path: &Path, mode: u32) -> Result<(), FileError>;
    /// Removes whatever is no folder.
    async fn remove_file(&self, id: InstanceId, path: &Path) -> Result<(), FileError>;
    /// Removes an empty folder.
    async fn remove_dir(&self, id: InstanceId, path: &Path) -> Result<(), FileError>;
    /// Moves an entry. What is at `to` is replaced, or is an error.
    async fn rename(&self, id: InstanceId, from: &Path, to: &Path, replace: bool) -> Result<(), FileError>;
    /// Makes a link at `path` that says `target`; nothing looks at where it leads.
    async fn symlink(&self, id: InstanceId, target: &Path, path: &Path) -> Result<(), FileError>;
    /// Makes `path` another name of `existing`.
    async fn hard_link(&self, id: InstanceId, existing: &Path, path: &Path) -> Result<(), FileError>;
    /// What a link says.
    async fn readlink(&self, id: InstanceId, path: &Path) -> Result<PathBuf, FileError>;
}
