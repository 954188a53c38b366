//! Images made of instances, by the unmodified clients and ours: published on the member that has the instance, through
//! another one, and launched from on a third.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use basalt_tests::compat::{Client, Rows, Stock};
use basalt_tests::require;
use basalt_tests::testbed::Testbed;

fn published(stock: &Stock, bed: &Testbed) {
    let (home, other) = (&bed.nodes[2].name, &bed.nodes[1].name);
    stock.run(&["launch", "busybox", "origin", "--target", home]);
    stock.run(&["exec", "origin", "--", "sh", "-c", "echo kept > /kept; chown 5:6 /kept; chmod 4755 /kept"]);
    let refused = stock.refused(&["publish", "origin", "--alias", "made"]);
    assert!(refused.contains("running"), "{refused}");
    stock.run(&["stop", "--force", "origin"]);
    let said = stock.run(&["publish", "origin", "--alias", "made", "--public", "description=Made here"]);
    let image = stock.json(&["query", "/1.0/images/aliases/made"])["target"].as_str().unwrap().to_owned();
    assert!(said.contains(&image), "{said}");
    let shown = stock.json(&["query", &format!("/1.0/images/{image}")]);
    assert_eq!((&shown["properties"]["description"], &shown["public"]), (&"Made here".into(), &true.into()));
    assert_eq!(shown["type"], "container");
    let origin = stock.json(&["query", "/1.0/instances/origin"]);
    assert_eq!(shown["architecture"], origin["architecture"]);

    stock.run(&["launch", "made", "copy", "--target", other]);
    let found = stock.line(&["exec", "copy", "--", "sh", "-c", "cat /kept; stat -c '%u:%g %a' /kept"]);
    assert_eq!(found, "kept\n5:6 4755");
    stock.run(&["delete", "--force", "copy", "origin"]);
    stock.run(&["image", "delete", "made"]);
}

/// As it was when the snapshot was taken, while the instance goes on.
fn of_a_snapshot(stock: &Stock, bed: &Testbed) {
    let snapshot: &[&str] = if stock.client == Client::Lxc { &["snapshot"] } else { &["snapshot", "create"] };
    stock.run(&["launch", "busybox", "origin", "--target", &bed.nodes[2].name]);
    stock.run(&["exec", "origin", "--", "sh", "-c", "echo then > /moment; sync"]);
    stock.run(&[snapshot, &["origin", "s1"]].concat());
    stock.run(&["exec", "origin", "--", "sh", "-c", "echo now > /moment"]);
    stock.run(&["publish", "origin/s1", "--alias", "snapped"]);
    stock.refused(&["publish", "origin/none", "--alias", "none"]);
    stock.run(&["launch", "snapped", "copy", "--target", &bed.nodes[0].name]);
    assert_eq!(stock.line(&["exec", "copy", "--", "cat", "/moment"]), "then");
    stock.run(&["delete", "--force", "copy", "origin"]);
    stock.run(&["image", "delete", "snapped"]);
}

fn packed(stock: &Stock, bed: &Testbed) {
    let init = if stock.client == Client::Basalt { "create" } else { "init" };
    stock.run(&[init, "busybox", "origin", "--target", &bed.nodes[0].name]);
    for algorithm in ["none", "zstd", "xz"] {
        stock.run(&["publish", "origin", "--alias", algorithm, "--compression", algorithm]);
        stock.run(&["launch", algorithm, "copy"]);
        assert_eq!(stock.line(&["exec", "copy", "--", "hostname"]), "copy");
        stock.run(&["delete", "--force", "copy"]);
        stock.run(&["image", "delete", algorithm]);
    }
    stock.run(&["delete", "origin"]);
}

fn of_a_client(client: Client) {
    require!(Stock::lack(client));
    let bed = Stock::cluster().unwrap();
    let stock = Stock::connect(client, &bed).unwrap();
    let mut rows = Rows::of(client);
    rows.row("image: publish an instance", || published(&stock, &bed));
    rows.row("image: publish a snapshot", || of_a_snapshot(&stock, &bed));
    rows.row("image: publish, packed with zstd, xz or not at all", || packed(&stock, &bed));
    rows.done();
}

#[test]
fn lxc() {
    of_a_client(Client::Lxc);
}

#[test]
fn incus() {
    of_a_client(Client::Incus);
}

#[test]
fn basalt() {
    of_a_client(Client::Basalt);
}
