//! Networks of type ovn, with all that belongs to them, by the unmodified clients of LXD and Incus and our own: three real
//! nodes that are chassis of one OVN, asked through a follower. Each feature is a row of the README's compat table.
//!
//! One cluster serves all clients, one after the other: what a client makes has its mark in its name, and is taken away
//! by it. Whether packets go where they should is the business of the suite `ovn`; here a few tell that a client's words
//! arrived.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

mod acl;
mod balancer;
mod forward;
mod guests;
mod networks;
mod peer;
mod projects;

use std::time::Duration;

use basalt_tests::compat::{Client, Rows, Stock};
use basalt_tests::testbed::{Options, Testbed};
use basalt_tests::{facility, host, image, require, wait};

/// The clients that know networks.
const CLIENTS: [Client; 3] = [Client::Lxc, Client::Incus, Client::Basalt];

/// A new port is known everywhere: three controllers and a translator on two cores, with other suites beside.
const SOON: Duration = Duration::from_secs(60);

/// What a row has: a client, and a running container `web` (by every client) on the network `inner` behind the uplink
/// `outside`.
struct Bed<'a> {
    client: Stock,
    bed: &'a Testbed,
    /// Of this client, from 1: part of the addresses it uses.
    number: usize,
    /// The address of `web`.
    web: &'a str,
}

impl std::ops::Deref for Bed<'_> {
    type Target = Stock;

    fn deref(&self) -> &Stock {
        &self.client
    }
}

impl Bed<'_> {
    fn lxc(&self) -> bool {
        self.client.client == Client::Lxc
    }

    fn ours(&self) -> bool {
        self.client.client == Client::Basalt
    }

    /// A name that no other client uses.
    fn own(&self, name: &str) -> String {
        format!("{name}{}", self.number)
    }

    /// An address of the uplink on which this client may listen.
    fn listen(&self, last: usize) -> String {
        let (outside, _) = self.bed.fabric.outside();
        format!("{}.{}", outside.rsplit_once('.').unwrap().0, last + self.number)
    }

    fn shows(&self, arguments: &[&str], words: &[&str]) {
        let text = self.run(arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?} does not show {word:?}:\n{text}");
        }
    }

    /// The same, once the leader has done its part.
    fn comes_to_show(&self, arguments: &[&str], words: &[&str]) {
        wait::until_true(&format!("{arguments:?} shows {words:?}"), SOON, || {
            let text = self.tried(arguments)?;
            Ok(words.iter().all(|word| text.contains(word)))
        })
        .unwrap();
    }

    fn hides(&self, arguments: &[&str], word: &str) {
        let text = self.run(arguments);
        assert!(!text.contains(word), "{arguments:?} shows {word:?}:\n{text}");
    }

    fn denied(&self, arguments: &[&str], words: &[&str]) {
        let said = self.refused(arguments);
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {said:?} does not say {word:?}");
        }
    }

    /// `set`, in the words that every version knows.
    fn set(&self, what: &[&str], key: &str, value: &str) {
        let pair = format!("{key}={value}");
        self.run(&[what, &[pair.as_str()]].concat());
    }

    /// Shows it, replaces words, and feeds that to `edit`.
    fn edit(&self, show: &[&str], edit: &[&str], from: &str, to: &str) {
        let shown = self.run(show);
        assert!(shown.contains(from), "{show:?} does not show {from:?}:\n{shown}");
        self.feed(edit, &shown.replace(from, to));
    }

    /// Rows of a table of the northbound database, one column.
    fn northbound(&self, table: &str, column: &str) -> String {
        self.bed.central().unwrap().nbctl(&["--bare", &format!("--columns={column}"), "list", table]).unwrap()
    }

    /// Waits until the northbound database has it.
    fn becomes(&self, table: &str, column: &str, text: &str) {
        wait::until_true(&format!("{text} in {table}"), SOON, || Ok(self.northbound(table, column).contains(text)))
            .unwrap();
    }

    /// What comes back on a connection from the world outside.
    fn fetch(&self, address: &str, port: u16) -> String {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 {address} {port}");
        let said = self.beside(&["sh", "-c", &script]).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }
}

/// The cluster, with an image, the uplink `outside`, the network `inner` and the container `web`, whose address is told.
fn cluster() -> (Testbed, String) {
    let bed = Testbed::cluster(&Options::ovn(3)).unwrap();
    let first = &bed.nodes[0];
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    first.basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    let northbound = format!("network.ovn.northbound_connection={}", bed.central().unwrap().northbound());
    first.basalt(&["config", "set", &northbound]).unwrap();
    let mut create = vec!["network", "create", "outside", "--type", "physical"];
    let uplink = bed.fabric.uplink();
    create.extend(uplink.iter().map(String::as_str));
    first.basalt(&create).unwrap();
    first.basalt(&["network", "create", "inner", "--type", "ovn", "ipv4.address=10.200.1.1/24"]).unwrap();
    // Links that are nobody's way out yet.
    for node in &bed.nodes {
        host::run(&["ip", "-n", &node.netns, "link", "add", "eth8", "type", "veth", "peer", "name", "eth9"]).unwrap();
    }
    let third = &bed.nodes[2].name;
    first.basalt(&["launch", "busybox", "web", "--target", third, "-d", "eth0,network=inner"]).unwrap();
    let address = wait::until("web has an address", SOON, || {
        let leases = first.api().get("/1.0/networks/inner/leases")?;
        let mut leases = leases.as_array().into_iter().flatten();
        Ok(leases.find(|l| l["hostname"] == "web").and_then(|l| l["address"].as_str().map(str::to_owned)))
    })
    .unwrap();
    (bed, address)
}

#[test]
fn stock_clients_and_ours() {
    require!(facility::ovn());
    let (bed, web) = cluster();
    let mut found = Vec::new();
    for (at, client) in CLIENTS.into_iter().enumerate() {
        if let Some(why) = Stock::lack(client) {
            facility::skip(&format!("networks of type ovn with {client}"), &why);
            continue;
        }
        let mut rows = Rows::of(client);
        let stock = Stock::connect(client, &bed).unwrap();
        let bed = Bed { client: stock, bed: &bed, number: at + 1, web: &web };
        networks::rows(&mut rows, &bed);
        guests::rows(&mut rows, &bed);
        acl::rows(&mut rows, &bed);
        forward::rows(&mut rows, &bed);
        balancer::rows(&mut rows, &bed);
        peer::rows(&mut rows, &bed);
        projects::rows(&mut rows, &bed);
        found.push(rows);
    }
    found.into_iter().for_each(Rows::done);
}
