//! What breaks, and who notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use basalt_tests::testbed::Node;
use basalt_tests::{facility, host, require, wait};
use serde_json::json;

use super::world::{SECOND, SOON, World};

/// Somebody's hand in our rows is undone within this time: less than the 10 s after which it is looked at in any case.
const HEALED: Duration = Duration::from_secs(8);

#[test]
fn guests_do_not_notice_faults() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    for number in 1..=3 {
        world.launch(&format!("c{number}"), number, "inner");
    }
    let v4 = ["c1", "c2", "c3"].map(|name| world.address(name, false));
    world.reaches("c1", v4[1]);
    world.reaches("c1", v4[2]);

    // A guest reboots by itself while its agent is dead.
    let second = &world.bed.nodes[1];
    let bound = second.switch().unwrap().bound().unwrap();
    world.reboots_alone("c2", second, &bound[0].0);
    // An agent's death is no concern of others.
    world.reaches("c1", v4[2]);
    world.reaches("c1", v4[1]);
    second.start().unwrap();
    second.wait_ready().unwrap();
    wait::until_true("adopted", SOON, || Ok(world.first().api().status("c2")? == "Running")).unwrap();
    world.reaches("c1", v4[1]);
    assert_eq!(second.switch().unwrap().bound().unwrap(), bound, "the same ports, bound once");
    let ports = world.ports();
    assert_eq!(ports.len(), 3, "{ports:?}");
}

/// The chassis through which packets leave dies.
#[test]
fn another_gateway_takes_over() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    for number in 1..=3 {
        world.launch(&format!("c{number}"), number, "inner");
    }
    let [outside, _] = world.gateways();
    for name in ["c1", "c2", "c3"] {
        world.address(name, false);
        world.reaches(name, outside);
    }
    let gateway = active(&world).unwrap();
    let at = world.bed.nodes.iter().position(|node| node.name == gateway).unwrap();
    let other = format!("c{}", (at + 1) % 3 + 1);
    world.bed.nodes[at].switch().unwrap().kill();
    let begun = Instant::now();
    world.reaches(&other, outside);
    let outage = begun.elapsed();
    println!("measured: {:.1} s without the world outside after the gateway's death", outage.as_secs_f64());
    wait::until_true("the database says so", SOON, || Ok(active(&world)? != gateway)).unwrap();
    // The tunnels notice within five; the rest is for a busy machine.
    assert!(outage < 40 * SECOND, "{outage:?}");
}

/// The node that is the gateway now.
fn active(world: &World) -> anyhow::Result<String> {
    let central = world.bed.central()?;
    wait::until("a gateway", SOON, || {
        let row = central.sbctl(&[
            "--bare",
            "--columns=logical_port,chassis",
            "find",
            "port_binding",
            "type=chassisredirect",
        ])?;
        let Some(chassis) = row.lines().find(|line| line.len() == 36) else { return Ok(None) };
        let name = central.sbctl(&["--bare", "get", "chassis", chassis, "name"])?;
        Ok(Some(name.trim().trim_matches('"').to_owned()))
    })
}

/// Somebody at `ovn-nbctl`, and a leader that dies while there is much to write.
#[test]
fn rows_are_kept_whoever_writes() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    // One on each node: all have the image, whoever dies.
    for number in 1..=3 {
        world.launch(&format!("c{number}"), number, "inner");
    }
    let [first, second] = ["c1", "c2"].map(|name| world.address(name, false));
    world.reaches("c1", second);
    hands(&world);
    world.reaches("c1", second);
    world.reaches("c1", world.gateways()[0]);

    // The leader dies while it writes what six new guests need.
    let leader = world.bed.leader().unwrap();
    let others: Vec<&Node> = world.bed.nodes.iter().filter(|node| node.name != leader.name).collect();
    let names: Vec<String> = (1..=6).map(|number| format!("n{number}")).collect();
    std::thread::scope(|scope| {
        for (name, home) in names.iter().zip(others.iter().cycle()) {
            let through = others[0];
            scope.spawn(move || brought_up(through, name, &home.name));
        }
        wait::until_true("the first new ports", SOON, || Ok(world.ports().len() > 4)).unwrap();
        leader.kill();
    });
    wait::until_true("all ports", SOON, || Ok(world.ports().len() == 9)).unwrap();
    let keys = keys(&world);
    assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "{keys:?}");
    let through = others[0];
    let told = |name: &str| {
        let state = through.api().get(&format!("/1.0/instances/{name}/state"))?;
        let addresses = state["network"]["eth0"]["addresses"].as_array().cloned().unwrap_or_default();
        Ok(addresses.iter().find(|a| a["family"] == "inet").and_then(|a| a["address"].as_str().map(str::to_owned)))
    };
    for name in &names {
        let address = wait::until(&format!("{name} has an address"), SOON, || told(name)).unwrap();
        let place = world.place_by(through, name);
        wait::until_true(&format!("{name} ({address}) reaches c1"), SOON, || Ok(place.ping(first))).unwrap();
    }
    leader.start().unwrap();
    leader.wait_ready().unwrap();
}

/// Undone, whatever they did; what is not ours stays as it is.
fn hands(world: &World) {
    let central = world.bed.central().unwrap();
    let nbctl = |words: &[&str]| central.nbctl(words).unwrap();
    let listed = |table: &str| central.nbctl(&["--bare", "--columns=name", "list", table]);
    nbctl(&["ls-add", "theirs", "--", "lsp-add", "theirs", "their-port", "--", "lr-add", "their-router"]);
    let port = world.ports().remove(0);
    let network = port.split("-instance-").next().unwrap();
    let (router, switch) = (format!("{network}-lr"), format!("{network}-ls-int"));
    nbctl(&["lr-nat-add", &router, "dnat_and_snat", "198.51.100.77", "10.200.1.77"]);
    let ours = || -> anyhow::Result<Vec<String>> {
        let named = ["logical_switch", "logical_switch_port", "logical_router", "logical_router_port", "port_group"];
        let mut all = named.iter().map(|table| listed(table)).collect::<anyhow::Result<Vec<_>>>()?;
        for column in ["addresses", "port_security", "options"] {
            all.push(central.nbctl(&["get", "logical_switch_port", &port, column])?);
        }
        all.push(central.nbctl(&["lr-route-list", &router])? + &central.nbctl(&["lr-nat-list", &router])?);
        let mut lines: Vec<String> = all.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    let well = ours().unwrap();
    for hand in [
        &["lsp-del", &port][..],
        &["lsp-set-addresses", &port, "unknown"],
        &["lsp-set-port-security", &port],
        &["remove", "logical_switch_port", &port, "options", "requested-chassis"],
        &["lr-route-del", &router],
        &["lr-nat-del", &router, "snat", "10.200.1.0/24"],
        &["pg-del", &network.replace('-', "_")],
        &["ls-del", &switch],
    ] {
        nbctl(hand);
        let begun = Instant::now();
        wait::until_true(&format!("{hand:?} is undone"), HEALED, || Ok(ours()? == well)).unwrap();
        println!("measured: {hand:?} undone after {:.2} s", begun.elapsed().as_secs_f64());
    }
    let theirs = nbctl(&["show", "theirs"]) + &nbctl(&["lr-list"]);
    assert!(theirs.contains("their-port") && theirs.contains("their-router"), "{theirs}");
    assert!(nbctl(&["lr-nat-list", &router]).contains("198.51.100.77"), "a stranger's row in our router");
    nbctl(&["lr-nat-del", &router, "dnat_and_snat", "198.51.100.77"]);
}

/// Asks until the instance runs: requests may be lost with who was to answer them.
fn brought_up(through: &Node, name: &str, home: &str) {
    let body = json!({
        "name": name, "source": {"type": "image", "alias": "busybox"},
        "devices": {"eth0": {"type": "nic", "name": "eth0", "network": "inner"}},
    });
    wait::until_true(&format!("{name} runs"), 2 * SOON, || {
        let api = through.api();
        if api.get(&format!("/1.0/instances/{name}")).is_err() {
            api.run("POST", &format!("/1.0/instances?target={home}"), &body)?;
        }
        if api.status(name)? == "Running" {
            return Ok(true);
        }
        api.act(name, "start", false).map(|_| false)
    })
    .unwrap();
}

/// The keys of all rows of ours.
fn keys(world: &World) -> Vec<String> {
    let tables = [
        "logical_switch",
        "logical_switch_port",
        "logical_router",
        "logical_router_port",
        "logical_router_static_route",
        "logical_router_policy",
        "nat",
        "dhcp_options",
        "dns",
        "address_set",
        "port_group",
        "ha_chassis_group",
        "ha_chassis",
    ];
    let of = |table: &&str| {
        let central = world.bed.central().unwrap();
        let text = central.nbctl(&["--format=json", "--columns=external_ids", "list", table]).unwrap();
        let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rows = rows["data"].as_array().unwrap().clone();
        let key = |row: &serde_json::Value| {
            let pairs = row[0][1].as_array()?;
            Some(pairs.iter().find(|pair| pair[0] == "basalt_key")?[1].as_str()?.to_owned())
        };
        let keys: Vec<String> = rows.iter().filter_map(key).map(|key| format!("{table} {key}")).collect();
        keys
    };
    let keys: Vec<String> = tables.iter().flat_map(of).collect();
    assert!(keys.len() > 20, "{keys:?}");
    keys
}

/// Somebody takes a guest's port off the switch, or switches it off: it is back long before the timer.
#[test]
fn a_port_that_somebody_deletes_is_plugged_in_again() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    world.launch("c1", 1, "inner");
    world.launch("c2", 2, "inner");
    let other = world.address("c2", false);
    world.address("c1", false);
    world.reaches("c1", other);
    let switch = world.first().switch().unwrap();
    let bound = switch.bound().unwrap();
    switch.vsctl(&["--no-wait", "del-port", "br-int", &bound[0].0]).unwrap();
    let begun = Instant::now();
    wait::until_true("the port is there again", HEALED, || Ok(switch.bound()? == bound)).unwrap();
    println!("measured: plugged in again after {:.1} s", begun.elapsed().as_secs_f64());
    world.reaches("c1", other);
    let link = |words: &[&str]| host::run(&[&["ip", "-n", &world.first().netns, "link"], words].concat()).unwrap();
    link(&["set", "dev", &bound[0].0, "down"]);
    let up = || Ok(link(&["show", "dev", &bound[0].0]).contains(",UP"));
    wait::until_true("the port is on again", HEALED, up).unwrap();
    world.reaches("c1", other);
}
