//! The composition root: builds every part and hands it what it needs, in reading order.

mod engine;
mod listen;
mod member;
mod state_dir;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use basalt_api::port::HostFacts;
use basalt_api::{Api, Context};
use basalt_model::Cluster;
use basalt_raft::RaftCluster;
use basalt_runtime::{CommandRunner, HostRunner, OnExit, Shutdown, Supervisor};
use basalt_storage::StorageHost;
use basalt_storage::image::ImageStore;

use crate::agent::carry::Shipper;
use crate::agent::{ImageShelf, Networks, Overlay, Pools, Samples};
use crate::announce::Abilities;
use crate::config::Config;
use crate::controller::health::Heartbeats;
use crate::fact::Clock;
use crate::port::files::NodeFiles;
use crate::port::guests::NodeGuests;
use crate::port::images::NodeImages;
use crate::port::membership::NodeMembership;
use crate::port::parts::NodeParts;
use crate::port::telemetry::{NodeTelemetry, PoolSpace};
use crate::remote::NodeRemotes;
use crate::rpc::images::PeerFetch;
use crate::rpc::live::Others;
use crate::rpc::peers::PeerClient;
use crate::sight::{Links, NodeSight};

/// How long running steps and requests may take to end after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(20);

type Identities = tokio::sync::watch::Receiver<Option<Arc<basalt_raft::NodeIdentity>>>;

/// A node that is put together and does not listen yet.
struct Built {
    raft: Arc<RaftCluster>,
    api: Arc<Api>,
    parts: member::Parts,
    identity: Identities,
}

/// Runs a node until `shutdown`. Guests run on.
///
/// # Errors
/// What keeps the node from starting, or the fatal error that ended it.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let _lock = state_dir::prepare(&config.state_dir)?;
    let Built { raft, api, parts, identity } = build(&config, &shutdown).await?;
    let supervisor = parts.supervisor.clone();
    let listeners = listen::open(&config, &api, &raft, &parts).await?;
    member::when_identified(parts, identity, listeners.cluster_tls.clone());
    stop_when_removed(&raft, &supervisor);

    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(state_dir = %config.state_dir.display(), api = %config.listen, "basaltd is up");
    shutdown.cancelled().await;

    // Order: accept nothing new, leave leadership, let running requests and steps end, stop Raft. Guests run on.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping; guests run on");
    raft.leave_leadership().await;
    if tokio::time::timeout(DRAIN, api.drained()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    raft.shutdown().await;
    if let Err(names) = supervisor.drain(DRAIN).await {
        tracing::warn!(?names, "some tasks did not end in time");
    }
    listeners.remove_socket();
    Ok(())
}

/// A member that was taken out of its cluster has nothing to serve. Its guests run on, untouched.
fn stop_when_removed(raft: &Arc<RaftCluster>, supervisor: &Supervisor) {
    let mut removed = raft.removed();
    let shutdown = supervisor.shutdown().clone();
    supervisor.spawn("removal", OnExit::Log, async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            outcome = removed.wait_for(|removed| *removed) => {
                if outcome.is_ok() {
                    tracing::error!(
                        "this member was removed from its cluster: basaltd ends, guests that are left run on. To use the \
                         machine again, empty the state folder and run `basalt init` or `basalt cluster join`"
                    );
                    shutdown.cancel();
                }
            }
        }
    });
}

async fn build(config: &Config, shutdown: &Shutdown) -> anyhow::Result<Built> {
    let supervisor = Supervisor::new(shutdown.clone());
    let registry = prometheus::Registry::new();
    let clock = Clock::default();
    let runner: Arc<dyn CommandRunner> = Arc::new(HostRunner);
    let raft = RaftCluster::open(raft_options(config), &supervisor, &registry)
        .await
        .context("the replicated state cannot be opened")?;
    let cluster: Arc<dyn Cluster> = raft.clone();

    let engine = engine::build(config, runner.clone(), &supervisor)?;
    let (abilities, facts) = engine::abilities(config, &engine, &runner).await;

    let peers = Arc::new(PeerClient::new(cluster.clone(), supervisor.clone()));
    let member = engine::storage_name(&config.state_dir)?;
    let state_dir = config.state_dir.clone();
    let pools = Arc::new(Pools::new(StorageHost { state_dir, runner: runner.clone(), member }));
    let (networks, overlay, sight) = networking(config, &cluster, engine.host_network, runner)?;
    let links = sight.links.clone();
    let shelf = shelf(config, &peers);
    let shipper = shipper(&cluster, &pools, &engine.drivers, &supervisor);
    let samples = Arc::new(Samples::default());
    let (heartbeats, space) = (Arc::new(Heartbeats::default()), Arc::new(PoolSpace::default()));

    let telemetry = Arc::new(NodeTelemetry {
        samples: samples.clone(),
        others: Arc::new(Others::new(cluster.clone(), peers.clone())),
        networks: networks.clone(),
        heartbeats: heartbeats.clone(),
        space: space.clone(),
        ovn_log: config.ovn.log.clone(),
        agent: std::sync::OnceLock::new(),
    });
    let lacks = facts.lacks.clone();
    let (membership, identity) = membership(config, &raft, &clock, facts, &abilities);
    let api = Api::new(Context {
        cluster: cluster.clone(),
        guests: Arc::new(NodeGuests { cluster: cluster.clone(), drivers: engine.drivers.clone() }),
        parts: Arc::new(NodeParts { cluster: cluster.clone(), pools: pools.clone() }),
        files: Arc::new(NodeFiles { cluster: cluster.clone(), drivers: engine.drivers.clone(), pools: pools.clone() }),
        peers: peers.clone(),
        telemetry: telemetry.clone(),
        images: Arc::new(NodeImages { cluster: cluster.clone(), shelf: shelf.clone(), pools: pools.clone() }),
        remotes: Arc::new(NodeRemotes::new(cluster.clone(), shelf.clone(), config.image_ca_file.clone())),
        sight: Arc::new(sight),
        membership,
        registry: registry.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        shutdown: shutdown.token(),
    });
    let (drivers, host_network, machine) = (engine.drivers, engine.host_network, abilities.machine.clone());
    let parts = member::Parts {
        cluster,
        api: api.clone(),
        drivers,
        host_network,
        pools,
        networks,
        overlay,
        shelf,
        shipper,
        samples,
        heartbeats,
        space,
        telemetry,
        peers,
        supervisor,
        clock,
        machine,
        registry,
        abilities,
        lacks,
        links,
    };
    Ok(Built { raft, api, parts, identity })
}

/// How this host becomes a member and ceases to be one; tells of each identity that it gets.
fn membership(
    config: &Config,
    raft: &Arc<RaftCluster>,
    clock: &Clock,
    facts: HostFacts,
    abilities: &Abilities,
) -> (Arc<NodeMembership>, Identities) {
    let (identified, identity) = tokio::sync::watch::channel(raft.identity());
    let membership = NodeMembership {
        raft: raft.clone(),
        clock: clock.clone(),
        facts,
        abilities: abilities.clone(),
        identity_dir: config.state_dir.join("identity"),
        cluster_port: config.cluster_listen.port(),
        busy: tokio::sync::Mutex::default(),
        identified,
    };
    (Arc::new(membership), identity)
}

/// What this host has of networks: bridges, its part in logical ones where it has a switch, and what it sees of them.
fn networking(
    config: &Config,
    cluster: &Arc<dyn Cluster>,
    host_network: bool,
    runner: Arc<dyn CommandRunner>,
) -> anyhow::Result<(Arc<Networks>, Option<Arc<Overlay>>, NodeSight)> {
    let host = Arc::new(basalt_net::Host::new(runner.clone(), config.state_dir.join("networks")));
    let networks = Arc::new(Networks::new(host.clone()));
    let switch = engine::switch(config, host_network)?;
    let (options, links) = (config.ovn.clone(), Arc::new(Links::default()));
    let overlay = switch.clone().map(|switch| Overlay::new(switch, options.clone(), host, runner.clone()));
    let overlay = overlay.map(Arc::new);
    let (cluster, folder) = (cluster.clone(), config.state_dir.join("ovn-trace"));
    let sight = NodeSight { cluster, options, switch, overlay: overlay.clone(), links, runner, folder };
    Ok((networks, overlay, sight))
}

fn shelf(config: &Config, peers: &Arc<PeerClient>) -> Arc<ImageShelf> {
    let store = ImageStore::new(config.state_dir.join("images"));
    Arc::new(ImageShelf::new(store, Arc::new(PeerFetch(peers.clone()))))
}

fn shipper(
    cluster: &Arc<dyn Cluster>,
    pools: &Arc<Pools>,
    drivers: &engine::Drivers,
    supervisor: &Supervisor,
) -> Arc<Shipper> {
    let (cluster, pools) = (cluster.clone(), pools.clone());
    Arc::new(Shipper { cluster, pools, drivers: drivers.clone(), supervisor: supervisor.clone() })
}

fn raft_options(config: &Config) -> basalt_raft::Options {
    let mut options = basalt_raft::Options::new(config.state_dir.join("raft"), config.state_dir.join("identity"));
    options.heartbeat = config.heartbeat;
    (options.election_min, options.election_max) = config.election;
    options
}
