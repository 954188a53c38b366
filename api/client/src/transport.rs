//! HTTP/1.1 to one member over its endpoint: requests, streamed bodies, websockets.
//!
//! ```text
//!   Call ──> idle connection, else a new one ──> answer read whole ──> connection kept for the next call
//! ```
//!
//! A kept connection that turns out to be dead is replaced and the call repeated only when the member cannot have seen
//! it, or when repeating does no harm (GET). Streamed bodies always get a connection of their own.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::endpoint::{Endpoint, Stream};
use crate::envelope;
use crate::error::{Error, Result};
use crate::half::Half;

/// Deadline of a call that only reads or writes records.
pub(crate) const USUAL: Duration = Duration::from_secs(60);
/// Connections kept for later calls, and for how long.
const KEPT: usize = 8;
const KEEP: Duration = Duration::from_secs(15);
/// Largest answer that is read into memory.
const ANSWER_LIMIT: usize = 256 << 20;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("basalt/", env!("CARGO_PKG_VERSION")));

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type WebSocket = WebSocketStream<Box<dyn Stream>>;

/// What is sent with a call.
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes, HeaderValue),
    Stream(Body, HeaderValue),
}

/// One request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
    pub(crate) deadline: Duration,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), payload: Payload::Empty, deadline: USUAL }
    }

    pub(crate) fn json(mut self, bytes: Vec<u8>) -> Self {
        self.payload = Payload::Bytes(bytes.into(), HeaderValue::from_static("application/json"));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) fn doing(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Takes a streamed payload out, so that it is sent once.
    fn request(&mut self, host: &str) -> Result<Request<Body>> {
        let mut builder = Request::builder().method(&self.method).uri(&self.path);
        builder = builder.header(HOST, host).header(USER_AGENT, AGENT);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let payload = match &self.payload {
            Payload::Empty => Payload::Empty,
            Payload::Bytes(bytes, kind) => Payload::Bytes(bytes.clone(), kind.clone()),
            Payload::Stream(..) => std::mem::replace(&mut self.payload, Payload::Empty),
        };
        let (builder, body) = match payload {
            Payload::Empty => (builder, boxed(Empty::new())),
            Payload::Bytes(bytes, kind) => (builder.header(CONTENT_TYPE, kind), boxed(Full::new(bytes))),
            Payload::Stream(body, kind) => (builder.header(CONTENT_TYPE, kind), body),
        };
        builder.body(body).map_err(|e| Error::Invalid(format!("request {}: {e}", self.doing())))
    }
}

fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    body.map_err(|never| match never {}).boxed_unsync()
}

/// An answer read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer whose body is still to be read. Dropping it closes the connection.
pub(crate) struct Streamed {
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) connection: Connection,
}

/// One HTTP connection. Dropping it closes it.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    /// The task that moves the bytes: it ends with the connection and is aborted when this is dropped.
    _driver: JoinSet<()>,
    idle_since: Instant,
}

impl Connection {
    async fn open(endpoint: &Endpoint) -> Result<Self> {
        let stream = endpoint.open().await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(Half::new(stream)))
            .await
            .map_err(|e| Error::transport(format!("connect to {endpoint}"), e))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error is also what the pending request gets; nobody else waits for it.
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: driver, idle_since: Instant::now() })
    }
}

/// A request that failed, and whether it may be repeated.
struct Failure {
    error: hyper::Error,
    unsent: bool,
}

/// The way to one member, with its kept connections.
pub(crate) struct Transport {
    endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
}

impl Transport {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::default() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends `call` and reads the whole answer, whatever its status, all within the deadline.
    pub(crate) async fn buffered(&self, mut call: Call) -> Result<Answer> {
        let (doing, deadline) = (call.doing(), call.deadline);
        let work = async {
            let (response, connection) = self.send(&mut call).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await;
            let body = body.map_err(|e| Error::transport(call.doing(), e))?.to_bytes();
            self.keep(connection);
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(deadline, work).await.unwrap_or(Err(Error::Deadline { doing, after: deadline }))
    }

    /// Sends `call`; the deadline holds until the answer begins. An error status is read whole and returned as error.
    pub(crate) async fn streamed(&self, mut call: Call) -> Result<Streamed> {
        let (doing, deadline) = (call.doing(), call.deadline);
        let sent = tokio::time::timeout(deadline, self.send(&mut call)).await;
        let (response, connection) =
            sent.unwrap_or_else(|_| Err(Error::Deadline { doing: doing.clone(), after: deadline }))?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(Streamed { headers: head.headers, body, connection });
        }
        let body = Limited::new(body, ANSWER_LIMIT).collect();
        let body = tokio::time::timeout(deadline, body)
            .await
            .map_err(|_| Error::Deadline { doing: doing.clone(), after: deadline })?
            .map_err(|e| Error::transport(doing.clone(), e))?;
        Err(envelope::failure(&doing, head.status, &body.to_bytes()))
    }

    async fn send(&self, call: &mut Call) -> Result<(Response<Incoming>, Connection)> {
        let host = self.endpoint.host();
        let once = matches!(call.payload, Payload::Stream(..));
        while let Some(mut kept) = if once { None } else { self.take() } {
            if kept.sender.ready().await.is_err() {
                continue;
            }
            match attempt(&mut kept, call.request(&host)?).await {
                Ok(response) => return Ok((response, kept)),
                Err(failure) if failure.unsent || call.method == Method::GET => {}
                Err(failure) => return Err(Error::transport(call.doing(), failure.error)),
            }
        }
        let mut fresh = Connection::open(&self.endpoint).await?;
        let response = attempt(&mut fresh, call.request(&host)?).await;
        Ok((response.map_err(|failure| Error::transport(call.doing(), failure.error))?, fresh))
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        idle.retain(|connection| !connection.sender.is_closed() && connection.idle_since.elapsed() < KEEP);
        idle.pop()
    }

    pub(crate) fn keep(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        if idle.len() < KEPT && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }

    /// Opens a websocket on a connection of its own.
    pub(crate) async fn websocket(&self, path: &str) -> Result<WebSocket> {
        let doing = format!("websocket {path}");
        let work = async {
            let stream = self.endpoint.open().await?;
            let host = self.endpoint.host();
            let request = websocket_request(&host, path).map_err(|e| Error::Invalid(format!("{doing}: {e}")))?;
            let config = WebSocketConfig::default()
                .read_buffer_size(64 << 10)
                .write_buffer_size(64 << 10)
                .max_write_buffer_size(4 << 20)
                .max_message_size(Some(16 << 20))
                .max_frame_size(Some(16 << 20));
            match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
                Ok((socket, _)) => Ok(socket),
                Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                    let body = response.body().as_deref().unwrap_or_default();
                    Err(envelope::failure(&doing, response.status(), body))
                }
                Err(error) => Err(Error::transport(doing.clone(), error)),
            }
        };
        let late = Error::Deadline { doing: doing.clone(), after: USUAL };
        tokio::time::timeout(USUAL, work).await.unwrap_or(Err(late))
    }
}

async fn attempt(connection: &mut Connection, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
    connection.sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message().is_some();
        Failure { error: error.into_error(), unsent }
    })
}

fn websocket_request(host: &str, path: &str) -> Result<Request<()>, http::Error> {
    Request::builder()
        .uri(format!("ws://{host}{path}"))
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", tokio_tungstenite::tungstenite::handshake::client::generate_key())
        .body(())
}
