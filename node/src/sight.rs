//! What OVN has made of logical networks, for those who ask this member.
//!
//! ```text
//!  southbound of [ovn], else of the switch (ovn-remote) --link, while it is used--> bindings of one network
//! ```
//! **Who asks whom.** The member that was asked reads: every chassis must reach the southbound database anyway, or no
//! interface of its guests works, and so the answer also tells how this host sees it. The link is made by the first
//! question and ends some time after the last: most members are never asked.
//!
//! **Failure.** What OVN does not say is lacking from the answer, which says so; what the state knows is there.

mod doctor;
mod link;
mod trace;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use basalt_api::dto::diagnosis::{Finding, Host, Trace};
use basalt_api::port::PortError;
use basalt_api::port::sight::{Bound, Checked, Question, Seen, Sight};
use basalt_model::network::{self, Network};
use basalt_model::{Cluster, StateView};
use basalt_ovn::southbound::{Bindings, Monitor, Southbound};
use basalt_ovn::topology;
use basalt_ovn::vswitch::Switch;
use basalt_runtime::{CommandRunner, chain};
use tokio::time::timeout;

use crate::agent::Overlay;
use crate::config::Ovn;
pub use link::Links;

/// How long this host's switch may take to say where the southbound database is.
const SWITCH: Duration = Duration::from_secs(2);

/// This member's eyes.
pub struct NodeSight {
    pub cluster: Arc<dyn Cluster>,
    pub options: Ovn,
    /// `None` on a host without.
    pub switch: Option<Switch>,
    /// The host's part in logical networks; `None` with the switch.
    pub overlay: Option<Arc<Overlay>>,
    pub links: Arc<Links>,
    pub runner: Arc<dyn CommandRunner>,
    /// Where files for programs that look are put.
    pub folder: PathBuf,
}

impl std::fmt::Debug for NodeSight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeSight").field("options", &self.options).finish_non_exhaustive()
    }
}

impl NodeSight {
    /// Where the southbound database is: as configured, else as the switch was told by hand.
    async fn remotes(&self) -> Option<String> {
        match (&self.options.southbound, &self.switch) {
            (Some(remotes), _) => Some(remotes.clone()),
            (None, Some(switch)) => timeout(SWITCH, switch.facts()).await.ok()?.ok()?.remote,
            (None, None) => None,
        }
    }

    async fn southbound(&self, view: &StateView) -> Result<Southbound, String> {
        let remotes = self.remotes().await.ok_or("this member knows no southbound database")?;
        self.links.southbound(view, &remotes).map_err(|e| chain(&e))
    }

    async fn bindings(&self, view: &StateView, network: &Network) -> Result<Bindings, String> {
        let southbound = self.southbound(view).await?;
        southbound.bindings(&network::prefix(network.number)).await.map_err(|e| chain(&e))
    }
}

#[async_trait]
impl Sight for NodeSight {
    async fn looks(&self) -> bool {
        self.remotes().await.is_some()
    }

    async fn path(&self, view: &StateView, network: &Network) -> Seen {
        let gateways = topology::gateways(view, network);
        let bindings = match self.bindings(view, network).await {
            Ok(bindings) => bindings,
            Err(why) => return Seen { gateways, lacking: Some(why), ..Seen::default() },
        };
        let active = bindings.gateway(&network::prefix(network.number)).map(str::to_owned);
        let hosts = bindings.chassis.into_iter().map(|(name, chassis)| (name, chassis.hostname)).collect();
        let bound = |(name, found): (String, basalt_ovn::southbound::Binding)| {
            (name, Bound { chassis: found.chassis, up: found.up })
        };
        Seen { gateways, active, ports: bindings.ports.into_iter().map(bound).collect(), hosts, lacking: None }
    }

    async fn checked(&self, view: &StateView, network: &Network, at: &[IpAddr]) -> Result<Vec<Checked>, PortError> {
        let southbound = self.southbound(view).await.map_err(PortError::Unavailable)?;
        let found = southbound.monitors(&network::prefix(network.number), at).await;
        let found = found.map_err(|error| PortError::Unavailable(chain(&error)))?;
        let checked = |Monitor { address, port, protocol, status }| Checked { address, protocol, port, status };
        Ok(found.into_iter().map(checked).collect())
    }

    async fn host(&self) -> Host {
        self.own_host().await
    }

    async fn diagnose(&self, network: &Network, hosts: &BTreeMap<String, Host>) -> Vec<Finding> {
        self.examine(network, hosts).await
    }

    async fn traces(&self) -> bool {
        let there = |folder: &str| std::path::Path::new(folder).join(basalt_ovn::trace::PROGRAM).exists();
        self.looks().await && ["/usr/bin", "/usr/local/bin", "/usr/sbin"].into_iter().any(there)
    }

    async fn trace(&self, question: Question) -> Result<Trace, PortError> {
        self.follow(question).await
    }
}
