//! Projects with networks of their own: what names mean there, who may change what, and what is told of it.

use http::Method;
use serde_json::{Value, json};

use crate::access::{Remote, add_token, listen};
use crate::client::Client;
use crate::world::World;

/// A cluster with an uplink, and three projects: `own` and `other` have networks of their own, `plain` has none.
async fn world() -> World {
    let world = World::of(2).await;
    let client = world.client();
    client.patch("/1.0", json!({"config": {"network.ovn.northbound_connection": "unix:/nb.sock"}})).await.ok();
    let up = json!({"name": "up0", "type": "physical", "config": {
        "parent": "eth1", "ipv4.gateway": "192.0.2.1/24", "ipv4.ovn.ranges": "192.0.2.10-192.0.2.19"}});
    assert_eq!(client.post("/1.0/networks", up).await.code, 201);
    for (name, feature) in [("own", "true"), ("other", "true"), ("plain", "false")] {
        client.post("/1.0/projects", json!({"name": name, "config": {"features.networks": feature}})).await.ok();
    }
    world
}

/// A logical network that reaches nothing.
async fn network(client: &Client, name: &str, project: &str) {
    let body = json!({"name": name, "type": "ovn", "config": {"network": "none", "ipv6.address": "none"}});
    let made = client.post(&format!("/1.0/networks?project={project}"), body).await;
    assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.bytes));
}

async fn instance(client: &Client, name: &str, project: &str, nic: Value) {
    let devices = json!({"root": {"type": "disk", "path": "/", "pool": "default"}, "eth0": nic});
    let body = json!({"name": name, "source": {"type": "none"}, "devices": devices});
    client.done(client.post(&format!("/1.0/instances?project={project}"), body).await).await;
}

#[tokio::test]
async fn the_same_name_is_another_network_in_each_project() {
    let world = world().await;
    let client = world.client();
    for project in ["default", "own", "other"] {
        network(client, "lan0", project).await;
    }
    let again = json!({"name": "lan0", "type": "ovn", "config": {"network": "none"}});
    client.post("/1.0/networks?project=own", again).await.error(409);
    let body = json!({"name": "lan1", "type": "ovn"});
    let made = client.post("/1.0/networks?project=own", body).await;
    assert_eq!(made.header("location"), "/1.0/networks/lan1?project=own");
    let shown = client.get("/1.0/networks/lan1?project=own").await.ok();
    assert_eq!((&shown["project"], &shown["config"]["network"]), (&json!("own"), &json!("up0")));
    client.get("/1.0/networks/lan1").await.error(404);
    client.get("/1.0/networks/up0?project=own").await.error(404);
    let own = ["/1.0/networks/lan0?project=own", "/1.0/networks/lan1?project=own"];
    assert_eq!(client.get("/1.0/networks?project=own").await.ok(), json!(own));
    let managed = async |query: &str| -> Vec<String> {
        let all = client.get(&format!("/1.0/networks?recursion=1&filter=managed%20eq%20true&{query}")).await.ok();
        let one = |n: &Value| format!("{}/{}", n["project"].as_str().unwrap(), n["name"].as_str().unwrap());
        all.as_array().unwrap().iter().map(one).collect()
    };
    let shared = ["default/basaltbr0", "default/lan0", "default/up0"];
    assert_eq!(managed("project=plain").await, shared);
    let all = [&shared[..], &["other/lan0", "own/lan0", "own/lan1"]].concat();
    assert_eq!(managed("all-projects=true").await, all);
    // What is changed in one stays as it is in the others.
    client.patch("/1.0/networks/lan0?project=own", json!({"description": "mine"})).await.ok();
    assert_eq!(client.get("/1.0/networks/lan0").await.ok()["description"], "");
    let renamed = client.post("/1.0/networks/lan0?project=own", json!({"name": "man0"})).await;
    assert_eq!(renamed.header("location"), "/1.0/networks/man0?project=own");
    client.delete("/1.0/networks/man0?project=own").await.ok();
    client.get("/1.0/networks/lan0?project=other").await.ok();
}

#[tokio::test]
async fn instances_are_on_the_networks_of_their_project() {
    let world = world().await;
    let client = world.client();
    network(client, "lan0", "own").await;
    let acl = json!({"name": "web", "ingress": [{"action": "allow", "source": "$office"}]});
    assert!(client.post("/1.0/network-acls?project=own", acl.clone()).await.error(400).contains("office"));
    let set = client.post("/1.0/network-address-sets?project=own", json!({"name": "office"})).await;
    assert_eq!(set.header("location"), "/1.0/network-address-sets/office?project=own");
    let made = client.post("/1.0/network-acls?project=own", acl).await;
    assert_eq!(made.header("location"), "/1.0/network-acls/web?project=own");
    let nic = json!({"type": "nic", "network": "lan0", "security.acls": "web"});
    instance(client, "c1", "own", nic).await;
    let used_by = async |path: &str| client.get(&format!("/1.0/{path}?project=own")).await.ok()["used_by"].clone();
    assert_eq!(used_by("networks/lan0").await, json!(["/1.0/instances/c1?project=own"]));
    assert_eq!(used_by("network-acls/web").await, json!(["/1.0/instances/c1?project=own"]));
    assert_eq!(used_by("network-address-sets/office").await, json!(["/1.0/network-acls/web?project=own"]));
    for (path, code) in [("networks/lan0", 400), ("network-acls/web", 400), ("network-address-sets/office", 409)] {
        client.get(&format!("/1.0/{path}")).await.error(404);
        client.get(&format!("/1.0/{path}?project=other")).await.error(404);
        client.delete(&format!("/1.0/{path}?project=own")).await.error(code);
    }
    let lists = ["/1.0/network-acls", "/1.0/network-address-sets"];
    for (list, name) in lists.into_iter().zip(["web", "office"]) {
        assert_eq!(client.get(list).await.ok(), json!([]));
        assert_eq!(
            client.get(&format!("{list}?all-projects=1")).await.ok(),
            json!([format!("{list}/{name}?project=own")])
        );
    }
    let allocated = client.get("/1.0/network-allocations?project=own").await.ok();
    assert_eq!(allocated[0]["used_by"], "/1.0/networks/lan0?project=own");
    let project = client.get("/1.0/projects/own").await.ok();
    assert_eq!(
        project["used_by"],
        json!([
            "/1.0/instances/c1?project=own",
            "/1.0/profiles/default?project=own",
            "/1.0/networks/lan0?project=own",
            "/1.0/network-acls/web?project=own",
            "/1.0/network-address-sets/office?project=own"
        ])
    );
    assert_eq!(client.get("/1.0/projects/own/state").await.ok()["resources"]["networks"]["Usage"], 1);
    // A name of the default project means nothing here.
    let nic = json!({"type": "nic", "network": "basaltbr0"});
    let body = json!({"name": "c2", "source": {"type": "none"}, "devices": {"eth0": nic}});
    let why = client.post("/1.0/instances?project=own", body).await.error(404);
    assert!(why.contains("basaltbr0"), "{why}");
}

#[tokio::test]
async fn what_a_project_may_not() {
    let world = world().await;
    let client = world.client();
    for (kind, config) in [("bridge", json!({})), ("physical", json!({"parent": "eth2"}))] {
        let body = json!({"name": "br7", "type": kind, "config": config});
        let why = client.post("/1.0/networks?project=own", body).await.error(400);
        assert!(why.starts_with("type: ") && why.contains(kind), "{why}");
    }
    let part = json!({"name": "lan0", "type": "ovn"});
    let why = client.post("/1.0/networks?project=own&target=node1", part).await.error(400);
    assert!(why.starts_with("target: "), "{why}");
    network(client, "lan0", "own").await;
    let off = json!({"config": {"features.networks": "false"}});
    let why = client.patch("/1.0/projects/own", off.clone()).await.error(400);
    assert_eq!(why, "features.networks cannot be changed: the project has network lan0");
    client.delete("/1.0/projects/own").await.error(400);
    client.post("/1.0/projects/own", json!({"name": "new"})).await.error(400);
    client.patch("/1.0/projects/other", off).await.ok();
    assert_eq!(client.get("/1.0/projects/other").await.ok()["config"]["features.networks"], "false");
    assert_eq!(client.get("/1.0/projects/default").await.ok()["config"]["features.networks"], "true");
    let wrong = json!({"config": {"restricted": "true", "restricted.networks.uplinks": "nonesuch"}});
    assert!(client.patch("/1.0/projects/own", wrong).await.error(400).contains("nonesuch"));
    let narrow = json!({"config": {"restricted": "true"}});
    client.patch("/1.0/projects/own", narrow).await.ok();
    let out = json!({"name": "lan1", "type": "ovn", "config": {"network": "up0"}});
    let why = client.post("/1.0/networks?project=own", out).await.error(400);
    assert!(why.starts_with("restricted.networks.uplinks: "), "{why}");
    let open = json!({"config": {"restricted.networks.uplinks": "up0"}});
    client.patch("/1.0/projects/own", open).await.ok();
    // The uplink that is open is the one that is taken.
    let made = client.post("/1.0/networks?project=own", json!({"name": "lan1", "type": "ovn"})).await;
    assert_eq!(made.code, 201);
}

#[tokio::test]
async fn peerings_lead_to_other_projects() {
    let world = world().await;
    let client = world.client();
    network(client, "lan0", "own").await;
    network(client, "lan0", "other").await;
    let peer = |project: &str| json!({"name": "p", "target_network": "lan0", "target_project": project});
    let peers = |project: &str| format!("/1.0/networks/lan0/peers?project={project}");
    assert!(client.post(&peers("own"), peer("nowhere")).await.error(400).contains("target_project"));
    client.post(&peers("own"), peer("plain")).await.error(404);
    client.post(&peers("own"), peer("")).await.error(400);
    let made = client.post(&peers("own"), peer("other")).await;
    assert_eq!(made.header("location"), "/1.0/networks/lan0/peers/p?project=own");
    let shown = async || client.get("/1.0/networks/lan0/peers/p?project=own").await.ok();
    assert_eq!((&shown().await["target_project"], &shown().await["status"]), (&json!("other"), &json!("Pending")));
    client.post(&peers("other"), peer("own")).await.ok();
    assert_eq!(shown().await["status"], "Created");
    client.delete("/1.0/networks/lan0/peers/p?project=other").await.ok();
    assert_eq!(shown().await["status"], "Pending");
}

#[tokio::test]
async fn a_project_goes_with_all_its_networks_when_forced() {
    let world = world().await;
    let client = world.client();
    network(client, "lan0", "own").await;
    network(client, "lan1", "own").await;
    let peer = json!({"name": "p", "target_network": "lan1"});
    client.post("/1.0/networks/lan0/peers?project=own", peer).await.ok();
    client.post("/1.0/network-address-sets?project=own", json!({"name": "office"})).await.ok();
    let acl = json!({"name": "web", "ingress": [{"action": "allow", "source": "@lan0/p,$office"}]});
    assert_eq!(client.post("/1.0/network-acls?project=own", acl).await.code, 201);
    client.patch("/1.0/networks/lan1?project=own", json!({"config": {"security.acls": "web"}})).await.ok();
    let nic = json!({"devices": {"eth0": {"type": "nic", "network": "lan0"}}});
    client.patch("/1.0/profiles/default?project=own", nic.clone()).await.ok();
    instance(client, "c1", "own", nic["devices"]["eth0"].clone()).await;
    client.delete("/1.0/projects/own?force=1").await.ok();
    let state = world.state();
    assert!(state.acls.is_empty() && state.address_sets.is_empty() && state.networks.len() == 2);
    // A later project of that name is another one.
    client.post("/1.0/projects", json!({"name": "own", "config": {"features.networks": "true"}})).await.ok();
    assert_eq!(client.get("/1.0/networks?project=own").await.ok(), json!([]));
}

#[tokio::test]
async fn restricted_certificates_change_networks_of_their_projects() {
    let world = world().await;
    let client = world.client();
    network(client, "lan0", "other").await;
    network(client, "lan9", "default").await;
    let guest = json!({"name": "guest", "token": true, "restricted": true, "projects": ["own", "plain"]});
    let token = add_token(&world, guest).await;
    let remote = Remote::new(listen(&world, 0).await, true);
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();
    let body = json!({"name": "lan0", "type": "ovn", "config": {"ipv4.address": "10.7.0.1/24"}});
    for project in ["plain", "other", "default", "nowhere"] {
        remote.post(&format!("/1.0/networks?project={project}"), body.clone()).await.error(403);
        remote.post(&format!("/1.0/network-acls?project={project}"), json!({"name": "web"})).await.error(403);
    }
    remote.post("/1.0/networks", body.clone()).await.error(403);
    remote.send(Method::DELETE, "/1.0/networks/lan9?project=plain", Value::Null).await.error(403);
    assert_eq!(remote.post("/1.0/networks?project=own", body).await.code, 201);
    remote.post("/1.0/network-acls?project=own", json!({"name": "web"})).await.ok();
    remote.post("/1.0/network-address-sets?project=own", json!({"name": "office"})).await.ok();
    let listen = json!({"listen_address": "192.0.2.15"});
    assert_eq!(remote.post("/1.0/networks/lan0/forwards?project=own", listen).await.code, 201);
    let peer = json!({"name": "p", "target_network": "lan0", "target_project": "other"});
    assert!(remote.post("/1.0/networks/lan0/peers?project=own", peer).await.error(400).contains("no project"));
    // Who else has a subnet is not for the caller to know.
    let theirs = client.get("/1.0/networks/lan0?project=other").await.ok()["config"]["ipv4.address"].clone();
    let crossing = json!({"name": "lan1", "type": "ovn", "config": {"ipv4.address": theirs}});
    let why = remote.post("/1.0/networks?project=own", crossing).await.error(400);
    assert!(why.ends_with("of a network of another project"), "{why}");
    let all = remote.get("/1.0/networks?all-projects=true").await.ok();
    let shared = ["/1.0/networks/basaltbr0", "/1.0/networks/lan9", "/1.0/networks/up0"];
    assert_eq!(all, json!([&shared[..], &["/1.0/networks/lan0?project=own"]].concat()));
    // The uplink is used by networks that the caller may know of alone.
    let uplink = remote.get("/1.0/networks/up0?project=plain").await.ok();
    assert_eq!(uplink["used_by"], json!(["/1.0/networks/lan0?project=own"]));
    remote.send(Method::DELETE, "/1.0/networks/lan0/forwards/192.0.2.15?project=own", Value::Null).await.ok();
    remote.send(Method::DELETE, "/1.0/networks/lan0?project=own", Value::Null).await.ok();
}
