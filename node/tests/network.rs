//! The network controller on a cluster of one without consensus, over a northbound database in memory, or a real one.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "servers and tools of the test's own")]

#[path = "../../ovn/tests/northbound/bed.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod bed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::{ClusterCommand, FEATURE_LEVEL, Init, InstanceCommand, NetworkCommand, PoolCommand};
use basalt_model::instance::{Instance, Intent, Kind, Origin, Placement, Run, Spec, StopMode, Target};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::network::{Network, NetworkKind};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::warning;
use basalt_model::{
    Cluster, Command, Epoch, Fingerprint, Generation, InstanceId, InstanceName, MemberName, NetworkName, NodeId,
    PoolName, ProjectName, Timestamp,
};
use basalt_node::controller::network::{self, Connect, Findings};
use basalt_node::metrics::NetworkMetrics;
use basalt_ovn::fake::{FakeNorthbound, Mood};
use basalt_ovn::nb::Table;
use basalt_ovn::northbound::{LiveNorthbound, Northbound};
use basalt_ovn::ovsdb::value::Datum;
use basalt_raft::testing::LocalCluster;
use basalt_runtime::{OnExit, Shutdown, Supervisor};
use tokio::sync::watch;

const ME: NodeId = NodeId(1);

struct Leader {
    cluster: Arc<LocalCluster>,
    northbound: Arc<FakeNorthbound>,
    metrics: NetworkMetrics,
    found: watch::Receiver<Findings>,
    shutdown: Shutdown,
}

impl Leader {
    fn new() -> Self {
        let cluster = LocalCluster::begun(init());
        let northbound = Arc::new(FakeNorthbound::new());
        Self::begin(cluster, northbound)
    }

    /// The controller over a cluster and a database that may have a past.
    fn begin(cluster: Arc<LocalCluster>, northbound: Arc<FakeNorthbound>) -> Self {
        let connect = Connect::given(northbound.clone());
        Self::over(cluster, connect, northbound)
    }

    fn over(cluster: Arc<LocalCluster>, connect: Connect, northbound: Arc<FakeNorthbound>) -> Self {
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.clone());
        let metrics = NetworkMetrics::register(&prometheus::Registry::new()).unwrap();
        let (findings, found) = watch::channel(Findings::new());
        let parts = network::Parts { cluster: cluster.clone(), connect, metrics: metrics.clone(), findings };
        supervisor.spawn("networks", OnExit::Fatal, network::run(parts, shutdown.clone()));
        Leader { cluster, northbound, metrics, found, shutdown }
    }

    fn apply(&self, command: Command) {
        self.cluster.apply(&command).unwrap();
    }

    fn configure(&self) {
        let set = [("network.ovn.northbound_connection".to_owned(), Some("unix:/given/by/the/test".to_owned()))].into();
        self.apply(Command::Cluster(ClusterCommand::SetConfig { set, expect: None }));
    }

    fn network(&self, name: &str, config: &[(&str, &str)]) {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let network = Network { config, ..Network::new(NetworkName::new(name).unwrap(), NetworkKind::Ovn) };
        self.apply(Command::Network(NetworkCommand::Add(network)));
    }

    fn instance(&self, number: u128) -> InstanceId {
        let instance = instance(number);
        let id = instance.id;
        self.apply(Command::Instance(InstanceCommand::Create(Box::new(instance))));
        self.apply(Command::Instance(InstanceCommand::Place { id, node: ME, epoch: Epoch(1) }));
        id
    }

    fn ports(&self) -> Vec<String> {
        let tables = self.northbound.tables();
        let rows = tables.get(&Table::LogicalSwitchPort).into_iter().flat_map(|rows| rows.values());
        let names = rows.filter_map(|row| row["name"].as_str().map(str::to_owned));
        names.filter(|name| name.contains("-instance-")).collect()
    }

    async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !so() {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn init() -> Init {
    let member = Member {
        id: ME,
        name: MemberName::new("node1").unwrap(),
        certificate: Fingerprint::new("0".repeat(64)).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: "default".into(),
        description: String::new(),
        groups: Default::default(),
        roles: Default::default(),
        config: Default::default(),
        announced: Announcement {
            feature_level: FEATURE_LEVEL,
            architecture: "x86_64".into(),
            chassis: Some("chassis1".into()),
            ..Announcement::default()
        },
    };
    Init { cluster_id: uuid::Uuid::from_u128(7), secrets: Default::default(), member, at: Timestamp(1) }
}

fn pool() -> Command {
    Command::Pool(PoolCommand::Add(Pool {
        name: PoolName::new("default").unwrap(),
        kind: PoolKind::Dir,
        description: String::new(),
        config: Default::default(),
        member_config: Default::default(),
        status: Default::default(),
        generation: Generation(1),
    }))
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn instance(number: u128) -> Instance {
    let mac = format!("00:16:3e:00:{:02x}:{:02x}", number >> 8, number & 255);
    Instance {
        id: InstanceId(uuid::Uuid::from_u128(number + 1)),
        project: ProjectName::default_project(),
        name: InstanceName::new(format!("c{number}")).unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp(0),
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin: Origin::Empty,
            description: String::new(),
            ephemeral: false,
            config: map(&[("volatile.eth0.hwaddr", &mac)]),
            devices: BTreeMap::from([
                ("root".to_owned(), map(&[("type", "disk"), ("path", "/"), ("pool", "default")])),
                ("eth0".to_owned(), map(&[("type", "nic"), ("network", "blue")])),
            ]),
            profiles: Vec::new(),
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    }
}

const BLUE: &[(&str, &str)] = &[("network", "none"), ("ipv4.address", "10.5.0.1/16"), ("ipv6.address", "fd42:5::1/64")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_gets_addresses_and_a_port_and_loses_them() {
    let leader = Leader::new();
    leader.configure();
    leader.apply(pool());
    leader.network("blue", BLUE);
    leader.until("the network's switch", || leader.northbound.tables().contains_key(&Table::LogicalSwitch)).await;
    let id = leader.instance(1);
    leader.until("the port", || leader.ports() == [format!("basalt-net1-instance-{id}-eth0")]).await;
    let tables = leader.northbound.tables();
    let port =
        tables[&Table::LogicalSwitchPort].values().find(|row| row["name"].as_str().unwrap().contains("instance"));
    let port = port.unwrap();
    let wanted = "00:16:3e:00:00:01 10.5.0.2 fd42:5::216:3eff:fe00:1";
    assert_eq!(port["addresses"], Datum::from(wanted));
    assert_eq!(port["port_security"], Datum::from(wanted));
    assert_eq!(port["options"].get("requested-chassis"), Some("chassis1"));
    let records = tables[&Table::Dns].values().next().unwrap()["records"].get("c1.basalt").map(str::to_owned);
    assert_eq!(records.as_deref(), Some("10.5.0.2 fd42:5::216:3eff:fe00:1"));
    let stop = StopMode { force: true, timeout_secs: None };
    let deleted = InstanceCommand::SetRun { id, intent: Intent::Deleted, restart: false, stop, at: Timestamp(2) };
    leader.apply(Command::Instance(deleted));
    leader.until("the port's end", || leader.ports().is_empty()).await;
    assert_eq!(leader.metrics.repairs.surplus.get() + leader.metrics.repairs.missing.get(), 0, "that was no repair");
}

/// northd may need a second for each transaction: many changes must not be many of those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_ports_are_few_transactions() {
    let leader = Leader::new();
    leader.configure();
    leader.apply(pool());
    leader.network("blue", BLUE);
    leader.until("the network's switch", || leader.northbound.tables().contains_key(&Table::LogicalSwitch)).await;
    for number in 0..500 {
        leader.instance(number);
        // Over a second, not at once: else there would be nothing to gather.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    leader.until("all ports", || leader.ports().len() == 500).await;
    assert!(leader.northbound.transactions() <= 20, "{}", leader.northbound.transactions());
}

/// The same with a real database, and northd behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_ports_are_few_transactions_of_a_real_database() {
    if bed::lacks(&["ovsdb-server", "ovsdb-tool", "ovn-nbctl", "ovn-northd"]) {
        return;
    }
    let mut central = bed::Central::start();
    central.northd();
    let live: Arc<dyn Northbound> = Arc::new(LiveNorthbound::connect(vec![central.remote()], None).unwrap());
    let unused = Arc::new(FakeNorthbound::new());
    let leader = Leader::over(LocalCluster::begun(init()), Connect::given(live), unused);
    leader.configure();
    leader.apply(pool());
    leader.network("blue", BLUE);
    leader.until("the network's switch", || leader.metrics.transactions.get() > 0).await;
    for number in 0..500 {
        leader.instance(number);
        // Over a second, not at once: else there would be nothing to gather.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ports = || central.nb(&["--bare", "--columns=name", "list", "logical_switch_port"]);
    let instances = || ports().lines().filter(|line| line.contains("-instance-")).count();
    leader.until("all ports", || instances() == 500).await;
    assert!(leader.metrics.transactions.get() <= 20, "{}", leader.metrics.transactions.get());
    assert_eq!(leader.metrics.repairs.missing.get(), 0, "nothing was written twice");
    let keys = central.nb(&["--bare", "--columns=external_ids", "list", "logical_switch_port"]);
    let keys: Vec<&str> = keys.lines().filter(|line| line.contains("/port/")).collect();
    assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (500, 500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_the_state_goes_on() {
    let leader = Leader::new();
    leader.configure();
    leader.apply(pool());
    leader.network("blue", BLUE);
    leader.until("the network's switch", || leader.northbound.tables().contains_key(&Table::LogicalSwitch)).await;
    leader.northbound.mood(Mood::Away);
    for number in 0..5 {
        leader.instance(number);
    }
    leader.until("addresses without a database", || leader.cluster.view().addresses.len() == 5).await;
    leader
        .until("somebody is told", || {
            leader.found.borrow().keys().any(|cause| cause.kind == warning::Kind::NorthboundUnreachable)
        })
        .await;
    leader.northbound.mood(Mood::Well);
    leader.until("all ports", || leader.ports().len() == 5).await;
    leader.until("nothing is wrong any more", || leader.found.borrow().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_in_the_rows_is_undone_and_counted() {
    let leader = Leader::new();
    leader.configure();
    leader.apply(pool());
    leader.network("blue", BLUE);
    leader.instance(1);
    leader.until("the port", || leader.ports().len() == 1).await;
    // The pass that wrote it has been followed by one that found all well.
    let passes = leader.metrics.passes.get();
    leader.until("one more pass", || leader.metrics.passes.get() > passes).await;
    leader
        .northbound
        .damage(|tables| {
            for row in tables.get_mut(&Table::LogicalSwitch).unwrap().values_mut() {
                row.insert("ports".into(), Datum::empty());
            }
        })
        .unwrap();
    leader.until("the port again", || leader.ports().len() == 1).await;
    leader
        .until("both ports and the reference are counted", || {
            leader.metrics.repairs.missing.get() == 2 && leader.metrics.repairs.reference.get() >= 1
        })
        .await;
}

/// A new leader over rows of an old one changes nothing, and the old one's hands are bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_over_what_is_there() {
    let leader = Leader::new();
    leader.configure();
    leader.apply(pool());
    leader.network("blue", BLUE);
    leader.instance(1);
    leader.until("the port", || leader.ports().len() == 1).await;
    leader.shutdown.cancel();
    let rows = leader.northbound.tables();
    let next = Leader::begin(leader.cluster.clone(), leader.northbound.clone());
    next.until("two passes", || next.metrics.passes.get() >= 2).await;
    assert_eq!(leader.northbound.tables(), rows);
    assert_eq!(next.metrics.transactions.get(), 0);
}
