//! Interfaces of instances: logical ports, what they may send, and how much, where they may be, what is routed to them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::facts::{Mode6, Network, Port};
use crate::nb::{Rows, Table};

/// Of rows of the table QoS; there are no others on our switches.
const QOS_PRIORITY: i64 = 100;
/// In thousands of bits.
const LEAST_BURST: i64 = 1_000;

/// Adds the rows.
pub(super) fn add(rows: &mut Rows, net: &Network) {
    let mut keys = Vec::with_capacity(net.ports.len());
    for port in &net.ports {
        let key = net.key(&format!("port/{}", port.key));
        logical(rows, net, port, &key);
        routes(rows, net, port);
        limits(rows, net, port);
        keys.push(key);
    }
    let switch = rows.add(Table::LogicalSwitch, net.key("ls-int"));
    for key in &keys {
        switch.refer("ports", key.as_str());
    }
    let group = rows.add(Table::PortGroup, net.key("group"));
    group.text("name", format!("basalt_net{}", net.number));
    for key in keys {
        group.refer("ports", key);
    }
    isolation(rows, net);
}

/// Isolated interfaces hear nothing of each other, not even who is there. The sender is known by its addresses: on the host
/// where a packet arrives, a group of ports has only those that are there.
fn isolation(rows: &mut Rows, net: &Network) {
    let isolated: Vec<&Port> = net.ports.iter().filter(|port| port.isolated).collect();
    if isolated.is_empty() {
        return;
    }
    let name = format!("basalt_net{}_isolated", net.number);
    let rule = rows.add(Table::Acl, net.key("isolated/rule"));
    rule.integer("priority", 1000).text("direction", "to-lport").text("action", "drop");
    let families = [("ip4", net.gateway4.is_some()), ("ip6", net.gateway6.is_some())];
    let families = families.into_iter().filter(|(_, there)| *there);
    let senders: String = families.map(|(family, _)| format!(" || {family}.src == ${name}_{family}")).collect();
    rule.text("match", format!("outport == @{name} && (eth.src == ${name}_mac{senders})"));
    let macs = rows.add(Table::AddressSet, net.key("isolated/mac"));
    macs.text("name", format!("{name}_mac")).texts("addresses", isolated.iter().map(|port| port.mac.to_string()));
    let group = rows.add(Table::PortGroup, net.key("isolated"));
    group.text("name", name).refer("acls", net.key("isolated/rule"));
    for port in isolated {
        group.refer("ports", net.key(&format!("port/{}", port.key)));
    }
}

fn logical(rows: &mut Rows, net: &Network, port: &Port, key: &str) {
    let mut address = port.mac.to_string();
    let ips = port.ipv4.iter().map(ToString::to_string).chain(port.ipv6.iter().map(ToString::to_string));
    for ip in ips {
        address.push(' ');
        address.push_str(&ip);
    }
    let row = rows.add(Table::LogicalSwitchPort, key);
    row.text("name", port.name.as_str());
    match port.secured {
        true => row.texts("addresses", [address.as_str()]).texts("port_security", [allowed(&address, port)]),
        // Whatever else the guest answers to is found behind it.
        false => row.texts("addresses", [address.as_str(), "unknown"]),
    };
    if !port.chassis.is_empty() {
        row.put("options", "requested-chassis", port.chassis.join(","));
    }
    if net.gateway4.is_some() && net.lease4.is_some() && port.ipv4.is_some() {
        row.refer("dhcpv4_options", net.key("dhcp4"));
    }
    if net.gateway6.is_some() && net.mode6 != Mode6::Slaac && port.ipv6.is_some() {
        row.refer("dhcpv6_options", net.key("dhcp6"));
    }
}

/// What the guest may send from: its own addresses, and those that are routed to it.
fn allowed(address: &str, port: &Port) -> String {
    port.routes.iter().fold(address.to_owned(), |all, net| format!("{all} {net}"))
}

/// Meters of the switch, at the member where the packet enters the network or leaves it.
fn limits(rows: &mut Rows, net: &Network, port: &Port) {
    let each =
        [("ingress", "to-lport", "outport", port.rates.ingress), ("egress", "from-lport", "inport", port.rates.egress)];
    for (word, direction, side, rate) in each {
        let Some(rate) = rate else { continue };
        // In thousands of bits; the burst is what comes in a tenth of a second, and at least two of the largest packets
        // that a guest hands over.
        let kbits = rate.div_ceil(1000).cast_signed();
        let key = net.key(&format!("qos/{}/{word}", port.key));
        let row = rows.add(Table::Qos, key.as_str());
        row.integer("priority", QOS_PRIORITY).text("direction", direction);
        row.text("match", format!("{side} == \"{}\"", port.name));
        row.put_integer("bandwidth", "rate", kbits).put_integer("bandwidth", "burst", (kbits / 10).max(LEAST_BURST));
        rows.add(Table::LogicalSwitch, net.key("ls-int")).refer("qos_rules", key);
    }
}

fn routes(rows: &mut Rows, net: &Network, port: &Port) {
    for subnet in &port.routes {
        let hop = match subnet {
            IpNet::V4(_) => port.ipv4.map(IpAddr::V4),
            IpNet::V6(_) => port.ipv6.map(IpAddr::V6),
        };
        let Some(hop) = hop else { continue };
        let key = net.key(&format!("route/{}/{subnet}", port.key));
        let route = rows.add(Table::StaticRoute, key.as_str());
        route.text("ip_prefix", subnet.to_string()).text("nexthop", hop.to_string());
        route.texts("output_port", [format!("{}-lr-lrp-int", net.prefix())]);
        rows.add(Table::LogicalRouter, net.key("lr")).refer("static_routes", key);
    }
}
