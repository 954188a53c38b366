//! An SFTP server, version 3, over any stream: what `incus file` and `sshfs` speak.
//!
//! ```text
//!  packets -> decode -> one request at a time -> Files -> answer, in order -> written when no whole request waits
//! ```
//!
//! **Invariants.** A client's memory here is bounded: one packet, [`MAX_HANDLES`] handles, answers up to about a
//! megabyte. Requests are answered in the order in which they came, so a write is never overtaken by a read or a close.
//!
//! **Failure.** A bad request is refused and the session goes on; a packet that is too large, or no first packet of the
//! protocol, ends it, as there is no telling where the next one begins.

mod wire;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use basalt_model::InstanceId;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, WriteHalf};

use self::wire::{Answers, Code, MAX_DATA, MAX_PACKET, Request};
use crate::port::files::{FileAttributes, FileError, Files, OpenDir, OpenFile, OpenOptions, SetAttributes};

/// Files and folders that a session may hold open.
const MAX_HANDLES: usize = 1024;
/// Entries of a folder in one answer. Names are at most 255 bytes, so this stays under [`MAX_PACKET`].
const ENTRIES: usize = 128;
/// Answers are written when they are this many bytes, even if more requests wait.
const FULL: usize = 512 * 1024;
/// Input that is read at once.
const BUFFER: usize = 64 * 1024;

/// Bits of OPEN.
const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;

/// Mode of what is made when the client does not say.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// Serves one client until it closes its side.
///
/// # Errors
/// The stream broke, or what came on it is not SFTP.
pub(crate) async fn serve<S>(stream: S, files: Arc<dyn Files>, id: InstanceId) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (input, output) = tokio::io::split(stream);
    let mut link = Link { input: BufReader::with_capacity(BUFFER, input), output, answers: Answers::default() };
    let mut packet = Vec::new();
    if !link.read(&mut packet).await? {
        return Ok(());
    }
    let version = wire::init(&packet).map_err(bad)?;
    if version < wire::VERSION {
        return Err(bad(format!("the client speaks only version {version}")));
    }
    link.answers.version();
    let mut session = Session { files, id, handles: BTreeMap::new(), last: 0 };
    while link.read(&mut packet).await? {
        session.answer(&packet, &mut link.answers).await;
        // What one large request needed is not kept for ever.
        packet.shrink_to(BUFFER);
    }
    Ok(())
}

fn bad(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// Both directions of the stream.
struct Link<S> {
    input: BufReader<tokio::io::ReadHalf<S>>,
    output: WriteHalf<S>,
    answers: Answers,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Reads a packet; false at the end. Before it waits for the client, the client has all answers.
    async fn read(&mut self, packet: &mut Vec<u8>) -> io::Result<bool> {
        if !self.has_whole_packet() || self.answers.bytes().len() >= FULL {
            self.flush().await?;
        }
        if self.input.fill_buf().await?.is_empty() {
            return Ok(false);
        }
        let length = self.input.read_u32().await? as usize;
        if length == 0 || length > MAX_PACKET {
            return Err(bad(format!("a packet of {length} bytes")));
        }
        packet.resize(length, 0);
        self.input.read_exact(packet).await?;
        Ok(true)
    }

    fn has_whole_packet(&self) -> bool {
        let waiting = self.input.buffer();
        let length = waiting.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize);
        length.is_some_and(|length| waiting.len() - 4 >= length)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.output.write_all(self.answers.bytes()).await?;
        self.output.flush().await?;
        self.answers.clear();
        Ok(())
    }
}

/// What a client holds open.
enum Handle {
    File(Arc<dyn OpenFile>),
    Dir(Box<dyn OpenDir>),
}

struct Session {
    files: Arc<dyn Files>,
    id: InstanceId,
    handles: BTreeMap<u32, Handle>,
    /// The last handle given out.
    last: u32,
}

/// Why a request is refused.
enum Refusal {
    File(FileError),
    /// A number and a text of the protocol.
    Protocol(Code, &'static str),
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        Refusal::File(error)
    }
}

type Answered = Result<(), Refusal>;

const NO_HANDLE: Refusal = Refusal::Protocol(Code::Failure, "no such handle");

impl Session {
    /// Does one request and adds exactly one answer.
    async fn answer(&mut self, packet: &[u8], answers: &mut Answers) {
        let (id, request) = wire::decode(packet);
        let Some(id) = id else {
            // Nobody could tell which request the refusal belongs to.
            answers.status(0, Code::BadMessage, "malformed packet");
            return;
        };
        let done = match request {
            Ok(request) => self.perform(id, request, answers).await,
            Err(malformed) => {
                answers.status(id, Code::BadMessage, &malformed.to_string());
                return;
            }
        };
        match done {
            Ok(()) => {}
            Err(Refusal::Protocol(code, text)) => answers.status(id, code, text),
            Err(Refusal::File(error)) => answers.status(id, code(&error), &error.to_string()),
        }
    }

    async fn perform(&mut self, id: u32, request: Request<'_>, answers: &mut Answers) -> Answered {
        match request {
            Request::Open { path, flags, set } => self.open(id, path, options(flags, &set), answers).await,
            Request::OpenDir { path } => self.open_dir(id, path, answers).await,
            Request::Read { handle, offset, length } => self.read(id, handle, (offset, length), answers).await,
            Request::ReadDir { handle } => self.read_dir(id, handle, answers).await,
            Request::Stat { path, follow } => {
                let found = self.files.stat(self.id, path, follow).await?;
                answers.attributes(id, &found);
                Ok(())
            }
            Request::HandleStat { handle } => {
                let found = self.file(handle)?.attributes().await?;
                answers.attributes(id, &found);
                Ok(())
            }
            Request::RealPath { path } => {
                let path = canonical(path);
                answers.names(id, &[(path.as_os_str(), path.to_string_lossy().into_owned(), None)]);
                Ok(())
            }
            Request::ReadLink { path } => {
                let target = self.files.readlink(self.id, path).await?;
                answers.names(id, &[(target.as_os_str(), target.to_string_lossy().into_owned(), None)]);
                Ok(())
            }
            Request::Limits => {
                answers.limits(id, MAX_HANDLES);
                Ok(())
            }
            Request::Close { .. }
            | Request::Write { .. }
            | Request::Sync { .. }
            | Request::SetStat { .. }
            | Request::HandleSetStat { .. }
            | Request::Remove { .. }
            | Request::Mkdir { .. }
            | Request::Rmdir { .. }
            | Request::Rename { .. }
            | Request::Symlink { .. }
            | Request::HardLink { .. }
            | Request::Unknown => {
                self.change(request).await?;
                answers.status(id, Code::Ok, "");
                Ok(())
            }
        }
    }

    /// Requests that are answered with a status alone.
    async fn change(&mut self, request: Request<'_>) -> Answered {
        let files = &self.files;
        match request {
            Request::Close { handle } => self.handles.remove(&handle).map(drop).ok_or(NO_HANDLE)?,
            Request::Write { handle, offset, data } => {
                self.file(handle)?.write_at(offset, Bytes::copy_from_slice(data)).await?;
            }
            Request::Sync { handle } => self.file(handle)?.sync().await?,
            Request::SetStat { path, set } => files.set_attributes(self.id, path, set).await?,
            Request::HandleSetStat { handle, set } => self.file(handle)?.set_attributes(set).await?,
            Request::Remove { path } => files.remove_file(self.id, path).await?,
            Request::Mkdir { path, set } => files.mkdir(self.id, path, set.mode.unwrap_or(DIR_MODE)).await?,
            Request::Rmdir { path } => files.remove_dir(self.id, path).await?,
            Request::Rename { from, to, replace } => files.rename(self.id, from, to, replace).await?,
            Request::Symlink { target, path } => files.symlink(self.id, target, path).await?,
            Request::HardLink { existing, path } => files.hard_link(self.id, existing, path).await?,
            Request::Open { .. }
            | Request::OpenDir { .. }
            | Request::Read { .. }
            | Request::ReadDir { .. }
            | Request::Stat { .. }
            | Request::HandleStat { .. }
            | Request::RealPath { .. }
            | Request::ReadLink { .. }
            | Request::Limits
            | Request::Unknown => return Err(Refusal::Protocol(Code::Unsupported, "not supported")),
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, path: &Path, how: OpenOptions, answers: &mut Answers) -> Answered {
        self.has_room()?;
        let reads_only = how == OpenOptions { read: true, ..OpenOptions::default() };
        let opened = match self.files.open(self.id, path, how).await {
            // As open(2) has it: Incus's client opens whatever it is to fetch, and then looks what it is.
            Err(FileError::IsDir) if reads_only => Handle::Dir(self.files.open_dir(self.id, path).await?),
            opened => Handle::File(opened?),
        };
        answers.handle(id, self.keep(opened));
        Ok(())
    }

    async fn open_dir(&mut self, id: u32, path: &Path, answers: &mut Answers) -> Answered {
        self.has_room()?;
        let dir = self.files.open_dir(self.id, path).await?;
        answers.handle(id, self.keep(Handle::Dir(dir)));
        Ok(())
    }

    async fn read(&self, id: u32, handle: u32, (offset, length): (u64, u32), answers: &mut Answers) -> Answered {
        let length = (length as usize).min(MAX_DATA);
        let data = self.file(handle)?.read_at(offset, length).await?;
        match data.is_empty() && length > 0 {
            true => answers.status(id, Code::Eof, "end of file"),
            false => answers.data(id, &data),
        }
        Ok(())
    }

    async fn read_dir(&mut self, id: u32, handle: u32, answers: &mut Answers) -> Answered {
        let Some(Handle::Dir(dir)) = self.handles.get_mut(&handle) else { return Err(NO_HANDLE) };
        let entries = dir.next(ENTRIES).await?;
        let name = |entry: &crate::port::files::FileEntry| wire::long_name(&entry.name, &entry.attributes);
        let names: Vec<(&OsStr, String, Option<&FileAttributes>)> =
            entries.iter().map(|entry| (entry.name.as_os_str(), name(entry), Some(&entry.attributes))).collect();
        match names.is_empty() {
            true => answers.status(id, Code::Eof, "end of folder"),
            false => answers.names(id, &names),
        }
        Ok(())
    }

    fn file(&self, handle: u32) -> Result<&Arc<dyn OpenFile>, Refusal> {
        match self.handles.get(&handle) {
            Some(Handle::File(file)) => Ok(file),
            Some(Handle::Dir(_)) | None => Err(NO_HANDLE),
        }
    }

    fn has_room(&self) -> Answered {
        match self.handles.len() < MAX_HANDLES {
            true => Ok(()),
            false => Err(Refusal::Protocol(Code::Failure, "too many open handles")),
        }
    }

    fn keep(&mut self, handle: Handle) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.handles.contains_key(&self.last) {
                self.handles.insert(self.last, handle);
                return self.last;
            }
        }
    }
}

fn options(flags: u32, set: &SetAttributes) -> OpenOptions {
    let has = |bit| flags & bit != 0;
    OpenOptions {
        read: has(READ),
        write: has(WRITE) || has(APPEND),
        append: has(APPEND),
        truncate: has(TRUNCATE),
        create: has(CREATE).then(|| set.mode.unwrap_or(FILE_MODE)),
        exclusive: has(EXCLUSIVE),
    }
}

/// The absolute form of a path, by its text alone: clients ask it of what does not exist yet.
fn canonical(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

fn code(error: &FileError) -> Code {
    match error {
        FileError::NotFound => Code::NoSuchFile,
        FileError::Permission => Code::PermissionDenied,
        FileError::Exists
        | FileError::NotEmpty
        | FileError::IsDir
        | FileError::NotDir
        | FileError::Loop
        | FileError::NoSpace
        | FileError::ReadOnly
        | FileError::Invalid(_)
        | FileError::Other(_)
        | FileError::Guest(_) => Code::Failure,
    }
}

#[cfg(test)]
mod tests;
