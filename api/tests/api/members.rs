//! The cluster, its members, events of all of them, and life without a quorum.

use std::sync::atomic::Ordering;
use std::time::Duration;

use basalt_api::dto::cluster::JoinToken;
use basalt_api::token;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::client::Socket;
use crate::world::World;

async fn event(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("an event").unwrap();
        if let tokio_tungstenite::tungstenite::Message::Text(text) = message.unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[tokio::test]
async fn events_of_all_members_reach_every_listener_in_order() {
    let world = World::of(3).await;
    let mut listener = world.nodes[2].client.websocket("/1.0/events?type=operation,lifecycle").await.unwrap();
    // Right after the answer, something happens on another member.
    let body = json!({"name": "c1", "source": {"type": "none"}});
    let answer = world.nodes[0].client.post("/1.0/instances", body).await;
    let id = answer.json()["metadata"]["id"].clone();
    let mut codes = Vec::new();
    let mut actions = Vec::new();
    while codes.last() != Some(&200) {
        let event = event(&mut listener).await;
        assert_eq!(event["location"], "node1");
        match event["type"].as_str().unwrap() {
            "operation" if event["metadata"]["id"] == id => {
                codes.push(event["metadata"]["status_code"].as_u64().unwrap())
            }
            "lifecycle" => actions.push(event["metadata"]["action"].as_str().unwrap().to_owned()),
            _ => {}
        }
    }
    assert_eq!(codes[0], 105, "{codes:?}");
    assert!(codes.is_sorted_by(|a, b| (*a == 105) || a <= b), "{codes:?}");
    assert_eq!(actions, ["instance-created"]);
}

#[tokio::test]
async fn listeners_hear_what_they_asked_for() {
    let world = World::of(1).await;
    let client = world.client();
    let mut listener = client.websocket("/1.0/events?type=lifecycle").await.unwrap();
    client.post("/1.0/projects", json!({"name": "p"})).await.ok();
    client.post("/1.0/profiles?project=p", json!({"name": "unheard"})).await.ok();
    client.post("/1.0/profiles", json!({"name": "heard"})).await.ok();
    let heard = event(&mut listener).await;
    assert_eq!(heard["metadata"]["source"], "/1.0/profiles/heard");
    assert_eq!(heard["metadata"]["requestor"]["protocol"], "unix");
    client.get("/1.0/events?type=nonsense").await.error(400);
}

#[tokio::test]
async fn without_a_quorum() {
    let world = World::of(2).await;
    let client = world.client();
    world.create("c1", true).await;
    world.shared.stale.store(true, Ordering::SeqCst);
    let list = client.get("/1.0/instances").await;
    assert_eq!(list.header("x-basalt-stale"), "true");
    assert_eq!(list.ok(), json!(["/1.0/instances/c1"]));
    let body = json!({"name": "c2", "source": {"type": "none"}});
    for answer in [
        client.post("/1.0/instances", body).await,
        client.patch("/1.0/instances/c1", json!({"description": "x"})).await,
        client.put("/1.0/instances/c1/state", json!({"action": "stop"})).await,
        client.delete("/1.0/profiles/default").await,
    ] {
        assert!(answer.error(503).contains("quorum"), "{answer:?}");
    }
    // A guest that runs here can still be entered.
    let answer = client.post("/1.0/instances/c1/exec", json!({"command": ["true"]})).await;
    client.done(answer).await;
    world.shared.stale.store(false, Ordering::SeqCst);
    assert_eq!(client.get("/1.0/instances").await.header("x-basalt-stale"), "");
}

#[tokio::test]
async fn a_fresh_node() {
    let world = World::fresh().await;
    let client = world.client();
    assert_eq!(client.get("/1.0").await.ok()["environment"]["server_clustered"], false);
    assert_eq!(client.get("/1.0/cluster").await.ok()["enabled"], false);
    assert!(client.get("/1.0/instances").await.error(503).contains("basalt init"));
    client.post("/1.0/profiles", json!({"name": "x"})).await.error(503);
    client.put("/1.0/cluster", json!({"enabled": true})).await.error(400);
    let secret = format!("{}:{}", uuid::Uuid::new_v4(), token::random_secret());
    let join = JoinToken {
        server_name: "me".into(),
        fingerprint: "0".repeat(64),
        addresses: vec!["127.0.0.9:8443".into()],
        secret,
        ..JoinToken::default()
    };
    let body = |token: String| json!({"server_name": "me", "enabled": true, "cluster_password": token});
    assert!(client.put("/1.0/cluster", body("x".into())).await.error(400).contains("cluster_token"));
    let text = client.fails(client.put("/1.0/cluster", body(token::encode(&join))).await).await;
    assert!(text.contains("127.0.0.9"), "{text}");
    let answer = client.put("/1.0/cluster", json!({"server_name": "me", "enabled": true})).await;
    client.done(answer).await;
    assert_eq!(
        client.get("/1.0/cluster").await.ok(),
        json!({"server_name": "me", "enabled": true, "member_config": []})
    );
    assert_eq!(client.get("/1.0/instances").await.ok(), json!([]));
}

#[tokio::test]
async fn members_and_groups() {
    let world = World::of(3).await;
    let client = world.client();
    let members = client.get("/1.0/cluster/members?recursion=1").await.ok();
    assert_eq!(members[0]["status"], "Online");
    assert_eq!(members[0]["roles"], json!(["database-leader", "database"]));
    assert_eq!(members[1]["url"], "https://127.0.0.2:8443");
    assert_eq!(client.post("/1.0/cluster/groups", json!({"name": "gpu", "members": ["node2"]})).await.code, 201);
    let mut node2 = client.get("/1.0/cluster/members/node2").await.ok();
    assert_eq!(node2["groups"], json!(["gpu"]));
    node2["failure_domain"] = json!("rack1");
    client.put("/1.0/cluster/members/node2", node2).await.ok();
    assert_eq!(client.get("/1.0/cluster/members/node2").await.ok()["failure_domain"], "rack1");
    client.patch("/1.0/cluster/members/node2", json!({"config": {"scheduler.instance": "x"}})).await.error(400);
    client.delete("/1.0/cluster/groups/gpu").await.error(400);
    client.patch("/1.0/cluster/groups/gpu", json!({"members": []})).await.ok();
    client.delete("/1.0/cluster/groups/gpu").await.ok();
    assert_eq!(
        client.get("/1.0/cluster/members/node2/state").await.ok()["storage_pools"]["default"]["space"]["total"],
        100
    );
    client.post("/1.0/cluster/members/node2/state", json!({"action": "evacuate"})).await.error(501);
    client.delete("/1.0/cluster/members/node3").await.ok();
    client.get("/1.0/cluster/members/node3").await.error(404);
}

#[tokio::test]
async fn join_tokens() {
    let world = World::of(2).await;
    let client = world.client();
    let answer = client.post("/1.0/cluster/members", json!({"server_name": "node3"})).await;
    assert_eq!(answer.code, 202);
    let operation = answer.json()["metadata"].clone();
    assert_eq!(operation["class"], "token");
    for key in ["serverName", "secret", "fingerprint", "addresses", "expiresAt"] {
        assert!(!operation["metadata"][key].is_null(), "{key}");
    }
    let (id, secret) = token::split_secret(operation["metadata"]["secret"].as_str().unwrap()).unwrap();
    let kept = world.state().tokens.get(&id).unwrap().clone();
    assert_eq!(kept.secret_hash, token::hash_secret(secret));
    client.post("/1.0/cluster/members", json!({"server_name": "node2"})).await.error(409);
    // Any member shows the token, without its secret, and can revoke it.
    let other = &world.nodes[1].client;
    let listed = other.get("/1.0/operations?recursion=1").await.ok();
    assert_eq!(listed["running"][0]["metadata"]["serverName"], "node3");
    assert_eq!(listed["running"][0]["metadata"]["secret"], "");
    other.delete(&format!("/1.0/operations/{id}")).await.ok();
    assert!(world.state().tokens.is_empty());
}
