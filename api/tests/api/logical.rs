//! Logical networks: uplinks, addresses that the leader gives out, and what may not be.

use std::sync::atomic::Ordering;

use basalt_api::port::sight::{Bound, Checked, Seen};
use basalt_model::command::MemberCommand;
use basalt_model::network::address;
use basalt_model::{Command, NodeId};
use serde_json::{Value, json};

use crate::world::World;

/// A cluster that knows of a northbound database, with an uplink.
async fn world() -> World {
    let world = World::of(2).await;
    let client = world.client();
    let ovn = json!({"name": "net0", "type": "ovn", "config": {"network": "none"}});
    assert!(client.post("/1.0/networks", ovn).await.error(400).contains("network.ovn.northbound_connection"));
    for (bad, part) in [("/run/ovn", "unix:/path"), ("tcp:1.2.3.4", "tcp:address:port"), ("tcp:h:0", "tcp:address")] {
        let keys = json!({"config": {"network.ovn.northbound_connection": bad}});
        assert!(client.patch("/1.0", keys).await.error(400).contains(part), "{bad}");
    }
    let keys = json!({"config": {"network.ovn.northbound_connection": "unix:/nb.sock,tcp:[::1]:6641"}});
    client.patch("/1.0", keys).await.ok();
    let up = json!({"name": "up0", "type": "physical", "config": {
        "parent": "eth1", "ipv4.gateway": "192.0.2.1/24", "ipv4.ovn.ranges": "192.0.2.10-192.0.2.11",
        "ipv6.gateway": "2001:db8::1/64", "ipv4.routes": "198.51.100.0/24"}});
    assert_eq!(client.post("/1.0/networks", up).await.code, 201);
    world
}

/// Does what the leader's network controller does.
async fn give_addresses(world: &World) {
    for command in address::wanted(&world.state()) {
        world.propose(Command::Network(command)).await;
    }
    assert_eq!(address::wanted(&world.state()), [], "nobody lacks anything now");
}

fn of_kind(leases: &Value, kind: &str) -> Vec<String> {
    let leases = leases.as_array().unwrap().iter().filter(|l| l["type"] == kind);
    leases.map(|l| l["address"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_logical_network_from_its_making_to_its_end() {
    let world = world().await;
    let client = world.client();
    assert_eq!(client.post("/1.0/networks", json!({"name": "net0", "type": "ovn"})).await.code, 201);
    let shown = client.get("/1.0/networks/net0").await.ok();
    assert_eq!((&shown["type"], &shown["config"]["network"]), (&json!("ovn"), &json!("up0")));
    assert_eq!((&shown["config"]["ipv4.nat"], &shown["config"]["ipv6.nat"]), (&json!("true"), &json!("true")));
    assert!(shown["config"]["ipv6.address"].as_str().unwrap().ends_with("/64"));
    assert!(client.delete("/1.0/networks/up0").await.error(400).contains("/1.0/networks/net0"));
    client.post("/1.0/networks", json!({"name": "net1", "type": "ovn", "config": {"ipv6.address": "none"}})).await;
    // The uplink has two addresses to give.
    let third = json!({"name": "net2", "type": "ovn"});
    assert!(client.post("/1.0/networks", third).await.error(400).contains("ipv4.ovn.ranges of up0 are taken"));
    give_addresses(&world).await;
    let shown = client.get("/1.0/networks/net0").await.ok();
    assert_eq!(shown["config"]["volatile.network.ipv4.address"], "192.0.2.10");
    let state = client.get("/1.0/networks/net0/state").await.ok();
    assert_eq!((&state["ovn"]["uplink_ipv4"], &state["mtu"]), (&json!("192.0.2.10"), &json!(1442)));
    assert_eq!(
        state["ovn"]["logical_switch"],
        format!("{}-ls-int", state["ovn"]["logical_router"].as_str().unwrap().trim_end_matches("-lr"))
    );
    let routers = client.get("/1.0/networks/up0/leases").await.ok();
    let v4: Vec<String> = of_kind(&routers, "uplink").into_iter().filter(|a| a.contains('.')).collect();
    assert_eq!(v4, ["192.0.2.10", "192.0.2.11"]);
    // What was shown can be put back.
    client.put("/1.0/networks/net0", shown.clone()).await.ok();
    assert_eq!(client.get("/1.0/networks/net0").await.ok()["config"], shown["config"]);
    let less = json!({"config": {"ipv4.ovn.ranges": "192.0.2.11-192.0.2.12"}});
    assert!(client.patch("/1.0/networks/up0", less).await.error(400).contains("net0"));
    let forget = json!({"config": {"network.ovn.northbound_connection": ""}});
    assert!(client.patch("/1.0", forget).await.error(400).contains("needed by network net0"));
    client.delete("/1.0/networks/net0").await.ok();
    client.delete("/1.0/networks/net1").await.ok();
    client.delete("/1.0/networks/up0").await.ok();
}

#[tokio::test]
async fn interfaces_get_addresses_and_keep_them() {
    let world = world().await;
    let client = world.client();
    let net = json!({"name": "net0", "type": "ovn", "config": {"ipv4.address": "10.3.0.1/29", "ipv6.address": "fd42:3::1/64"}});
    assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    let make = async |name: &str, more: Value| {
        let mut nic = json!({"type": "nic", "network": "net0"});
        nic.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({"name": name, "source": {"type": "none"}, "devices": {"eth0": nic}});
        client.post("/1.0/instances", body).await
    };
    for (name, more, part) in [
        ("c0", json!({"ipv4.address": "10.3.0.1"}), "devices.eth0.ipv4.address: 10.3.0.1 is the gateway"),
        ("c0", json!({"ipv4.address": "10.4.0.9"}), "devices.eth0.ipv4.address"),
        ("c0", json!({"ipv4.address": "10.3.0.6"}), "devices.eth0.ipv4.address"),
        ("c0", json!({"ipv6.address": "fd42:4::2"}), "devices.eth0.ipv6.address"),
        ("c0", json!({"ipv4.routes": "10.3.0.0/24"}), "devices.eth0.ipv4.routes: 10.3.0.0/24 overlaps"),
        ("c0", json!({"network": "up0"}), "devices.eth0.network: up0 is an uplink"),
        ("c0", json!({"network": "basaltbr0", "ipv4.routes": "10.9.0.0/24"}), "only works on networks of type ovn"),
    ] {
        let refused = make(name, more.clone()).await.error(400);
        assert!(refused.contains(part), "{more}: {refused}");
    }
    client.done(make("c1", json!({"ipv4.address": "10.3.0.2"})).await).await;
    client.done(make("c2", json!({})).await).await;
    assert!(
        make("c3", json!({"ipv4.address": "10.3.0.2"}))
            .await
            .error(400)
            .contains("taken by device eth0 of instance c1")
    );
    give_addresses(&world).await;
    let leases = client.get("/1.0/networks/net0/leases").await.ok();
    assert_eq!(of_kind(&leases, "gateway"), ["10.3.0.1", "fd42:3::1"]);
    assert_eq!(of_kind(&leases, "static"), ["10.3.0.2"]);
    let dynamic = of_kind(&leases, "dynamic");
    assert_eq!((dynamic.len(), dynamic[1].as_str()), (3, "10.3.0.3"), "{leases}");
    let allocations = client.get("/1.0/network-allocations").await.ok();
    let of = |used_by: &str| allocations.as_array().unwrap().iter().filter(|a| a["used_by"] == used_by).count();
    assert_eq!((of("/1.0/instances/c1"), of("/1.0/networks/net0")), (2, 4), "{allocations}");
    // c2's address is not for others, and theirs once c2 is gone.
    assert!(make("c4", json!({"ipv4.address": "10.3.0.3"})).await.error(400).contains("instance c2"));
    client.done(client.delete("/1.0/instances/c2").await).await;
    client.done(make("c4", json!({"ipv4.address": "10.3.0.3"})).await).await;
    // The network may not leave those behind whose addresses were fixed.
    let moved = json!({"config": {"ipv4.address": "10.5.0.1/24"}});
    assert!(client.patch("/1.0/networks/net0", moved).await.error(400).contains("10.3.0."));
    assert!(client.delete("/1.0/networks/net0").await.error(400).contains("used by"));
}

#[tokio::test]
async fn a_released_address_rests_until_the_others_were_given() {
    let world = world().await;
    let client = world.client();
    let config = json!({"ipv4.address": "10.3.0.1/24", "ipv4.dhcp.ranges": "10.3.0.20-10.3.0.21,10.3.0.10-10.3.0.11",
        "ipv6.address": "none"});
    let net = json!({"name": "net0", "type": "ovn", "config": config});
    assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    let mut given = Vec::new();
    for fixed in [None, None, Some("10.3.0.99"), None, None, None] {
        let mut nic = json!({"type": "nic", "network": "net0"});
        if let Some(address) = fixed {
            nic["ipv4.address"] = json!(address);
        }
        let body = json!({"name": "c1", "source": {"type": "none"}, "devices": {"eth0": nic}});
        client.done(client.post("/1.0/instances", body).await).await;
        give_addresses(&world).await;
        let leases = client.get("/1.0/networks/net0/leases").await.ok();
        given.extend(of_kind(&leases, if fixed.is_some() { "static" } else { "dynamic" }));
        client.done(client.delete("/1.0/instances/c1").await).await;
    }
    // What a user fixes is no turn of the others; after the highest the search begins anew.
    assert_eq!(given, ["10.3.0.10", "10.3.0.11", "10.3.0.99", "10.3.0.20", "10.3.0.21", "10.3.0.10"]);
}

#[tokio::test]
async fn the_way_through_a_network() {
    let world = world().await;
    let client = world.client();
    let net = json!({"name": "net0", "type": "ovn", "config": {"ipv4.address": "10.3.0.1/24", "ipv6.address": "none"}});
    assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    let nic = json!({"eth0": {"type": "nic", "network": "net0"}});
    let body = json!({"name": "c1", "source": {"type": "none"}, "devices": nic});
    client.done(client.post("/1.0/instances", body).await).await;
    give_addresses(&world).await;
    let port = basalt_model::network::port::all(&world.state())[0].name();
    // Nobody can tell: what is known is told all the same.
    let state = client.get("/1.0/networks/net0/state").await.ok();
    assert_eq!((&state["ovn"]["chassis"], &state["ovn"]["uplink_ipv4"]), (&json!(""), &json!("192.0.2.10")));
    assert!(state["basalt_path"]["lacking"].as_str().unwrap().contains("southbound"), "{state}");
    // Another member can.
    for (number, name) in [(1, "ch1"), (2, "ch2")] {
        let id = NodeId(number);
        let mut announcement = Box::new(world.state().members.get(&id).unwrap().announced.clone());
        announcement.chassis = Some(name.into());
        world.propose(Command::Member(MemberCommand::Announce { id, announcement })).await;
    }
    let sight = &world.nodes[1].sight;
    sight.looks.store(true, Ordering::SeqCst);
    *sight.seen.lock().unwrap() = Seen {
        gateways: vec!["ch2".into(), "ch1".into(), "stray".into()],
        active: Some("ch2".into()),
        ports: [(port, Bound { chassis: Some("ch1".into()), up: true })].into(),
        hosts: [("stray".to_owned(), "host7".to_owned())].into(),
        lacking: None,
    };
    let state = client.get("/1.0/networks/net0/state").await.ok();
    assert_eq!(state["ovn"]["chassis"], "node2", "chassis are shown as members");
    let way = &state["basalt_path"];
    let names: Vec<&str> =
        way["gateways"].as_array().unwrap().iter().map(|g| g["location"].as_str().unwrap()).collect();
    assert_eq!((names, &way["uplink"]), (vec!["node2", "node1", "host7"], &json!("up0")));
    let shown = &way["ports"][0];
    assert_eq!((&shown["instance"], &shown["bound"], &shown["up"]), (&json!("c1"), &json!("node1"), &json!(true)));
    assert_eq!(shown["addresses"], json!(["10.3.0.2"]));

    // Every member with a switch is asked for it; the doctor is for those who may see all.
    let found = client.get("/1.0/networks/net0/doctor").await.ok();
    let hosts: Vec<&str> = found["hosts"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((hosts, &found["healthy"]), (vec!["node1", "node2"], &json!(true)), "{found}");
    world.propose(crate::world::offline(2)).await;
    let found = client.get("/1.0/networks/net0/doctor").await.ok();
    assert_eq!((&found["healthy"], &found["findings"][1]["what"]), (&json!(false), &json!("the member is offline")));
    assert!(client.get("/1.0/networks/basaltbr0/doctor").await.error(400).contains("of type bridge"));
    client.get("/1.0/networks/nonesuch/doctor").await.error(404);

    let trace = |query: &str| format!("/1.0/network-trace?{query}");
    for (query, code, part) in [
        ("address=10.3.0.1", 400, "instance: is missing"),
        ("instance=c1", 400, "address: is missing"),
        ("instance=c9&address=10.3.0.1", 404, "Instance"),
        ("instance=c1&address=x", 400, "address: \"x\""),
        ("instance=c1&address=224.0.0.1", 400, "address: 224.0.0.1"),
        ("instance=c1&address=10.3.0.1&device=eth9", 400, "device: c1 has no interface"),
        ("instance=c1&address=10.3.0.1&protocol=sctp", 400, "protocol: "),
        ("instance=c1&address=10.3.0.1&protocol=tcp", 400, "port: is missing"),
        ("instance=c1&address=10.3.0.1&port=80", 400, "port: icmp has none"),
        ("instance=c1&address=10.3.0.1&protocol=udp&port=0", 400, "port: \"0\""),
    ] {
        let refused = client.get(&trace(query)).await.error(code);
        assert!(refused.contains(part), "{query}: {refused}");
    }
    let told = client.get(&trace("instance=c1&address=10.9.0.1&protocol=tcp&port=80")).await.ok();
    assert_eq!(told["end"], "Tcp(80) to 10.9.0.1 from eth0 of c1 on node1");
    assert_eq!((&told["location"], &told["raw"]), (&json!("node1"), &json!("raw")));
}

#[tokio::test]
async fn what_networks_may_not_be() {
    let world = world().await;
    let client = world.client();
    for (name, kind, config, part) in [
        ("n1", "ovn", json!({"network": "nonesuch"}), "nonesuch"),
        ("n1", "ovn", json!({"network": "basaltbr0"}), "ipv4.ovn.ranges"),
        (
            "n1",
            "ovn",
            json!({"ipv4.address": "10.99.0.9/25"}),
            "ipv4.address: 10.99.0.0/25 overlaps 10.99.0.0/24 of network basaltbr0",
        ),
        ("n1", "ovn", json!({"ipv4.address": "192.0.2.129/25"}), "of network up0"),
        ("n1", "ovn", json!({"ipv4.address": "10.3.0.1/30"}), "ipv4.address"),
        ("n1", "ovn", json!({"ipv6.address": "fd42::1/80"}), "ipv6.address"),
        ("n1", "ovn", json!({"ipv4.address": "none", "ipv6.address": "none"}), "ipv4.address"),
        (
            "n1",
            "ovn",
            json!({"ipv4.address": "10.3.0.1/24", "ipv4.dhcp.ranges": "10.4.0.2-10.4.0.9"}),
            "ipv4.dhcp.ranges",
        ),
        ("n1", "ovn", json!({"network": "none", "ipv4.nat": "true"}), "ipv4.nat"),
        ("n1", "ovn", json!({"parent": "eth1"}), "parent"),
        ("n1", "physical", json!({}), "parent"),
        ("n1", "physical", json!({"parent": "eth2", "ipv4.ovn.ranges": "192.0.2.10-192.0.2.11"}), "ipv4.ovn.ranges"),
        (
            "n1",
            "physical",
            json!({"parent": "eth2", "ipv4.gateway": "203.0.113.1/24", "ipv4.ovn.ranges": "192.0.2.10-192.0.2.11"}),
            "ipv4.ovn.ranges",
        ),
        ("n1", "physical", json!({"parent": "eth2", "dns.nameservers": "x"}), "dns.nameservers"),
        ("n1", "physical", json!({"parent": "eth2", "ipv4.routes": "fd42::/64"}), "ipv4.routes"),
        (
            "n1",
            "bridge",
            json!({"ipv4.address": "10.8.0.1/24", "ipv4.ovn.ranges": "10.8.0.10-10.8.0.20"}),
            "ipv4.dhcp.ranges",
        ),
        ("n1", "bridge", json!({"network": "up0"}), "network"),
        ("n1", "macvlan", json!({}), "type"),
    ] {
        let answer = client.post("/1.0/networks", json!({"name": name, "type": kind, "config": config})).await;
        let code = if part == "nonesuch" { 404 } else { 400 };
        let refused = answer.error(code);
        assert!(refused.contains(part), "{kind} {config}: {refused}");
    }
    // A bridge as the way out; and an uplink in the two steps of the stock clients.
    let bridge = json!({"name": "br8", "config": {"ipv4.address": "10.8.0.1/24",
        "ipv4.ovn.ranges": "10.8.0.10-10.8.0.20", "ipv4.dhcp.ranges": "10.8.0.100-10.8.0.200"}});
    assert_eq!(client.post("/1.0/networks", bridge).await.code, 201);
    let net = json!({"name": "n1", "type": "ovn", "config": {"network": "br8"}});
    assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    for member in ["node1", "node2"] {
        let part = json!({"name": "up1", "type": "physical", "config": {"parent": "eth2"}});
        assert_eq!(client.post(&format!("/1.0/networks?target={member}"), part).await.code, 201);
    }
    let whole = json!({"name": "up1", "type": "physical", "config": {"ipv4.gateway": "203.0.113.1/24"}});
    assert_eq!(client.post("/1.0/networks", whole).await.code, 201);
    assert_eq!(client.get("/1.0/networks/up1").await.ok()["config"]["parent"], "eth2");
    // Two uplinks: now one has to be named.
    assert!(
        client.post("/1.0/networks", json!({"name": "n2", "type": "ovn"})).await.error(400).contains("config.network")
    );
}

#[tokio::test]
async fn access_control_lists() {
    let world = world().await;
    let client = world.client();
    let rule =
        json!({"action": "allow", "source": "10.0.0.0/8, @external", "protocol": "tcp", "destination_port": "80,443"});
    let web = json!({"name": "web", "description": "d", "config": {"user.a": "b"}, "ingress": [rule]});
    assert_eq!(client.post("/1.0/network-acls", web.clone()).await.code, 201);
    client.post("/1.0/network-acls", web).await.error(409);
    let shown = client.get("/1.0/network-acls/web").await.ok();
    let expected = json!({"action": "allow", "source": "10.0.0.0/8,@external", "protocol": "tcp",
        "destination_port": "80,443", "state": "enabled"});
    assert_eq!((&shown["ingress"], &shown["egress"], &shown["used_by"]), (&json!([expected]), &json!([]), &json!([])));
    for (wrong, part) in [
        (json!({"ingress": [{"action": "deny"}]}), "ingress[0].action"),
        (json!({"ingress": [{"action": "allow", "state": "on"}]}), "ingress[0].state"),
        (json!({"egress": [{"action": "drop"}, {"action": "drop", "source": "web"}]}), "egress[1].source"),
        (json!({"ingress": [{"action": "drop", "source": "nobody"}]}), "there is no network ACL nobody"),
        (json!({"ingress": [{"action": "drop", "source": "@net9/p"}]}), "ingress[0].source"),
        (
            json!({"ingress": [{"action": "drop", "source": "10.0.0.1", "destination": "fd42::1"}]}),
            "ingress[0].destination",
        ),
        (json!({"config": {"colour": "red"}}), "config.colour"),
    ] {
        let refused = client.put("/1.0/network-acls/web", wrong.clone()).await.error(400);
        assert!(refused.contains(part), "{wrong}: {refused}");
    }
    // A new list may name itself and others; those stay as long as they are named.
    let db = json!({"name": "db", "ingress": [{"action": "allow", "source": "web,db"}]});
    assert_eq!(client.post("/1.0/network-acls", db).await.code, 201);
    let net = json!({"name": "net0", "type": "ovn", "config": {"security.acls": "nobody"}});
    assert!(client.post("/1.0/networks", net).await.error(404).contains("nobody"));
    let net = json!({"name": "net0", "type": "ovn", "config": {"security.acls": "db", "ipv4.address": "10.3.0.1/24",
        "security.acls.default.ingress.action": "drop"}});
    assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    let nic = |acls: &str| json!({"eth0": {"type": "nic", "network": "net0", "security.acls": acls}});
    let profile = |acls: &str| json!({"name": "p", "devices": nic(acls)});
    assert!(client.post("/1.0/profiles", profile("nobody")).await.error(400).contains("devices.eth0.security.acls"));
    client.post("/1.0/profiles", profile("web")).await.ok();
    let bridged =
        json!({"name": "q", "devices": {"eth0": {"type": "nic", "network": "basaltbr0", "security.acls": "web"}}});
    assert!(client.post("/1.0/profiles", bridged).await.error(400).contains("security.acls"));
    assert_eq!(
        client.get("/1.0/network-acls/web").await.ok()["used_by"],
        json!(["/1.0/profiles/p", "/1.0/network-acls/db"])
    );
    assert_eq!(client.get("/1.0/network-acls/db").await.ok()["used_by"], json!(["/1.0/networks/net0"]));
    assert!(client.delete("/1.0/network-acls/web").await.error(400).contains("/1.0/profiles/p"));
    assert!(
        client.post("/1.0/network-acls/db", json!({"name": "data"})).await.error(400).contains("/1.0/networks/net0")
    );
    // Its log: an object a line, of both members, in the order of time.
    let log = client.get("/1.0/network-acls/web/log").await;
    let lines: Vec<Value> = String::from_utf8(log.bytes.to_vec())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let times: Vec<&str> = lines.iter().map(|line| line["time"].as_str().unwrap()).collect();
    let (first, second) = ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:06.789Z");
    assert_eq!((times, lines[0].get("src_port")), (vec![first, first, second, second], None));
    client.get("/1.0/network-acls/nobody/log").await.error(404);
    client.patch("/1.0/network-acls/db", json!({"ingress": []})).await.ok();
    client.delete("/1.0/profiles/p").await.ok();
    client.delete("/1.0/network-acls/web").await.ok();
    assert_eq!(client.get("/1.0/network-acls").await.ok(), json!(["/1.0/network-acls/db"]));
}

#[tokio::test]
async fn forwards_and_load_balancers() {
    let world = world().await;
    let client = world.client();
    for (name, subnet) in [("net0", "10.3.0.1/24"), ("net1", "10.4.0.1/24")] {
        let net = json!({"name": name, "type": "ovn", "config": {"ipv4.address": subnet, "ipv6.address": "none"}});
        assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    }
    give_addresses(&world).await;
    let forwards = "/1.0/networks/net0/forwards";
    let port = json!({"protocol": "tcp", "listen_port": "80,90-92", "target_address": "10.3.0.5"});
    let forward = json!({"listen_address": "198.51.100.7", "ports": [port], "config": {"target_address": "10.3.0.4"}});
    let with = |key: &str, value: Value| {
        let mut forward = forward.clone();
        forward[key] = value;
        forward
    };
    let ports = |change: Value| {
        let mut port = port.clone();
        port.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        with("ports", json!([port]))
    };
    for (wrong, part) in [
        (with("listen_address", json!("203.0.113.9")), "listen_address: 203.0.113.9 is neither"),
        (with("listen_address", json!("192.0.2.10")), "taken by the router of network net0"),
        (with("listen_address", json!("x")), "listen_address"),
        (with("config", json!({"target_address": "10.4.0.4"})), "config.target_address: 10.4.0.4"),
        (with("config", json!({"colour": "red"})), "config.colour"),
        (with("config", json!({"target_address": "10.3.0.4,10.3.0.5"})), "config.target_address"),
        (
            ports(json!({"target_address": "10.9.0.1"})),
            "ports[0].target_address: 10.9.0.1 is not the address of an instance",
        ),
        (ports(json!({"target_port": "1,2"})), "ports[0].target_port"),
        (ports(json!({"listen_port": "0"})), "ports[0].listen_port"),
        (ports(json!({"listen_port": "80,79-81"})), "ports[0].listen_port: 80 is listened on twice"),
        (ports(json!({"protocol": "sctp"})), "ports[0].protocol"),
    ] {
        let refused = client.post(forwards, wrong.clone()).await.error(400);
        assert!(refused.contains(part), "{wrong}: {refused}");
    }
    let made = client.post(forwards, forward.clone()).await;
    assert_eq!((made.code.as_u16(), made.header("location")), (201, "/1.0/networks/net0/forwards/198.51.100.7"));
    client.post(forwards, forward.clone()).await.error(409);
    let shown = client.get(&format!("{forwards}/198.51.100.7")).await.ok();
    assert_eq!(shown["ports"][0]["listen_port"], "80,90-92");
    client.put(&format!("{forwards}/198.51.100.7"), shown).await.ok();
    let taken = client.post("/1.0/networks/net1/forwards", json!({"listen_address": "198.51.100.7"})).await.error(400);
    assert!(taken.contains("listened on by network net0"), "{taken}");
    let taken = client.post("/1.0/networks/basaltbr0/forwards", json!({"listen_address": "198.51.100.7"})).await;
    assert!(taken.error(409).contains("listened on by network net0"));
    let up = client.post("/1.0/networks/up0/forwards", forward).await.error(400);
    assert!(up.contains("only networks of type ovn"), "{up}");
    let routes = json!({"config": {"ipv4.routes": ""}});
    assert!(client.patch("/1.0/networks/up0", routes).await.error(400).contains("net0"));

    let balancers = "/1.0/networks/net0/load-balancers";
    let balancer = json!({"listen_address": "198.51.100.8", "config": {"healthcheck": "true"},
        "backends": [{"name": "a", "target_address": "10.3.0.5", "target_port": "8080"}, {"name": "b", "target_address": "10.3.0.6"}],
        "ports": [{"protocol": "tcp", "listen_port": "80", "target_backend": ["a", "b"]}]});
    for (key, value, part) in [
        ("listen_address", json!("198.51.100.7"), "198.51.100.7"),
        ("backends", json!([{"name": "a", "target_address": "10.9.0.1"}]), "backends[0].target_address"),
        ("backends", json!([{"name": "a", "target_address": "10.3.0.5"}]), "ports[0].target_backend"),
        ("ports", json!([{"protocol": "tcp", "listen_port": "80", "target_backend": []}]), "ports[0].target_backend"),
        ("config", json!({"healthcheck.interval": "0"}), "config.healthcheck.interval"),
    ] {
        let mut wrong = balancer.clone();
        wrong[key] = value;
        let refused = client.post(balancers, wrong.clone()).await.error(400);
        assert!(refused.contains(part), "{wrong}: {refused}");
    }
    assert_eq!(client.post(balancers, balancer).await.code, 201);
    let all = client.get(&format!("{balancers}?recursion=1")).await.ok();
    assert_eq!((&all[0]["backends"][1]["name"], &all[0]["location"]), (&json!("b"), &json!("")));
    // They end with their network.
    client.delete("/1.0/networks/net0").await.ok();
    client.get(forwards).await.error(404);
}

#[tokio::test]
async fn what_is_thought_of_backends_is_told() {
    let world = world().await;
    let client = world.client();
    let net = json!({"name": "net0", "type": "ovn", "config": {"network": "up0", "ipv4.address": "10.3.0.1/24"}});
    assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    let balancers = "/1.0/networks/net0/load-balancers";
    let balancer = json!({"listen_address": "198.51.100.8", "config": {"healthcheck": "true"},
        "backends": [{"name": "a", "target_address": "10.3.0.5", "target_port": "8080"}, {"name": "b", "target_address": "10.3.0.6"}],
        "ports": [{"protocol": "tcp", "listen_port": "80", "target_backend": ["a", "b"]}]});
    assert_eq!(client.post(balancers, balancer).await.code, 201);
    let checked = |port, status: Option<&str>| Checked {
        address: "10.3.0.5".parse().unwrap(),
        protocol: "tcp".into(),
        port,
        status: status.map(str::to_owned),
    };
    let sight = &world.nodes[0].sight;
    sight.looks.store(true, Ordering::SeqCst);
    *sight.checked.lock().unwrap() = vec![checked(80, Some("online")), checked(8080, Some("offline"))];
    let state = format!("{balancers}/198.51.100.8/state");
    let health = |a, b| {
        json!({"backend_health": {
        "a": {"address": "10.3.0.5", "ports": [{"protocol": "tcp", "port": 8080, "status": a}]},
        "b": {"address": "10.3.0.6", "ports": [{"protocol": "tcp", "port": 80, "status": b}]}}})
    };
    assert_eq!(client.get(&state).await.ok(), health("offline", "unknown"));
    *sight.checked.lock().unwrap() = vec![checked(8080, None)];
    assert_eq!(client.get(&state).await.ok(), health("unknown", "unknown"));
    client.get(&format!("{balancers}/198.51.100.9/state")).await.error(404);
    client.patch(&format!("{balancers}/198.51.100.8"), json!({"config": {"healthcheck": "false"}})).await.ok();
    assert_eq!(client.get(&state).await.ok(), json!({"backend_health": {}}));
}

#[tokio::test]
async fn peerings_need_both_sides() {
    let world = world().await;
    let client = world.client();
    for name in ["net0", "net1"] {
        let net = json!({"name": name, "type": "ovn", "config": {"network": "none"}});
        assert_eq!(client.post("/1.0/networks", net).await.code, 201);
    }
    let peer = |target: &str| json!({"name": "lab", "target_network": target, "target_project": "default"});
    for (target, code) in [("net0", 400), ("basaltbr0", 400), ("nonesuch", 404)] {
        client.post("/1.0/networks/net0/peers", peer(target)).await.error(code);
    }
    assert_eq!(client.post("/1.0/networks/net0/peers", peer("net1")).await.code, 201);
    assert_eq!(client.get("/1.0/networks/net0/peers/lab").await.ok()["status"], "Pending");
    assert!(client.delete("/1.0/networks/net1").await.error(400).contains("target of peer lab of network net0"));
    assert_eq!(client.post("/1.0/networks/net1/peers", peer("net0")).await.code, 201);
    assert_eq!(client.get("/1.0/networks/net0/peers/lab").await.ok()["status"], "Created");
    let acl = json!({"name": "from-lab", "ingress": [{"action": "allow", "source": "@net0/lab"}]});
    assert_eq!(client.post("/1.0/network-acls", acl).await.code, 201);
    let shown = client.get("/1.0/networks/net0/peers?recursion=1").await.ok();
    assert_eq!(shown[0]["used_by"], json!(["/1.0/network-acls/from-lab"]));
    assert!(client.delete("/1.0/networks/net0/peers/lab").await.error(400).contains("from-lab"));
    client.delete("/1.0/network-acls/from-lab").await.ok();
    client.patch("/1.0/networks/net0/peers/lab", json!({"description": "x"})).await.ok();
    client.delete("/1.0/networks/net0/peers/lab").await.ok();
    assert_eq!(client.get("/1.0/networks/net1/peers/lab").await.ok()["status"], "Pending");
}
