//! Snapshots of instances, and going back to them.

use serde_json::{Value, json};

use crate::world::World;

const URL: &str = "/1.0/instances/c1/snapshots";

async fn take(world: &World, body: Value) -> String {
    let ended = world.client().done(world.client().post(URL, body).await).await;
    ended.resources.unwrap()["instances_snapshots"][0].rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn take_list_rename_expire_and_delete() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", false).await;
    assert_eq!(client.get(URL).await.ok(), json!([]));
    assert_eq!(take(&world, json!({"name": "first", "expires_at": "2040-01-02T03:04:05Z"})).await, "first");
    assert_eq!(take(&world, json!({"name": ""})).await, "snap0");
    assert_eq!(take(&world, json!({})).await, "snap1");
    assert_eq!(
        client.get(URL).await.ok(),
        json!([format!("{URL}/first"), format!("{URL}/snap0"), format!("{URL}/snap1")])
    );
    let all = client.get(&format!("{URL}?recursion=1")).await.ok();
    assert_eq!(all[0]["name"], "first");
    assert_eq!(all[0]["expires_at"], "2040-01-02T03:04:05Z");
    assert_eq!(all[1]["expires_at"], "0001-01-01T00:00:00Z");
    assert_eq!(all[0]["expanded_devices"]["root"]["pool"], "default");
    assert_eq!(all[0]["size"], 4096);
    assert_eq!(client.get("/1.0/instances?recursion=2").await.ok()[0]["snapshots"].as_array().unwrap().len(), 3);

    client.done(client.post(&format!("{URL}/first"), json!({"name": "one"})).await).await;
    client.post(&format!("{URL}/one"), json!({"name": "snap0"})).await.error(409);
    client.done(client.put(&format!("{URL}/one"), json!({"expires_at": "2041-01-01T00:00:00Z"})).await).await;
    assert_eq!(client.get(&format!("{URL}/one")).await.ok()["expires_at"], "2041-01-01T00:00:00Z");
    client.done(client.put(&format!("{URL}/one"), json!({})).await).await;
    assert_eq!(client.get(&format!("{URL}/one")).await.ok()["expires_at"], "0001-01-01T00:00:00Z");

    client.done(client.delete(&format!("{URL}/one")).await).await;
    client.get(&format!("{URL}/one")).await.error(404);
    client.delete(&format!("{URL}/one")).await.error(404);
    // What is left goes with the instance.
    client.done(client.delete("/1.0/instances/c1").await).await;
    assert!(world.state().snapshots.is_empty());
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_field() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", false).await;
    take(&world, json!({"name": "s"})).await;
    for (body, field) in [
        (json!({"name": "a/b"}), "name"),
        (json!({"name": "x", "stateful": true}), "stateful"),
        (json!({"name": "x", "expires_at": "tomorrow"}), "expires_at"),
    ] {
        assert!(client.post(URL, body).await.error(400).starts_with(field));
    }
    client.post(URL, json!({"name": "s"})).await.error(409);
    client.post("/1.0/instances/none/snapshots", json!({"name": "s"})).await.error(404);
    client.put("/1.0/instances/c1", json!({"restore": "none"})).await.error(404);
    assert!(
        client
            .put("/1.0/instances/c1", json!({"restore": "s", "stateful": true}))
            .await
            .error(400)
            .starts_with("stateful")
    );
    client.patch("/1.0/instances/c1", json!({"config": {"snapshots.expiry": "soon"}})).await.error(400);
    // One that cannot be taken says why, leaves nothing, and its name is free.
    let text = client.fails(client.post(URL, json!({"name": "full"})).await).await;
    assert!(text.contains("no space"), "{text}");
    assert_eq!(client.get(URL).await.ok(), json!([format!("{URL}/s")]));
}

#[tokio::test]
async fn a_restricted_project_may_forbid_them() {
    let world = World::of(1).await;
    let client = world.client();
    let config = json!({"restricted": "true"});
    client.post("/1.0/projects", json!({"name": "narrow", "config": config})).await.ok();
    let root = json!({"root": {"type": "disk", "path": "/", "pool": "default"}});
    let body = json!({"name": "c1", "source": {"type": "none"}, "devices": root});
    client.done(client.post("/1.0/instances?project=narrow", body).await).await;
    let url = format!("{URL}?project=narrow");
    assert!(client.post(&url, json!({"name": "s"})).await.error(403).contains("narrow"));
    client.patch("/1.0/projects/narrow", json!({"config": {"restricted.snapshots": "allow"}})).await.ok();
    client.done(client.post(&url, json!({"name": "s"})).await).await;
}

#[tokio::test]
async fn names_and_ends_as_the_configuration_says() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", false).await;
    let config = json!({"config": {"snapshots.pattern": "auto-%d", "snapshots.expiry": "1d"}});
    client.patch("/1.0/instances/c1", config).await.ok();
    assert_eq!(take(&world, json!({})).await, "auto-0");
    let one = client.get(&format!("{URL}/auto-0")).await.ok();
    let time = |key: &str| basalt_api::clock::parse(one[key].as_str().unwrap()).unwrap().secs();
    assert_eq!(time("expires_at"), time("created_at") + 86_400);
    // The zero time is how clients say never.
    take(&world, json!({"name": "kept", "expires_at": "0001-01-01T00:00:00Z"})).await;
    assert_eq!(client.get(&format!("{URL}/kept")).await.ok()["expires_at"], "0001-01-01T00:00:00Z");
    client.patch("/1.0/instances/c1", json!({"config": {"snapshots.pattern": "{{ x }}"}})).await.ok();
    assert!(client.post(URL, json!({})).await.error(400).contains("snapshots.pattern"));
}

#[tokio::test]
async fn a_restore_brings_the_configuration_back_and_the_guest_up_again() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", true).await;
    client.patch("/1.0/instances/c1", json!({"config": {"user.a": "then"}})).await.ok();
    let mac = client.get("/1.0/instances/c1").await.ok()["config"]["volatile.eth0.hwaddr"].clone();
    take(&world, json!({"name": "s0"})).await;
    client
        .patch("/1.0/instances/c1", json!({"config": {"user.a": "now", "user.b": "new"}, "description": "x"}))
        .await
        .ok();
    let started = world.state().instances.values().next().unwrap().run.start;
    // lxc gives the full name, incus the short one.
    for given in ["c1/s0", "s0"] {
        client.done(client.put("/1.0/instances/c1", json!({"restore": given, "stateful": false})).await).await;
        let one = client.get("/1.0/instances/c1").await.ok();
        assert_eq!((&one["status"], &one["config"]["user.a"]), (&json!("Running"), &json!("then")));
        assert_eq!((&one["config"]["user.b"], &one["description"]), (&Value::Null, &json!("")));
        assert_eq!(one["config"]["volatile.eth0.hwaddr"], mac);
    }
    assert_eq!(world.state().instances.values().next().unwrap().run.start, started + 2);
    let stop = json!({"action": "stop", "force": true});
    client.done(client.put("/1.0/instances/c1/state", stop).await).await;
    client.done(client.put("/1.0/instances/c1", json!({"restore": "s0"})).await).await;
    assert_eq!(client.get("/1.0/instances/c1").await.ok()["status"], "Stopped");
}
