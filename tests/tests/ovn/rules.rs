//! Network ACLs: what passes, what is refused, what vanishes, and what is said of it in the log.

use std::net::{IpAddr, SocketAddr};

use basalt_tests::{facility, require, wait};
use serde_json::{Value, json};

use super::place::{Case, Kind, Place, Want};
use super::world::{SOON, World};

use Kind::{Ping, Tcp, Udp};
use Want::{Passes, Refused, Silent};

/// An address of the uplink that leads to `a`.
const FORWARD: &str = "198.51.100.5";

fn rules(list: &Value) -> Vec<Value> {
    let rule = |row: &Value| {
        let mut rule = json!({"action": row[0], "protocol": row[1], "state": "enabled"});
        rule.as_object_mut().unwrap().extend(row[2].as_object().unwrap().clone());
        rule
    };
    list.as_array().unwrap().iter().map(rule).collect()
}

/// What may come to `a`, by port. Nothing else may: that is refused.
fn ingress() -> Vec<Value> {
    rules(&json!([
        ["allow", "tcp", {"destination_port": "7001,7030-7032"}],
        ["allow", "tcp", {"destination_port": "7002", "source": "10.200.1.12/32,192.0.2.0/24"}],
        ["allow", "tcp", {"destination_port": "7003", "source": "10.200.1.1-10.200.1.12"}],
        ["allow", "tcp", {"destination_port": "7004", "source": "@internal"}],
        ["allow", "tcp", {"destination_port": "7005", "source": "@external"}],
        ["allow", "tcp", {"destination_port": "7006", "source": "friends"}],
        ["allow", "tcp", {"destination_port": "7007", "source": "@inner/lab"}],
        ["allow", "tcp", {"destination_port": "7008", "state": "disabled"}],
        ["drop", "tcp", {"destination_port": "7030", "source": "10.200.1.13"}],
        ["reject", "tcp", {"destination_port": "7031", "source": "@internal"}],
        ["allow", "tcp", {"destination_port": "7011", "state": "logged"}],
        ["drop", "udp", {"destination_port": "7012", "state": "logged"}],
        ["allow-stateless", "udp", {"destination_port": "7013"}],
        ["allow-stateless", "tcp", {"destination_port": "7014"}],
        ["allow-stateless", "udp", {"destination_port": "7015"}],
        ["allow", "udp", {"destination_port": "7016"}],
        ["allow", "icmp4", {"icmp_type": "8", "icmp_code": "0", "source": "10.200.1.12"}],
        ["allow", "icmp6", {"icmp_type": "128"}],
    ]))
}

/// What may leave it.
fn egress() -> Vec<Value> {
    rules(&json!([
        ["allow", "tcp", {"destination_port": "7101", "destination": "10.200.1.12/32"}],
        ["allow", "udp", {"destination_port": "7102", "destination": "@external"}],
        ["allow", "tcp", {"destination_port": "7103", "destination": "@internal"}],
        ["drop", "tcp", {"destination_port": "7104"}],
        ["allow", "tcp", {"destination_port": "7104-7105"}],
        ["reject", "tcp", {"destination_port": "7105", "destination": "@internal"}],
        ["allow", "tcp", {"destination_port": "7106", "state": "disabled"}],
        ["allow", "tcp", {"destination_port": "7107", "destination": "friends", "state": "logged"}],
        ["allow", "tcp", {"destination_port": "7108", "destination": "@inner/lab"}],
        ["reject", "udp", {"destination_port": "7110", "state": "logged"}],
        ["allow-stateless", "udp", {"source_port": "7013"}],
        ["allow-stateless", "tcp", {"source_port": "7014", "destination": "@internal"}],
    ]))
}

/// Containers `a`, `b` and `c` on `inner`, `d` on `red`, and the world outside; each answers on its ports.
struct Cast {
    a: Place,
    b: Place,
    c: Place,
    d: Place,
    outside: Place,
    v6: [IpAddr; 3],
}

fn v4(last: u8) -> IpAddr {
    IpAddr::from([10, 200, 1, last])
}

fn cast(world: &World) -> Cast {
    world.inner();
    let config = json!({
        "network": "outside", "ipv4.address": "10.200.3.1/24", "ipv4.nat": "true",
        "ipv6.address": "fd42:200:3::1/64", "ipv6.nat": "true",
    });
    world.network("red", "ovn", &config);
    for (one, other) in [("inner", "red"), ("red", "inner")] {
        world.run("POST", &format!("/1.0/networks/{one}/peers"), &json!({"name": "lab", "target_network": other}));
    }
    world.run("POST", "/1.0/network-acls", &json!({"name": "friends"}));
    world.run("POST", "/1.0/network-acls", &json!({"name": "web", "ingress": ingress(), "egress": egress()}));
    let nic = |acls: &str, ip: &str, default: &str| {
        json!({"ipv4.address": ip, "security.acls": acls, "security.acls.default.ingress.action": default,
            "security.acls.default.egress.action": default})
    };
    world.launch_with("a", 1, "inner", &nic("web", "10.200.1.11", ""));
    world.launch_with("b", 2, "inner", &nic("friends", "10.200.1.12", "allow"));
    world.launch_with("c", 3, "inner", &json!({"ipv4.address": "10.200.1.13"}));
    world.launch_with("d", 3, "red", &json!({"ipv4.address": "10.200.3.14"}));
    world.run(
        "POST",
        "/1.0/networks/inner/forwards",
        &json!({"listen_address": FORWARD, "config": {"target_address": "10.200.1.11"}}),
    );
    let v6 = ["a", "b", "d"].map(|name| world.address(name, true));
    for name in ["a", "b", "c", "d"] {
        world.address(name, false);
    }
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| world.place(name));
    Cast { a, b, c, d, outside: world.beyond(), v6 }
}

#[test]
fn lists_decide_what_passes() {
    require!(facility::ovn());
    let world = World::new();
    let cast = cast(&world);
    let ears: Vec<u16> = (7001..=7032).chain(7101..=7110).chain(7201..=7203).collect();
    let _served = [&cast.a, &cast.b, &cast.c, &cast.d, &cast.outside].map(|place| place.serve(&ears));
    comes(&world, &cast);
    leaves(&world, &cast);
    logged(&world, &["-ingress-10\"", "verdict=allow"]);
    logged(&world, &["-ingress-11\"", "verdict=drop"]);
    logged(&world, &["-egress-7\"", "verdict=allow"]);
    logged(&world, &["-egress-9\"", "verdict=reject"]);
    changes(&world, &cast);
    of_networks(&world, &cast);
    isolated(&world, &cast);
}

/// Two of a kind, on different nodes and on the same.
fn isolated(world: &World, cast: &Cast) {
    for (name, number) in [("i", 1), ("j", 2), ("k", 1)] {
        world.launch_with(name, number, "red", &json!({"security.port_isolation": "true"}));
    }
    let all = ["i", "j", "k"].map(|name| (world.place(name), world.address(name, false), world.address(name, true)));
    let [(i, _, _), (_, j4, j6), (_, k4, _)] = &all;
    let case = |what, from, to: &IpAddr, want| Case { what, from, kind: Ping, to: (*to, 0).into(), want };
    world.hold(&[
        case("on another node", i, j4, Silent),
        case("on another node, IPv6", i, j6, Silent),
        case("on the same node", i, k4, Silent),
        case("others see it", &cast.d, j4, Passes),
        case("others see it, IPv6", &cast.d, j6, Passes),
        case("it sees others", i, &IpAddr::from([10, 200, 3, 14]), Passes),
        case("and its gateway", i, &IpAddr::from([10, 200, 3, 1]), Passes),
    ]);
}

fn comes(world: &World, cast: &Cast) {
    let Cast { b, c, d, outside, v6: [a6, ..], .. } = cast;
    let a = |port: u16| SocketAddr::from((v4(11), port));
    let forward = |port: u16| SocketAddr::from((FORWARD.parse::<IpAddr>().unwrap(), port));
    let case = |what, from, kind, to, want| Case { what, from, kind, to, want };
    world.hold(&[
        case("allow", c, Tcp, a(7001), Passes),
        case("allow, IPv6", c, Tcp, (*a6, 7001).into(), Passes),
        case("allow is of one protocol", c, Udp, a(7001), Refused),
        case("nothing said", c, Tcp, a(7020), Refused),
        case("nothing said, by one who may send what they like", b, Tcp, a(7020), Refused),
        case("nothing said, IPv6", c, Tcp, (*a6, 7020).into(), Refused),
        case("nothing said, UDP in IPv6", c, Udp, (*a6, 7020).into(), Refused),
        case("network", b, Tcp, a(7002), Passes),
        case("another network", c, Tcp, a(7002), Refused),
        case("range", b, Tcp, a(7003), Passes),
        case("beyond the range", c, Tcp, a(7003), Refused),
        case("@internal", c, Tcp, a(7004), Passes),
        case("@internal, IPv6", c, Tcp, (*a6, 7004).into(), Passes),
        case("@internal, from a peer", d, Tcp, a(7004), Refused),
        case("@internal, from outside", outside, Tcp, forward(7004), Refused),
        case("@external, from outside", outside, Tcp, forward(7005), Passes),
        case("@external, from a peer", d, Tcp, a(7005), Passes),
        case("@external, from inside", c, Tcp, a(7005), Refused),
        case("list", b, Tcp, a(7006), Passes),
        case("list, IPv6", b, Tcp, (*a6, 7006).into(), Passes),
        case("not of the list", c, Tcp, a(7006), Refused),
        case("peer", d, Tcp, a(7007), Passes),
        case("peer, IPv6", d, Tcp, (*a6, 7007).into(), Passes),
        case("not of the peer", c, Tcp, a(7007), Refused),
        case("disabled", c, Tcp, a(7008), Refused),
        case("drop is above allow", c, Tcp, a(7030), Silent),
        case("drop, of another", b, Tcp, a(7030), Passes),
        case("reject is above allow", c, Tcp, a(7031), Refused),
        case("reject, of another", d, Tcp, a(7031), Passes),
        case("last of a range of ports", c, Tcp, a(7032), Passes),
        case("allow, logged", c, Tcp, a(7011), Passes),
        case("drop, logged", c, Udp, a(7012), Silent),
        case("stateless, both ways", c, Udp, a(7013), Passes),
        case("stateless, both ways, TCP", c, Tcp, a(7014), Passes),
        case("stateless, the answer is held", c, Udp, a(7015), Silent),
        case("the answer goes with the question", c, Udp, a(7016), Passes),
        case("a kind of ICMP", b, Ping, a(0), Passes),
        case("a kind of ICMP, of another", c, Ping, a(0), Silent),
        case("a kind of ICMPv6", c, Ping, (*a6, 0).into(), Passes),
    ]);
}

fn leaves(world: &World, cast: &Cast) {
    let [gateway, _] = world.gateways();
    let Cast { a, v6: [_, b6, d6], .. } = cast;
    let (b, c) = (|port: u16| SocketAddr::from((v4(12), port)), |port: u16| SocketAddr::from((v4(13), port)));
    let d = |port: u16| SocketAddr::from(([10, 200, 3, 14], port));
    let case = |what, kind, to, want| Case { what, from: a, kind, to, want };
    world.hold(&[
        case("network", Tcp, b(7101), Passes),
        case("another network", Tcp, c(7101), Refused),
        case("@external", Udp, (gateway, 7102).into(), Passes),
        case("@external, to inside", Udp, b(7102), Refused),
        case("outside, nothing said", Tcp, (gateway, 7101).into(), Refused),
        case("@internal", Tcp, c(7103), Passes),
        case("@internal, IPv6", Tcp, (*b6, 7103).into(), Passes),
        case("@internal, to a peer", Tcp, d(7103), Refused),
        case("drop is above allow", Tcp, b(7104), Silent),
        case("reject is above allow", Tcp, b(7105), Refused),
        case("reject, of another", Tcp, d(7105), Passes),
        case("disabled", Tcp, b(7106), Refused),
        case("list, logged", Tcp, b(7107), Passes),
        case("not of the list", Tcp, c(7107), Refused),
        case("peer", Tcp, d(7108), Passes),
        case("peer, IPv6", Tcp, (*d6, 7108).into(), Passes),
        case("not of the peer", Tcp, b(7108), Refused),
        case("reject, logged", Udp, b(7110), Refused),
        case("ping, nothing said", Ping, b(0), Silent),
        case("the gateway may be asked", Ping, (v4(1), 0).into(), Passes),
    ]);
}

/// Waits for a line in the log of some node's ovn-controller that has all of this.
fn logged(world: &World, parts: &[&str]) {
    wait::until_true(&format!("a line in the log with {parts:?}"), SOON, || {
        let texts = world.bed.nodes.iter().map(|node| node.switch()?.controller_log());
        let texts = texts.collect::<anyhow::Result<Vec<_>>>()?;
        let lines = texts.iter().flat_map(|text| text.lines().filter(|line| line.contains("acl_log")));
        Ok(lines.into_iter().any(|line| parts.iter().all(|part| line.contains(part))))
    })
    .unwrap();
}

/// What is changed while guests run counts from then on, for connections that are yet to come.
fn changes(world: &World, cast: &Cast) {
    let Cast { b, c, .. } = cast;
    let a = |port: u16| SocketAddr::from((v4(11), port));
    let mut now = ingress();
    now[0] = json!({"action": "drop", "state": "enabled", "protocol": "tcp", "destination_port": "7001"});
    now[7]["state"] = json!("enabled");
    now.remove(3);
    let list = json!({"ingress": now, "egress": egress()});
    world.run("PUT", "/1.0/network-acls/web", &list);
    let case = |what, from, to, want| Case { what, from, kind: Tcp, to, want };
    world.hold(&[
        case("allowed before", c, a(7001), Silent),
        case("disabled before", c, a(7008), Passes),
        case("removed", c, a(7004), Refused),
        case("after one that was removed", b, a(7006), Passes),
        case("untouched", c, a(7011), Passes),
    ]);
    // Who leaves a list leaves what is said of it.
    let device = json!({"devices": {"eth0": {"type": "nic", "name": "eth0", "network": "inner",
        "ipv4.address": "10.200.1.12"}}});
    world.run("PATCH", "/1.0/instances/b", &device);
    world.hold(&[case("not of the list any more", b, a(7006), Refused), case("in peace", b, a(7002), Passes)]);
}

/// Lists of a network are those of all its interfaces.
fn of_networks(world: &World, cast: &Cast) {
    let Cast { a, c, d, .. } = cast;
    let to = |port: u16| SocketAddr::from(([10, 200, 3, 14], port));
    let gate = json!({"name": "gate", "ingress": rules(&json!([["allow", "tcp", {"destination_port": "7201"}]]))});
    world.run("POST", "/1.0/network-acls", &gate);
    let patch = |config: Value| world.run("PATCH", "/1.0/networks/red", &json!({"config": config}));
    patch(json!({"security.acls": "gate", "security.acls.default.ingress.action": "drop",
        "security.acls.default.ingress.logged": "true", "security.acls.default.egress.action": "allow"}));
    let case = |what, from, kind, to, want| Case { what, from, kind, to, want };
    world.hold(&[
        case("the network's list", c, Tcp, to(7201), Passes),
        case("its default", c, Tcp, to(7202), Silent),
        case("its default, ping", c, Ping, to(0), Silent),
        case("its default outwards", d, Tcp, (v4(13), 7202).into(), Passes),
        case("both have lists", a, Tcp, to(7108), Silent),
    ]);
    logged(world, &["-default-ingress\"", "verdict=drop"]);
    patch(json!({"security.acls.default.ingress.action": "reject"}));
    world.hold(&[
        case("another default", c, Tcp, to(7202), Refused),
        case("another default, UDP", c, Udp, to(7202), Refused),
    ]);
    patch(json!({"security.acls": ""}));
    world.hold(&[case("no list", c, Tcp, to(7202), Passes), case("no list, ping", c, Ping, to(0), Passes)]);
}
