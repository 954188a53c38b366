//! Network zones and their records. That they are given to their peers is the business of the suite `zones`.

use basalt_tests::compat::Rows;

use super::Bed;

const ZONE: &str = "lab.example";

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("network zone: create, list, show, get, set, unset, edit, delete", || zones(bed));
    rows.row("network zone record: create, list, show, get, set, unset, entries, edit, delete", || records(bed));
}

/// YAML without its quotes: one client puts an address into them, another does not.
fn bare(yaml: &str) -> String {
    yaml.replace('"', "")
}

fn zones(bed: &Bed) {
    bed.run(&["network", "zone", "create", ZONE, "peers.ns.address=192.0.2.1", "user.a=b"]);
    let list = bed.run(&["network", "zone", "list", "--format", "csv"]);
    assert!(list.contains(ZONE), "{list}");
    bed.run(&["network", "zone", "set", ZONE, "dns.nameservers=ns1.example.org"]);
    assert_eq!(bed.line(&["network", "zone", "get", ZONE, "dns.nameservers"]), "ns1.example.org");
    bed.run(&["network", "zone", "unset", ZONE, "user.a"]);
    assert_eq!(bed.line(&["network", "zone", "get", ZONE, "user.a"]), "");
    let shown = bed.run(&["network", "zone", "show", ZONE]);
    assert!(bare(&shown).contains("peers.ns.address: 192.0.2.1"), "{shown}");
    bed.feed(&["network", "zone", "edit", ZONE], &shown.replace("description: \"\"", "description: of the lab"));
    assert!(bed.run(&["network", "zone", "show", ZONE]).contains("description: of the lab"));
    for (arguments, word) in [
        (["create", ZONE, "user.a=b"], "already exists"),
        (["create", "Not_a_zone.", "user.a=b"], "name"),
        (["set", ZONE, "peers.ns.address=nowhere"], "peers.ns.address"),
        (["set", ZONE, "colour=red"], "colour"),
    ] {
        let refused = bed.refused(&[&["network", "zone"], &arguments[..]].concat());
        assert!(refused.contains(word), "{arguments:?}: {refused}");
    }
    bed.run(&["network", "set", "basaltbr0", "dns.zone.forward=lab.example"]);
    assert!(bed.run(&["network", "zone", "show", ZONE]).contains("/1.0/networks/basaltbr0"));
    let refused = bed.refused(&["network", "zone", "delete", ZONE]);
    assert!(refused.contains("/1.0/networks/basaltbr0"), "{refused}");
    bed.run(&["network", "unset", "basaltbr0", "dns.zone.forward"]);
    bed.run(&["network", "zone", "delete", ZONE]);
    let refused = bed.refused(&["network", "zone", "show", ZONE]);
    assert!(refused.contains("not found"), "{refused}");
}

fn records(bed: &Bed) {
    let record = |words: &[&str]| bed.run(&[&["network", "zone", "record"], words].concat());
    bed.run(&["network", "zone", "create", ZONE]);
    record(&["create", ZONE, "www", "user.a=b"]);
    record(&["entry", "add", ZONE, "www", "A", "192.0.2.9", "--ttl", "60"]);
    record(&["entry", "add", ZONE, "www", "TXT", "some text"]);
    let shown = record(&["show", ZONE, "www"]);
    let plain = bare(&shown);
    assert!(plain.contains("value: 192.0.2.9") && plain.contains("ttl: 60") && plain.contains("type: TXT"), "{shown}");
    assert!(record(&["list", ZONE, "--format", "csv"]).contains("www"));
    record(&["set", ZONE, "www", "user.a=c"]);
    assert_eq!(record(&["get", ZONE, "www", "user.a"]).trim(), "c");
    record(&["unset", ZONE, "www", "user.a"]);
    record(&["entry", "remove", ZONE, "www", "A", "192.0.2.9"]);
    let shown = record(&["show", ZONE, "www"]);
    assert!(!shown.contains("192.0.2.9") && !shown.contains("user.a"), "{shown}");
    let edit = ["network", "zone", "record", "edit", ZONE, "www"];
    bed.feed(&edit, &shown.replace("description: \"\"", "description: of the lab"));
    assert!(record(&["show", ZONE, "www"]).contains("description: of the lab"));
    let entry = ["network", "zone", "record", "entry", "add", ZONE, "www", "A", "192.0.2.300"];
    let refused = bed.refused(&entry);
    assert!(refused.contains("entries[1].value"), "{refused}");
    record(&["delete", ZONE, "www"]);
    assert!(!record(&["list", ZONE, "--format", "csv"]).contains("www"));
    bed.run(&["network", "zone", "delete", ZONE]);
}
