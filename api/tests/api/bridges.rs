//! Bridge networks: lists, forwards, and what their interfaces may be given.

use serde_json::{Value, json};

use crate::world::World;

const LAB: &str = "/1.0/networks/lab";

/// A cluster with a network of a known subnet.
async fn world() -> World {
    let world = World::of(2).await;
    let config = json!({"ipv4.address": "10.9.0.1/24"});
    let lab = json!({"name": "lab", "type": "bridge", "config": config});
    assert_eq!(world.client().post("/1.0/networks", lab).await.code, 201);
    world
}

#[tokio::test]
async fn lists_are_about_addresses() {
    let world = world().await;
    let client = world.client();
    let list = |name: &str, source: &str| {
        let ingress = json!([{"action": "allow", "protocol": "tcp", "source": "10.0.0.0/8"}, {"action": "drop", "source": source}]);
        json!({"name": name, "ingress": ingress})
    };
    for (name, source) in [("web", "192.0.2.1-192.0.2.9"), ("inner", "@internal"), ("named", "web")] {
        assert_eq!(client.post("/1.0/network-acls", list(name, source)).await.code, 201, "{name}");
    }
    let assign = |names: &str| json!({"config": {"security.acls": names}});
    assert!(client.patch(LAB, assign("nonesuch")).await.error(404).contains("nonesuch"));
    for name in ["inner", "web,inner", "named"] {
        let refused = client.patch(LAB, assign(name)).await.error(400);
        assert!(refused.contains("security.acls: ingress[1].source of network ACL"), "{refused}");
    }
    let bad = json!({"config": {"security.acls.default.ingress.action": "maybe"}});
    assert!(client.patch(LAB, bad).await.error(400).contains("security.acls.default.ingress.action"));
    client.patch(LAB, assign("web")).await.ok();
    let used = client.get("/1.0/network-acls/web").await.ok();
    assert_eq!(used["used_by"], json!(["/1.0/networks/lab", "/1.0/network-acls/named"]));
    // The other way round it is refused as well.
    for source in ["@external", "inner"] {
        let refused = client.put("/1.0/network-acls/web", list("web", source)).await.error(400);
        assert!(refused.contains("ingress[1].source: the list is in use on network lab"), "{refused}");
    }
    client.put("/1.0/network-acls/web", list("web", "fd42::/64")).await.ok();
    assert!(client.delete("/1.0/network-acls/web").await.error(400).contains("used by"));
    client.patch(LAB, assign("")).await.ok();
    // Of an interface: the same, and addresses that stay.
    let make = async |name: &str, more: Value| {
        let mut nic = json!({"type": "nic", "network": "lab"});
        nic.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.post("/1.0/instances", json!({"name": name, "source": {"type": "none"}, "devices": {"eth0": nic}})).await
    };
    for (more, part) in [
        (json!({"security.acls": "nonesuch"}), "there is no network ACL nonesuch"),
        (json!({"security.acls": "inner", "ipv4.address": "10.9.0.5"}), "ingress[1].source of network ACL inner"),
        (json!({"security.acls": "web"}), "needs ipv4.address"),
        (
            json!({"security.acls": "web", "ipv4.address": "10.9.0.5", "security.mac_filtering": "false"}),
            "needs security.mac_filtering",
        ),
    ] {
        let refused = make("c0", more.clone()).await.error(400);
        assert!(refused.contains("devices.eth0.security.acls") && refused.contains(part), "{more}: {refused}");
    }
    client.done(make("c1", json!({"security.acls": "web", "ipv4.address": "10.9.0.5"})).await).await;
    let refused = client.put("/1.0/network-acls/web", list("web", "@external")).await.error(400);
    assert!(refused.contains("in use on network lab"), "{refused}");
    client.done(client.delete("/1.0/instances/c1").await).await;
    client.put("/1.0/network-acls/web", list("web", "@external")).await.ok();
}

#[tokio::test]
async fn forwards_listen_on_addresses_of_members() {
    let world = world().await;
    let client = world.client();
    let forwards = "/1.0/networks/lab/forwards";
    let port = |port: &str, target: &str| json!({"protocol": "tcp", "listen_port": port, "target_address": target});
    let forward = |listen: &str, ports: Value| json!({"listen_address": listen, "ports": ports});
    for (listen, target, part) in [
        ("10.9.0.1", "10.9.0.5", "listen_address: 10.9.0.1 is in the subnet of network lab itself"),
        ("10.9.0.9", "10.9.0.5", "in the subnet of network lab itself"),
        ("127.0.0.1", "10.9.0.5", "listen_address"),
        ("0.0.0.0", "10.9.0.5", "listen_address"),
        ("fe80::1", "10.9.0.5", "listen_address"),
        ("192.0.2.1", "10.8.0.5", "ports[0].target_address"),
        ("192.0.2.1", "10.9.0.1", "ports[0].target_address"),
        ("2001:db8::1", "10.9.0.5", "ports[0].target_address: 10.9.0.5 is of another family"),
    ] {
        let refused = client.post(forwards, forward(listen, json!([port("80", target)]))).await.error(400);
        assert!(refused.contains(part), "{listen} {target}: {refused}");
    }
    assert_eq!(client.post(forwards, forward("192.0.2.1", json!([port("80", "10.9.0.5")]))).await.code, 201);
    client.post(forwards, forward("192.0.2.1", json!([]))).await.error(409);
    let wide = json!({"name": "wide", "type": "bridge", "config": {"ipv4.address": "192.0.2.254/24"}});
    let refused = client.post("/1.0/networks", wide).await.error(400);
    assert!(refused.contains("192.0.2.0/24 holds 192.0.2.1, on which network lab listens"), "{refused}");
    let config = json!({"ipv4.address": "10.7.0.1/24"});
    let other = json!({"name": "other", "type": "bridge", "config": config});
    assert_eq!(client.post("/1.0/networks", other).await.code, 201);
    for (listen, part) in [("192.0.2.1", "listened on by network lab"), ("10.9.0.7", "in the subnet of network lab")] {
        let taken = client.post("/1.0/networks/other/forwards", forward(listen, json!([]))).await.error(409);
        assert!(taken.contains("listen_address") && taken.contains(part), "{taken}");
    }
    // A subnet that leaves targets behind is refused; an end of the network is not.
    let moved = json!({"config": {"ipv4.address": "10.6.0.1/24"}});
    assert!(client.patch(LAB, moved).await.error(400).contains("10.9.0.5"));
    client.delete(LAB).await.ok();
    client.get(forwards).await.error(404);
}

#[tokio::test]
async fn interfaces_have_what_bridges_can_do() {
    let world = world().await;
    let client = world.client();
    let make = async |name: &str, more: Value| {
        let mut nic = json!({"type": "nic", "network": "lab"});
        nic.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.post("/1.0/instances", json!({"name": name, "source": {"type": "none"}, "devices": {"eth0": nic}})).await
    };
    for (more, part) in [
        (json!({"limits.ingress": "10MB"}), "devices.eth0.limits.ingress"),
        (json!({"limits.max": "1bit"}), "devices.eth0.limits.max"),
        (json!({"limits.priority": "-1"}), "devices.eth0.limits.priority"),
        (json!({"security.port_isolation": "maybe"}), "devices.eth0.security.port_isolation"),
        (json!({"security.ipv4_filtering": "true"}), "devices.eth0.security.ipv4_filtering: needs ipv4.address"),
        (json!({"security.ipv6_filtering": "true"}), "devices.eth0.security.ipv6_filtering: needs ipv6.address"),
        (
            json!({"security.ipv4_filtering": "true", "ipv4.address": "10.9.0.5", "security.mac_filtering": "false"}),
            "devices.eth0.security.mac_filtering",
        ),
        (json!({"ipv4.routes": "10.3.0.0/24"}), "devices.eth0.ipv4.routes: only works on networks of type ovn"),
        (json!({"limits.speed": "1Gbit"}), "devices.eth0.limits.speed"),
    ] {
        let refused = make("c0", more.clone()).await.error(400);
        assert!(refused.contains(part), "{more}: {refused}");
    }
    let good = json!({"limits.max": "1Gbit", "limits.priority": "7", "security.mac_filtering": "true",
        "security.ipv4_filtering": "true", "ipv4.address": "10.9.0.5", "security.port_isolation": "true"});
    client.done(make("c1", good).await).await;
    let parent = json!({"type": "nic", "nictype": "bridged", "parent": "br7", "limits.egress": "5Mbit"});
    let body = json!({"name": "c2", "source": {"type": "none"}, "devices": {"eth0": parent}});
    client.done(client.post("/1.0/instances", body).await).await;
    let keys = client.get("/1.0/metadata/configuration").await.ok();
    assert!(keys["configs"]["device-nic"]["common"]["keys"].to_string().contains("limits.egress"), "{keys}");
}
