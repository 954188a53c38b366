//! Peerings: networks that know each other's subnets.

use basalt_tests::compat::Rows;

use super::Bed;

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("network peer: create, list, show, get, set, unset, edit, delete", || peers(bed));
}

fn peers(bed: &Bed) {
    let (near, far) = (&bed.own("near"), &bed.own("far"));
    for (name, third) in [(near, 1), (far, 2)] {
        let address = format!("ipv4.address=10.203.{}.1/24", bed.number * 10 + third);
        bed.run(&["network", "create", name, "--type=ovn", &address, "ipv6.address=none"]);
    }
    let said = bed.run(&["network", "peer", "create", near, "there", far, "user.why=trade"]);
    assert!(said.contains("pending"), "{said}");
    bed.shows(&["network", "peer", "list", near, "--format", "csv"], &["there", far, "PENDING"]);
    let said = bed.run(&["network", "peer", "create", far, "back", near]);
    assert!(said.contains("created"), "{said}");
    bed.shows(&["network", "peer", "list", near, "--format", "csv"], &["there", far, "CREATED"]);
    let shown = ["name: there", &format!("target_network: {far}"), "status: Created", "user.why: trade"];
    bed.shows(&["network", "peer", "show", near, "there"], &shown);
    bed.becomes("logical_router_port", "name", "-lr-lrp-peer-");
    let set = ["network", "peer", "set", near, "there"];
    bed.set(&set, "user.why", "talk");
    assert_eq!(bed.line(&["network", "peer", "get", near, "there", "user.why"]), "talk");
    bed.run(&["network", "peer", "unset", near, "there", "user.why"]);
    assert_eq!(bed.line(&["network", "peer", "get", near, "there", "user.why"]), "");
    let edit = ["network", "peer", "edit", near, "there"];
    bed.edit(&["network", "peer", "show", near, "there"], &edit, "description: \"\"", "description: of the lab");
    bed.shows(&["network", "peer", "list", near], &["of the lab"]);
    bed.denied(&["network", "peer", "create", near, "again", far], &["there"]);
    bed.denied(&["network", "peer", "create", near, "self", near], &[near]);
    bed.denied(&["network", "peer", "create", near, "lost", "nowhere"], &["nowhere"]);
    bed.denied(&["network", "delete", far], &[near]);
    bed.run(&["network", "peer", "delete", near, "there"]);
    bed.shows(&["network", "peer", "list", far, "--format", "csv"], &["PENDING"]);
    bed.run(&["network", "peer", "delete", far, "back"]);
    for name in [near, far] {
        bed.run(&["network", "delete", name]);
    }
}
