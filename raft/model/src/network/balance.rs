//! What listens on an uplink's addresses for those inside: forwards, and load balancers. Both belong to their network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Network, ports};
use crate::Generation;
use crate::device::InvalidDevice as InvalidKey;

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Transport::Tcp),
            "udp" => Ok(Transport::Udp),
            other => Err(format!("{other:?} is neither tcp nor udp")),
        }
    }
}

/// Ports of a forward: `listen_port` is a list as in `80,90-99`, `target_port` the same number of them, one for all, or
/// nothing for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardPort {
    pub description: String,
    pub protocol: Transport,
    pub listen_port: String,
    pub target_port: String,
    pub target_address: IpAddr,
}

/// An address of the uplink whose traffic goes to addresses inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub listen: IpAddr,
    pub description: String,
    /// `target_address` for what no port is about; `user.*`.
    pub config: BTreeMap<String, String>,
    pub ports: Vec<ForwardPort>,
    pub generation: Generation,
}

/// One that takes a share of a balancer's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub name: String,
    pub description: String,
    pub target_port: String,
    pub target_address: IpAddr,
}

/// Ports of a balancer, and which backends take them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerPort {
    pub description: String,
    pub protocol: Transport,
    pub listen_port: String,
    pub target_backend: Vec<String>,
}

/// An address of the uplink whose traffic is spread over addresses inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancer {
    pub listen: IpAddr,
    pub description: String,
    /// `healthcheck` and its times; `user.*`.
    pub config: BTreeMap<String, String>,
    pub backends: Vec<Backend>,
    pub ports: Vec<BalancerPort>,
    pub generation: Generation,
}

/// Transport, port that is listened on, addresses and ports inside.
pub type Mapped = (Transport, u16, Vec<(IpAddr, u16)>);

/// How backends are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// Seconds between checks, and until one counts as failed.
    pub interval: u32,
    pub timeout: u32,
    /// How many in a row change what is thought of a backend.
    pub success_count: u32,
    pub failure_count: u32,
}

impl Forward {
    /// The target of what no port is about.
    pub fn default_target(&self) -> Option<IpAddr> {
        self.config.get("target_address")?.parse().ok()
    }

    /// Listening port, then address and port inside, of each transport.
    pub fn mapped(&self) -> Vec<(Transport, u16, IpAddr, u16)> {
        let each = |port: &ForwardPort| {
            let pairs = pairs(&port.listen_port, &port.target_port).unwrap_or_default();
            let (protocol, target) = (port.protocol, port.target_address);
            pairs.into_iter().map(move |(listen, to)| (protocol, listen, target, to))
        };
        self.ports.iter().flat_map(each).collect()
    }
}

impl Balancer {
    /// Listening port, then all addresses and ports inside, of each transport.
    pub fn mapped(&self) -> Vec<Mapped> {
        let mut all: BTreeMap<(Transport, u16), Vec<(IpAddr, u16)>> = BTreeMap::new();
        for port in &self.ports {
            for backend in self.backends.iter().filter(|b| port.target_backend.contains(&b.name)) {
                for (listen, to) in pairs(&port.listen_port, &backend.target_port).unwrap_or_default() {
                    all.entry((port.protocol, listen)).or_default().push((backend.target_address, to));
                }
            }
        }
        all.into_iter().map(|((protocol, listen), targets)| (protocol, listen, targets)).collect()
    }

    /// The ports that a backend is reached at, in order.
    pub fn reached(&self, backend: &Backend) -> BTreeSet<(Transport, u16)> {
        let ports = self.ports.iter().filter(|port| port.target_backend.contains(&backend.name));
        let each = |port: &BalancerPort| {
            let pairs = pairs(&port.listen_port, &backend.target_port).unwrap_or_default();
            let protocol = port.protocol;
            pairs.into_iter().map(move |(_, to)| (protocol, to))
        };
        ports.flat_map(each).collect()
    }

    /// How its backends are looked after, if they are.
    pub fn health_check(&self) -> Option<HealthCheck> {
        let on = self.config.get("healthcheck").is_some_and(|v| crate::config::is_true(v));
        let number = |key: &str, default: u32| {
            self.config.get(&format!("healthcheck.{key}")).and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        on.then(|| HealthCheck {
            interval: number("interval", 10),
            timeout: number("timeout", 30),
            success_count: number("success_count", 3),
            failure_count: number("failure_count", 3),
        })
    }
}

/// Which port inside each listening port goes to.
fn pairs(listen: &str, target: &str) -> Result<Vec<(u16, u16)>, String> {
    let flat = |ranges: Vec<(u16, u16)>| ranges.into_iter().flat_map(|(a, b)| a..=b).collect::<Vec<u16>>();
    let from = flat(ports(listen)?);
    if target.is_empty() {
        return Ok(from.iter().map(|port| (*port, *port)).collect());
    }
    match flat(ports(target)?) {
        to if to.len() == 1 => Ok(from.iter().map(|port| (*port, to[0])).collect()),
        to if to.len() == from.len() => Ok(from.into_iter().zip(to).collect()),
        to => {
            Err(format!("{} ports for the {} that are listened on: give as many, one, or none", to.len(), from.len()))
        }
    }
}

fn bad(key: impl Into<String>, why: impl Into<String>) -> InvalidKey {
    InvalidKey { key: key.into(), why: why.into() }
}

fn inside(network: &Network, listen: IpAddr, target: IpAddr, key: &str) -> Result<(), InvalidKey> {
    let within = match target {
        IpAddr::V4(ip) => network.subnet4().is_some_and(|net| super::check::usable4(network, net, ip)),
        IpAddr::V6(ip) => network.subnet6().is_some_and(|net| super::check::usable6(net, ip)),
    };
    match (listen.is_ipv4() == target.is_ipv4(), within) {
        (false, _) => Err(bad(key, format!("{target} is of another family than {listen}"))),
        (true, false) => {
            Err(bad(key, format!("{target} is not the address of an instance on network {}", network.name)))
        }
        (true, true) => Ok(()),
    }
}

/// Whether the forward can be on the network, its listening address aside.
///
/// # Errors
/// Names the field.
pub fn check_forward(network: &Network, forward: &Forward) -> Result<(), InvalidKey> {
    crate::config::validate(crate::config::FORWARD, &forward.config).map_err(|wrong| {
        wrong.into_iter().next().map_or_else(|| bad("config", ""), |w| bad(format!("config.{}", w.key), w.why))
    })?;
    if let Some(text) = forward.config.get("target_address") {
        let key = "config.target_address";
        let target = text.parse().map_err(|_| bad(key, format!("{text:?} is not an address")))?;
        inside(network, forward.listen, target, key)?;
    }
    let mut taken = BTreeSet::new();
    for (at, port) in forward.ports.iter().enumerate() {
        let field = |name: &str| format!("ports[{at}].{name}");
        inside(network, forward.listen, port.target_address, &field("target_address"))?;
        let pairs = pairs(&port.listen_port, "").map_err(|why| bad(field("listen_port"), why))?;
        self::pairs(&port.listen_port, &port.target_port).map_err(|why| bad(field("target_port"), why))?;
        if let Some((twice, _)) = pairs.into_iter().find(|(listen, _)| !taken.insert((port.protocol, *listen))) {
            return Err(bad(field("listen_port"), format!("{twice} is listened on twice")));
        }
    }
    Ok(())
}

/// Whether the balancer can be on the network, its listening address aside.
///
/// # Errors
/// Names the field.
pub fn check_balancer(network: &Network, balancer: &Balancer) -> Result<(), InvalidKey> {
    crate::config::validate(crate::config::BALANCER, &balancer.config).map_err(|wrong| {
        wrong.into_iter().next().map_or_else(|| bad("config", ""), |w| bad(format!("config.{}", w.key), w.why))
    })?;
    let mut names = BTreeSet::new();
    for (at, backend) in balancer.backends.iter().enumerate() {
        let field = |name: &str| format!("backends[{at}].{name}");
        if backend.name.is_empty() || !names.insert(backend.name.as_str()) {
            return Err(bad(field("name"), format!("{:?} is empty, or there twice", backend.name)));
        }
        inside(network, balancer.listen, backend.target_address, &field("target_address"))?;
        if !backend.target_port.is_empty() {
            ports(&backend.target_port).map_err(|why| bad(field("target_port"), why))?;
        }
    }
    let mut taken = BTreeSet::new();
    for (at, port) in balancer.ports.iter().enumerate() {
        let field = |name: &str| format!("ports[{at}].{name}");
        let listens = pairs(&port.listen_port, "").map_err(|why| bad(field("listen_port"), why))?;
        if port.target_backend.is_empty() {
            return Err(bad(field("target_backend"), "names nobody"));
        }
        for name in &port.target_backend {
            let backend = balancer.backends.iter().find(|b| b.name == *name);
            let backend =
                backend.ok_or_else(|| bad(field("target_backend"), format!("there is no backend {name:?}")))?;
            pairs(&port.listen_port, &backend.target_port)
                .map_err(|why| bad(field("listen_port"), format!("backend {name}: {why}")))?;
        }
        if let Some((twice, _)) = listens.into_iter().find(|(listen, _)| !taken.insert((port.protocol, *listen))) {
            return Err(bad(field("listen_port"), format!("{twice} is listened on twice")));
        }
    }
    Ok(())
}
