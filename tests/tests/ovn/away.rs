//! OVN's databases are away for a while: what runs runs on, and what was asked for meanwhile is done afterwards, once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use basalt_tests::testbed::Central;
use basalt_tests::{facility, require, wait};
use serde_json::{Value, json};

use super::world::{SECOND, SOON, World};

/// How long the northbound database stays away.
const AWAY: Duration = Duration::from_secs(60);
/// The API does not wait for a database.
const PROMPT: Duration = Duration::from_secs(10);

#[test]
fn databases_come_back() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    for number in 1..=3 {
        world.launch(&format!("c{number}"), number, "inner");
    }
    let [_, second, third] = ["c1", "c2", "c3"].map(|name| world.address(name, false));
    world.reaches("c1", second);
    world.reaches("c1", third);
    let central = world.bed.central().unwrap();
    southbound(&world, central);
    northbound(&world, central);
}

/// Nothing new can be plugged in, and whoever asks where things are is told why nobody knows.
fn southbound(world: &World, central: &Central) {
    let second = world.address("c2", false);
    central.stop_southbound();
    let state = || world.first().api().get("/1.0/networks/inner/state");
    wait::until("the state says what it lacks", SOON, || {
        let lacking = state()?["basalt_path"]["lacking"].as_str().unwrap_or_default().to_owned();
        Ok((!lacking.is_empty()).then_some(lacking))
    })
    .unwrap();
    let info = world.first().basalt(&["network", "info", "inner"]).unwrap();
    assert!(info.contains("where ports are is not known"), "{info}");
    let doctor = world.first().api().get("/1.0/networks/inner/doctor").unwrap();
    assert_eq!(doctor["healthy"], false, "{doctor}");
    let trace = world.first().api().call("GET", "/1.0/network-trace?instance=c1&address=192.0.2.1", &Value::Null);
    assert!(trace.unwrap().status >= 400);
    // Flows stay.
    world.reaches("c1", second);
    central.start_southbound().unwrap();
    wait::until_true("the state lacks nothing", SOON, || Ok(state()?["basalt_path"]["lacking"] == "")).unwrap();
    world.launch("s1", 2, "inner");
    let address = world.address("s1", false);
    world.reaches("c1", address);
}

/// The state goes on without it; in the end there is one row for each that is still wanted, and none for others.
fn northbound(world: &World, central: &Central) {
    let second = world.address("c2", false);
    let begun = Instant::now();
    central.stop_northbound();
    let promptly = |what: &str, act: &dyn Fn()| {
        let begun = Instant::now();
        act();
        assert!(begun.elapsed() < PROMPT, "{what} took {:?}", begun.elapsed());
    };
    let later =
        json!({"network": "outside", "ipv4.address": "10.200.7.1/24", "ipv4.nat": "true", "ipv6.address": "none"});
    promptly("a network", &|| world.network("later", "ovn", &later));
    promptly("one that goes again", &|| world.network("never", "ovn", &json!({"network": "none"})));
    world.launch("c4", 3, "inner");
    world.launch("d1", 1, "later");
    world.launch("d2", 2, "later");
    world.launch("gone", 2, "inner");
    promptly("a stop", &|| drop(world.first().api().act("gone", "stop", true).unwrap()));
    promptly("a deletion", &|| drop(world.run("DELETE", "/1.0/instances/gone", &Value::Null)));
    promptly("a network's deletion", &|| drop(world.run("DELETE", "/1.0/networks/never", &Value::Null)));
    let list = json!({"name": "open", "ingress": [{"action": "allow", "state": "enabled", "protocol": "icmp4"}]});
    promptly("a list", &|| drop(world.run("POST", "/1.0/network-acls", &list)));
    let use_it = json!({"config": {"security.acls": "open", "security.acls.default.egress.action": "allow"}});
    promptly("a network's list", &|| drop(world.run("PATCH", "/1.0/networks/later", &use_it)));
    while begun.elapsed() < AWAY {
        // What runs runs on.
        world.reaches("c1", second);
        promptly("a look", &|| drop(world.run("GET", "/1.0/networks?recursion=1", &Value::Null)));
        std::thread::sleep(5 * SECOND);
    }
    central.start_northbound().unwrap();
    let fourth = world.address("c4", false);
    world.reaches("c1", fourth);
    world.address("d1", false);
    let other = world.address("d2", false);
    world.reaches("d1", other);
    world.reaches("d1", world.gateways()[0]);
    // c1 to c4, s1, d1, d2.
    let ports = world.ports();
    assert_eq!(ports.len(), ports.iter().collect::<BTreeSet<_>>().len(), "{ports:?}");
    assert_eq!(ports.len(), 7, "{ports:?}");
    let routers = central.nbctl(&["--bare", "--columns=name", "list", "logical_router"]).unwrap();
    assert_eq!(routers.lines().filter(|line| !line.is_empty()).count(), 2, "{routers}");
}
