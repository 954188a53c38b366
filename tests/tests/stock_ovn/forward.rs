//! Forwards: addresses of the uplink that lead to an instance.

use basalt_tests::compat::Rows;
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("network forward: create, list, show, get, set, unset, edit, delete", || forwards(bed));
    rows.row("network forward: ports", || ports(bed));
}

fn forwards(bed: &Bed) {
    let listen = &bed.listen(20);
    let target = format!("target_address={}", bed.web);
    bed.run(&["network", "forward", "create", "inner", listen, &target]);
    bed.shows(&["network", "forward", "list", "inner", "--format", "csv"], &[listen, bed.web]);
    bed.shows(&["network", "forward", "show", "inner", listen], &["listen_address: ", listen, bed.web]);
    bed.set(&["network", "forward", "set", "inner", listen], "user.for", "the web");
    assert_eq!(bed.line(&["network", "forward", "get", "inner", listen, "user.for"]), "the web");
    bed.run(&["network", "forward", "unset", "inner", listen, "user.for"]);
    assert_eq!(bed.line(&["network", "forward", "get", "inner", listen, "user.for"]), "");
    let edit = ["network", "forward", "edit", "inner", listen];
    let show = ["network", "forward", "show", "inner", listen];
    bed.edit(&show, &edit, "description: \"\"", "description: of the web");
    bed.shows(&["network", "forward", "list", "inner"], &["of the web"]);
    bed.denied(&["network", "forward", "create", "inner", listen], &["already exists"]);
    bed.denied(&["network", "forward", "create", "inner", "192.0.2.9"], &["listen_address", "192.0.2.9"]);
    bed.denied(&["network", "forward", "set", "inner", listen, "target_address=10.9.9.9"], &["10.9.9.9"]);
    bed.denied(&["network", "forward", "create", "inner", "word"], &["word"]);
    wait::until_true("the world outside is led to web", SOON, || Ok(bed.fetch(listen, 80).contains("<h1>web</h1>")))
        .unwrap();
    bed.run(&["network", "forward", "delete", "inner", listen]);
    bed.denied(&["network", "forward", "show", "inner", listen], &["not found"]);
}

/// The words of a command about ports.
fn port<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["network", "forward", "port"], arguments].concat()
}

fn ports(bed: &Bed) {
    let listen = &bed.listen(20);
    bed.run(&["network", "forward", "create", "inner", listen]);
    bed.run(&port(&["add", "inner", listen, "tcp", "8080", bed.web, "80"]));
    bed.run(&port(&["add", "inner", listen, "udp", "53,1000-1003", bed.web]));
    let shown = ["protocol: tcp", "listen_port: \"8080\"", "target_port: \"80\"", "53,1000-1003"];
    bed.shows(&["network", "forward", "show", "inner", listen], &shown);
    bed.denied(&port(&["add", "inner", listen, "tcp", "8080", bed.web]), &["8080"]);
    bed.denied(&port(&["add", "inner", listen, "sctp", "1", bed.web]), &["sctp"]);
    bed.denied(&port(&["add", "inner", listen, "tcp", "70000", bed.web]), &["70000"]);
    bed.denied(&port(&["add", "inner", listen, "tcp", "1-3", bed.web, "5-6"]), &["target_port"]);
    wait::until_true("the port leads to web", SOON, || Ok(bed.fetch(listen, 8080).contains("<h1>web</h1>"))).unwrap();
    bed.run(&port(&["remove", "inner", listen, "udp", "53,1000-1003"]));
    bed.hides(&["network", "forward", "show", "inner", listen], "1000-1003");
    bed.run(&port(&["remove", "inner", listen, "tcp", "8080"]));
    bed.shows(&["network", "forward", "show", "inner", listen], &["ports: []"]);
    bed.run(&["network", "forward", "delete", "inner", listen]);
}
