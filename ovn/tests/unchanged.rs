//! What a pass costs when nothing has changed, and that a hand in the rows is seen all the same.
#![allow(clippy::unwrap_used)]

#[path = "reconcile/world.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use basalt_model::{ClusterState, StateView, Version};
use basalt_ovn::diff::Fault;
use basalt_ovn::fake::FakeNorthbound;
use basalt_ovn::nb::{Rows, Table};
use basalt_ovn::northbound::{Look, Northbound, Snapshot};
use basalt_ovn::ovsdb::op::{OpResult, Operation};
use basalt_ovn::ovsdb::value::Row;
use basalt_ovn::reconcile::Reconciler;
use basalt_ovn::topology::{self, Desired};
use basalt_ovn::{Error, marker};
use uuid::Uuid;

const OURS: Uuid = Uuid::from_u128(0xba5a17);

/// A database that counts how often its switches are looked at: each comparison does once.
#[derive(Debug, Default)]
struct Counting {
    db: FakeNorthbound,
    looks: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Counted {
    tables: Arc<dyn Look>,
    looks: Arc<AtomicUsize>,
}

impl Look for Counted {
    fn each<'a>(&'a self, table: Table, take: &mut dyn FnMut(Uuid, &'a Row)) {
        if table == Table::LogicalSwitch {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        self.tables.each(table, take);
    }
}

#[async_trait]
impl Northbound for Counting {
    fn snapshot(&self) -> Result<Snapshot, Error> {
        let snapshot = self.db.snapshot()?;
        let tables = Arc::new(Counted { tables: snapshot.tables, looks: Arc::clone(&self.looks) });
        Ok(Snapshot { tables, ..snapshot })
    }

    async fn transact(&self, from: &Snapshot, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error> {
        self.db.transact(from, operations).await
    }

    async fn changed(&self, version: Option<u64>) {
        self.db.changed(version).await;
    }
}

impl Counting {
    /// A pass of the leader of term 3: transactions and comparisons it took.
    async fn pass(&self, reconciler: &mut Reconciler, desired: &Arc<Rows>) -> (u64, usize) {
        let before = self.looks.load(Ordering::Relaxed);
        let pass = reconciler.pass(self, Arc::clone(desired), 3).await.unwrap();
        assert_eq!(pass.refused, []);
        (pass.transactions, self.looks.load(Ordering::Relaxed) - before)
    }
}

fn example() -> Arc<Rows> {
    Arc::new(topology::rows(OURS, &world::example()))
}

#[tokio::test]
async fn nothing_is_compared_while_neither_side_has_changed() {
    let (db, mut reconciler, desired) = (Counting::default(), Reconciler::new(OURS), example());
    assert_eq!(db.pass(&mut reconciler, &desired).await.0, 1);
    assert_eq!(db.pass(&mut reconciler, &desired).await, (0, 1), "what was written is looked at");
    assert_eq!(db.pass(&mut reconciler, &desired).await, (0, 0));
    // Equal rows, worked out anew.
    assert_eq!(db.pass(&mut reconciler, &example()).await, (0, 0));
    let mut more = world::example();
    more.networks[0].ports.push(world::instance(7, 9));
    let more = Arc::new(topology::rows(OURS, &more));
    assert_eq!(db.pass(&mut reconciler, &more).await, (1, 1));
}

#[tokio::test]
async fn a_row_altered_behind_our_back_is_healed_after_any_number_of_quiet_passes() {
    let (db, mut reconciler, desired) = (Counting::default(), Reconciler::new(OURS), example());
    for _ in 0..3 {
        db.pass(&mut reconciler, &desired).await;
    }
    let hand = |tables: &mut basalt_ovn::fake::Tables| {
        let port = tables.get_mut(&Table::LogicalSwitchPort).unwrap().values_mut().next().unwrap();
        port.insert("enabled".into(), false.into());
    };
    db.db.damage(hand).unwrap();
    let pass = reconciler.pass(&db, desired.clone(), 3).await.unwrap();
    assert_eq!((pass.transactions, pass.repairs), (1, [(Fault::Altered, 1)].into()));
    assert_eq!(db.pass(&mut reconciler, &desired).await, (0, 1));
    assert_eq!(db.pass(&mut reconciler, &desired).await, (0, 0));
}

#[tokio::test]
async fn another_leader_is_noticed_though_no_network_has_changed() {
    let (db, mut reconciler, desired) = (Counting::default(), Reconciler::new(OURS), example());
    for _ in 0..3 {
        db.pass(&mut reconciler, &desired).await;
    }
    let found = db.snapshot().unwrap();
    db.db.apply(&marker::claim(OURS, 5, found.marker(OURS))).unwrap();
    assert!(reconciler.pass(&db, desired.clone(), 3).await.is_err());
    // The same member in a later term has a marker to claim.
    let mut later = Reconciler::new(OURS);
    later.pass(&db, desired.clone(), 5).await.unwrap();
    later.pass(&db, desired.clone(), 6).await.unwrap();
    assert_eq!(marker::standing(OURS, 6, db.snapshot().unwrap().marker(OURS)), marker::Standing::Ours);
}

#[test]
fn rows_are_made_anew_only_when_the_state_says_something_else_of_networks() {
    let mut desired = Desired::new(OURS);
    let mut state = ClusterState { cluster_id: OURS, ..ClusterState::default() };
    let view = |version, state: &ClusterState| StateView::new(Version(version), Arc::new(state.clone()));
    let first = desired.look(&view(1, &state));
    assert!(Arc::ptr_eq(&first, &desired.known(Version(1)).unwrap()));
    assert!(desired.known(Version(2)).is_none());
    state.feature_level += 1;
    assert!(Arc::ptr_eq(&first, &desired.look(&view(2, &state))));
    let name = basalt_model::NetworkName::new("inside").unwrap();
    let kind = basalt_model::network::NetworkKind::Ovn;
    let network = basalt_model::network::Network { number: 1, ..basalt_model::network::Network::new(name, kind) };
    state.networks.insert(network.id(), network);
    let more = desired.look(&view(3, &state));
    assert!(more.len() > first.len());
    assert_eq!(*more, topology::rows(OURS, &topology::read(&state)));
}
