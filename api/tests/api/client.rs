//! A small HTTP and websocket client.

use std::path::{Path, PathBuf};

use axum::body::Body;
use basalt_api::dto::operation::Operation;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;

pub(crate) type Socket = WebSocketStream<UnixStream>;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The metadata of a sync answer.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.code.is_success(), "{}: {}", self.code, self.json()["error"]);
        self.json()["metadata"].clone()
    }

    /// The text of an error.
    #[track_caller]
    pub(crate) fn error(&self, code: u16) -> String {
        assert_eq!(self.code.as_u16(), code, "{}", String::from_utf8_lossy(&self.bytes));
        let envelope = self.json();
        assert_eq!(envelope["error_code"], code);
        assert_eq!(envelope["type"], "error");
        envelope["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }
}

/// Speaks to one unix socket, with a connection for each request as the stock clients do.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    agent: &'static str,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Client { socket: socket.to_owned(), agent: "LXD 5.0.2 (test)" }
    }

    pub(crate) fn incus(&self) -> Self {
        Client { agent: "Incus 6.0.4 (test)", ..self.clone() }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("host", "test").header("user-agent", self.agent)
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        self.send(self.request(method, path).body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, json!(null)).await
    }

    /// Waits for the operation of an async answer.
    #[track_caller]
    pub(crate) fn wait(&self, answer: &Answer) -> impl Future<Output = Operation> + use<'_> {
        assert_eq!(answer.code, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&answer.bytes));
        let url = answer.json()["operation"].as_str().unwrap().to_owned();
        async move {
            let ended = self.get(&format!("{url}/wait?timeout=20")).await.ok();
            serde_json::from_value(ended).unwrap()
        }
    }

    /// The operation of an async answer, which must end well.
    pub(crate) async fn done(&self, answer: Answer) -> Operation {
        let ended = self.wait(&answer).await;
        assert!(ended.succeeded(), "{ended:?}");
        ended
    }

    /// The operation of an async answer, which must fail.
    pub(crate) async fn fails(&self, answer: Answer) -> String {
        let ended = self.wait(&answer).await;
        assert!(ended.is_final() && !ended.succeeded(), "{ended:?}");
        ended.err
    }

    pub(crate) async fn websocket(&self, path: &str) -> Result<Socket, String> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let request =
            tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!("ws://test{path}"))
                .unwrap();
        let connected = tokio_tungstenite::client_async(request, stream).await;
        connected.map(|(socket, _)| socket).map_err(|e| e.to_string())
    }
}
