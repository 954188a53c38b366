//! Programs in guests over websockets, with real pipes, terminals and signals.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Socket};
use crate::world::World;

/// Everything until the barrier, which must come.
async fn read_all(mut socket: Socket) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("the barrier comes");
        match message {
            Some(Ok(Message::Binary(bytes))) => all.extend_from_slice(&bytes),
            Some(Ok(Message::Text(text))) if text.is_empty() => break,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?} before the barrier"),
        }
    }
    let _ = socket.close(None).await;
    all
}

struct Running {
    client: Client,
    url: String,
    fds: Value,
}

impl Running {
    async fn start(client: &Client, body: Value) -> Running {
        let answer = client.post("/1.0/instances/c1/exec", body).await;
        assert_eq!(answer.code, 202, "{}", answer.json());
        let envelope = answer.json();
        assert_eq!(envelope["metadata"]["class"], "websocket");
        let url = envelope["operation"].as_str().unwrap().to_owned();
        Running { client: client.clone(), url, fds: envelope["metadata"]["metadata"]["fds"].clone() }
    }

    async fn socket(&self, name: &str) -> Socket {
        let secret = self.fds[name].as_str().unwrap();
        self.client.websocket(&format!("{}/websocket?secret={secret}", self.url)).await.unwrap()
    }

    async fn code(&self) -> Value {
        let ended = self.client.get(&format!("{}/wait?timeout=20", self.url)).await.ok();
        assert_eq!(ended["status"], "Success", "{ended}");
        ended["metadata"]["return"].clone()
    }
}

fn pipes(command: &[&str]) -> Value {
    json!({"command": command, "wait-for-websocket": true, "interactive": false, "user": null, "cwd": null,
           "environment": {"GREETING": "hello"}})
}

#[tokio::test]
async fn pipes_codes_and_big_input() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    let client = world.client();
    // No control socket: one of the libraries never opens it.
    let run = Running::start(client, pipes(&["sh", "-c", "wc -c; echo $GREETING; echo oops >&2; exit 7"])).await;
    let (mut stdin, stdout, stderr) = (run.socket("0").await, run.socket("1").await, run.socket("2").await);
    let chunk = vec![b'x'; 100_000];
    for _ in 0..200 {
        stdin.send(Message::Binary(chunk.clone().into())).await.unwrap();
    }
    stdin.send(Message::Text("".into())).await.unwrap();
    let (out, err) = tokio::join!(read_all(stdout), read_all(stderr));
    assert_eq!(String::from_utf8(out).unwrap(), "20000000\nhello\n");
    assert_eq!(err, b"oops\n");
    assert_eq!(run.code().await, 7);
    // Each secret works once.
    let secret = run.fds["1"].as_str().unwrap();
    assert!(client.websocket(&format!("{}/websocket?secret={secret}", run.url)).await.is_err());
}

#[tokio::test]
async fn big_output_arrives_whole() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    let run = Running::start(world.client(), pipes(&["head", "-c", "30000000", "/dev/zero"])).await;
    let (_stdin, stdout, stderr) = (run.socket("0").await, run.socket("1").await, run.socket("2").await);
    let (out, _) = tokio::join!(read_all(stdout), read_all(stderr));
    assert_eq!(out.len(), 30_000_000);
    assert_eq!(run.code().await, 0);
}

#[tokio::test]
async fn codes_of_signals_and_of_what_is_not_there() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    for (command, code) in [(&["sh", "-c", "kill -9 $$"][..], 137), (&["/no/such/program"][..], 127)] {
        let run = Running::start(world.client(), pipes(command)).await;
        let (_stdin, stdout, stderr) = (run.socket("0").await, run.socket("1").await, run.socket("2").await);
        tokio::join!(read_all(stdout), read_all(stderr));
        assert_eq!(run.code().await, code);
    }
}

#[tokio::test]
async fn a_control_socket_signals() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    let run = Running::start(world.client(), pipes(&["sleep", "60"])).await;
    let mut control = run.socket("control").await;
    let (_stdin, stdout, stderr) = (run.socket("0").await, run.socket("1").await, run.socket("2").await);
    control.send(Message::Text(r#"{"command":"signal","signal":15}"#.into())).await.unwrap();
    tokio::join!(read_all(stdout), read_all(stderr));
    assert_eq!(run.code().await, 143);
}

#[tokio::test]
async fn losing_control_or_output_kills() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    for lost in ["control", "1"] {
        let run = Running::start(world.client(), pipes(&["sleep", "60"])).await;
        let mut sockets = Vec::new();
        for name in ["control", "0", "1", "2"] {
            sockets.push((name, run.socket(name).await));
        }
        sockets.retain(|(name, _)| *name != lost);
        assert_eq!(run.code().await, 129, "without {lost}");
    }
}

#[tokio::test]
async fn terminals() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    let script = "stty size; read line; echo got:$line; stty size; exit 3";
    let body = json!({"command": ["sh", "-c", script], "wait-for-websocket": true, "interactive": true,
                      "width": 100, "height": 40});
    let run = Running::start(world.client(), body).await;
    assert_eq!(run.fds.as_object().unwrap().keys().collect::<Vec<_>>(), ["0", "control"]);
    let (mut control, mut terminal) = (run.socket("control").await, run.socket("0").await);
    let first = terminal.next().await.unwrap().unwrap().into_data();
    assert!(String::from_utf8_lossy(&first).contains("40 100"), "{first:?}");
    let resize = r#"{"command":"window-resize","args":{"width":"120","height":"50"}}"#;
    control.send(Message::Text(resize.into())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    terminal.send(Message::Binary(b"line\n".to_vec().into())).await.unwrap();
    let rest = String::from_utf8(read_all(terminal).await).unwrap();
    assert!(rest.contains("got:line") && rest.contains("50 120"), "{rest:?}");
    assert_eq!(run.code().await, 3);
}

#[tokio::test]
async fn without_sockets() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    let client = world.client();
    let body = json!({"command": ["sh", "-c", "echo out; echo err >&2; exit 4"], "record-output": true});
    let ended = client.done(client.post("/1.0/instances/c1/exec", body).await).await;
    let metadata = ended.metadata.unwrap();
    assert_eq!(metadata["return"], 4);
    let log = client.get(metadata["output"]["1"].as_str().unwrap()).await;
    assert_eq!(&log.bytes[..], b"out\n");
    let both = json!({"command": ["true"], "record-output": true, "wait-for-websocket": true});
    assert!(client.post("/1.0/instances/c1/exec", both).await.error(400).contains("record-output"));
    assert!(client.post("/1.0/instances/c1/exec", json!({})).await.error(400).contains("command"));
    world.create("c2", false).await;
    let text = client.post("/1.0/instances/c2/exec", json!({"command": ["true"]})).await.error(400);
    assert_eq!(text, "Instance is not running");
    assert_eq!(
        client.post("/1.0/instances/c3/exec", json!({"command": ["true"]})).await.error(404),
        "Instance not found"
    );
}

#[tokio::test]
async fn a_member_that_is_behind_asks_before_it_refuses() {
    let world = World::of(1).await;
    let client = world.client();
    let behind = |view| *world.shared.behind.lock().unwrap() = view;
    let unmade = world.state();
    world.create("c1", false).await;
    let stopped = world.state();
    client.done(client.put("/1.0/instances/c1/state", json!({"action": "start"})).await).await;
    for older in [unmade, stopped] {
        behind(Some(older));
        let body = json!({"command": ["true"]});
        let made = client.post("/1.0/instances/c1/exec", body).await;
        assert_eq!(made.code, 202, "{}", made.json());
        let missing = client.post("/1.0/instances/c9/exec", json!({"command": ["true"]})).await.error(404);
        assert_eq!(missing, "Instance not found");
        behind(None);
        client.get(&format!("{}/wait?timeout=20", made.json()["operation"].as_str().unwrap())).await.ok();
    }
}

#[tokio::test]
async fn on_another_member_through_this_one() {
    let world = World::of(2).await;
    world.create_on("c1", true, "?target=node2").await;
    let run = Running::start(world.client(), pipes(&["cat"])).await;
    let (mut stdin, stdout, stderr) = (run.socket("0").await, run.socket("1").await, run.socket("2").await);
    stdin.send(Message::Binary(b"across".to_vec().into())).await.unwrap();
    stdin.send(Message::Text("".into())).await.unwrap();
    let (out, _) = tokio::join!(read_all(stdout), read_all(stderr));
    assert_eq!(out, b"across");
    assert_eq!(run.code().await, 0);
    let operation = world.client().get(&run.url).await.ok();
    assert_eq!(operation["location"], "node2");
    // Listed from everywhere.
    for node in &world.nodes {
        let listed = node.client.get("/1.0/operations").await.ok();
        assert!(listed["success"].as_array().unwrap().contains(&json!(run.url)), "{listed}");
    }
}

#[tokio::test]
async fn consoles() {
    let world = World::of(1).await;
    world.create("c1", true).await;
    let client = world.client();
    let open = |force: bool| client.post("/1.0/instances/c1/console", json!({"force": force}));
    let first = open(false).await;
    assert_eq!(first.code, 202);
    assert!(open(false).await.error(400).contains("already connected"));
    let run = |envelope: Value| Running {
        client: client.clone(),
        url: envelope["operation"].as_str().unwrap().to_owned(),
        fds: envelope["metadata"]["metadata"]["fds"].clone(),
    };
    let first = run(first.json());
    let mut terminal = first.socket("0").await;
    terminal.send(Message::Binary(b"ping\n".to_vec().into())).await.unwrap();
    let echoed = terminal.next().await.unwrap().unwrap().into_data();
    assert!(String::from_utf8_lossy(&echoed).contains("ping"));
    let second = run(open(true).await.json());
    let ended = client.get(&format!("{}/wait?timeout=10", first.url)).await.ok();
    assert_eq!(ended["status"], "Success");
    // A client that detaches closes the control socket, and it alone.
    let (terminal, mut control) = (second.socket("0").await, second.socket("control").await);
    control.close(None).await.unwrap();
    let ended = client.get(&format!("{}/wait?timeout=10", second.url)).await.ok();
    assert_eq!(ended["status"], "Success");
    drop(terminal);
    assert_eq!(&client.get("/1.0/instances/c1/console").await.bytes[..], b"boot messages");
    client.delete("/1.0/instances/c1/console").await.ok();
    assert_eq!(&client.get("/1.0/instances/c1/console").await.bytes[..], b"");
    client.delete("/1.0/instances/c2/console").await.error(404);
    assert_eq!(&client.get("/1.0/instances/c1/logs/lxc.log").await.bytes[..], b"engine messages");
}
