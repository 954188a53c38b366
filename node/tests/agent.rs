//! The agent against the fake engine and a real folder pool, on a cluster of one without consensus.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use basalt_driver::fake::{FakeDriver, FakeHost, Op};
use basalt_driver::{InstanceDriver, State};
use basalt_model::command::{Init, InstanceCommand, PoolCommand, ProfileCommand, SnapshotCommand};
use basalt_model::instance::{
    CopyOf, Devices, Instance, Intent, Kind, MovePlan, Origin, Phase, Placement, Run, Spec, StopMode, Target,
};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::snapshot::Stage;
use basalt_model::{
    Cluster, Command, Epoch, Fingerprint, Generation, InstanceId, InstanceName, MemberName, NodeId, PoolName,
    ProfileName, ProjectName, SnapshotId, SnapshotName, Timestamp,
};
use basalt_node::agent::carry::{Ask, Carry, Shipper};
use basalt_node::agent::{Agent, Fetch, ImageShelf, Networks, Parts, Pools, Samples};
use basalt_node::fact::Clock;
use basalt_node::metrics::AgentMetrics;
use basalt_raft::testing::LocalCluster;
use basalt_runtime::{CommandRunner, HostRunner, Shutdown, Supervisor};
use basalt_storage::StorageHost;
use basalt_storage::image::ImageStore;

const ME: NodeId = NodeId(1);

#[derive(Debug)]
struct NoFetch;

#[async_trait::async_trait]
impl Fetch for NoFetch {
    async fn fetch(&self, _: &basalt_model::image::Image, _: NodeId, _: &ImageStore) -> Result<(), String> {
        Err("this test has no other member".into())
    }
}

#[derive(Debug)]
struct NoCarry;

#[async_trait::async_trait]
impl Carry for NoCarry {
    async fn open(&self, _: NodeId, _: &Ask) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>, String> {
        Err("this test has no other member".into())
    }
}

/// A node without its servers.
struct Node {
    cluster: Arc<LocalCluster>,
    host: Arc<FakeHost>,
    dir: tempfile::TempDir,
    shutdown: Shutdown,
}

impl Node {
    async fn begin() -> Node {
        let cluster = LocalCluster::begun(init());
        for command in [pool("default"), pool("other"), profile()] {
            cluster.apply(&command).unwrap();
        }
        let node =
            Node { cluster, host: FakeHost::new(), dir: tempfile::tempdir().unwrap(), shutdown: Shutdown::new() };
        node.start_agent();
        node
    }

    fn start_agent(&self) {
        let driver: Arc<dyn InstanceDriver> = Arc::new(FakeDriver::new(self.host.clone()));
        let runner: Arc<dyn CommandRunner> = Arc::new(HostRunner);
        let supervisor = Supervisor::new(self.shutdown.clone());
        let store = ImageStore::new(self.dir.path().join("images"));
        let pools = Arc::new(Pools::new(StorageHost {
            state_dir: self.dir.path().to_owned(),
            runner: runner.clone(),
            member: MemberName::new("node1").unwrap(),
        }));
        let drivers = BTreeMap::from([(Kind::Container, driver)]);
        let shipper = Arc::new(Shipper {
            cluster: self.cluster.clone(),
            pools: pools.clone(),
            drivers: drivers.clone(),
            supervisor: supervisor.clone(),
        });
        let agent = Agent::new(Parts {
            me: ME,
            cluster: self.cluster.clone(),
            shipper,
            carry: Arc::new(NoCarry),
            drivers,
            pools,
            networks: Arc::new(Networks::new(Arc::new(basalt_net::Host::new(
                runner,
                self.dir.path().join("networks"),
            )))),
            overlay: None,
            images: Arc::new(ImageShelf::new(store, Arc::new(NoFetch))),
            samples: Arc::new(Samples::default()),
            supervisor: supervisor.clone(),
            clock: Clock::default(),
            metrics: AgentMetrics::register(&prometheus::Registry::new()).unwrap(),
            cpus: 4,
            memory: 8 << 30,
            host_network: false,
        });
        supervisor.spawn("agent", basalt_runtime::OnExit::Fatal, agent.run());
    }

    /// The agent dies without a word; the host and the cluster go on.
    fn kill_agent(&mut self) {
        self.shutdown.cancel();
        self.shutdown = Shutdown::new();
    }

    fn propose(&self, command: InstanceCommand) {
        self.cluster.apply(&Command::Instance(command)).unwrap();
    }

    fn create(&self, name: &str) -> InstanceId {
        let instance = instance(name);
        let id = instance.id;
        self.propose(InstanceCommand::Create(Box::new(instance)));
        self.propose(InstanceCommand::Place { id, node: ME, epoch: Epoch(1) });
        id
    }

    fn run(&self, id: InstanceId, intent: Intent) {
        let stop = StopMode { force: false, timeout_secs: Some(5) };
        self.propose(InstanceCommand::SetRun { id, intent, restart: false, stop, at: Timestamp(1) });
    }

    /// Waits until the latest request is settled; returns the report's phase and reason.
    async fn settled(&self, id: InstanceId) -> (Phase, Option<String>) {
        self.until(|view| {
            let instance = view.instances.get(&id)?;
            let report = instance.current_report().filter(|_| instance.settled())?;
            Some((report.phase, report.reason.clone()))
        })
        .await
    }

    async fn until<T>(&self, check: impl Fn(&basalt_model::StateView) -> Option<T>) -> T {
        let waiting = async {
            let mut view = self.cluster.view();
            loop {
                if let Some(found) = check(&view) {
                    return found;
                }
                view = self.cluster.changed_since(view.version).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the condition came true in time")
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
            feature_level: basalt_model::command::FEATURE_LEVEL,
            architecture: "x86_64".into(),
            ..Announcement::default()
        },
    };
    Init { cluster_id: uuid::Uuid::new_v4(), secrets: Default::default(), member, at: Timestamp(1) }
}

fn pool(name: &str) -> Command {
    Command::Pool(PoolCommand::Add(Pool {
        name: PoolName::new(name).unwrap(),
        kind: PoolKind::Dir,
        description: String::new(),
        config: Default::default(),
        member_config: Default::default(),
        status: Default::default(),
        generation: Generation(1),
    }))
}

fn profile() -> Command {
    let root = [("type", "disk"), ("path", "/"), ("pool", "default")];
    let root = root.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Command::Profile(ProfileCommand::Update {
        project: ProjectName::default_project(),
        name: ProfileName::default_profile(),
        expect: None,
        description: String::new(),
        config: Default::default(),
        devices: BTreeMap::from([("root".to_owned(), root)]),
    })
}

fn instance(name: &str) -> Instance {
    Instance {
        id: InstanceId(uuid::Uuid::new_v4()),
        project: ProjectName::default_project(),
        name: InstanceName::new(name).unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin: Origin::Empty,
            description: String::new(),
            ephemeral: false,
            config: Default::default(),
            devices: Default::default(),
            profiles: vec![ProfileName::default_profile()],
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    }
}

fn volume(dir: &Path, id: InstanceId) -> bool {
    fn holds(dir: &Path, id: &str, depth: u8) -> bool {
        let Ok(entries) = std::fs::read_dir(dir) else { return false };
        entries.flatten().any(|entry| {
            entry.file_name().to_string_lossy().contains(id) || depth > 0 && holds(&entry.path(), id, depth - 1)
        })
    }
    holds(&dir.join("storage-pools"), &id.to_string(), 4)
}

#[tokio::test]
async fn a_life_from_creation_to_deletion() {
    let node = Node::begin().await;
    let id = node.create("c1");
    assert_eq!(node.settled(id).await, (Phase::Stopped, None));
    assert!(volume(node.dir.path(), id));
    for (intent, phase) in
        [(Intent::Running, Phase::Running), (Intent::Frozen, Phase::Frozen), (Intent::Running, Phase::Running)]
    {
        node.run(id, intent);
        assert_eq!(node.settled(id).await, (phase, None), "{intent:?}");
    }
    assert_eq!(node.host.calls(id, Op::Start).unwrap(), 1, "a thaw is not a start");
    node.run(id, Intent::Deleted);
    node.until(|view| view.instances.get(&id).is_none().then_some(())).await;
    assert!(!volume(node.dir.path(), id));
    assert!(node.host.guests().unwrap().is_empty());
}

#[tokio::test]
async fn a_start_that_fails_is_reported_and_not_tried_for_ever() {
    let node = Node::begin().await;
    let id = node.create("c1");
    node.settled(id).await;
    node.host.fail_next(id, Op::Start, "no such kernel feature").unwrap();
    node.run(id, Intent::Running);
    let (phase, reason) = node.settled(id).await;
    assert_eq!(phase, Phase::Failed);
    assert!(reason.unwrap().contains("no such kernel feature"));
    assert_eq!(node.host.calls(id, Op::Start).unwrap(), 1);
    node.run(id, Intent::Running);
    assert_eq!(node.settled(id).await.0, Phase::Running);
}

#[tokio::test]
async fn a_guest_that_ends_by_itself_is_noticed_by_its_event() {
    let node = Node::begin().await;
    let id = node.create("c1");
    node.run(id, Intent::Running);
    assert_eq!(node.settled(id).await.0, Phase::Running);
    node.host.kill(id).unwrap();
    node.until(|view| (view.instances.get(&id)?.phase()? == Phase::Stopped).then_some(())).await;
}

#[tokio::test]
async fn guests_outlive_the_agent_and_are_adopted() {
    let mut node = Node::begin().await;
    let id = node.create("c1");
    node.run(id, Intent::Running);
    node.settled(id).await;
    node.kill_agent();
    assert_eq!(node.host.guests().unwrap()[0].state, State::Running);
    node.start_agent();
    node.run(id, Intent::Frozen);
    assert_eq!(node.settled(id).await.0, Phase::Frozen);
    assert_eq!(node.host.calls(id, Op::Start).unwrap(), 1, "it was adopted, not started again");
}

#[tokio::test]
async fn a_clean_stop_that_is_ignored_leaves_the_guest_and_says_so() {
    let node = Node::begin().await;
    let id = node.create("c1");
    node.run(id, Intent::Running);
    node.settled(id).await;
    node.host.ignore_stop(id, true).unwrap();
    let stop = StopMode { force: false, timeout_secs: Some(1) };
    node.propose(InstanceCommand::SetRun { id, intent: Intent::Stopped, restart: false, stop, at: Timestamp(2) });
    let (phase, reason) = node.settled(id).await;
    assert_eq!(phase, Phase::Running);
    assert!(reason.unwrap().contains("did not stop"));
    let stop = StopMode { force: true, timeout_secs: None };
    node.propose(InstanceCommand::SetRun { id, intent: Intent::Stopped, restart: false, stop, at: Timestamp(3) });
    assert_eq!(node.settled(id).await.0, Phase::Stopped);
}

#[tokio::test]
async fn what_the_cluster_forgot_is_removed_from_the_host() {
    let mut node = Node::begin().await;
    let id = node.create("c1");
    node.run(id, Intent::Running);
    node.settled(id).await;
    node.kill_agent();
    // The record goes while the agent is away, as when its member was removed by force.
    node.run(id, Intent::Deleted);
    node.propose(InstanceCommand::Forget { id, epoch: Epoch(1) });
    node.start_agent();
    let gone = async {
        while volume(node.dir.path(), id) || !node.host.guests().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the orphan is removed");
}

#[tokio::test]
async fn after_a_boot_guests_start_in_order_of_priority() {
    let mut node = Node::begin().await;
    let mut ids = Vec::new();
    for (name, priority) in [("low", "1"), ("high", "9"), ("middle", "5")] {
        let mut instance = instance(name);
        instance.spec.config.insert("boot.autostart.priority".into(), priority.into());
        let id = instance.id;
        node.propose(InstanceCommand::Create(Box::new(instance)));
        node.propose(InstanceCommand::Place { id, node: ME, epoch: Epoch(1) });
        node.run(id, Intent::Running);
        node.settled(id).await;
        ids.push(id);
    }
    node.kill_agent();
    node.host.reboot().unwrap();
    let reported = |id: &InstanceId| node.cluster.view().instances.get(id).unwrap().report.clone().unwrap().at;
    let before: Vec<Timestamp> = ids.iter().map(reported).collect();
    node.start_agent();
    let again = node
        .until(|view| {
            let at = |id: &InstanceId| view.instances.get(id).unwrap().report.clone().unwrap().at;
            let now: Vec<Timestamp> = ids.iter().map(at).collect();
            now.iter().zip(&before).all(|(now, before)| now > before).then_some(now)
        })
        .await;
    assert!(again[1] < again[2] && again[2] < again[0], "high, middle, low: {again:?}");
    assert_eq!(node.host.running().unwrap(), 3);
}

impl Node {
    fn snapshot(&self, id: InstanceId, name: &str) -> SnapshotId {
        let snapshot = SnapshotId(uuid::Uuid::now_v7());
        let name = SnapshotName::new(name).unwrap();
        let (at, expires_at) = (Timestamp(1), Timestamp::NEVER);
        self.ask(SnapshotCommand::Create { instance: id, id: snapshot, name, at, expires_at });
        snapshot
    }

    fn ask(&self, command: SnapshotCommand) {
        self.cluster.apply(&Command::Snapshot(command)).unwrap();
    }

    async fn stage(&self, id: InstanceId, snapshot: SnapshotId) -> Option<Stage> {
        self.until(|view| match view.snapshots.get(&(id, snapshot)).map(|s| s.stage.clone()) {
            Some(Stage::Wanted | Stage::Doomed) => None,
            settled => Some(settled),
        })
        .await
    }

    fn restore(&self, id: InstanceId, snapshot: SnapshotId) {
        let spec = Box::new(self.cluster.view().instances.get(&id).unwrap().spec.clone());
        let stop = StopMode { force: true, timeout_secs: None };
        self.propose(InstanceCommand::Restore { id, snapshot, spec, stop });
    }

    /// Where the guest's files are.
    fn root(&self, id: InstanceId) -> PathBuf {
        self.root_in("default", id)
    }

    fn root_in(&self, pool: &str, id: InstanceId) -> PathBuf {
        let folder = self.dir.path().join("storage-pools").join(pool).join("instances").join(id.to_string());
        assert!(folder.join("rootfs").is_dir(), "{}", folder.display());
        folder.join("rootfs")
    }

    /// A copy of `source`, with the snapshot if one is given, in the pool.
    fn copy(&self, source: InstanceId, snapshot: Option<SnapshotId>, pool: &str) -> (InstanceId, Option<SnapshotId>) {
        let mut copy = instance(&format!("copy-in-{pool}"));
        let new = snapshot.map(|_| SnapshotId(uuid::Uuid::now_v7()));
        let snapshots = snapshot.into_iter().zip(new).collect();
        copy.spec.origin = Origin::Copy(Box::new(CopyOf { source, point: None, snapshots }));
        copy.spec.devices = in_pool(pool);
        let id = copy.id;
        self.propose(InstanceCommand::Create(Box::new(copy)));
        self.propose(InstanceCommand::Place { id, node: ME, epoch: Epoch(1) });
        (id, new)
    }
}

fn in_pool(pool: &str) -> Devices {
    let root = [("type", "disk"), ("path", "/"), ("pool", pool)];
    BTreeMap::from([("root".to_owned(), root.map(|(k, v)| (k.to_owned(), v.to_owned())).into())])
}

#[tokio::test]
async fn a_copy_has_the_content_and_the_snapshots_in_any_pool() {
    let node = Node::begin().await;
    let id = node.create("c1");
    node.settled(id).await;
    std::fs::write(node.root(id).join("diary"), "then").unwrap();
    let snapshot = node.snapshot(id, "s0");
    node.stage(id, snapshot).await;
    std::fs::write(node.root(id).join("diary"), "now").unwrap();
    for pool in ["default", "other"] {
        let (copy, taken) = node.copy(id, Some(snapshot), pool);
        assert_eq!(node.settled(copy).await, (Phase::Stopped, None));
        let diary = node.root_in(pool, copy).join("diary");
        assert_eq!(std::fs::read_to_string(&diary).unwrap(), "now");
        assert_eq!(node.stage(copy, taken.unwrap()).await, Some(Stage::Ready));
        node.restore(copy, taken.unwrap());
        assert_eq!(node.settled(copy).await, (Phase::Stopped, None));
        assert_eq!(std::fs::read_to_string(node.root_in(pool, copy).join("diary")).unwrap(), "then");
        assert_eq!(std::fs::read_to_string(node.root(id).join("diary")).unwrap(), "now");
    }
}

#[tokio::test]
async fn a_move_to_another_pool_takes_everything_and_leaves_nothing() {
    let mut node = Node::begin().await;
    let id = node.create("c1");
    node.settled(id).await;
    std::fs::write(node.root(id).join("diary"), "then").unwrap();
    let snapshot = node.snapshot(id, "s0");
    node.stage(id, snapshot).await;
    std::fs::write(node.root(id).join("diary"), "now").unwrap();
    let found = node.cluster.view().instances.get(&id).unwrap().clone();
    let plan = MovePlan {
        target: Target::Any,
        project: found.project,
        name: InstanceName::new("c2").unwrap(),
        spec: Spec { devices: in_pool("other"), ..found.spec },
    };
    node.kill_agent();
    node.propose(InstanceCommand::Move { id, to: Some(ME), plan: Box::new(plan), expect: None });
    let start = InstanceCommand::SetRun {
        id,
        intent: Intent::Running,
        restart: false,
        stop: StopMode::default(),
        at: Timestamp(1),
    };
    assert!(node.cluster.apply(&Command::Instance(start)).unwrap_err().to_string().contains("being moved"));
    node.start_agent();
    node.until(|view| view.instances.get(&id)?.placement.moving().is_none().then_some(())).await;
    let moved = node.cluster.view().instances.get(&id).unwrap().clone();
    assert_eq!((moved.placement.home(), moved.name.as_str()), (Some((ME, Epoch(2))), "c2"), "{:?}", moved.errands);
    assert_eq!(std::fs::read_to_string(node.root_in("other", id).join("diary")).unwrap(), "now");
    node.restore(id, snapshot);
    assert_eq!(node.settled(id).await, (Phase::Stopped, None));
    assert_eq!(std::fs::read_to_string(node.root_in("other", id).join("diary")).unwrap(), "then");
    node.run(id, Intent::Running);
    assert_eq!(node.settled(id).await.0, Phase::Running);
    let left = node.dir.path().join("storage-pools/default/instances").join(id.to_string());
    let gone = async {
        while left.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the old volume is removed");
}

#[tokio::test]
async fn a_snapshot_is_taken_gone_back_to_and_removed() {
    let node = Node::begin().await;
    let id = node.create("c1");
    node.settled(id).await;
    let file = node.root(id).join("diary");
    std::fs::write(&file, "then").unwrap();
    let snapshot = node.snapshot(id, "s0");
    assert_eq!(node.stage(id, snapshot).await, Some(Stage::Ready));
    std::fs::write(&file, "now").unwrap();
    node.run(id, Intent::Running);
    assert_eq!(node.settled(id).await.0, Phase::Running);
    node.restore(id, snapshot);
    assert_eq!(node.settled(id).await, (Phase::Running, None));
    assert_eq!(std::fs::read_to_string(node.root(id).join("diary")).unwrap(), "then");
    assert_eq!(node.host.calls(id, Op::Start).unwrap(), 2, "it was stopped for it, and started again");
    node.ask(SnapshotCommand::Delete { instance: id, id: snapshot });
    assert_eq!(node.stage(id, snapshot).await, None);
    node.run(id, Intent::Deleted);
    node.until(|view| view.instances.get(&id).is_none().then_some(())).await;
    assert!(!volume(node.dir.path(), id));
}

/// The agent dies between the restore and the word of it: it is done again, but never under the guest that runs again.
#[tokio::test]
async fn a_restore_survives_the_agent() {
    let mut node = Node::begin().await;
    let id = node.create("c1");
    node.settled(id).await;
    let snapshot = node.snapshot(id, "s0");
    node.stage(id, snapshot).await;
    node.run(id, Intent::Running);
    node.settled(id).await;
    node.kill_agent();
    node.restore(id, snapshot);
    std::fs::write(node.root(id).join("late"), "written by the old guest").unwrap();
    node.start_agent();
    assert_eq!(node.settled(id).await.0, Phase::Running);
    assert!(!node.root(id).join("late").exists());
    std::fs::write(node.root(id).join("new"), "written by the new guest").unwrap();
    node.kill_agent();
    node.start_agent();
    node.run(id, Intent::Frozen);
    assert_eq!(node.settled(id).await.0, Phase::Frozen);
    assert!(node.root(id).join("new").exists());
}
