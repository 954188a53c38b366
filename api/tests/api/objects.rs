//! Profiles, projects, networks, pools, and the server itself.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn the_server_shows_itself() {
    let world = World::of(2).await;
    let client = world.client();
    assert_eq!(client.get("/").await.ok(), json!(["/1.0"]));
    let answer = client.get("/1.0").await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let envelope = answer.json();
    for (key, value) in [
        ("type", json!("sync")),
        ("status", json!("Success")),
        ("status_code", json!(200)),
        ("operation", json!("")),
        ("error_code", json!(0)),
        ("error", json!("")),
    ] {
        assert_eq!(envelope[key], value, "{key}");
    }
    let server = answer.ok();
    assert_eq!(server["auth"], "trusted");
    assert_eq!(server["api_version"], "1.0");
    assert_eq!(server["auth_user_method"], "unix");
    assert_eq!(server["config"]["core.https_address"], "127.0.0.1:8443");
    let environment = &server["environment"];
    assert_eq!(environment["server"], "lxd");
    assert_eq!(environment["server_version"], "5.0.2");
    assert_eq!(environment["server_clustered"], true);
    assert_eq!(environment["server_name"], "node1");
    assert_eq!(environment["storage"], "dir");
    assert_eq!(environment["storage_supported_drivers"][0]["Name"], "dir");
    assert_eq!(environment["certificate_fingerprint"].as_str().unwrap().len(), 64);
    let incus = client.incus().get("/1.0").await.ok();
    assert_eq!(incus["environment"]["server"], "incus");
    assert_eq!(incus["environment"]["server_version"], "6.0.4");
    // Another member's view of itself.
    assert_eq!(client.get("/1.0?target=node2").await.ok()["environment"]["server_name"], "node2");
    client.get("/1.0?target=nobody").await.error(404);
    client.get("/1.0/nothing").await.error(404);
    client.post("/1.0/metrics", json!({})).await.error(405);
}

#[tokio::test]
async fn server_keys() {
    let world = World::of(1).await;
    let client = world.client();
    client.patch("/1.0", json!({"config": {"cluster.offline_threshold": 30, "user.a": "b"}})).await.ok();
    let shown = client.get("/1.0").await.ok()["config"].clone();
    assert_eq!(shown["cluster.offline_threshold"], "30");
    // What is shown can be put back, the address of the node included.
    let mut edited = shown.clone();
    edited["user.a"] = json!("");
    client.put("/1.0", json!({"config": edited})).await.ok();
    assert_eq!(client.get("/1.0").await.ok()["config"].get("user.a"), None);
    assert!(
        client
            .patch("/1.0", json!({"config": {"cluster.max_voters": "4"}}))
            .await
            .error(400)
            .contains("cluster.max_voters")
    );
    assert!(client.patch("/1.0", json!({"config": {"colour": "red"}})).await.error(400).contains("colour"));
    assert!(
        client
            .patch("/1.0", json!({"config": {"core.https_address": "x"}}))
            .await
            .error(400)
            .contains("core.https_address")
    );
}

#[tokio::test]
async fn profiles() {
    let world = World::of(1).await;
    let client = world.client();
    let created = client.post("/1.0/profiles", json!({"name": "web", "config": {"limits.cpu": "2"}})).await;
    assert_eq!((created.code.as_u16(), created.header("location")), (201, "/1.0/profiles/web"));
    assert_eq!(created.json()["metadata"], json!(null));
    client.post("/1.0/profiles", json!({"name": "web"})).await.error(409);
    let body = json!({"name": "c1", "source": {"type": "none"}, "profiles": ["default", "web"]});
    client.done(client.post("/1.0/instances", body).await).await;
    assert_eq!(client.get("/1.0/instances/c1").await.ok()["expanded_config"]["limits.cpu"], "2");
    let web = client.get("/1.0/profiles/web").await.ok();
    assert_eq!(web["used_by"], json!(["/1.0/instances/c1"]));
    // Some tools put the whole envelope back, merged.
    client.put("/1.0/profiles/web", json!({"config": {"limits.cpu": "3"}, "type": "sync", "metadata": web})).await.ok();
    assert_eq!(client.get("/1.0/profiles/web").await.ok()["config"]["limits.cpu"], "3");
    client.delete("/1.0/profiles/web").await.error(400);
    assert_eq!(client.post("/1.0/profiles/web", json!({"name": "www"})).await.code, 201);
    assert_eq!(client.get("/1.0/instances/c1").await.ok()["profiles"], json!(["default", "www"]));
    client.get("/1.0/profiles/none").await.error(404);
}

#[tokio::test]
async fn projects() {
    let world = World::of(1).await;
    let client = world.client();
    let features = json!({"features.images": "false", "features.profiles": "true", "user.a": "b"});
    assert_eq!(client.post("/1.0/projects", json!({"name": "p", "config": features})).await.code, 201);
    let shown = client.get("/1.0/projects/p").await.ok();
    assert_eq!(shown["config"]["user.a"], "b");
    assert_eq!(shown["config"]["features.profiles"], "true");
    client.put("/1.0/projects/p", shown).await.ok();
    assert!(
        client
            .post("/1.0/projects", json!({"name": "q", "config": {"features.storage.volumes": "false"}}))
            .await
            .error(400)
            .contains("features.storage.volumes")
    );
    assert_eq!(
        client.get("/1.0/projects/p/state").await.ok()["resources"]["instances"],
        json!({"Limit": -1, "Usage": 0})
    );
    let access = client.get("/1.0/projects/p/access").await.ok();
    assert_eq!(access, json!([]), "the socket is root's, and no certificate");
    client.get("/1.0/projects/none/access").await.error(404);
    client.done(client.post("/1.0/projects/p", json!({"name": "r"})).await).await;
    client.delete("/1.0/projects/r").await.ok();
    client.delete("/1.0/projects/default").await.error(400);
}

#[tokio::test]
async fn networks() {
    let world = World::of(2).await;
    let client = world.client();
    // The two-step way, and the single call.
    for member in ["node1", "node2"] {
        let step = client.post(&format!("/1.0/networks?target={member}"), json!({"name": "br1"})).await;
        assert_eq!(step.code, 201);
    }
    assert_eq!(client.get("/1.0/networks/br1").await.ok()["status"], "Pending");
    assert_eq!(client.post("/1.0/networks", json!({"name": "br1", "type": "bridge"})).await.code, 201);
    let shown = client.get("/1.0/networks/br1").await.ok();
    assert_eq!(shown["status"], "Created");
    assert_eq!(shown["locations"], json!(["node1", "node2"]));
    let address: ipnet::IpNet = shown["config"]["ipv4.address"].as_str().unwrap().parse().unwrap();
    assert!(!address.contains(&"10.99.0.1".parse::<std::net::IpAddr>().unwrap()), "it is in use: {address}");
    assert_eq!(shown["config"]["ipv4.nat"], "true");
    client.put("/1.0/networks/br1", shown.clone()).await.ok();
    assert_eq!(client.get("/1.0/networks/br1").await.ok()["config"], shown["config"]);
    let taken = json!({"name": "br2", "config": {"ipv4.address": "10.99.0.7/24"}});
    assert!(client.post("/1.0/networks", taken).await.error(400).contains("overlaps"));
    client.post("/1.0/networks", json!({"name": "br2", "type": "ovn"})).await.error(400);
    client.post("/1.0/networks", json!({"name": "averyverylongname"})).await.error(400);
    world.create("c1", false).await;
    assert!(client.delete("/1.0/networks/basaltbr0").await.error(400).contains("used by"));
    client.delete("/1.0/networks/br1").await.ok();
    let leases = client.get("/1.0/networks/basaltbr0/leases").await.ok();
    let kinds: Vec<&str> = leases.as_array().unwrap().iter().map(|l| l["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"gateway") && kinds.iter().filter(|k| **k == "dynamic").count() == 2, "{leases}");
    assert_eq!(client.get("/1.0/networks/lo/state").await.ok()["type"], "loopback");
    client.get("/1.0/networks/nonesuch/state").await.error(404);
}

#[tokio::test]
async fn pools() {
    let world = World::of(2).await;
    let client = world.client();
    let step = json!({"name": "fast", "driver": "zfs", "config": {"size": "5GiB"}});
    assert_eq!(client.post("/1.0/storage-pools?target=node1", step).await.code, 201);
    assert_eq!(client.get("/1.0/storage-pools/fast").await.ok()["status"], "Pending");
    let bad = json!({"name": "fast", "driver": "zfs", "config": {"user.a": "b"}});
    client.post("/1.0/storage-pools?target=node2", bad).await.error(400);
    assert_eq!(client.post("/1.0/storage-pools", json!({"name": "fast", "driver": "zfs"})).await.code, 201);
    assert_eq!(client.get("/1.0/storage-pools/fast?target=node1").await.ok()["config"]["size"], "5GiB");
    assert_eq!(client.get("/1.0/storage-pools/fast?target=node2").await.ok()["config"], json!({}));
    assert!(
        client.post("/1.0/storage-pools", json!({"name": "x", "driver": "ceph"})).await.error(400).contains("driver")
    );
    let shown = client.get("/1.0/storage-pools/default").await.ok();
    assert_eq!(shown["status"], "Created");
    assert_eq!(shown["used_by"], json!(["/1.0/profiles/default"]));
    assert_eq!(
        client.get("/1.0/storage-pools/default/resources").await.ok()["space"],
        json!({"used": 40, "total": 100})
    );
    world.create("c1", false).await;
    let volumes = client.get("/1.0/storage-pools/default/volumes?recursion=1").await.ok();
    assert_eq!(volumes[0]["name"], "c1");
    client.delete("/1.0/storage-pools/default").await.error(400);
    client.delete("/1.0/storage-pools/fast").await.ok();
}
