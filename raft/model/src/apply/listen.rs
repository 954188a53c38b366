//! What belongs to a network: forwards, load balancers, peerings. The network as a whole is checked after each change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Outcome, invalid, next_generation, not_found};
use crate::command::Expect;
use crate::network::balance::{Balancer, Forward};
use crate::network::peer::Peer;
use crate::network::{Network, NetworkKind, check, listen};
use crate::{ClusterState, NetworkKey, PeerName, Rejected};

fn logical(state: &ClusterState, id: &NetworkKey) -> Result<Network, Rejected> {
    let network = state.networks.get(id).cloned().ok_or_else(|| not_found("network", &id.name))?;
    match network.kind {
        NetworkKind::Ovn => Ok(network),
        kind @ (NetworkKind::Bridge | NetworkKind::Physical) => {
            let why = format!("{} is of type {}: only networks of type ovn have that", id.name, kind.as_str());
            Err(invalid("network", why))
        }
    }
}

/// Puts the network back, if it may be as it is now.
fn keep(state: &mut ClusterState, network: Network) -> Outcome {
    check::network(state, &network)?;
    state.networks.insert(network.id(), network);
    Ok(())
}

/// Takes something out; it must be there.
fn take<K: Ord + ToString, V>(what: &str, from: &mut BTreeMap<K, V>, key: &K) -> Outcome {
    from.remove(key).map(|_| ()).ok_or_else(|| not_found(what, key.to_string()))
}

/// Forwards are for bridges too.
fn forwarding(state: &ClusterState, id: &NetworkKey) -> Result<Network, Rejected> {
    match state.networks.get(id) {
        Some(network) if network.kind == NetworkKind::Bridge => Ok(network.clone()),
        Some(_) | None => logical(state, id),
    }
}

pub(super) fn put_forward(state: &mut ClusterState, id: &NetworkKey, forward: &Forward, expect: Expect) -> Outcome {
    let mut network = forwarding(state, id)?;
    let found = network.forwards.get(&forward.listen).map(|f| f.generation);
    let generation = next_generation("network forward", forward.listen, found, expect)?;
    if network.kind == NetworkKind::Bridge {
        let taken = |why| Rejected::Taken(format!("listen_address: {why}"));
        listen::free_for_bridge(state, &network, forward).map_err(taken)?;
    }
    network.forwards.insert(forward.listen, Forward { generation, ..forward.clone() });
    keep(state, network)
}

pub(super) fn remove_forward(state: &mut ClusterState, id: &NetworkKey, ip: IpAddr) -> Outcome {
    let mut network = forwarding(state, id)?;
    take("network forward", &mut network.forwards, &ip)?;
    state.networks.insert(id.clone(), network);
    Ok(())
}

pub(super) fn put_balancer(state: &mut ClusterState, id: &NetworkKey, balancer: &Balancer, expect: Expect) -> Outcome {
    let mut network = logical(state, id)?;
    let listen = balancer.listen;
    let found = network.balancers.get(&listen).map(|b| b.generation);
    let generation = next_generation("network load balancer", listen, found, expect)?;
    network.balancers.insert(listen, Balancer { generation, ..balancer.clone() });
    keep(state, network)
}

pub(super) fn remove_balancer(state: &mut ClusterState, id: &NetworkKey, listen: IpAddr) -> Outcome {
    let mut network = logical(state, id)?;
    take("network load balancer", &mut network.balancers, &listen)?;
    state.networks.insert(id.clone(), network);
    Ok(())
}

pub(super) fn put_peer(state: &mut ClusterState, id: &NetworkKey, peer: &Peer, expect: Expect) -> Outcome {
    let mut network = logical(state, id)?;
    let found = network.peers.get(&peer.name);
    let generation = next_generation("network peer", &peer.name, found.map(|p| p.generation), expect)?;
    if let Some(found) = found.filter(|found| found.target != peer.target) {
        return Err(invalid("target_network", format!("cannot be changed; it is {}", found.target)));
    }
    network.peers.insert(peer.name.clone(), Peer { generation, ..peer.clone() });
    keep(state, network)
}

pub(super) fn remove_peer(state: &mut ClusterState, id: &NetworkKey, peer: &PeerName) -> Outcome {
    let mut network = logical(state, id)?;
    take("network peer", &mut network.peers, peer)?;
    if let Some(user) = state.acls_about(id, Some(peer)).first() {
        return Err(Rejected::Busy(format!("network peer {peer} is used by {user}")));
    }
    state.networks.insert(id.clone(), network);
    Ok(())
}
