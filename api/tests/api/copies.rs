//! Copies and moves of instances within the cluster.

use http::Method;
use serde_json::{Value, json};

use crate::world::World;

async fn copy(world: &World, name: &str, source: Value, query: &str) {
    let mut source = source;
    source["type"] = json!("copy");
    let answer = world.client().post(&format!("/1.0/instances{query}"), json!({"name": name, "source": source})).await;
    world.client().done(answer).await;
}

async fn snapshot(world: &World, of: &str, name: &str) {
    let url = format!("/1.0/instances/{of}/snapshots");
    world.client().done(world.client().post(&url, json!({"name": name})).await).await;
}

#[tokio::test]
async fn a_copy_is_like_its_source_but_for_what_is_its_own() {
    let world = World::of(2).await;
    let client = world.client();
    let body =
        json!({"name": "a", "source": {"type": "none"}, "config": {"user.a": "1", "user.b": "2"}, "description": "d"});
    client.done(client.post("/1.0/instances", body).await).await;
    snapshot(&world, "a", "s0").await;
    snapshot(&world, "a", "s1").await;
    let body = json!({"name": "b", "config": {"user.b": "3"}, "source": {"type": "copy", "source": "a"}});
    client.done(client.post("/1.0/instances", body).await).await;
    let (a, b) = (client.get("/1.0/instances/a").await.ok(), client.get("/1.0/instances/b").await.ok());
    assert_eq!(
        (&b["config"]["user.a"], &b["config"]["user.b"], &b["description"]),
        (&json!("1"), &json!("3"), &json!("d"))
    );
    for key in ["volatile.uuid", "volatile.eth0.hwaddr"] {
        assert!(b["config"][key].is_string());
        assert_ne!(a["config"][key], b["config"][key], "{key}");
    }
    let names =
        |full: &Value| full["snapshots"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&client.get("/1.0/instances/b?recursion=1").await.ok()), [json!("s0"), json!("s1")]);
    copy(&world, "c", json!({"source": "a", "instance_only": true}), "").await;
    copy(&world, "d", json!({"source": "a", "container_only": true}), "?target=node2").await;
    copy(&world, "e", json!({"source": "a/s1"}), "").await;
    for name in ["c", "d", "e"] {
        let full = client.get(&format!("/1.0/instances/{name}?recursion=1")).await.ok();
        assert_eq!(names(&full), Vec::<Value>::new(), "{name}");
    }
    assert_eq!(client.get("/1.0/instances/d").await.ok()["location"], "node2");
    // The snapshots of the copy are its own.
    client.done(client.delete("/1.0/instances/b/snapshots/s0").await).await;
    client.get("/1.0/instances/a/snapshots/s0").await.ok();
    client.done(client.delete("/1.0/instances/a").await).await;
}

#[tokio::test]
async fn what_cannot_be_copied_is_refused() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("a", false).await;
    for (source, code, text) in [
        (json!({"type": "copy"}), 400, "source.source"),
        (json!({"type": "copy", "source": "none"}), 404, "none"),
        (json!({"type": "copy", "source": "a/none"}), 404, "none"),
        (json!({"type": "copy", "source": "a", "project": "none"}), 404, "none"),
    ] {
        let answer = client.post("/1.0/instances", json!({"name": "b", "source": source})).await;
        assert!(answer.error(code).contains(text), "{source}");
    }
    let itself = json!({"name": "a", "source": {"type": "copy", "source": "a", "refresh": true}});
    assert!(client.post("/1.0/instances", itself).await.error(400).contains("itself"));
    for (source, code, text) in [
        (json!({"type": "copy", "source": "a"}), 400, "source.type"),
        (json!({"type": "image", "alias": "no"}), 404, "no"),
    ] {
        let answer = client.post("/1.0/instances/a/rebuild", json!({"source": source})).await;
        assert!(answer.error(code).contains(text), "{source}");
    }
    let text = client
        .fails(
            client.post("/1.0/instances", json!({"name": "broken1", "source": {"type": "copy", "source": "a"}})).await,
        )
        .await;
    assert!(text.contains("corrupt"), "{text}");
    // What failed leaves nothing, and lets its source go.
    client.done(client.delete("/1.0/instances/a").await).await;
}

#[tokio::test]
async fn a_copy_goes_to_another_project_with_the_profiles_of_that_one() {
    let world = World::of(1).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "dev"})).await.ok();
    world.create("a", false).await;
    let source = json!({"type": "copy", "source": "a", "project": "default"});
    let body =
        json!({"name": "a", "source": source, "devices": {"root": {"type": "disk", "path": "/", "pool": "default"}}});
    client.done(client.post("/1.0/instances?project=dev", body).await).await;
    assert_eq!(client.get("/1.0/instances?project=dev").await.ok(), json!(["/1.0/instances/a?project=dev"]));
}

#[tokio::test]
async fn a_move_ends_on_the_target_with_all_that_is_its_own() {
    let world = World::of(3).await;
    let client = world.client();
    world.create_on("a", false, "?target=node1").await;
    snapshot(&world, "a", "s0").await;
    // As both stock clients send it for a stopped instance.
    let body = json!({"name": "a", "migration": true, "live": true, "Config": {"user.x": "y"}, "Devices": {}, "Profiles": ["default"]});
    client.done(client.post("/1.0/instances/a?target=node3", body).await).await;
    let full = client.get("/1.0/instances/a?recursion=1").await.ok();
    assert_eq!((&full["location"], &full["config"]["user.x"]), (&json!("node3"), &json!("y")));
    assert_eq!(full["snapshots"][0]["name"], "s0");
    let before = world.state().instances.values().next().unwrap().placement.home().unwrap();
    // Another name at the same time.
    client.done(client.post("/1.0/instances/a?target=node2", json!({"name": "b", "migration": true})).await).await;
    assert_eq!(client.get("/1.0/instances/b").await.ok()["location"], "node2");
    client.get("/1.0/instances/a").await.error(404);
    assert!(world.state().instances.values().next().unwrap().placement.home().unwrap().1 > before.1);
    client.done(client.put("/1.0/instances/b/state", json!({"action": "start"})).await).await;
    assert_eq!(client.get("/1.0/instances/b").await.ok()["status"], "Running");
}

#[tokio::test]
async fn a_move_that_fails_leaves_the_instance_where_it_was() {
    let world = World::of(2).await;
    let client = world.client();
    world.create_on("full1", false, "?target=node1").await;
    let text = client.fails(client.post("/1.0/instances/full1?target=node2", json!({"migration": true})).await).await;
    assert!(text.contains("no space"), "{text}");
    assert_eq!(client.get("/1.0/instances/full1").await.ok()["location"], "node1");
    client.done(client.put("/1.0/instances/full1/state", json!({"action": "start"})).await).await;
    let text = client.post("/1.0/instances/full1?target=node2", json!({"migration": true})).await.error(400);
    assert!(text.contains("stop it"), "{text}");
}

#[tokio::test]
async fn moves_that_make_no_sense_are_refused_with_their_field() {
    let world = World::of(2).await;
    let client = world.client();
    world.create_on("a", false, "?target=node1").await;
    for (query, body, code, text) in [
        ("?target=none", json!({"migration": true}), 404, "none"),
        ("", json!({"migration": true, "pool": "none"}), 404, "none"),
        ("", json!({"migration": true, "project": "none"}), 404, "none"),
        ("", json!({"migration": true}), 501, "another server"),
        ("?target=node2", json!({"migration": true, "target": {"operation": "x"}}), 501, "another server"),
        ("?target=node2", json!({"migration": true, "instance_only": true}), 400, "instance_only"),
        ("?target=node2", json!({"migration": true, "Config": {"colour": "red"}}), 400, "colour"),
    ] {
        let answer = client.call(Method::POST, &format!("/1.0/instances/a{query}"), body.clone()).await;
        assert!(answer.error(code).contains(text), "{body}");
    }
    assert_eq!(client.get("/1.0/instances/a").await.ok()["location"], "node1");
}

#[tokio::test]
async fn to_another_project_is_a_matter_of_the_record() {
    let world = World::of(1).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "dev"})).await.ok();
    world.create("a", false).await;
    let root = json!({"root": {"type": "disk", "path": "/", "pool": "default"}});
    let body = json!({"name": "a", "migration": true, "project": "dev", "Devices": root});
    client.done(client.post("/1.0/instances/a", body).await).await;
    assert_eq!(client.get("/1.0/instances").await.ok(), json!([]));
    assert_eq!(client.get("/1.0/instances/a?project=dev").await.ok()["status"], "Stopped");
}
