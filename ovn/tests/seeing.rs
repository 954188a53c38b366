//! What is told of a network, against real databases: northd makes the southbound one of our rows, and ovn-trace says what
//! becomes of packets.
#![allow(clippy::disallowed_methods, reason = "servers and tools of the test's own")]
#![allow(clippy::unwrap_used)]

#[path = "northbound/bed.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod bed;
#[path = "reconcile/world.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod world;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::network::acl::{Action, Direction, Rule, RuleState, terms};
use basalt_ovn::doctor::{Port, Wanted, bindings, rows};
use basalt_ovn::northbound::{LiveNorthbound, Northbound};
use basalt_ovn::reconcile::Reconciler;
use basalt_ovn::southbound::Southbound;
use basalt_ovn::topology::facts::{Facts, Guard, List, Said};
use basalt_ovn::trace::{self, End, Names, Payload, Stuck};
use basalt_ovn::{nb::Rows, topology};
use uuid::Uuid;

use bed::{Central, lacks};

const OURS: Uuid = Uuid::from_u128(0xba5a17);
const TOOLS: &[&str] = &["ovsdb-server", "ovsdb-tool", "ovn-nbctl", "ovn-sbctl", "ovn-northd", "ovn-trace"];

/// The example's network with three interfaces; what comes to the second by telnet is dropped by the list `strict`.
fn facts() -> Facts {
    let mut facts = world::example();
    let net = &mut facts.networks[0];
    net.ports = [2, 3, 4].map(|n| world::instance(7, n)).into();
    let name = world::list("strict");
    let allow = (Action::Allow, false);
    net.ports[1].guard = Some(Guard { lists: [name.clone()].into(), ingress: allow, egress: allow });
    let none = String::new();
    let rule = Rule {
        action: Action::Drop,
        state: RuleState::Enabled,
        description: none.clone(),
        source: none.clone(),
        destination: none.clone(),
        protocol: "tcp".into(),
        source_port: none.clone(),
        destination_port: "23".into(),
        icmp_type: none.clone(),
        icmp_code: none,
    };
    let terms = terms(&rule, Direction::Ingress).unwrap();
    let said = Said { index: 0, direction: Direction::Ingress, action: Action::Drop, logged: false, terms };
    facts.lists.insert(name.clone(), List { name, number: 5, rules: vec![said] });
    facts
}

/// A northbound database that holds the rows, translated.
async fn written(central: &Central, desired: &Rows) -> LiveNorthbound {
    let northbound = LiveNorthbound::connect(vec![central.remote()], None).unwrap();
    while northbound.snapshot().is_err() {
        tokio::time::timeout(Duration::from_secs(20), northbound.changed(None)).await.expect("a database");
    }
    let pass = Reconciler::new(OURS).pass(&northbound, Arc::new(desired.clone()), 1).await.unwrap();
    assert_eq!(pass.refused, []);
    central.nb(&["--wait=sb", "sync"]);
    northbound
}

fn port(n: u8) -> String {
    format!("basalt-net7-instance-{n}-eth0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_are_followed_to_their_end() {
    if lacks(TOOLS) {
        return;
    }
    let mut central = Central::start();
    central.northd();
    let facts = facts();
    let desired = topology::rows(OURS, &facts);
    written(&central, &desired).await;
    let mut names = Names::new(&facts, &desired);
    names.ports.extend([2, 3, 4].map(|n| (port(n), format!("eth0 of c{n}"))));
    let end = |from: u8, to: &str, payload: Payload| {
        let to: IpAddr = to.parse().unwrap();
        let packet = trace::packet(&facts, &port(from), to, payload).unwrap();
        trace::read(&central.program("ovn-trace", &trace::arguments(&packet)), &names)
    };
    let delivered = |n: u8| End::Delivered { port: port(n) };
    assert_eq!(end(2, "10.7.0.4", Payload::Echo).end, delivered(4));
    assert_eq!(end(2, "fd42:7::4", Payload::Tcp(80)).end, delivered(4));
    assert_eq!(end(2, "10.7.0.3", Payload::Tcp(80)).end, delivered(3));
    for to in ["10.7.0.3", "fd42:7::3"] {
        let End::Dropped { by } = end(2, to, Payload::Tcp(23)).end else { panic!("telnet is let in") };
        assert_eq!(by, "switch of blue: ACL strict, ingress rule 0");
    }
    assert_eq!(end(2, "10.7.0.1", Payload::Echo).end, End::Answered);
    assert_eq!(end(2, "fd42:7::1", Payload::Echo).end, End::Answered);
    // Nobody has told yet where the next router is.
    let out = end(2, "198.51.100.1", Payload::Udp(53));
    assert_eq!(out.end, End::Asks { neighbour: "192.0.2.1".into() });
    let steps: Vec<String> = out.steps.iter().map(|step| format!("{}: {}", step.at, step.what)).collect();
    assert_eq!(
        steps[..2],
        ["switch of blue: comes in from eth0 of c2", "router of blue: is routed to the uplink, next hop 192.0.2.1"]
    );
    let nobody = trace::packet(&facts, &port(2), "10.7.0.99".parse().unwrap(), Payload::Echo);
    assert!(matches!(nobody, Err(Stuck::Nobody(_))), "{nobody:?}");
    let own = trace::packet(&facts, &port(2), "10.7.0.2".parse().unwrap(), Payload::Echo);
    assert!(matches!(own, Err(Stuck::Unfit(_))), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_examined() {
    if lacks(TOOLS) {
        return;
    }
    let mut central = Central::start();
    central.northd();
    let desired = topology::rows(OURS, &facts());
    let northbound = written(&central, &desired).await;
    assert_eq!(rows("net7", &desired, &northbound.snapshot().unwrap().actual(OURS)), []);
    central.sb(&["chassis-add", "chassis1", "geneve", "10.0.0.1"]);
    central.sb(&["set", "chassis", "chassis1", "other_config:ovn-bridge-mappings=UPLINK:br-up"]);
    let southbound = Southbound::connect(vec![central.southbound()], None).unwrap();
    let found = southbound.bindings("basalt-net7").await.unwrap();
    let chassis = &found.chassis["chassis1"];
    assert_eq!((&*chassis.mappings["UPLINK"], &*chassis.encaps["geneve"]), ("br-up", "10.0.0.1"));
    assert_eq!((found.ports[&port(2)].chassis.as_deref(), found.gateway("basalt-net7")), (None, None));
    assert!(southbound.bindings("basalt-net9").await.unwrap().ports.is_empty());

    let wanted = Wanted {
        prefix: "basalt-net7".into(),
        uplink: Some("UPLINK".into()),
        gateways: vec!["chassis1".into()],
        ports: vec![Port { name: port(2), label: "eth0 of c2".into(), chassis: vec!["chassis1".into()], runs: true }],
        members: [("chassis1".to_owned(), "node1".to_owned())].into(),
        ..Wanted::default()
    };
    let said: Vec<String> = bindings(&wanted, &found, None).into_iter().map(|finding| finding.what).collect();
    assert!(said.iter().any(|what| what.contains("eth0 of c2 is not plugged in")), "{said:?}");
    assert!(said.iter().any(|what| what.contains("there is no gateway")), "{said:?}");
    // As ovn-controller would.
    for name in [port(2), "cr-basalt-net7-lr-lrp-ext".into()] {
        central.sb(&["lsp-bind", &name, "chassis1"]);
    }
    central.nb(&["--wait=sb", "sync"]);
    central.sb(&["set", "port_binding", &port(2), "up=true"]);
    let found = southbound.bindings("basalt-net7").await.unwrap();
    assert_eq!(found.gateway("basalt-net7"), Some("chassis1"));
    assert_eq!(bindings(&wanted, &found, None), []);

    // Somebody hangs a port of his own into our switch, and takes one of ours away.
    central.nb(&["lsp-add", "basalt-net7-ls-int", "strange", "--", "lsp-del", &port(4)]);
    let wrong = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let snapshot = northbound.snapshot().unwrap();
            let wrong = rows("net7", &desired, &snapshot.actual(OURS));
            if !wrong.is_empty() {
                return wrong;
            }
            northbound.changed(Some(snapshot.version)).await;
        }
    });
    let said: Vec<String> = wrong.await.unwrap().into_iter().map(|finding| finding.what).collect();
    assert!(said.iter().any(|what| what == "rows of Logical_Switch_Port are missing: port/4/eth0"), "{said:?}");
    assert!(said.iter().any(|what| what.starts_with("1 rows of Logical_Switch_Port in ports")), "{said:?}");
}
