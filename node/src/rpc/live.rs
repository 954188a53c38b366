//! Live states of guests between members: asked for when a list needs them, answered from memory, kept for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::{Json, Router, routing::get};
use basalt_api::port::LiveState;
use basalt_model::{Cluster, InstanceId, NodeId};
use futures_util::future::join_all;

use super::peers::PeerClient;
use crate::agent::Samples;

/// Answers younger than this are used again.
const FRESH: Duration = Duration::from_secs(2);
/// A member that takes longer is shown as it was last known.
const DEADLINE: Duration = Duration::from_millis(500);

/// Instance states by id, as they travel.
type States = Vec<(InstanceId, LiveState)>;

/// Serves this member's samples.
pub fn routes(samples: Arc<Samples>) -> Router {
    async fn live(State(samples): State<Arc<Samples>>) -> Json<States> {
        Json(samples.all().into_iter().collect())
    }
    Router::new().route(super::LIVE, get(live)).with_state(samples)
}

/// When a member last told, and what.
type Told = (Instant, BTreeMap<InstanceId, LiveState>);

/// What other members last told.
#[derive(Debug)]
pub struct Others {
    cluster: Arc<dyn Cluster>,
    peers: Arc<PeerClient>,
    told: Mutex<BTreeMap<NodeId, Told>>,
}

impl Others {
    /// Knows nothing yet.
    pub fn new(cluster: Arc<dyn Cluster>, peers: Arc<PeerClient>) -> Self {
        Others { cluster, peers, told: Mutex::default() }
    }

    /// Live states of all other members' guests; members are asked at the same time, and only those whose last answer
    /// is no longer fresh.
    pub async fn all(&self) -> BTreeMap<InstanceId, LiveState> {
        let view = self.cluster.view();
        let me = self.cluster.standing().me;
        let ask = |node: &NodeId| {
            let told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            told.get(node).is_none_or(|(at, _)| at.elapsed() > FRESH)
        };
        let members: Vec<NodeId> = view.members.keys().copied().filter(|node| *node != me).collect();
        join_all(members.iter().filter(|node| ask(node) && view.online(**node)).map(|node| self.ask(*node))).await;
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        told.retain(|node, _| members.contains(node));
        told.values().flat_map(|(_, states)| states.iter().map(|(id, live)| (*id, live.clone()))).collect()
    }

    async fn ask(&self, node: NodeId) {
        match self.peers.get_json::<States>(node, super::LIVE, DEADLINE).await {
            Ok(states) => {
                let states = states.into_iter().collect();
                let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                told.insert(node, (Instant::now(), states));
            }
            Err(error) => tracing::debug!(%node, %error, "live states as last known"),
        }
    }
}
