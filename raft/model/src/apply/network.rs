//! Networks.

use ipnet::IpNet;

use super::{Outcome, exists, expect_generation, invalid, not_found};
use crate::command::NetworkCommand;
use crate::network::Network;
use crate::{ClusterState, Generation, NetworkName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &NetworkCommand) -> Outcome {
    match command {
        NetworkCommand::Add(network) => {
            if state.networks.contains_key(&network.name) {
                return Err(exists("network", &network.name));
            }
            no_overlap(state, network)?;
            state.networks.insert(network.name.clone(), Network { generation: Generation(1), ..network.clone() });
            Ok(())
        }
        NetworkCommand::Update { name, expect, description, config } => {
            let Some(found) = state.networks.get(name).cloned() else { return Err(not_found("network", name)) };
            expect_generation("network", *expect, found.generation)?;
            let changed = Network {
                description: description.clone(),
                config: config.clone(),
                generation: found.generation.next(),
                ..found
            };
            no_overlap(state, &changed)?;
            state.networks.insert(name.clone(), changed);
            Ok(())
        }
        NetworkCommand::Rename { name, to } => {
            let Some(network) = state.networks.get(name).cloned() else { return Err(not_found("network", name)) };
            unused(state, name)?;
            if state.networks.contains_key(to) {
                return Err(exists("network", to));
            }
            state.networks.remove(name);
            state.networks.insert(to.clone(), Network { name: to.clone(), ..network });
            Ok(())
        }
        NetworkCommand::Remove(name) => {
            if !state.networks.contains_key(name) {
                return Err(not_found("network", name));
            }
            unused(state, name)?;
            state.networks.remove(name);
            Ok(())
        }
    }
}

/// No two networks may hold the same address: every member routes all of them.
fn no_overlap(state: &ClusterState, network: &Network) -> Outcome {
    for key in ["ipv4.address", "ipv6.address"] {
        let Some(mine) = subnet(network, key)? else { continue };
        for other in state.networks.values().filter(|o| o.name != network.name) {
            if let Ok(Some(theirs)) = subnet(other, key)
                && (theirs.contains(&mine) || mine.contains(&theirs))
            {
                return Err(invalid(key, format!("{mine} overlaps {theirs} of network {}", other.name)));
            }
        }
    }
    Ok(())
}

fn subnet(network: &Network, key: &str) -> Result<Option<IpNet>, Rejected> {
    match network.config.get(key).map(String::as_str) {
        None | Some("" | "none") => Ok(None),
        Some(text) => text
            .parse::<IpNet>()
            .map(|net| Some(net.trunc()))
            .map_err(|_| invalid(key, format!("{text:?} is not an address with a prefix length"))),
    }
}

fn unused(state: &ClusterState, name: &NetworkName) -> Outcome {
    match state.network_users(name).into_iter().next() {
        Some(user) => Err(Rejected::Busy(format!("network {name} is used by {user}"))),
        None => Ok(()),
    }
}
