//! A cluster in memory: one state, applied by the real model, seen by every member; and an agent that does on paper what
//! homes do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use basalt_api::{Api, Context, Limits, serve_unix};
use basalt_model::command::{ClusterCommand, Init, InstanceCommand, MemberCommand, SnapshotCommand, WarningCommand};
use basalt_model::instance::{Instance, Intent, Move, Phase, Placement, Report, Target};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::network::{Network, NetworkKind};
use basalt_model::pool::{Pool, PoolKind, PoolStatus};
use basalt_model::port::Standing;
use basalt_model::secrets::Secrets;
use basalt_model::snapshot::{Snapshot, Stage};
use basalt_model::warning;
use basalt_model::{
    Applied, Cluster, ClusterState, Command, Epoch, Fingerprint, Generation, InstanceId, MemberName, NetworkName,
    NodeId, PoolName, ProposeError, ReadError, StateView, Timestamp, Version,
};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::guests::ProcessGuests;
use crate::ports::{DiskImages, Facts, FakeParts, FakeRemotes, FakeSight, FakeTelemetry, NoFiles, RouterPeers};

/// The state that all members share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<ClusterState>,
    view: watch::Sender<StateView>,
    pub(crate) stale: AtomicBool,
    /// What members see while they are behind.
    pub(crate) behind: Mutex<Option<StateView>>,
}

/// One member's port on it.
#[derive(Debug, Clone)]
pub(crate) struct LocalCluster {
    pub(crate) shared: Arc<Shared>,
    me: NodeId,
}

#[async_trait]
impl Cluster for LocalCluster {
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        if self.shared.stale.load(Ordering::SeqCst) {
            return Err(ProposeError::NoLeader("cut off".into()));
        }
        let mut state = self.shared.state.lock().unwrap();
        state.apply(&command)?;
        assert_eq!(basalt_model::invariant::check(&state), Vec::<String>::new(), "{command:?}");
        let version = self.shared.view.borrow().version.next();
        self.shared.view.send_replace(StateView::new(version, Arc::new(state.clone())));
        Ok(Applied { version })
    }

    fn view(&self) -> StateView {
        let behind = self.shared.behind.lock().unwrap().clone();
        behind.unwrap_or_else(|| self.shared.view.borrow().clone())
    }

    async fn linearizable(&self) -> Result<StateView, ReadError> {
        match self.shared.stale.load(Ordering::SeqCst) {
            true => Err(ReadError("cut off".into())),
            false => Ok(self.shared.view.borrow().clone()),
        }
    }

    async fn changed_since(&self, version: Version) -> StateView {
        let mut view = self.shared.view.subscribe();
        view.wait_for(|v| v.version > version).await.unwrap().clone()
    }

    fn standing(&self) -> Standing {
        let view = self.view();
        let stale = self.shared.stale.load(Ordering::SeqCst);
        Standing {
            me: if view.initialised() { self.me } else { NodeId(0) },
            leader: (!stale).then_some(NodeId(1)),
            term: 1,
            voters: view.members.keys().copied().collect(),
            learners: Vec::new(),
            last_contact: Some(Duration::ZERO),
            stale,
            last_log: view.version.0,
            applied: view.version,
        }
    }
}

/// One member with its API on a unix socket.
pub(crate) struct Node {
    pub(crate) api: Arc<Api>,
    pub(crate) client: Client,
    pub(crate) socket: PathBuf,
    pub(crate) cluster: LocalCluster,
    pub(crate) sight: Arc<FakeSight>,
}

/// A cluster of some members.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) telemetry: Arc<FakeTelemetry>,
    pub(crate) remotes: Arc<FakeRemotes>,
    pub(crate) folder: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn announcement(number: u64) -> Announcement {
    Announcement {
        api_address: format!("127.0.0.{number}:8443"),
        cluster_address: format!("127.0.0.{number}:8444"),
        version: "0.1.0".into(),
        feature_level: basalt_model::command::FEATURE_LEVEL,
        architecture: "x86_64".into(),
        cpus: 4,
        memory: 8 << 30,
        drivers: [("container".to_owned(), "1".to_owned())].into_iter().collect(),
        storage_drivers: [("dir".to_owned(), "1".to_owned())].into_iter().collect(),
        chassis: None,
    }
}

pub(crate) fn member(number: u64) -> Member {
    Member {
        id: NodeId(number),
        name: MemberName::new(format!("node{number}")).unwrap(),
        certificate: Fingerprint::new(format!("{number:064x}")).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: String::new(),
        description: String::new(),
        groups: Default::default(),
        roles: Default::default(),
        config: Default::default(),
        announced: announcement(number),
    }
}

impl World {
    /// A node that belongs to no cluster yet.
    pub(crate) async fn fresh() -> World {
        World::build(ClusterState::default(), 1).await
    }

    /// A cluster of `members`, with a pool, a network and a default profile that uses both.
    pub(crate) async fn of(members: u64) -> World {
        let key = rcgen::generate_simple_self_signed(vec!["basalt".to_owned()]).unwrap();
        let secrets =
            Secrets { api_certificate: key.cert.pem(), api_key: key.signing_key.serialize_pem(), ..Secrets::default() };
        let init = Init { cluster_id: uuid::Uuid::new_v4(), secrets, member: member(1), at: Timestamp(1) };
        let mut state = ClusterState::default();
        state.apply(&Command::Cluster(ClusterCommand::Init(Box::new(init)))).unwrap();
        for number in 2..=members {
            // As if it had joined: the way in is tested elsewhere.
            state.members.insert(NodeId(number), member(number));
            state.next_node = number + 1;
        }
        let pool = PoolName::new("default").unwrap();
        let ready = |id: NodeId| (id, PoolStatus::Ready { total: 1 << 40 });
        state.pools.insert(
            pool.clone(),
            Pool {
                name: pool,
                kind: PoolKind::Dir,
                description: String::new(),
                config: BTreeMap::new(),
                member_config: BTreeMap::new(),
                status: state.members.keys().copied().map(ready).collect(),
                generation: Generation(1),
            },
        );
        let network = NetworkName::new("basaltbr0").unwrap();
        let config = [("ipv4.address", "10.99.0.1/24"), ("ipv4.nat", "true")];
        let network = Network {
            config: config.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(),
            ..Network::new(network, NetworkKind::Bridge)
        };
        state.networks.insert(network.id(), network);
        let key = state.profiles.keys().next().unwrap().clone();
        let profile = state.profiles.get_mut(&key).unwrap();
        let device = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        profile.devices.insert("root".into(), device(&[("type", "disk"), ("path", "/"), ("pool", "default")]));
        profile.devices.insert("eth0".into(), device(&[("type", "nic"), ("network", "basaltbr0")]));
        World::build(state, members).await
    }

    async fn build(state: ClusterState, members: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let view = watch::Sender::new(StateView::new(Version(1), Arc::new(state.clone())));
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            view,
            stale: AtomicBool::new(false),
            behind: Mutex::default(),
        });
        let telemetry = Arc::new(FakeTelemetry::default());
        let remotes = Arc::new(FakeRemotes { folder: folder.path().join("images1"), ..FakeRemotes::default() });
        let peers = Arc::new(RouterPeers::default());
        let mut nodes = Vec::new();
        for number in 1..=members {
            let cluster = LocalCluster { shared: shared.clone(), me: NodeId(number) };
            let sight = Arc::new(FakeSight::default());
            let api = Api::new(Context {
                cluster: Arc::new(cluster.clone()),
                guests: Arc::new(ProcessGuests::default()),
                files: Arc::new(NoFiles),
                parts: Arc::new(FakeParts::default()),
                peers: Arc::new(peers.of(NodeId(number))),
                telemetry: telemetry.clone(),
                images: Arc::new(DiskImages::new(folder.path().join(format!("images{number}")))),
                remotes: remotes.clone(),
                sight: sight.clone(),
                membership: Arc::new(Facts(cluster.clone())),
                registry: prometheus::Registry::new(),
                version: "0.1.0".into(),
                shutdown: shutdown.clone(),
            });
            peers.add(NodeId(number), api.router());
            let socket = folder.path().join(format!("{number}.socket"));
            let listener = UnixListener::bind(&socket).unwrap();
            tokio::spawn(serve_unix(listener, api.router(), Limits::default(), shutdown.clone()));
            nodes.push(Node { api, client: Client::new(&socket), socket, cluster, sight });
        }
        tokio::spawn(homes(nodes[0].cluster.clone(), shutdown.clone()));
        World { nodes, shared, telemetry, remotes, folder, shutdown }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.nodes[0].client
    }

    pub(crate) fn state(&self) -> StateView {
        self.shared.view.borrow().clone()
    }

    pub(crate) async fn propose(&self, command: Command) {
        self.nodes[0].cluster.propose(command).await.unwrap();
    }

    /// An instance with an empty root.
    pub(crate) async fn create(&self, name: &str, start: bool) {
        self.create_on(name, start, "").await;
    }

    pub(crate) async fn create_on(&self, name: &str, start: bool, query: &str) {
        let body = serde_json::json!({"name": name, "source": {"type": "none"}, "start": start});
        let answer = self.client().post(&format!("/1.0/instances{query}"), body).await;
        self.client().done(answer).await;
    }
}

/// Places every instance and reports as its home would. Names say what goes wrong: see [`fate`].
async fn homes(cluster: LocalCluster, shutdown: CancellationToken) {
    let mut view = cluster.view();
    loop {
        let instances = view.instances.values().filter_map(|i| next(&view, i));
        let snapshots = view.snapshots.values().filter_map(|s| next_of(&view, s));
        // As the leader's controller does.
        let warnings = unrecorded(&view).into_iter().map(Command::Warning);
        let todo: Vec<Command> = snapshots.chain(instances).chain(warnings).collect();
        for command in todo {
            // Another change may have come first; the next round looks again.
            let _ = cluster.propose(command).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            next = cluster.changed_since(view.version) => view = next,
        }
    }
}

fn next(view: &StateView, instance: &Instance) -> Option<Command> {
    let id = instance.id;
    let epoch = match &instance.placement {
        Placement::Unplaced { refused: Some(_) } => return None,
        Placement::Unplaced { refused: None } if instance.name.as_str().starts_with("nowhere") => {
            let reason = "node1: not enough memory".to_owned();
            return Some(Command::Instance(InstanceCommand::RefusePlacement { id, reason }));
        }
        Placement::Unplaced { refused: None } => {
            let node = match &instance.target {
                Target::Member(name) => view.member_named(name)?.id,
                Target::Any | Target::Group(_) => *view.members.keys().next()?,
            };
            return Some(Command::Instance(InstanceCommand::Place { id, node, epoch: Epoch(1) }));
        }
        Placement::On { epoch, .. } => *epoch,
        Placement::Moving(on_its_way) => return on_the_way(view, id, on_its_way),
    };
    if instance.run.intent == Intent::Deleted {
        return Some(Command::Instance(InstanceCommand::Forget { id, epoch }));
    }
    if instance.settled() {
        return None;
    }
    if let Some(restore) = instance.pending_restore() {
        let held = instance.report.clone()?;
        let report = Report { phase: Phase::Stopped, request: restore.request, at: basalt_api::clock::now(), ..held };
        return Some(Command::Instance(InstanceCommand::Report { id, report }));
    }
    let (phase, made, reason) = fate(instance);
    let report = Report {
        epoch,
        generation: instance.generation,
        phase,
        made,
        request: instance.run.request,
        reason: reason.map(str::to_owned),
        at: basalt_api::clock::now(),
    };
    Some(Command::Instance(InstanceCommand::Report { id, report }))
}

/// Moves to the first member that fits the target; to one called `full` nothing can be moved.
fn on_the_way(view: &StateView, id: InstanceId, on_its_way: &Move) -> Option<Command> {
    let landing = on_its_way.landing;
    Some(Command::Instance(match on_its_way.to {
        None => match &on_its_way.plan.target {
            Target::Member(name) => InstanceCommand::AssignMove { id, landing, node: view.member_named(name)?.id },
            Target::Any | Target::Group(_) => {
                let node = *view.members.keys().find(|node| **node != on_its_way.from)?;
                InstanceCommand::AssignMove { id, landing, node }
            }
        },
        Some(_) if on_its_way.plan.name.as_str().starts_with("full") => {
            InstanceCommand::AbortMove { id, landing, reason: "no space".into() }
        }
        Some(_) => InstanceCommand::Landed { id, landing, at: basalt_api::clock::now() },
    }))
}

/// Takes and removes snapshots; those called `full…` cannot be taken.
fn next_of(view: &StateView, snapshot: &Snapshot) -> Option<Command> {
    let (instance, id) = (snapshot.instance, snapshot.id);
    let (_, epoch) = view.instances.get(&instance)?.placement.home()?;
    Some(Command::Snapshot(match snapshot.stage {
        Stage::Wanted if snapshot.name.as_str().starts_with("full") => {
            SnapshotCommand::Failed { instance, id, epoch, reason: "no space".into() }
        }
        Stage::Wanted => SnapshotCommand::Taken { instance, id, epoch, size: 4096 },
        Stage::Doomed => SnapshotCommand::Forget { instance, id, epoch },
        Stage::Ready | Stage::Failed { .. } | Stage::Coming => return None,
    }))
}

/// `broken…` cannot be made, `unstartable…` cannot be started; all else works.
fn fate(instance: &Instance) -> (Phase, bool, Option<&'static str>) {
    let name = instance.name.as_str();
    match instance.run.intent {
        _ if name.starts_with("broken") => (Phase::Failed, false, Some("the image is corrupt")),
        Intent::Running if name.starts_with("unstartable") => (Phase::Stopped, true, Some("no such init")),
        Intent::Running => (Phase::Running, true, None),
        Intent::Frozen => (Phase::Frozen, true, None),
        Intent::Stopped | Intent::Deleted => (Phase::Stopped, true, None),
    }
}

/// Makes a member offline, as the health controller would.
pub(crate) fn offline(number: u64) -> Command {
    Command::Member(MemberCommand::SetHealth { id: NodeId(number), health: Health::Offline { since: Timestamp(7) } })
}

/// What is wrong, or no longer wrong, and not yet in the record.
pub(crate) fn unrecorded(view: &StateView) -> Vec<WarningCommand> {
    let voters: Vec<NodeId> = view.members.keys().copied().collect();
    let found = warning::causes(view, &voters);
    let fresh = || basalt_model::WarningId(uuid::Uuid::new_v4());
    warning::updates(view, &found, |_| true, basalt_api::clock::now(), fresh)
}

/// Looks again and again until it is so; fails after ten seconds.
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    let look = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), look).await.is_ok(), "not within 10 s: {what}");
}
