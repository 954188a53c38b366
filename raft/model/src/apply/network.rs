//! Networks.

use super::{Outcome, address, exists, expect_generation, listen, not_found};
use crate::command::NetworkCommand;
use crate::network::{Network, NetworkKind, RouterAddress, check};
use crate::{ClusterState, Generation, NetworkKey, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &NetworkCommand) -> Outcome {
    match command {
        NetworkCommand::Add(network) => add(state, network),
        NetworkCommand::Update { name, expect, description, config } => {
            let Some(found) = state.networks.get(name).cloned() else { return Err(not_found("network", &name.name)) };
            expect_generation("network", *expect, found.generation)?;
            let mut config = config.clone();
            config.retain(|key, _| !key.starts_with("volatile."));
            let changed =
                Network { description: description.clone(), config, generation: found.generation.next(), ..found };
            update(state, changed)
        }
        NetworkCommand::Rename { name, to } => {
            let Some(network) = state.networks.get(name).cloned() else { return Err(not_found("network", &name.name)) };
            unused(state, name)?;
            let fresh = name.beside(to.clone());
            if state.networks.contains_key(&fresh) {
                return Err(exists("network", to));
            }
            state.networks.remove(name);
            state.networks.insert(fresh, Network { name: to.clone(), ..network });
            Ok(())
        }
        NetworkCommand::Remove(name) => {
            if !state.networks.contains_key(name) {
                return Err(not_found("network", &name.name));
            }
            unused(state, name)?;
            state.networks.remove(name);
            Ok(())
        }
        NetworkCommand::Allocate { addresses } => address::allocate(state, addresses),
        NetworkCommand::AllocateUplink { network, ipv4, ipv6 } => {
            address::allocate_uplink(state, network, *ipv4, *ipv6)
        }
        NetworkCommand::PutForward { network, forward, expect } => {
            listen::put_forward(state, network, forward, *expect)
        }
        NetworkCommand::RemoveForward { network, listen } => listen::remove_forward(state, network, *listen),
        NetworkCommand::PutBalancer { network, balancer, expect } => {
            listen::put_balancer(state, network, balancer, *expect)
        }
        NetworkCommand::RemoveBalancer { network, listen } => listen::remove_balancer(state, network, *listen),
        NetworkCommand::PutPeer { network, peer, expect } => listen::put_peer(state, network, peer, *expect),
        NetworkCommand::RemovePeer { network, name } => listen::remove_peer(state, network, name),
    }
}

fn add(state: &mut ClusterState, network: &Network) -> Outcome {
    let id = network.id();
    if state.networks.contains_key(&id) {
        return Err(exists("network", &network.name));
    }
    // Members of level 1 do not count networks: until they are gone, nobody does.
    let counted = state.feature_level >= 2;
    let number = state.networks_numbered + u32::from(counted);
    let mut fresh = Network {
        generation: Generation(1),
        project: network.project.clone(),
        number: if counted { number } else { 0 },
        config: network.config.clone(),
        description: network.description.clone(),
        ..Network::new(network.name.clone(), network.kind)
    };
    fresh.config.retain(|key, _| !key.starts_with("volatile."));
    check::network(state, &fresh)?;
    state.networks_numbered = number;
    state.networks.insert(id, fresh);
    Ok(())
}

/// Puts `changed` in place if all that live on it can go on.
fn update(state: &mut ClusterState, mut changed: Network) -> Outcome {
    check::network(state, &changed)?;
    let id = changed.id();
    let before = state.networks.get(&id).and_then(Network::uplink);
    if changed.uplink() != before {
        changed.router = RouterAddress::default();
    }
    let mut after = state.clone();
    after.networks.insert(id, changed.clone());
    match changed.kind {
        NetworkKind::Ovn => address::resettle(&mut after, &changed)?,
        NetworkKind::Bridge | NetworkKind::Physical => still_leads_out(&after, &changed)?,
    }
    *state = after;
    Ok(())
}

/// An uplink that changes must go on having what the networks on it hold.
fn still_leads_out(after: &ClusterState, uplink: &Network) -> Outcome {
    for network in after.networks.values().filter(|n| n.uplink() == Some(uplink.id())) {
        let refused = |why: String| {
            Rejected::Busy(format!("network {} is used by {}: {why}", uplink.name, network.told_to(uplink)))
        };
        check::network(after, network).map_err(|e| refused(e.to_string()))?;
        if let Some(ip) = network.router.ipv4 {
            check::router4(uplink, ip).map_err(refused)?;
        }
        if let Some(ip) = network.router.ipv6 {
            check::router6(uplink, ip).map_err(refused)?;
        }
    }
    Ok(())
}

fn unused(state: &ClusterState, id: &NetworkKey) -> Outcome {
    let Some(network) = state.networks.get(id) else { return Err(not_found("network", &id.name)) };
    let name = &network.name;
    for other in state.networks.values().filter(|n| !n.is(network)) {
        if let Some(peer) = other.peers.values().find(|p| p.target == *id) {
            let why = format!("network {name} is the target of peer {} of {}", peer.name, other.told_to(network));
            return Err(Rejected::Busy(why));
        }
    }
    if let Some(user) = state.acls_about(id, None).first() {
        return Err(Rejected::Busy(format!("a peering of network {name} is used by {user}")));
    }
    match state.network_users(id).into_iter().next() {
        Some(user) => Err(Rejected::Busy(format!("network {name} is used by {user}"))),
        None => Ok(()),
    }
}
