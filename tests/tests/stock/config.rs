//! Configuration and devices of instances and of the server, and profiles.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    bed.run(&[bed.create(), "busybox", "conf"]);
    rows.row("config: get, set, unset, show, edit", || keys(bed));
    rows.row("config: of the server", || server(bed));
    rows.row("config: while it runs", || live(bed));
    let extensions = bed.bed.nodes[0].api().get("/1.0").unwrap()["api_extensions"].to_string();
    if !bed.ours() && extensions.contains("container_edit_metadata") {
        rows.row("config metadata: show, edit", || metadata(bed));
    }
    rows.row("device: add, get, set, list, show, remove", || devices(bed));
    rows.row("device: override what a profile brings", || overriding(bed));
    rows.row("profile: create, show, edit, get, set, list, rename, copy, delete", || profiles(bed));
    rows.row("profile: add, assign, remove", || assign(bed));
    rows.row("profile: devices", || profile_devices(bed));
    bed.run(&["delete", "--force", "conf"]);
}

fn keys(bed: &Bed) {
    bed.run(&["config", "set", "conf", "user.colour=blue", "limits.cpu=1"]);
    if bed.ours() {
        bed.run(&["config", "set", "conf", "user.old=style", "user.in=from stdin"]);
    } else {
        bed.run(&["config", "set", "conf", "user.old", "style"]);
        bed.feed(&["config", "set", "conf", "user.in", "-"], "from stdin");
    }
    let get = |key| bed.line(&["config", "get", "conf", key]);
    assert_eq!([get("user.colour"), get("limits.cpu"), get("user.old")], ["blue", "1", "style"]);
    assert_eq!(get("user.in"), "from stdin");
    bed.run(&["config", "unset", "conf", "user.colour"]);
    assert_eq!(get("user.colour"), "");
    let shown = bed.run(&["config", "show", "conf"]);
    assert!(shown.contains("  limits.cpu: \"1\"\n") && shown.contains("profiles:\n- default\n"), "{shown}");
    bed.feed(&["config", "edit", "conf"], &shown.replace("user.old: style", "user.old: new"));
    assert_eq!(get("user.old"), "new");
    if !bed.ours() {
        let expanded = bed.run(&["config", "show", "conf", "--expanded"]);
        assert!(expanded.contains("path: /\n"), "{expanded}");
    }
    let refused = bed.refused(&["config", "set", "conf", "limits.memory=much"]);
    assert!(refused.contains("limits.memory"), "{refused}");
    let refused = bed.refused(&["config", "set", "conf", "colour=blue"]);
    assert!(refused.contains("colour"), "{refused}");
}

fn server(bed: &Bed) {
    bed.run(&["config", "set", "cluster.offline_threshold=25"]);
    assert_eq!(bed.line(&["config", "get", "cluster.offline_threshold"]), "25");
    // Every member knows, a moment later.
    for node in &bed.bed.nodes {
        let knows = || Ok(node.api().get("/1.0")?["config"]["cluster.offline_threshold"] == "25");
        wait::until_true(&format!("{} knows", node.name), SOON, knows).unwrap();
    }
    let shown = bed.run(&["config", "show"]);
    assert!(shown.contains("cluster.offline_threshold: \"25\""), "{shown}");
    bed.feed(&["config", "edit"], &shown.replace("\"25\"", "\"26\""));
    assert_eq!(bed.line(&["config", "get", "cluster.offline_threshold"]), "26");
    bed.run(&["config", "unset", "cluster.offline_threshold"]);
    assert_eq!(bed.line(&["config", "get", "cluster.offline_threshold"]), "");
    let refused = bed.refused(&["config", "set", "cluster.offline_threshold=soon"]);
    assert!(refused.contains("cluster.offline_threshold"), "{refused}");
}

/// A change of a running guest's limits reaches it.
fn live(bed: &Bed) {
    bed.run(&["config", "set", "c1", "limits.memory=100MiB"]);
    let limit = || bed.json(&["query", "/1.0/instances/c1/state"])["memory"]["total"].as_u64();
    wait::until_true("the guest is limited", SOON, || Ok(limit() == Some(100 << 20))).unwrap();
    bed.run(&["config", "unset", "c1", "limits.memory"]);
}

fn metadata(bed: &Bed) {
    let shown = bed.run(&["config", "metadata", "show", "conf"]);
    assert!(shown.contains("architecture: x86_64"), "{shown}");
    bed.feed(&["config", "metadata", "edit", "conf"], &format!("{shown}expiry_date: 4102444800\n"));
    assert!(bed.run(&["config", "metadata", "show", "conf"]).contains("4102444800"));
}

fn devices(bed: &Bed) {
    let shared = bed.home().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("file"), "of the host").unwrap();
    let source = format!("source={}", shared.display());
    bed.run(&["config", "device", "add", "conf", "data", "disk", &source, "path=/mnt", "readonly=true"]);
    bed.run(&["config", "device", "add", "conf", "eth1", "nic", "network=basaltbr0", "name=eth1"]);
    assert_eq!(bed.line(&["config", "device", "get", "conf", "data", "path"]), "/mnt");
    bed.run(&["config", "device", "set", "conf", "data", "path=/media"]);
    bed.run(&["config", "device", "set", "conf", "eth1", "mtu=1300"]);
    let list = bed.run(&["config", "device", "list", "conf"]);
    let mut names: Vec<&str> = list.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["data", "eth1"]);
    let shown = bed.run(&["config", "device", "show", "conf"]);
    assert!(shown.contains("path: /media") && shown.contains("mtu: \"1300\""), "{shown}");
    bed.run(&["config", "device", "unset", "conf", "eth1", "mtu"]);
    assert_eq!(bed.line(&["config", "device", "get", "conf", "eth1", "mtu"]), "");
    bed.run(&["start", "conf"]);
    assert_eq!(bed.run(&["exec", "conf", "--", "cat", "/media/file"]), "of the host");
    assert_eq!(bed.line(&["exec", "conf", "--", "sh", "-c", "ls /sys/class/net | grep eth"]), "eth0\neth1");
    bed.run(&["stop", "--force", "conf"]);
    bed.run(&["config", "device", "remove", "conf", "data", "eth1"]);
    assert_eq!(bed.line(&["config", "device", "list", "conf"]), "");
    let refused = bed.refused(&["config", "device", "add", "conf", "x", "disk", "path=/x"]);
    assert!(refused.contains("source"), "{refused}");
}

fn overriding(bed: &Bed) {
    bed.run(&["config", "device", "override", "conf", "eth0", "mtu=1200"]);
    let shown = bed.run(&["config", "device", "show", "conf"]);
    assert!(shown.contains("mtu: \"1200\"") && shown.contains("type: nic"), "{shown}");
    let refused = bed.refused(&["config", "device", "override", "conf", "eth0"]);
    assert!(refused.contains("already"), "{refused}");
    bed.run(&["config", "device", "remove", "conf", "eth0"]);
}

fn profiles(bed: &Bed) {
    bed.run(&["profile", "create", "web"]);
    bed.run(&["profile", "set", "web", "limits.cpu=2", "user.role=web"]);
    assert_eq!(bed.line(&["profile", "get", "web", "user.role"]), "web");
    bed.run(&["profile", "unset", "web", "limits.cpu"]);
    let shown = bed.run(&["profile", "show", "web"]);
    assert!(shown.contains("name: web") && !shown.contains("limits.cpu"), "{shown}");
    bed.feed(&["profile", "edit", "web"], "config:\n  user.role: edited\ndescription: of the web\ndevices: {}\n");
    assert_eq!(bed.line(&["profile", "get", "web", "user.role"]), "edited");
    bed.run(&["profile", "copy", "web", "web2"]);
    bed.run(&["profile", "rename", "web2", "shop"]);
    let list = bed.run(&["profile", "list", "--format", "csv"]);
    assert!(list.contains("shop,") && list.contains("of the web"), "{list}");
    let refused = bed.refused(&["profile", "delete", "default"]);
    assert!(!refused.is_empty());
    let refused = bed.refused(&["profile", "create", "web"]);
    assert!(refused.contains("already exists"), "{refused}");
    bed.run(&["profile", "delete", "shop"]);
    bed.run(&["profile", "delete", "web"]);
    let refused = bed.refused(&["profile", "show", "web"]);
    assert!(refused.contains("not found"), "{refused}");
}

fn assign(bed: &Bed) {
    for name in ["p1", "p2"] {
        bed.run(&["profile", "create", name]);
        bed.run(&["profile", "set", name, &format!("user.{name}=yes")]);
    }
    let profiles = || bed.json(&["list", "conf", "--format", "json"])[0]["profiles"].to_string();
    bed.run(&["profile", "add", "conf", "p1"]);
    assert_eq!(profiles(), r#"["default","p1"]"#);
    bed.run(&["profile", "assign", "conf", "default,p2"]);
    assert_eq!(profiles(), r#"["default","p2"]"#);
    let refused = bed.refused(&["profile", "delete", "p2"]);
    assert!(refused.contains("in use") || refused.contains("used by"), "{refused}");
    bed.run(&["profile", "remove", "conf", "p2"]);
    assert_eq!(profiles(), r#"["default"]"#);
    let refused = bed.refused(&["profile", "add", "conf", "nosuch"]);
    assert!(refused.contains("nosuch") || refused.contains("not found"), "{refused}");
    bed.run(&["profile", "delete", "p1"]);
    bed.run(&["profile", "delete", "p2"]);
}

fn profile_devices(bed: &Bed) {
    bed.run(&["profile", "create", "wide"]);
    bed.run(&["profile", "device", "add", "wide", "eth7", "nic", "network=basaltbr0", "name=eth7"]);
    bed.run(&["profile", "device", "set", "wide", "eth7", "mtu=1350"]);
    assert_eq!(bed.line(&["profile", "device", "get", "wide", "eth7", "mtu"]), "1350");
    assert_eq!(bed.line(&["profile", "device", "list", "wide"]), "eth7");
    assert!(bed.run(&["profile", "device", "show", "wide"]).contains("network: basaltbr0"));
    bed.run(&["profile", "device", "unset", "wide", "eth7", "mtu"]);
    bed.run(&["profile", "device", "remove", "wide", "eth7"]);
    assert_eq!(bed.line(&["profile", "device", "list", "wide"]), "");
    bed.run(&["profile", "delete", "wide"]);
}
