//! Programs run in guests (§2.7 of the contract).
//!
//! ```text
//!  all data sockets attached (deadline) -> start -> pumps -> exit -> drain -> barriers, close -> operation ends
//!        control socket: window-resize, signal; losing it, or stdout, kills the program
//! ```

mod record;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use basalt_model::InstanceId;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use record::{Recordings, run_recorded};

use super::fd::Fd;
use super::socket::{self, Ended};
use crate::api::Api;
use crate::dto::instance::Control;
use crate::error::Error;
use crate::port::{ExecRequest, GuestIo, GuestProcess};

/// How long sockets may take to attach. Stock servers allow 5 s, and users on slow links hit that.
pub(crate) const ATTACH_DEADLINE: Duration = Duration::from_secs(30);
/// Exit code when the client has gone.
const VANISHED: i32 = 129;
/// How long a killed program may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// The sockets of one program.
pub(crate) struct Sockets {
    /// `0`, and `1` and `2` unless interactive.
    pub(crate) data: Vec<oneshot::Receiver<WebSocket>>,
    pub(crate) control: oneshot::Receiver<WebSocket>,
}

/// What a control socket asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Resize(u16, u16),
    Signal(i32),
}

/// Orders from a control socket; an ended channel is quiet for ever.
pub(crate) struct Controlled(mpsc::Receiver<Order>);

impl Controlled {
    pub(crate) fn new(orders: mpsc::Receiver<Order>) -> Self {
        Controlled(orders)
    }

    pub(crate) async fn next(&mut self) -> Order {
        match self.0.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}

/// Does what was asked for.
pub(crate) fn obey(process: &dyn GuestProcess, order: Order) {
    let done = match order {
        Order::Resize(columns, rows) => process.resize(columns, rows),
        Order::Signal(signal) => process.signal(signal),
    };
    if let Err(error) = done {
        tracing::debug!(%error, ?order, "a control order was not obeyed");
    }
}

/// Runs a program with websockets.
pub(crate) async fn run(api: Arc<Api>, id: InstanceId, request: ExecRequest, sockets: Sockets) -> Result<i32, Error> {
    let attached = async {
        let mut sockets_in = Vec::new();
        for socket in sockets.data {
            sockets_in.push(socket.await.ok()?);
        }
        Some(sockets_in)
    };
    let data = tokio::time::timeout(ATTACH_DEADLINE, attached)
        .await
        .ok()
        .flatten()
        .ok_or_else(|| Error::Refused("Timed out waiting for websockets to connect".into()))?;
    let (io, process) = match api.ports.guests.exec(id, request).await {
        Ok(started) => started,
        Err(error) => {
            for socket in data {
                let (mut sink, _) = socket::split(socket);
                let _ = socket::finish(&mut sink).await;
            }
            return Err(error.into());
        }
    };
    let gone = CancellationToken::new();
    let orders = control(sockets.control, gone.clone());
    let exited = CancellationToken::new();
    let mut streams = Streams { api, gone: gone.clone(), exited: exited.clone(), outputs: Vec::new() };
    streams.start(io, data)?;
    let code = supervise(process, orders, &gone).await;
    exited.cancel();
    // Output first, then the barriers and closes, then the end of the operation: clients wait for all of them.
    streams.finished().await;
    code
}

/// Waits for the program, passing on orders; kills it when the client has gone.
async fn supervise(
    mut process: Box<dyn GuestProcess>,
    orders: mpsc::Receiver<Order>,
    gone: &CancellationToken,
) -> Result<i32, Error> {
    let mut orders = Controlled::new(orders);
    loop {
        // `wait` is cancel-safe by its contract, so dropping it to obey an order loses nothing.
        tokio::select! {
            code = process.wait() => return Ok(code?),
            order = orders.next() => obey(process.as_ref(), order),
            () = gone.cancelled() => break,
        }
    }
    let _ = process.signal(nix::libc::SIGKILL);
    let _ = tokio::time::timeout(KILL_DEADLINE, process.wait()).await;
    Ok(VANISHED)
}

/// The tasks that move a program's streams.
struct Streams {
    api: Arc<Api>,
    /// Set when the client has gone.
    gone: CancellationToken,
    /// Set when the program has ended.
    exited: CancellationToken,
    outputs: Vec<oneshot::Receiver<()>>,
}

impl Streams {
    fn start(&mut self, io: GuestIo, data: Vec<WebSocket>) -> Result<(), Error> {
        let fd = |fd| Fd::new(fd).map(Arc::new).map_err(|e| Error::Internal(format!("guest stream: {e}")));
        let mut sockets = data.into_iter();
        let mut next = || sockets.next().ok_or_else(|| Error::Internal("a socket is missing".into()));
        match io {
            GuestIo::Terminal(terminal) => {
                let terminal = fd(terminal)?;
                self.terminal(terminal, next()?);
            }
            GuestIo::Pipes { stdin, stdout, stderr } => {
                let (stdin, stdout, stderr) = (fd(stdin)?, fd(stdout)?, fd(stderr)?);
                self.stdin(stdin, next()?);
                self.output(stdout, next()?);
                self.output(stderr, next()?);
            }
        }
        Ok(())
    }

    /// One socket for both directions; losing it kills.
    fn terminal(&mut self, terminal: Arc<Fd>, socket: WebSocket) {
        let (sink, stream) = socket::split(socket);
        let (done, finished) = oneshot::channel();
        let (gone_in, gone_out) = (self.gone.clone(), self.gone.clone());
        let (exited_in, exited_out) = (self.exited.clone(), self.exited.clone());
        let input = terminal.clone();
        self.api.tasks.spawn("exec terminal in", async move {
            let mut from = stream;
            // The end of input says nothing in a terminal; only the socket's end does.
            if forward_terminal(&mut from, &input).await == Ended::Lost && !exited_in.is_cancelled() {
                gone_in.cancel();
            }
            socket::linger(from).await;
        });
        self.api.tasks.spawn("exec terminal out", async move {
            if socket::pump_out(terminal, sink, exited_out).await == Ended::Lost {
                gone_out.cancel();
            }
            let _ = done.send(());
        });
        self.outputs.push(finished);
    }

    /// Input only: its end closes the guest's stdin, and losing it is no reason to kill.
    fn stdin(&mut self, stdin: Arc<Fd>, socket: WebSocket) {
        let (mut sink, stream) = socket::split(socket);
        let (done, finished) = oneshot::channel();
        let exited = self.exited.clone();
        self.api.tasks.spawn("exec stdin", async move {
            let pump = socket::pump_in(stream, stdin);
            tokio::pin!(pump);
            let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + socket::PING, socket::PING);
            let mut input = true;
            loop {
                tokio::select! {
                    () = exited.cancelled() => break,
                    _ = &mut pump, if input => input = false,
                    _ = ping.tick() => if sink.send(Message::Ping(bytes::Bytes::new())).await.is_err() { break },
                }
            }
            let _ = socket::finish(&mut sink).await;
            let _ = done.send(());
            // What the client still sends is read and thrown away, so that the close reaches it.
            if input {
                let _ = tokio::time::timeout(Duration::from_secs(3), pump).await;
            }
        });
        self.outputs.push(finished);
    }

    /// Output only; losing the socket kills.
    fn output(&mut self, from: Arc<Fd>, socket: WebSocket) {
        let (sink, mut stream) = socket::split(socket);
        let (done, finished) = oneshot::channel();
        let (gone, exited) = (self.gone.clone(), self.exited.clone());
        let sent = CancellationToken::new();
        let (lost, through) = (gone.clone(), sent.clone());
        self.api.tasks.spawn("exec output socket", async move {
            // Reading is what answers pings and notices that the client is gone.
            let _ = socket::drain(&mut stream).await;
            if !through.is_cancelled() {
                lost.cancel();
            }
        });
        self.api.tasks.spawn("exec output", async move {
            if socket::pump_out(from, sink, exited).await == Ended::Lost {
                gone.cancel();
            }
            sent.cancel();
            let _ = done.send(());
        });
        self.outputs.push(finished);
    }

    /// Waits until all output is with the client.
    async fn finished(self) {
        for output in self.outputs {
            let _ = output.await;
        }
    }
}

/// A terminal's input until the socket ends.
async fn forward_terminal(from: &mut socket::Stream, to: &Fd) -> Ended {
    while let Some(Ok(message)) = from.next().await {
        let bytes: &[u8] = match &message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.as_bytes(),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return Ended::Lost,
        };
        if to.write_all(bytes).await.is_err() {
            return Ended::Done;
        }
    }
    Ended::Lost
}

/// Reads a control socket, whenever it attaches. When it goes away, `gone` is set.
pub(crate) fn control(socket: oneshot::Receiver<WebSocket>, gone: CancellationToken) -> mpsc::Receiver<Order> {
    let (orders, receiver) = mpsc::channel(16);
    let reading = async move {
        let Ok(socket) = socket.await else { return };
        let (mut sink, mut stream) = socket::split(socket);
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + socket::PING, socket::PING);
        loop {
            tokio::select! {
                () = orders.closed() => break,
                _ = ping.tick() => if sink.send(Message::Ping(bytes::Bytes::new())).await.is_err() { break },
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if let Some(order) = read_order(&text)
                            && orders.send(order).await.is_err()
                        {
                            break;
                        }
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        if let Some(order) = std::str::from_utf8(&bytes).ok().and_then(read_order)
                            && orders.send(order).await.is_err()
                        {
                            break;
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        if !orders.is_closed() {
                            gone.cancel();
                        }
                        break;
                    }
                },
            }
        }
        let _ = sink.close().await;
    };
    crate::task::detached("exec control", reading);
    receiver
}

fn read_order(text: &str) -> Option<Order> {
    // Not plain JSON: Go's clients send `null` for the arguments of a signal.
    let control: Control = crate::call::parse_json(text.as_bytes()).ok()?;
    match control.command.as_str() {
        "window-resize" => {
            let size = |name: &str| control.args.get(name)?.parse().ok();
            Some(Order::Resize(size("width")?, size("height")?))
        }
        "signal" => control.signal.map(Order::Signal),
        _ => None,
    }
}

/// The operation's metadata of a program that has ended.
pub(crate) fn returned(code: i32) -> Map<String, Value> {
    [("return".to_owned(), json!(code))].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_orders() {
        let resize = r#"{"command":"window-resize","args":{"width":"120","height":"40"}}"#;
        assert!(matches!(read_order(resize), Some(Order::Resize(120, 40))));
        assert!(matches!(read_order(r#"{"command":"signal","signal":15}"#), Some(Order::Signal(15))));
        let stock = r#"{"command":"signal","args":null,"signal":15}"#;
        assert!(matches!(read_order(stock), Some(Order::Signal(15))));
        assert!(read_order(r#"{"command":"dance"}"#).is_none());
        assert!(read_order("x").is_none());
    }
}
