//! The client against a small server of the tests' own, over a real socket: envelopes, kept connections, operations with
//! progress, the exec protocol with its backpressure, uploads, and the TLS pin.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and runs its own server")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use basalt_client::dto::instance::{Console, Exec};
use basalt_client::dto::operation::Operation;
use basalt_client::{Client, Control, Error, ImageSource, ImageUpload};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

const EXEC: &str = "11111111-1111-8111-8111-111111111111";
const TASK: &str = "22222222-2222-8222-8222-222222222222";

#[derive(Clone)]
struct Server {
    /// Becomes the exit code when the "program" has ended.
    exit: watch::Sender<Option<i64>>,
    /// What came on the control socket.
    controls: Arc<Mutex<Vec<Value>>>,
    /// Bytes that came on standard input.
    input: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    waits: Arc<AtomicUsize>,
    uploaded: Arc<Mutex<Option<(HeaderMap, Bytes)>>>,
}

fn sync(metadata: Value) -> Response {
    Json(json!({"type": "sync", "status": "Success", "status_code": 200, "operation": "", "error_code": 0, "error": "",
                "metadata": metadata}))
    .into_response()
}

fn started(operation: Value) -> Response {
    let url = format!("/1.0/operations/{}", operation["id"].as_str().unwrap());
    let body = json!({"type": "async", "status": "Operation created", "status_code": 100, "operation": url,
                      "error_code": 0, "error": "", "metadata": operation});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

fn failed(code: u16, text: &str) -> Response {
    let body = json!({"type": "error", "status": "", "status_code": 0, "operation": "", "error_code": code,
                      "error": text, "metadata": null});
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

fn operation(id: &str, code: u16, metadata: Value) -> Value {
    let status = if code == 200 { "Success" } else { "Running" };
    json!({"id": id, "class": "websocket", "status": status, "status_code": code, "metadata": metadata, "err": "",
           "may_cancel": true, "resources": {}})
}

impl Server {
    fn new() -> Self {
        Self {
            exit: watch::Sender::new(None),
            controls: Arc::default(),
            input: Arc::default(),
            connections: Arc::default(),
            waits: Arc::default(),
            uploaded: Arc::default(),
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/1.0", get(|| async { sync(json!({"auth": "trusted"})) }))
            .route("/1.0/instances/{name}", get(|| async { failed(404, "Instance not found") }))
            .route("/1.0/instances/{name}/exec", post(exec))
            .route("/1.0/instances/{name}/console", post(console))
            .route("/1.0/operations/{id}/websocket", any(websocket))
            .route("/1.0/operations/{id}/wait", get(wait))
            .route("/1.0/events", any(events))
            .route("/1.0/images", post(upload))
            .route("/1.0/images/{fingerprint}/export", get(export))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self)
    }

    /// Serves on a socket; gives a client of it. The folder holds the socket.
    fn serve(self) -> (Client, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unix.socket");
        let listener = Counted { listener: UnixListener::bind(&path).unwrap(), count: self.connections.clone() };
        tokio::spawn(async move { axum::serve(listener, self.router()).await });
        (Client::unix(&path), folder)
    }
}

/// A listener that counts what it accepts.
struct Counted {
    listener: UnixListener,
    count: Arc<AtomicUsize>,
}

impl axum::serve::Listener for Counted {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let accepted = self.listener.accept().await.unwrap();
        self.count.fetch_add(1, Ordering::SeqCst);
        accepted
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn exec(Json(wanted): Json<Exec>) -> Response {
    assert!(wanted.wait_for_websocket);
    let names: &[&str] = if wanted.interactive { &["control", "0"] } else { &["control", "0", "1", "2"] };
    let fds: BTreeMap<&str, String> =
        names.iter().map(|name| (*name, format!("{}-{name}", wanted.command[0]))).collect();
    started(operation(EXEC, 103, json!({"fds": fds})))
}

async fn console() -> Response {
    started(operation(EXEC, 103, json!({"fds": {"0": "echo-0", "control": "echo-control"}})))
}

async fn websocket(
    State(server): State<Server>,
    Query(query): Query<BTreeMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some((program, socket)) = query.get("secret").and_then(|secret| secret.split_once('-')) else {
        return failed(403, "not authorized");
    };
    let (program, name) = (program.to_owned(), socket.to_owned());
    upgrade.on_upgrade(move |socket| async move {
        match (program.as_str(), name.as_str()) {
            (_, "control") => control(server, socket).await,
            ("cat", "0") => swallow(server, socket).await,
            ("cat" | "hang", "1" | "2") => output(server, socket, &name).await,
            ("hang", "0") => hold(socket).await,
            ("echo", "0") => echo(server, socket).await,
            other => panic!("unexpected socket {other:?}"),
        }
    })
}

async fn control(server: Server, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["command"] == "signal" {
                server.exit.send_replace(Some(128 + message["signal"].as_i64().unwrap()));
            }
            server.controls.lock().unwrap().push(message);
        }
    }
}

/// Reads the input slowly at first, counts it, ends the program at its end.
async fn swallow(server: Server, mut socket: WebSocket) {
    socket.send(Message::Ping(Bytes::from_static(b"alive?"))).await.unwrap();
    let mut ponged = false;
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Binary(bytes) => {
                server.input.fetch_add(bytes.len(), Ordering::SeqCst);
            }
            Message::Text(text) => {
                assert!(text.is_empty());
                server.exit.send_replace(Some(if ponged { 7 } else { 99 }));
                return;
            }
            Message::Pong(_) => ponged = true,
            Message::Ping(_) | Message::Close(_) => {}
        }
    }
}

/// Takes no input at all until the program has ended.
async fn hold(socket: WebSocket) {
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(socket);
}

async fn output(server: Server, mut socket: WebSocket, name: &str) {
    let text = if name == "1" { "to out" } else { "to err" };
    socket.send(Message::Binary(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    server.exit.subscribe().wait_for(Option::is_some).await.unwrap();
    socket.send(Message::Text("".into())).await.unwrap();
    let _ = socket.recv().await;
}

/// A terminal that echoes, and ends with "exit".
async fn echo(server: Server, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Binary(bytes) = message {
            socket.send(Message::Binary(bytes.clone())).await.unwrap();
            if bytes.ends_with(b"exit") {
                socket.send(Message::Text("".into())).await.unwrap();
                server.exit.send_replace(Some(0));
                return;
            }
        }
    }
}

async fn wait(State(server): State<Server>, Path(id): Path<String>) -> Response {
    if id == TASK {
        // Two rounds that end without an answer, then the end.
        return match server.waits.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                sync(operation(TASK, 103, json!({})))
            }
            _ => sync(operation(TASK, 200, json!({"fingerprint": "ab"}))),
        };
    }
    let mut exit = server.exit.subscribe();
    let code = *exit.wait_for(Option::is_some).await.unwrap();
    sync(operation(EXEC, 200, json!({"return": code})))
}

async fn events(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        for (id, text) in [("other", "x"), (TASK, "40%"), (TASK, "80%")] {
            let event = json!({"type": "operation", "timestamp": "2026-11-23T00:00:00Z", "location": "n1",
                               "metadata": operation(id, 103, json!({"unpack_progress": text}))});
            socket.send(Message::Text(event.to_string().into())).await.unwrap();
        }
        let _ = socket.recv().await;
    })
}

async fn upload(State(server): State<Server>, request: axum::extract::Request) -> Response {
    if request.uri().query().is_some_and(|query| query.contains("forbidden")) {
        return failed(403, "Certificate is restricted");
    }
    let (head, body) = request.into_parts();
    let (headers, body) = (head.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap());
    if body.windows(6).any(|w| w == b"refuse") {
        return failed(400, "metadata.yaml: missing");
    }
    *server.uploaded.lock().unwrap() = Some((headers, body));
    started(operation(TASK, 103, json!({})))
}

async fn export(State(server): State<Server>) -> Response {
    let uploaded = server.uploaded.lock().unwrap();
    let (headers, body) = uploaded.as_ref().unwrap();
    ([("content-type", headers["content-type"].to_str().unwrap().to_owned())], body.clone()).into_response()
}

#[tokio::test]
async fn errors_keep_their_code_and_connections_are_used_again() {
    let server = Server::new();
    let count = server.connections.clone();
    let (client, _folder) = server.serve();
    for _ in 0..20 {
        assert_eq!(client.server().await.unwrap().value.auth, "trusted");
        let error = client.instance("none").await.unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        assert_eq!(error.to_string(), "Instance not found");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_program_gets_all_its_input_and_gives_all_its_output() {
    let server = Server::new();
    let input = server.input.clone();
    let (client, _folder) = server.serve();
    const LENGTH: u64 = 64 << 20;
    let zeros = tokio::io::AsyncReadExt::take(tokio::io::repeat(0), LENGTH);
    let done = client.run("c1", &["cat"], zeros).await.unwrap();
    assert_eq!(input.load(Ordering::SeqCst) as u64, LENGTH);
    // 99 would mean that the server's ping was not answered while input was flowing.
    assert_eq!(done.code, 7);
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"to out"[..], &b"to err"[..]));
}

/// Counts what is read of it; never ends.
struct Endless(Arc<AtomicUsize>);

impl AsyncRead for Endless {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let length = out.remaining();
        self.0.fetch_add(length, Ordering::SeqCst);
        out.put_slice(&vec![1; length]);
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_program_that_reads_nothing_stops_the_sender_and_a_signal_ends_it() {
    let server = Server::new();
    let controls = server.controls.clone();
    let (client, _folder) = server.serve();
    let read = Arc::new(AtomicUsize::new(0));
    let session = client.exec("c1", &Exec { command: vec!["hang".into()], ..Exec::default() }).await.unwrap();
    let (sender, control) = mpsc::channel(1);
    let run = session.run(Endless(read.clone()), tokio::io::sink(), tokio::io::sink(), control);
    let interrupt = async {
        // Until the sender has stopped: the count stays the same.
        let mut last = usize::MAX;
        while last != read.load(Ordering::SeqCst) {
            last = read.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(last < 32 << 20, "{last} bytes were buffered");
        sender.send(Control::Signal(15)).await.unwrap();
    };
    let (ended, ()) = tokio::join!(run, interrupt);
    assert_eq!(basalt_client::exit_code(&ended.unwrap()).unwrap(), 143);
    assert_eq!(*controls.lock().unwrap(), [json!({"command": "signal", "signal": 15})]);
}

#[tokio::test]
async fn a_console_echoes_and_is_resized() {
    let server = Server::new();
    let controls = server.controls.clone();
    let (client, _folder) = server.serve();
    let session = client.console("c1", &Console::default()).await.unwrap();
    let (sender, control) = mpsc::channel(1);
    let (mut typed, input) = tokio::io::duplex(64);
    let mut shown = Vec::new();
    let run = session.run(input, &mut shown, tokio::io::sink(), control);
    let user = async {
        sender.send(Control::Resize { columns: 120, rows: 40 }).await.unwrap();
        while controls.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        typed.write_all(b"exit").await.unwrap();
    };
    let (ended, ()) = tokio::join!(run, user);
    ended.unwrap();
    assert_eq!(shown, b"exit");
    assert_eq!(controls.lock().unwrap()[0]["args"], json!({"width": "120", "height": "40"}));
}

#[tokio::test]
async fn waiting_goes_on_until_the_end_and_tells_progress() {
    let (client, _folder) = Server::new().serve();
    let begun: Operation = serde_json::from_value(operation(TASK, 103, json!({}))).unwrap();
    let mut told = Vec::new();
    let ended = client
        .wait_with_progress(&begun, |now| {
            told.extend(now.metadata.as_ref().and_then(|m| m.get("unpack_progress")).cloned());
        })
        .await
        .unwrap();
    assert!(ended.succeeded());
    assert_eq!(told, ["40%", "80%"]);
}

#[tokio::test]
async fn an_image_goes_up_and_comes_down_as_it_was() {
    let server = Server::new();
    let uploaded = server.uploaded.clone();
    let (client, _folder) = server.serve();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let root: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (metadata, rootfs) = (write("meta.tar.xz", b"metadata"), write("root.squashfs", &root));
    let source = ImageSource::Split { metadata: metadata.clone(), rootfs: rootfs.clone(), disk: false };
    let properties = BTreeMap::from([("os".to_owned(), "Debian & co".to_owned())]);
    let wanted = ImageUpload { source, public: true, properties };
    let sent = Arc::new(Mutex::new((0, 0)));
    let told = sent.clone();
    client.upload_image(&wanted, Box::new(move |done, all| *told.lock().unwrap() = (done, all))).await.unwrap();
    let (headers, body) = uploaded.lock().unwrap().clone().unwrap();
    assert_eq!(*sent.lock().unwrap(), (body.len() as u64, body.len() as u64));
    assert_eq!(headers["content-length"], body.len().to_string());
    assert_eq!(headers["x-incus-properties"], "os=Debian%20%26%20co");
    assert_eq!(headers["x-incus-public"], "1");

    let down = tempfile::tempdir().unwrap();
    let files = client.download_image("ab", down.path(), Box::new(|_, _| ())).await.unwrap();
    let expected: Vec<PathBuf> = ["meta.tar.xz", "root.squashfs"].iter().map(|name| down.path().join(name)).collect();
    assert_eq!(files, expected);
    assert_eq!(std::fs::read(&files[1]).unwrap(), root);

    let refused = ImageUpload { source: ImageSource::Unified(write("bad", b"refuse")), ..wanted };
    let error = client.upload_image(&refused, Box::new(|_, _| ())).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Some(400), "metadata.yaml: missing"));
}

#[tokio::test]
async fn an_upload_that_is_refused_before_it_was_read_says_why() {
    let (client, folder) = Server::new().serve();
    let path = folder.path().join("large");
    std::fs::File::create(&path).unwrap().set_len(300 << 20).unwrap();
    let wanted = ImageUpload { source: ImageSource::Unified(path), public: false, properties: BTreeMap::new() };
    for _ in 0..10 {
        let client = client.in_project(Some("forbidden"));
        let error = client.upload_image(&wanted, Box::new(|_, _| ())).await.unwrap_err();
        assert_eq!(error.code(), Some(403), "{error:?}");
    }
}

mod tls {
    use super::*;
    use basalt_client::Identity;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::net::TcpListener;

    /// A TLS server with a fresh certificate; gives its address and its certificate's PEM.
    async fn serve() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["basalt".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let service = hyper_util::service::TowerToHyperService::new(Server::new().router());
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service.clone());
                tokio::spawn(connection);
            }
        });
        (address, made.cert.pem())
    }

    #[tokio::test]
    async fn only_the_pinned_certificate_is_spoken_to() {
        let (address, pem) = serve().await;
        let seen = basalt_client::server_certificate(&address).await.unwrap();
        let pin = basalt_client::pem_fingerprint(&pem).unwrap();
        assert_eq!(basalt_client::pem_fingerprint(&seen).unwrap(), pin);

        let (identity, _) = Identity::generate("me").unwrap();
        let client = Client::https(&address, &pin, Some(&identity)).unwrap();
        assert_eq!(client.server().await.unwrap().value.auth, "trusted");

        let wrong = Client::https(&address, &identity.fingerprint(), None).unwrap();
        let error = wrong.server().await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert!(error.next_step().unwrap().contains("certificate"), "{error:?}");
        assert!(Client::https(&address, "abc", None).is_err());
    }
}
