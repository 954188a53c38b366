//! The program itself against a small server of the tests' own: what it prints, what it sends, its exit codes, and the
//! terminal.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and runs its own programs")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use basalt_api::dto::instance::Exec;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};
use tokio::sync::watch;

const OPERATION: &str = "/1.0/operations/11111111-1111-8111-8111-111111111111";

#[derive(Clone, Default)]
struct Server {
    /// Method, path with parameters, body.
    requests: Arc<Mutex<Vec<(String, String, Value)>>>,
    controls: Arc<Mutex<Vec<Value>>>,
    initialised: Arc<Mutex<bool>>,
    exit: Arc<watch::Sender<Option<i64>>>,
}

struct Running {
    server: Server,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start(initialised: bool) -> Self {
        let server = Server::default();
        *server.initialised.lock().unwrap() = initialised;
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let path = folder.path().join("unix.socket");
        let router = Router::new()
            .route(&format!("{OPERATION}/websocket"), any(websocket))
            .route("/1.0/events", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(silent) }))
            .fallback(answer)
            .with_state(server.clone());
        runtime.spawn(async move {
            axum::serve(tokio::net::UnixListener::bind(path).unwrap(), router).await.unwrap();
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while !folder.path().join("unix.socket").exists() {
            assert!(Instant::now() < deadline, "the server did not start");
            std::thread::yield_now();
        }
        Self { server, folder, _runtime: runtime }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_basalt"));
        command.args(words).env("BASALT_DIR", self.folder.path()).env("BASALT_CONF", self.conf());
        for name in ["BASALT_SOCKET", "BASALT_REMOTE", "BASALT_PROJECT"] {
            command.env_remove(name);
        }
        command
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("conf")
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    fn requests(&self) -> Vec<(String, String, Value)> {
        self.server.requests.lock().unwrap().clone()
    }
}

async fn silent(mut socket: WebSocket) {
    while socket.recv().await.is_some() {}
}

fn sync(metadata: Value) -> Response {
    Json(json!({"type": "sync", "status": "Success", "status_code": 200, "error_code": 0, "metadata": metadata}))
        .into_response()
}

fn started(metadata: Value) -> Response {
    let operation = json!({"id": OPERATION.rsplit('/').next(), "status": "Running", "status_code": 103,
                           "metadata": metadata, "resources": {"instances": ["/1.0/instances/calm-otter"]}});
    Json(json!({"type": "async", "operation": OPERATION, "metadata": operation})).into_response()
}

fn failed(code: u16, text: &str) -> Response {
    let body = json!({"type": "error", "error_code": code, "error": text, "metadata": null});
    (http_code(code), Json(body)).into_response()
}

fn http_code(code: u16) -> axum::http::StatusCode {
    axum::http::StatusCode::from_u16(code).unwrap()
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let method = request.method().to_string();
    let path = request.uri().to_string();
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    server.requests.lock().unwrap().push((method.clone(), path.clone(), body.clone()));
    let plain = path.split('?').next().unwrap().to_owned();
    if plain.starts_with(OPERATION) {
        let code = *server.exit.subscribe().wait_for(Option::is_some).await.unwrap();
        return sync(json!({"id": OPERATION.rsplit('/').next(), "status": "Success", "status_code": 200,
                           "metadata": {"return": code}}));
    }
    if plain == "/1.0" {
        return sync(
            json!({"environment": {"storage_supported_drivers": [{"Name": "dir"}], "basalt_version": "0.1.0"}}),
        );
    }
    if plain == "/1.0/cluster" {
        *server.initialised.lock().unwrap() = true;
        server.exit.send_replace(Some(0));
        return started(json!({}));
    }
    if !*server.initialised.lock().unwrap() {
        return failed(503, "not initialised: run `basalt init`");
    }
    match (method.as_str(), plain.as_str()) {
        ("POST", "/1.0/instances/c1/exec") => {
            server.exit.send_replace(None);
            let wanted: Exec = serde_json::from_value(body).unwrap();
            let fds = if wanted.interactive {
                json!({"0": "tty", "control": "control"})
            } else {
                json!({"0": "in", "1": "out", "2": "err", "control": "control"})
            };
            started(json!({"fds": fds}))
        }
        ("POST", "/1.0/instances") => started(json!({})),
        ("GET", "/1.0/images/aliases/debian") => sync(json!({"name": "debian", "target": "ab".repeat(32)})),
        ("GET", path) if path.starts_with("/1.0/images/abab") => sync(json!({"fingerprint": "ab".repeat(32)})),
        ("GET", "/1.0/instances") => sync(json!([
            {"name": "web", "status": "Running", "type": "container", "location": "node1", "snapshots": [],
             "state": {"network": {"eth0": {"addresses": [{"family": "inet", "address": "10.0.0.2", "scope": "global"}]}}}},
            {"name": "db", "status": "Stopped", "type": "container", "location": "node2", "snapshots": []}
        ])),
        ("GET", "/1.0/storage-pools") => sync(json!([])),
        ("GET", "/1.0/storage-pools/default") if posted(&server, "/1.0/storage-pools") => {
            sync(json!({"name": "default", "status": "Created"}))
        }
        ("GET", "/1.0/networks/basaltbr0") if posted(&server, "/1.0/networks") => {
            sync(json!({"name": "basaltbr0", "status": "Created"}))
        }
        ("GET", "/1.0/profiles/default") => sync(json!({"name": "default", "config": {"user.a": "b"}, "devices": {}})),
        ("POST" | "PUT", _) => sync(json!(null)),
        _ => failed(404, "Instance not found"),
    }
}

fn posted(server: &Server, path: &str) -> bool {
    server.requests.lock().unwrap().iter().any(|(method, to, _)| method == "POST" && to == path)
}

async fn websocket(
    State(server): State<Server>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let secret = query["secret"].clone();
    upgrade.on_upgrade(move |socket| async move {
        match secret.as_str() {
            "control" => control(server, socket).await,
            "in" => count(server, socket).await,
            "tty" => echo(server, socket).await,
            name => output(server, socket, name).await,
        }
    })
}

async fn control(server: Server, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            server.controls.lock().unwrap().push(serde_json::from_str(&text).unwrap());
        }
    }
}

/// The exit code is the number of MiB that came in.
async fn count(server: Server, mut socket: WebSocket) {
    let mut bytes = 0;
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Binary(data) => bytes += data.len(),
            Message::Text(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }
    server.exit.send_replace(Some((bytes >> 20) as i64));
}

async fn output(server: Server, mut socket: WebSocket, name: &str) {
    server.exit.subscribe().wait_for(Option::is_some).await.unwrap();
    socket.send(Message::Binary(format!("to {name}").into_bytes().into())).await.unwrap();
    socket.send(Message::Text("".into())).await.unwrap();
    let _ = socket.recv().await;
}

async fn echo(server: Server, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Binary(data) = message else { continue };
        socket.send(Message::Binary(data.clone())).await.unwrap();
        if data.contains(&b'q') {
            server.exit.send_replace(Some(3));
            socket.send(Message::Text("".into())).await.unwrap();
            return;
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_list_in_every_form() {
    let running = Running::start(true);
    let table = running.run(&["list"]);
    let expected = "\
+------+---------+-----------------+------+-----------+-----------+----------+
| NAME |  STATE  |      IPV4       | IPV6 |   TYPE    | SNAPSHOTS | LOCATION |
";
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let printed = text(&table.stdout);
    assert_eq!(cells(printed.lines().nth(1).unwrap()), cells(expected.lines().nth(1).unwrap()), "{printed}");
    assert!(printed.contains("| web  | RUNNING | 10.0.0.2 (eth0) |"), "{printed}");
    assert_eq!(text(&running.run(&["list", "-c", "nL", "-f", "csv"]).stdout), "db,node2\nweb,node1\n");
    assert_eq!(text(&running.run(&["list", "-c", "n", "-f", "csv", "status=running"]).stdout), "web\n");
    let objects: Value = serde_json::from_slice(&running.run(&["list", "-f", "json"]).stdout).unwrap();
    assert_eq!(objects[1]["state"]["network"]["eth0"]["addresses"][0]["address"], "10.0.0.2");
    assert_eq!(running.run(&["list", "-c", "?"]).status.code(), Some(1));
}

#[test]
fn a_program_s_streams_and_exit_code_are_ours() {
    let running = Running::start(true);
    let mut child = running
        .command(&["exec", "c1", "--env", "A=b", "--cwd", "/srv", "--", "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![0; 5 << 20]).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(5), "{}", text(&done.stderr));
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("to out".to_owned(), "to err".to_owned()));
    let (.., body) = running.requests()[0].clone();
    assert_eq!(body["command"], json!(["wc", "-c"]));
    assert_eq!(
        (&body["environment"], &body["cwd"], &body["interactive"]),
        (&json!({"A": "b"}), &json!("/srv"), &json!(false))
    );
}

#[test]
fn failures_have_exit_code_1_and_say_what_to_do() {
    let running = Running::start(true);
    let missing = running.run(&["start", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(text(&missing.stderr), "Error: nobody: Instance not found\n");
    assert!(missing.stdout.is_empty());
    let nowhere = running.command(&["list"]).env("BASALT_SOCKET", "/nonexistent").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("Hint: is basaltd running"), "{}", text(&nowhere.stderr));
    assert_eq!(running.run(&["list", "--wrong"]).status.code(), Some(2));
    let fresh = Running::start(false);
    assert!(text(&fresh.run(&["list"]).stderr).contains("run `basalt init`"));
}

#[test]
fn init_makes_a_cluster_with_a_pool_a_network_and_a_profile() {
    let running = Running::start(false);
    let made = running.run(&["init", "--auto", "--name", "node1", "--address", "10.0.0.1"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let changes: Vec<_> = running.requests().into_iter().filter(|(method, ..)| method != "GET").collect();
    let done: Vec<_> = changes.iter().map(|(method, path, _)| (method.as_str(), path.as_str())).collect();
    let expected = [
        ("PUT", "/1.0/cluster"),
        ("POST", "/1.0/storage-pools"),
        ("POST", "/1.0/networks"),
        ("PUT", "/1.0/profiles/default"),
    ];
    assert_eq!(done, expected);
    assert_eq!(changes[0].2["server_name"], "node1");
    assert_eq!(changes[0].2["server_address"], "10.0.0.1:8443");
    assert_eq!((&changes[1].2["name"], &changes[1].2["driver"]), (&json!("default"), &json!("dir")));
    assert_eq!((&changes[2].2["name"], &changes[2].2["type"]), (&json!("basaltbr0"), &json!("bridge")));
    assert_eq!(changes[3].2["devices"]["root"], json!({"type": "disk", "path": "/", "pool": "default"}));
    assert_eq!(changes[3].2["config"], json!({"user.a": "b"}));
    // Again: nothing is made twice.
    assert_eq!(running.run(&["init", "--auto"]).status.code(), Some(0));
    let posts = running.requests().iter().filter(|(method, ..)| method == "POST").count();
    assert_eq!(posts, 2);
}

#[test]
fn launch_asks_for_what_the_user_said() {
    let running = Running::start(true);
    running.server.exit.send_replace(Some(0));
    let line = ["launch", "debian", "-c", "limits.cpu=2", "-d", "root,size=1GiB", "--target", "@fast"];
    let launched = running.run(&line);
    assert_eq!(text(&launched.stdout), "Launched calm-otter\n", "{}", text(&launched.stderr));
    let (_, path, body) = running.requests().into_iter().find(|(method, ..)| method == "POST").unwrap();
    assert_eq!(path, "/1.0/instances?target=%40fast");
    assert_eq!((&body["start"], &body["config"]["limits.cpu"]), (&json!(true), &json!("2")));
    assert_eq!(body["source"], json!({"type": "image", "fingerprint": "ab".repeat(32)}));
    let missing = running.run(&["launch", "fedora"]);
    assert!(text(&missing.stderr).contains("there is no image \"fedora\""), "{}", text(&missing.stderr));
}

/// Reads of the terminal until `wanted` was shown.
fn expect(screen: &mut std::fs::File, wanted: &str) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 256]);
    while !text(&seen).contains(wanted) {
        let length = screen.read(&mut buffer).unwrap();
        assert!(length > 0, "the terminal closed: {}", text(&seen));
        seen.extend_from_slice(&buffer[..length]);
    }
}

#[test]
fn a_terminal_is_raw_while_it_lasts_and_tells_its_size() {
    let running = Running::start(true);
    let size = nix::pty::Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let end = || -> OwnedFd { pty.slave.try_clone().unwrap() };
    let mut command = running.command(&["exec", "c1", "--", "sh"]);
    let mut child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    let cooked = || tcgetattr(&pty.slave).unwrap().local_modes.contains(LocalModes::ICANON);
    let mut screen = std::fs::File::from(pty.master.try_clone().unwrap());

    let deadline = Instant::now() + Duration::from_secs(20);
    while cooked() {
        assert!(Instant::now() < deadline, "the terminal did not become raw");
        std::thread::sleep(Duration::from_millis(5));
    }
    screen.write_all(b"hello\x03").unwrap();
    expect(&mut screen, "hello\x03");
    let (.., body) = running.requests()[0].clone();
    assert_eq!((&body["interactive"], &body["width"], &body["height"]), (&json!(true), &json!(100), &json!(30)));
    assert_eq!(body["environment"]["TERM"], "xterm");

    tcsetwinsize(&pty.master, Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    let resized = json!({"command": "window-resize", "args": {"width": "120", "height": "50"}});
    while !running.server.controls.lock().unwrap().contains(&resized) {
        assert!(Instant::now() < deadline, "the new size was not told");
        std::thread::sleep(Duration::from_millis(5));
    }
    screen.write_all(b"q").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(cooked(), "the terminal was left raw");
}
