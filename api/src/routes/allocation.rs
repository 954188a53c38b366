//! `GET /1.0/network-allocations`: every address in use on the managed networks, and by what.

use std::collections::BTreeMap;
use std::net::IpAddr;

use basalt_model::config::is_true;
use basalt_model::device::Device;
use basalt_model::network::{Network, NetworkKind};
use ipnet::IpNet;

use super::{network_state, render};
use crate::call::Call;
use crate::dto::network::{Allocation, Lease};
use crate::error::Error;
use crate::reply::{self, Reply};

pub(crate) async fn list(call: Call) -> Reply {
    let projects = call.projects()?;
    let owners = owners(&call, &projects);
    let mut all = Vec::new();
    for network in call.view.networks.values() {
        if !projects.iter().any(|p| call.view.may_use_network(p, network)) {
            continue;
        }
        all.extend(of_network(network));
        let leases = network_state::all(&call, network).await;
        all.extend(leases.iter().filter_map(|lease| of_lease(network, lease, owners.get(&lease.hwaddr)?).ok()));
    }
    reply::sync(all)
}

/// URLs of instances, by the hardware addresses of their interfaces.
fn owners(call: &Call, projects: &[basalt_model::ProjectName]) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for instance in call.view.instances.values().filter(|i| projects.contains(&i.project)) {
        let drawn = instance.spec.config.iter().filter(|(key, _)| key.ends_with(".hwaddr")).map(|(_, mac)| mac.clone());
        let devices = call.view.parsed_devices(&instance.project, &instance.spec).into_iter();
        let given = devices.filter_map(|(_, device)| match device {
            Device::Nic { mac, .. } => mac.map(|mac| mac.to_string()),
            Device::Root { .. } | Device::Disk { .. } | Device::None => None,
        });
        owners.extend(drawn.chain(given).map(|mac| (mac, render::instance_url(instance))));
    }
    owners
}

fn nat(network: &Network, v4: bool) -> bool {
    network.config.get(if v4 { "ipv4.nat" } else { "ipv6.nat" }).is_some_and(|v| is_true(v))
}

/// The network's own addresses.
fn of_network(network: &Network) -> Vec<Allocation> {
    let own = [network.subnet4().map(IpNet::V4), network.subnet6().map(IpNet::V6)];
    let own = own.into_iter().filter(|_| network.kind != NetworkKind::Physical).flatten().map(|net| (net, None));
    // The router's place on the uplink belongs to the logical network, and lies in the other.
    let router = [network.router.ipv4.map(IpAddr::V4), network.router.ipv6.map(IpAddr::V6)];
    let router = router.into_iter().flatten().map(|ip| (IpNet::from(ip), network.uplink()));
    own.chain(router)
        .map(|(net, uplink)| Allocation {
            addresses: net.to_string(),
            used_by: format!("/1.0/networks/{}{}", network.name, network.project.suffix()),
            kind: if uplink.is_some() { "uplink" } else { "network" }.into(),
            hwaddr: String::new(),
            nat: uplink.is_none() && nat(network, net.addr().is_ipv4()),
            network: uplink.as_ref().map_or(&network.name, |uplink| &uplink.name).to_string(),
        })
        .collect()
}

fn of_lease(network: &Network, lease: &Lease, owner: &str) -> Result<Allocation, Error> {
    let address: IpAddr = lease.address.parse().map_err(|_| Error::invalid("address", "is none"))?;
    Ok(Allocation {
        addresses: IpNet::from(address).to_string(),
        used_by: owner.to_owned(),
        kind: "instance".into(),
        hwaddr: lease.hwaddr.clone(),
        nat: nat(network, address.is_ipv4()),
        network: network.name.to_string(),
    })
}
