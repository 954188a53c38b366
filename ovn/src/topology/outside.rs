//! The way out: the external switch, the router's port on it, the chassis that carry it, SNAT and default routes.

use std::net::IpAddr;

use super::facts::{Network, Outside};
use crate::nb::{Rows, Table};

/// Adds the rows; none for an isolated network, or one whose router has no address on its uplink yet.
pub(super) fn add(rows: &mut Rows, net: &Network) {
    let Some(outside) = net.outside.as_ref().filter(|outside| !outside.addresses.is_empty()) else { return };
    gateways(rows, net, outside);
    switch(rows, net, outside);
    port(rows, net, outside);
    translations(rows, net, outside);
    proxied(rows, net);
    routes(rows, net, outside);
}

fn gateways(rows: &mut Rows, net: &Network, outside: &Outside) {
    rows.add(Table::HaChassisGroup, net.key("chassis")).text("name", net.prefix());
    for (chassis, priority) in &outside.chassis {
        let key = net.key(&format!("chassis/{chassis}"));
        rows.add(Table::HaChassis, key.as_str())
            .text("chassis_name", chassis.as_str())
            .integer("priority", (*priority).into());
        rows.add(Table::HaChassisGroup, net.key("chassis")).refer("ha_chassis", key);
    }
}

fn switch(rows: &mut Rows, net: &Network, outside: &Outside) {
    let prefix = net.prefix();
    let (router, provider) = (net.key("ls-ext-lsp-router"), net.key("ls-ext-lsp-provider"));
    let switch = rows.add(Table::LogicalSwitch, net.key("ls-ext"));
    switch.text("name", format!("{prefix}-ls-ext")).put("external_ids", "basalt_network", net.name.to_string());
    switch.refer("ports", router.as_str()).refer("ports", provider.as_str());
    let port = rows.add(Table::LogicalSwitchPort, router);
    port.text("name", format!("{prefix}-ls-ext-lsp-router")).text("type", "router").texts("addresses", ["router"]);
    port.put("options", "router-port", format!("{prefix}-lr-lrp-ext")).put("options", "nat-addresses", "router");
    let port = rows.add(Table::LogicalSwitchPort, provider);
    port.text("name", format!("{prefix}-ls-ext-lsp-provider")).text("type", "localnet").texts("addresses", ["unknown"]);
    port.put("options", "network_name", outside.uplink.as_str());
}

fn port(rows: &mut Rows, net: &Network, outside: &Outside) {
    rows.add(Table::LogicalRouter, net.key("lr")).refer("ports", net.key("lrp-ext"));
    let port = rows.add(Table::LogicalRouterPort, net.key("lrp-ext"));
    port.text("name", format!("{}-lr-lrp-ext", net.prefix())).text("mac", net.mac.to_string());
    port.texts("networks", outside.addresses.iter().map(ToString::to_string));
    port.put("options", "gateway_mtu", net.mtu.to_string()).refer("ha_chassis_group", net.key("chassis"));
}

fn translations(rows: &mut Rows, net: &Network, outside: &Outside) {
    for (inside, external) in &outside.snat {
        let key = net.key(&format!("snat/{inside}"));
        let nat = rows.add(Table::Nat, key.as_str());
        nat.text("type", "snat").text("logical_ip", inside.to_string()).text("external_ip", external.to_string());
        rows.add(Table::LogicalRouter, net.key("lr")).refer("nat", key);
    }
}

/// The uplink asks for addresses that guests have themselves. OVN answers for those that it translates: these become what
/// they are.
fn proxied(rows: &mut Rows, net: &Network) {
    for port in &net.ports {
        for ip in &port.proxied {
            let key = net.key(&format!("proxy/{}/{ip}", port.key));
            let nat = rows.add(Table::Nat, key.as_str());
            nat.text("type", "dnat_and_snat").text("logical_ip", ip.to_string()).text("external_ip", ip.to_string());
            nat.put("options", "stateless", "true");
            rows.add(Table::LogicalRouter, net.key("lr")).refer("nat", key);
        }
    }
}

fn routes(rows: &mut Rows, net: &Network, outside: &Outside) {
    for hop in &outside.next_hops {
        let (family, all) = match hop {
            IpAddr::V4(_) => ("ip4", "0.0.0.0/0"),
            IpAddr::V6(_) => ("ip6", "::/0"),
        };
        let key = net.key(&format!("route-default-{family}"));
        let route = rows.add(Table::StaticRoute, key.as_str());
        route.text("ip_prefix", all).text("nexthop", hop.to_string());
        route.texts("output_port", [format!("{}-lr-lrp-ext", net.prefix())]);
        rows.add(Table::LogicalRouter, net.key("lr")).refer("static_routes", key);
    }
}
