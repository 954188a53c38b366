//! A connection whose last word is ours: hyper closes one whose head comes too slowly without saying why.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// A stream in two hands: hyper's, and ours for when hyper has let go of it.
#[derive(Debug)]
pub(super) struct Tap<S> {
    inner: Arc<Mutex<Inner<S>>>,
}

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    /// Something was read since we last wrote: a request has begun.
    begun: bool,
}

impl<S> Clone for Tap<S> {
    fn clone(&self) -> Self {
        Tap { inner: self.inner.clone() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tap<S> {
    pub(super) fn new(stream: S) -> Self {
        Tap { inner: Arc::new(Mutex::new(Inner { stream, begun: false })) }
    }

    /// Whether a request has begun that was not answered.
    pub(super) fn begun(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).begun
    }

    /// Says a last word and closes. What goes wrong is nobody's business any more.
    pub(super) async fn say(mut self, text: &[u8]) {
        if self.write_all(text).await.is_ok() {
            let _ = self.shutdown().await;
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner<S>) -> T) -> T {
        // Never contended: hyper has let go when we take it.
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.with(|inner| {
            let before = buf.filled().len();
            let polled = Pin::new(&mut inner.stream).poll_read(cx, buf);
            inner.begun |= buf.filled().len() > before;
            polled
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.with(|inner| {
            inner.begun = false;
            Pin::new(&mut inner.stream).poll_write(cx, buf)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|inner| Pin::new(&mut inner.stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|inner| Pin::new(&mut inner.stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.with(|inner| {
            inner.begun = false;
            Pin::new(&mut inner.stream).poll_write_vectored(cx, bufs)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.with(|inner| inner.stream.is_write_vectored())
    }
}
