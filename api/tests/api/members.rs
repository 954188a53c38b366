//! The cluster, its members, events of all of them, and life without a quorum.

use std::sync::atomic::Ordering;
use std::time::Duration;

use basalt_api::dto::cluster::JoinToken;
use basalt_api::token;
use basalt_model::command::{InstanceCommand, MemberCommand};
use basalt_model::evacuation::{Leg, Mode, Task, Trip, TripStep};
use basalt_model::member::Role;
use basalt_model::{Command, NodeId};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::client::Socket;
use crate::world::{World, eventually};

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

/// They wait for an event about it, in the project that they work in.
#[tokio::test]
async fn who_renames_a_project_hears_of_the_end() {
    let world = World::of(1).await;
    let client = world.client();
    let mut listener = client.websocket("/1.0/events?type=operation&project=default").await.unwrap();
    client.post("/1.0/projects", json!({"name": "p"})).await.ok();
    let renamed = client.post("/1.0/projects/p", json!({"name": "q"})).await;
    let id = renamed.json()["metadata"]["id"].clone();
    let ended = |event: &Value| event["metadata"]["id"] == id && event["metadata"]["status_code"] == 200;
    while !ended(&event(&mut listener).await) {}
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
        let why = answer.error(503);
        assert!(why.contains("quorum") || why.contains("no leader"), "{why}");
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
    client.delete("/1.0/cluster/members/node3").await.ok();
    client.get("/1.0/cluster/members/node3").await.error(404);
}

#[tokio::test]
async fn roles_are_given_and_taken() {
    let world = World::of(3).await;
    let client = world.client();
    let url = "/1.0/cluster/members/node2";
    let roles = async || client.get(url).await.ok()["roles"].clone();
    let shown = roles().await;
    let with = |more: &[&str]| {
        let texts = shown.as_array().unwrap().iter().map(|r| r.as_str().unwrap());
        json!(texts.chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let put = async |roles: Value| {
        let mut body = client.get(url).await.ok();
        body["roles"] = roles;
        client.put(url, body).await
    };
    put(with(&["ovn-chassis"])).await.ok();
    assert_eq!(roles().await, with(&["ovn-chassis"]));
    assert_eq!(world.state().members.get(&NodeId(2)).unwrap().roles, [Role::OvnChassis].into());
    let other = world.nodes[2].client.get(url).await.ok();
    assert_eq!(other["roles"].as_array().unwrap().last().unwrap(), "ovn-chassis");
    // A request that does not speak of roles leaves them.
    client.patch(url, json!({"description": "d"})).await.ok();
    assert_eq!(roles().await, with(&["ovn-chassis"]));
    let said = put(with(&["ovn-chassis", "event-hub"])).await.error(400);
    assert!(said.starts_with("roles") && said.contains("event-hub") && said.contains("ovn-chassis"), "{said}");
    let said = put(with(&["ovn-chassis", "database-leader"])).await.error(400);
    assert!(said.starts_with("roles") && said.contains("database-leader"), "{said}");
    put(shown.clone()).await.ok();
    assert_eq!(roles().await, shown);
    let said = put(json!([])).await.error(400);
    assert!(shown.as_array().unwrap().iter().any(|role| said.contains(role.as_str().unwrap())), "{said}");
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

/// The leader's part: one step of a trip of an instance that belongs to the second member.
async fn travel(world: &World, name: &str, leg: Leg, failed: Option<&str>) {
    let view = world.state();
    let instance = view.instances.values().find(|i| i.name.as_str() == name).unwrap();
    let order = view.members.get(&NodeId(2)).unwrap().order.unwrap().at;
    let failed = failed.map(str::to_owned);
    let trip = Trip { origin: NodeId(2), target: instance.target.clone(), starts: true, leg, order, failed };
    let at = basalt_api::clock::now();
    let step = TripStep { expect: instance.errands.trip.clone(), to: Some(trip), run: None, at };
    world.propose(Command::Instance(InstanceCommand::Trip { id: instance.id, step: Box::new(step) })).await;
}

/// The leader has nothing left to do.
async fn done(world: &World) {
    let at = world.state().members.get(&NodeId(2)).unwrap().order.unwrap().at;
    world.propose(Command::Member(MemberCommand::OrderDone { id: NodeId(2), at })).await;
}

#[tokio::test]
async fn evacuation_is_an_order_that_an_operation_looks_at() {
    let world = World::of(2).await;
    let client = world.client();
    world.create_on("runs", true, "?target=node2").await;
    let url = "/1.0/cluster/members/node2/state";
    let post = async |action: &str, mode: &str| client.post(url, json!({"action": action, "mode": mode})).await;
    for (field, action, mode) in [("action", "x", ""), ("mode", "evacuate", "y"), ("mode", "evacuate", "live-migrate")]
    {
        assert!(post(action, mode).await.error(400).starts_with(field), "{action} {mode}");
    }
    assert_eq!(client.get("/1.0/cluster/members/node2").await.ok()["status"], "Online");
    let started = post("evacuate", "migrate").await;
    assert_eq!(started.code, 202);
    assert_eq!(client.get("/1.0/cluster/members/node2").await.ok()["status"], "Evacuated");
    let order = world.state().members.get(&NodeId(2)).unwrap().order.unwrap();
    assert_eq!(order.task, Task::Empty(Mode::Migrate));
    travel(&world, "runs", Leg::Out { from: NodeId(2), moves: true }, None).await;
    let operation = format!("/1.0/operations/{}", started.json()["metadata"]["id"].as_str().unwrap());
    eventually("it tells how far it is", async || {
        let shown = client.get(&operation).await.ok()["metadata"]["evacuation_progress"].clone();
        shown.as_str().is_some_and(|text| text.starts_with("Stopping \"runs\""))
    })
    .await;
    let shown = client.get("/1.0/instances/runs").await.ok();
    assert_eq!(shown["config"]["volatile.evacuate.origin"], "node2");
    travel(&world, "runs", Leg::Rest, Some("no space")).await;
    done(&world).await;
    let said = client.fails(started).await;
    assert!(said.contains("runs: no space"), "{said}");
    // Whoever asks for the contrary meanwhile has their way.
    let evacuating = post("evacuate", "").await;
    let restoring = post("restore", "").await;
    assert!(client.fails(evacuating).await.contains("taken its place"));
    assert_eq!(client.get("/1.0/cluster/members/node2").await.ok()["status"], "Online");
    done(&world).await;
    client.done(restoring).await;
    // The member dies in the middle: the order stands.
    let evacuating = post("evacuate", "stop").await;
    world.propose(crate::world::offline(2)).await;
    assert!(client.fails(evacuating).await.contains("goes on once the member is back"));
    assert!(world.state().members.get(&NodeId(2)).unwrap().order.is_some());
    assert!(post("evacuate", "").await.error(400).contains("offline"));
}

#[tokio::test]
async fn the_certificate_of_the_cluster_is_exchanged_whole() {
    let world = World::of(2).await;
    let client = world.client();
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (new, other) = (made("new"), made("other"));
    let body = |key: &rcgen::CertifiedKey<rcgen::KeyPair>| json!({"cluster_certificate": new.cert.pem(), "cluster_certificate_key": key.signing_key.serialize_pem()});
    let put = async |body| client.put("/1.0/cluster/certificate", body).await;
    assert!(put(json!({})).await.error(400).starts_with("cluster_certificate"));
    assert!(put(body(&other)).await.error(400).starts_with("cluster_certificate_key"));
    assert_ne!(world.state().secrets.api_certificate, new.cert.pem());
    put(body(&new)).await.ok();
    for node in &world.nodes {
        let shown = node.client.get("/1.0").await.ok()["environment"]["certificate"].clone();
        assert_eq!(shown, new.cert.pem());
    }
}

#[tokio::test]
async fn addresses_in_use() {
    let world = World::of(1).await;
    let client = world.client();
    let nic = json!({"type": "nic", "network": "basaltbr0", "ipv4.address": "10.99.0.77"});
    let mut body = json!({"name": "c1", "source": {"type": "none"}});
    body["devices"] = json!({"eth0": nic});
    client.done(client.post("/1.0/instances", body).await).await;
    let all = client.incus().get("/1.0/network-allocations").await.ok();
    let found = |used_by: &str| all.as_array().unwrap().iter().find(|a| a["used_by"] == used_by).cloned().unwrap();
    let network = found("/1.0/networks/basaltbr0");
    assert_eq!(
        (&network["addresses"], &network["type"], &network["nat"]),
        (&json!("10.99.0.1/24"), &json!("network"), &json!(true))
    );
    let instance = found("/1.0/instances/c1");
    assert_eq!((&instance["addresses"], &instance["type"]), (&json!("10.99.0.77/32"), &json!("instance")));
}

#[tokio::test]
async fn warnings_are_kept_seen_and_raised_again() {
    let world = World::of(2).await;
    let client = world.client();
    let online = || {
        use basalt_model::command::MemberCommand;
        let id = NodeId(2);
        Command::Member(MemberCommand::SetHealth { id, health: basalt_model::member::Health::Online })
    };
    let status = async |wanted: &str| {
        for _ in 0..500 {
            let all = client.get("/1.0/warnings?recursion=1").await.ok();
            if let Some(found) = all.as_array().unwrap().iter().find(|w| w["status"] == wanted) {
                return found.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no warning is {wanted}");
    };
    world.propose(crate::world::offline(2)).await;
    let warning = status("new").await;
    assert_eq!((&warning["type"], &warning["count"]), (&json!("Offline cluster member"), &json!(1)));
    assert_eq!((&warning["location"], &warning["severity"]), (&json!("node2"), &json!("high")));
    assert_eq!(warning["entity_url"], "/1.0/cluster/members/node2");
    let url = format!("/1.0/warnings/{}", warning["uuid"].as_str().unwrap());
    assert!(client.put(&url, json!({"status": "resolved"})).await.error(400).starts_with("status"));
    client.put(&url, json!({"status": "acknowledged"})).await.ok();
    assert_eq!(client.get(&url).await.ok()["status"], "acknowledged");
    world.propose(online()).await;
    status("resolved").await;
    world.propose(crate::world::offline(2)).await;
    let again = status("new").await;
    assert_eq!((&again["uuid"], &again["count"]), (&warning["uuid"], &json!(2)));
    // A cause that goes on writes nothing.
    assert_eq!(crate::world::unrecorded(&world.state()), []);
    client.delete(&url).await.ok();
    client.put(&url, json!({"status": "new"})).await.error(404);
    client.get("/1.0/warnings/x").await.error(404);
}
