//! Heartbeats: each member tells the leader once a second that it is there and how loaded it is. Never in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::{Json, Router, routing::post};
use basalt_model::port::Load;
use basalt_model::{Cluster, NodeId};
use basalt_runtime::Shutdown;
use serde::{Deserialize, Serialize};

use super::peers::PeerClient;
use crate::agent::Pools;
use crate::controller::health::Heartbeats;
use crate::fact;
use crate::port::telemetry::PoolSpace;

/// One heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beat {
    pub load1: f64,
    pub memory_available: u64,
    pub pool_free: BTreeMap<String, u64>,
    pub uptime_secs: u64,
}

impl From<Beat> for Load {
    fn from(beat: Beat) -> Load {
        Load {
            age: Duration::ZERO,
            load1: beat.load1,
            memory_available: beat.memory_available,
            pool_free: beat.pool_free,
            uptime: Duration::from_secs(beat.uptime_secs),
        }
    }
}

impl Beat {
    /// This host now, with the free bytes of its pools.
    pub fn of_host(pool_free: BTreeMap<String, u64>) -> Self {
        Beat {
            load1: fact::load1(),
            memory_available: fact::meminfo("MemAvailable").unwrap_or(0),
            pool_free,
            uptime_secs: fact::uptime().as_secs(),
        }
    }
}

/// Beats until shutdown.
pub async fn run(
    cluster: Arc<dyn Cluster>,
    peers: Arc<PeerClient>,
    measured: (Arc<Pools>, Arc<PoolSpace>),
    heartbeats: Arc<Heartbeats>,
    shutdown: Shutdown,
) {
    let (pools, space) = measured;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let beat = space.refresh(&pools).await;
        let standing = cluster.standing();
        heartbeats.record(standing.me, beat.clone().into());
        let Some(leader) = standing.leader.filter(|leader| *leader != standing.me) else { continue };
        if let Err(error) = peers.post_json(leader, super::HEARTBEAT, &beat, Duration::from_secs(2)).await {
            tracing::debug!(%error, "the leader could not be told that this member is there");
        }
    }
}

/// The leader's side. The caller's identity comes from its certificate, never from the body.
pub fn routes(heartbeats: Arc<Heartbeats>) -> Router {
    async fn beat(
        State(heartbeats): State<Arc<Heartbeats>>,
        Extension(from): Extension<Caller>,
        Json(beat): Json<Beat>,
    ) -> http::StatusCode {
        heartbeats.record(from.0, beat.into());
        http::StatusCode::NO_CONTENT
    }
    Router::new().route(super::HEARTBEAT, post(beat)).with_state(heartbeats)
}

/// The member at the other end of a connection to the cluster port.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub NodeId);
