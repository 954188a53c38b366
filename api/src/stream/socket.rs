//! Between a websocket and a stream of a guest. Data are binary frames; an empty text frame ends a direction.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::fd::Fd;

pub(crate) type Sink = SplitSink<WebSocket, Message>;
pub(crate) type Stream = SplitStream<WebSocket>;

/// How often the server pings.
pub(crate) const PING: Duration = Duration::from_secs(10);
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// After the guest's program has ended, how long nothing may come before its output counts as complete. A child that
/// it left behind may hold the pipe open for ever.
const QUIET: Duration = Duration::from_millis(250);
/// How long a closed socket waits for the client to close its side. Closing at once would reset the connection when
/// something unread is left, and the client could lose the end of the output.
const LINGER: Duration = Duration::from_secs(3);

pub(crate) fn split(socket: WebSocket) -> (Sink, Stream) {
    socket.split()
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The stream is through.
    Done,
    /// The client is gone.
    Lost,
}

/// Copies a guest's output to a socket until it ends, or until `exited` is set and it is quiet; then says so.
pub(crate) async fn pump_out(from: Arc<Fd>, mut to: Sink, exited: CancellationToken) -> Ended {
    let mut buffer = vec![0u8; CHUNK];
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    loop {
        // Cancel-safe: an fd read that has not happened loses nothing.
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = async { exited.cancelled().await; tokio::time::sleep(QUIET).await } => Ok(0),
            _ = ping.tick() => {
                if to.send(Message::Ping(Bytes::new())).await.is_err() {
                    return Ended::Lost;
                }
                continue;
            }
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if to.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                    return Ended::Lost;
                }
            }
        }
    }
    finish(&mut to).await
}

/// Ends a direction: the barrier, then the close.
pub(crate) async fn finish(to: &mut Sink) -> Ended {
    if to.send(Message::Text("".into())).await.is_err() {
        return Ended::Lost;
    }
    let _ = to.close().await;
    Ended::Done
}

/// Copies a client's input to a guest until the barrier (`Done`) or until the client is gone (`Lost`).
pub(crate) async fn pump_in(mut from: Stream, to: Arc<Fd>) -> Ended {
    while let Some(Ok(message)) = from.next().await {
        match message {
            Message::Binary(bytes) => {
                if to.write_all(&bytes).await.is_err() {
                    // The guest does not read any more; what else comes is thrown away.
                    break;
                }
            }
            Message::Text(text) if text.is_empty() => return Ended::Done,
            Message::Text(text) => {
                if to.write_all(text.as_bytes()).await.is_err() {
                    break;
                }
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return Ended::Lost,
        }
    }
    drop(to);
    drain(&mut from).await
}

/// Reads and forgets what comes, until the client is gone.
pub(crate) async fn drain(from: &mut Stream) -> Ended {
    while let Some(Ok(message)) = from.next().await {
        if matches!(message, Message::Close(_)) {
            break;
        }
    }
    Ended::Lost
}

/// Gives the client time to close its side.
pub(crate) async fn linger(mut from: Stream) {
    let _ = tokio::time::timeout(LINGER, drain(&mut from)).await;
}
