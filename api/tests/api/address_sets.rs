//! Address sets, and rules that name them.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_set_from_its_making_to_its_end() {
    let world = World::of(1).await;
    let client = world.client();
    let sets = "/1.0/network-address-sets";
    let office = json!({"name": "office", "addresses": [" 192.0.2.9", "2001:db8::/32"], "config": {"user.a": "b"}});
    let made = client.post(sets, office.clone()).await;
    assert_eq!((made.code.as_u16(), made.header("location")), (201, "/1.0/network-address-sets/office"));
    client.post(sets, office).await.error(409);
    for (name, addresses, config, part) in [
        ("1st", json!([]), json!({}), "name: "),
        ("a b", json!([]), json!({}), "name: "),
        ("x", json!(["192.0.2.300"]), json!({}), "addresses[0]"),
        ("x", json!(["192.0.2.1", "192.0.2.1-192.0.2.9"]), json!({}), "addresses[1]"),
        ("x", json!(["192.0.2.1", "192.0.2.1/32"]), json!({}), "addresses[1]: 192.0.2.1/32 is there twice"),
        ("x", json!([]), json!({"colour": "red"}), "config.colour"),
    ] {
        let refused =
            client.post(sets, json!({"name": name, "addresses": addresses, "config": config})).await.error(400);
        assert!(refused.contains(part), "{refused}");
    }
    let one = "/1.0/network-address-sets/office";
    let shown = client.get(one).await.ok();
    assert_eq!(
        shown,
        json!({"name": "office", "description": "", "config": {"user.a": "b"}, "used_by": [], "project": "default",
            "addresses": ["192.0.2.9", "2001:db8::/32"]})
    );
    client.put(one, shown.clone()).await.ok();
    client.patch(one, json!({"description": "d"})).await.ok();
    assert_eq!(client.get(one).await.ok()["addresses"], shown["addresses"]);

    let rule = |source: &str| json!([{"action": "allow", "source": source}]);
    let missing = json!({"name": "web", "ingress": rule("$home")});
    let refused = client.post("/1.0/network-acls", missing).await.error(400);
    assert!(refused.contains("ingress[0].source: there is no network address set home"), "{refused}");
    let web = json!({"name": "web", "ingress": rule("$office,10.0.0.1"), "egress": [{"action": "drop", "source": "$office"}]});
    assert_eq!(client.post("/1.0/network-acls", web).await.code, 201);
    assert_eq!(client.get(one).await.ok()["used_by"], json!(["/1.0/network-acls/web"]));
    assert!(client.delete(one).await.error(409).contains("is used by /1.0/network-acls/web"));
    assert!(client.post(one, json!({"name": "home"})).await.error(409).contains("/1.0/network-acls/web"));
    client.delete("/1.0/network-acls/web").await.ok();
    let renamed = client.post(one, json!({"name": "home"})).await;
    assert_eq!(renamed.header("location"), "/1.0/network-address-sets/home");
    client.get(one).await.error(404);
    assert_eq!(client.get(sets).await.ok(), json!(["/1.0/network-address-sets/home"]));
    client.delete("/1.0/network-address-sets/home").await.ok();
    assert_eq!(client.get(sets).await.ok(), json!([]));
}
