//! How much an interface on a logical network may carry: meters of the switch, between members.

use basalt_tests::{facility, require, wait};
use serde_json::{Value, json};

use super::world::{SOON, World};

/// Seconds that 10 MB take from `c1` to `c2`, by the sender's clock.
fn seconds(world: &World) -> f64 {
    let to = world.address("c2", false);
    // Until somebody listens at port 5001.
    let listen = "(sleep 60 | nc -l -p 5001 | wc -c >/run/count) </dev/null >/dev/null 2>&1 & \
                  for i in $(seq 100); do grep -qs ':1389 .*:0000 0A' /proc/net/tcp /proc/net/tcp6 && break; \
                  sleep 0.2; done";
    world.exec("c2", listen);
    let both = world.exec(
        "c1",
        &format!(
            "read a x </proc/uptime; dd if=/dev/zero bs=10000 count=1000 2>/dev/null | nc {to} 5001; \
             read b x </proc/uptime; echo $a $b"
        ),
    );
    let counted = "for i in $(seq 100); do [ -s /run/count ] && break; sleep 0.2; done; cat /run/count; rm /run/count";
    assert_eq!(world.exec("c2", counted), "10000000", "all of it arrives");
    let (begun, ended) = both.split_once(' ').unwrap();
    ended.parse::<f64>().unwrap() - begun.parse::<f64>().unwrap()
}

#[test]
fn interfaces_carry_no_more_than_they_may() {
    require!(facility::ovn());
    let world = World::new();
    world.inner();
    world.launch("c1", 1, "inner");
    world.launch("c2", 2, "inner");
    world.reaches("c1", world.address("c2", false));
    let set = |name: &str, more: &Value| {
        let mut nic = json!({"type": "nic", "name": "eth0", "network": "inner"});
        nic.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        world.run("PATCH", &format!("/1.0/instances/{name}"), &json!({"devices": {"eth0": nic}}));
    };
    // 10 MB are 8 s at 10 Mbit/s. How fast they are without a limit depends on who else uses this machine, and must be
    // less than half of it for the difference to tell.
    let fast = || Ok(Some(seconds(&world)).filter(|took| *took < 4.0));
    let free = wait::until("10 MB without a limit", 2 * SOON, fast).unwrap();
    println!("measured: 10 MB in {free:.1} s");
    for (name, key) in [("c1", "limits.egress"), ("c2", "limits.ingress")] {
        set(name, &json!({key: "10Mbit"}));
        let limited = || Ok(seconds(&world) > f64::max(4.0, free + 2.0));
        wait::until_true(&format!("{key} holds"), 2 * SOON, limited).unwrap();
        set(name, &Value::Null);
        wait::until_true(&format!("{key} holds no more"), 2 * SOON, || Ok(seconds(&world) < 4.0)).unwrap();
    }
    let answer = world.first().api().call(
        "PATCH",
        "/1.0/instances/c1",
        &json!({"devices": {"eth0": {"type": "nic", "name": "eth0", "network": "inner", "limits.priority": "3"}}}),
    );
    let answer = answer.unwrap();
    assert!(answer.status == 400 && answer.json().to_string().contains("limits.priority"), "{:?}", answer.json());
}
