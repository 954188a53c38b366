//! A running program's sockets: attached all together, pumped until its output has ended, its exit code collected.
//!
//! ```text
//!  terminal   local in ──> 0 ──> local out                    control: sizes, signals, and the program's lease
//!  pipes      local in ──> 0     1 ──> local out     2 ──> local err
//! ```
//!
//! The program has ended when its outputs have (each says so with an empty text frame) and its operation is final.
//! Dropping a session closes the sockets, on which the member kills the program.

use std::future::pending;

use futures_util::StreamExt;
use futures_util::future::{try_join, try_join_all};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use basalt_api::dto::operation::Operation;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::path::Path;
use crate::pump::{self, Control};
use crate::transport::WebSocket;

/// A program that runs in a guest, or its console, attached to this client.
pub struct Session {
    client: Client,
    operation: Operation,
    streams: Streams,
    control: WebSocket,
}

enum Streams {
    Terminal(Box<WebSocket>),
    /// Input, output, error output.
    Pipes(Box<[WebSocket; 3]>),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("operation", &self.operation.id).finish_non_exhaustive()
    }
}

impl Session {
    /// Attaches to the sockets of a freshly started operation.
    pub(crate) async fn attach(client: Client, operation: Operation, terminal: bool) -> Result<Self> {
        let names: &[&str] = if terminal { &["control", "0"] } else { &["control", "0", "1", "2"] };
        let paths = names.iter().map(|name| socket_path(&operation, name)).collect::<Result<Vec<_>>>()?;
        let mut sockets = try_join_all(paths.iter().map(|path| client.transport.websocket(path))).await?.into_iter();
        let mut next = || sockets.next().expect("as many sockets as names");
        let control = next();
        let streams = if terminal {
            Streams::Terminal(Box::new(next()))
        } else {
            Streams::Pipes(Box::new([next(), next(), next()]))
        };
        Ok(Self { client, operation, streams, control })
    }

    /// The operation behind it.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Runs to the end: feeds `input`, writes what comes (a terminal has no separate error output), passes on what
    /// `wanted` asks for. Gives the final operation.
    pub async fn run<I, O, E>(self, input: I, output: O, error: E, wanted: mpsc::Receiver<Control>) -> Result<Operation>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let Self { client, operation, streams, control } = self;
        let control = pump::control(control, wanted);
        match streams {
            Streams::Terminal(socket) => {
                let (mut sink, mut source) = (*socket).split();
                let inputs = pump::send(input, &mut sink);
                drive(inputs, control, pump::receive(&mut source, output), client.wait(&operation)).await
            }
            Streams::Pipes(sockets) => {
                let [stdin, stdout, stderr] = *sockets;
                let (mut sink, mut pings) = stdin.split();
                let (_out, mut stdout) = stdout.split();
                let (_err, mut stderr) = stderr.split();
                let inputs = async {
                    let (sent, ()) = tokio::join!(pump::send(input, &mut sink), pump::answer_pings(&mut pings));
                    sent
                };
                let outputs = async {
                    try_join(pump::receive(&mut stdout, output), pump::receive(&mut stderr, error)).await.map(drop)
                };
                drive(inputs, control, outputs, client.wait(&operation)).await
            }
        }
    }
}

/// Input and control go on until outputs and then the operation have ended; an error of the input ends it all.
async fn drive(
    inputs: impl Future<Output = Result<()>>,
    control: impl Future<Output = ()>,
    outputs: impl Future<Output = Result<()>>,
    ended: impl Future<Output = Result<Operation>>,
) -> Result<Operation> {
    let main = async {
        match outputs.await {
            // The connection may have been lost because the program is over, or could not go on: the operation knows.
            Ok(()) | Err(Error::Transport { .. }) => ended.await,
            Err(error) => Err(error),
        }
    };
    let beside = async {
        let inputs = async {
            match inputs.await {
                Ok(()) => pending().await,
                Err(error) => error,
            }
        };
        let control = async {
            control.await;
            pending::<()>().await;
        };
        tokio::pin!(inputs, control);
        tokio::select! {
            error = &mut inputs => error,
            () = &mut control => unreachable!("it is pending for ever"),
        }
    };
    tokio::select! {
        result = main => result,
        error = beside => Err(error),
    }
}

fn socket_path(operation: &Operation, name: &str) -> Result<String> {
    let fds = operation.metadata.as_ref().and_then(|metadata| metadata.get("fds"));
    let secret = fds.and_then(|fds| fds.get(name)).and_then(serde_json::Value::as_str);
    let secret = secret.ok_or_else(|| Error::protocol("attach", format!("the operation has no socket {name:?}")))?;
    Ok(Path::of("operations").segment(&operation.id).segment("websocket").with("secret", secret).to_string())
}
