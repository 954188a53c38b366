//! Files of guests over HTTP (§2.9 of the contract): attributes in headers, content in bodies, and the door to SFTP.
//!
//! Every header is sent in both families, `X-LXD-*` and `X-Incus-*`, and taken from either. Bodies stream: nothing but
//! one piece of a file is in memory. An upload that breaks off leaves what had come.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use basalt_model::InstanceId;
use futures_util::StreamExt;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::sftp;
use crate::dialect::header;
use crate::error::Error;
use crate::port::files::{FileAttributes, FileError, FileKind, Files, OpenFile, OpenOptions, SetAttributes};
use crate::reply::{self, Reply};
use crate::task::Tasks;

/// Bytes of a file that are read at once.
const CHUNK: usize = 128 * 1024;
/// Longest target of a link: no path is longer.
const MAX_TARGET: usize = 4096;
/// Names of a folder in one answer, in bytes.
const MAX_NAMES: usize = 64 << 20;
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o750;

/// `GET` and `HEAD INST/files?path=`.
///
/// # Errors
/// There is no such file, or it cannot be read.
pub(crate) async fn get(files: Arc<dyn Files>, id: InstanceId, path: &str, method: &Method) -> Reply {
    let path = checked(path)?;
    let refused = |error| refusal(&path, error);
    let found = files.stat(id, &path, false).await.map_err(refused)?;
    let body = *method != Method::HEAD;
    let mut response = match found.kind {
        FileKind::Dir if body => reply::sync(names(files.as_ref(), id, &path).await.map_err(refused)?)?,
        FileKind::Dir => reply::raw("application/json", Body::empty()),
        FileKind::Symlink if body => {
            let target = files.readlink(id, &path).await.map_err(refused)?;
            reply::raw("application/octet-stream", target.as_os_str().as_bytes().to_vec())
        }
        FileKind::File if body => {
            let how = OpenOptions { read: true, ..OpenOptions::default() };
            let file = files.open(id, &path, how).await.map_err(refused)?;
            let size = file.attributes().await.map_err(refused)?.size;
            sized(content(file, size), size)
        }
        FileKind::File => sized(Body::empty(), found.size),
        FileKind::Symlink => reply::raw("application/octet-stream", Body::empty()),
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            return Err(Error::Refused(format!("{}: is a device, pipe or socket", path.display())));
        }
    };
    describe(response.headers_mut(), &found)?;
    Ok(response)
}

/// `POST INST/files?path=`.
///
/// # Errors
/// The headers make no sense, or it cannot be written.
pub(crate) async fn post(files: Arc<dyn Files>, id: InstanceId, path: &str, headers: &HeaderMap, body: Body) -> Reply {
    let path = checked(path)?;
    let set = SetAttributes {
        uid: number(headers, "uid")?,
        gid: number(headers, "gid")?,
        mode: mode(headers)?,
        ..SetAttributes::default()
    };
    match header(headers, "type").unwrap_or("file") {
        "file" => {
            let append = match header(headers, "write").unwrap_or("overwrite") {
                "overwrite" => false,
                "append" => true,
                other => return Err(Error::invalid("X-Incus-write", format!("{other:?} is not overwrite or append"))),
            };
            let how = OpenOptions {
                write: true,
                append,
                truncate: !append,
                create: Some(set.mode.unwrap_or(FILE_MODE)),
                ..OpenOptions::default()
            };
            let file = files.open(id, &path, how).await.map_err(|e| refusal(&path, e))?;
            upload(file.as_ref(), &path, set, body).await?;
        }
        "directory" => make_dir(files.as_ref(), id, &path, set).await.map_err(|e| refusal(&path, e))?,
        "symlink" => {
            let target = axum::body::to_bytes(body, MAX_TARGET).await.map_err(|_| Error::TooLarge(MAX_TARGET))?;
            let target = Path::new(std::ffi::OsStr::from_bytes(&target));
            files.symlink(id, target, &path).await.map_err(|e| refusal(&path, e))?;
        }
        other => return Err(Error::invalid("X-Incus-type", format!("{other:?} is not file, symlink or directory"))),
    }
    reply::empty()
}

/// `DELETE INST/files?path=`: a file, or an empty folder.
///
/// # Errors
/// It is not there, or not empty.
pub(crate) async fn delete(files: Arc<dyn Files>, id: InstanceId, path: &str) -> Reply {
    let path = checked(path)?;
    let refused = |error| refusal(&path, error);
    match files.stat(id, &path, false).await.map_err(refused)?.kind {
        FileKind::Dir => files.remove_dir(id, &path).await.map_err(refused)?,
        FileKind::File
        | FileKind::Symlink
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => files.remove_file(id, &path).await.map_err(refused)?,
    }
    reply::empty()
}

/// `GET INST/sftp`: the connection becomes one of SFTP.
///
/// # Errors
/// The request asks for no such upgrade, or the guest's files cannot be had now.
pub(crate) async fn sftp(tasks: &Tasks, files: Arc<dyn Files>, id: InstanceId, mut request: Request) -> Reply {
    let asked = request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"sftp"));
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>().filter(|_| asked) else {
        return Err(Error::Refused("Missing or invalid upgrade header".into()));
    };
    // What is wrong is better said in HTTP than on every request of the session.
    let root = Path::new("/");
    files.stat(id, root, true).await.map_err(|e| refusal(root, e))?;
    tasks.spawn("api sftp", async move {
        let served = match upgrade.await {
            Ok(stream) => sftp::serve(TokioIo::new(stream), files, id).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = served {
            tracing::debug!(instance = %id, %error, "an SFTP session broke off");
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("sftp"));
    Ok(response)
}

fn checked(path: &str) -> Result<PathBuf, Error> {
    match path.is_empty() || path.contains('\0') {
        true => Err(Error::invalid("path", "is missing or malformed")),
        false => Ok(PathBuf::from(path)),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<u32>, Error> {
    let Some(text) = header(headers, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::invalid(format!("X-Incus-{name}"), format!("{text:?} is not an id")))
}

/// Octal, with or without a leading `0` or `0o`. What kind of file it is (pylxd sends all that `stat` gave) is not looked
/// at: that is in another header.
fn mode(headers: &HeaderMap) -> Result<Option<u32>, Error> {
    let Some(text) = header(headers, "mode").filter(|text| !text.is_empty()) else { return Ok(None) };
    match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
        Ok(mode) if mode <= 0o177_777 => Ok(Some(mode & 0o7777)),
        Ok(_) | Err(_) => Err(Error::invalid("X-Incus-mode", format!("{text:?} is not an octal mode"))),
    }
}

async fn upload(file: &dyn OpenFile, path: &Path, set: SetAttributes, body: Body) -> Result<(), Error> {
    let refused = |error| refusal(path, error);
    let mut pieces = body.into_data_stream();
    let mut offset = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Error::invalid("body", "ended early"))?;
        let length = piece.len() as u64;
        file.write_at(offset, piece).await.map_err(refused)?;
        offset += length;
    }
    // Last, since writing clears set-uid bits. What exists keeps what is not given.
    match set == SetAttributes::default() {
        true => Ok(()),
        false => file.set_attributes(set).await.map_err(refused),
    }
}

/// Makes a folder; one that is there already is a success.
async fn make_dir(files: &dyn Files, id: InstanceId, path: &Path, set: SetAttributes) -> Result<(), FileError> {
    match files.mkdir(id, path, set.mode.unwrap_or(DIR_MODE)).await {
        Ok(()) => {}
        Err(FileError::Exists) if files.stat(id, path, true).await?.kind == FileKind::Dir => {}
        Err(error) => return Err(error),
    }
    match set == SetAttributes::default() {
        true => Ok(()),
        false => files.set_attributes(id, path, set).await,
    }
}

async fn names(files: &dyn Files, id: InstanceId, path: &Path) -> Result<Vec<String>, FileError> {
    let mut dir = files.open_dir(id, path).await?;
    let (mut names, mut bytes) = (Vec::new(), 0);
    loop {
        let entries = dir.next(1024).await?;
        if entries.is_empty() {
            names.sort_unstable();
            return Ok(names);
        }
        for entry in entries {
            bytes += entry.name.len();
            names.push(entry.name.to_string_lossy().into_owned());
        }
        if bytes > MAX_NAMES {
            return Err(FileError::Other("the folder has too many entries for one answer; use SFTP".into()));
        }
    }
}

/// Exactly `size` bytes: a file that shrinks meanwhile breaks the answer off, rather than make it look complete.
fn content(file: Arc<dyn OpenFile>, size: u64) -> Body {
    let pieces = futures_util::stream::try_unfold((file, 0), move |(file, offset)| async move {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let piece = file.read_at(offset, left.min(CHUNK)).await.map_err(io::Error::other)?;
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was read"));
        }
        let next = offset + piece.len() as u64;
        Ok(Some((piece, (file, next))))
    });
    Body::from_stream(pieces)
}

fn sized(body: Body, size: u64) -> Response {
    let mut response = reply::raw("application/octet-stream", body);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    response
}

fn describe(headers: &mut HeaderMap, found: &FileAttributes) -> Result<(), Error> {
    let kind = match found.kind {
        FileKind::Dir => "directory",
        FileKind::Symlink => "symlink",
        FileKind::File | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => "file",
    };
    let values = [
        ("uid", found.uid.to_string()),
        ("gid", found.gid.to_string()),
        ("mode", format!("{:04o}", found.mode)),
        ("modified", time_text(found.modified)),
        ("type", kind.to_owned()),
    ];
    for (name, value) in values {
        let value = HeaderValue::from_str(&value).map_err(|e| Error::Internal(e.to_string()))?;
        for family in ["x-lxd", "x-incus"] {
            let name = HeaderName::try_from(format!("{family}-{name}")).map_err(|e| Error::Internal(e.to_string()))?;
            headers.insert(name, value.clone());
        }
    }
    debug_assert!(headers.contains_key(CONTENT_TYPE));
    Ok(())
}

/// As Go prints a time.
fn time_text(at: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(at).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, month) = (at.date(), u8::from(at.month()));
    let (hour, minute, second) = at.to_hms();
    format!("{:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} +0000 UTC", date.year(), date.day())
}

fn refusal(path: &Path, error: FileError) -> Error {
    let path = path.display();
    let text = format!("{path}: {error}");
    match error {
        FileError::NotFound => Error::NotFound(format!("File {:?}", path.to_string())),
        FileError::Permission => Error::Forbidden(text),
        FileError::Exists => Error::Conflict(text),
        FileError::NoSpace => Error::NoSpace(text),
        FileError::NotEmpty
        | FileError::IsDir
        | FileError::NotDir
        | FileError::Loop
        | FileError::ReadOnly
        | FileError::Invalid(_) => Error::Refused(text),
        FileError::Other(_) => Error::Internal(text),
        FileError::Guest(error) => error.into(),
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
