//! The reconciler against a real northbound database, with people at `ovn-nbctl` beside it, and what northd makes of it.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "servers and tools of the test's own")]

#[path = "northbound/bed.rs"]
mod bed;
#[path = "reconcile/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use basalt_ovn::diff::{Fault, diff};
use basalt_ovn::fake::{FakeNorthbound, Mood};
use basalt_ovn::marker;
use basalt_ovn::nb::Rows;
use basalt_ovn::northbound::{LiveNorthbound, Northbound};
use basalt_ovn::ovsdb::op::Operation;
use basalt_ovn::ovsdb::value::Row;
use basalt_ovn::reconcile::{Pass, Reconciler, Stopped};
use basalt_ovn::topology;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use bed::{Central, facts_of, lacks};

const OURS: Uuid = Uuid::from_u128(0xba5a17);

fn example() -> Arc<Rows> {
    Arc::new(topology::rows(OURS, &world::example()))
}

fn connect(central: &Central) -> LiveNorthbound {
    LiveNorthbound::connect(vec![central.remote()], None).unwrap()
}

/// Waits until the database can be read.
async fn there(northbound: &dyn Northbound) {
    while northbound.snapshot().is_err() {
        tokio::time::timeout(Duration::from_secs(20), northbound.changed(None)).await.expect("a database");
    }
}

/// Passes until there is nothing to do; what they did together.
async fn settle(reconciler: &mut Reconciler, northbound: &dyn Northbound, desired: &Arc<Rows>) -> Pass {
    let mut all = Pass::default();
    for _ in 0..5 {
        let pass = reconciler.pass(northbound, desired.clone(), 3).await.unwrap();
        assert_eq!(pass.refused, []);
        if pass.transactions == 0 {
            return all;
        }
        all.transactions += pass.transactions;
        for (fault, count) in pass.repairs {
            *all.repairs.entry(fault).or_default() += count;
        }
    }
    let snapshot = northbound.snapshot().unwrap();
    panic!("there is always something left to do: {all:?}\n{:#?}", diff(desired, &snapshot.actual(OURS)));
}

/// Somebody's hand in the rows, until it is seen.
async fn lend(central: &Central, live: &LiveNorthbound, hand: &[&str]) {
    let before = live.snapshot().unwrap().version;
    central.nb(hand);
    tokio::time::timeout(Duration::from_secs(5), live.changed(Some(before))).await.expect("the hand is seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hands_in_our_rows_are_undone_and_strangers_left_alone() {
    if lacks(&["ovsdb-server", "ovsdb-tool", "ovn-nbctl"]) {
        return;
    }
    let central = Central::start();
    central.nb(&["ls-add", "theirs", "--", "lsp-add", "theirs", "their-port", "--", "lr-add", "their-router"]);
    let live = connect(&central);
    there(&live).await;
    let (mut reconciler, desired) = (Reconciler::new(OURS), example());
    assert_eq!(settle(&mut reconciler, &live, &desired).await.transactions, 1);
    let made = facts_of(&live, OURS);

    // Somebody's NAT on our router: not ours to judge.
    central.nb(&["lr-nat-add", "basalt-net7-lr", "dnat_and_snat", "192.0.2.77", "10.7.0.77"]);
    let lr = "basalt-net7-lr";
    let tag = format!("external_ids:basalt_owner={OURS}");
    let hands: &[(&[&str], &[Fault])] = &[
        (&["lsp-del", "basalt-net7-instance-2-eth0"], &[Fault::Missing]),
        (&["ls-del", "basalt-net7-ls-int"], &[Fault::Missing]),
        (&["lsp-set-addresses", "basalt-net7-instance-2-eth0", "unknown"], &[Fault::Altered]),
        (&["lsp-set-port-security", "basalt-net7-instance-2-eth0"], &[Fault::Altered]),
        (&["lsp-set-enabled", "basalt-net7-instance-2-eth0", "disabled"], &[Fault::Altered]),
        (&["lsp-set-dhcpv4-options", "basalt-net7-instance-2-eth0"], &[Fault::Reference]),
        (&["clear", "Logical_Switch_Port", "basalt-net7-instance-3-eth0", "external_ids"], &[Fault::Altered]),
        (&["clear", "Logical_Switch", "basalt-net7-ls-int", "external_ids"], &[Fault::Altered]),
        (&["clear", "Port_Group", "basalt_net7", "ports"], &[Fault::Reference]),
        (&["pg-del", "basalt_net7"], &[Fault::Missing]),
        (&["lr-route-del", lr, "0.0.0.0/0"], &[Fault::Missing]),
        (&["lr-nat-del", lr, "snat", "10.7.0.0/24"], &[Fault::Missing]),
        (&["lr-policy-del", lr, "500"], &[Fault::Missing]),
        (&["lrp-set-enabled", "basalt-net7-lr-lrp-int", "disabled"], &[Fault::Altered]),
        (&["ha-chassis-group-remove-chassis", "basalt-net7", "chassis1"], &[Fault::Missing]),
        (&["destroy", "Address_Set", "basalt_net7_routes_ip4"], &[Fault::Missing]),
        (&["--all", "destroy", "DNS"], &[Fault::Missing]),
        (&["--all", "destroy", "DHCP_Options"], &[Fault::Missing]),
        (&["create", "Address_Set", "name=leaked", &tag, "external_ids:basalt_key=net9/leaked"], &[Fault::Surplus]),
        (
            &[
                "lsp-add",
                "basalt-net7-ls-int",
                "leaked",
                "--",
                "set",
                "Logical_Switch_Port",
                "leaked",
                &tag,
                "external_ids:basalt_key=net7/port/gone",
            ],
            &[Fault::Surplus],
        ),
        (&["lr-del", lr], &[Fault::Missing]),
    ];
    for (hand, faults) in hands {
        lend(&central, &live, hand).await;
        let pass = settle(&mut reconciler, &live, &desired).await;
        assert_eq!(facts_of(&live, OURS), made, "{hand:?}");
        assert!(faults.iter().all(|fault| pass.repairs.contains_key(fault)), "{hand:?}: {pass:?}");
        if hand[0] == "ls-del" {
            assert_eq!(pass.repairs[&Fault::Missing], 6, "the switch, its three ports, and the limits of one");
        }
    }
    let theirs = central.nb(&["show", "theirs"]) + &central.nb(&["lr-list"]);
    assert!(theirs.contains("their-port") && theirs.contains("their-router"), "{theirs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_row_in_our_router_stays_as_long_as_the_router() {
    if lacks(&["ovsdb-server", "ovsdb-tool", "ovn-nbctl"]) {
        return;
    }
    let central = Central::start();
    let live = connect(&central);
    there(&live).await;
    let (mut reconciler, desired) = (Reconciler::new(OURS), example());
    settle(&mut reconciler, &live, &desired).await;
    lend(&central, &live, &["lr-nat-add", "basalt-net7-lr", "dnat_and_snat", "192.0.2.77", "10.7.0.77"]).await;
    lend(&central, &live, &["lr-route-del", "basalt-net7-lr", "0.0.0.0/0"]).await;
    assert!(settle(&mut reconciler, &live, &desired).await.transactions > 0);
    assert!(central.nb(&["lr-nat-list", "basalt-net7-lr"]).contains("192.0.2.77"));
    settle(&mut reconciler, &live, &Arc::new(Rows::new(OURS))).await;
    let left = central.nb(&["lr-list"]) + &central.nb(&["ls-list"]) + &central.nb(&["list", "NAT"]);
    assert!(!left.contains("basalt") && !left.contains("192.0.2.77"), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_leader_has_on_its_way_comes_too_late() {
    if lacks(&["ovsdb-server", "ovsdb-tool", "ovn-nbctl"]) {
        return;
    }
    let central = Central::start();
    let (first, second) = (connect(&central), connect(&central));
    there(&first).await;
    there(&second).await;
    let (mut old, mut new) = (Reconciler::new(OURS), Reconciler::new(OURS));
    old.pass(&first, example(), 3).await.unwrap();
    // A transaction of the old leader's that is on its way.
    let row = Row::from([("name".into(), "late".into())]);
    let late = vec![marker::guard(OURS, 3), Operation::insert("Logical_Switch", row)];
    let from = first.snapshot().unwrap();
    assert_eq!(new.pass(&second, example(), 5).await.unwrap().transactions, 0, "claimed, though all is well");
    assert!(first.transact(&from, late).await.unwrap_err().is_conflict());
    assert!(!central.nb(&["ls-list"]).contains("late"));
    first.changed(Some(from.version)).await;
    let nothing = Arc::new(Rows::new(OURS));
    assert_eq!(old.pass(&first, nothing, 3).await, Err(Stopped::Superseded { term: 5 }));
    assert!(central.nb(&["ls-list"]).contains("basalt-net7-ls-int"));
}

/// What the database in memory lets through the real one does too, and both hold the same after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fake_is_like_the_real_one() {
    if lacks(&["ovsdb-server", "ovsdb-tool"]) {
        return;
    }
    let central = Central::start();
    let (live, fake) = (connect(&central), FakeNorthbound::new());
    there(&live).await;
    let (mut real, mut faked) = (Reconciler::new(OURS), Reconciler::new(OURS));
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let facts = world::facts().new_tree(&mut runner).unwrap().current();
        let desired = Arc::new(topology::rows(OURS, &facts));
        let done = settle(&mut real, &live, &desired).await;
        assert_eq!(done, settle(&mut faked, &fake, &desired).await);
        assert_eq!(facts_of(&live, OURS), facts_of(&fake, OURS));
    }
}

#[tokio::test]
async fn a_lost_answer_is_no_second_row() {
    let fake = FakeNorthbound::new();
    let mut reconciler = Reconciler::new(OURS);
    fake.mood(Mood::Mute);
    let lost = reconciler.pass(&fake, example(), 3).await;
    assert!(matches!(lost, Err(Stopped::Northbound(_))), "{lost:?}");
    let lost = reconciler.pass(&fake, example(), 3).await;
    assert!(
        matches!(lost, Err(Stopped::Northbound(_))),
        "the marker is there, the answer about the rows is lost: {lost:?}"
    );
    fake.mood(Mood::Away);
    assert!(matches!(reconciler.pass(&fake, example(), 3).await, Err(Stopped::Northbound(_))));
    fake.mood(Mood::Well);
    let before = fake.transactions();
    assert_eq!(reconciler.pass(&fake, example(), 3).await.unwrap(), Pass::default());
    assert_eq!(fake.transactions(), before);
}

/// northd takes the rows without a complaint, and makes of them what they are meant for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn northd_understands_the_rows() {
    if lacks(&["ovsdb-server", "ovsdb-tool", "ovn-nbctl", "ovn-northd", "ovn-sbctl"]) {
        return;
    }
    let mut central = Central::start();
    central.northd();
    let live = connect(&central);
    there(&live).await;
    settle(&mut Reconciler::new(OURS), &live, &example()).await;
    central.nb(&["--wait=sb", "--timeout=30", "sync"]);
    let flows = central.sb(&["lflow-list"]);
    for wanted in [
        "put_dhcp_opts(offerip = 10.7.0.2",
        "put_dhcpv6_opts(",
        "put_nd_ra_opts(",
        "ct_snat(192.0.2.10)",
        "inport == \"basalt-net7-lr-lrp-int\" && ip4.src == $basalt_net7_routes_ip4",
    ] {
        assert!(flows.contains(wanted), "{wanted}");
    }
    assert!(central.sb(&["list", "DNS"]).contains("c2.basalt"));
    let mut complaints = central.complaints();
    // There is none in this test.
    complaints.retain(|line| !line.contains("Unknown chassis"));
    assert!(complaints.is_empty(), "{complaints:#?}");
}
