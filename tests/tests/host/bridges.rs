//! Bridge networks: what guests on them are held to, and who reaches whom.

use std::net::IpAddr;

use basalt_tests::testbed::{Node, Testbed};
use basalt_tests::{facility, host, require, wait};
use serde_json::{Value, json};

use super::{SOON, address, cluster, exec, runs};

/// A node with the network `lab`, `10.77.5.1/24`.
struct Lab {
    bed: Testbed,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { bed: cluster(1, "dir") };
        let config = json!({"ipv4.address": "10.77.5.1/24", "ipv4.nat": "true"});
        lab.run("POST", "/1.0/networks", &json!({"name": "lab", "type": "bridge", "config": config}));
        lab
    }

    fn node(&self) -> &Node {
        &self.bed.nodes[0]
    }

    fn run(&self, method: &str, path: &str, body: &Value) -> Value {
        self.node().api().run(method, path, body).unwrap()
    }

    /// The refusal of what cannot be: its status and its text.
    fn refused(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let answer = self.node().api().call(method, path, body).unwrap();
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status >= 400, "{method} {path} {body}: {}", answer.status);
        (answer.status, error)
    }

    fn nic(more: &Value) -> Value {
        let mut nic = json!({"type": "nic", "name": "eth0", "network": "lab"});
        for (key, value) in more.as_object().into_iter().flatten() {
            nic[key] = value.clone();
        }
        json!({"devices": {"eth0": nic}})
    }

    /// A running container on the network, and its address.
    fn launch(&self, name: &str, more: &Value) -> IpAddr {
        let mut body = Self::nic(more);
        body["name"] = name.into();
        body["source"] = json!({"type": "image", "alias": "busybox"});
        self.run("POST", "/1.0/instances", &body);
        self.node().api().act(name, "start", false).unwrap();
        address(&self.node().api(), name).parse().unwrap()
    }

    fn set(&self, name: &str, more: &Value) {
        self.run("PATCH", &format!("/1.0/instances/{name}"), &Self::nic(more));
    }

    /// Whether a script succeeds in the container.
    fn does(&self, name: &str, script: &str) -> bool {
        self.node().basalt_raw(&["exec", name, "--", "sh", "-c", script]).unwrap().status.success()
    }

    /// Seconds that 10 MB take from one container to another, by the sender's clock.
    fn seconds(&self, from: &str, to: &str, address: IpAddr) -> f64 {
        // Until somebody listens at port 5001.
        let listen = "(sleep 60 | nc -l -p 5001 | wc -c >/run/count) </dev/null >/dev/null 2>&1 & \
                      for i in $(seq 100); do grep -qs ':1389 .*:0000 0A' /proc/net/tcp /proc/net/tcp6 && break; \
                      sleep 0.2; done";
        exec(self.node(), to, listen);
        let script = format!(
            "read a x </proc/uptime; dd if=/dev/zero bs=10000 count=1000 2>/dev/null | nc {address} 5001; \
             read b x </proc/uptime; echo $a $b"
        );
        let both = exec(self.node(), from, &script);
        let counted =
            "for i in $(seq 100); do [ -s /run/count ] && break; sleep 0.2; done; cat /run/count; rm /run/count";
        assert_eq!(exec(self.node(), to, counted), "10000000", "all of it arrives");
        let (begun, ended) = both.split_once(' ').unwrap();
        ended.parse::<f64>().unwrap() - begun.parse::<f64>().unwrap()
    }

    /// The rules of a table in the node's namespace; nothing when there is no such table.
    fn rules(&self, table: &str) -> String {
        let netns = format!("--net=/run/netns/{}", self.node().netns);
        host::try_run(&["nsenter", &netns, "nft", "list", "table", "bridge", table]).unwrap_or_default()
    }
}

#[test]
fn interfaces_carry_no_more_than_they_may() {
    require!(facility::containers());
    let lab = Lab::new();
    let limit = json!({"limits.egress": "10Mbit"});
    lab.launch("a", &Value::Null);
    let b = lab.launch("b", &Value::Null);
    // 10 MB are 8 s at 10 Mbit/s, 4 s at 20 and 1.6 s at 50. On a busy machine not each time.
    let free = |what: &str| wait::until_true(what, SOON, || Ok(lab.seconds("a", "b", b) < 1.6)).unwrap();
    free("nothing is limited");
    lab.set("a", &limit);
    let in_force = || Ok(lab.rules("basalt_ports").contains("limit rate over"));
    wait::until_true("the limit is in force", SOON, in_force).unwrap();
    let held = lab.seconds("a", "b", b);
    assert!(held > 4.0, "{held}");

    // It outlives the agent, and a guest that reboots while there is none.
    let node = lab.node();
    let pid = super::pid(&node.api(), "a");
    exec(node, "a", "(sleep 1; reboot) >/dev/null 2>&1 </dev/null &");
    node.kill();
    let gone = || Ok(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    wait::until_true("it has rebooted", SOON, gone).unwrap();
    assert!(lab.rules("basalt_ports").contains("limit rate over"));
    node.start().unwrap();
    node.wait_ready().unwrap();
    runs(&node.api(), "a");
    address(&node.api(), "a");
    let held = lab.seconds("a", "b", b);
    assert!(held > 4.0, "{held}");

    // What is received is limited as well, and no limit is none at once.
    lab.set("a", &Value::Null);
    lab.set("b", &json!({"limits.ingress": "10Mbit"}));
    wait::until_true("only what is received", SOON, || {
        let rules = lab.rules("basalt_ports");
        Ok(rules.contains("chain to_") && !rules.contains("chain from_"))
    })
    .unwrap();
    let held = lab.seconds("a", "b", b);
    assert!(held > 4.0, "{held}");
    lab.set("b", &Value::Null);
    wait::until_true("no rules", SOON, || Ok(lab.rules("basalt_ports").is_empty())).unwrap();
    free("nothing is limited any more");

    for (more, key) in [
        (json!({"limits.egress": "10MB"}), "devices.eth0.limits.egress"),
        (json!({"limits.max": "0"}), "devices.eth0.limits.max"),
        (json!({"limits.priority": "high"}), "devices.eth0.limits.priority"),
        (json!({"security.ipv4_filtering": "true"}), "devices.eth0.security.ipv4_filtering"),
        (json!({"ipv4.routes": "10.9.0.0/24"}), "devices.eth0.ipv4.routes"),
    ] {
        let (status, error) = lab.refused("PATCH", "/1.0/instances/a", &Lab::nic(&more));
        assert!(status == 400 && error.contains(key), "{more}: {status} {error}");
    }
}

#[test]
fn interfaces_send_from_their_own_addresses() {
    require!(facility::containers());
    let lab = Lab::new();
    let b = lab.launch("b", &Value::Null);
    let own = json!({"ipv4.address": "10.77.5.9", "security.ipv4_filtering": "true", "limits.ingress": "1Gbit"});
    let a = lab.launch("a", &own);
    assert_eq!(a, IpAddr::from([10, 77, 5, 9]), "DHCP goes through");
    let pings = |from: &str| lab.does("a", &format!("ping -c 1 -W 1 -I {from} {b}"));
    wait::until_true("its own address passes", SOON, || Ok(pings("10.77.5.9"))).unwrap();
    exec(lab.node(), "a", "ip addr add 10.77.5.66/24 dev eth0");
    assert!(!pings("10.77.5.66"), "another address");
    exec(lab.node(), "a", "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:66; ip link set eth0 up");
    assert!(!pings("10.77.5.9"), "another hardware address");
    lab.set("a", &json!({"ipv4.address": "10.77.5.9"}));
    wait::until_true("both are let through", SOON, || Ok(pings("10.77.5.9") && pings("10.77.5.66"))).unwrap();

    let alone = json!({"security.port_isolation": "true"});
    lab.set("a", &alone);
    lab.set("b", &alone);
    wait::until_true("they are kept apart", SOON, || Ok(!pings("10.77.5.9"))).unwrap();
    let gateway = || Ok(lab.does("b", "ping -c 1 -W 2 10.77.5.1"));
    wait::until_true("the gateway is for all", SOON, gateway).unwrap();
    for name in ["a", "b"] {
        lab.node().api().act(name, "stop", true).unwrap();
        lab.node().api().delete(name).unwrap();
    }
    wait::until_true("nothing is left", SOON, || Ok(lab.rules("basalt_ports").is_empty())).unwrap();
}

/// What the world outside sees of guests, and they of it.
#[test]
fn lists_and_forwards_hold_where_the_bridge_ends() {
    require!(facility::containers());
    let lab = Lab::new();
    let (node, fabric) = (lab.node(), lab.bed.fabric.netns());
    let web = lab.launch("web", &json!({"ipv4.address": "10.77.5.20"}));
    let peer = lab.launch("peer", &Value::Null);
    let outside = lab.bed.fabric.gateway();
    host::run(&["ip", "-n", &fabric, "route", "add", "10.77.5.0/24", "via", &node.address.to_string()]).unwrap();
    // The image serves its name on port 80.
    let fetches = |to: &str, port: u16| {
        let enter = format!("--net=/run/netns/{fabric}");
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 {to} {port}");
        host::try_run(&["nsenter", &enter, "sh", "-c", &script]).is_some_and(|page| page.contains("<h1>web</h1>"))
    };
    let soon = |what: &str, done: &dyn Fn() -> bool| wait::until_true(what, SOON, || Ok(done())).unwrap();
    let out = |name: &str| lab.does(name, &format!("ping -c 1 -W 1 {outside}"));
    let inside = || lab.does("peer", &format!("ping -c 1 -W 1 {web}"));
    soon("the page is served", &|| fetches("10.77.5.20", 80));
    soon("the way out is open", &|| out("web"));

    // A list: what it does not allow does not come in; what guests begin is their own affair.
    let rules = |port: &str| {
        let ingress = json!([{"action": "allow", "protocol": "tcp", "destination_port": port, "state": "logged"}]);
        json!({"name": "web", "ingress": ingress})
    };
    lab.run("POST", "/1.0/network-acls", &rules("81"));
    let assigned = json!({"config": {"security.acls": "web", "security.acls.default.egress.action": "allow"}});
    lab.run("PATCH", "/1.0/networks/lab", &assigned);
    soon("nothing comes in", &|| !fetches("10.77.5.20", 80));
    soon("inside, and out, all is as before", &|| out("web") && inside());
    lab.run("PUT", "/1.0/network-acls/web", &rules("80"));
    soon("the list has changed", &|| fetches("10.77.5.20", 80));
    node.restart().unwrap();
    soon("the list has outlived the agent", &|| fetches("10.77.5.20", 80));
    assert!(!fetches("10.77.5.20", 81));

    // A list of an interface alone, in place of the network's.
    let alone = json!({"ipv4.address": "10.77.5.20", "security.acls": "none-in",
        "security.acls.default.ingress.action": "drop", "security.acls.default.egress.action": "allow"});
    lab.run("POST", "/1.0/network-acls", &json!({"name": "none-in"}));
    lab.run("PATCH", "/1.0/networks/lab", &json!({"config": {"security.acls": ""}}));
    lab.set("web", &alone);
    soon("nothing comes in", &|| !fetches("10.77.5.20", 80));
    soon("inside, and out, all is as before", &|| out("web") && inside());
    lab.set("web", &json!({"ipv4.address": "10.77.5.20"}));
    soon("all is free again", &|| fetches("10.77.5.20", 80));
    lab.run("PATCH", "/1.0/networks/lab", &assigned);

    // A forward, on the member's own address.
    let own = node.address.to_string();
    let port = json!([{"protocol": "tcp", "listen_port": "8000", "target_port": "80", "target_address": "10.77.5.20"}]);
    lab.run("POST", "/1.0/networks/lab/forwards", &json!({"listen_address": own, "ports": port}));
    soon("the forward leads in", &|| fetches(&own, 8000));
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {own} 8000 | grep -q '<h1>web</h1>'");
    soon(&format!("for neighbours too ({peer})"), &|| lab.does("peer", &script));
    let listen = node.api().get("/1.0/networks/lab/forwards").unwrap();
    assert_eq!(listen, json!([format!("/1.0/networks/lab/forwards/{own}")]));
    let port = json!([{"protocol": "tcp", "listen_port": "8443", "target_address": "10.77.5.20"}]);
    let path = format!("/1.0/networks/lab/forwards/{own}");
    let (status, error) = lab.refused("PUT", &path, &json!({"ports": port}));
    assert!(status == 409 && error.contains(&node.name), "{status} {error}");
    lab.run("DELETE", &path, &Value::Null);
    soon("the forward is gone", &|| !fetches(&own, 8000));

    // What belongs to logical networks is refused, and the network's end is the end of its rules.
    let inner = json!({"ingress": [{"action": "allow", "source": "@internal"}]});
    let (status, error) = lab.refused("PUT", "/1.0/network-acls/web", &inner);
    assert!(status == 400 && error.contains("ingress[0].source"), "{status} {error}");
    for name in ["web", "peer"] {
        node.api().act(name, "stop", true).unwrap();
        node.api().delete(name).unwrap();
    }
    lab.run("DELETE", "/1.0/networks/lab", &Value::Null);
    let netns = format!("--net=/run/netns/{}", node.netns);
    let tables = || host::run(&["nsenter", &netns, "nft", "list", "tables"]).unwrap();
    soon("no rules are left", &|| !tables().contains("basalt_lab"));
}
