//! Peerings: the routers of two networks know each other. Each network writes its own end.

use std::net::IpAddr;

use ipnet::IpNet;

use super::facts::{Joined, Network};
use crate::nb::{Rows, Table};

/// Adds the rows of one network's ends.
pub(super) fn add(rows: &mut Rows, net: &Network) {
    // A router without an address has nothing to say to others.
    if net.subnets().next().is_none() {
        return;
    }
    for peer in &net.peers {
        port(rows, net, peer);
        routes(rows, net, peer);
        policies(rows, net, peer);
    }
}

fn port_name(net: u32, peer: u32) -> String {
    format!("{}-lr-lrp-peer-net{peer}", basalt_model::network::prefix(net))
}

fn port(rows: &mut Rows, net: &Network, peer: &Joined) {
    let key = net.key(&format!("lrp-peer-net{}", peer.number));
    let v4 = net.gateway4.map(|net| IpNet::from(IpAddr::V4(net.addr())));
    let own = v4.into_iter().chain(net.gateway6.map(|net| IpNet::from(IpAddr::V6(net.addr()))));
    let row = rows.add(Table::LogicalRouterPort, key.as_str());
    row.text("name", port_name(net.number, peer.number)).text("mac", net.mac.to_string());
    row.texts("networks", own.map(|net| net.to_string())).texts("peer", [port_name(peer.number, net.number)]);
    rows.add(Table::LogicalRouter, net.key("lr")).refer("ports", key);
}

fn routes(rows: &mut Rows, net: &Network, peer: &Joined) {
    for subnet in &peer.subnets {
        let hop = match subnet {
            IpNet::V4(_) => peer.gateway4.map(IpAddr::V4),
            IpNet::V6(_) => peer.gateway6.map(IpAddr::V6),
        };
        let Some(hop) = hop else { continue };
        let key = net.key(&format!("route-peer-net{}/{subnet}", peer.number));
        let row = rows.add(Table::StaticRoute, key.as_str());
        row.text("ip_prefix", subnet.to_string()).text("nexthop", hop.to_string());
        row.texts("output_port", [port_name(net.number, peer.number)]);
        rows.add(Table::LogicalRouter, net.key("lr")).refer("static_routes", key);
    }
}

/// From the peer comes only what is the peer's, and that comes from nowhere else.
fn policies(rows: &mut Rows, net: &Network, peer: &Joined) {
    let inport = format!("inport == \"{}\"", port_name(net.number, peer.number));
    let outside = format!("inport == \"{}-lr-lrp-ext\"", net.prefix());
    let mut lines = vec![("rest".to_owned(), 500, "drop", inport.clone())];
    for (family, v4) in [("ip4", true), ("ip6", false)] {
        if !peer.subnets.iter().any(|net| net.addr().is_ipv4() == v4) {
            continue;
        }
        let set = format!("{family}.src == $basalt_net{}_routes_{family}", peer.number);
        lines.push((format!("inside-{family}"), 600, "allow", format!("{inport} && {set}")));
        if net.outside.is_some() {
            lines.push((format!("outside-{family}"), 500, "drop", format!("{outside} && {set}")));
        }
    }
    for (word, priority, action, text) in lines {
        let key = net.key(&format!("policy-peer-net{}/{word}", peer.number));
        rows.add(Table::Policy, key.as_str()).integer("priority", priority).text("action", action).text("match", text);
        rows.add(Table::LogicalRouter, net.key("lr")).refer("policies", key);
    }
}
