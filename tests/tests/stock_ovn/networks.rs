//! Networks themselves: ways out, and what is behind them.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("network (physical): create by member, list, show, info, get, set, unset, edit, rename, delete", || {
        physical(bed);
    });
    rows.row("network (ovn): create, list, show, info, get, set, unset, edit, rename, delete", || logical(bed));
    rows.row("network (ovn): what cannot be is refused", || refused(bed));
    rows.row("network (ovn): leases", || leases(bed));
    if !bed.lxc() {
        rows.row("network (ovn): allocations", || allocations(bed));
    }
}

fn physical(bed: &Bed) {
    let (name, renamed) = (&bed.own("up"), &bed.own("way"));
    if bed.ours() {
        let keys = ["parent=eth9", "ipv4.gateway=203.0.113.1/24", "ipv4.ovn.ranges=203.0.113.10-203.0.113.20"];
        bed.run(&[&["network", "create", name, "--type", "physical"], &keys[..]].concat());
    } else {
        let create = ["network", "create", name, "--type=physical"];
        for node in &bed.bed.nodes {
            bed.run(&[&create[..], &["--target", &node.name, "parent=eth9"]].concat());
        }
        bed.shows(&["network", "list"], &[name, "PENDING"]);
        let wrong = [&create[..], &["--target", &bed.bed.nodes[0].name, "ipv4.gateway=203.0.113.1/24"]].concat();
        bed.denied(&wrong, &["ipv4.gateway"]);
        let keys = ["ipv4.gateway=203.0.113.1/24", "ipv4.ovn.ranges=203.0.113.10-203.0.113.20"];
        bed.run(&[&create[..], &keys[..]].concat());
    }
    bed.shows(&["network", "list", "--format", "csv"], &[&format!("{name},physical,YES")]);
    let shown = ["type: physical", "status: Created", "parent: eth9", "ipv4.ovn.ranges: 203.0.113.10-203.0.113.20"];
    bed.shows(&["network", "show", name], &shown);
    bed.shows(&["network", "info", name], &["MTU", "1500"]);
    bed.set(&["network", "set", name], "ipv4.routes", "192.0.2.0/24");
    assert_eq!(bed.line(&["network", "get", name, "ipv4.routes"]), "192.0.2.0/24");
    bed.run(&["network", "unset", name, "ipv4.routes"]);
    assert_eq!(bed.line(&["network", "get", name, "ipv4.routes"]), "");
    bed.denied(&["network", "set", name, "ipv4.ovn.ranges=203.0.114.10-203.0.114.20"], &["ipv4.ovn.ranges"]);
    bed.edit(&["network", "show", name], &["network", "edit", name], "203.0.113.20", "203.0.113.40");
    bed.shows(&["network", "show", name], &["203.0.113.10-203.0.113.40"]);
    bed.run(&["network", "rename", name, renamed]);
    bed.run(&["network", "delete", renamed]);
    bed.denied(&["network", "show", renamed], &["not found"]);
}

fn logical(bed: &Bed) {
    let (name, renamed) = (&bed.own("net"), &bed.own("mesh"));
    let subnet = format!("10.201.{}.1/24", bed.number);
    let address = format!("ipv4.address={subnet}");
    bed.run(&["network", "create", name, "--type=ovn", "network=outside", &address, "ipv4.nat=true"]);
    bed.shows(&["network", "list", "--format", "csv"], &[&format!("{name},ovn,YES,{subnet},fd42:")]);
    let router = wait::until("its router has an address", SOON, || {
        let address = bed.line(&["network", "get", name, "volatile.network.ipv4.address"]);
        Ok((!address.is_empty()).then_some(address))
    })
    .unwrap();
    let shown = ["network: outside", "status: Created", "type: ovn", "ipv6.nat: \"true\"", &router];
    bed.shows(&["network", "show", name], &shown);
    bed.shows(&["network", "info", name], &[subnet.split('/').next().unwrap(), "1442"]);
    if !bed.lxc() {
        bed.shows(&["network", "info", name], &["-lr"]);
    }
    bed.comes_to_show(&["network", "list-leases", "outside"], &[&format!("{name}.uplink"), &router]);
    bed.becomes("logical_router_port", "networks", &subnet);
    bed.set(&["network", "set", name], "dns.domain", "lab.example");
    assert_eq!(bed.line(&["network", "get", name, "dns.domain"]), "lab.example");
    bed.becomes("dhcp_options", "options", "lab.example");
    bed.run(&["network", "unset", name, "dns.domain"]);
    assert_eq!(bed.line(&["network", "get", name, "dns.domain"]), "");
    bed.edit(&["network", "show", name], &["network", "edit", name], "description: \"\"", "description: of the lab");
    bed.shows(&["network", "show", name], &["description: of the lab", &router]);
    bed.run(&["network", "rename", name, renamed]);
    bed.shows(&["network", "list"], &[renamed, "of the lab"]);
    bed.run(&["network", "delete", renamed]);
    bed.denied(&["network", "show", renamed], &["not found"]);
    // An isolated one, and one that finds the only way out by itself.
    bed.run(&["network", "create", name, "--type=ovn", "network=none", &address, "ipv6.address=none"]);
    bed.hides(&["network", "show", name], "volatile.network");
    bed.run(&["network", "delete", name]);
    bed.run(&["network", "create", name, "--type=ovn"]);
    bed.shows(&["network", "show", name], &["network: outside"]);
    bed.run(&["network", "delete", name]);
}

fn refused(bed: &Bed) {
    let create = |keys: &[&'static str]| {
        let name = bed.own("bad");
        bed.refused(&[&["network", "create", &name, "--type=ovn"], keys].concat())
    };
    for (keys, words) in [
        (vec!["ipv4.address=10.200.1.129/25"], ["ipv4.address", "inner"]),
        (vec!["network=nowhere"], ["nowhere", "not"]),
        (vec!["network=inner"], ["network", "inner"]),
        (vec!["bridge.driver=native"], ["bridge.driver", ""]),
    ] {
        let said = create(&keys);
        assert!(words.iter().all(|word| said.contains(word)), "{keys:?}: {said}");
    }
    bed.denied(&["network", "delete", "outside"], &["inner"]);
    bed.denied(&["network", "delete", "inner"], &["web"]);
}

fn leases(bed: &Bed) {
    let csv = bed.run(&["network", "list-leases", "inner", "--format", "csv"]);
    for words in [["inner.gw", "10.200.1.1", "GATEWAY"], ["web", bed.web, "DYNAMIC"]] {
        let found = csv.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?}: {csv}");
    }
}

fn allocations(bed: &Bed) {
    let csv = bed.run(&["network", "list-allocations", "--format", "csv"]);
    for words in [["/1.0/networks/inner", "10.200.1.1/24"], ["/1.0/instances/web", bed.web]] {
        let found = csv.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?}: {csv}");
    }
}
