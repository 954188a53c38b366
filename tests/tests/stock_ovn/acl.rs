//! Access control lists.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("network acl: create, list, show, get, set, unset, edit, rename, delete", || lists(bed));
    rows.row("network acl: rules", || rules(bed));
    rows.row("network acl: on a network and on an interface", || assigned(bed));
    rows.row("network acl: log", || log(bed));
}

fn lists(bed: &Bed) {
    let (name, renamed) = (&bed.own("guard"), &bed.own("warden"));
    bed.run(&["network", "acl", "create", name, "user.of=nobody"]);
    bed.denied(&["network", "acl", "create", name], &["already exists"]);
    bed.shows(&["network", "acl", "list", "--format", "csv"], &[name]);
    bed.shows(&["network", "acl", "show", name], &[&format!("name: {name}"), "ingress: []", "user.of: nobody"]);
    bed.set(&["network", "acl", "set", name], "user.of", "the lab");
    assert_eq!(bed.line(&["network", "acl", "get", name, "user.of"]), "the lab");
    bed.run(&["network", "acl", "unset", name, "user.of"]);
    assert_eq!(bed.line(&["network", "acl", "get", name, "user.of"]), "");
    bed.denied(&["network", "acl", "set", name, "colour=red"], &["colour"]);
    let edit = ["network", "acl", "edit", name];
    bed.edit(&["network", "acl", "show", name], &edit, "description: \"\"", "description: of the lab");
    bed.shows(&["network", "acl", "list"], &["of the lab"]);
    bed.run(&["network", "acl", "rename", name, renamed]);
    bed.run(&["network", "acl", "delete", renamed]);
    bed.denied(&["network", "acl", "show", renamed], &["not found"]);
}

fn rules(bed: &Bed) {
    let name = &bed.own("rules");
    bed.run(&["network", "acl", "create", name]);
    let rule = |word: &'static str, direction: &'static str, fields: &[&'static str]| {
        bed.run(&[&["network", "acl", "rule", word, name, direction], fields].concat())
    };
    rule("add", "ingress", &["action=allow", "protocol=tcp", "source=10.0.0.0/8", "destination_port=80,443"]);
    rule("add", "ingress", &["action=drop", "state=logged"]);
    rule("add", "egress", &["action=reject", "protocol=udp", "destination_port=53", "description=no names"]);
    let shown = ["action: allow", "source: 10.0.0.0/8", "destination_port: 80,443", "state: logged", "no names"];
    bed.shows(&["network", "acl", "show", name], &shown);
    let add = ["network", "acl", "rule", "add", name, "ingress"];
    bed.denied(&[&add[..], &["action=perhaps"]].concat(), &["perhaps"]);
    bed.denied(&[&add[..], &["action=allow", "destination_port=80"]].concat(), &["destination_port"]);
    rule("remove", "ingress", &["action=drop"]);
    bed.hides(&["network", "acl", "show", name], "state: logged");
    let edit = ["network", "acl", "edit", name];
    bed.edit(&["network", "acl", "show", name], &edit, "10.0.0.0/8", "10.9.0.0/16");
    bed.shows(&["network", "acl", "show", name], &["source: 10.9.0.0/16"]);
    bed.run(&["network", "acl", "delete", name]);
}

fn assigned(bed: &Bed) {
    let (name, network, guest) = (&bed.own("used"), &bed.own("walled"), &bed.own("g"));
    bed.run(&["network", "acl", "create", name]);
    bed.run(&["network", "acl", "rule", "add", name, "egress", "action=drop", "destination=192.0.2.0/24"]);
    let address = format!("ipv4.address=10.202.{}.1/24", bed.number);
    let lists = format!("security.acls={name}");
    bed.run(&["network", "create", network, "--type=ovn", &address, &lists]);
    bed.shows(&["network", "acl", "show", name], &[&format!("/1.0/networks/{network}")]);
    bed.denied(&["network", "acl", "delete", name], &[network]);
    bed.denied(&["network", "set", network, "security.acls=nowhere"], &["nowhere"]);
    // Rules are of those who are there.
    let word = if bed.ours() { "create" } else { "init" };
    let device = format!("eth0,network={network}");
    bed.run(&[word, "busybox", guest, "-d", &device]);
    bed.becomes("acl", "match", "192.0.2.0/24");
    bed.run(&["network", "unset", network, "security.acls"]);
    bed.run(&["config", "device", "set", guest, "eth0", &lists]);
    bed.shows(&["network", "acl", "show", name], &[&format!("/1.0/instances/{guest}")]);
    bed.run(&["delete", guest]);
    bed.run(&["network", "delete", network]);
    bed.run(&["network", "acl", "delete", name]);
}

/// What was dropped is told, whichever member's guest it was.
fn log(bed: &Bed) {
    let name = &bed.own("told");
    bed.run(&["network", "acl", "create", name]);
    let rule = ["action=drop", "protocol=icmp4", "destination=10.200.1.1/32", "state=logged"];
    bed.run(&[&["network", "acl", "rule", "add", name, "egress"], &rule[..]].concat());
    let default = ["security.acls.default.egress.action=allow", "security.acls.default.ingress.action=allow"];
    let lists = format!("security.acls={name}");
    bed.run(&[&["config", "device", "set", "web", "eth0", &lists], &default[..]].concat());
    let ping = ["exec", "web", "--", "ping", "-c", "1", "-W", "1", "10.200.1.1"];
    let told = wait::until("a line of the log", SOON, || {
        let _answered = bed.raw(&ping);
        let text = bed.tried(&["network", "acl", "show-log", name])?;
        Ok(text.contains("drop").then_some(text))
    })
    .unwrap();
    let line: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((&line["src"], &line["dst"], &line["action"]), (&bed.web.into(), &"10.200.1.1".into(), &"drop".into()));
    for key in ["security.acls", "security.acls.default.egress.action", "security.acls.default.ingress.action"] {
        bed.run(&["config", "device", "unset", "web", "eth0", key]);
    }
    bed.run(&["network", "acl", "delete", name]);
}
