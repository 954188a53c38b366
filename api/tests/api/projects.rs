//! Limits, restrictions, use and removal of projects.

use http::Method;
use serde_json::{Value, json};

use crate::access::{Remote, add_token, listen};
use crate::world::World;

async fn project(world: &World, config: Value) {
    assert_eq!(world.client().post("/1.0/projects", json!({"name": "p", "config": config})).await.code, 201);
    let root = json!({"type": "disk", "path": "/", "pool": "default", "size": "1GiB"});
    world.client().put("/1.0/profiles/default?project=p", json!({"devices": {"root": root}})).await.ok();
}

fn instance(name: &str, config: Value) -> Value {
    json!({"name": name, "source": {"type": "none"}, "config": config})
}

#[tokio::test]
async fn limits_are_told_and_held() {
    let world = World::of(1).await;
    let client = world.client();
    project(&world, json!({"limits.memory": "1GiB", "limits.instances": "3", "limits.disk.pool.default": "5GiB"}))
        .await;
    let small = json!({"limits.memory": "400MiB"});
    for name in ["a", "b"] {
        client.done(client.post("/1.0/instances?project=p", instance(name, small.clone())).await).await;
    }
    let why = client.post("/1.0/instances?project=p", instance("c", small.clone())).await.error(400);
    assert_eq!(why, "limits.memory: project \"p\" is limited to 1024MiB, and would use 1200MiB");
    client.get("/1.0/instances/c?project=p").await.error(404);
    client.post("/1.0/instances?project=p", instance("c", json!({}))).await.error(400);
    let grow = json!({"config": {"limits.memory": "700MiB"}});
    assert!(client.patch("/1.0/instances/a?project=p", grow).await.error(400).contains("1100MiB"));
    let low = client.patch("/1.0/projects/p", json!({"config": {"limits.memory": "700MiB"}})).await.error(400);
    assert!(low.contains("limited to 700MiB") && low.contains("800MiB"), "{low}");

    let resources = client.get("/1.0/projects/p/state").await.ok()["resources"].clone();
    for (word, limit, usage) in [
        ("instances", 3, 2),
        ("containers", -1, 2),
        ("virtual-machines", -1, 0),
        ("memory", 1 << 30, 800 << 20),
        ("disk", -1, 2i64 << 30),
        ("disk.default", 5i64 << 30, 2i64 << 30),
        ("cpu", -1, 0),
        ("processes", -1, 0),
        ("networks", -1, 0),
    ] {
        assert_eq!(resources[word], json!({"Limit": limit, "Usage": usage}), "{word}");
    }
    assert_eq!(client.get("/1.0/projects/default/state").await.ok()["resources"]["networks"]["Usage"], 1);
    for (key, value) in
        [("limits.cpu", "-1"), ("limits.memory", "x"), ("limits.disk.pool.none", "1GiB"), ("restricted", "2")]
    {
        let wrong = client.patch("/1.0/projects/p", json!({"config": {key: value}})).await.error(400);
        assert!(wrong.contains(key), "{wrong}");
    }
}

/// Two requests that cross: one gets in.
#[tokio::test(flavor = "multi_thread")]
async fn crossing_requests_share_what_is_left() {
    let world = World::of(2).await;
    project(&world, json!({"limits.instances": "5"})).await;
    let asked = (0..20).map(|n| {
        let client = world.nodes[n % 2].client.clone();
        async move { client.post("/1.0/instances?project=p", instance(&format!("c{n}"), json!({}))).await.code.as_u16() }
    });
    let codes = futures_util::future::join_all(asked).await;
    assert_eq!(codes.iter().filter(|c| **c == 202).count(), 5, "{codes:?}");
    assert_eq!(codes.iter().filter(|c| **c == 400).count(), 15, "{codes:?}");
}

#[tokio::test]
async fn a_hidden_pool_and_a_closed_network() {
    let world = World::of(1).await;
    let client = world.client();
    project(&world, json!({"limits.disk.pool.default": "0"})).await;
    assert_eq!(client.get("/1.0/storage-pools?project=p").await.ok(), json!([]));
    client.get("/1.0/storage-pools/default?project=p").await.error(404);
    assert_eq!(client.get("/1.0/storage-pools").await.ok(), json!(["/1.0/storage-pools/default"]));
    client.post("/1.0/networks", json!({"name": "br1"})).await.ok();
    let closed = json!({"restricted": "true", "restricted.networks.access": "br1"});
    client.put("/1.0/projects/p", json!({"config": closed})).await.ok();
    client.get("/1.0/networks/basaltbr0?project=p").await.error(404);
    client.get("/1.0/networks/br1?project=p").await.ok();
    let managed = client.get("/1.0/networks?project=p&recursion=1").await.ok();
    let names: Vec<&str> = managed
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n["managed"] == true)
        .map(|n| n["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["br1"]);
    let nic = json!({"eth0": {"type": "nic", "network": "basaltbr0"}});
    let mut body = instance("a", json!({}));
    body["devices"] = nic;
    let why = client.post("/1.0/instances?project=p", body).await.error(400);
    assert!(why.starts_with("restricted.networks.access: "), "{why}");
}

#[tokio::test]
async fn a_forced_removal_takes_all_with_it() {
    let world = World::of(1).await;
    let client = world.client();
    project(&world, json!({})).await;
    client.post("/1.0/profiles?project=p", json!({"name": "web"})).await.ok();
    let mut body = instance("a", json!({}));
    body["start"] = json!(true);
    body["profiles"] = json!(["default", "web"]);
    client.done(client.post("/1.0/instances?project=p", body).await).await;
    assert!(client.delete("/1.0/projects/p").await.error(400).contains("only empty projects"));
    client.delete("/1.0/projects/p?force=1").await.ok();
    client.get("/1.0/projects/p").await.error(404);
    assert_eq!(world.state().instances.len(), 0);
    client.delete("/1.0/projects/default?force=1").await.error(400);
}

#[tokio::test]
async fn profiles_of_the_default_project_serve_others() {
    let world = World::of(1).await;
    let client = world.client();
    let shared = json!({"name": "p", "config": {"features.profiles": "false"}});
    assert_eq!(client.post("/1.0/projects", shared).await.code, 201);
    let shown = client.get("/1.0/projects/p").await.ok();
    assert_eq!((&shown["config"]["features.profiles"], &shown["used_by"]), (&json!("false"), &json!([])));
    client.done(client.post("/1.0/instances?project=p", instance("a", json!({}))).await).await;
    let seen = client.get("/1.0/profiles?project=p&recursion=1").await.ok();
    assert_eq!((&seen[0]["name"], &seen[0]["project"]), (&json!("default"), &json!("default")));
    assert_eq!(seen[0]["used_by"], json!(["/1.0/instances/a?project=p"]));
    assert_eq!(client.get("/1.0/profiles?all-projects=true").await.ok(), json!(["/1.0/profiles/default"]));
    // Made through the project, it is the default project's.
    client.post("/1.0/profiles?project=p", json!({"name": "web"})).await.ok();
    client.get("/1.0/profiles/web").await.ok();

    let guest = json!({"name": "guest", "token": true, "restricted": true, "projects": ["p"]});
    let token = add_token(&world, guest).await;
    let remote = Remote::new(listen(&world, 0).await, true);
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();
    client.done(client.post("/1.0/instances", instance("b", json!({}))).await).await;
    let seen = remote.get("/1.0/profiles/default?project=p").await.ok();
    assert_eq!(seen["used_by"], json!(["/1.0/instances/a?project=p"]), "not what others have");
    for (method, path) in [
        (Method::POST, "/1.0/profiles?project=p"),
        (Method::PUT, "/1.0/profiles/default?project=p"),
        (Method::PATCH, "/1.0/profiles/default?project=p"),
        (Method::POST, "/1.0/profiles/web?project=p"),
        (Method::DELETE, "/1.0/profiles/web?project=p"),
    ] {
        remote.send(method, path, json!({"name": "mine"})).await.error(403);
    }
    for project in ["default", "nowhere"] {
        remote.post(&format!("/1.0/profiles?project={project}"), json!({"name": "mine"})).await.error(404);
    }
    client.delete("/1.0/projects/p?force=1").await.ok();
    client.get("/1.0/profiles/web").await.ok();
}
