//! What a host does for its guests, whoever fills the northbound database.

use basalt_tests::{facility, host, require, wait};
use serde_json::Value;

use super::world::{SOON, World};

/// What the host's part comes to, whoever fills the northbound database: identity, ports, ways out.
#[test]
fn a_guest_is_a_port_of_its_hosts_switch() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    let node = &world.bed.nodes[0];
    let switch = node.switch().unwrap();
    let open = |key: &str| switch.vsctl(&["get", "open", ".", &format!("external-ids:{key}")]).unwrap();
    assert_eq!(open("system-id").trim().trim_matches('"'), node.name);
    wait::until_true("the way out", SOON, || Ok(open("ovn-bridge-mappings").contains("outside:bsu"))).unwrap();
    assert!(switch.vsctl(&["iface-to-br", "eth2"]).unwrap().starts_with("bsu"));

    world.launch("c1", 1, "inner");
    let bound = switch.bound().unwrap();
    let [(interface, port)] = &bound[..] else { panic!("{bound:?}") };
    assert!(port.starts_with("basalt-net") && port.contains("-instance-") && port.ends_with("-eth0"), "{port}");
    assert_eq!(switch.vsctl(&["get", "interface", interface, "error"]).unwrap().trim(), "[]", "it is plugged in");
    assert_eq!(world.exec("c1", "cat /sys/class/net/eth0/mtu"), "1442", "a packet and Geneve's head fit into 1500");
    let pid = world.first().api().get("/1.0/instances/c1/state").unwrap()["pid"].to_string();
    let features = host::run(&["nsenter", "--target", &pid, "--net", "ethtool", "-k", "eth0"]).unwrap();
    assert!(features.contains("tx-checksumming: off"), "{features}");

    // Neither the agent's end nor the guest's own reboot makes another port; an end of the guest takes it away.
    world.reboots_alone("c1", node, interface);
    wait::until_true("the same port, without an agent", SOON, || Ok(switch.bound()? == bound)).unwrap();
    node.start().unwrap();
    node.wait_ready().unwrap();
    wait::until_true("adopted", SOON, || Ok(world.first().api().status("c1")? == "Running")).unwrap();
    assert_eq!(switch.bound().unwrap(), bound);
    world.first().api().act("c1", "stop", true).unwrap();
    wait::until_true("the port goes", SOON, || Ok(switch.bound()?.is_empty())).unwrap();

    // One that was left behind is swept, a foreign one is not.
    node.kill();
    let add = |name: &str, port: &str| {
        let ids = [format!("external_ids:iface-id={port}"), format!("external_ids:basalt_port={port}")];
        switch
            .vsctl(&["--no-wait", "add-port", "br-int", name, "--", "set", "interface", name, &ids[0], &ids[1]])
            .unwrap();
    };
    add("leaked", "basalt-net1-instance-11111111-1111-4111-8111-111111111111-eth0");
    add("foreign", "vm1");
    node.start().unwrap();
    let left = [("foreign".to_owned(), "vm1".to_owned())];
    wait::until_true("the leak goes", SOON, || Ok(switch.bound()? == left)).unwrap();
    // The way out goes with the last network that needs it.
    world.first().api().delete("c1").unwrap();
    for network in ["inner", "outside"] {
        world.run("DELETE", &format!("/1.0/networks/{network}"), &Value::Null);
    }
    let mapped = || switch.vsctl(&["--if-exists", "get", "open", ".", "external-ids:ovn-bridge-mappings"]);
    wait::until_true("the way out goes", SOON, || Ok(mapped()?.trim().is_empty())).unwrap();
    // Its bridge goes after it.
    wait::until_true("eth2 is free", SOON, || Ok(switch.vsctl(&["iface-to-br", "eth2"]).is_err())).unwrap();
}
