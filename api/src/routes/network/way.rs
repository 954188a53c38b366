//! The way through a logical network: what it is to be is known here, what it is is asked of OVN.

use axum::extract::Request;
use basalt_model::network::{Network, port};
use basalt_model::{ClusterState, NodeId};

use super::logical;
use crate::call::Call;
use crate::dto::network::{Gateway, Way, WayPort};
use crate::port::sight::{Bound, Seen};
use crate::reply::{self, Reply};
use crate::routes::render;

/// `GET /1.0/networks/{name}/state` of a logical network. A member that knows no southbound database asks one that does.
pub(crate) async fn state(call: &Call, network: &Network, request: Request) -> Reply {
    if let Some(node) = better_placed(call).await {
        match call.forward(node, request).await {
            Ok(answer) => return Ok(answer),
            // What is known here is better than nothing.
            Err(error) => tracing::debug!(%node, %error, "the state of a network is told without"),
        }
    }
    let seen = call.api.ports.sight.path(&call.view, network).await;
    let mut state = logical::state(call, network);
    if let Some(ovn) = &mut state.ovn {
        ovn.chassis = seen.active.as_deref().map(|chassis| member(call, &seen, chassis)).unwrap_or_default();
    }
    state.basalt_path = Some(way(call, network, &seen));
    reply::sync(state)
}

/// Another member that can look at OVN, if this one cannot.
pub(super) async fn better_placed(call: &Call) -> Option<NodeId> {
    if call.who.from_member || call.api.ports.sight.looks().await {
        return None;
    }
    let me = call.me();
    let mut others = call.view.members.values().filter(|m| m.id != me && m.announced.chassis.is_some());
    others.find(|m| call.view.online(m.id)).map(|m| m.id)
}

fn way(call: &Call, network: &Network, seen: &Seen) -> Way {
    let gateway = |chassis: &String| Gateway {
        location: member(call, seen, chassis),
        active: seen.active.as_ref() == Some(chassis),
    };
    let mut ports: Vec<WayPort> = Vec::new();
    for port in port::all(&call.view) {
        if !port.network.is(network) || !call.who.sees(&port.instance.project) {
            continue;
        }
        let bound = seen.ports.get(&port.name()).cloned().unwrap_or_default();
        let Bound { chassis, up } = bound;
        ports.push(WayPort {
            instance: port.instance.name.to_string(),
            project: port.instance.project.to_string(),
            device: port.device.clone(),
            addresses: port.address.iter().flat_map(|held| held.addresses()).map(|ip| ip.to_string()).collect(),
            location: render::location(&call.view, port.instance),
            bound: chassis.map(|chassis| member(call, seen, &chassis)).unwrap_or_default(),
            up,
        });
    }
    ports.sort_by(|a, b| (&a.project, &a.instance, &a.device).cmp(&(&b.project, &b.instance, &b.device)));
    Way {
        uplink: network.uplink().map(|uplink| uplink.name.to_string()).unwrap_or_default(),
        gateways: seen.gateways.iter().map(gateway).collect(),
        ports,
        lacking: seen.lacking.clone().unwrap_or_default(),
    }
}

/// The member that a chassis is, or what the host calls itself.
fn member(call: &Call, seen: &Seen, chassis: &str) -> String {
    match member_of(&call.view, chassis) {
        Some(name) => name,
        None => seen.hosts.get(chassis).filter(|host| !host.is_empty()).map_or(chassis, String::as_str).to_owned(),
    }
}

/// The member that a chassis is.
fn member_of(state: &ClusterState, chassis: &str) -> Option<String> {
    let is = |m: &&basalt_model::member::Member| m.announced.chassis.as_deref() == Some(chassis);
    state.members.values().find(is).map(|m| m.name.to_string())
}
