//! Real agents with the fake driver: joining, writing through any member, and every way to lose one.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use basalt_tests::api::{Api, has_role};
use basalt_tests::load::Load;
use basalt_tests::testbed::{Cut, Node, Options, Testbed};
use basalt_tests::{facility, host, require, wait};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn cluster(nodes: usize) -> Testbed {
    Testbed::cluster(&Options::fake(nodes)).unwrap()
}

/// One write that the cluster must take.
fn write(api: &Api, key: &str, value: &str) -> anyhow::Result<Value> {
    api.run("PATCH", "/1.0", &json!({"config": {format!("user.{key}"): value}}))
}

fn read(api: &Api, key: &str) -> Option<String> {
    api.get("/1.0").ok()?["config"][format!("user.{key}")].as_str().map(str::to_owned)
}

/// Waits until `api` shows the value; a follower may lag, it may not stay behind.
fn shows(api: &Api, key: &str, value: &str) {
    wait::until_true(&format!("user.{key} is {value}"), 20 * SECOND, || Ok(read(api, key).as_deref() == Some(value)))
        .unwrap();
}

/// Waits until a write is taken by that node.
fn writes_on(node: &Node, key: &str) -> Duration {
    let begun = Instant::now();
    let api = node.api().timeout(3 * SECOND);
    wait::until_true(&format!("{} takes writes", node.name), 30 * SECOND, || write(&api, key, "yes").map(|_| true))
        .unwrap();
    begun.elapsed()
}

fn refuses(result: anyhow::Result<()>, what: &str) -> String {
    format!("{:#}", result.expect_err(what))
}

#[test]
fn any_member_takes_writes() {
    require!(facility::testbed());
    let bed = cluster(3);
    let members = bed.nodes[2].api().members().unwrap();
    assert_eq!(members.iter().filter(|m| has_role(m, "database-leader")).count(), 1, "{members:?}");
    for node in &bed.nodes {
        write(&node.api(), &node.name, "here").unwrap();
        for other in &bed.nodes {
            shows(&other.api(), &node.name, "here");
        }
    }
    // An instance made on one member through another, and asked for on the third.
    bed.nodes[0].api().create("c1", "", Some(&bed.nodes[1].name), &Value::Null).unwrap();
    bed.nodes[2].api().act("c1", "start", false).unwrap();
    // What is read comes from the member's own replica, the leader's too: it may be a moment behind.
    let shown = |what: &str, holds: &dyn Fn(&[Value]) -> bool| {
        wait::until_true(what, 20 * SECOND, || Ok(holds(&bed.nodes[0].api().instances()?))).unwrap();
    };
    let home = bed.nodes[1].name.as_str();
    shown(
        "c1 runs where it was put",
        &|all| matches!(all, [one] if one["name"] == "c1" && one["status"] == "Running" && one["location"] == home),
    );
    bed.nodes[2].api().act("c1", "stop", true).unwrap();
    bed.nodes[2].api().delete("c1").unwrap();
    shown("c1 is gone", &|all| all.is_empty());
}

#[test]
fn a_node_alone_is_a_cluster_of_one_and_grows() {
    require!(facility::testbed());
    let bed = Testbed::start(&Options::fake(2)).unwrap();
    let [first, second] = &bed.nodes[..] else { panic!("two nodes") };
    let refused = first.api().call("GET", "/1.0/instances", &Value::Null).unwrap();
    assert_eq!(refused.status, 503, "a node that is not initialised has no instances: {:?}", refused.json());
    first.init().unwrap();
    first.api().create("c1", "", None, &Value::Null).unwrap();
    first.api().act("c1", "start", false).unwrap();
    first.restart().unwrap();
    wait::until_true("what ran runs", 20 * SECOND, || Ok(first.api().status("c1")? == "Running")).unwrap();
    first.admit(second).unwrap();
    bed.wait_online(2).unwrap();
    wait::until_true("the second has what the first had", 20 * SECOND, || Ok(second.api().instances()?.len() == 1))
        .unwrap();
}

#[test]
fn the_leader_is_killed() {
    require!(facility::testbed());
    let bed = cluster(3);
    let leader = bed.leader().unwrap();
    write(&leader.api(), "before", "1").unwrap();
    leader.kill();
    let survivor = bed.nodes.iter().find(|n| n.name != leader.name).unwrap();
    let took = writes_on(survivor, "after");
    println!("killed leader to next write: {took:?}");
    shows(&survivor.api(), "before", "1");
    leader.start().unwrap();
    leader.wait_ready().unwrap();
    shows(&leader.api(), "after", "yes");
    bed.wait_online(3).unwrap();
}

#[test]
fn the_leader_is_frozen() {
    require!(facility::testbed());
    let bed = cluster(3);
    let leader = bed.leader().unwrap();
    leader.freeze().unwrap();
    let survivor = bed.nodes.iter().find(|n| n.name != leader.name).unwrap();
    let took = writes_on(survivor, "after");
    println!("frozen leader to next write: {took:?}");
    leader.thaw().unwrap();
    shows(&leader.api(), "after", "yes");
    bed.wait_online(3).unwrap();
}

#[test]
fn a_minority_refuses_writes_and_serves_stale_lists() {
    require!(facility::testbed());
    let bed = cluster(3);
    write(&bed.nodes[0].api(), "before", "1").unwrap();
    for node in &bed.nodes {
        shows(&node.api(), "before", "1");
    }
    for how in [Cut::Both, Cut::Deaf, Cut::Mute] {
        let lonely = bed.leader().unwrap();
        lonely.cut(how).unwrap();
        let others: Vec<&Node> = bed.nodes.iter().filter(|n| n.name != lonely.name).collect();
        let key = format!("during-{how:?}").to_lowercase();
        writes_on(others[0], &key);
        // A leader that still has its lease may say that it does not know for a moment; then it must say 503.
        let body = json!({"config": {"user.lonely": format!("{how:?}")}});
        wait::until_true(&format!("503 on the minority side ({how:?})"), 30 * SECOND, || {
            let answer = lonely.api().timeout(20 * SECOND).call("PATCH", "/1.0", &body)?;
            anyhow::ensure!(answer.status != 200, "a minority took a write");
            Ok(answer.status == 503)
        })
        .unwrap();
        let list = lonely.api().call("GET", "/1.0/instances", &Value::Null).unwrap();
        assert_eq!(list.status, 200, "a minority serves lists");
        assert!(list.header("x-basalt-stale").is_some(), "a minority marks its lists: {:?}", list.headers);
        assert_eq!(read(&lonely.api(), "before").as_deref(), Some("1"));
        lonely.heal();
        shows(&lonely.api(), &key, "yes");
        bed.wait_online(3).unwrap();
        wait::until_true("the healed member's lists are not stale", 20 * SECOND, || {
            Ok(lonely.api().call("GET", "/1.0/instances", &Value::Null)?.header("x-basalt-stale").is_none())
        })
        .unwrap();
    }
}

#[test]
fn bad_tokens_are_refused_and_a_failed_join_can_be_repeated() {
    require!(facility::testbed());
    let bed = Testbed::start(&Options::fake(4)).unwrap();
    let [a, b, c, foreign] = &bed.nodes[..] else { panic!("four nodes") };
    a.init().unwrap();
    foreign.init().unwrap();
    let members = || a.api().members().unwrap().len();
    let unjoined = |node: &Node| {
        let answer = node.api().call("GET", "/1.0/instances", &Value::Null).unwrap();
        assert_eq!(answer.status, 503, "{} is as it was before", node.name);
    };

    refuses(b.join("not a token"), "no token at all");
    // A token of another cluster, with the address of this one.
    let swapped = with_addresses(&foreign.join_token(&b.name).unwrap(), &a.api_address());
    refuses(b.join(&swapped), "a foreign token");
    unjoined(b);
    assert_eq!(members(), 1, "failed joins leave no members");

    // Expired.
    write_config(a, "cluster.join_token_expiry", "1S");
    let token = a.join_token(&b.name).unwrap();
    let begun = Instant::now();
    wait::until_true("the token expires", 10 * SECOND, || Ok(begun.elapsed() > 2 * SECOND)).unwrap();
    refuses(b.join(&token), "an expired token");
    write_config(a, "cluster.join_token_expiry", "3H");
    unjoined(b);

    let token = a.join_token(&b.name).unwrap();
    b.join(&token).unwrap();
    bed.wait_online(2).unwrap();
    // Reused, by another node.
    refuses(c.join(&token), "a token is redeemed once");
    unjoined(c);
    // And after all that, a good one.
    b.admit(c).unwrap();
    bed.wait_online(3).unwrap();
    assert_eq!(members(), 3);
}

/// The same token with other addresses in it.
fn with_addresses(token: &str, address: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut text: Value = serde_json::from_slice(&STANDARD.decode(token).unwrap()).unwrap();
    text["addresses"] = json!([address]);
    STANDARD.encode(text.to_string())
}

fn write_config(node: &Node, key: &str, value: &str) {
    node.api().run("PATCH", "/1.0", &json!({"config": {key: value}})).unwrap();
}

#[test]
fn a_join_is_killed_at_any_moment_and_repeated() {
    require!(facility::testbed());
    let bed = Testbed::start(&Options::fake(3)).unwrap();
    let [a, b, c] = &bed.nodes[..] else { panic!("three nodes") };
    a.init().unwrap();
    for (joiner, moments) in [(b, [0, 15, 40]), (c, [5, 80, 160])] {
        let mut joined = false;
        for moment in moments {
            let token = a.join_token(&joiner.name).unwrap();
            std::thread::scope(|scope| {
                let attempt = scope.spawn(|| joiner.join(&token));
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(moment) && !attempt.is_finished() {
                    std::thread::yield_now();
                }
                joiner.kill();
                joined = attempt.join().unwrap().is_ok();
            });
            joiner.start().unwrap();
            joiner.wait_ready().unwrap();
            joined |= initialised(joiner);
            if joined {
                break;
            }
        }
        if !joined {
            let token = a.join_token(&joiner.name).unwrap();
            joiner.join(&token).unwrap();
        }
    }
    bed.wait_online(3).unwrap();
    let names: Vec<Value> = a.api().members().unwrap().iter().map(|m| m["server_name"].clone()).collect();
    assert_eq!(names.len(), 3, "no ghosts: {names:?}");
    write(&c.api(), "through-the-last", "1").unwrap();
}

fn initialised(node: &Node) -> bool {
    node.api().call("GET", "/1.0/instances", &Value::Null).is_ok_and(|a| a.status == 200)
}

#[test]
fn a_dead_member_is_removed_and_its_name_comes_back() {
    require!(facility::testbed());
    let bed = cluster(4);
    let dead = &bed.nodes[3];
    bed.nodes[0].api().create("lost", "", Some(&dead.name), &Value::Null).unwrap();
    dead.kill();
    let path = format!("/1.0/cluster/members/{}", dead.name);
    let answer = bed.nodes[0].api().call("DELETE", &path, &Value::Null).unwrap();
    assert!(answer.status >= 400, "a member with instances is not removed without force: {:?}", answer.json());
    bed.nodes[1].api().run("DELETE", &format!("{path}?force=1"), &Value::Null).unwrap();
    // A third member lists what its own replica knows, which may be a moment behind.
    wait::until_true("a third member has heard of it", 20 * SECOND, || Ok(bed.nodes[2].api().members()?.len() == 3))
        .unwrap();
    bed.wait_online(3).unwrap();
    // Nobody listens to what it was.
    dead.start().unwrap();
    wait::until_true("the removed member stays out", 20 * SECOND, || {
        Ok(!dead.running()
            || !dead
                .api()
                .timeout(3 * SECOND)
                .call("PATCH", "/1.0", &json!({"config": {"user.ghost": "1"}}))
                .is_ok_and(|a| a.status == 200))
    })
    .unwrap();
    dead.kill();
    empty(&dead.dir);
    dead.start().unwrap();
    dead.wait_ready().unwrap();
    bed.nodes[0].admit(dead).unwrap();
    bed.wait_online(4).unwrap();
    assert_eq!(read(&dead.api(), "ghost"), None);
}

fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        gone.unwrap();
    }
}

#[test]
fn three_vote_and_a_lost_voter_is_replaced() {
    require!(facility::testbed());
    let bed = cluster(6);
    let voters = |api: &Api| -> Vec<String> {
        let members = api.members().unwrap_or_default();
        let votes = members.iter().filter(|m| has_role(m, "database") || has_role(m, "database-leader"));
        votes.filter_map(|m| m["server_name"].as_str().map(str::to_owned)).collect()
    };
    let before = voters(&bed.nodes[0].api());
    assert_eq!(before.len(), 3, "{before:?}");
    let victim = bed.nodes.iter().find(|n| before.contains(&n.name) && n.name != bed.leader().unwrap().name).unwrap();
    victim.kill();
    let observer = bed.nodes.iter().find(|n| n.name != victim.name).unwrap();
    wait::until_true("another member votes in its place", 90 * SECOND, || {
        let now = voters(&observer.api());
        Ok(now.len() == 3 && !now.contains(&victim.name))
    })
    .unwrap();
    write(&observer.api(), "after", "1").unwrap();
}

#[test]
fn a_damaged_log_is_never_served() {
    require!(facility::testbed());
    let bed = cluster(3);
    for n in 0..20 {
        write(&bed.nodes[0].api(), "n", &n.to_string()).unwrap();
    }
    let victim = bed.follower().unwrap();
    victim.stop().unwrap();
    let damaged = damage(&victim.dir.join("raft"));
    assert!(damaged > 0, "there are files to damage");
    victim.start().unwrap();
    wait::until_true("the agent refuses to start", 30 * SECOND, || Ok(!victim.running())).unwrap();
    let said = victim.log_tail(20).to_lowercase();
    assert!(said.contains("join"), "it says how to rejoin: {said}");
    assert!(said.contains("damaged") || said.contains("corrupt"), "it says what is wrong: {said}");
    writes_on(bed.nodes.iter().find(|n| n.name != victim.name).unwrap(), "after");
}

/// Flips a bit in every page of the first megabyte of each file.
fn damage(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += damage(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len().min(1 << 20);
        for at in (64..end).step_by(512) {
            bytes[at] ^= 0x10;
        }
        std::fs::write(&path, bytes).unwrap();
        count += 1;
    }
    count
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    require!(facility::testbed());
    let bed = Testbed::unstarted(&Options::fake(1)).unwrap();
    let node = &bed.nodes[0];
    host::run(&["mount", "-t", "tmpfs", "-o", "size=64m", "none", node.dir.to_str().unwrap()]).unwrap();
    node.start().unwrap();
    node.wait_ready().unwrap();
    node.init().unwrap();
    let filler = node.dir.join("filler");
    fill(&filler);
    let refused = wait::until("a write is refused", 30 * SECOND, || {
        let blob = "x".repeat(60_000);
        Ok(write(&node.api().timeout(10 * SECOND), "blob", &blob).err().map(|e| format!("{e:#}")))
    })
    .unwrap();
    assert!(refused.to_lowercase().contains("space"), "it says why: {refused}");
    std::fs::remove_file(&filler).unwrap();
    if !node.running() {
        node.start().unwrap();
        node.wait_ready().unwrap();
    }
    writes_on(node, "after");
    drop(bed);
}

fn fill(file: &Path) {
    let mut out = std::fs::File::create(file).unwrap();
    let block = vec![0xaa_u8; 64 << 10];
    while out.write_all(&block).is_ok() {}
    while out.write_all(&[0xaa]).is_ok() {}
}

#[test]
fn old_tls_and_strangers_are_refused() {
    require!(
        facility::testbed().or_else(|| host::which("openssl").is_none().then(|| "openssl is not installed".into()))
    );
    let bed = cluster(1);
    let node = &bed.nodes[0];
    let connect = |port: u16, version: &str| {
        let mut command = node.inside("openssl".as_ref());
        command.args(["s_client", "-brief", "-connect", &format!("{}:{port}", node.address), version]);
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]);
        let done = command.stdin(std::process::Stdio::null()).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert!(connect(8443, "-tls1_3").0, "the API speaks TLS 1.3");
    assert!(!connect(8443, "-tls1_1").0, "the API refuses TLS 1.1");
    assert!(!connect(8444, "-tls1_2").0, "the cluster port refuses TLS 1.2");
    // In TLS 1.3 a client learns after its handshake that its certificate was missing: ask for something.
    let mut curl = node.inside("curl".as_ref());
    let url = format!("https://{}:8444/1.0", node.address);
    let done = curl.args(["-sk", "--max-time", "5", &url]).output().unwrap();
    assert!(!done.status.success(), "a stranger is served on the cluster port: {done:?}");
}

#[test]
fn writes_go_on_through_kills_of_all_in_turn() {
    require!(facility::testbed());
    let bed = cluster(3);
    bed.nodes[0].api().create("log", "", None, &Value::Null).unwrap();
    let apis: Vec<Api> = bed.nodes.iter().map(Node::api).collect();
    let load = Load::start(&apis, "log", 4);
    for node in &bed.nodes {
        load.progress(20, 30 * SECOND).unwrap();
        node.kill();
        load.progress(20, 30 * SECOND).unwrap();
        node.start().unwrap();
        node.wait_ready().unwrap();
        load.check(&node.api(), 30 * SECOND).unwrap();
    }
    bed.wait_online(3).unwrap();
    let (good, bad) = load.finish(&bed.nodes[1].api()).unwrap();
    println!("{good} writes acknowledged, {bad} refused or unknown");
}
