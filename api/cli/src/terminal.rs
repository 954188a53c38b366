//! The user's terminal: raw while a program in a guest owns it, put back whatever happens; its size and its changes.

use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use basalt_client::Control;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// Whether a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Columns and rows of the terminal; a usual size where there is none.
pub(crate) fn size() -> (u16, u16) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}

/// Raw mode for as long as this lives.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    pub(crate) fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).context("cannot make the terminal raw")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing is left to do when the terminal itself is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Tells the guest each new size of the terminal. Never ends by itself.
pub(crate) async fn follow_size(control: mpsc::Sender<Control>) -> Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    while changes.recv().await.is_some() {
        let (columns, rows) = size();
        if control.send(Control::Resize { columns, rows }).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Passes on signals to a program without a terminal of its own. Never ends by itself.
pub(crate) async fn follow_signals(control: mpsc::Sender<Control>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    loop {
        // Each `recv` is cancel-safe: a signal that came meanwhile is seen the next time round.
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
            _ = quit.recv() => SignalKind::quit(),
            _ = user1.recv() => SignalKind::user_defined1(),
            _ = user2.recv() => SignalKind::user_defined2(),
        };
        if control.send(Control::Signal(kind.as_raw_value())).await.is_err() {
            return std::future::pending().await;
        }
    }
}

const CTRL_A: u8 = 1;

/// Input in which Ctrl-A q means "leave me alone with my own terminal again"; Ctrl-A twice is one Ctrl-A.
pub(crate) struct Detachable<R> {
    inner: R,
    escaped: bool,
    left: Option<oneshot::Sender<()>>,
}

impl<R> Detachable<R> {
    /// The input, and what tells that the user has left.
    pub(crate) fn new(inner: R) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { inner, escaped: false, left: Some(sender) }, receiver)
    }

    /// What remains of `bytes` to be sent on; `None` when the user leaves.
    fn filter(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut kept = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if std::mem::take(&mut self.escaped) {
                match byte {
                    b'q' | b'Q' => return None,
                    CTRL_A => kept.push(CTRL_A),
                    other => kept.extend([CTRL_A, other]),
                }
            } else if byte == CTRL_A {
                self.escaped = true;
            } else {
                kept.push(byte);
            }
        }
        Some(kept)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Detachable<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            // Half the room: every byte may have a held-back Ctrl-A before it.
            let mut room = [0; 4096];
            let length = room.len().min(out.remaining() / 2).max(1);
            let mut buffer = ReadBuf::new(&mut room[..length]);
            std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            match this.filter(buffer.filled()) {
                // Nothing to send on yet; an empty read would mean the end.
                Some(kept) if kept.is_empty() => {}
                Some(kept) => {
                    out.put_slice(&kept);
                    return Poll::Ready(Ok(()));
                }
                None => {
                    if let Some(left) = this.left.take() {
                        // The receiver is gone only when the session is over anyway.
                        let _ = left.send(());
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_q_leaves_and_ctrl_a_twice_is_one() {
        let (mut input, _left) = Detachable::new(tokio::io::empty());
        assert_eq!(input.filter(b"ls\n").unwrap(), b"ls\n");
        assert_eq!(input.filter(&[b'x', CTRL_A]).unwrap(), b"x");
        assert_eq!(input.filter(&[CTRL_A, b'y']).unwrap(), [CTRL_A, b'y']);
        assert_eq!(input.filter(&[CTRL_A, b'z']).unwrap(), [CTRL_A, b'z']);
        assert!(input.filter(&[CTRL_A, b'q']).is_none());
    }
}
