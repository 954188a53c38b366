//! Network zones: projects, records, who uses them, and what may not be.

use serde_json::{Value, json};

use crate::access::{Remote, add_token, listen};
use crate::world::World;

fn keyed(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test]
async fn a_zone_from_its_making_to_its_end() {
    let world = World::of(2).await;
    let client = world.client();
    let zones = "/1.0/network-zones";
    let lab = json!({"name": "lab.example", "description": "d", "config": {"peers.ns.address": "192.0.2.1"}});
    let made = client.post(zones, lab.clone()).await;
    assert_eq!((made.code.as_u16(), made.header("location")), (201, "/1.0/network-zones/lab.example"));
    client.post(zones, lab).await.error(409);
    for (name, config, part) in [
        ("Lab", json!({}), "name: "),
        ("a..b", json!({}), "name: "),
        ("b", keyed(&[("peers.a.address", "x")]), "config.peers.a.address"),
        ("b", keyed(&[("peers.a.key", "%")]), "config.peers.a.key"),
        ("b", keyed(&[("dns.nameservers", "a b")]), "config.dns.nameservers"),
        ("b", keyed(&[("colour", "red")]), "config.colour"),
    ] {
        let refused = client.post(zones, json!({"name": name, "config": config})).await.error(400);
        assert!(refused.contains(part), "{refused}");
    }
    let one = "/1.0/network-zones/lab.example";
    client.patch(one, json!({"config": {"dns.nameservers": "ns1.example.org."}})).await.ok();
    let shown = client.get(one).await.ok();
    assert_eq!(
        (&shown["config"], &shown["project"], &shown["used_by"]),
        (
            &json!({"dns.nameservers": "ns1.example.org.", "peers.ns.address": "192.0.2.1"}),
            &json!("default"),
            &json!([])
        )
    );
    client.put(one, shown.clone()).await.ok();
    assert_eq!(client.get(one).await.ok(), shown);

    for (key, value, part) in [
        ("dns.zone.forward", "nonesuch", "dns.zone.forward: there is no network zone"),
        ("dns.zone.reverse.ipv4", "lab.example", "dns.zone.reverse.ipv4: lab.example is not a zone under"),
    ] {
        let refused =
            client.patch("/1.0/networks/basaltbr0", json!({"config": keyed(&[(key, value)])})).await.error(400);
        assert!(refused.contains(part), "{refused}");
    }
    let uses = json!({"config": {"dns.zone.forward": "lab.example"}});
    client.patch("/1.0/networks/basaltbr0", uses).await.ok();
    assert_eq!(client.get(one).await.ok()["used_by"], json!(["/1.0/networks/basaltbr0"]));
    assert!(client.delete(one).await.error(409).contains("is used by /1.0/networks/basaltbr0"));
    client.post(zones, json!({"name": "other.example"})).await.ok();
    let both = json!({"config": {"dns.zone.forward": "lab.example,other.example"}});
    let refused = client.patch("/1.0/networks/basaltbr0", both).await.error(400);
    assert!(refused.contains("lab.example and other.example are both zones of project default"), "{refused}");
    client.patch("/1.0/networks/basaltbr0", json!({"config": {"dns.zone.forward": ""}})).await.ok();
    client.delete(one).await.ok();
    client.get(one).await.error(404);
    assert_eq!(client.get(zones).await.ok(), json!(["/1.0/network-zones/other.example"]));
}

#[tokio::test]
async fn records() {
    let world = World::of(1).await;
    let client = world.client();
    let records = "/1.0/network-zones/lab.example/records";
    client.post(records, json!({"name": "www"})).await.error(404);
    client.post("/1.0/network-zones", json!({"name": "lab.example"})).await.ok();
    let entry = |kind: &str, value: &str| json!({"type": kind, "value": value, "ttl": 60});
    let www = json!({"name": "www", "entries": [entry("A", "192.0.2.9"), entry("TXT", "a b")]});
    let made = client.post(records, www.clone()).await;
    assert_eq!((made.code.as_u16(), made.header("location")), (201, "/1.0/network-zones/lab.example/records/www"));
    client.post(records, www).await.error(409);
    for (entries, part) in [
        (json!([entry("A", "192.0.2.300")]), "entries[0].value"),
        (json!([entry("A", "192.0.2.9"), entry("SOA", "x")]), "entries[1].type"),
        (json!([entry("A", "192.0.2.9"), entry("A", "192.0.2.9")]), "entries[1].value"),
        (json!([entry("CNAME", "a"), entry("A", "192.0.2.9")]), "entries[0].type"),
        (json!([{"type": "A", "value": "192.0.2.9", "ttl": 1_u64 << 40}]), "entries[0].ttl"),
    ] {
        let refused = client.post(records, json!({"name": "bad", "entries": entries})).await.error(400);
        assert!(refused.contains(part), "{refused}");
    }
    let one = "/1.0/network-zones/lab.example/records/www";
    client.patch(one, json!({"description": "d"})).await.ok();
    let shown = client.get(one).await.ok();
    assert_eq!(
        shown,
        json!({"name": "www", "description": "d", "config": {}, "entries": [
            {"type": "A", "ttl": 60, "value": "192.0.2.9"}, {"type": "TXT", "ttl": 60, "value": "a b"}]})
    );
    client.put(one, shown.clone()).await.ok();
    assert_eq!(client.get(&format!("{records}?recursion=1")).await.ok(), json!([shown]));
    // A zone that is written back keeps its records.
    client.put("/1.0/network-zones/lab.example", json!({"description": "z"})).await.ok();
    assert_eq!(client.get(records).await.ok(), json!([one]));
    client.delete(one).await.ok();
    client.get(one).await.error(404);
}

#[tokio::test]
async fn projects_share_zones_or_have_their_own() {
    let world = World::of(1).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "plain"})).await.ok();
    client.post("/1.0/projects", json!({"name": "own", "config": {"features.networks.zones": "true"}})).await.ok();
    client.post("/1.0/network-zones?project=plain", json!({"name": "lab.example"})).await.ok();
    let made = client.post("/1.0/network-zones?project=own", json!({"name": "own.example"})).await;
    assert_eq!(made.header("location"), "/1.0/network-zones/own.example?project=own");
    // Names are unique in the cluster, as they are in the DNS.
    client.post("/1.0/network-zones?project=own", json!({"name": "lab.example"})).await.error(409);
    assert_eq!(client.get("/1.0/network-zones/lab.example").await.ok()["project"], "default");
    client.get("/1.0/network-zones/own.example").await.error(404);
    let all = client.get("/1.0/network-zones?all-projects=true").await.ok();
    assert_eq!(all, json!(["/1.0/network-zones/lab.example", "/1.0/network-zones/own.example?project=own"]));
    assert_eq!(client.get("/1.0/network-zones?project=plain").await.ok(), json!(["/1.0/network-zones/lab.example"]),);
    let both = json!({"config": {"dns.zone.forward": "lab.example, own.example"}});
    client.patch("/1.0/networks/basaltbr0", both).await.ok();
    let off = json!({"config": {"features.networks.zones": "false"}});
    assert!(client.patch("/1.0/projects/own", off).await.error(400).contains("the project has zone own.example"));
    assert_eq!(
        client.get("/1.0/projects/own").await.ok()["used_by"],
        json!(["/1.0/profiles/default?project=own", "/1.0/network-zones/own.example?project=own"])
    );
    client.delete("/1.0/projects/own").await.error(400);
    client.patch("/1.0/networks/basaltbr0", json!({"config": {"dns.zone.forward": ""}})).await.ok();
    client.delete("/1.0/projects/own?force=true").await.ok();
    client.get("/1.0/network-zones/own.example?project=own").await.error(404);
}

#[tokio::test]
async fn each_member_gives_zones_where_it_is_told_to() {
    let world = World::of(2).await;
    let client = world.client();
    let set = |value: &str| json!({"config": {"core.dns_address": value}});
    for bad in ["ns.example.org", "192.0.2.1:0", ":x"] {
        assert!(client.patch("/1.0", set(bad)).await.error(400).contains("core.dns_address"), "{bad}");
    }
    client.patch("/1.0?target=node2", set("[::]:5353")).await.ok();
    client.patch("/1.0", json!({"config": {"core.dns_address": "192.0.2.1", "user.a": "b"}})).await.ok();
    let shown = async |member: &str| {
        let own =
            client.get(&format!("/1.0/cluster/members/{member}")).await.ok()["config"]["core.dns_address"].clone();
        let server = client.get(&format!("/1.0?target={member}")).await.ok()["config"]["core.dns_address"].clone();
        assert_eq!(own, server);
        own
    };
    assert_eq!((shown("node1").await, shown("node2").await), (json!("192.0.2.1"), json!("[::]:5353")));
    // What is written back whole stays, what is missing goes; on that member only.
    let whole = client.get("/1.0").await.ok();
    client.put("/1.0", json!({"config": whole["config"]})).await.ok();
    assert_eq!(shown("node1").await, "192.0.2.1");
    client.put("/1.0", json!({"config": {"user.a": "b"}})).await.ok();
    assert_eq!((shown("node1").await, shown("node2").await), (Value::Null, json!("[::]:5353")));
}

#[tokio::test]
async fn secrets_of_peers_are_for_those_who_set_them() {
    let world = World::of(1).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "mine"})).await.ok();
    let config = keyed(&[("peers.ns.address", "192.0.2.1"), ("peers.ns.key", "c2VjcmV0")]);
    client.post("/1.0/network-zones", json!({"name": "lab.example", "config": config})).await.ok();
    assert_eq!(client.get("/1.0/network-zones/lab.example").await.ok()["config"]["peers.ns.key"], "c2VjcmV0");
    let guest = json!({"name": "guest", "token": true, "restricted": true, "projects": ["mine"]});
    let token = add_token(&world, guest).await;
    let remote = Remote::new(listen(&world, 0).await, true);
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();
    let shown = remote.get("/1.0/network-zones/lab.example?project=mine").await.ok();
    assert_eq!(shown["config"], json!({"peers.ns.address": "192.0.2.1"}));
}
