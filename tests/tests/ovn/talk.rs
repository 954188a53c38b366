//! Containers on different nodes talk to each other, and with the world outside.

use basalt_tests::{facility, require, wait};
use serde_json::json;

use super::world::{SOON, World};

#[test]
fn containers_on_different_nodes_talk() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    world.network("alone", "ovn", &json!({"network": "none", "ipv4.address": "10.200.2.1/24", "ipv6.address": "none"}));
    for (name, number, network) in
        [("c1", 1, "inner"), ("c2", 2, "inner"), ("c3", 3, "inner"), ("i1", 1, "alone"), ("i2", 2, "alone")]
    {
        world.launch(name, number, network);
    }
    assert_eq!(world.bound(), [2, 2, 1], "each container is a port of its node's switch");
    let v4 = ["c1", "c2", "c3"].map(|name| world.address(name, false));
    let v6 = ["c1", "c2", "c3"].map(|name| world.address(name, true));
    for to in v4.iter().chain(&v6) {
        world.reaches("c1", *to);
    }
    world.reaches("c3", v4[1]);
    // What the cluster says is what the guest has.
    let state = world.first().api().get("/1.0/instances/c2/state").unwrap();
    let told = state["network"]["eth0"]["addresses"].as_array().unwrap().clone();
    assert!(told.iter().any(|a| a["address"] == v4[1].to_string()), "{told:?}");
    let mtu = world.exec("c1", "cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu, "1442", "a packet and Geneve's head fit into 1500");
    let large = || Ok(world.does("c1", "ping -c 1 -W 2 -s 1400 10.200.1.1"));
    wait::until_true("packets of the MTU's size", SOON, large).unwrap();
    world.says("c1", "nslookup c2.basalt 2>&1 || true", &[&v4[1].to_string(), &v6[1].to_string()]);
    // TCP, over nodes. Not wget: that of Debian's static busybox was seen to end by SIGSEGV.
    let get = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 80", v4[2]);
    world.says("c1", &get, &["<h1>c3</h1>"]);

    // The isolated network is its own world.
    let (i1, i2) = (world.address("i1", false), world.address("i2", false));
    world.reaches("i1", i2);
    assert!(!world.pings("i1", v4[0]) && !world.pings("c1", i1), "networks are apart");
    assert!(!world.pings("i1", world.gateways()[0]), "there is no way out");

    // Nobody speaks for another.
    world.exec("c1", "ip addr add 10.200.1.77/24 dev eth0");
    assert!(!world.does("c1", &format!("ping -c 2 -W 1 -I 10.200.1.77 {}", v4[1])), "a forged address passes");
    world.exec("c1", "ip addr del 10.200.1.77/24 dev eth0");
    world.reaches("c1", v4[1]);
    let mac = world.exec("c1", "cat /sys/class/net/eth0/address");
    world.exec("c1", "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up");
    let again = format!("ip addr add {}/24 dev eth0 2>/dev/null; ping -c 2 -W 1 {}", v4[0], v4[1]);
    assert!(!world.does("c1", &again), "a forged hardware address passes");
    world.exec("c1", &format!("ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up"));
    world.exec("c1", "killall udhcpc");
    world.reaches("c1", v4[1]);

    // A guest that ends leaves no port behind.
    for name in ["c1", "i1"] {
        world.first().api().act(name, "stop", true).unwrap();
    }
    wait::until_true("their ports go", SOON, || Ok(world.bound() == [0, 2, 1])).unwrap();
    world.first().api().delete("c1").unwrap();
    wait::until_true("its logical port goes", SOON, || Ok(world.ports().len() == 4)).unwrap();
}

#[test]
fn packets_leave_by_the_uplink_and_come_back() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    world.launch("c1", 1, "inner");
    world.launch("c2", 2, "inner");
    let [out4, out6] = world.gateways();
    world.address("c1", false);
    world.reaches("c1", out4);
    world.reaches("c2", out4);
    let router =
        world.first().api().get("/1.0/networks/inner").unwrap()["config"]["volatile.network.ipv4.address"].clone();
    let beyond = world.beyond();
    let _heard = beyond.serve(&[8007]);
    let seen = world.place("c1").heard((out4, 8007).into(), "outside");
    assert_eq!(json!(seen.to_string()), router, "the router's address is shown outside");
    world.address("c1", true);
    world.reaches("c1", out6);
    // Nothing comes in by itself.
    let inside = world.address("c1", false).to_string();
    assert!(world.outside(&["busybox", "ping", "-c", "1", "-W", "1", &inside]).is_err());
}
