//! What a network is to be, as far as it is looked at beside its rows.

use std::collections::BTreeMap;

use basalt_model::command::NetworkCommand;
use basalt_model::instance::Phase;
use basalt_model::network::{self as model, address, port};
use basalt_model::{ClusterState, ProjectName};

use super::{Finding, Station};
use crate::topology;

/// One network, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// What its rows begin with.
    pub prefix: String,
    /// The unit of its rows.
    pub unit: String,
    /// Of guests' packets, in bytes.
    pub mtu: u32,
    /// What chassis know the uplink by; `None` when nothing is to leave.
    pub uplink: Option<String>,
    /// Chassis that may carry what leaves, the first in line first.
    pub gateways: Vec<String>,
    pub ports: Vec<Port>,
    /// What chassis are called by people.
    pub members: BTreeMap<String, String>,
    /// What it lacks before anybody else is asked.
    pub lacks: Vec<Finding>,
}

/// An interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The logical port.
    pub name: String,
    /// `eth0 of c1`
    pub label: String,
    /// Where it may be, its home first.
    pub chassis: Vec<String>,
    /// Whether the instance runs: else its port is nowhere.
    pub runs: bool,
}

impl Wanted {
    /// What people call a chassis.
    pub(super) fn member(&self, chassis: &str) -> String {
        self.members.get(chassis).cloned().unwrap_or_else(|| format!("chassis {chassis}"))
    }
}

/// Reads it from the state.
pub fn wanted(state: &ClusterState, network: &model::Network) -> Wanted {
    let facts = topology::read(state);
    let Some(net) = facts.networks.iter().find(|net| net.number == network.number) else { return Wanted::default() };
    let chassis: BTreeMap<&str, &[String]> =
        net.ports.iter().map(|port| (port.name.as_str(), port.chassis.as_slice())).collect();
    let mut lacks = router(state, network);
    let mut ports = Vec::new();
    for port in port::all(state).into_iter().filter(|port| port.network.is(network)) {
        let label = label(&port);
        if let Some(why) = address::lacking(state, port.instance.id, &port.device) {
            lacks.push(Finding::wrong(
                Station::State,
                format!("{label} cannot be used: {why}"),
                "make its subnet or ipv4.dhcp.ranges larger, or take instances away",
            ));
        }
        let name = port.name();
        let chassis = chassis.get(name.as_str()).map(|all| all.to_vec()).unwrap_or_default();
        let phase = port.instance.current_report().map(|report| report.phase);
        ports.push(Port { name, label, chassis, runs: matches!(phase, Some(Phase::Running | Phase::Frozen)) });
    }
    let members = state.members.values();
    Wanted {
        prefix: net.prefix(),
        unit: format!("net{}", net.number),
        mtu: net.mtu,
        uplink: net.outside.as_ref().filter(|o| !o.addresses.is_empty()).map(|o| o.uplink.clone()),
        gateways: topology::gateways(state, network),
        ports,
        members: members.filter_map(|m| Some((m.announced.chassis.clone()?, m.name.to_string()))).collect(),
        lacks,
    }
}

/// `eth0 of c1`, with the project when it is not the default one.
fn label(port: &port::Port<'_>) -> String {
    let instance = port.instance;
    match instance.project == ProjectName::default_project() {
        true => format!("{} of {}", port.device, instance.name),
        false => format!("{} of {}/{}", port.device, instance.project, instance.name),
    }
}

/// The router's addresses on its uplink; one that the leader is about to choose is none that is lacking.
fn router(state: &ClusterState, network: &model::Network) -> Vec<Finding> {
    let Some(uplink) = network.uplink().and_then(|name| state.networks.get(&name)) else { return Vec::new() };
    let (router, name) = (&network.router, &uplink.name);
    let mut coming = (false, false);
    for command in address::wanted(state) {
        if let NetworkCommand::AllocateUplink { network: of, ipv4, ipv6 } = command
            && network.goes_by(&of)
        {
            coming = (ipv4.is_some(), ipv6.is_some());
        }
    }
    let families = [
        ("IPv4", "ipv4", network.subnet4().is_some() && uplink.subnet4().is_some(), router.ipv4.is_some() || coming.0),
        ("IPv6", "ipv6", network.subnet6().is_some() && uplink.subnet6().is_some(), router.ipv6.is_some() || coming.1),
    ];
    let lacks = families.into_iter().filter(|(.., needs, has)| *needs && !has);
    lacks
        .map(|(family, word, ..)| {
            Finding::wrong(
                Station::State,
                format!("the router has no {family} address on {name}: none of {word}.ovn.ranges of {name} is free"),
                format!("make {word}.ovn.ranges of {name} larger, or delete networks behind it"),
            )
        })
        .collect()
}
