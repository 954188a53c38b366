//! Moving bytes between local streams and the websockets of exec and console: binary frames, an empty text frame for
//! the end of a stream. A slow side slows the other: nothing is buffered beyond one frame and the socket's own buffer.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use basalt_api::dto::instance as dto;

use crate::error::{Error, Result};
use crate::transport::WebSocket;

/// Bytes in one frame at most.
const FRAME: usize = 64 << 10;

pub(crate) type Sink = SplitSink<WebSocket, Message>;
pub(crate) type Source = SplitStream<WebSocket>;

/// What a user may do to a running program beside feeding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// New size of its terminal.
    Resize { columns: u16, rows: u16 },
    /// A signal, by its Linux number.
    Signal(i32),
}

impl Control {
    fn message(self) -> String {
        let wire = match self {
            Self::Resize { columns, rows } => dto::Control {
                command: "window-resize".to_owned(),
                args: [("width", columns), ("height", rows)].map(|(k, v)| (k.to_owned(), v.to_string())).into(),
                signal: None,
            },
            Self::Signal(signal) => {
                dto::Control { command: "signal".to_owned(), signal: Some(signal), ..dto::Control::default() }
            }
        };
        serde_json::to_string(&wire).expect("text and numbers always serialise")
    }
}

/// Sends `input` to its end, then says so. A socket that the member has closed only ends it: the program wants no more.
pub(crate) async fn send<I: AsyncRead + Unpin>(mut input: I, sink: &mut Sink) -> Result<()> {
    let mut buffer = vec![0; FRAME];
    loop {
        let length =
            input.read(&mut buffer).await.map_err(|source| Error::Io { doing: "read the input".to_owned(), source })?;
        let end = length == 0;
        let message =
            if end { Message::text("") } else { Message::binary(bytes::Bytes::copy_from_slice(&buffer[..length])) };
        if sink.send(message).await.is_err() || end {
            return Ok(());
        }
    }
}

/// Writes what comes to `output`, until the member says that it is all, or closes.
pub(crate) async fn receive<O: AsyncWrite + Unpin>(source: &mut Source, mut output: O) -> Result<()> {
    let failed = |source| Error::Io { doing: "write the output".to_owned(), source };
    while let Some(message) = source.next().await {
        match message.map_err(|e| Error::transport("stream of a running program", e))? {
            Message::Binary(bytes) => {
                output.write_all(&bytes).await.map_err(failed)?;
                output.flush().await.map_err(failed)?;
            }
            // The empty text frame is the end; text that is not empty is output all the same.
            Message::Text(text) if text.is_empty() => break,
            Message::Text(text) => output.write_all(text.as_bytes()).await.map_err(failed)?,
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    output.flush().await.map_err(failed)
}

/// Reads a socket that only carries data the other way, so that pings are answered.
pub(crate) async fn answer_pings(source: &mut Source) {
    while let Some(Ok(message)) = source.next().await {
        if message.is_close() {
            break;
        }
    }
}

/// Passes on what `wanted` asks, until the socket is gone. Ends only then: the socket is also the program's lease.
pub(crate) async fn control(socket: WebSocket, mut wanted: mpsc::Receiver<Control>) {
    let (mut sink, mut source) = socket.split();
    let pass_on = async {
        while let Some(control) = wanted.recv().await {
            if sink.send(Message::text(control.message())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(pass_on, answer_pings(&mut source));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_those_of_the_contract() {
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&Control::Resize { columns: 120, rows: 40 }.message()).unwrap(),
            serde_json::json!({"command": "window-resize", "args": {"width": "120", "height": "40"}})
        );
        assert_eq!(Control::Signal(15).message(), r#"{"command":"signal","signal":15}"#);
    }
}
