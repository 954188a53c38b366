//! Rows of the stock clients that are about the cluster itself: members, groups, evacuation, networks, pools, limits of
//! projects, keys of the server. Everything goes through a follower.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::time::Duration;

use basalt_tests::compat::{Client, Rows, Stock};
use basalt_tests::testbed::Testbed;
use basalt_tests::{require, wait};

/// What hosts and other members do by themselves is done by then, also where two suites share two cores.
const SOON: Duration = Duration::from_secs(60);

struct Bed {
    bed: Testbed,
    stock: Stock,
}

impl Bed {
    fn run(&self, arguments: &[&str]) -> String {
        self.stock.run(arguments)
    }

    fn refused(&self, arguments: &[&str], words: &[&str]) {
        let said = self.stock.refused(arguments);
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {said:?} does not say {word:?}");
        }
    }

    fn shows(&self, arguments: &[&str], words: &[&str]) {
        let text = self.run(arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?} does not show {word:?}:\n{text}");
        }
    }

    fn hides(&self, arguments: &[&str], word: &str) {
        let text = self.run(arguments);
        assert!(!text.contains(word), "{arguments:?} shows {word:?}:\n{text}");
    }

    /// A stopped instance on that node.
    fn made(&self, name: &str, node: usize) {
        self.run(&["init", "busybox", name, "--target", &self.bed.nodes[node].name]);
    }

    fn gone(&self, name: &str) {
        self.run(&["delete", "--force", name]);
    }
}

fn walk(client: Client) {
    let bed = Stock::cluster().unwrap();
    let stock = Stock::connect(client, &bed).unwrap();
    let bed = &Bed { bed, stock };
    let mut rows = Rows::of(client);
    rows.row("project: limits", || limits(bed));
    rows.row("project: restrictions", || restrictions(bed));
    rows.row("network: create, list, show, info, get, set, unset, edit, rename, delete", || networks(bed));
    rows.row("network: attach, detach", || attach(bed));
    rows.row("network: leases", || leases(bed));
    if client == Client::Incus {
        rows.row("network: allocations", || allocations(bed));
    }
    rows.row("storage: create by member, list, show, info, get, set, unset, edit, delete", || pools(bed));
    rows.row("storage volume: list, show of instances", || volumes(bed));
    rows.row("config: of the server, get, set, unset, edit, by member", || server(bed));
    rows.row("cluster: edit, get, set, unset, rename of a member", || members(bed));
    rows.row("cluster: groups", || groups(bed));
    rows.row("cluster: tokens, add, list, revoke", || tokens(bed));
    rows.row("cluster: enable", || enable(bed));
    rows.row("cluster: evacuate, restore", || evacuate(bed));
    rows.row("cluster: evacuation outlives who carries it out", || evacuate_and_die(bed));
    rows.row("cluster: update-certificate", || certificate(bed));
    rows.row("cluster: remove", || remove(bed));
    rows.done();
}

#[test]
fn lxc_of_lxd_5() {
    require!(Stock::lack(Client::Lxc));
    walk(Client::Lxc);
}

#[test]
fn incus_6() {
    require!(Stock::lack(Client::Incus));
    walk(Client::Incus);
}

fn limits(bed: &Bed) {
    bed.run(&["project", "create", "small", "-c", "limits.instances=1", "-c", "limits.memory=1GiB"]);
    let device =
        ["profile", "device", "add", "default", "root", "disk", "path=/", "pool=default", "--project", "small"];
    bed.run(&device);
    bed.refused(&["init", "busybox", "a", "--project", "small"], &["limits.memory", "\"a\""]);
    bed.run(&["init", "busybox", "a", "-c", "limits.memory=600MiB", "--project", "small"]);
    let second = ["init", "busybox", "b", "-c", "limits.memory=100MiB", "--project", "small"];
    bed.refused(&second, &["limits.instances", "limited to 1", "would use 2"]);
    bed.refused(&["project", "set", "small", "limits.memory", "500MiB"], &["limits.memory", "500MiB", "600MiB"]);
    bed.refused(&["config", "set", "a", "limits.memory", "2GiB", "--project", "small"], &["1024MiB", "2048MiB"]);
    bed.shows(&["project", "info", "small", "--format", "csv"], &["INSTANCES,1,1", "600.00MiB"]);
    bed.run(&["project", "set", "small", "limits.instances", "2"]);
    bed.run(&second);
    bed.run(&["delete", "a", "b", "--project", "small"]);
    bed.run(&["project", "delete", "small"]);
}

fn restrictions(bed: &Bed) {
    bed.run(&["project", "create", "walled", "-c", "restricted=true"]);
    let device =
        ["profile", "device", "add", "default", "root", "disk", "path=/", "pool=default", "--project", "walled"];
    bed.run(&device);
    let nested = ["init", "busybox", "a", "-c", "security.nesting=true", "--project", "walled"];
    bed.refused(&nested, &["restricted.containers.nesting"]);
    bed.run(&["init", "busybox", "a", "--project", "walled"]);
    let disk = ["config", "device", "add", "a", "d", "disk", "source=/srv", "path=/srv", "--project", "walled"];
    bed.refused(&disk, &["restricted.devices.disk"]);
    bed.run(&["project", "set", "walled", "restricted.devices.disk", "allow"]);
    bed.run(&disk);
    bed.refused(&["project", "unset", "walled", "restricted.devices.disk"], &["restricted.devices.disk", "\"d\""]);
    bed.run(&["delete", "a", "--project", "walled"]);
    bed.run(&["project", "delete", "walled"]);
}

fn networks(bed: &Bed) {
    for node in &bed.bed.nodes {
        bed.run(&["network", "create", "br7", "--target", &node.name]);
    }
    bed.shows(&["network", "list"], &["br7", "PENDING"]);
    bed.run(&["network", "create", "br7", "ipv4.address=10.77.0.1/24", "ipv4.nat=true", "ipv6.address=none"]);
    bed.shows(&["network", "list", "--format", "csv"], &["br7,bridge,YES"]);
    bed.shows(&["network", "show", "br7"], &["ipv4.address: 10.77.0.1/24", "managed: true", "status: Created"]);
    let found = || Ok(bed.stock.tried(&["network", "info", "br7"])?.contains("10.77.0.1"));
    wait::until_true("the bridge", SOON, found).unwrap();
    // Each member makes it for itself.
    let elsewhere = ["network", "info", "br7", "--target", &bed.bed.nodes[2].name];
    wait::until_true("the bridge elsewhere", SOON, || bed.stock.tried(&elsewhere).map(|_| true)).unwrap();
    bed.run(&["network", "set", "br7", "bridge.mtu", "1400"]);
    assert_eq!(bed.run(&["network", "get", "br7", "bridge.mtu"]).trim(), "1400");
    bed.run(&["network", "unset", "br7", "bridge.mtu"]);
    assert_eq!(bed.run(&["network", "get", "br7", "bridge.mtu"]).trim(), "");
    bed.refused(&["network", "set", "br7", "colour", "red"], &["colour"]);
    let edited = bed.run(&["network", "show", "br7"]).replace("description: \"\"", "description: seven");
    bed.stock.feed(&["network", "edit", "br7"], &edited);
    bed.shows(&["network", "show", "br7"], &["description: seven"]);
    bed.run(&["network", "rename", "br7", "br8"]);
    // The bridge of the old name is listed as one of the host's own until each member has taken it down.
    let hidden =
        wait::until_true("the old bridge is gone", SOON, || Ok(!bed.run(&["network", "list"]).contains("br7")));
    hidden.unwrap();
    bed.run(&["network", "delete", "br8"]);
    // Until the host has taken it down, its bridge is one that nobody manages.
    let gone = || Ok(!bed.stock.raw(&["network", "show", "br8"]).status.success());
    wait::until_true("the bridge goes", SOON, gone).unwrap();
    bed.refused(&["network", "show", "br8"], &["not found"]);
}

fn attach(bed: &Bed) {
    bed.run(&["network", "create", "br9", "ipv4.address=10.79.0.1/24"]);
    bed.made("n1", 0);
    bed.run(&["network", "attach", "br9", "n1", "eth5"]);
    bed.shows(&["network", "show", "br9"], &["/1.0/instances/n1"]);
    bed.refused(&["network", "delete", "br9"], &["used by", "n1"]);
    bed.run(&["network", "detach", "br9", "n1"]);
    bed.run(&["profile", "create", "wired"]);
    bed.run(&["network", "attach-profile", "br9", "wired", "eth5"]);
    bed.shows(&["profile", "show", "wired"], &[": br9"]);
    bed.run(&["network", "detach-profile", "br9", "wired"]);
    bed.run(&["profile", "delete", "wired"]);
    bed.gone("n1");
    bed.run(&["network", "delete", "br9"]);
}

/// The network of the default profile.
fn default_network(bed: &Bed) -> String {
    let text = bed.run(&["profile", "show", "default"]);
    text.lines().find_map(|line| line.trim().strip_prefix("network: ")).unwrap().to_owned()
}

fn leases(bed: &Bed) {
    let network = default_network(bed);
    bed.shows(&["network", "list-leases", &network], &["GATEWAY"]);
}

fn allocations(bed: &Bed) {
    let network = default_network(bed);
    bed.shows(&["network", "list-allocations"], &[&format!("/1.0/networks/{network}"), "network"]);
}

fn pools(bed: &Bed) {
    for node in &bed.bed.nodes {
        bed.run(&["storage", "create", "spare", "dir", "--target", &node.name]);
    }
    bed.shows(&["storage", "list"], &["spare", "PENDING"]);
    bed.run(&["storage", "create", "spare", "dir", "user.a=b"]);
    let ready = wait::until_true("the pool is made", SOON, || {
        Ok(bed.run(&["storage", "show", "spare"]).contains("status: Created"))
    });
    ready.unwrap();
    bed.shows(&["storage", "list", "--format", "csv"], &["spare,dir"]);
    bed.shows(&["storage", "show", "spare"], &["user.a: b", &bed.bed.nodes[2].name]);
    bed.run(&["storage", "show", "spare", "--target", &bed.bed.nodes[1].name]);
    // Space is measured now and then: a fresh pool has its first figures a moment later.
    let info = wait::until("the pool's space", SOON, || bed.stock.tried(&["storage", "info", "spare"]).map(Some));
    let info = info.unwrap();
    assert!(["driver: dir", "space used", "total space"].iter().all(|word| info.contains(word)), "{info}");
    let elsewhere = ["storage", "info", "spare", "--target", &bed.bed.nodes[1].name];
    wait::until_true("the pool's space", SOON, || bed.stock.tried(&elsewhere).map(|_| true)).unwrap();
    bed.run(&["storage", "set", "spare", "user.c", "d"]);
    assert_eq!(bed.run(&["storage", "get", "spare", "user.c"]).trim(), "d");
    bed.run(&["storage", "unset", "spare", "user.c"]);
    assert_eq!(bed.run(&["storage", "get", "spare", "user.c"]).trim(), "");
    let edited = bed.run(&["storage", "show", "spare"]).replace("description: \"\"", "description: more");
    bed.stock.feed(&["storage", "edit", "spare"], &edited);
    bed.shows(&["storage", "show", "spare"], &["description: more"]);
    bed.refused(&["storage", "delete", "default"], &["used"]);
    bed.run(&["storage", "delete", "spare"]);
    bed.refused(&["storage", "show", "spare"], &["not found"]);
}

fn volumes(bed: &Bed) {
    bed.made("v1", 1);
    let word = "container/v1";
    bed.shows(&["storage", "volume", "list", "default", "--format", "csv"], &["container,v1", &bed.bed.nodes[1].name]);
    bed.shows(&["storage", "volume", "show", "default", word], &["content_type: filesystem", "/1.0/instances/v1"]);
    bed.gone("v1");
}

fn server(bed: &Bed) {
    bed.run(&["config", "set", "user.motto", "hard as stone"]);
    assert_eq!(bed.run(&["config", "get", "user.motto"]).trim(), "hard as stone");
    bed.shows(&["config", "show"], &["user.motto: hard as stone", "core.https_address"]);
    bed.run(&["config", "unset", "user.motto"]);
    assert_eq!(bed.run(&["config", "get", "user.motto"]).trim(), "");
    bed.refused(&["config", "set", "cluster.max_voters", "4"], &["cluster.max_voters"]);
    bed.refused(&["config", "set", "no.such", "key"], &["no.such"]);
    let edited = bed.run(&["config", "show"]).replace("config:\n", "config:\n  user.edited: \"yes\"\n");
    bed.stock.feed(&["config", "edit"], &edited);
    assert_eq!(bed.run(&["config", "get", "user.edited"]).trim(), "yes");
    let node = &bed.bed.nodes[2];
    let address = bed.run(&["config", "get", "core.https_address", "--target", &node.name]);
    assert!(address.contains(&node.address.to_string()), "{address}");
    bed.run(&["config", "unset", "user.edited"]);
}

fn members(bed: &Bed) {
    let name = bed.bed.nodes[2].name.as_str();
    bed.run(&["cluster", "set", name, "user.rack", "7"]);
    assert_eq!(bed.run(&["cluster", "get", name, "user.rack"]).trim(), "7");
    bed.run(&["cluster", "unset", name, "user.rack"]);
    bed.refused(&["cluster", "get", name, "user.rack"], &["does not exist"]);
    bed.refused(&["cluster", "set", name, "scheduler.instance", "x"], &["scheduler.instance"]);
    let edited = bed.run(&["cluster", "show", name]).replace("failure_domain: default", "failure_domain: cellar");
    bed.stock.feed(&["cluster", "edit", name], &edited);
    bed.shows(&["cluster", "show", name], &["failure_domain: cellar", "status: Online"]);
    bed.run(&["cluster", "rename", name, "renamed"]);
    bed.shows(&["cluster", "list", "--format", "csv"], &["renamed,", "cellar"]);
    bed.run(&["cluster", "rename", "renamed", name]);
}

fn groups(bed: &Bed) {
    let name = bed.bed.nodes[1].name.as_str();
    bed.run(&["cluster", "group", "create", "blue"]);
    bed.shows(&["cluster", "group", "list"], &["blue"]);
    bed.run(&["cluster", "group", "assign", name, "blue"]);
    bed.shows(&["cluster", "group", "show", "blue"], &[name]);
    bed.run(&["init", "busybox", "g1", "--target", "@blue"]);
    assert_eq!(bed.stock.json(&["list", "--format", "json"])[0]["location"], name);
    bed.gone("g1");
    let edited = bed.run(&["cluster", "group", "show", "blue"]).replace("description: \"\"", "description: sky");
    bed.stock.feed(&["cluster", "group", "edit", "blue"], &edited);
    bed.shows(&["cluster", "group", "show", "blue"], &["description: sky", name]);
    bed.run(&["cluster", "group", "rename", "blue", "green"]);
    bed.refused(&["cluster", "group", "delete", "green"], &["members"]);
    bed.run(&["cluster", "group", "remove", name, "green"]);
    bed.run(&["cluster", "group", "delete", "green"]);
    bed.hides(&["cluster", "group", "list"], "green");
}

fn tokens(bed: &Bed) {
    bed.run(&["cluster", "add", "fourth"]);
    bed.shows(&["cluster", "list-tokens"], &["fourth"]);
    bed.run(&["cluster", "revoke-token", "fourth"]);
    bed.hides(&["cluster", "list-tokens"], "fourth");
}

fn enable(bed: &Bed) {
    // The node is part of a cluster: the client itself says so.
    bed.refused(&["cluster", "enable", "basalt:", &bed.bed.nodes[0].name], &["already clustered"]);
}

fn evacuate(bed: &Bed) {
    let node = &bed.bed.nodes[2];
    let state = |name: &str| bed.run(&["list", name, "--format", "csv", "-c", "nsL"]).trim().to_owned();
    let elsewhere = |name: &str, word: &str| {
        let shown = state(name);
        assert!(shown.starts_with(&format!("{name},{word},")) && !shown.ends_with(&node.name), "{shown}");
    };
    let (e1, e2) = (format!("e1,RUNNING,{}", node.name), format!("e2,STOPPED,{}", node.name));
    bed.made("e1", 2);
    bed.made("e2", 2);
    bed.run(&["init", "busybox", "e4", "--target", &node.name, "-c", "cluster.evacuate=stop"]);
    bed.run(&["start", "e1", "e4"]);
    bed.run(&["exec", "e1", "--", "sh", "-c", "echo held > /root/diary"]);
    let word = |command: &'static str| ["cluster", command, node.name.as_str(), "--force"];
    bed.run(&word("evacuate"));
    bed.shows(&["cluster", "list", "--format", "csv"], &["EVACUATED"]);
    elsewhere("e1", "RUNNING");
    elsewhere("e2", "STOPPED");
    assert_eq!(bed.run(&["exec", "e1", "--", "cat", "/root/diary"]).trim(), "held");
    assert_eq!(bed.run(&["config", "get", "e1", "volatile.evacuate.origin"]).trim(), node.name);
    assert_eq!(state("e4"), format!("e4,STOPPED,{}", node.name));
    bed.refused(&["init", "busybox", "e3", "--target", &node.name], &["evacuated"]);
    // What was stopped stays so when the member's host has booted.
    node.restart().unwrap();
    assert_eq!(state("e4"), format!("e4,STOPPED,{}", node.name));
    bed.run(&word("restore"));
    assert_eq!((state("e1"), state("e2")), (e1.clone(), e2.clone()));
    assert_eq!(state("e4"), format!("e4,RUNNING,{}", node.name));
    assert_eq!(bed.run(&["exec", "e1", "--", "cat", "/root/diary"]).trim(), "held");
    bed.hides(&["cluster", "list", "--format", "csv"], "EVACUATED");
    if bed.stock.client == Client::Incus {
        bed.run(&["cluster", "evacuate", &node.name, "--action", "stop", "--force"]);
        assert_eq!((state("e1"), state("e2")), (e1.replace("RUNNING", "STOPPED"), e2.clone()));
        bed.run(&word("restore"));
        assert_eq!(state("e1"), e1);
    }
    for name in ["e1", "e2", "e4"] {
        bed.gone(name);
    }
}

/// Whoever dies in the middle of an evacuation: it ends, and nothing is lost.
fn evacuate_and_die(bed: &Bed) {
    for (round, victim) in [2, 0, 1].into_iter().enumerate() {
        let (node, victim) = (&bed.bed.nodes[2], &bed.bed.nodes[victim]);
        bed.made("e1", 2);
        bed.run(&["start", "e1"]);
        bed.run(&["exec", "e1", "--", "sh", "-c", "echo held > /root/diary; sync"]);
        let api = bed.bed.nodes[2 - round % 2].api();
        let order = |action: &str| {
            let body = serde_json::json!({"action": action});
            api.call("POST", &format!("/1.0/cluster/members/{}/state", node.name), &body)
        };
        let settled = |what: &str, here: bool| {
            wait::until_true(what, Duration::from_secs(120), || {
                // Each reads from its own replica: the one that the client asks may be behind the leader.
                let seen = bed.bed.nodes.iter().map(|member| member.api().get("/1.0/instances/e1"));
                let seen: Vec<serde_json::Value> = seen.collect::<anyhow::Result<_>>()?;
                Ok(seen.iter().all(|instance| {
                    let at_home = instance["location"] == node.name.as_str();
                    let marked = !instance["config"]["volatile.evacuate.origin"].is_null();
                    instance["status"] == "Running" && at_home == here && marked != here
                }))
            })
            .unwrap();
        };
        for (action, here) in [("evacuate", false), ("restore", true)] {
            let asked = order(action).unwrap();
            assert_eq!(asked.status, 202, "{:?}", asked.json());
            std::thread::sleep(Duration::from_millis(300 * (round as u64 + 1)));
            victim.kill();
            victim.start().unwrap();
            victim.wait_ready().unwrap();
            settled(&format!("{action}, with {} killed", victim.name), here);
            // A member that has just begun again has to find its guests and the others first.
            wait::until("the diary", SOON, || {
                let path = "/1.0/instances/e1/files?path=/root/diary";
                let answer = bed.bed.leader()?.api().call("GET", path, &serde_json::Value::Null)?;
                let held = String::from_utf8_lossy(&answer.bytes);
                anyhow::ensure!(held.trim() == "held", "{held}");
                Ok(Some(()))
            })
            .unwrap();
        }
        bed.gone("e1");
    }
}

fn certificate(bed: &Bed) {
    let (certificate, key) = (bed.stock.home().join("new.crt"), bed.stock.home().join("new.key"));
    let mut made = bed.stock.beside(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=basalt",
        "-addext",
        "subjectAltName=DNS:basalt.internal",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        certificate.to_str().unwrap(),
    ]);
    assert!(made.output().unwrap().status.success(), "openssl");
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    bed.refused(&["cluster", "update-certificate", "basalt:", certificate, certificate], &["cluster_certificate_key"]);
    bed.run(&["cluster", "update-certificate", "basalt:", certificate, key]);
    // Every member shows it, a moment later; the client has pinned it.
    let pem = std::fs::read_to_string(certificate).unwrap();
    for node in &bed.bed.nodes {
        let shown = wait::until_true("the new certificate is served", SOON, || {
            let address = format!("{}:8443", node.address);
            let text = bed.stock.beside(&["openssl", "s_client", "-connect", &address]).output()?.stdout;
            Ok(String::from_utf8_lossy(&text).contains(pem.trim()))
        });
        shown.unwrap();
    }
    bed.run(&["list"]);
}

fn remove(bed: &Bed) {
    let (first, follower) = (&bed.bed.nodes[0].name, bed.bed.follower().unwrap().name.clone());
    let leaver = bed.bed.nodes.iter().rev().find(|n| n.name != follower && n.name != *first).unwrap();
    bed.run(&["cluster", "remove", &leaver.name]);
    bed.hides(&["cluster", "list"], &leaver.name);
}
