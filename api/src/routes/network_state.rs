//! Live state of networks on a member, and leases.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use axum::extract::Request;
use basalt_model::device::Device;
use basalt_model::instance::Instance;
use basalt_model::network::{Network, NetworkKind};
use basalt_model::{Mac, NodeId};
use ipnet::IpNet;

use super::network::{logical, way};
use super::render;
use crate::call::{Call, Segment};
use crate::dto::envelope::Envelope;
use crate::dto::network::{Bridge, Lease, State};
use crate::dto::state::{Address, Counters};
use crate::error::Error;
use crate::reply::{self, Reply};

const SYS: &str = "/sys/class/net";

/// Interfaces of this host but those of guests.
pub(super) fn host_interfaces() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(SYS) else { return Vec::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| !n.starts_with("veth") && n != "bonding_masters").collect();
    names.sort();
    names
}

fn fact(name: &str, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(SYS).join(name).join(file)).ok()?;
    Some(text.trim().to_owned())
}

fn count(name: &str, file: &str) -> i64 {
    fact(name, &format!("statistics/{file}")).and_then(|t| t.parse().ok()).unwrap_or(0)
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let request = match call.to_target(request).await? {
        Ok(answer) => return Ok(answer),
        Err(request) => request,
    };
    // Only names that exist become part of a path.
    if call.unmanaged().contains(&name) {
        return reply::sync(of_interface(&name));
    }
    let network = call.network(&name)?;
    let interface = match network.kind {
        NetworkKind::Ovn => return way::state(&call, &network, request).await,
        NetworkKind::Bridge => network.name.as_str(),
        NetworkKind::Physical => network.key("parent").unwrap_or_default(),
    };
    match host_interfaces().iter().any(|name| name == interface) {
        true => reply::sync(of_interface(interface)),
        false => Err(Error::NotFound("Network interface".into())),
    }
}

fn of_interface(name: &str) -> State {
    let up = fact(name, "operstate").is_some_and(|s| s == "up" || s == "unknown");
    State {
        addresses: addresses(name),
        counters: Counters {
            bytes_received: count(name, "rx_bytes"),
            bytes_sent: count(name, "tx_bytes"),
            packets_received: count(name, "rx_packets"),
            packets_sent: count(name, "tx_packets"),
            errors_received: count(name, "rx_errors"),
            errors_sent: count(name, "tx_errors"),
            packets_dropped_outbound: count(name, "tx_dropped"),
            packets_dropped_inbound: count(name, "rx_dropped"),
        },
        hwaddr: fact(name, "address").unwrap_or_default(),
        mtu: fact(name, "mtu").and_then(|t| t.parse().ok()).unwrap_or(0),
        state: if up { "up" } else { "down" }.into(),
        kind: if name == "lo" { "loopback" } else { "broadcast" }.into(),
        bridge: bridge(name),
        ..State::default()
    }
}

fn addresses(name: &str) -> Vec<Address> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |storage: Option<nix::sys::socket::SockaddrStorage>| -> Option<IpAddr> {
        let storage = storage?;
        let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    let of_name = interfaces.filter(|i| i.interface_name == name);
    let nets = of_name.filter_map(|i| IpNet::with_netmask(ip(i.address)?, ip(i.netmask)?).ok());
    nets.map(|net| render::address(net.addr(), net.prefix_len())).collect()
}

fn bridge(name: &str) -> Option<Bridge> {
    let number = |file: &str| fact(name, &format!("bridge/{file}")).and_then(|t| t.parse().ok()).unwrap_or(0);
    let mut upper: Vec<String> = std::fs::read_dir(Path::new(SYS).join(name).join("brif"))
        .ok()?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    upper.sort();
    Some(Bridge {
        id: fact(name, "bridge/bridge_id")?,
        stp: number("stp_state") != 0,
        forward_delay: number("forward_delay"),
        vlan_default: number("default_pvid"),
        vlan_filtering: number("vlan_filtering") != 0,
        upper_devices: upper,
    })
}

/// Leases of all members: the gateway's, those that users fixed, and those that DHCP gave out.
pub(crate) async fn leases(call: Call, Segment(name): Segment<String>) -> Reply {
    let network = call.network(&name)?;
    reply::sync(all(&call, &network).await)
}

/// The leases of a network that the caller may see.
pub(super) async fn all(call: &Call, network: &Network) -> Vec<Lease> {
    match network.kind {
        NetworkKind::Ovn => return logical::leases(call, network),
        NetworkKind::Physical => return logical::routers(call, network),
        NetworkKind::Bridge => {}
    }
    let mut leases = dynamic(call, &network.name).await;
    if !call.who.full() {
        // A lease tells that a guest is there: those of other projects are not for this caller.
        let own = addresses_of_guests(call);
        leases.retain(|lease| own.contains(&lease.hwaddr));
    }
    if !call.who.from_member {
        let me = call.me();
        let others = call.view.members.keys().copied().filter(|id| *id != me && call.view.online(*id));
        let asked = others.map(|node| of_member(call, network.name.as_str(), node));
        leases.extend(futures_util::future::join_all(asked).await.into_iter().flatten());
        let fixed = fixed(call, &network.id());
        leases.retain(|l| !fixed.iter().any(|f| f.address == l.address));
        leases.extend(fixed);
        leases.extend(gateway(call, &network.config));
        leases.extend(logical::routers(call, network));
    }
    leases.sort_by(|a, b| (&a.hostname, &a.address).cmp(&(&b.hostname, &b.address)));
    leases
}

async fn dynamic(call: &Call, network: &basalt_model::NetworkName) -> Vec<Lease> {
    let given = call.api.ports.telemetry.leases(network).await;
    let location = call.api.events.location();
    let lease = |(mac, address, hostname): (Mac, IpAddr, String)| Lease {
        hostname,
        hwaddr: mac.to_string(),
        address: address.to_string(),
        kind: "dynamic".into(),
        location: location.clone(),
    };
    given.into_iter().map(lease).collect()
}

async fn of_member(call: &Call, name: &str, node: NodeId) -> Vec<Lease> {
    let asked = async {
        let path = format!("/1.0/networks/{name}/leases?project={}", call.project()?);
        let bytes = call.ask(node, &path).await?;
        let answer: Envelope<Vec<Lease>> =
            serde_json::from_slice(&bytes).map_err(|e| Error::Internal(e.to_string()))?;
        Ok::<_, Error>(answer.metadata.unwrap_or_default())
    };
    asked.await.unwrap_or_else(|error| {
        tracing::warn!(%node, %error, "leases of a member are not listed");
        Vec::new()
    })
}

/// Hardware addresses of the guests that the caller may see.
fn addresses_of_guests(call: &Call) -> BTreeSet<String> {
    let visible = call.view.instances.values().filter(|i| call.who.sees(&i.project));
    let of = |instance: &Instance| {
        let devices = call.view.parsed_devices(&instance.project, &instance.spec).into_iter();
        let given = devices.filter_map(|(_, device)| match device {
            Device::Nic { mac, .. } => mac.map(|mac| mac.to_string()),
            Device::Root { .. } | Device::Disk { .. } | Device::None => None,
        });
        let drawn = instance.spec.config.iter().filter(|(key, _)| key.ends_with(".hwaddr"));
        given.chain(drawn.map(|(_, mac)| mac.clone())).collect::<Vec<_>>()
    };
    visible.flat_map(of).collect()
}

/// Addresses that users fixed on interfaces.
fn fixed(call: &Call, network: &basalt_model::NetworkKey) -> Vec<Lease> {
    let visible = call.view.instances.values().filter(|i| call.who.sees(&i.project));
    let leases = visible.flat_map(|instance| {
        let devices = call.view.parsed_devices(&instance.project, &instance.spec);
        let location = render::location(&call.view, instance);
        devices.into_iter().filter_map(move |(name, device)| match device {
            Device::Nic { network: Some(used), mac, ipv4: Some(address), .. }
                if call.view.meant(&instance.project, &used) == *network =>
            {
                Some(Lease {
                    hostname: instance.name.to_string(),
                    hwaddr: mac.map(|m| m.to_string()).unwrap_or_else(|| {
                        instance.spec.config.get(&format!("volatile.{name}.hwaddr")).cloned().unwrap_or_default()
                    }),
                    address: address.to_string(),
                    kind: "static".into(),
                    location: location.clone(),
                })
            }
            Device::Nic { .. } | Device::Root { .. } | Device::Disk { .. } | Device::None => None,
        })
    });
    leases.collect()
}

fn gateway(call: &Call, config: &crate::dto::Map) -> Option<Lease> {
    let net: IpNet = config.get("ipv4.address")?.parse().ok()?;
    Some(Lease {
        hostname: format!("{}.gw", call.my_name()),
        hwaddr: String::new(),
        address: net.addr().to_string(),
        kind: "gateway".into(),
        location: String::new(),
    })
}
