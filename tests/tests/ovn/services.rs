//! What leads inside: forwards, load balancers with their checks, and peerings.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use basalt_tests::{facility, require, wait};
use serde_json::{Value, json};

use super::place::{Case, Kind, Place, Served, Want, hold};
use super::world::{SOON, World};

use Kind::{Ping, Tcp, Udp};
use Want::{Passes, Silent};

/// Addresses that are listened on.
const FORWARD: [&str; 2] = ["198.51.100.5", "2001:db8:51::5"];
const BALANCER: &str = "198.51.100.8";

fn at(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

/// Containers `a` and `b` on `inner`, on different nodes.
struct Cast {
    a: Place,
    b: Place,
    outside: Place,
    v4: [IpAddr; 2],
    v6: [IpAddr; 2],
}

#[test]
fn what_is_outside_comes_in_by_invitation() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    for (name, number) in [("a", 1), ("b", 2)] {
        world.launch(name, number, "inner");
    }
    let cast = Cast {
        a: world.place("a"),
        b: world.place("b"),
        outside: world.beyond(),
        v4: ["a", "b"].map(|name| world.address(name, false)),
        v6: ["a", "b"].map(|name| world.address(name, true)),
    };
    let [on_a, on_b] = [&cast.a, &cast.b].map(|place| place.serve(&[7001, 7002, 7003, 8010, 8011]));
    forwards(&world, &cast);
    balances(&world, &cast, on_a);
    drop(on_b);
    peers(&world, &cast);
}

/// Waits until the right one answers, and gives back whom it saw.
fn answers(from: &Place, kind: Kind, to: SocketAddr, by: &str) -> IpAddr {
    wait::until(&format!("{} is answered by {by} at {to} ({kind:?})", from.name), SOON, || {
        let fate = match kind {
            Tcp => from.tcp(to),
            Udp => from.udp(to),
            Ping => panic!("nobody says who answers a ping"),
        };
        anyhow::ensure!(fate.by() == Some(by), "{fate:?}");
        Ok(Some(fate.seen()))
    })
    .unwrap()
}

fn forwards(world: &World, cast: &Cast) {
    let Cast { a, b, outside, v4, v6 } = cast;
    for (listen, [a, b]) in FORWARD.into_iter().zip([v4, v6]) {
        let port = |protocol: &str, listen: &str, target: &str| json!({"protocol": protocol, "listen_port": listen, "target_port": target, "target_address": b});
        let ports = [port("tcp", "8001", "7001"), port("udp", "8002", "7002"), port("tcp", "8010-8011", "")];
        let body = json!({"listen_address": listen, "config": {"target_address": a}, "ports": ports});
        world.run("POST", "/1.0/networks/inner/forwards", &body);
    }
    let gateways = world.gateways();
    for (listen, gateway) in FORWARD.into_iter().zip(gateways) {
        for (kind, port, by) in
            [(Tcp, 7003, "a"), (Udp, 7003, "a"), (Tcp, 8001, "b"), (Udp, 8002, "b"), (Tcp, 8011, "b"), (Tcp, 7001, "a")]
        {
            let seen = answers(outside, kind, at(listen, port), by);
            assert_eq!(seen, gateway, "who comes in is seen as who they are: {listen} {kind:?} {port}");
        }
        answers(b, Tcp, at(listen, 7003), "a");
        answers(a, Tcp, at(listen, 8001), "b");
    }
    let gone = FORWARD[0];
    world.run("PATCH", &format!("/1.0/networks/inner/forwards/{gone}"), &json!({"ports": []}));
    wait::until_true("only the default is left", SOON, || Ok(outside.tcp(at(gone, 8010)).by() == Some("a"))).unwrap();
    world.run("DELETE", &format!("/1.0/networks/inner/forwards/{gone}"), &Value::Null);
    let case = |what, to: SocketAddr, want| Case { what, from: outside, kind: Ping, to, want };
    hold(&[case("gone", at(gone, 0), Silent), case("the other is there", at(FORWARD[1], 0), Passes)]);
}

/// Who answers on the balancer, of a few connections.
fn chosen(from: &Place) -> BTreeSet<String> {
    (0..12).map(|_| from.tcp(at(BALANCER, 80))).map(|fate| fate.by().unwrap_or("nobody").to_owned()).collect()
}

fn balances(world: &World, cast: &Cast, on_a: Served) {
    let Cast { a, outside, v4, .. } = cast;
    let backend = |name: &str, ip: IpAddr| json!({"name": name, "target_address": ip, "target_port": "7001"});
    let times = json!({"healthcheck": "true", "healthcheck.interval": "1", "healthcheck.timeout": "1",
        "healthcheck.success_count": "1", "healthcheck.failure_count": "2"});
    let body = json!({
        "listen_address": BALANCER, "config": times, "backends": [backend("one", v4[0]), backend("two", v4[1])],
        "ports": [{"protocol": "tcp", "listen_port": "80", "target_backend": ["one", "two"]}],
    });
    world.run("POST", "/1.0/networks/inner/load-balancers", &body);
    let who = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let settled = |what: &str, names: &[&str]| {
        wait::until(what, SOON, || {
            let answered = chosen(outside);
            anyhow::ensure!(answered == who(names), "{answered:?}");
            Ok(Some(()))
        })
        .unwrap();
    };
    let thought = |of_a: &str| {
        let state = format!("/1.0/networks/inner/load-balancers/{BALANCER}/state");
        let health = |ip: &IpAddr, status: &str| {
            json!({"address": ip, "ports": [
            {"protocol": "tcp", "port": 7001, "status": status}]})
        };
        let expected = json!({"one": health(&v4[0], of_a), "two": health(&v4[1], "online")});
        wait::until(&format!("a is {of_a} for all members"), SOON, || {
            for node in &world.bed.nodes {
                let state = node.api().get(&state)?;
                anyhow::ensure!(state["backend_health"] == expected, "{}: {state}", node.name);
            }
            Ok(Some(()))
        })
        .unwrap();
    };
    settled("both take their share", &["a", "b"]);
    thought("online");
    drop(on_a);
    settled("the dead one is left out", &["b"]);
    thought("offline");
    let _back = a.serve(&[7001]);
    settled("the one that is back is asked again", &["a", "b"]);
}

fn peers(world: &World, cast: &Cast) {
    let config = json!({
        "network": "outside", "ipv4.address": "10.200.3.1/24", "ipv4.nat": "true",
        "ipv6.address": "fd42:200:3::1/64", "ipv6.nat": "true",
    });
    world.network("red", "ovn", &config);
    world.launch("d", 3, "red");
    let Cast { a, v4: [a4, _], v6: [a6, _], .. } = cast;
    let d = world.place("d");
    let (d4, d6) = (world.address("d", false), world.address("d", true));
    let (_on_a, _on_d) = (a.serve(&[7009]), d.serve(&[7009]));
    let case = |what, from, to: IpAddr, want| Case { what, from, kind: Ping, to: (to, 0).into(), want };
    let peer = |of: &str, to: &str| {
        world.run("POST", &format!("/1.0/networks/{of}/peers"), &json!({"name": "lab", "target_network": to}));
    };
    peer("inner", "red");
    hold(&[case("one side", a, d4, Silent), case("one side, back", &d, *a4, Silent)]);
    peer("red", "inner");
    hold(&[
        case("both sides", a, d4, Passes),
        case("both sides, back", &d, *a4, Passes),
        case("IPv6", a, d6, Passes),
        case("IPv6, back", &d, *a6, Passes),
    ]);
    assert_eq!(a.heard((d4, 7009).into(), "d"), *a4, "peers see each other as they are");
    assert_eq!(d.heard((*a6, 7009).into(), "a"), d6);
    world.run("DELETE", "/1.0/networks/red/peers/lab", &Value::Null);
    hold(&[case("no more", a, d4, Silent), case("no more, IPv6", &d, *a6, Silent)]);
}
