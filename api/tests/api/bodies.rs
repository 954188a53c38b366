//! Bodies and connections that mean no good.

use std::time::Duration;

use axum::body::Body;
use basalt_api::{Limits, serve_unix};
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::world::World;

#[tokio::test]
async fn bad_bodies_are_refused() {
    let world = World::of(1).await;
    let client = world.client();
    let post = |body: Body| client.send(client.request(Method::POST, "/1.0/profiles").body(body).unwrap());
    assert!(post(Body::from("{\"name\":")).await.error(400).starts_with("body: bad JSON"));
    assert!(post(Body::from("[]")).await.error(400).contains("object"));
    assert!(post(Body::from("{\"name\": 7}")).await.error(400).starts_with("name: "));
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    assert!(post(Body::from(large)).await.error(413).contains("1048576"));
    let deep = "[".repeat(100_000);
    post(Body::from(deep)).await.error(400);
    assert_eq!(client.get("/1.0/profiles").await.ok(), json!(["/1.0/profiles/default"]));
    for path in
        ["/1.0/profiles/..%2f..", "/1.0/profiles/%00", "/1.0/instances/%ff", "/1.0/operations/x", "/1.0/images/"]
    {
        let answer = client.get(path).await;
        assert!(answer.code.is_client_error(), "{path}: {answer:?}");
    }
}

/// As Python's `http.client` sends it: the head, and then the body in a packet of its own, which nobody needs.
#[tokio::test]
async fn a_late_body_does_not_cost_the_connection() {
    let world = World::of(1).await;
    let (socket, _shutdown) = listen(&world, Limits::default()).await;
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    for path in ["/1.0/profiles", "/1.0/profiles/nosuch", "/1.0/nonsense", "/1.0/profiles"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // An answer that does not wait for the body comes now, and the connection ends with it.
        let mut answer = Vec::new();
        let early = tokio::time::timeout(Duration::from_millis(100), stream.read_buf(&mut answer)).await;
        assert!(early.is_err(), "{path}: an answer before the request was whole");
        stream.write_all(b"null").await.unwrap();
        while !answer.ends_with(b"}") {
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut answer)).await.unwrap();
            assert!(read.unwrap() > 0, "{path}: the connection was closed");
        }
    }
}

/// A listener of its own, with these limits.
async fn listen(world: &World, limits: Limits) -> (std::path::PathBuf, CancellationToken) {
    let socket = world.folder.path().join("bounded");
    let shutdown = CancellationToken::new();
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(serve_unix(listener, world.nodes[0].api.router(), limits, shutdown.clone()));
    (socket, shutdown)
}

async fn read_all(stream: &mut UnixStream) -> String {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("closed");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn the_idle_make_way_and_the_slow_are_told() {
    let world = World::of(1).await;
    let limits = Limits { connections: 3, header: Duration::from_millis(600), ..Limits::default() };
    let (socket, _shutdown) = listen(&world, limits).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        idle.push(stream);
    }
    // One more is served, for which the one that waits longest has to go.
    Client::new(&socket).get("/").await.ok();
    assert_eq!(read_all(&mut idle[0]).await, "");
    // The others are told why they lose their place.
    let said = read_all(&mut idle[1]).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("head of the request"), "{said}");
    // Who has said nothing is told nothing: it would take it for the answer to what it asks next.
    let mut silent = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
}

#[tokio::test]
async fn when_all_are_busy_newcomers_are_refused() {
    let world = World::of(1).await;
    let (socket, shutdown) = listen(&world, Limits { connections: 2, ..Limits::default() }).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        // A body that does not come: the request runs.
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
        busy.push(stream);
    }
    let mut refused = String::new();
    for _ in 0..50 {
        let mut extra = UnixStream::connect(&socket).await.unwrap();
        let _ = extra.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        refused = read_all(&mut extra).await;
        // Until both have begun, idle ones make way.
        if refused.starts_with("HTTP/1.1 503 ") {
            break;
        }
    }
    assert!(refused.contains("2 requests are running, which is the limit"), "{refused}");
    for mut stream in busy {
        stream.write_all(b"\"a\": 1}").await.unwrap();
    }
    shutdown.cancel();
}
