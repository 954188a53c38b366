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

#[tokio::test]
async fn connections_are_bounded() {
    let world = World::of(1).await;
    let socket = world.folder.path().join("bounded");
    let limits = Limits { connections: 3, header: Duration::from_millis(300), ..Limits::default() };
    let shutdown = CancellationToken::new();
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = tokio::spawn(serve_unix(listener, world.nodes[0].api.router(), limits, shutdown.clone()));
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        idle.push(stream);
    }
    // One too many is closed at once; slow ones lose their place in time.
    let mut extra = UnixStream::connect(&socket).await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), extra.read_to_end(&mut rest)).await.unwrap();
    assert!(closed.is_err() || rest.is_empty());
    for stream in &mut idle {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("closed");
    }
    Client::new(&socket).get("/").await.ok();
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it drains").unwrap();
}
