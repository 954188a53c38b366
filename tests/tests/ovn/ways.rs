//! How uplinks and addresses inside find each other: routes to interfaces, answers for what is inside, a bridge as uplink.

use std::net::{IpAddr, SocketAddr};

use basalt_tests::{facility, require, wait};
use serde_json::json;

use super::place::{Case, Kind, Place, Want, hold};
use super::world::{SOON, World};

use Want::{Passes, Silent};

/// Routed to `b`: from inside, and from outside.
const BEHIND: [&str; 2] = ["10.77.0.1", "fd42:77::1"];
const EXTERNAL: [&str; 2] = ["198.51.100.33", "2001:db8:51::33"];

fn at(ip: IpAddr) -> SocketAddr {
    (ip, 7001).into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits for an answer, and gives back whom it saw.
fn seen(from: &Place, to: IpAddr, by: &str) -> IpAddr {
    from.heard(at(to), by)
}

/// NAT rows that keep an address as it is.
fn proxied(world: &World) -> Vec<String> {
    let rows = ["--bare", "--columns=external_ip", "find", "nat", "type=dnat_and_snat"];
    let text = world.bed.central().unwrap().nbctl(&rows).unwrap();
    let mut all: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn addresses_inside_are_found_from_outside() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    let open = json!({
        "network": "outside", "ipv4.address": "10.200.4.1/24", "ipv6.address": "fd42:200:4::1/64",
    });
    world.network("open", "ovn", &open);
    world.launch("a", 1, "inner");
    let routes = json!({
        "ipv4.routes": "10.77.0.0/24", "ipv6.routes": "fd42:77::/64",
        "ipv4.routes.external": "198.51.100.32/31", "ipv6.routes.external": "2001:db8:51::33/128",
    });
    world.launch_with("b", 2, "inner", &routes);
    world.launch("o", 3, "open");
    // Who is outside thinks that all of it is on the uplink itself.
    for net in ["10.200.4.0/24", "fd42:200:4::/64", "10.200.1.0/24", "fd42:200:1::/64"] {
        world.outside(&["ip", "route", "replace", net, "dev", "br2"]).unwrap();
    }
    let [a, b, o] = ["a", "b", "o"].map(|name| world.place(name));
    let outside = world.beyond();
    let [a4, b4, o4] = ["a", "b", "o"].map(|name| world.address(name, false));
    let [_, b6, o6] = ["a", "b", "o"].map(|name| world.address(name, true));
    let _served = [&a, &b, &o, &outside].map(|place| place.serve(&[7001]));
    let gateways = world.gateways();

    // Behind an interface.
    for address in BEHIND.iter().chain(&EXTERNAL) {
        b.run(&["ip", "addr", "add", address, "dev", "lo"]).unwrap();
    }
    for address in BEHIND {
        seen(&a, ip(address), "b");
    }
    // Nobody speaks for what is not routed to them, b does.
    let from = |place: &Place, source: &str| {
        place.run(&["busybox", "ping", "-c", "1", "-W", "1", "-I", source, &a4.to_string()]).is_ok()
    };
    wait::until_true("b speaks for what is behind it", SOON, || Ok(from(&b, BEHIND[0]))).unwrap();
    b.run(&["ip", "addr", "add", "10.78.0.1", "dev", "lo"]).unwrap();
    assert!(!from(&b, "10.78.0.1"), "a forged address passes");

    // From outside: by the addresses that are routed there, and by those that no NAT hides.
    for (address, gateway) in EXTERNAL.into_iter().zip(gateways) {
        assert_eq!(seen(&outside, ip(address), "b"), gateway);
    }
    for (address, gateway) in [o4, o6].into_iter().zip(gateways) {
        assert_eq!(seen(&outside, address, "o"), gateway);
        assert_eq!(seen(&o, gateway, "outside"), address, "as it is");
    }
    let mut wanted =
        [EXTERNAL[0].to_owned(), "198.51.100.32".into(), EXTERNAL[1].into(), o4.to_string(), o6.to_string()];
    wanted.sort();
    assert_eq!(proxied(&world), wanted);
    let case = |what, from, to: IpAddr, want| Case { what, from, kind: Kind::Ping, to: at(to), want };
    hold(&[
        case("hidden", &outside, b4, Silent),
        case("hidden, IPv6", &outside, b6, Silent),
        case("within", &a, b4, Passes),
        case("open", &outside, o6, Passes),
    ]);

    // Where the next hop has routes, the router answers for nothing but itself.
    world.run("PATCH", "/1.0/networks/outside", &json!({"config": {"ovn.ingress_mode": "routed"}}));
    wait::until_true("no more answers", SOON, || Ok(proxied(&world).is_empty())).unwrap();
    let router = |name: &str, key: &str| {
        let network = world.first().api().get(&format!("/1.0/networks/{name}")).unwrap();
        network["config"][format!("volatile.network.{key}.address")].as_str().unwrap().to_owned()
    };
    for (net, via) in [
        ("10.200.4.0/24", router("open", "ipv4")),
        ("fd42:200:4::/64", router("open", "ipv6")),
        ("198.51.100.32/31", router("inner", "ipv4")),
    ] {
        world.outside(&["ip", "route", "replace", net, "via", &via]).unwrap();
    }
    for (address, by) in [(o4, "o"), (o6, "o"), (ip(EXTERNAL[0]), "b")] {
        seen(&outside, address, by);
    }
    assert_eq!(seen(&o, gateways[0], "outside"), o4);
}

/// Every member has the bridge; the packets of a network leave by that of the member that is its gateway.
#[test]
fn a_managed_bridge_leads_out() {
    require!(facility::ovn());
    let world = World::new();
    let bridge = json!({
        "ipv4.address": "10.201.0.1/24", "ipv4.nat": "true", "ipv4.dhcp.ranges": "10.201.0.100-10.201.0.200",
        "ipv4.ovn.ranges": "10.201.0.10-10.201.0.20", "ipv6.address": "fd42:201::1/64", "ipv6.nat": "true",
    });
    world.network("home0", "bridge", &bridge);
    let config = json!({
        "network": "home0", "ipv4.address": "10.200.5.1/24", "ipv4.nat": "true", "ipv6.address": "none",
    });
    world.network("cosy", "ovn", &config);
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        world.launch(name, number, "cosy");
    }
    let beyond = world.beyond();
    let _served = beyond.serve(&[7001]);
    let gateway = IpAddr::V4(world.bed.fabric.gateway());
    for name in ["a", "b", "c"] {
        world.address(name, false);
        world.reaches(name, ip("10.201.0.1"));
        let node = seen(&world.place(name), gateway, "outside");
        assert!(world.bed.nodes.iter().any(|n| IpAddr::V4(n.address) == node), "{node} is no member");
    }
    // Names are answered by the bridge's own server.
    world.says("a", "nslookup b.basalt 2>&1 || true", &["10.200.5."]);
}
