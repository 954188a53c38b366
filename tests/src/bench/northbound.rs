//! The northbound reconciler: what it costs us to bring 10,000 ports into a real database, to see that nothing is to be
//! done, and to come back after the link was lost. northd is left out: its time is not ours.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use basalt_model::instance::{Instance, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::network::{Network, NetworkKind, NicAddress, eui64};
use basalt_model::{
    ClusterState, Epoch, Generation, InstanceId, InstanceName, Mac, NetworkName, NodeId, ProjectName, StateView,
    Timestamp, Version,
};
use basalt_ovn::northbound::{LiveNorthbound, Northbound};
use basalt_ovn::reconcile::Reconciler;
use basalt_ovn::topology::Desired;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use uuid::Uuid;

use super::{Bar, Report, Sample};
use crate::host;

const NETWORKS: u32 = 10;
const PORTS: u32 = 1000;
const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("northbound: {} ports on {NETWORKS} networks, a real ovsdb-server", NETWORKS * PORTS);
    if host::which("ovsdb-server").is_none() || !Path::new(SCHEMA).exists() {
        report.skip("northbound", "ovsdb-server or the northbound schema is not installed (package ovn-central)");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let state = Arc::new(state()?);
    let mut found = Found::default();
    for _ in 0..3 {
        let server = Server::start()?;
        runtime.block_on(once(&server, &state, &mut found))?;
    }
    report.bar("northbound: 10,000 ports, our CPU", &found.first, "ms", Bar::AtMost(2000.0));
    report.bar("northbound: a pass without a change", &found.unchanged, "ms", Bar::AtMost(50.0));
    report.bar("northbound: a pass after a change elsewhere", &found.elsewhere, "ms", Bar::AtMost(50.0));
    report.note("northbound: all rows compared, all right", &found.compared, "ms");
    report.bar("northbound: read after a reconnect", &found.again, "% of a dump", Bar::AtMost(1.0));
    Ok(())
}

#[derive(Default)]
struct Found {
    /// From nothing.
    first: Sample,
    /// Neither state nor database changed.
    unchanged: Sample,
    /// The state changed, though not what it says of networks.
    elsewhere: Sample,
    /// As if the database had changed: each row of it is looked at.
    compared: Sample,
    again: Sample,
}

async fn once(server: &Server, state: &Arc<ClusterState>, found: &mut Found) -> Result<()> {
    let live = connect(server).await?;
    let owner = state.cluster_id;
    let (mut reconciler, mut desired) = (Reconciler::new(owner), Desired::new(owner));
    let view = |version: u64| StateView::new(Version(version), Arc::clone(state));
    let before = cpu()?;
    let pass = reconciler.pass(&live, desired.look(&view(1)), 1).await?;
    found.first.push_time(cpu()?.saturating_sub(before));
    ensure!(pass.transactions == u64::from(NETWORKS) && pass.refused.is_empty(), "{pass:?}");
    let mut passed = async |sample: &mut Sample, reconciler: &mut Reconciler, version: u64| {
        let began = Instant::now();
        let pass = reconciler.pass(&live, desired.look(&view(version)), 1).await?;
        sample.push_time(began.elapsed());
        ensure!(pass.transactions == 0, "there was something to do: {pass:?}");
        anyhow::Ok(())
    };
    for version in 2..22 {
        passed(&mut found.elsewhere, &mut reconciler, version).await?;
        passed(&mut found.unchanged, &mut reconciler, version).await?;
        passed(&mut found.compared, &mut Reconciler::new(owner), version).await?;
    }
    drop(live);

    // Another session reads all of it, loses its link, and reads what it missed.
    let live = connect(server).await?;
    let dump = live.counts();
    let links = dump.links;
    server.control("ovsdb-server/reconnect")?;
    let back = async {
        while live.counts().links == links || live.snapshot().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back).await.context("the session did not come back")?;
    let more = live.counts().received - dump.received;
    #[allow(clippy::cast_precision_loss)] // some megabytes
    found.again.push(more as f64 * 100.0 / dump.received as f64);
    Ok(())
}

async fn connect(server: &Server) -> Result<LiveNorthbound> {
    let live = LiveNorthbound::connect(vec![server.remote().parse()?], None)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = live.snapshot() {
        if Instant::now() > deadline {
            bail!("{error}");
        }
        tokio::time::timeout(Duration::from_secs(60), live.changed(None)).await.context("no database")?;
    }
    Ok(live)
}

/// What this process has used so far, in both modes.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// A database of one server that remembers its changes, as a cluster's does.
struct Server {
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let local = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        host::run(&["ovsdb-tool", "create-cluster", &at("nb.db"), SCHEMA, &format!("tcp:{local}")])?;
        let remote = format!("--remote=punix:{}", at("sock"));
        let (ctl, log) = (format!("--unixctl={}", at("ctl")), format!("--log-file={}", at("log")));
        let mut command = Command::new("ovsdb-server");
        command.args([at("nb.db"), remote, ctl, log]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Server { dir, child };
        crate::wait::until_true("the database listens", Duration::from_secs(20), || {
            Ok(server.dir.path().join("sock").exists())
        })?;
        Ok(server)
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.dir.path().join("sock").display())
    }

    fn control(&self, command: &str) -> Result<()> {
        let ctl = self.dir.path().join("ctl").display().to_string();
        host::run(&["ovs-appctl", "-t", &ctl, command]).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Networks with instances that have their addresses, as a cluster holds them.
fn state() -> Result<ClusterState> {
    let mut state = ClusterState { cluster_id: Uuid::from_u128(0xba5a17), ..ClusterState::default() };
    for number in 1..=NETWORKS {
        let name = NetworkName::new(format!("net{number}"))?;
        let config = [("network", "none".to_owned()), ("ipv4.address", format!("10.{number}.0.1/16"))];
        let config = config.into_iter().chain([("ipv6.address", format!("fd42:{number}::1/64"))]);
        let network = Network {
            number,
            config: config.map(|(k, v)| (k.to_owned(), v)).collect(),
            ..Network::new(name.clone(), NetworkKind::Ovn)
        };
        for n in 0..PORTS {
            let mac = Mac([0, 0x16, 0x3e, u8::try_from(number)?, u8::try_from(n >> 8)?, u8::try_from(n & 255)?]);
            let instance = instance(number * PORTS + n, &name, mac)?;
            let ipv4 = Some([10, u8::try_from(number)?, u8::try_from(1 + (n >> 8))?, u8::try_from(n & 255)?].into());
            let ipv6 = network.subnet6().and_then(|net| eui64(net, mac));
            let address = NicAddress { network: network.id(), ipv4, ipv6 };
            state.addresses.insert((instance.id, "eth0".into()), address);
            state.instances.insert(instance.id, instance);
        }
        state.networks.insert(network.id(), network);
    }
    Ok(state)
}

fn instance(number: u32, network: &NetworkName, mac: Mac) -> Result<Instance> {
    let nic = [("type", "nic".to_owned()), ("network", network.to_string())];
    let nic = nic.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Ok(Instance {
        id: InstanceId(Uuid::from_u128(number.into())),
        project: ProjectName::default_project(),
        name: InstanceName::new(format!("c{number}"))?,
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin: Origin::Empty,
            description: String::new(),
            ephemeral: false,
            config: [("volatile.eth0.hwaddr".to_owned(), mac.to_string())].into(),
            devices: [("eth0".to_owned(), nic)].into(),
            profiles: Vec::new(),
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::On { node: NodeId(1), epoch: Epoch(1) },
        report: None,
        errands: Default::default(),
    })
}
