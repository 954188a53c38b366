//! What is known of running guests and of hosts, from memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use basalt_api::dto::acl::LogEntry;
use basalt_api::port::{LiveState, PortError, Telemetry};
use basalt_model::port::{Liveness, Load};
use basalt_model::{InstanceId, Mac, NetworkName, NodeId};
use basalt_ovn::acl_log;

use crate::agent::{Agent, Networks, Pools, Samples};
use crate::controller::health::Heartbeats;
use crate::rpc::heartbeat::Beat;
use crate::rpc::live::Others;

/// Samples of this node, what other members last told, and heartbeats.
#[derive(Debug)]
pub struct NodeTelemetry {
    pub samples: Arc<Samples>,
    pub others: Arc<Others>,
    pub networks: Arc<Networks>,
    pub heartbeats: Arc<Heartbeats>,
    pub space: Arc<PoolSpace>,
    /// Where ovn-controller logs.
    pub ovn_log: PathBuf,
    /// Set once this node is a member.
    pub agent: OnceLock<Arc<Agent>>,
}

/// Bytes of each pool, refreshed with every heartbeat so that a page of metrics asks no disk.
#[derive(Debug, Default)]
pub struct PoolSpace(std::sync::Mutex<BTreeMap<String, (u64, u64)>>);

impl PoolSpace {
    /// Asks every open pool.
    pub async fn refresh(&self, pools: &Pools) -> Beat {
        let mut space = BTreeMap::new();
        for (name, store) in pools.open() {
            if let Ok(found) = store.space().await {
                space.insert(name.to_string(), (found.total.saturating_sub(found.used), found.total));
            }
        }
        let pool_free = space.iter().map(|(name, (free, _))| (name.clone(), *free)).collect();
        *self.lock() = space;
        Beat::of_host(pool_free)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (u64, u64)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Telemetry for NodeTelemetry {
    async fn live(&self) -> BTreeMap<InstanceId, LiveState> {
        let mut all = self.others.all().await;
        all.extend(self.samples.all());
        all
    }

    async fn measure(&self, id: InstanceId) -> Option<LiveState> {
        self.agent.get()?.measure(id, true).await
    }

    fn pool_space(&self) -> BTreeMap<String, (u64, u64)> {
        self.space.lock().clone()
    }

    fn load(&self, node: NodeId) -> Option<Load> {
        self.heartbeats.load(node)
    }

    async fn leases(&self, network: &NetworkName) -> Vec<(Mac, IpAddr, String)> {
        self.networks.leases(network).await
    }

    async fn acl_log(&self, list: u32) -> Result<Vec<LogEntry>, PortError> {
        let file = self.ovn_log.clone();
        let read = tokio::task::spawn_blocking(move || {
            let failed = |error| PortError::Internal(format!("read {}: {error}", file.display()));
            acl_log::read(&file, list).map_err(failed)
        });
        let packets = read.await.map_err(|e| PortError::Internal(e.to_string()))??;
        let entry = |packet: acl_log::Packet| LogEntry {
            time: packet.time,
            proto: packet.protocol,
            src: packet.source,
            dst: packet.destination,
            src_port: packet.source_port,
            dst_port: packet.destination_port,
            icmp_type: packet.icmp_type,
            icmp_code: packet.icmp_code,
            action: packet.verdict,
        };
        Ok(packets.into_iter().map(entry).collect())
    }
}
