//! Networks to make rows of: random ones, and one that is always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use basalt_model::device::Rates;
use basalt_model::network::acl::{Action, Direction, Rule, RuleState, terms};
use basalt_model::network::balance::{HealthCheck, Transport};
use basalt_model::{AclKey, AclName, InProject, Mac, NetworkKey, NetworkName, PeerName, SetKey, SetName};
use basalt_ovn::nb::{Rows, Value};
use basalt_ovn::topology::facts::{
    self, Facts, Guard, Joined, List, Listener, Mode6, Network, Outside, Port, Said, Set,
};
use proptest::prelude::*;

fn port(net: u8) -> impl Strategy<Value = Port> {
    (0u8..6, 0u8..2, any::<bool>(), any::<bool>(), 0u8..3, any::<bool>()).prop_map(
        move |(n, device, v4, v6, home, routed)| Port {
            name: format!("basalt-net{net}-instance-{n}-eth{device}"),
            key: format!("{n}/eth{device}"),
            host: format!("Host{}", n % 4),
            mac: Mac([2, 0, 0, net, n, device]),
            ipv4: v4.then(|| [10, 0, net, 10 + n].into()),
            ipv6: v6.then(|| [0xfd42, 0, net.into(), 0, 0, 0, 0, 10 + u16::from(n)].into()),
            routes: if routed { vec![format!("10.9{n}.{net}.0/24").parse().unwrap()] } else { Vec::new() },
            proxied: if routed { [[198, 51, net, n].into()].into() } else { BTreeSet::new() },
            chassis: if home == 0 { Vec::new() } else { vec![format!("chassis{home}")] },
            secured: n % 3 != 0,
            isolated: n % 2 == 0,
            rates: Rates { ingress: (n == 1).then_some(10_000_000), egress: v6.then_some(1_500), priority: None },
            guard: (device == 0).then(|| guard(n)),
        },
    )
}

fn guard(n: u8) -> Guard {
    let lists = [["web"], ["db"]][usize::from(n % 2)].map(list);
    Guard { lists: lists.into(), ingress: (Action::Reject, n.is_multiple_of(3)), egress: (Action::Allow, false) }
}

/// What a list of the default project is found by.
pub(crate) fn list(name: &str) -> AclKey {
    InProject::in_default(AclName::new(name).unwrap())
}

/// The same of an address set.
pub(crate) fn set(name: &str) -> SetKey {
    InProject::in_default(SetName::new(name).unwrap())
}

/// The same of a network.
pub(crate) fn called(name: &str) -> NetworkKey {
    InProject::in_default(NetworkName::new(name).unwrap())
}

fn lists(logged: bool) -> BTreeMap<AclKey, List> {
    let said = |direction, source: &str| {
        let none = String::new();
        let rule = Rule {
            action: Action::Drop,
            state: RuleState::Enabled,
            description: none.clone(),
            source: source.into(),
            destination: none.clone(),
            protocol: none.clone(),
            source_port: none.clone(),
            destination_port: none.clone(),
            icmp_type: none.clone(),
            icmp_code: none,
        };
        let terms = terms(&rule, direction).unwrap();
        Said { index: 0, direction, action: Action::Drop, logged, terms }
    };
    let rules = vec![said(Direction::Ingress, "db,@external,$office"), said(Direction::Egress, "10.0.0.0/8")];
    let all = [("web", 1, rules), ("db", 2, Vec::new())];
    let list = |(name, number, rules): (&str, u32, Vec<Said>)| List { name: list(name), number, rules };
    all.into_iter().map(list).map(|list| (list.name.clone(), list)).collect()
}

fn sets(more: bool) -> BTreeMap<SetKey, Set> {
    let nets = ["192.0.2.9/32", "2001:db8::/32"].into_iter().take(1 + usize::from(more));
    let nets = nets.map(|net| net.parse().unwrap()).collect();
    [(set("office"), Set { number: 1, nets })].into()
}

fn listeners(net: u8, by: u32) -> Vec<Listener> {
    let target = |n: u8| [10, 0, net, 10 + n].into();
    let check = by.is_multiple_of(2).then_some(HealthCheck {
        interval: by % 7 + 1,
        timeout: 9,
        success_count: 1,
        failure_count: 2,
    });
    let ports = vec![
        (Transport::Tcp, 80, vec![(target(1), 80), (target(2), 8080)]),
        (Transport::Udp, 53, vec![(target(1), 53)]),
    ];
    vec![Listener {
        address: [192, 0, 2, 100 + net].into(),
        rest: by.is_multiple_of(3).then(|| target(3)),
        ports,
        check,
        answered: by.is_multiple_of(5),
    }]
}

fn joined(net: &Network) -> Joined {
    Joined {
        name: PeerName::new("p").unwrap(),
        number: net.number,
        gateway4: net.gateway4.map(|net| net.addr()),
        gateway6: net.gateway6.map(|net| net.addr()),
        subnets: net.subnets().collect(),
    }
}

fn outside(net: u8) -> impl Strategy<Value = Outside> {
    let chassis = proptest::collection::btree_set(0u8..5, 0..4);
    (0u8..3, any::<bool>(), chassis).prop_map(move |(uplink, nat, chassis)| {
        let inside = format!("10.0.{net}.0/24").parse().unwrap();
        Outside {
            uplink: format!("UPLINK{uplink}"),
            addresses: vec![format!("192.0.2.{}/24", 10 + net).parse().unwrap()],
            next_hops: vec![[192, 0, 2, 1].into()],
            snat: if nat { vec![(inside, [192, 0, 2, 10 + net].into())] } else { Vec::new() },
            chassis: facts::priorities(&format!("basalt-net{net}"), chassis.iter().map(|n| format!("chassis{n}"))),
        }
    })
}

fn network(number: u8) -> impl Strategy<Value = Network> {
    let ports = proptest::collection::vec(port(number), 0..6);
    let mode = prop_oneof![Just(Mode6::Slaac), Just(Mode6::Stateless), Just(Mode6::Stateful)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (proptest::option::of(outside(number)), ports, mode, flags, 1280u32..1500).prop_map(
        move |(outside, mut ports, mode6, (v4, v6, dhcp), mtu)| {
            let mut seen = BTreeSet::new();
            ports.retain(|port| seen.insert(port.key.clone()));
            Network {
                number: number.into(),
                name: called(&format!("net-{number}")),
                mac: Mac([2, 0, 0, 0, 0, number]),
                gateway4: v4.then(|| format!("10.0.{number}.1/24").parse().unwrap()),
                gateway6: v6.then(|| format!("fd42:0:{number:x}::1/64").parse().unwrap()),
                lease4: dhcp.then_some(3600),
                mode6,
                mtu,
                domain: "basalt".into(),
                search: Vec::new(),
                resolvers: Vec::new(),
                listeners: if outside.is_some() { listeners(number, mtu) } else { Vec::new() },
                outside,
                ports,
                peers: Vec::new(),
            }
        },
    )
}

pub(crate) fn facts() -> impl Strategy<Value = Facts> {
    let some = |number| proptest::option::weighted(0.7, network(number));
    (some(1), some(2), some(3), any::<bool>()).prop_map(|(a, b, c, logged)| {
        let mut networks: Vec<Network> = [a, b, c].into_iter().flatten().collect();
        if let [first, second, ..] = networks.as_mut_slice() {
            (first.peers, second.peers) = (vec![joined(second)], vec![joined(first)]);
        }
        Facts { networks, lists: lists(logged), sets: sets(logged) }
    })
}

/// An instance's interface on a network.
pub(crate) fn instance(net: u8, n: u8) -> Port {
    Port {
        name: format!("basalt-net{net}-instance-{n}-eth0"),
        key: format!("{n}/eth0"),
        host: format!("c{n}"),
        mac: Mac([0, 0x16, 0x3e, 0, net, n]),
        ipv4: Some([10, 7, 0, n].into()),
        ipv6: Some([0xfd42, 7, 0, 0, 0, 0, 0, n.into()].into()),
        routes: Vec::new(),
        proxied: BTreeSet::new(),
        chassis: vec![format!("chassis{}", n % 3)],
        secured: true,
        isolated: false,
        rates: Rates::default(),
        guard: None,
    }
}

/// A network with all that a network can have.
pub(crate) fn example() -> Facts {
    let mut router = instance(7, 3);
    router.isolated = true;
    router.rates = Rates { ingress: Some(10_000_000), egress: Some(20_000_000_000), priority: None };
    router.routes = vec!["10.70.0.0/24".parse().unwrap()];
    let network = Network {
        number: 7,
        name: called("blue"),
        mac: "02:00:00:00:00:07".parse().unwrap(),
        gateway4: Some("10.7.0.1/24".parse().unwrap()),
        gateway6: Some("fd42:7::1/64".parse().unwrap()),
        lease4: Some(3600),
        mode6: Mode6::Stateful,
        mtu: 1442,
        domain: "basalt".into(),
        search: vec!["basalt".into(), "example.org".into()],
        resolvers: vec!["192.0.2.53".parse().unwrap()],
        outside: Some(Outside {
            uplink: "UPLINK".into(),
            addresses: vec!["192.0.2.10/24".parse().unwrap(), "2001:db8::10/64".parse().unwrap()],
            next_hops: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            snat: vec![
                ("10.7.0.0/24".parse().unwrap(), "192.0.2.10".parse().unwrap()),
                ("fd42:7::/64".parse().unwrap(), "2001:db8::10".parse().unwrap()),
            ],
            chassis: facts::priorities("basalt-net7", ["chassis1".into(), "chassis2".into()]),
        }),
        ports: vec![instance(7, 2), router],
        listeners: Vec::new(),
        peers: Vec::new(),
    };
    Facts { networks: vec![network], ..Facts::default() }
}

/// Rows for people.
#[allow(dead_code, reason = "shared with a test that shows none")]
pub(crate) fn shown(rows: &Rows) -> String {
    let mut text = String::new();
    for (id, row) in rows.iter() {
        writeln!(text, "{} {}", id.table.name(), id.key).unwrap();
        for column in id.table.columns().iter().filter(|c| c.name != "external_ids") {
            match row.value(column.name) {
                Some(Value::Plain(datum)) => {
                    writeln!(text, "    {}: {}", column.name, serde_json::to_string(datum).unwrap()).unwrap();
                }
                Some(Value::Refs(keys)) => {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    writeln!(text, "    {} -> {}", column.name, keys.join(" ")).unwrap();
                }
                None => {}
            }
        }
    }
    text
}
