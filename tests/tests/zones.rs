//! Network zones, transferred by `dig` as a secondary name server would: by address and by key, from members that see the
//! same, and as instances come, get addresses and go.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::Path;
use std::time::Duration;

use basalt_tests::testbed::{Node, Options, Testbed};
use basalt_tests::{facility, host, image, require, wait};
use serde_json::{Value, json};

/// A change is seen by a member, and written into its book.
const SOON: Duration = Duration::from_secs(60);
/// `secret`, in base64.
const SECRET: &str = "c2VjcmV0";

fn lacks() -> Option<String> {
    facility::testbed().or_else(|| host::which("dig").is_none().then(|| "there is no dig (bind9-dnsutils)".into()))
}

/// `dig` in a node's namespace, asking another node; all that it prints.
fn dig(from: &Node, at: &str, arguments: &str) -> String {
    let mut command = from.inside(Path::new("dig"));
    command.arg(format!("@{at}")).args("+time=10 +tries=1".split(' ')).args(arguments.split(' '));
    let done = command.output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

/// The records of a zone as `name type value`, in order; empty when it is not given.
fn transfer(from: &Node, at: &str, arguments: &str) -> Vec<String> {
    let text = dig(from, at, &format!("+noall +answer +onesoa {arguments}"));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let records = text.lines().map(words).filter(|w| w.len() > 4 && w[2] == "IN" && w[3] != "TSIG");
    let mut all: Vec<String> = records.map(|w| format!("{} {} {}", w[0], w[3], w[4..].join(" "))).collect();
    all.sort();
    all
}

fn serial(from: &Node, at: &str, transport: &str) -> Option<u32> {
    let text = dig(from, at, &format!("{transport} +noall +answer lab.example SOA"));
    text.split_whitespace().nth(6)?.parse().ok()
}

fn run(node: &Node, method: &str, path: &str, body: &Value) {
    node.api().run(method, path, body).unwrap();
}

fn listen(node: &Node) -> String {
    // Not all addresses: a bridge's own has port 53 taken.
    let address = node.api_address().rsplit_once(':').unwrap().0.to_owned();
    run(node, "PATCH", "/1.0", &json!({"config": {"core.dns_address": address}}));
    address
}

/// Waits until a transfer holds what it should.
fn holds(from: &Node, at: &str, wanted: &str) {
    wait::until_true(&format!("{at} tells of {wanted}"), SOON, || {
        Ok(transfer(from, at, "lab.example AXFR").iter().any(|line| line == wanted))
    })
    .unwrap();
}

#[test]
fn peers_get_the_zone_from_every_member_and_others_nothing() {
    require!(lacks());
    let bed = Testbed::cluster(&Options::fake(3)).unwrap();
    let [first, second, third] = &bed.nodes[..] else { panic!("three nodes") };
    let (at, also) = (listen(first), listen(second));
    let peer = third.api_address().rsplit_once(':').unwrap().0.to_owned();
    let zone = json!({"name": "lab.example", "config": {
        "dns.nameservers": "ns1.example.org.,ns2.example.org.", "peers.third.address": peer, "peers.any.key": SECRET}});
    run(first, "POST", "/1.0/network-zones", &zone);
    run(
        first,
        "POST",
        "/1.0/network-zones",
        &json!({"name": "77.10.in-addr.arpa", "config": {"peers.any.key": SECRET}}),
    );
    let lan = json!({"name": "lan0", "config": {"ipv4.address": "10.77.0.1/24", "ipv6.address": "none",
        "dns.zone.forward": "lab.example", "dns.zone.reverse.ipv4": "77.10.in-addr.arpa"}});
    run(first, "POST", "/1.0/networks", &lan);
    let nic = json!({"eth0": {"type": "nic", "network": "lan0", "ipv4.address": "10.77.0.9"}});
    run(first, "POST", "/1.0/instances", &json!({"name": "web", "source": {"type": "none"}, "devices": nic}));
    let record = json!({"name": "www", "entries": [{"type": "CNAME", "value": "web"}]});
    run(first, "POST", "/1.0/network-zones/lab.example/records", &record);

    holds(third, &at, "www.lab.example. CNAME web.lab.example.");
    holds(third, &also, "www.lab.example. CNAME web.lab.example.");
    let all = transfer(third, &at, "lab.example AXFR");
    let soa = all.iter().find(|line| line.starts_with("lab.example. SOA ns1.example.org. hostmaster.lab.example. "));
    assert!(soa.is_some(), "{all:?}");
    for wanted in [
        "lab.example. NS ns1.example.org.",
        "lab.example. NS ns2.example.org.",
        "lan0.gw.lab.example. A 10.77.0.1",
        "web.lab.example. A 10.77.0.9",
    ] {
        assert!(all.iter().any(|line| line == wanted), "{wanted}: {all:?}");
    }
    let without = |all: Vec<String>| all.into_iter().filter(|line| !line.contains(" SOA ")).collect::<Vec<_>>();
    assert_eq!(without(all.clone()), without(transfer(third, &also, "lab.example AXFR")));
    let changes = transfer(third, &at, "lab.example IXFR=1");
    assert_eq!(without(all.clone()), without(changes), "what has changed is answered with the whole");
    let now = serial(third, &at, "+notcp").expect("an answer over UDP");
    assert_eq!(serial(third, &at, "+tcp"), Some(now));

    // The second node's address is nobody's peer; with the key it is one, of both zones.
    for question in ["lab.example AXFR", "lab.example SOA", "nonesuch.example AXFR", "77.10.in-addr.arpa AXFR"] {
        let text = dig(second, &at, question);
        assert!(text.contains("REFUSED") || text.contains("Transfer failed"), "{question}: {text}");
        assert!(!text.contains("10.77.0"), "{question}: {text}");
    }
    let signed = |key: &str, question: &str| format!("-y hmac-sha256:{key} {question}");
    let found = transfer(second, &at, &signed(&format!("lab.example_any:{SECRET}"), "lab.example AXFR"));
    assert_eq!(found, all, "signed with the key of the zone");
    let back = signed(&format!("77.10.in-addr.arpa_any:{SECRET}"), "77.10.in-addr.arpa AXFR");
    wait::until("the other zone's book", SOON, || {
        let found = transfer(second, &at, &back);
        anyhow::ensure!(found.iter().any(|line| line == "9.0.77.10.in-addr.arpa. PTR web.lab.example."), "{found:?}");
        Ok(Some(()))
    })
    .unwrap();
    for wrong in ["lab.example_any:Z3Vlc3M=", "lab.example_nobody:c2VjcmV0", "77.10.in-addr.arpa_any:c2VjcmV0"] {
        assert_eq!(transfer(second, &at, &signed(wrong, "lab.example AXFR")), Vec::<String>::new(), "{wrong}");
    }

    // What changes is told, with a serial that grows; what ends is no longer told.
    run(
        first,
        "PATCH",
        "/1.0/network-zones/lab.example/records/www",
        &json!({"entries": [{"type": "TXT", "value": "x"}]}),
    );
    holds(third, &at, "www.lab.example. TXT \"x\"");
    assert!(serial(third, &at, "+notcp").unwrap() > now);
    run(first, "PATCH", "/1.0", &json!({"config": {"core.dns_address": ""}}));
    wait::until_true("nobody listens any more", SOON, || Ok(serial(third, &at, "+tcp").is_none())).unwrap();
    assert!(serial(third, &also, "+tcp").is_some(), "the key was the first member's own");
    second.restart().unwrap();
    holds(third, &also, "www.lab.example. TXT \"x\"");
}

/// A guest on a bridge has its address from DHCP, which only its host knows.
#[test]
fn addresses_from_dhcp_are_told_by_every_member() {
    require!(facility::containers().or_else(lacks));
    let bed = Testbed::cluster(&Options::real(2)).unwrap();
    let [first, second] = &bed.nodes[..] else { panic!("two nodes") };
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    first.basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    let at = listen(first);
    let peer = second.api_address().rsplit_once(':').unwrap().0.to_owned();
    let zone = json!({"name": "lab.example", "config": {"peers.second.address": peer}});
    run(first, "POST", "/1.0/network-zones", &zone);
    run(first, "PATCH", "/1.0/networks/basaltbr0", &json!({"config": {"dns.zone.forward": "lab.example"}}));
    // On the other node: the first has to be told.
    let target = format!("--target={}", second.name);
    first.basalt(&["launch", "busybox", "c1", &target]).unwrap();
    let told =
        || transfer(second, &at, "lab.example AXFR").into_iter().find(|line| line.starts_with("c1.lab.example. A "));
    let line = wait::until("c1 is told", SOON, || Ok(told())).unwrap();
    let address = line.rsplit(' ').next().unwrap();
    let shown = first.basalt(&["exec", "c1", "--", "ip", "-4", "addr", "show", "eth0"]).unwrap();
    assert!(shown.contains(&format!("inet {address}/")), "{line}: {shown}");
    first.basalt(&["delete", "-f", "c1"]).unwrap();
    wait::until_true("c1 is told no more", SOON, || Ok(told().is_none())).unwrap();
}
