//! Access control lists, forwards, load balancers and peerings in a real northbound database: northd makes flows of the
//! rows, and ovn-trace says what becomes of a packet.
#![allow(clippy::disallowed_methods, reason = "servers and tools of the test's own")]
#![allow(clippy::unwrap_used)]
#![allow(clippy::too_many_lines, reason = "a table of packets")]

#[path = "northbound/bed.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod bed;
#[path = "reconcile/world.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::PeerName;
use basalt_model::network::acl::{Action, Direction, Rule, RuleState, terms};
use basalt_model::network::balance::{HealthCheck, Transport};
use basalt_ovn::northbound::{LiveNorthbound, Northbound};
use basalt_ovn::reconcile::Reconciler;
use basalt_ovn::topology;
use basalt_ovn::topology::facts::{Facts, Guard, Joined, List, Listener, Network, Said, Set};
use uuid::Uuid;

use bed::{Central, lacks};

const OURS: Uuid = Uuid::from_u128(0xba5a17);

/// `allow tcp 80 from 10.7.0.0/16`, in the words of rules.
fn said(index: usize, direction: Direction, action: Action, fields: &[(&str, &str)]) -> Said {
    let get = |key: &str| fields.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v).to_owned();
    let rule = Rule {
        action,
        state: RuleState::Enabled,
        description: String::new(),
        source: get("source"),
        destination: get("destination"),
        protocol: get("protocol"),
        source_port: get("source_port"),
        destination_port: get("destination_port"),
        icmp_type: get("icmp_type"),
        icmp_code: get("icmp_code"),
    };
    Said { index, direction, action, logged: index == 0, terms: terms(&rule, direction).unwrap() }
}

fn guard(lists: &[&str], ingress: Action, egress: Action) -> Option<Guard> {
    let lists = lists.iter().map(|name| world::list(name)).collect();
    Some(Guard { lists, ingress: (ingress, false), egress: (egress, true) })
}

/// Networks 7 (blue) and 8 (red), joined. On blue: 2 with list `web`, 3 with `db` and a default that drops, 4 without any.
fn facts() -> Facts {
    use Action::{Allow, AllowStateless, Drop, Reject};
    use Direction::{Egress, Ingress};
    let mut blue: Network = world::example().networks.remove(0);
    blue.resolvers = vec!["192.0.2.53".parse().unwrap()];
    blue.ports = [2, 3, 4].map(|n| world::instance(7, n)).into();
    blue.ports[0].guard = guard(&["web"], Reject, Reject);
    blue.ports[1].guard = guard(&["db"], Drop, Allow);
    let mut red = Network { number: 8, name: world::called("red"), outside: None, ..blue.clone() };
    red.mac = "02:00:00:00:00:08".parse().unwrap();
    (red.gateway4, red.gateway6) = (Some("10.8.0.1/24".parse().unwrap()), None);
    let mut port = world::instance(8, 2);
    (port.ipv4, port.ipv6, port.guard) = (Some([10, 8, 0, 2].into()), None, None);
    red.ports = vec![port];
    let joined = |net: &Network| Joined {
        name: PeerName::new("lab").unwrap(),
        number: net.number,
        gateway4: net.gateway4.map(|net| net.addr()),
        gateway6: net.gateway6.map(|net| net.addr()),
        subnets: net.subnets().collect(),
    };
    (blue.peers, red.peers) = (vec![joined(&red)], vec![joined(&blue)]);
    let targets = vec![([10, 7, 0, 2].into(), 80), ([10, 7, 0, 4].into(), 8080)];
    blue.listeners = vec![
        Listener {
            address: "192.0.2.20".parse().unwrap(),
            rest: None,
            ports: vec![(Transport::Tcp, 80, targets)],
            check: Some(HealthCheck { interval: 5, timeout: 10, success_count: 2, failure_count: 2 }),
            answered: true,
        },
        Listener {
            address: "192.0.2.21".parse().unwrap(),
            rest: Some([10, 7, 0, 4].into()),
            ports: vec![(Transport::Udp, 53, vec![([10, 7, 0, 4].into(), 5353)])],
            check: None,
            answered: true,
        },
    ];
    let web = List {
        name: world::list("web"),
        number: 1,
        rules: vec![
            said(
                0,
                Ingress,
                Allow,
                &[
                    ("source", "10.7.0.0/16,fd42:7::3-fd42:7::9"),
                    ("protocol", "tcp"),
                    ("destination_port", "80,8000-8010"),
                ],
            ),
            said(1, Ingress, Drop, &[("source", "@internal"), ("protocol", "tcp"), ("destination_port", "8005")]),
            said(
                2,
                Ingress,
                AllowStateless,
                &[("source", "@external"), ("protocol", "udp"), ("destination_port", "53")],
            ),
            said(3, Ingress, Allow, &[("source", "db"), ("protocol", "tcp"), ("destination_port", "5432")]),
            said(4, Ingress, Allow, &[("source", "@blue/lab"), ("protocol", "tcp"), ("destination_port", "82")]),
            said(5, Ingress, Allow, &[("protocol", "icmp4"), ("icmp_type", "8"), ("icmp_code", "0")]),
            said(6, Ingress, Reject, &[("source", "10.7.0.4"), ("protocol", "icmp4"), ("icmp_type", "8")]),
            said(7, Ingress, Allow, &[("source", "$office"), ("protocol", "tcp"), ("destination_port", "90")]),
            said(8, Ingress, Allow, &[("source", "$nobody"), ("protocol", "tcp"), ("destination_port", "91")]),
            said(0, Egress, Allow, &[("destination", "@internal"), ("protocol", "tcp"), ("destination_port", "443")]),
            said(1, Egress, Allow, &[("destination", "@external"), ("protocol", "udp"), ("source_port", "1000-2000")]),
        ],
    };
    let db = List { name: world::list("db"), number: 2, rules: Vec::new() };
    let lists = [web, db].into_iter().map(|list| (list.name.clone(), list)).collect();
    let set = |name: &str, number, nets: &[&str]| {
        let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
        (world::set(name), Set { number, nets })
    };
    let office = set("office", 1, &["10.7.0.4/32", "10.9.0.0/16", "fd42:7::4/128"]);
    Facts { networks: vec![blue, red], lists, sets: [office, set("nobody", 2, &[])].into() }
}

/// A packet of interface `from` (network, number) as ovn-trace writes it, to a hardware address.
fn packet((net, n): (u8, u8), to: &str, v4: bool, rest: &str) -> (String, String) {
    let addresses = match (v4, net) {
        (true, _) => format!("ip4.src == 10.{net}.0.{n}"),
        (false, _) => format!("ip6.src == fd42:{net}::{n}"),
    };
    let port = format!("basalt-net{net}-instance-{n}-eth0");
    let mac = format!("00:16:3e:00:{net:02x}:{n:02x}");
    let flow =
        format!("inport == \"{port}\" && eth.src == {mac} && eth.dst == {to} && {addresses} && ip.ttl == 64 && {rest}");
    (format!("basalt-net{net}-ls-int"), flow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_go_where_lists_and_listeners_say() {
    if lacks(&["ovsdb-server", "ovsdb-tool", "ovn-nbctl", "ovn-northd", "ovn-trace"]) {
        return;
    }
    let mut central = Central::start();
    central.northd();
    let northbound = LiveNorthbound::connect(vec![central.remote()], None).unwrap();
    while northbound.snapshot().is_err() {
        tokio::time::timeout(Duration::from_secs(20), northbound.changed(None)).await.expect("a database");
    }
    let mut reconciler = Reconciler::new(OURS);
    let desired = Arc::new(topology::rows(OURS, &facts()));
    let pass = reconciler.pass(&northbound, desired.clone(), 1).await.unwrap();
    assert_eq!(pass.refused, []);
    central.nb(&["--wait=sb", "sync"]);
    let (a, b, c, d) = ("00:16:3e:00:07:02", "00:16:3e:00:07:03", "00:16:3e:00:07:04", "02:00:00:00:00:08");
    let router = "02:00:00:00:00:07";
    let to = |n: u8| format!("output(\"basalt-net7-instance-{n}-eth0\")");
    let red = "output(\"basalt-net8-instance-2-eth0\")".to_owned();
    let cases = [
        ("allow, of the network", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 80"), to(2), true),
        ("allow, of a range in IPv6", packet((7, 4), a, false, "ip6.dst == fd42:7::2 && tcp.dst == 8000"), to(2), true),
        ("drop is above allow", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 8005"), to(2), false),
        ("nothing said: default", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 22"), to(2), false),
        (
            "who may send what they like may not come everywhere",
            packet((7, 3), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 22"),
            to(2),
            false,
        ),
        (
            "stateless is only for what is outside",
            packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && udp.dst == 53"),
            to(2),
            false,
        ),
        (
            "stateless, from beyond the router",
            packet((8, 2), d, true, "ip4.dst == 10.7.0.2 && udp.dst == 53"),
            to(2),
            true,
        ),
        ("who has the list", packet((7, 3), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 5432"), to(2), true),
        ("who has not", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 5432"), to(2), false),
        ("over the peering", packet((8, 2), d, true, "ip4.dst == 10.7.0.2 && tcp.dst == 82"), to(2), true),
        ("the same from here", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 82"), to(2), false),
        (
            "a kind of ICMP",
            packet((7, 3), a, true, "ip4.dst == 10.7.0.2 && icmp4.type == 8 && icmp4.code == 0"),
            to(2),
            true,
        ),
        (
            "reject is above allow",
            packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && icmp4.type == 8 && icmp4.code == 0"),
            to(2),
            false,
        ),
        ("default that drops", packet((7, 4), b, true, "ip4.dst == 10.7.0.3 && tcp.dst == 80"), to(3), false),
        ("default that allows", packet((7, 3), c, true, "ip4.dst == 10.7.0.4 && tcp.dst == 80"), to(4), true),
        ("no lists at all", packet((8, 2), d, true, "ip4.dst == 10.7.0.4 && tcp.dst == 9"), to(4), true),
        ("out, allowed", packet((7, 2), c, true, "ip4.dst == 10.7.0.4 && tcp.dst == 443"), to(4), true),
        ("out, default", packet((7, 2), c, true, "ip4.dst == 10.7.0.4 && tcp.dst == 80"), to(4), false),
        (
            "out, to what is outside",
            packet((7, 2), router, true, "ip4.dst == 10.8.0.2 && udp.src == 1500 && udp.dst == 9"),
            red.clone(),
            true,
        ),
        (
            "out, to what is not outside",
            packet((7, 2), c, true, "ip4.dst == 10.7.0.4 && udp.src == 1500 && udp.dst == 9"),
            to(4),
            false,
        ),
        (
            "out, to what is not outside, in IPv6",
            packet((7, 2), c, false, "ip6.dst == fd42:7::4 && udp.src == 1500 && udp.dst == 9"),
            to(4),
            false,
        ),
        ("out, within, in IPv6", packet((7, 2), c, false, "ip6.dst == fd42:7::4 && tcp.dst == 443"), to(4), true),
        (
            "out, of another port",
            packet((7, 2), router, true, "ip4.dst == 10.8.0.2 && udp.src == 999 && udp.dst == 9"),
            red,
            false,
        ),
        ("a forward, from inside", packet((7, 3), router, true, "ip4.dst == 192.0.2.21 && udp.dst == 53"), to(4), true),
        (
            "the rest of a forward",
            packet((7, 3), router, true, "ip4.dst == 192.0.2.21 && tcp.dst == 2222"),
            to(4),
            true,
        ),
        ("in the set", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 90"), to(2), true),
        ("in the set, in IPv6", packet((7, 4), a, false, "ip6.dst == fd42:7::2 && tcp.dst == 90"), to(2), true),
        ("not in the set", packet((7, 3), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 90"), to(2), false),
        ("a set of nobody", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 91"), to(2), false),
        ("spoofed", packet((7, 4), a, true, "ip4.dst == 10.7.0.2 && tcp.dst == 80").spoofed(), to(2), false),
    ];
    let mut wrong = Vec::new();
    for (what, (datapath, flow), output, passes) in cases {
        let trace = central.trace(&datapath, &flow);
        if trace.contains(&output) != passes {
            wrong.push(format!("{what}: {flow}\n{trace}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let checks = central.sb(&["--bare", "--columns=ip", "list", "Service_Monitor"]);
    let checked: BTreeSet<&str> = checks.split_whitespace().collect();
    assert_eq!(checked, ["10.7.0.2", "10.7.0.4"].into());
    let complaints: Vec<String> =
        central.complaints().into_iter().filter(|line| !line.contains("Unknown chassis")).collect();
    assert_eq!(complaints, Vec::<String>::new());
    // All of it goes again.
    let none = Arc::new(topology::rows(OURS, &Facts::default()));
    reconciler.pass(&northbound, none, 1).await.unwrap();
    for table in ["ACL", "Load_Balancer", "Port_Group", "Logical_Router_Port"] {
        assert_eq!(central.nb(&["--bare", "--columns=_uuid", "list", table]).trim(), "", "{table}");
    }
}

trait Spoofed {
    fn spoofed(self) -> Self;
}

impl Spoofed for (String, String) {
    /// The same with the source address of another.
    fn spoofed(self) -> Self {
        (self.0, self.1.replace("ip4.src == 10.7.0.4", "ip4.src == 10.7.0.9"))
    }
}
