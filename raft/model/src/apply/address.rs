//! Addresses of interfaces on logical networks: kept beside the instances, released with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uuid::Uuid;

use super::{Outcome, invalid, not_found};
use crate::command::Allocation;
use crate::instance::Instance;
use crate::network::port::{self, Port};
use crate::network::{Network, NetworkKind, NicAddress, check};
use crate::{ClusterState, InstanceId, NetworkKey, Rejected};

type Holder = (InstanceId, String);

/// Brings the addresses of an instance, as it is to be, into line with its interfaces: what users fixed is reserved at
/// once, what does not fit any more is released, the rest stays.
///
/// # Errors
/// A fixed address that another interface has.
pub(super) fn settle(state: &mut ClusterState, instance: &Instance) -> Outcome {
    if state.addresses.is_empty() && !state.networks.values().any(|n| n.kind == NetworkKind::Ovn) {
        return Ok(());
    }
    let ports = port::of(state, instance);
    let mut kept: Vec<(Holder, NicAddress)> = Vec::new();
    for port in &ports {
        let own = (instance.id, port.device.clone());
        let address = settled(port);
        for ip in address.addresses() {
            let field = field(port, ip);
            free(state, &address.network, ip, &own).map_err(|why| invalid(&field, why))?;
            let twice =
                kept.iter().find(|(_, other)| other.network == address.network && other.addresses().any(|o| o == ip));
            if let Some(((_, device), _)) = twice {
                return Err(invalid(&field, format!("{ip} is taken by device {device} of the same instance")));
            }
        }
        if address.ipv4.is_some() || address.ipv6.is_some() {
            kept.push((own, address));
        }
    }
    release(state, instance.id);
    for (holder, address) in kept {
        hold(state, holder, address);
    }
    Ok(())
}

fn field(port: &Port<'_>, ip: IpAddr) -> String {
    format!("devices.{}.{}", port.device, if ip.is_ipv4() { "ipv4.address" } else { "ipv6.address" })
}

/// What the interface has after a change: what is fixed, else what it had if that still fits.
fn settled(port: &Port<'_>) -> NicAddress {
    let network = port.network;
    let held = port.address.filter(|a| network.goes_by(&a.network));
    let ipv4 = network
        .subnet4()
        .and_then(|subnet| port.fixed.0.or_else(|| held?.ipv4.filter(|ip| check::usable4(network, subnet, *ip))));
    let ipv6 = network
        .subnet6()
        .and_then(|subnet| port.fixed.1.or_else(|| held?.ipv6.filter(|ip| check::usable6(subnet, *ip))));
    NicAddress { network: network.id(), ipv4, ipv6 }
}

/// Whether nobody but `own` has the address; names who has it.
fn free(state: &ClusterState, network: &NetworkKey, ip: IpAddr, own: &Holder) -> Result<(), String> {
    match state.address_holders.get(&(network.clone(), ip)) {
        Some(holder) if holder != own => {
            let (id, device) = holder;
            let name = state.instances.get(id).map_or_else(|| id.to_string(), |i| i.name.to_string());
            Err(format!("{ip} is taken by device {device} of instance {name}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn hold(state: &mut ClusterState, holder: Holder, address: NicAddress) {
    for ip in address.addresses() {
        state.address_holders.insert((address.network.clone(), ip), holder.clone());
    }
    state.addresses.insert(holder, address);
}

fn drop_one(state: &mut ClusterState, holder: &Holder) {
    let Some(address) = state.addresses.get(holder).cloned() else { return };
    for ip in address.addresses() {
        state.address_holders.remove(&(address.network.clone(), ip));
    }
    state.addresses.remove(holder);
}

/// Releases all that an instance has.
pub(super) fn release(state: &mut ClusterState, id: InstanceId) {
    let next = InstanceId(Uuid::from_u128(id.0.as_u128().saturating_add(1)));
    let rows = state.addresses.range((id, String::new())..=(next, String::new()));
    let held: Vec<Holder> = rows.map(|(holder, _)| holder.clone()).filter(|(of, _)| *of == id).collect();
    for holder in held {
        drop_one(state, &holder);
    }
}

/// What the network controller chose for interfaces.
pub(super) fn allocate(state: &mut ClusterState, chosen: &[Allocation]) -> Outcome {
    let mut first = None;
    let mut any = false;
    let mut last: BTreeMap<&NetworkKey, Ipv4Addr> = BTreeMap::new();
    for one in chosen {
        match allowed(state, one) {
            Err(why) => first = first.or(Some(why)),
            Ok((address, fixed)) => {
                any = true;
                let holder = (one.instance, one.device.clone());
                drop_one(state, &holder);
                if let (Some(ip), false) = (address.ipv4, fixed) {
                    last.insert(&one.network, ip);
                }
                if address.ipv4.is_some() || address.ipv6.is_some() {
                    hold(state, holder, address);
                }
            }
        }
    }
    for (id, given) in last {
        if let Some(network) = state.networks.get(id).cloned() {
            state.networks.insert(id.clone(), Network { given: Some(given), ..network });
        }
    }
    match first {
        Some(why) if !any => Err(why),
        Some(_) | None => Ok(()),
    }
}

/// The addresses to hold, and whether the user fixed the one of IPv4.
fn allowed(state: &ClusterState, one: &Allocation) -> Result<(NicAddress, bool), Rejected> {
    let instance = state.instances.get(&one.instance).ok_or_else(|| not_found("instance", one.instance))?;
    let ports = port::of(state, instance);
    let port = ports.iter().find(|p| p.device == one.device && p.network.goes_by(&one.network));
    let Some(port) = port else {
        let why = format!("instance {} has no device {} on network {}", instance.name, one.device, one.network.name);
        return Err(Rejected::Stale(why));
    };
    fits(port, one.ipv4, one.ipv6)?;
    let address = NicAddress { network: one.network.clone(), ipv4: one.ipv4, ipv6: one.ipv6 };
    let own = (one.instance, one.device.clone());
    for ip in address.addresses() {
        free(state, &one.network, ip, &own).map_err(Rejected::Stale)?;
    }
    Ok((address, port.fixed.0.is_some()))
}

/// In the subnet, and what the user fixed if that is so.
fn fits(port: &Port<'_>, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Outcome {
    let stale = |ip: IpAddr| Rejected::Stale(format!("{ip} does not fit device {} any more", port.device));
    let network = port.network;
    if let Some(ip) = ipv4 {
        let good = network.subnet4().is_some_and(|subnet| check::usable4(network, subnet, ip));
        if !good || port.fixed.0.is_some_and(|fixed| fixed != ip) {
            return Err(stale(ip.into()));
        }
    }
    if let Some(ip) = ipv6 {
        let good = network.subnet6().is_some_and(|subnet| check::usable6(subnet, ip));
        if !good || port.fixed.1.is_some_and(|fixed| fixed != ip) {
            return Err(stale(ip.into()));
        }
    }
    let lost = (port.fixed.0.is_some() && ipv4.is_none() && network.subnet4().is_some())
        || (port.fixed.1.is_some() && ipv6.is_none() && network.subnet6().is_some());
    match lost {
        true => Err(Rejected::Stale(format!("device {} has fixed addresses", port.device))),
        false => Ok(()),
    }
}

/// What the network controller chose for a router.
pub(super) fn allocate_uplink(
    state: &mut ClusterState,
    id: &NetworkKey,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
) -> Outcome {
    let mut network = state.networks.get(id).cloned().ok_or_else(|| not_found("network", &id.name))?;
    let Some(uplink) = network.uplink().and_then(|u| state.networks.get(&u)) else {
        return Err(Rejected::Stale(format!("network {} has no uplink any more", id.name)));
    };
    if let Some(ip) = ipv4 {
        check::router4(uplink, ip).map_err(Rejected::Stale)?;
    }
    if let Some(ip) = ipv6 {
        check::router6(uplink, ip).map_err(Rejected::Stale)?;
    }
    for ip in ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6)) {
        check::free_on_uplink(state, uplink, &network, ip).map_err(Rejected::Stale)?;
    }
    network.router = crate::network::RouterAddress { ipv4, ipv6 };
    state.networks.insert(id.clone(), network);
    Ok(())
}

/// After a change of a logical network: interfaces keep what fits.
///
/// # Errors
/// An address that a user fixed, and that the network cannot have any more.
pub(super) fn resettle(state: &mut ClusterState, network: &Network) -> Outcome {
    let on_it = |i: &&Instance| port::of(state, i).iter().any(|p| p.network.is(network));
    let users: Vec<Instance> = state.instances.values().filter(on_it).cloned().collect();
    for user in users {
        super::instance::check_spec(state, &user.project, &user.spec)?;
        settle(state, &user)?;
    }
    Ok(())
}
