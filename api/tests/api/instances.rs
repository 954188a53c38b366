//! Instances: making, listing, changing, running and removing them.

use axum::body::Body;
use basalt_api::port::{LiveInterface, LiveState};
use http::Method;
use serde_json::{Value, json};

use crate::world::{World, offline};

#[tokio::test]
async fn create_list_and_delete() {
    let world = World::of(1).await;
    let client = world.client();
    let body = json!({"name": "c1", "source": {"type": "none"}, "config": {"user.a": "b"}});
    let answer = client.post("/1.0/instances", body).await;
    assert_eq!(answer.code, 202);
    let envelope = answer.json();
    assert_eq!(envelope["type"], "async");
    assert_eq!(envelope["status"], "Operation created");
    assert_eq!(envelope["status_code"], 100);
    assert_eq!(answer.header("location"), envelope["operation"].as_str().unwrap());
    assert_eq!(envelope["metadata"]["resources"]["instances"][0], "/1.0/instances/c1");
    assert_eq!(envelope["metadata"]["class"], "task");
    assert_eq!(envelope["metadata"]["location"], "none");
    let ended = client.done(answer).await;
    let progress = &ended.metadata.unwrap()["create_instance_progress"];
    assert!(progress.is_string(), "clients panic on anything else");

    assert_eq!(client.get("/1.0/instances").await.ok(), json!(["/1.0/instances/c1"]));
    assert_eq!(client.get("/1.0/containers").await.ok(), json!(["/1.0/containers/c1"]));
    assert_eq!(client.get("/1.0/virtual-machines").await.ok(), json!([]));
    let one = client.get("/1.0/instances/c1").await.ok();
    assert_eq!(one["status"], "Stopped");
    assert_eq!(one["status_code"], 102);
    assert_eq!(one["config"]["user.a"], "b");
    assert_eq!(one["config"]["volatile.last_state.power"], "STOPPED");
    assert!(one["config"]["volatile.eth0.hwaddr"].as_str().unwrap().starts_with("00:16:3e:"));
    assert_eq!(one["devices"], json!({}));
    assert_eq!(one["expanded_devices"]["root"]["pool"], "default");
    assert_eq!(one["profiles"], json!(["default"]));
    assert_eq!(one["last_used_at"], "0001-01-01T00:00:00Z");
    let full = client.get("/1.0/instances/c1?recursion=1").await.ok();
    assert_eq!(full["state"]["status"], "Stopped");
    assert_eq!(full["snapshots"], json!([]));
    client.get("/1.0/virtual-machines/c1").await.error(404);

    let answer = client.delete("/1.0/instances/c1").await;
    client.done(answer).await;
    client.get("/1.0/instances/c1").await.error(404);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::of(2).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "p2"})).await.ok();
    for (body, field) in [
        (json!({"source": {"type": "none"}, "name": "a/b"}), "name"),
        (json!({"source": {"type": "none"}, "name": "1a"}), "name"),
        (json!({"name": "a"}), "source.type"),
        (json!({"name": "a", "source": {"type": "image"}}), "source"),
        (json!({"name": "a", "source": {"type": "none"}, "config": {"limits.cpu": "many"}}), "limits.cpu"),
        (json!({"name": "a", "source": {"type": "none"}, "config": {"colour": "red"}}), "Unknown configuration key"),
        (json!({"name": "a", "source": {"type": "none"}, "config": {"limits.memory": 5}}), "config"),
        (json!({"name": "a", "source": {"type": "none"}, "devices": {"x": {"type": "nic"}}}), "devices.x.network"),
        (json!({"name": "a", "source": {"type": "none"}, "profiles": ["no"]}), "Profile \"no\" doesn't exist"),
        (json!({"name": "a", "source": {"type": "none"}, "profiles": []}), "devices"),
        (json!({"name": "a", "source": {"type": "none"}, "type": "toaster"}), "type"),
        (json!({"name": "a", "source": {"type": "none"}, "architecture": "vax"}), "architecture"),
        (json!({"name": "a", "source": {"type": "none"}, "instance_type": "t3.micro"}), "instance_type"),
    ] {
        let text = client.post("/1.0/instances", body.clone()).await.error(400);
        assert!(text.contains(field), "{body}: {text}");
    }
    let image = json!({"name": "a", "source": {"type": "image", "alias": "none"}});
    assert!(client.post("/1.0/instances", image).await.error(404).contains("Image"));
    let plain = json!({"name": "a", "source": {"type": "none"}});
    client.post("/1.0/instances?target=nobody", plain.clone()).await.error(404);
    client.post("/1.0/instances?target=@nogroup", plain.clone()).await.error(404);
    client.post("/1.0/instances?project=none", plain.clone()).await.error(404);
    client.post("/1.0/instances", json!({"name": "a", "source": {"type": "copy"}})).await.error(400);
    client.post("/1.0/instances", json!({"name": "a", "source": {"type": "migration"}})).await.error(501);
    client.get("/1.0/instances?project=default&all-projects=true").await.error(400);
    client.get("/1.0/instances?filter=status+is+x").await.error(400);
    assert_eq!(client.get("/1.0/instances").await.ok(), json!([]));

    world.create("a", false).await;
    client.post("/1.0/instances", plain).await.error(409);
}

#[tokio::test]
async fn old_clients_capitals_and_nothings_are_understood() {
    let world = World::of(1).await;
    let client = world.client();
    let body = json!({
        "name": "", "source": {"type": "none", "alias": null}, "Config": {"user.a": "b"}, "Devices": {},
        "Profiles": ["default"], "epehemeral": false, "default": 1, "architecture": null,
    });
    let ended = client.done(client.post("/1.0/instances?project=", body).await).await;
    let url = ended.resources.unwrap()["instances"][0].clone();
    let one = client.get(&format!("{url}?project=None")).await.ok();
    assert_eq!(one["config"]["user.a"], "b");
    assert!(one["name"].as_str().unwrap().contains('-'), "a name was made: {}", one["name"]);
}

#[tokio::test]
async fn failed_creations_leave_nothing() {
    let world = World::of(1).await;
    let client = world.client();
    let body = |name: &str, start: bool| json!({"name": name, "source": {"type": "none"}, "start": start});
    let text = client.fails(client.post("/1.0/instances", body("nowhere1", false)).await).await;
    assert_eq!(text, "node1: not enough memory");
    let text = client.fails(client.post("/1.0/instances", body("broken1", true)).await).await;
    assert!(text.contains("the image is corrupt"), "{text}");
    assert_eq!(client.get("/1.0/instances").await.ok(), json!([]));
    // What was made stays, and says why it does not run.
    let text = client.fails(client.post("/1.0/instances", body("unstartable1", true)).await).await;
    assert!(text.contains("no such init"), "{text}");
    assert_eq!(client.get("/1.0/instances").await.ok(), json!(["/1.0/instances/unstartable1"]));
}

#[tokio::test]
async fn the_life_of_a_guest() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", true).await;
    let put =
        |action: &str| client.call(Method::PUT, "/1.0/instances/c1/state", json!({"action": action, "timeout": 30}));
    let status = || async { client.get("/1.0/instances/c1").await.ok()["status"].as_str().unwrap().to_owned() };
    assert_eq!(status().await, "Running");
    assert_eq!(put("start").await.error(400), "The instance is already running");
    assert_eq!(client.delete("/1.0/instances/c1").await.error(400), "Instance is running");
    client.done(put("freeze").await).await;
    assert_eq!(status().await, "Frozen");
    client.post("/1.0/instances/c1/exec", json!({"command": ["true"]})).await.error(400);
    client.done(put("unfreeze").await).await;
    client.done(put("restart").await).await;
    assert_eq!(status().await, "Running");
    assert!(client.post("/1.0/instances/c1", json!({"name": "c2"})).await.error(400).contains("running"));
    client.done(put("stop").await).await;
    assert_eq!(status().await, "Stopped");
    assert_eq!(put("stop").await.error(400), "The instance is already stopped");
    assert_eq!(put("restart").await.error(400), "Instance is not running");
    assert!(put("dance").await.error(400).contains("action"));
    client.put("/1.0/instances/c1/state", json!({})).await.error(400);
    client.done(client.post("/1.0/instances/c1", json!({"name": "c2"})).await).await;
    client.get("/1.0/instances/c1").await.error(404);
    assert_eq!(client.get("/1.0/instances/c2").await.ok()["name"], "c2");
}

#[tokio::test]
async fn bulk_changes_take_those_that_can() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", true).await;
    world.create("c2", false).await;
    client.done(client.put("/1.0/instances", json!({"state": {"action": "start"}})).await).await;
    let all = client.get("/1.0/instances?recursion=1").await.ok();
    assert!(all.as_array().unwrap().iter().all(|i| i["status"] == "Running"));
    client.put("/1.0/instances", json!({"state": {}})).await.error(400);
}

#[tokio::test]
async fn edits_with_etags() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", false).await;
    let got = client.get("/1.0/instances/c1").await;
    let etag = got.header("etag").to_owned();
    let mut object = got.ok();
    object["config"]["user.x"] = json!("1");
    object["description"] = json!("edited");
    let put = |tag: String, body: &Value| {
        let request = client.request(Method::PUT, "/1.0/instances/c1").header("if-match", tag);
        client.send(request.body(body.to_string().into()).unwrap())
    };
    assert!(put("\"other\"".into(), &object).await.error(412).starts_with("ETag doesn't match"));
    client.done(put(etag.clone(), &object).await).await;
    let again = client.get("/1.0/instances/c1").await;
    assert_ne!(again.header("etag"), etag);
    let after = again.ok();
    assert_eq!(after["description"], "edited");
    assert_eq!(after["config"]["volatile.uuid"], object["config"]["volatile.uuid"]);

    let answer = client.patch("/1.0/instances/c1", json!({"config": {"user.x": "", "user.y": "2"}})).await;
    assert_eq!(answer.ok(), json!({}));
    let after = client.get("/1.0/instances/c1").await.ok();
    assert_eq!(after["config"].get("user.x"), None);
    assert_eq!(after["config"]["user.y"], "2");
    assert_eq!(after["description"], "edited");
    assert!(
        client
            .patch("/1.0/instances/c1", json!({"config": {"limits.cpu": "x"}}))
            .await
            .error(400)
            .contains("limits.cpu")
    );
}

#[tokio::test]
async fn patches_that_cross_all_count() {
    let world = World::of(2).await;
    world.create("c1", false).await;
    let patches = (0..16).map(|n| {
        let client = world.nodes[n % 2].client.clone();
        async move { client.patch("/1.0/instances/c1", json!({"config": {format!("user.k{n}"): "1"}})).await.ok() }
    });
    futures_util::future::join_all(patches).await;
    let config = world.client().get("/1.0/instances/c1").await.ok()["config"].clone();
    assert!((0..16).all(|n| config[format!("user.k{n}")] == "1"), "{config}");
}

#[tokio::test]
async fn a_member_that_is_behind_refuses_nothing_on_its_own_word() {
    let world = World::of(2).await;
    let (client, path) = (world.client(), "/1.0/instances/c1");
    let behind = |view| *world.shared.behind.lock().unwrap() = view;
    let first = world.state();
    world.create_on("c1", false, "").await;
    // It has not heard of the instance.
    behind(Some(first));
    client.patch(path, json!({"config": {"user.a": "1"}})).await.ok();
    let second = world.state();
    behind(None);
    client.patch(path, json!({"config": {"user.b": "1"}})).await.ok();
    // It knows an older one.
    behind(Some(second));
    client.patch(path, json!({"config": {"user.c": "1"}})).await.ok();
    client.patch("/1.0/instances/none", json!({"config": {}})).await.error(404);
    behind(None);
    let config = client.get(path).await.ok()["config"].clone();
    assert!(["user.a", "user.b", "user.c"].iter().all(|key| config[key] == "1"), "{config}");
    // Without a quorum even what is known here is not merged.
    world.shared.stale.store(true, std::sync::atomic::Ordering::SeqCst);
    client.patch(path, json!({"config": {"user.d": "1"}})).await.error(503);
}

#[tokio::test]
async fn live_states_and_filters() {
    let world = World::of(2).await;
    let client = world.client();
    world.create_on("c1", true, "?target=node1").await;
    world.create_on("c2", false, "?target=node2").await;
    let id = *world.state().instance_names.iter().find(|((_, name), _)| name.as_str() == "c1").unwrap().1;
    let eth0 = LiveInterface {
        name: "eth0".into(),
        up: true,
        mtu: 1500,
        addresses: vec![("10.99.0.5".parse().unwrap(), 24), ("fe80::1".parse().unwrap(), 64)],
        bytes_received: 7,
        ..LiveInterface::default()
    };
    let live = LiveState { pid: 42, memory: 5, processes: 3, interfaces: vec![eth0], ..LiveState::default() };
    world.telemetry.0.lock().unwrap().insert(id, live);

    let all = client.get("/1.0/instances?recursion=2&filter=").await.ok();
    let c1 = all.as_array().unwrap().iter().find(|i| i["name"] == "c1").unwrap();
    assert_eq!(c1["location"], "node1");
    assert_eq!(c1["state"]["pid"], 42);
    assert_eq!(c1["state"]["network"]["eth0"]["addresses"][0]["family"], "inet");
    assert_eq!(c1["state"]["network"]["eth0"]["addresses"][0]["scope"], "global");
    assert_eq!(c1["state"]["network"]["eth0"]["addresses"][1]["scope"], "link");
    assert_eq!(c1["state"]["network"]["eth0"]["counters"]["bytes_received"], 7);
    // Who can do without the costly parts leaves them out.
    let part = client.get("/1.0/instances?recursion=2;fields=state.disk").await.ok();
    assert_eq!((&part[0]["state"]["network"], &part[0]["state"]["pid"]), (&json!({}), &json!(42)));
    assert!(part[0]["state"]["disk"]["root"].is_object());
    assert_eq!(client.get("/1.0/instances?recursion=2%3Bfields=").await.ok()[0]["state"]["disk"], json!({}));
    client.get("/1.0/instances?recursion=2;fields=state.dreams").await.error(400);
    let names = |path: &'static str| async move {
        let all = client.get(path).await.ok();
        all.as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        names("/1.0/instances?recursion=1&filter=status%20eq%20running%20and%20type%20eq%20container").await,
        ["c1"]
    );
    assert_eq!(names("/1.0/instances?recursion=2&filter=name+eq+(%5Ec2%24%7C%5Ec2.*)").await, ["c2"]);
    assert_eq!(names("/1.0/instances?recursion=1&filter=location+eq+node2").await, ["c2"]);
    // One guest's state is asked of its home, from any member.
    let state = world.nodes[1].client.get("/1.0/instances/c1/state").await.ok();
    assert_eq!(state["status"], "Running");
    assert_eq!(state["pid"], 42);
    assert_eq!(state["memory"]["usage"], 5);

    let page = client.get("/1.0/metrics").await;
    let text = String::from_utf8(page.bytes.to_vec()).unwrap();
    assert!(text.contains("lxd_procs_total{name=\"c1\",project=\"default\",type=\"container\"} 3"), "{text}");
    assert!(text.contains("basalt_api_request_duration_seconds_count"), "{text}");
    assert!(text.ends_with("# EOF\n"));
    let page = client.incus().get("/1.0/metrics").await;
    assert!(String::from_utf8_lossy(&page.bytes).contains("incus_procs_total{name=\"c1\""));
}

#[tokio::test]
async fn a_lost_home_is_said_and_not_waited_for() {
    let world = World::of(2).await;
    let client = world.client();
    world.create_on("c1", true, "?target=node2").await;
    world.propose(offline(2)).await;
    let one = client.get("/1.0/instances/c1").await.ok();
    assert_eq!(one["status"], "Error");
    let stop = client.put("/1.0/instances/c1/state", json!({"action": "stop"})).await;
    assert!(stop.error(503).contains("node2"));
}

#[tokio::test]
async fn projects_keep_names_apart() {
    let world = World::of(1).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "p2", "config": {"features.images": "false"}})).await.ok();
    let root = json!({"root": {"type": "disk", "path": "/", "pool": "default"}});
    client.put("/1.0/profiles/default?project=p2", json!({"devices": root})).await.ok();
    world.create("c1", false).await;
    let body = json!({"name": "c1", "source": {"type": "none"}});
    let ended = client.done(client.incus().post("/1.0/instances?project=p2", body).await).await;
    assert_eq!(ended.resources.unwrap()["instances"][0], "/1.0/instances/c1");
    assert_eq!(client.get("/1.0/instances?project=p2").await.ok(), json!(["/1.0/instances/c1?project=p2"]));
    let all = client.get("/1.0/instances?all-projects=true").await.ok();
    assert_eq!(all.as_array().unwrap().len(), 2);
    client.delete("/1.0/projects/p2").await.error(400);
}

#[tokio::test]
async fn files_are_asked_of_the_home() {
    let world = World::of(2).await;
    world.create_on("c1", true, "?target=node2").await;
    let client = world.client();
    let root = client.get("/1.0/instances/c1/files?path=/").await;
    assert_eq!((root.header("x-lxd-type"), root.header("x-incus-type")), ("directory", "directory"));
    assert_eq!(root.ok(), json!([]));
    client.get("/1.0/instances/c1/files?path=/etc").await.error(404);
    client.get("/1.0/instances/c1/files").await.error(400);
    client.get("/1.0/instances/c1/sftp").await.error(400);
}

#[tokio::test]
async fn metadata_and_templates() {
    let world = World::of(2).await;
    // Through the member that is not the home.
    let client = &world.nodes[1].client;
    world.create_on("c1", false, "?target=node1").await;
    let root = "/1.0/instances/c1/metadata";
    let template = |name: &str| format!("{root}/templates?path={name}");
    let fresh = client.get(root).await;
    assert_eq!(fresh.ok()["templates"], json!({}));
    let wanted = json!({"architecture": "x86_64", "properties": {"os": "Debian", "release": 12}, "templates": {
        "/etc/hostname": {"when": ["create"], "template": "hostname.tpl", "create_only": false, "properties": null}}});
    client.put(root, wanted).await.ok();
    let shown = client.get(root).await.ok();
    assert_eq!((&shown["properties"]["release"], &shown["expiry_date"]), (&json!("12"), &json!(0)));
    client.patch(root, json!({"expiry_date": 7, "properties": {"os": ""}})).await.ok();
    let shown = client.get(root).await.ok();
    assert_eq!((&shown["properties"], &shown["expiry_date"]), (&json!({"release": "12"}), &json!(7)));
    let stale = client.request(Method::PUT, root).header("if-match", fresh.header("etag"));
    client.send(stale.body(Body::from(shown.to_string())).unwrap()).await.error(412);

    client.send(client.request(Method::POST, &template("a.tpl")).body(Body::from("{{ name }}")).unwrap()).await.ok();
    assert_eq!(client.get(&format!("{root}/templates")).await.ok(), json!(["a.tpl"]));
    assert_eq!(&client.get(&template("a.tpl")).await.bytes[..], b"{{ name }}");
    client.delete(&template("a.tpl")).await.ok();
    client.delete(&template("a.tpl")).await.error(404);

    for (bad, field) in [
        (json!({"properties": {"a": []}}), "properties"),
        (json!({"templates": {"etc/x": {"template": "a.tpl"}}}), "templates.etc/x"),
        (json!({"templates": {"/a/../b": {"template": "a.tpl"}}}), "templates./a/../b"),
        (json!({"templates": {"/a": {"template": "../a.tpl"}}}), "templates./a"),
        (json!({"templates": {"/a": {"template": "a.tpl", "when": ["noon"]}}}), "noon"),
    ] {
        let said = client.put(root, bad).await.error(400);
        assert!(said.contains(field), "{said}");
    }
    for name in ["", "..", "a%2fb", ".a", "%00"] {
        client.delete(&template(name)).await.error(400);
    }
    let large = client.request(Method::POST, &template("b.tpl")).body(Body::from(vec![b'x'; 2 << 20])).unwrap();
    assert!(client.send(large).await.error(413).contains("1048576"));
}
