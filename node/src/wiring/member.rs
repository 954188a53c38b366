//! What a node does once it is part of a cluster: the agent, the controllers, heartbeats.

use std::sync::Arc;

use basalt_api::Api;
use basalt_api::serve::TlsSlot;
use basalt_model::{Cluster, NodeId};
use basalt_raft::{NodeIdentity, pki};
use basalt_runtime::{OnExit, Supervisor};
use tokio::sync::watch;

use super::engine::Drivers;
use crate::agent::carry::Shipper;
use crate::agent::{self, Agent, ImageShelf, Networks, Overlay, Pools, Samples};
use crate::announce::{self, Abilities};
use crate::controller::health::{self, Heartbeats};
use crate::controller::{evacuation, images, moves, network, placement, schedule, tidy, warnings};
use crate::fact::{Clock, Machine};
use crate::metrics::{AgentMetrics, NetworkMetrics, SchedulerMetrics};
use crate::port::telemetry::{NodeTelemetry, PoolSpace};
use crate::rpc::heartbeat;
use crate::rpc::peers::PeerClient;
use crate::rpc::volumes::PeerCarry;
use crate::sight::Links;

/// What all of it is built from.
pub(super) struct Parts {
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) api: Arc<Api>,
    pub(super) drivers: Drivers,
    pub(super) host_network: bool,
    pub(super) pools: Arc<Pools>,
    pub(super) networks: Arc<Networks>,
    pub(super) overlay: Option<Arc<Overlay>>,
    pub(super) shelf: Arc<ImageShelf>,
    pub(super) shipper: Arc<Shipper>,
    pub(super) samples: Arc<Samples>,
    pub(super) heartbeats: Arc<Heartbeats>,
    pub(super) space: Arc<PoolSpace>,
    pub(super) telemetry: Arc<NodeTelemetry>,
    pub(super) peers: Arc<PeerClient>,
    pub(super) supervisor: Supervisor,
    pub(super) clock: Clock,
    pub(super) machine: Machine,
    pub(super) registry: prometheus::Registry,
    pub(super) abilities: Abilities,
    /// What the host cannot do, each with what to do about it.
    pub(super) lacks: Vec<String>,
    pub(super) links: Arc<Links>,
}

/// Starts everything as soon as this node has an identity: at once on a restart, later on a fresh machine.
pub(super) fn when_identified(
    parts: Parts,
    mut identity: watch::Receiver<Option<Arc<NodeIdentity>>>,
    cluster_tls: TlsSlot,
) {
    let supervisor = parts.supervisor.clone();
    supervisor.spawn("membership", OnExit::Fatal, async move {
        let shutdown = parts.supervisor.shutdown().clone();
        let found = tokio::select! {
            () = shutdown.cancelled() => return,
            found = identity.wait_for(Option::is_some) => found.ok().and_then(|held| held.clone()),
        };
        let Some(identity) = found else { return };
        if let Err(error) = begin(parts, &identity, &cluster_tls).await {
            tracing::error!(%error, "this member cannot take part");
            shutdown.cancel();
        }
    });
}

async fn begin(parts: Parts, identity: &NodeIdentity, cluster_tls: &TlsSlot) -> anyhow::Result<()> {
    parts.peers.identify(pki::tls::client_config(identity)?);
    cluster_tls.store(Some(pki::tls::server_config(identity)?));
    let me = identity.node_id;
    // A joiner's state is on its way; an agent that looked before would take all it finds for orphans of a stale view.
    let mut view = parts.cluster.view();
    while !view.members.contains_key(&me) {
        tokio::select! {
            () = parts.supervisor.shutdown().cancelled() => return Ok(()),
            changed = parts.cluster.changed_since(view.version) => view = changed,
        }
    }
    let agent = agent(&parts, me)?;
    if parts.telemetry.agent.set(agent.clone()).is_err() {
        anyhow::bail!("the agent was started twice");
    }
    let scheduler = SchedulerMetrics::register(&parts.registry)?;
    let networks = NetworkMetrics::register(&parts.registry)?;
    start(parts, me, agent, (scheduler, networks));
    Ok(())
}

fn agent(parts: &Parts, me: NodeId) -> anyhow::Result<Arc<Agent>> {
    Ok(Agent::new(agent::Parts {
        me,
        cluster: parts.cluster.clone(),
        drivers: parts.drivers.clone(),
        pools: parts.pools.clone(),
        networks: parts.networks.clone(),
        overlay: parts.overlay.clone(),
        images: parts.shelf.clone(),
        shipper: parts.shipper.clone(),
        carry: Arc::new(PeerCarry(parts.peers.clone())),
        samples: parts.samples.clone(),
        supervisor: parts.supervisor.clone(),
        clock: parts.clock.clone(),
        metrics: AgentMetrics::register(&parts.registry)?,
        cpus: parts.machine.cpus,
        memory: parts.machine.memory,
        host_network: parts.host_network,
    }))
}

fn start(parts: Parts, me: NodeId, agent: Arc<Agent>, (scheduler, networks): (SchedulerMetrics, NetworkMetrics)) {
    let Parts { cluster, supervisor, heartbeats, peers, pools, space, clock, .. } = parts;
    let Parts { abilities, shelf, api, lacks, overlay, links, telemetry, .. } = parts;
    let shutdown = supervisor.shutdown().clone();
    let chassis = overlay.as_ref().map_or_else(|| watch::channel(None).1, |overlay| overlay.chassis());
    let announcing = announce::run(cluster.clone(), me, abilities, chassis, shutdown.clone());
    supervisor.spawn("announce", OnExit::Log, announcing);
    if let Some(overlay) = overlay {
        let shutdown = shutdown.clone();
        supervisor.spawn("chassis", OnExit::Fatal, async move { overlay.run(shutdown).await });
    }
    supervisor.spawn("agent", OnExit::Fatal, agent.clone().run());
    supervisor.spawn("sampler", OnExit::Fatal, agent::sample::run(agent));
    let telling = agent::zones::run(me, cluster.clone(), telemetry, shutdown.clone());
    supervisor.spawn("network zones", OnExit::Log, telling);
    let placing = placement::run(cluster.clone(), heartbeats.clone(), clock.clone(), scheduler, shutdown.clone());
    supervisor.spawn("placement", OnExit::Fatal, placing);
    let moving = moves::run(cluster.clone(), heartbeats.clone(), shutdown.clone());
    supervisor.spawn("moves", OnExit::Fatal, moving);
    let emptying = evacuation::run(cluster.clone(), heartbeats.clone(), clock.clone(), shutdown.clone());
    supervisor.spawn("evacuation", OnExit::Fatal, emptying);
    let tidying = tidy::run(cluster.clone(), clock.clone(), shutdown.clone());
    supervisor.spawn("expired snapshots", OnExit::Fatal, tidying);
    let taking = schedule::run(cluster.clone(), clock.clone(), shutdown.clone());
    supervisor.spawn("scheduled snapshots", OnExit::Fatal, taking);
    let copying = agent::copies::run(me, cluster.clone(), shelf, shutdown.clone());
    supervisor.spawn("image copies", OnExit::Fatal, copying);
    let keeping = images::run(cluster.clone(), api, clock.clone(), shutdown.clone());
    supervisor.spawn("images", OnExit::Fatal, keeping);
    let (findings, found) = watch::channel(network::Findings::new());
    let connect = network::Connect::live();
    let joining = network::Parts { cluster: cluster.clone(), connect, metrics: networks, findings };
    supervisor.spawn("networks", OnExit::Fatal, network::run(joining, shutdown.clone()));
    let warning = warnings::run(cluster.clone(), lacks, found, clock.clone(), shutdown.clone());
    supervisor.spawn("warnings", OnExit::Fatal, warning);
    supervisor.spawn("links to OVN", OnExit::Fatal, links.run(shutdown.clone()));
    let watching = health::run(cluster.clone(), heartbeats.clone(), clock, shutdown.clone());
    supervisor.spawn("health", OnExit::Fatal, watching);
    let beating = heartbeat::run(cluster, peers, (pools, space), heartbeats, shutdown);
    supervisor.spawn("heartbeat", OnExit::Fatal, beating);
}
