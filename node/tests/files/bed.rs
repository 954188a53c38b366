//! One instance under a real agent: with the fake engine, or with the real one and a busybox root.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use basalt_driver::fake::{FakeDriver, FakeHost};
use basalt_driver::{InstanceDriver, testing};
use basalt_lxc::{LxcDriver, LxcOptions};
use basalt_model::command::{Init, InstanceCommand, PoolCommand, ProfileCommand};
use basalt_model::instance::{Instance, Intent, Kind, Origin, Phase, Placement, Run, Spec, StopMode, Target};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::{
    Cluster, Command, Epoch, Fingerprint, Generation, InstanceId, InstanceName, MemberName, NodeId, PoolName,
    ProfileName, ProjectName, StateView, Timestamp,
};
use basalt_node::agent::carry::{Ask, Carry, Shipper};
use basalt_node::agent::{Agent, Fetch, ImageShelf, Networks, Parts, Pools, Samples};
use basalt_node::fact::Clock;
use basalt_node::metrics::AgentMetrics;
use basalt_node::port::files::NodeFiles;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Privileged,
    Mapped,
}

pub(crate) struct Bed {
    guest: Guest,
    pub(crate) files: NodeFiles,
    pub(crate) id: InstanceId,
    /// The instance's root volume on the host.
    pub(crate) root: PathBuf,
    pub(crate) dir: tempfile::TempDir,
    cluster: Arc<LocalCluster>,
    shutdown: Shutdown,
}

fn skip<T>(why: &str) -> Option<T> {
    println!("skipped: {why}");
    None
}

impl Bed {
    /// A stopped instance with an empty root.
    pub(crate) async fn fake() -> Option<Bed> {
        if !nix::unistd::geteuid().is_root() {
            return skip("not root");
        }
        let driver: Arc<dyn InstanceDriver> = Arc::new(FakeDriver::new(FakeHost::new()));
        Some(Bed::with(tempfile::tempdir().unwrap(), driver, BTreeMap::new()).await)
    }

    /// A running container with a tmpfs on `/mnt`.
    pub(crate) async fn lxc(sort: Sort) -> Option<Bed> {
        if !nix::unistd::geteuid().is_root() {
            return skip("not root");
        }
        for (program, package) in [("/usr/bin/lxc-start", "lxc"), ("/bin/busybox", "busybox-static")] {
            if !Path::new(program).exists() {
                return skip(&format!("{package} is not installed"));
            }
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        // The guest's root user must be able to reach its root file system.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let options = LxcOptions {
            state_dir: dir.path().join("state"),
            cgroup_prefix: format!("basalt-files/{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
            runner: Arc::new(HostRunner),
            supervisor: Supervisor::new(Shutdown::new()),
        };
        let driver: Arc<dyn InstanceDriver> = Arc::new(LxcDriver::new(options).unwrap());
        let privileged = (sort == Sort::Privileged).to_string();
        let bed = Bed::with(dir, driver, BTreeMap::from([("security.privileged".to_owned(), privileged)])).await;
        busybox(&bed.root);
        assert_eq!(bed.run(Intent::Running).await, (Phase::Running, None));
        bed.sh("/bin/busybox mount -t tmpfs tmpfs /mnt").await;
        Some(bed)
    }

    async fn with(dir: tempfile::TempDir, driver: Arc<dyn InstanceDriver>, config: BTreeMap<String, String>) -> Bed {
        let cluster = LocalCluster::begun(init());
        for command in [pool(), profile()] {
            cluster.apply(&command).unwrap();
        }
        let runner: Arc<dyn CommandRunner> = Arc::new(HostRunner);
        let member = MemberName::new("node1").unwrap();
        let host = StorageHost { state_dir: dir.path().to_owned(), runner: runner.clone(), member };
        let pools = Arc::new(Pools::new(host));
        let drivers = BTreeMap::from([(Kind::Container, driver.clone())]);
        let files = NodeFiles { cluster: cluster.clone(), drivers: drivers.clone(), pools: pools.clone() };
        let shutdown = Shutdown::new();
        let supervisor = Supervisor::new(shutdown.clone());
        let shipper = Arc::new(Shipper {
            cluster: cluster.clone(),
            pools: pools.clone(),
            drivers: drivers.clone(),
            supervisor: supervisor.clone(),
        });
        let agent = Agent::new(Parts {
            shipper,
            carry: Arc::new(NoCarry),
            me: ME,
            cluster: cluster.clone(),
            drivers,
            pools: pools.clone(),
            networks: Arc::new(Networks::new(Arc::new(basalt_net::Host::new(runner, dir.path().join("networks"))))),
            overlay: None,
            images: Arc::new(ImageShelf::new(ImageStore::new(dir.path().join("images")), Arc::new(NoFetch))),
            samples: Arc::new(Samples::default()),
            supervisor: supervisor.clone(),
            clock: Clock::default(),
            metrics: AgentMetrics::register(&prometheus::Registry::new()).unwrap(),
            cpus: 2,
            memory: 8 << 30,
            host_network: false,
        });
        supervisor.spawn("agent", basalt_runtime::OnExit::Fatal, agent.run());
        let instance = instance(config);
        let id = instance.id;
        let guest = Guest(driver, id);
        let mut bed = Bed { files, id, root: PathBuf::new(), dir, cluster, shutdown, guest };
        bed.propose(InstanceCommand::Create(Box::new(instance)));
        bed.propose(InstanceCommand::Place { id, node: ME, epoch: Epoch(1) });
        assert_eq!(bed.settled().await, (Phase::Stopped, None));
        let root = pools.get(&PoolName::new("default").unwrap()).unwrap().root(id).await.unwrap().unwrap().path;
        bed.root = root;
        bed
    }

    fn propose(&self, command: InstanceCommand) {
        self.cluster.apply(&Command::Instance(command)).unwrap();
    }

    async fn run(&self, intent: Intent) -> (Phase, Option<String>) {
        let stop = StopMode { force: true, timeout_secs: Some(5) };
        self.propose(InstanceCommand::SetRun { id: self.id, intent, restart: false, stop, at: Timestamp(1) });
        self.settled().await
    }

    pub(crate) async fn stop(&self) {
        assert_eq!(self.run(Intent::Stopped).await.0, Phase::Stopped);
    }

    /// Removes it; the test need not.
    pub(crate) async fn destroy(self) {
        let stop = StopMode { force: true, timeout_secs: Some(5) };
        let intent = Intent::Deleted;
        self.propose(InstanceCommand::SetRun { id: self.id, intent, restart: false, stop, at: Timestamp(1) });
        self.until(|view| view.instances.get(&self.id).is_none().then_some(())).await;
        self.shutdown.cancel();
    }

    /// What a script in the guest says.
    pub(crate) async fn sh(&self, script: &str) -> String {
        let request = testing::request(&["/bin/busybox", "sh", "-c", script]);
        let said = testing::output(self.guest.0.access().unwrap(), self.id, request, Vec::new()).await;
        assert_eq!(said.code, 0, "{script}: {said:?}");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    async fn settled(&self) -> (Phase, Option<String>) {
        self.until(|view| {
            let instance = view.instances.get(&self.id)?;
            let report = instance.current_report().filter(|_| instance.settled())?;
            Some((report.phase, report.reason.clone()))
        })
        .await
    }

    async fn until<T>(&self, check: impl Fn(&StateView) -> Option<T>) -> T {
        let waiting = async {
            let mut view = self.cluster.view();
            loop {
                if let Some(found) = check(&view) {
                    return found;
                }
                view = self.cluster.changed_since(view.version).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the condition came true in time")
    }
}

/// Ends what a failed test has left running, so that its folder can go.
struct Guest(Arc<dyn InstanceDriver>, InstanceId);

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (driver, id) = (self.0.clone(), self.1);
            let ended = std::thread::spawn(move || {
                tokio::runtime::Runtime::new().unwrap().block_on(driver.destroy(id)).unwrap();
            });
            let _ = ended.join();
        }
    }
}

fn busybox(root: &Path) {
    for folder in ["bin", "sbin", "etc", "dev", "proc", "sys", "tmp", "root", "mnt"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "ls", "sleep"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    symlink("../bin/busybox", root.join("sbin/init")).unwrap();
    std::fs::write(root.join("etc/inittab"), "::once:/bin/sleep 100000\n").unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
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

fn instance(config: BTreeMap<String, String>) -> Instance {
    Instance {
        id: InstanceId(uuid::Uuid::new_v4()),
        project: ProjectName::default_project(),
        name: InstanceName::new("c1").unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin: Origin::Empty,
            description: String::new(),
            ephemeral: false,
            config,
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
