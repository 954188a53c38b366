//! A file descriptor of a guest's stream (pipe, terminal or socket), read and written without blocking a thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Our end of a stream.
#[derive(Debug)]
pub(crate) struct Fd(AsyncFd<OwnedFd>);

impl Fd {
    /// Makes `fd` non-blocking and registers it.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let writable = matches!(flags & OFlag::O_ACCMODE, OFlag::O_RDWR | OFlag::O_WRONLY);
        let readable = flags & OFlag::O_ACCMODE != OFlag::O_WRONLY;
        let interest = match (readable, writable) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            (_, false) => Interest::READABLE,
        };
        #[expect(deprecated, reason = "the sound one is unsafe to call; an OwnedFd keeps its number and stays open")]
        AsyncFd::with_interest(fd, interest).map(Fd)
    }

    /// Reads what is there; 0 at the end. A terminal whose other side is closed has ended. Cancel-safe.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd.as_fd(), buffer)?)).await;
        match read {
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Ok(0),
            other => other,
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd.as_fd(), bytes)?)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}
