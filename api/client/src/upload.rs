//! Bodies made of files: sent as they are read, with their length announced and their progress told.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::error::{Error, Result};
use crate::transport::Body;

const CHUNK: usize = 256 << 10;

/// Told `(bytes sent, bytes in all)` from time to time.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body under construction.
pub(crate) struct Builder {
    chunks: Chunks,
    length: u64,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { chunks: Box::pin(futures_util::stream::empty()), length: 0 }
    }

    pub(crate) fn bytes(self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = self.length + bytes.len() as u64;
        let more = futures_util::stream::once(std::future::ready(Ok(bytes)));
        Self { chunks: Box::pin(self.chunks.chain(more)), length }
    }

    pub(crate) async fn file(self, path: &Path) -> Result<Self> {
        let failed = |source| Error::Io { doing: format!("read {}", path.display()), source };
        let file = File::open(path).await.map_err(failed)?;
        let facts = file.metadata().await.map_err(failed)?;
        if !facts.is_file() {
            return Err(Error::Invalid(format!("{} is not a regular file", path.display())));
        }
        // No more than was announced, should the file grow meanwhile; should it shrink, `Counted` fails the body.
        let limited = tokio::io::AsyncReadExt::take(file, facts.len());
        let more = ReaderStream::with_capacity(limited, CHUNK);
        Ok(Self { chunks: Box::pin(self.chunks.chain(more)), length: self.length + facts.len() })
    }

    pub(crate) fn finish(self, progress: Progress) -> Body {
        Counted { chunks: self.chunks, sent: 0, length: self.length, progress }.boxed_unsync()
    }
}

/// A body of unknown length: whatever `reader` gives to its end.
pub(crate) fn reader(reader: impl tokio::io::AsyncRead + Send + 'static) -> Body {
    http_body_util::StreamBody::new(ReaderStream::with_capacity(reader, CHUNK).map(|piece| piece.map(Frame::data)))
        .boxed_unsync()
}

struct Counted {
    chunks: Chunks,
    sent: u64,
    length: u64,
    progress: Progress,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        this.chunks.as_mut().poll_next(cx).map(|next| match next {
            Some(Ok(bytes)) => {
                this.sent += bytes.len() as u64;
                (this.progress)(this.sent, this.length);
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => Some(Err(error)),
            None if this.sent < this.length => Some(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file became shorter: {} of {} bytes", this.sent, this.length),
            ))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length - self.sent)
    }
}

/// The two files of a split image as `multipart/form-data`, in the order the API wants them.
pub(crate) async fn multipart(boundary: &str, parts: &[(&str, PathBuf)]) -> Result<Builder> {
    let mut body = Builder::new();
    for (name, path) in parts {
        let file = path.file_name().and_then(|n| n.to_str()).unwrap_or("file").replace(['"', '\r', '\n'], "_");
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body = body.bytes(head).file(path).await?.bytes("\r\n");
    }
    Ok(body.bytes(format!("--{boundary}--\r\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_multipart_body_has_the_announced_length() {
        let path = std::env::temp_dir().join(format!("basalt-upload-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, vec![7u8; CHUNK + 5]).unwrap();
        let parts = [("metadata", path.clone()), ("rootfs", path.clone())];
        let seen = std::sync::Arc::new(std::sync::Mutex::new((0, 0)));
        let told = seen.clone();
        let body = multipart("b0", &parts)
            .await
            .unwrap()
            .finish(Box::new(move |sent, all| *told.lock().unwrap() = (sent, all)));
        let announced = hyper::body::Body::size_hint(&body).exact().unwrap();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, announced);
        assert_eq!(*seen.lock().unwrap(), (announced, announced));
        assert!(bytes.starts_with(b"--b0\r\nContent-Disposition: form-data; name=\"metadata\""));
        assert!(bytes.ends_with(b"\r\n--b0--\r\n"));
        std::fs::remove_file(path).unwrap();
    }
}
