//! Instances come, run, stop and go.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("launch: image, by name and without one", || launch(bed));
    rows.row("launch: config, device, profile, target", || launch_with(bed));
    rows.row("init: from an image, empty, from YAML", || init(bed));
    rows.row("start, stop, restart", || turns(bed));
    rows.row("stop: force, timeout", || hard(bed));
    rows.row("start, stop: all", || all(bed));
    rows.row("pause, resume", || pause(bed));
    rows.row("delete: stopped, running by force, ephemeral", || delete(bed));
}

fn status(bed: &Bed, name: &str) -> String {
    one(bed, name, "s")
}

/// A column of an instance.
fn one(bed: &Bed, name: &str, column: &str) -> String {
    let csv = bed.run(&["list", "--format", "csv", "-c", &format!("n{column}")]);
    let line = csv.lines().find_map(|line| line.strip_prefix(&format!("{name},")));
    line.unwrap_or_else(|| panic!("{name}: {csv}")).to_owned()
}

fn launch(bed: &Bed) {
    bed.run(&["launch", "busybox", "l1"]);
    assert_eq!(status(bed, "l1"), "RUNNING");
    let said = bed.run(&["launch", "busybox"]);
    // The server's own choice of a name is told to the user.
    let mark = if bed.ours() { "Launched " } else { "name is: " };
    let name = said.lines().find_map(|l| l.split_once(mark)).unwrap_or_else(|| panic!("{said}")).1.trim();
    assert_eq!(status(bed, name), "RUNNING");
    let refused = bed.refused(&["launch", "nosuchimage", "l2"]);
    assert!(refused.to_lowercase().contains("not found") || refused.contains("no image"), "{refused}");
    let refused = bed.refused(&["launch", "busybox", "l1"]);
    assert!(refused.to_lowercase().contains("already exists"), "{refused}");
    bed.run(&["delete", "--force", "l1", name]);
}

fn launch_with(bed: &Bed) {
    bed.run(&["profile", "create", "tiny"]);
    bed.run(&["profile", "set", "tiny", "limits.processes=200"]);
    let target = &bed.bed.nodes[1].name;
    let line = ["launch", "busybox", "l3", "-c", "user.a=b", "-c", "limits.memory=64MiB", "-d", "eth0,mtu=1400"];
    bed.run(&[&line[..], &["-p", "default", "-p", "tiny", "--target", target]].concat());
    let made = &bed.json(&["list", "l3", "--format", "json"])[0];
    assert_eq!(made["location"], target.as_str());
    assert_eq!(made["config"]["user.a"], "b");
    assert_eq!(made["expanded_config"]["limits.processes"], "200");
    assert_eq!(made["profiles"], serde_json::json!(["default", "tiny"]));
    assert_eq!(made["devices"]["eth0"]["mtu"], "1400");
    assert_eq!(bed.line(&["exec", "l3", "--", "cat", "/sys/class/net/eth0/mtu"]), "1400");
    bed.run(&["delete", "--force", "l3"]);
    bed.run(&["profile", "delete", "tiny"]);
    let refused = bed.refused(&["launch", "busybox", "l4", "-c", "limits.memory=lots"]);
    assert!(refused.contains("limits.memory"), "{refused}");
    let refused = bed.refused(&["launch", "busybox", "l4", "--target", "nowhere"]);
    assert!(refused.contains("nowhere"), "{refused}");
}

fn init(bed: &Bed) {
    let verb = bed.create();
    bed.run(&[verb, "busybox", "i1"]);
    bed.run(&[verb, "i2", "--empty"]);
    if bed.ours() {
        bed.run(&[verb, "busybox", "i3", "-c", "user.x=from yaml"]);
    } else {
        bed.feed(&[verb, "busybox", "i3"], "config:\n  user.x: from yaml\n");
    }
    assert_eq!((status(bed, "i1").as_str(), status(bed, "i2").as_str()), ("STOPPED", "STOPPED"));
    assert_eq!(bed.line(&["config", "get", "i3", "user.x"]), "from yaml");
    let refused = bed.refused(&["start", "i2"]);
    assert!(!refused.is_empty());
    bed.run(&["delete", "i1", "i2", "i3"]);
}

fn turns(bed: &Bed) {
    bed.run(&[bed.create(), "busybox", "t1"]);
    bed.run(&["start", "t1"]);
    // What a guest's home tells of it, other members show for some seconds, and may not have at first.
    let pid = || one(bed, "t1", "p").parse::<u32>().ok().filter(|pid| *pid > 0);
    let first = wait::until("an init", SOON, || Ok(pid())).unwrap();
    bed.run(&["restart", "t1"]);
    wait::until("another init", SOON, || Ok(pid().filter(|pid| *pid != first))).unwrap();
    bed.run(&["stop", "t1"]);
    assert_eq!(status(bed, "t1"), "STOPPED");
    let refused = bed.refused(&["stop", "t1"]);
    assert!(refused.to_lowercase().contains("already stopped"), "{refused}");
    bed.run(&["start", "t1"]);
    let refused = bed.refused(&["start", "t1"]);
    assert!(refused.to_lowercase().contains("already running"), "{refused}");
    bed.run(&["restart", "t1", "--force"]);
    bed.run(&["delete", "--force", "t1"]);
    let refused = bed.refused(&["start", "t1"]);
    assert!(refused.to_lowercase().contains("not found"), "{refused}");
}

fn hard(bed: &Bed) {
    bed.run(&["launch", "busybox", "h1"]);
    // An init that takes no notice of being asked.
    bed.run(&[
        "exec",
        "h1",
        "--",
        "sh",
        "-c",
        "sed -i '/ctrlaltdel/d' /etc/inittab; kill -HUP 1; mv /bin/poweroff /bin/off",
    ]);
    bed.run(&["stop", "h1", "--force"]);
    assert_eq!(status(bed, "h1"), "STOPPED");
    bed.run(&["start", "h1"]);
    bed.run(&["stop", "h1", "--timeout", "20"]);
    assert_eq!(status(bed, "h1"), "STOPPED");
    bed.run(&["delete", "h1"]);
}

fn all(bed: &Bed) {
    bed.run(&["project", "create", "bulk", "-c", "features.images=false"]);
    for name in ["a1", "a2"] {
        bed.run(&[bed.create(), "busybox", name, "-s", "default", "--project", "bulk"]);
    }
    let running = || {
        let csv = bed.run(&["list", "--project", "bulk", "--format", "csv", "-c", "s"]);
        csv.lines().filter(|s| *s == "RUNNING").count()
    };
    bed.run(&["start", "--all", "--project", "bulk"]);
    assert_eq!(running(), 2);
    bed.run(&["restart", "--all", "--force", "--project", "bulk"]);
    assert_eq!(running(), 2);
    bed.run(&["stop", "--all", "--force", "--project", "bulk"]);
    assert_eq!(running(), 0);
    assert_eq!(status(bed, "c1"), "RUNNING", "another project's");
    bed.run(&["delete", "a1", "a2", "--project", "bulk"]);
    bed.run(&["project", "delete", "bulk"]);
}

fn pause(bed: &Bed) {
    bed.run(&["launch", "busybox", "p1"]);
    bed.run(&["pause", "p1"]);
    assert_eq!(status(bed, "p1"), "FROZEN");
    let refused = bed.refused(&["exec", "p1", "--", "true"]);
    assert!(refused.contains("Instance is frozen"), "{refused}");
    // LXD's client has one word for both.
    bed.run(&[if bed.lxc() { "start" } else { "resume" }, "p1"]);
    assert_eq!(status(bed, "p1"), "RUNNING");
    bed.run(&["exec", "p1", "--", "true"]);
    bed.run(&["pause", "p1"]);
    bed.run(&["delete", "--force", "p1"]);
}

fn delete(bed: &Bed) {
    bed.run(&[bed.create(), "busybox", "d1"]);
    bed.run(&["launch", "busybox", "d2"]);
    bed.run(&["launch", "busybox", "d3", "--ephemeral"]);
    bed.run(&["delete", "d1"]);
    let refused = bed.refused(&["delete", "d2"]);
    assert!(refused.to_lowercase().contains("running"), "{refused}");
    bed.run(&["delete", "-f", "d2"]);
    bed.run(&["stop", "-f", "d3"]);
    wait::until_true("an ephemeral instance goes when it stops", SOON, || {
        Ok(bed.tried(&["list", "d", "--format", "csv", "-c", "n"])?.trim().is_empty())
    })
    .unwrap();
    let refused = bed.refused(&["delete", "d1"]);
    assert!(refused.to_lowercase().contains("not found"), "{refused}");
}
