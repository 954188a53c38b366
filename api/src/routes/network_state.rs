//! Live state of networks on a member, and leases.

use std::net::IpAddr;
use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use basalt_model::device::Device;
use basalt_model::{Mac, NodeId};
use http::header::HOST;
use ipnet::IpNet;

use super::render;
use crate::call::{Call, Segment};
use crate::dto::envelope::Envelope;
use crate::dto::network::{Bridge, Lease, State};
use crate::dto::state::{Address, Counters};
use crate::error::Error;
use crate::reply::{self, Reply};

const SYS: &str = "/sys/class/net";
/// How long another member may take to list its leases.
const PEER_DEADLINE: std::time::Duration = std::time::Duration::from_secs(3);

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
    if let Ok(answer) = call.to_target(request).await? {
        return Ok(answer);
    }
    // Only names that exist become part of a path.
    if !host_interfaces().contains(&name) {
        call.network(&name)?;
        return Err(Error::NotFound("Network interface".into()));
    }
    let up = fact(&name, "operstate").is_some_and(|s| s == "up" || s == "unknown");
    reply::sync(State {
        addresses: addresses(&name),
        counters: Counters {
            bytes_received: count(&name, "rx_bytes"),
            bytes_sent: count(&name, "tx_bytes"),
            packets_received: count(&name, "rx_packets"),
            packets_sent: count(&name, "tx_packets"),
            errors_received: count(&name, "rx_errors"),
            errors_sent: count(&name, "tx_errors"),
            packets_dropped_outbound: count(&name, "tx_dropped"),
            packets_dropped_inbound: count(&name, "rx_dropped"),
        },
        hwaddr: fact(&name, "address").unwrap_or_default(),
        mtu: fact(&name, "mtu").and_then(|t| t.parse().ok()).unwrap_or(0),
        state: if up { "up" } else { "down" }.into(),
        kind: if name == "lo" { "loopback" } else { "broadcast" }.into(),
        bridge: bridge(&name),
        ..State::default()
    })
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
    let mut leases = dynamic(&call, &network.name).await;
    if !call.who.from_member {
        let me = call.me();
        let others = call.view.members.keys().copied().filter(|id| *id != me && call.view.online(*id));
        let asked = others.map(|node| of_member(&call, &name, node));
        leases.extend(futures_util::future::join_all(asked).await.into_iter().flatten());
        let fixed = fixed(&call, &network.name);
        leases.retain(|l| !fixed.iter().any(|f| f.address == l.address));
        leases.extend(fixed);
        leases.extend(gateway(&call, &network.config));
    }
    leases.sort_by(|a, b| (&a.hostname, &a.address).cmp(&(&b.hostname, &b.address)));
    reply::sync(leases)
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
        let request = Request::get(format!("/1.0/networks/{name}/leases"))
            .header(HOST, "basalt")
            .body(Body::empty())
            .map_err(|e| Error::Internal(e.to_string()))?;
        let response = call.forward(node, request).await?;
        let bytes = axum::body::to_bytes(response.into_body(), 4 << 20).await;
        let bytes = bytes.map_err(|e| Error::Internal(e.to_string()))?;
        let answer: Envelope<Vec<Lease>> =
            serde_json::from_slice(&bytes).map_err(|e| Error::Internal(e.to_string()))?;
        Ok::<_, Error>(answer.metadata.unwrap_or_default())
    };
    match tokio::time::timeout(PEER_DEADLINE, asked).await {
        Ok(Ok(leases)) => leases,
        Ok(Err(error)) => {
            tracing::warn!(%node, %error, "leases of a member are not listed");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(%node, "leases of a member are not listed: no answer in time");
            Vec::new()
        }
    }
}

/// Addresses that users fixed on interfaces.
fn fixed(call: &Call, network: &basalt_model::NetworkName) -> Vec<Lease> {
    let visible = call.view.instances.values().filter(|i| call.who.sees(&i.project));
    let leases = visible.flat_map(|instance| {
        let devices = call.view.parsed_devices(&instance.project, &instance.spec);
        let location = render::location(&call.view, instance);
        devices.into_iter().filter_map(move |(name, device)| match device {
            Device::Nic { network: Some(used), mac, ipv4: Some(address), .. } if used == *network => Some(Lease {
                hostname: instance.name.to_string(),
                hwaddr: mac.map(|m| m.to_string()).unwrap_or_else(|| {
                    instance.spec.config.get(&format!("volatile.{name}.hwaddr")).cloned().unwrap_or_default()
                }),
                address: address.to_string(),
                kind: "static".into(),
                location: location.clone(),
            }),
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
