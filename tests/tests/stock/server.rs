//! What is asked of the server: info, operations, events, queries, figures.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use basalt_tests::compat::{Client, Rows, Terminal};
use basalt_tests::wait;
use serde_json::Value;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("info: server, resources", || info(bed));
    rows.row("info: instance, with its log", || instance(bed));
    rows.row("cluster: list, show, info", || cluster(bed));
    rows.row("cluster: roles", || roles(bed));
    if bed.ours() {
        rows.row("cluster: evacuate, restore", || evacuate(bed));
    }
    rows.row("query, version", || query(bed));
    rows.row("operation: list, show, delete", || operations(bed));
    rows.row("monitor: another member's work", || monitor(bed));
    rows.row("warning: list, show, acknowledge, delete", || warnings(bed));
    if !bed.lxc() {
        rows.row("top", || top(bed));
    }
}

fn info(bed: &Bed) {
    let info = bed.run(&["info"]);
    assert!(info.contains("server_clustered: true") && info.contains("auth: trusted"), "{info}");
    let resources = bed.run(&["info", "--resources"]).to_lowercase();
    assert!(resources.contains("cpu") && resources.contains("memory:"), "{resources}");
    let other = bed.run(&["info", "--target", &bed.bed.nodes[2].name]);
    assert!(other.contains(&format!("server_name: {}", bed.bed.nodes[2].name)), "{other}");
}

fn instance(bed: &Bed) {
    let info = bed.run(&["info", "c1"]);
    for part in ["Name: c1", "Status: RUNNING", &format!("Location: {}", bed.home), "PID: ", "eth0:", "inet"] {
        assert!(info.contains(part), "{part}: {info}");
    }
    let info = bed.run(&["info", "c1", "--show-log"]);
    assert!(info.contains("Log:"), "{info}");
    let refused = bed.refused(&["info", "nobody"]);
    assert!(refused.contains("not found"), "{refused}");
}

fn cluster(bed: &Bed) {
    let csv = bed.run(&["cluster", "list", "--format", "csv"]);
    for node in &bed.bed.nodes {
        assert!(csv.contains(&format!("{},{},", node.name, node.url())), "{csv}");
    }
    assert_eq!(csv.to_uppercase().matches(",ONLINE,").count(), 3, "{csv}");
    let name = &bed.bed.nodes[1].name;
    assert!(bed.run(&["cluster", "show", name]).contains(&format!("server_name: {name}")));
    if !bed.lxc() {
        assert!(bed.run(&["cluster", "info", name]).to_lowercase().contains("ram"));
    }
}

fn roles(bed: &Bed) {
    let name = &bed.bed.nodes[2].name;
    let shown = || bed.run(&["cluster", "show", name]);
    let before = shown();
    bed.run(&["cluster", "role", "add", name, "ovn-chassis"]);
    assert!(shown().contains("- ovn-chassis"), "{}", shown());
    assert!(bed.run(&["cluster", "list"]).contains("ovn-chassis"));
    let said = bed.refused(&["cluster", "role", "add", name, "charmer"]);
    assert!(said.contains("charmer"), "{said}");
    bed.run(&["cluster", "role", "remove", name, "ovn-chassis"]);
    assert_eq!(shown(), before);
    let said = bed.refused(&["cluster", "role", "remove", name, "database"]);
    assert!(said.contains("database"), "{said}");
}

fn evacuate(bed: &Bed) {
    let location = || {
        let list = bed.json(&["list", "c1", "--format", "json"]);
        (list[0]["status"].as_str().unwrap().to_owned(), list[0]["location"] == bed.home.as_str())
    };
    bed.run(&["cluster", "evacuate", &bed.home]);
    assert_eq!(location(), ("Running".to_owned(), false));
    bed.run(&["cluster", "restore", &bed.home]);
    assert_eq!(location(), ("Running".to_owned(), true));
    bed.run(&["cluster", "evacuate", &bed.home, "--action", "force-stop"]);
    assert_eq!(location(), ("Stopped".to_owned(), true));
    bed.run(&["cluster", "restore", &bed.home]);
    assert_eq!(location(), ("Running".to_owned(), true));
}

fn query(bed: &Bed) {
    assert_eq!(bed.json(&["query", "/1.0/instances/c1"])["name"], "c1");
    let raw = bed.json(&["query", "--raw", "/1.0/instances/c1"]);
    assert_eq!((raw["type"].as_str(), raw["status_code"].as_u64()), (Some("sync"), Some(200)));
    bed.run(&["query", "-X", "PATCH", "-d", r#"{"config": {"user.q": "1"}}"#, "/1.0/instances/c1"]);
    assert_eq!(bed.line(&["config", "get", "c1", "user.q"]), "1");
    bed.run(&[
        "query",
        "--wait",
        "-X",
        "PUT",
        "-d",
        r#"{"action": "restart", "force": true}"#,
        "/1.0/instances/c1/state",
    ]);
    let refused = bed.refused(&["query", "/1.0/instances/nobody"]);
    assert!(refused.contains("not found"), "{refused}");
    let version = bed.run(&["version"]);
    let ours = match bed.client.client {
        Client::Lxc => "Server version: 5.0.2",
        Client::Incus => "Server version: 6.0.4",
        _ => env!("CARGO_PKG_VERSION"),
    };
    assert!(version.contains(ours), "{version}");
}

/// An instance that cannot start is worth one, until it is gone.
fn warnings(bed: &Bed) {
    bed.run(&[bed.create(), "busybox", "w1", "--target", &bed.home]);
    bed.run(&["config", "device", "add", "w1", "eth9", "nic", "nictype=bridged", "parent=nosuchbridge"]);
    bed.refused(&["start", "w1"]);
    let about = |list: &[&str]| {
        let list = bed.json(&[&["warning", "list", "--format", "json"], list].concat());
        let all = list.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|w| w["entity_url"].as_str().is_some_and(|url| url.starts_with("/1.0/instances/w1")))
    };
    let found = wait::until("a warning", SOON, || Ok(about(&[]))).unwrap();
    assert_eq!((&found["location"], &found["status"]), (&Value::from(bed.home.as_str()), &Value::from("new")));
    let uuid = found["uuid"].as_str().unwrap();
    let shown = bed.run(&["warning", "show", uuid]);
    assert!(shown.contains("nosuchbridge") && shown.contains("Instance failure"), "{shown}");
    bed.run(&["warning", "acknowledge", uuid]);
    assert_eq!(about(&[]), None, "only what is new is listed");
    assert_eq!(about(&["--all"]).unwrap()["status"], "acknowledged");
    bed.run(&["delete", "w1"]);
    wait::until_true("it is over", SOON, || Ok(about(&["--all"]).is_some_and(|w| w["status"] == "resolved"))).unwrap();
    bed.run(&["warning", "delete", uuid]);
    assert_eq!(about(&["--all"]), None);
    let refused = bed.refused(&["warning", "show", uuid]);
    assert!(refused.to_lowercase().contains("not found"), "{refused}");
}

/// A program that goes on is an operation of the member where it runs, and every member shows it.
fn operations(bed: &Bed) {
    let mut child = bed.command(&["exec", "c1", "--", "sleep", "600"]).stdin(Stdio::piped()).spawn().unwrap();
    let listed = wait::until("the operation is listed", SOON, || {
        let list = bed.json(&["operation", "list", "--format", "json"]);
        let found = |o: &&Value| o["class"] == "websocket" && o["status"] == "Running";
        Ok(list.as_array().and_then(|all| all.iter().find(found)).cloned())
    });
    let id = listed.unwrap()["id"].as_str().unwrap().to_owned();
    let shown = bed.run(&["operation", "show", &id]);
    assert!(shown.contains(&format!("location: {}", bed.home)), "{shown}");
    let csv = bed.run(&["operation", "list", "--format", "csv"]);
    assert!(csv.contains(&id), "{csv}");
    let _ = child.kill();
    let _ = child.wait();
    super::trust::add(bed, "op", &[]);
    let list = bed.json(&["operation", "list", "--format", "json"]);
    // Secrets of images are tokens as well, and listed for a moment after they were used.
    let waits = |o: &&Value| o["class"] == "token" && o["status"] == "Running";
    let token = list.as_array().unwrap().iter().find(waits).unwrap_or_else(|| panic!("{list}"));
    bed.run(&["operation", "delete", token["id"].as_str().unwrap()]);
    bed.refused(&["operation", "show", "00000000-0000-0000-0000-000000000000"]);
}

fn monitor(bed: &Bed) {
    let arguments = ["monitor", "--type=lifecycle", "--format=json"];
    let mut child = bed.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    // It is attached some time after its start: what happens is made to happen until it is told.
    let seen = wait::until("the event arrives", SOON, || {
        bed.bed.node(&bed.home)?.api().act("c1", "restart", true)?;
        Ok(lines.try_iter().find(|line| line.contains("instance-restarted")))
    });
    let _ = child.kill();
    let _ = child.wait();
    let event: Value = serde_json::from_str(&seen.unwrap()).unwrap();
    assert_eq!(event["location"], bed.home.as_str());
    assert_eq!(event["metadata"]["source"], "/1.0/instances/c1");
}

fn top(bed: &Bed) {
    let arguments: &[&str] = if bed.ours() { &["top"] } else { &["top", "--refresh", "10"] };
    let mut terminal = Terminal::start(&bed.command(arguments), 100, 30).unwrap();
    terminal.expect("INSTANCE").unwrap();
    terminal.expect("c1").unwrap();
}
