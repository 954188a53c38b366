//! The unmodified clients of LXD and Incus, as Debian packs them, and our own, against a cluster of three real nodes,
//! through a follower. Each feature is a row of the README's compat table.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

mod config;
mod console;
mod exec;
mod file;
mod image;
mod lifecycle;
mod list;
mod project;
mod server;
mod trust;
mod zone;

use std::time::Duration;

use basalt_tests::compat::{Client, Rows, Stock};
use basalt_tests::testbed::Testbed;
use basalt_tests::{require, wait};

/// What hosts, guests and other members do by themselves is done by then, also where two suites share two cores.
const SOON: Duration = Duration::from_secs(60);

/// What a row has: a client, and an instance `c1` that runs on a node which is neither the leader nor the client's.
struct Bed {
    client: Stock,
    bed: Testbed,
    /// The name of the member where `c1` lives.
    home: String,
}

impl Bed {
    fn lxc(&self) -> bool {
        self.client.client == Client::Lxc
    }

    /// The word that makes an instance without starting it; `init` means the cluster with our own client.
    fn create(&self) -> &'static str {
        if self.ours() { "create" } else { "init" }
    }

    /// Our own client, with words of its own here and there.
    fn ours(&self) -> bool {
        self.client.client == Client::Basalt
    }
}

impl std::ops::Deref for Bed {
    type Target = Stock;

    fn deref(&self) -> &Stock {
        &self.client
    }
}

fn walk(client: Client) {
    require!(Stock::lack(client));
    let mut rows = Rows::of(client);
    let bed = Stock::cluster().unwrap();
    trust::join(&mut rows, client, &bed);
    let stock = Stock::connect(client, &bed).unwrap();
    let (leader, follower) = (bed.leader().unwrap().name.clone(), bed.follower().unwrap().name.clone());
    let home = bed.nodes.iter().find(|n| n.name != leader && n.name != follower).unwrap().name.clone();
    stock.run(&["launch", "busybox", "c1", "--target", &home]);
    let bed = Bed { client: stock, bed, home };
    // Its address comes some time after its start, and other members hear of it a moment later.
    wait::until_true("c1 has an address", SOON, || {
        Ok(bed.tried(&["list", "c1", "--format", "csv", "-c", "4"])?.contains("(eth0)"))
    })
    .unwrap();
    list::rows(&mut rows, &bed);
    lifecycle::rows(&mut rows, &bed);
    exec::rows(&mut rows, &bed);
    console::rows(&mut rows, &bed);
    file::rows(&mut rows, &bed);
    config::rows(&mut rows, &bed);
    project::rows(&mut rows, &bed);
    image::rows(&mut rows, &bed);
    server::rows(&mut rows, &bed);
    trust::rows(&mut rows, &bed);
    zone::rows(&mut rows, &bed);
    rows.done();
}

#[test]
fn lxc_of_lxd_5() {
    walk(Client::Lxc);
}

#[test]
fn incus_6() {
    walk(Client::Incus);
}

#[test]
fn basalt() {
    walk(Client::Basalt);
}
