//! What operators are shown: the way through a network, what is wrong with it, where a packet would go.

use std::process::Output;

use basalt_tests::testbed::Node;
use basalt_tests::{facility, require, wait};
use serde_json::{Value, json};

use super::world::{SOON, World};

/// What a command printed, and its exit code.
fn says(node: &Node, arguments: &[&str]) -> anyhow::Result<(String, Option<i32>)> {
    let Output { status, stdout, stderr } = node.basalt_raw(arguments)?;
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((text, status.code()))
}

/// Waits until a command says something, and ends so.
fn comes_to(node: &Node, arguments: &[&str], part: &str, code: i32) -> String {
    let mut last = String::new();
    let found = wait::until_true(&format!("basalt {arguments:?}: {part}"), SOON, || {
        let (text, ended) = says(node, arguments)?;
        let there = text.contains(part) && ended == Some(code);
        last = text;
        Ok(there)
    });
    assert!(found.is_ok(), "{part:?} with {code} is not what {arguments:?} comes to: {last}");
    last
}

/// The chassis of the network's gateway, as the southbound database has it.
fn gateway(world: &World) -> String {
    let central = world.bed.central().unwrap();
    let find = ["--bare", "--columns=chassis", "find", "port_binding", "type=chassisredirect"];
    wait::until("a gateway", SOON, || {
        let row = central.sbctl(&find)?;
        let Some(chassis) = row.lines().find(|line| line.len() == 36) else { return Ok(None) };
        let name = central.sbctl(&["--bare", "get", "chassis", chassis, "name"])?;
        Ok(Some(name.trim().trim_matches('"').to_owned()))
    })
    .unwrap()
}

#[test]
fn operators_are_shown_the_way_and_what_is_wrong_with_it() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    world.launch("c1", 1, "inner");
    world.launch("c2", 2, "inner");
    let (first, third) = (world.first(), &world.bed.nodes[2]);
    let second = world.address("c2", false);
    world.address("c1", false);
    let [outside, _] = world.gateways();
    world.reaches("c1", second);
    world.reaches("c1", outside);

    // Any member tells the way: also one that has no instance on it.
    let active = gateway(&world);
    wait::until("the third tells the way", SOON, || {
        let state = third.api().get("/1.0/networks/inner/state")?;
        anyhow::ensure!(state["ovn"]["chassis"] == json!(active), "{state}");
        let info = third.basalt(&["network", "info", "inner"])?;
        for part in [&format!("gateway {active}"), "router basalt-net", "switch basalt-net", "c1", "c2", " UP "] {
            anyhow::ensure!(info.contains(part), "{part:?} is not in {info}");
        }
        Ok(Some(()))
    })
    .unwrap();
    comes_to(third, &["network", "doctor", "inner"], "inner is healthy", 0);
    wait::until("the first finds it healthy, too", SOON, || {
        let (text, _) = says(first, &["network", "doctor", "inner", "--format", "json"])?;
        let found: Value = serde_json::from_str(&text)?;
        let hosts = found["hosts"].as_object().map(serde_json::Map::len);
        anyhow::ensure!((&found["healthy"], hosts) == (&json!(true), Some(3)), "{found}");
        Ok(Some(()))
    })
    .unwrap();

    // Where packets go.
    let names: Vec<&str> = world.bed.nodes.iter().map(|node| node.name.as_str()).collect();
    let to = second.to_string();
    let way = comes_to(first, &["network", "trace", "c1", &to], &format!("delivered to eth0 of c2 on {}", names[1]), 0);
    assert!(way.contains("switch of inner  comes in from eth0 of c1"), "{way}");
    let out = outside.to_string();
    let leaves = format!("leaves by outside, through {active}");
    let way = comes_to(first, &["network", "trace", "c1", &out, "--protocol", "tcp", "--port", "80"], &leaves, 0);
    assert!(way.contains("is routed to the uplink") && way.contains("(NAT)"), "{way}");
    comes_to(third, &["network", "trace", "c1", "10.200.1.1"], "answered by the router", 0);
    comes_to(third, &["network", "trace", "c1", "10.200.1.77"], "no interface of network inner has 10.200.1.77", 1);
    let raw = comes_to(third, &["network", "trace", "c2", &out, "--verbose"], "lr_in_ip_routing", 0);
    assert!(raw.contains("ingress(dp="), "{raw}");

    // A list that drops is named.
    let rule = json!({"action": "drop", "protocol": "tcp", "destination_port": "23"});
    world.run("POST", "/1.0/network-acls", &json!({"name": "strict", "ingress": [rule]}));
    let keys = json!({"config": {
        "security.acls": "strict",
        "security.acls.default.ingress.action": "allow",
        "security.acls.default.egress.action": "allow",
    }});
    world.run("PATCH", "/1.0/networks/inner", &keys);
    let telnet = ["network", "trace", "c1", &to, "--protocol", "tcp", "--port", "23"];
    comes_to(first, &telnet, "dropped: switch of inner: ACL strict, ingress rule 0", 1);

    // An interface that somebody has unplugged, while its agent could not see.
    let node = &world.bed.nodes[1];
    let switch = node.switch().unwrap();
    node.kill();
    let (interface, _) = switch.bound().unwrap().remove(0);
    switch.vsctl(&["del-port", "br-int", &interface]).unwrap();
    let text = comes_to(first, &["network", "doctor", "inner"], "eth0 of c2 is not plugged in", 1);
    assert!(text.contains("its switch could not be looked at"), "{text}");
    comes_to(first, &["network", "trace", "c1", &to], "eth0 of c2 on", 1);
    node.start().unwrap();
    node.wait_ready().unwrap();
    // It may have been away for so long that it counts as offline, until it is heard again.
    wait::until_true("c2 is stopped", SOON, || {
        let api = first.api();
        Ok(api.status("c2")? == "Stopped" || api.act("c2", "stop", true).map(|_| true)?)
    })
    .unwrap();

    // A host whose switch has died, and a database that is away: what is known is told all the same.
    switch.kill();
    comes_to(first, &["network", "doctor", "inner"], "ovn-controller has not followed", 1);
    let central = world.bed.central().unwrap();
    central.stop_northbound();
    comes_to(first, &["network", "doctor", "inner"], "the northbound database cannot be asked", 1);
    let info = first.basalt(&["network", "info", "inner"]).unwrap();
    assert!(info.contains("c1") && info.contains("router basalt-net"), "{info}");
    central.start_northbound().unwrap();
}
