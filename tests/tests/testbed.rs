//! The testbed itself: what it makes, what its faults do, and that nothing of it stays. No agent is needed.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::process::Command;
use std::time::Duration;

use basalt_tests::testbed::{Cut, Node, Options, Testbed};
use basalt_tests::{facility, host, image, require, wait};

/// Also where two suites share two cores.
const SOON: Duration = Duration::from_secs(60);

fn ping(from: &Node, to: &Node) -> bool {
    let mut command = from.inside("/bin/busybox".as_ref());
    command.args(["ping", "-c", "1", "-W", "1", &to.address.to_string()]);
    command.output().is_ok_and(|done| done.status.success())
}

/// Waits until it does: one packet may be late.
fn reaches(from: &Node, to: &Node) {
    wait::until_true(&format!("{} reaches {}", from.name, to.name), SOON, || Ok(ping(from, to))).unwrap();
}

fn lack() -> facility::Lack {
    facility::testbed().or_else(|| host::which("busybox").is_none().then(|| "busybox is not installed".into()))
}

#[test]
fn cuts_and_heals() {
    require!(lack());
    let bed = Testbed::unstarted(&Options::fake(3)).unwrap();
    let [a, b, c] = &bed.nodes[..] else { panic!("three nodes") };
    reaches(a, b);
    reaches(b, c);
    for how in [Cut::Both, Cut::Deaf, Cut::Mute] {
        a.cut(how).unwrap();
        assert!(!ping(a, b) && !ping(b, a), "{how:?} lets an answer through");
        // It harms no others.
        reaches(b, c);
    }
    a.heal();
    reaches(a, b);
    reaches(b, a);
}

#[test]
fn a_node_sees_its_own_links_and_the_cgroups() {
    require!(lack());
    let bed = Testbed::unstarted(&Options::fake(1)).unwrap();
    let list = |folder: &str| {
        let done = bed.nodes[0].inside("/bin/ls".as_ref()).arg(folder).output().unwrap();
        String::from_utf8_lossy(&done.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let links = list("/sys/class/net");
    assert!(links.contains(&"eth0".to_owned()) && links.len() == 2, "{links:?}");
    let own: Vec<String> =
        host::run(&["ls", "/sys/fs/cgroup"]).unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(list("/sys/fs/cgroup"), own);
}

#[test]
fn mounts_of_the_host_reach_the_nodes() {
    require!(lack());
    let bed = Testbed::unstarted(&Options::fake(1)).unwrap();
    let folder = bed.dir().join("late");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    host::run(&["mount", "-t", "tmpfs", "none", folder]).unwrap();
    let done = bed.nodes[0].inside("mountpoint".as_ref()).arg(folder).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn nothing_stays() {
    require!(lack());
    let bed = Testbed::unstarted(&Options::fake(2)).unwrap();
    let (prefix, dir, holder) = (bed.prefix().to_owned(), bed.dir().to_owned(), bed.nodes[0].holder());
    assert!(traces(&prefix) > 0 && dir.exists() && host::alive(holder));
    drop(bed);
    assert_eq!(traces(&prefix), 0);
    assert!(!dir.exists() && !host::alive(holder));
}

fn traces(prefix: &str) -> usize {
    let names = host::run(&["ip", "netns", "list"]).unwrap();
    names.lines().filter(|l| l.starts_with(&format!("{prefix}-"))).count()
}

/// Run by [`sweeps_after_a_killed_run`] as a process of its own, and killed there.
#[test]
fn victim() {
    let Some(out) = std::env::var_os("BASALT_TESTBED_VICTIM") else { return };
    let bed = Testbed::unstarted(&Options::fake(1)).unwrap();
    std::fs::write(out, bed.prefix()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn sweeps_after_a_killed_run() {
    require!(lack());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("prefix");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim"])
        .env("BASALT_TESTBED_VICTIM", &out)
        .spawn()
        .unwrap();
    let prefix =
        wait::until("the victim's testbed", SOON, || Ok(std::fs::read_to_string(&out).ok().filter(|p| !p.is_empty())))
            .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(traces(&prefix) > 0, "a killed run leaves its namespaces");
    let next = Testbed::unstarted(&Options::fake(1)).unwrap();
    assert!(prefix == next.prefix() || traces(&prefix) == 0, "the next testbed sweeps");
    drop(next);
    assert_eq!(traces(&prefix), 0);
}

#[test]
fn images_are_what_they_say() {
    if host::which("busybox").is_none() {
        facility::skip("images", "busybox is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    image::busybox_root(&root).unwrap();
    assert!(root.join("metadata.yaml").is_file());
    let done = Command::new(root.join("rootfs/bin/busybox")).arg("true").status().unwrap();
    assert!(done.success());
    for applet in ["sbin/init", "sbin/udhcpc", "bin/sh"] {
        assert!(root.join("rootfs").join(applet).exists(), "{applet} leads nowhere");
    }
    let bad = image::hostile::all(folder.path()).unwrap();
    assert_eq!(bad.len(), 12);
    for hostile in &bad {
        // A careless tar would be caught: the archives are what they claim to be.
        assert!(hostile.file.is_file() && !hostile.canary.exists(), "{}", hostile.name);
        assert!(std::fs::metadata(&hostile.file).unwrap().len() < 100 << 20, "{} is too big to ship", hostile.name);
    }
}

/// What the bench measures against: three etcds in the testbed, their client, and the loss of a leader.
#[test]
fn etcd_runs_in_the_testbed() {
    use basalt_tests::bench::etcd::{Etcd, Put, put};
    require!(lack().or_else(|| host::which("etcd").is_none().then(|| "etcd is not installed".into())));
    let bed = Testbed::unstarted(&Options::fake(3)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut etcd = Etcd::start(&bed).await.unwrap();
        let leader = etcd.leader().await.unwrap();
        let channel = etcd.members[(leader + 1) % 3].connect().await.unwrap();
        let request = || Put { key: b"k".to_vec(), value: b"v".to_vec() };
        put(&channel, request()).await.unwrap();
        etcd.members[leader].end();
        let begun = std::time::Instant::now();
        while put(&channel, request()).await.is_err() {
            assert!(begun.elapsed() < SOON, "etcd does not recover");
        }
    });
}

/// Packets cross from node to node; a switch that died and its guests' ports come back.
#[test]
fn ovn_runs_in_the_testbed() {
    require!(facility::ovn());
    let bed = Testbed::unstarted(&Options { ovn: true, ..Options::fake(2) }).unwrap();
    let central = bed.central().unwrap();
    central.nbctl(&["ls-add", "ls"]).unwrap();
    for (number, node) in (1..).zip(&bed.nodes) {
        let (mac, port) = (format!("00:00:00:00:00:0{number}"), format!("w{number}"));
        central.nbctl(&["lsp-add", "ls", &port, "--", "lsp-set-addresses", &port, &mac]).unwrap();
        node.switch().unwrap().identify().unwrap();
        wait::until_true("the integration bridge", SOON, || Ok(node.switch()?.vsctl(&["br-exists", "br-int"]).is_ok()))
            .unwrap();
        let guest = format!("{}-w{number}", bed.prefix());
        host::run(&["ip", "netns", "add", &guest]).unwrap();
        let end = ["ip", "-n", &node.netns, "link", "add", "guest", "type", "veth", "peer", "name", "eth0"];
        host::run(&[&end[..], &["address", &mac, "netns", &guest]].concat()).unwrap();
        host::run(&["ip", "-n", &node.netns, "link", "set", "guest", "up"]).unwrap();
        host::run(&["ip", "-n", &guest, "addr", "add", &format!("192.168.9.{number}/24"), "dev", "eth0"]).unwrap();
        host::run(&["ip", "-n", &guest, "link", "set", "eth0", "up"]).unwrap();
        let bind = ["add-port", "br-int", "guest", "--", "set", "interface", "guest"];
        let id = format!("external_ids:iface-id={port}");
        node.switch().unwrap().vsctl(&[&bind[..], &[id.as_str()]].concat()).unwrap();
        assert_eq!(node.switch().unwrap().bound().unwrap(), [("guest".to_owned(), port)]);
    }
    let enter = format!("--net=/run/netns/{}-w1", bed.prefix());
    let reached =
        || Ok(host::run(&["nsenter", &enter, "busybox", "ping", "-c", "1", "-W", "1", "192.168.9.2"]).is_ok());
    wait::until_true("a packet crosses", SOON, reached).unwrap();
    let switch = bed.nodes[1].switch().unwrap();
    switch.kill();
    assert!(!reached().unwrap(), "packets cross a dead switch");
    switch.up().unwrap();
    wait::until_true("a packet crosses again", SOON, reached).unwrap();
}
