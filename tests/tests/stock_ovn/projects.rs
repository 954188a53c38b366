//! Projects that have networks of their own.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("project: networks of its own", || networks(bed));
    rows.row("project: network ACLs of its own", || lists(bed));
    rows.row("network peer: to another project", || peers(bed));
}

/// The arguments, in a project.
fn within<'a>(project: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--project", project], arguments].concat()
}

fn made(bed: &Bed, project: &str) {
    bed.run(&["project", "create", project, "-c", "features.networks=true", "-c", "features.images=false"]);
}

/// A network that is called as the one of the default project that has `web` on it.
fn networks(bed: &Bed) {
    let (project, instance) = (&bed.own("lab"), &bed.own("o"));
    let (subnet, router) = (format!("10.204.{}.1/24", bed.number), format!("10.204.{}.1", bed.number));
    made(bed, project);
    let address = format!("ipv4.address={subnet}");
    let create = ["network", "create", "inner", "--type=ovn", "network=outside", &address, "ipv6.address=none"];
    bed.run(&within(project, &create));
    bed.denied(&within(project, &["network", "create", "br7", "--type=bridge"]), &["bridge", "not allowed"]);
    let list = ["network", "list", "--format", "csv"];
    bed.shows(&within(project, &list), &[&format!("inner,ovn,YES,{subnet}")]);
    bed.hides(&within(project, &list), "outside");
    bed.shows(&list, &["inner,ovn,YES,10.200.1.1/24"]);
    bed.hides(&list, &subnet);
    if bed.ours() {
        let all = ["network", "list", "--all-projects", "--format", "csv"];
        bed.shows(&all, &["default,inner,ovn", &format!("{project},inner,ovn"), "default,outside,physical"]);
    }
    bed.becomes("logical_router_port", "networks", &subnet);
    let add = ["profile", "device", "add", "default"];
    bed.run(&within(project, &[&add[..], &["root", "disk", "path=/", "pool=default"]].concat()));
    bed.run(&within(project, &[&add[..], &["eth0", "nic", "network=inner", "name=eth0"]].concat()));
    bed.run(&within(project, &["launch", "busybox", instance, "--target", &bed.bed.nodes[0].name]));
    let ping = ["exec", instance, "--", "ping", "-c", "1", "-W", "1", &router];
    let ping = within(project, &ping);
    wait::until_true("its router answers", SOON, || Ok(bed.raw(&ping).status.success())).unwrap();
    bed.hides(&["network", "show", "inner"], instance);
    bed.denied(&within(project, &["network", "delete", "inner"]), &[&format!("/1.0/instances/{instance}")]);
    bed.denied(&["project", "set", project, "features.networks=false"], &["features.networks"]);
    bed.run(&within(project, &["delete", "--force", instance]));
    bed.run(&within(project, &["profile", "device", "remove", "default", "eth0"]));
    bed.run(&within(project, &["network", "delete", "inner"]));
    bed.run(&["project", "delete", project]);
    bed.shows(&["network", "show", "inner"], &["10.200.1.1/24"]);
}

fn lists(bed: &Bed) {
    let (project, name) = (&bed.own("lab"), &bed.own("guard"));
    made(bed, project);
    bed.run(&["network", "acl", "create", name]);
    bed.run(&within(project, &["network", "acl", "create", name, "user.of=the lab"]));
    let rule = ["network", "acl", "rule", "add", name, "ingress", "action=allow", "source=10.0.0.0/8"];
    bed.run(&within(project, &rule));
    bed.shows(&within(project, &["network", "acl", "show", name]), &["user.of: the lab", "10.0.0.0/8"]);
    bed.shows(&["network", "acl", "show", name], &["ingress: []"]);
    bed.run(&["network", "acl", "delete", name]);
    bed.denied(&["project", "delete", project], &["empty"]);
    bed.run(&within(project, &["network", "acl", "delete", name]));
    bed.run(&["project", "delete", project]);
}

fn peers(bed: &Bed) {
    let (project, name) = (&bed.own("lab"), &bed.own("near"));
    made(bed, project);
    let address = |third: usize| format!("ipv4.address=10.205.{}.1/24", bed.number * 10 + third);
    let (near, far) = (address(1), address(2));
    bed.run(&["network", "create", name, "--type=ovn", &near, "ipv6.address=none"]);
    bed.run(&within(project, &["network", "create", name, "--type=ovn", &far, "ipv6.address=none"]));
    let there = format!("{project}/{name}");
    let said = bed.run(&["network", "peer", "create", name, "there", &there]);
    assert!(said.contains("pending"), "{said}");
    let back = format!("default/{name}");
    let said = bed.run(&within(project, &["network", "peer", "create", name, "back", &back]));
    assert!(said.contains("created"), "{said}");
    bed.shows(&["network", "peer", "show", name, "there"], &[&format!("target_project: {project}"), "status: Created"]);
    bed.denied(&within(project, &["network", "delete", name]), &[name, "there"]);
    bed.run(&["network", "peer", "delete", name, "there"]);
    bed.run(&within(project, &["network", "peer", "delete", name, "back"]));
    bed.run(&["network", "delete", name]);
    bed.run(&within(project, &["network", "delete", name]));
    bed.run(&["project", "delete", project]);
}
