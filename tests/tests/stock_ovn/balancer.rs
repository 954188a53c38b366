//! Load balancers: addresses of the uplink that instances share.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    // The client of LXD 5.0 knows none.
    if bed.lxc() {
        return;
    }
    rows.row("network load-balancer: create, list, show, get, set, unset, edit, delete", || balancers(bed));
    rows.row("network load-balancer: backends, ports", || ports(bed));
    rows.row("network load-balancer: info", || health(bed));
}

/// The words of a command about the load balancer of this client.
fn words<'a>(command: &[&'a str], listen: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["network", "load-balancer"], command, &["inner", listen], more].concat()
}

fn balancers(bed: &Bed) {
    let listen = &bed.listen(24);
    let word = |command: &'static str, more: &[&'static str]| words(&[command], listen, more);
    bed.run(&word("create", &["user.for=all"]));
    bed.shows(&["network", "load-balancer", "list", "inner", "--format", "csv"], &[listen]);
    bed.shows(&word("show", &[]), &["listen_address: ", listen, "user.for: all", "backends: []"]);
    bed.set(&word("set", &[]), "user.for", "the web");
    assert_eq!(bed.line(&word("get", &["user.for"])), "the web");
    bed.run(&word("unset", &["user.for"]));
    assert_eq!(bed.line(&word("get", &["user.for"])), "");
    bed.edit(&word("show", &[]), &word("edit", &[]), "description: \"\"", "description: of the web");
    bed.shows(&["network", "load-balancer", "list", "inner"], &["of the web"]);
    bed.denied(&word("create", &[]), &["already exists"]);
    bed.denied(&["network", "forward", "create", "inner", listen], &[listen]);
    bed.denied(&word("set", &["colour=red"]), &["colour"]);
    bed.run(&word("delete", &[]));
    bed.denied(&word("show", &[]), &["not found"]);
}

fn ports(bed: &Bed) {
    let listen = &bed.listen(24);
    bed.run(&words(&["create"], listen, &[]));
    bed.run(&words(&["backend", "add"], listen, &["one", bed.web, "80"]));
    bed.run(&words(&["backend", "add"], listen, &["two", "10.200.1.250", "80"]));
    bed.denied(&words(&["backend", "add"], listen, &["three", "10.9.9.9"]), &["10.9.9.9"]);
    bed.run(&words(&["port", "add"], listen, &["tcp", "8081", "one"]));
    bed.run(&words(&["port", "add"], listen, &["udp", "8081", "one,two"]));
    bed.denied(&words(&["port", "add"], listen, &["tcp", "8082", "nobody"]), &["nobody"]);
    bed.shows(&words(&["show"], listen, &[]), &["name: one", "target_backend:", "- two"]);
    bed.denied(&words(&["backend", "remove"], listen, &["two"]), &["two"]);
    wait::until_true("web answers for all", SOON, || Ok(bed.fetch(listen, 8081).contains("<h1>web</h1>"))).unwrap();
    bed.run(&words(&["port", "remove"], listen, &["udp", "8081"]));
    bed.run(&words(&["backend", "remove"], listen, &["two"]));
    bed.hides(&words(&["show"], listen, &[]), "two");
    bed.run(&words(&["delete"], listen, &[]));
}

fn health(bed: &Bed) {
    let listen = &bed.listen(24);
    let info = || bed.run(&words(&["info"], listen, &[]));
    bed.run(&words(
        &["create"],
        listen,
        &["healthcheck=true", "healthcheck.interval=1", "healthcheck.success_count=1"],
    ));
    bed.run(&words(&["backend", "add"], listen, &["one", bed.web, "80"]));
    bed.run(&words(&["backend", "add"], listen, &["two", "10.200.1.250", "80"]));
    bed.run(&words(&["port", "add"], listen, &["tcp", "8083", "one,two"]));
    wait::until("one is online, two is nobody", SOON, || {
        let info = bed.tried(&words(&["info"], listen, &[]))?;
        let parts = ["one", bed.web, "tcp", "80", "online", "two", "10.200.1.250", "unknown"];
        anyhow::ensure!(parts.iter().all(|part| info.contains(part)), "{info}");
        Ok(Some(()))
    })
    .unwrap();
    bed.set(&words(&["set"], listen, &[]), "healthcheck", "false");
    assert!(!info().contains("online"), "{}", info());
    bed.run(&words(&["delete"], listen, &[]));
}
