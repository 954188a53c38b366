//! The inside of a network: router, switch, DHCP, router advertisements, names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::facts::{Mode6, Network};
use crate::nb::{Rows, Table};

/// Adds the rows.
pub(super) fn add(rows: &mut Rows, net: &Network) {
    router(rows, net);
    switch(rows, net);
    dhcp4(rows, net);
    dhcp6(rows, net);
    names(rows, net);
    sources(rows, net);
}

fn router(rows: &mut Rows, net: &Network) {
    let prefix = net.prefix();
    let router = rows.add(Table::LogicalRouter, net.key("lr"));
    router.text("name", format!("{prefix}-lr")).put("external_ids", "basalt_network", net.name.to_string());
    // Neighbours are asked for when they are needed, not learnt from what anybody claims.
    router.put("options", "always_learn_from_arp_request", "false").put("options", "dynamic_neigh_routers", "true");
    if net.gateway4.is_none() && net.gateway6.is_none() {
        return;
    }
    router.refer("ports", net.key("lrp-int"));
    let gateways = net.gateway4.iter().map(ToString::to_string).chain(net.gateway6.iter().map(ToString::to_string));
    let port = rows.add(Table::LogicalRouterPort, net.key("lrp-int"));
    port.text("name", format!("{prefix}-lr-lrp-int")).text("mac", net.mac.to_string()).texts("networks", gateways);
    port.put("options", "gateway_mtu", net.mtu.to_string());
    if net.gateway6.is_some() {
        advertise(port, net);
    }
}

fn advertise(port: &mut crate::nb::Row, net: &Network) {
    let mode = match net.mode6 {
        Mode6::Slaac => "slaac",
        Mode6::Stateless => "dhcpv6_stateless",
        Mode6::Stateful => "dhcpv6_stateful",
    };
    let column = "ipv6_ra_configs";
    port.put(column, "send_periodic", "true").put(column, "address_mode", mode).put(column, "mtu", net.mtu.to_string());
    port.put(column, "min_interval", "30").put(column, "max_interval", "60");
    let search = search(net);
    if !search.is_empty() {
        port.put(column, "dnssl", search.join(","));
    }
    // Only one can be said.
    if let Some(server) = resolvers(net, false).first() {
        port.put(column, "rdnss", server.as_str());
    }
}

fn switch(rows: &mut Rows, net: &Network) {
    let prefix = net.prefix();
    let routed = net.gateway4.is_some() || net.gateway6.is_some();
    let switch = rows.add(Table::LogicalSwitch, net.key("ls-int"));
    switch.text("name", format!("{prefix}-ls-int")).put("external_ids", "basalt_network", net.name.to_string());
    if routed {
        switch.refer("ports", net.key("ls-int-lsp-router"));
        let port = rows.add(Table::LogicalSwitchPort, net.key("ls-int-lsp-router"));
        port.text("name", format!("{prefix}-ls-int-lsp-router")).text("type", "router").texts("addresses", ["router"]);
        port.put("options", "router-port", format!("{prefix}-lr-lrp-int"));
    }
}

/// Name servers of one family, for guests. Names of instances are answered on the way, whoever is asked: without any
/// other, the router is asked.
fn resolvers(net: &Network, v4: bool) -> Vec<String> {
    let told: Vec<String> = net.resolvers.iter().filter(|ip| ip.is_ipv4() == v4).map(IpAddr::to_string).collect();
    let own = match v4 {
        true => net.gateway4.map(|gateway| gateway.addr().to_string()),
        false => net.gateway6.map(|gateway| gateway.addr().to_string()),
    };
    if told.is_empty() { own.into_iter().collect() } else { told }
}

fn search(net: &Network) -> Vec<&str> {
    match net.search.is_empty() {
        true => Some(net.domain.as_str()).filter(|domain| !domain.is_empty()).into_iter().collect(),
        false => net.search.iter().map(String::as_str).collect(),
    }
}

fn dhcp4(rows: &mut Rows, net: &Network) {
    let (Some(gateway), Some(lease)) = (net.gateway4, net.lease4) else { return };
    let options = rows.add(Table::DhcpOptions, net.key("dhcp4"));
    options.text("cidr", gateway.trunc().to_string());
    let own = gateway.addr().to_string();
    options.put("options", "server_id", own.as_str()).put("options", "server_mac", net.mac.to_string());
    options.put("options", "lease_time", lease.to_string()).put("options", "router", own);
    options.put("options", "mtu", net.mtu.to_string());
    options.put("options", "dns_server", format!("{{{}}}", resolvers(net, true).join(", ")));
    if !net.domain.is_empty() {
        options.put("options", "domain_name", format!("\"{}\"", net.domain));
    }
    if !net.search.is_empty() {
        options.put("options", "domain_search_list", format!("\"{}\"", net.search.join(",")));
    }
}

fn dhcp6(rows: &mut Rows, net: &Network) {
    let Some(gateway) = net.gateway6 else { return };
    match net.mode6 {
        Mode6::Slaac => return,
        Mode6::Stateless | Mode6::Stateful => {}
    }
    let options = rows.add(Table::DhcpOptions, net.key("dhcp6"));
    options.text("cidr", gateway.trunc().to_string()).put("options", "server_id", net.mac.to_string());
    options.put("options", "dns_server", format!("{{{}}}", resolvers(net, false).join(", ")));
    let search = search(net);
    if !search.is_empty() {
        options.put("options", "domain_search", format!("\"{}\"", search.join(",")));
    }
    if net.mode6 == Mode6::Stateless {
        options.put("options", "dhcpv6_stateless", "true");
    }
}

/// Names of instances. Two instances of different projects may be called the same: the older one is found.
fn names(rows: &mut Rows, net: &Network) {
    if net.domain.is_empty() {
        return;
    }
    let mut records: BTreeMap<String, (&str, Vec<String>)> = BTreeMap::new();
    for port in &net.ports {
        let addresses = port.ipv4.iter().map(ToString::to_string).chain(port.ipv6.iter().map(ToString::to_string));
        let addresses: Vec<String> = addresses.collect();
        if addresses.is_empty() {
            continue;
        }
        let instance = port.key.split('/').next().unwrap_or_default();
        let name = format!("{}.{}", port.host, net.domain).to_lowercase();
        let held = records.entry(name).or_insert_with(|| (instance, Vec::new()));
        if held.0 == instance {
            held.1.extend(addresses);
        }
    }
    if records.is_empty() {
        return;
    }
    rows.add(Table::LogicalSwitch, net.key("ls-int")).refer("dns_records", net.key("dns"));
    let row = rows.add(Table::Dns, net.key("dns"));
    for (name, (_, addresses)) in records {
        row.put("records", name, addresses.join(" "));
    }
}

/// The router takes from inside only what is inside. Peers and rules name the same sets.
fn sources(rows: &mut Rows, net: &Network) {
    let name = |family: &str| format!("basalt_net{}_routes_{family}", net.number);
    let inport = format!("inport == \"{}-lr-lrp-int\"", net.prefix());
    let inside: Vec<_> = net.inside().collect();
    let mut any = false;
    for (family, word, v4) in [("ip4", "ip4", true), ("ip6", "ip6", false)] {
        let nets: Vec<String> = inside.iter().filter(|n| n.addr().is_ipv4() == v4).map(ToString::to_string).collect();
        if nets.is_empty() {
            continue;
        }
        any = true;
        rows.add(Table::AddressSet, net.key(&format!("routes-{family}")))
            .text("name", name(family))
            .texts("addresses", nets);
        let key = net.key(&format!("policy-inside-{family}"));
        let policy = rows.add(Table::Policy, key.as_str());
        policy.integer("priority", 600).text("action", "allow");
        policy.text("match", format!("{inport} && {word}.src == ${}", name(family)));
        rows.add(Table::LogicalRouter, net.key("lr")).refer("policies", key);
    }
    if any {
        let key = net.key("policy-inside-rest");
        let policy = rows.add(Table::Policy, key.as_str());
        policy.integer("priority", 500).text("action", "drop").text("match", inport);
        rows.add(Table::LogicalRouter, net.key("lr")).refer("policies", key);
    }
}
