//! What has become of logical networks. What they are to be is in the state; this is what OVN says of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use basalt_model::StateView;
use basalt_model::network::Network;

use super::PortError;
use crate::dto::diagnosis::{Finding, Host, Trace};

/// Where a logical port is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// The chassis that has it; none when it is nowhere plugged in.
    pub chassis: Option<String>,
    /// Whether its flows are in place there.
    pub up: bool,
}

/// The way through a network. Chassis are as OVN calls them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Those that may carry what leaves by the uplink, in the order in which they are to.
    pub gateways: Vec<String>,
    /// The one that does.
    pub active: Option<String>,
    /// Logical ports by their names.
    pub ports: BTreeMap<String, Bound>,
    /// Host names of chassis.
    pub hosts: BTreeMap<String, String>,
    /// Why the southbound database did not say: then only the first field is filled.
    pub lacking: Option<String>,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A request for an echo.
    Echo,
    /// To a port.
    Tcp(u16),
    /// To a port.
    Udp(u16),
}

/// Where would a packet go?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The logical port that it comes from.
    pub port: String,
    /// The number of its network.
    pub network: u32,
    pub to: IpAddr,
    pub payload: Payload,
    /// What logical ports are called before whoever asks.
    pub names: BTreeMap<String, String>,
}

/// What OVN has found of a backend of a load balancer: the address, and the port of its protocol (`tcp`, `udp`), and
/// `online`, `offline` or `error`; nothing before the first check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub address: IpAddr,
    pub protocol: String,
    pub port: u16,
    pub status: Option<String>,
}

/// Looks at logical networks from this member.
#[async_trait]
pub trait Sight: Send + Sync {
    /// Whether this member knows a southbound database: hosts that are a chassis do.
    async fn looks(&self) -> bool;
    /// The way through a network.
    async fn path(&self, view: &StateView, network: &Network) -> Seen;
    /// What has been found of the network's interfaces at these addresses as backends of load balancers.
    ///
    /// # Errors
    /// The southbound database did not say.
    async fn checked(&self, view: &StateView, network: &Network, at: &[IpAddr]) -> Result<Vec<Checked>, PortError>;
    /// This host's switch.
    async fn host(&self) -> Host;
    /// What is wrong with a network, after members have told of their switches; what is wrong comes first. It takes some
    /// seconds when something is.
    async fn diagnose(&self, network: &Network, hosts: &BTreeMap<String, Host>) -> Vec<Finding>;
    /// Whether this member has what [`Sight::trace`] needs.
    async fn traces(&self) -> bool;
    /// Where a packet would go.
    ///
    /// # Errors
    /// The question makes no sense, or this member cannot answer it: the error says what it lacks.
    async fn trace(&self, question: Question) -> Result<Trace, PortError>;
}
