//! Interfaces of instances on a network.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    if !bed.ours() {
        rows.row("network (ovn): attach, detach", || attach(bed));
    }
    rows.row("network (ovn): a profile's interface", || profile(bed));
    rows.row("network (ovn): device add, with an address", || device(bed));
}

/// A stopped instance without a network.
fn made(bed: &Bed, name: &str) {
    let word = if bed.ours() { "create" } else { "init" };
    bed.run(&[word, "busybox", name, "--target", &bed.bed.nodes[0].name, "-d", "eth0,type=none"]);
}

/// Once it runs, it reaches `web`, which is on another node.
fn reaches(bed: &Bed, name: &str) {
    let ping = ["exec", name, "--", "ping", "-c", "1", "-W", "1", bed.web];
    let reached = wait::until_true(&format!("{name} reaches web"), SOON, || Ok(bed.raw(&ping).status.success()));
    if let Err(error) = reached {
        panic!("{error}\n{}", explained(bed, name));
    }
}

/// What both ends know of their network, and where OVN would have a packet go.
fn explained(bed: &Bed, name: &str) -> String {
    let told = |guest: &str| bed.raw(&["exec", guest, "--", "sh", "-c", "ip address; ip neighbour"]).stdout;
    let ends = [name, "web"].map(|guest| format!("{guest}:\n{}", String::from_utf8_lossy(&told(guest))));
    let trace = format!("/1.0/network-trace?instance={name}&address={}", bed.web);
    let trace = bed.bed.nodes[0].api().get(&trace).map_or_else(|e| format!("{e:#}"), |trace| trace.to_string());
    format!("{}\n{trace}", ends.join("\n"))
}

fn attach(bed: &Bed) {
    let name = &bed.own("a");
    made(bed, name);
    bed.run(&["network", "attach", "inner", name, "eth1", "eth0"]);
    bed.shows(&["network", "show", "inner"], &[&format!("/1.0/instances/{name}")]);
    bed.denied(&["network", "attach", "inner", name, "eth1"], &["eth1"]);
    bed.run(&["start", name]);
    reaches(bed, name);
    bed.shows(&["network", "list-leases", "inner"], &[name]);
    bed.run(&["stop", "--force", name]);
    bed.run(&["network", "detach", "inner", name]);
    bed.hides(&["network", "show", "inner"], &format!("/1.0/instances/{name}"));
    bed.run(&["delete", name]);
}

fn profile(bed: &Bed) {
    let (name, profile) = (&bed.own("p"), &bed.own("wired"));
    bed.run(&["profile", "create", profile]);
    // The client of LXD 5.0 asks for macvlan on whatever is no bridge when it attaches a profile.
    let attaches = !bed.ours() && !bed.lxc();
    if attaches {
        bed.run(&["network", "attach-profile", "inner", profile, "eth1", "eth0"]);
    } else {
        bed.run(&["profile", "device", "add", profile, "eth1", "nic", "network=inner", "name=eth0"]);
    }
    bed.shows(&["profile", "show", profile], &["network: inner"]);
    bed.shows(&["network", "show", "inner"], &[&format!("/1.0/profiles/{profile}")]);
    made(bed, name);
    bed.run(&["profile", "add", name, profile]);
    bed.run(&["start", name]);
    reaches(bed, name);
    bed.run(&["delete", "--force", name]);
    if attaches {
        bed.run(&["network", "detach-profile", "inner", profile]);
    } else {
        bed.run(&["profile", "device", "remove", profile, "eth1"]);
    }
    bed.hides(&["profile", "show", profile], "network: inner");
    bed.run(&["profile", "delete", profile]);
}

fn device(bed: &Bed) {
    let name = &bed.own("d");
    let address = format!("10.200.1.{}", 100 + bed.number);
    made(bed, name);
    let add = ["config", "device", "add", name, "eth1", "nic", "network=inner", "name=eth0"];
    bed.denied(&[&add[..], &["ipv4.address=10.200.2.9"]].concat(), &["ipv4.address", "10.200.2.9"]);
    bed.denied(&[&add[..], &[&format!("ipv4.address={}", bed.web)]].concat(), &["ipv4.address", "web"]);
    bed.run(&[&add[..], &[&format!("ipv4.address={address}")]].concat());
    bed.run(&["start", name]);
    reaches(bed, name);
    bed.shows(&["exec", name, "--", "ip", "-4", "addr", "show", "eth0"], &[&format!("{address}/24")]);
    let csv = bed.run(&["network", "list-leases", "inner", "--format", "csv"]);
    let fixed = csv.lines().any(|line| line.contains(&address) && line.contains("STATIC"));
    assert!(fixed, "{csv}");
    bed.run(&["delete", "--force", name]);
}
