//! Files in guests: one path a call, attributes in headers, content streamed.

use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, BodyStream, Limited};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::client::Client;
use crate::envelope::Reply;
use crate::error::{Error, Result};
use crate::path::Path;
use crate::transport::{Answer, Connection, Payload, Streamed};
use crate::upload::{self, Builder, Progress};

/// Longest transfer of a file.
const TRANSFER: std::time::Duration = std::time::Duration::from_secs(6 * 3600);
/// Largest list of names, and longest target of a link, in bytes.
const SMALL: usize = 128 << 20;
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A file of a guest. Modes are permissions only.
#[derive(Debug)]
pub struct GuestFile {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub content: Content,
}

/// What is in a file of a guest.
#[derive(Debug)]
pub enum Content {
    /// Names, sorted.
    Folder(Vec<String>),
    /// Where a link leads.
    Symlink(String),
    File(Download),
}

/// A file's bytes, still to be read. Dropping it closes the connection.
pub struct Download {
    /// Bytes, as they were announced.
    pub length: u64,
    doing: String,
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    _connection: Connection,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Download {
    /// Writes all of it to `out`, telling its progress.
    ///
    /// # Errors
    /// When the transfer breaks off, also when it ends early, or `out` fails.
    pub async fn write_to<W: AsyncWrite + Unpin>(mut self, mut out: W, mut progress: Progress) -> Result<()> {
        let failed = |source| Error::Io { doing: "write what comes from the guest".into(), source };
        let mut received = 0;
        while let Some(bytes) = self.chunks.next().await {
            let bytes = bytes?;
            out.write_all(&bytes).await.map_err(failed)?;
            received += bytes.len() as u64;
            progress(received, self.length);
        }
        if received < self.length {
            return Err(Error::protocol(self.doing, format!("{received} of {} bytes came", self.length)));
        }
        out.flush().await.map_err(failed)
    }
}

/// What is written to a guest.
pub enum Source {
    /// A folder; one that is there is kept, with these attributes.
    Folder,
    /// A link that leads there.
    Symlink(String),
    Bytes(Vec<u8>),
    /// A file of this machine.
    File(PathBuf),
    /// Whatever is read, to its end.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Source {
    fn kind(&self) -> &'static str {
        match self {
            Self::Folder => "directory",
            Self::Symlink(_) => "symlink",
            Self::Bytes(_) | Self::File(_) | Self::Reader(_) => "file",
        }
    }
}

/// What a file is to have; what is not given, a file that exists keeps, and a new one gets 0644 (a folder 0750), root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
}

/// A file to be written.
#[derive(Debug)]
pub struct NewFile {
    pub attributes: Attributes,
    pub source: Source,
}

fn path(instance: &str, file: &str) -> Path {
    Path::of("instances").segment(instance).segment("files").with("path", file)
}

impl Client {
    /// A file of a guest, by its absolute path there. A link is not followed.
    ///
    /// # Errors
    /// When there is none, or it is a device, pipe or socket.
    pub async fn guest_file(&self, instance: &str, file: &str) -> Result<GuestFile> {
        let call = self.call(Method::GET, path(instance, file));
        let doing = call.doing();
        let answer = self.transport.streamed(call).await?;
        let number = |name: &str, radix| header(&answer.headers, name).and_then(|v| u32::from_str_radix(v, radix).ok());
        let (uid, gid, mode) = (number("uid", 10), number("gid", 10), number("mode", 8));
        let (Some(uid), Some(gid), Some(mode)) = (uid, gid, mode) else {
            return Err(Error::protocol(doing, "the file's attributes are missing"));
        };
        let content = match header(&answer.headers, "type") {
            Some("directory") => {
                let (headers, body) = small(answer, &doing).await?;
                let answer = Answer { status: http::StatusCode::OK, headers, body };
                Content::Folder(Reply::open(doing, &answer)?.metadata()?)
            }
            Some("symlink") => Content::Symlink(String::from_utf8_lossy(&small(answer, &doing).await?.1).into_owned()),
            Some("file") => Content::File(download(answer, doing)),
            other => return Err(Error::protocol(doing, format!("a file of kind {other:?}"))),
        };
        Ok(GuestFile { uid, gid, mode, content })
    }

    /// Writes a file of a guest: makes it, or replaces what is in it.
    ///
    /// # Errors
    /// When it cannot be written; a transfer that breaks off leaves what had come.
    pub async fn write_guest_file(&self, instance: &str, file: &str, new: NewFile, progress: Progress) -> Result<()> {
        let NewFile { attributes, source } = new;
        let mut call = self.call(Method::POST, path(instance, file)).deadline(TRANSFER);
        call = call.header(HeaderName::from_static("x-incus-type"), HeaderValue::from_static(source.kind()));
        let mode = attributes.mode.map(|mode| format!("{mode:04o}"));
        let (uid, gid) = (attributes.uid.map(|v| v.to_string()), attributes.gid.map(|v| v.to_string()));
        for (name, value) in [("x-incus-mode", mode), ("x-incus-uid", uid), ("x-incus-gid", gid)] {
            let value = value.map(|v| HeaderValue::from_str(&v).expect("digits are fine in a header"));
            if let Some(value) = value {
                call = call.header(HeaderName::from_static(name), value);
            }
        }
        call.payload = match source {
            Source::Folder => Payload::Empty,
            Source::Symlink(target) => Payload::Bytes(target.into(), OCTETS),
            Source::Bytes(bytes) => Payload::Bytes(bytes.into(), OCTETS),
            Source::File(local) => Payload::Stream(Builder::new().file(&local).await?.finish(progress), OCTETS),
            Source::Reader(reader) => Payload::Stream(upload::reader(reader), OCTETS),
        };
        self.reply(call).await.map(drop)
    }

    /// Deletes a file of a guest, or an empty folder.
    ///
    /// # Errors
    /// When it is not there, or a folder that is not empty.
    pub async fn delete_guest_file(&self, instance: &str, file: &str) -> Result<()> {
        self.reply(self.call(Method::DELETE, path(instance, file))).await.map(drop)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(format!("x-incus-{name}"))?.to_str().ok()
}

async fn small(answer: Streamed, doing: &str) -> Result<(HeaderMap, Bytes)> {
    let body = Limited::new(answer.body, SMALL).collect().await;
    Ok((answer.headers, body.map_err(|e| Error::transport(doing, e))?.to_bytes()))
}

fn download(answer: Streamed, doing: String) -> Download {
    let length = answer.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
    let during = doing.clone();
    let data = BodyStream::new(answer.body.map_err(move |e| Error::transport(during.clone(), e)));
    let chunks = data.map(|frame| Ok(frame?.into_data().unwrap_or_default()));
    Download { length, doing, chunks: Box::pin(chunks), _connection: answer.connection }
}
