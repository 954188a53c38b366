//! `basalt network info`: the live state, and of a logical network the way from the uplink to its instances.

use std::fmt::Write as _;

use anyhow::Result;
use basalt_api::dto::network::{Ovn, State, Way};
use basalt_client::{Client, Path};

use crate::output;
use crate::table::Table;

/// Prints it.
pub(super) async fn info(client: &Client, name: &str) -> Result<()> {
    let state: State = client.get(Path::of("networks").segment(name).segment("state")).await?;
    output::print(&shown(name, &state))
}

fn shown(name: &str, state: &State) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<16} {value}");
        }
    };
    line("Name:", name);
    line("State:", &state.state);
    line("Type:", &state.kind);
    line("MAC address:", &state.hwaddr);
    line("MTU:", &state.mtu.to_string());
    for address in &state.addresses {
        line("Address:", &format!("{}/{}", address.address, address.netmask));
    }
    if let Some(ovn) = &state.ovn {
        line("Chassis:", &ovn.chassis);
        line("Logical router:", &ovn.logical_router);
        line("Logical switch:", &ovn.logical_switch);
        line("Uplink IPv4:", &ovn.uplink_ipv4);
        line("Uplink IPv6:", &ovn.uplink_ipv6);
    }
    if let (Some(ovn), Some(way)) = (&state.ovn, &state.basalt_path) {
        text.push_str(&path(state, ovn, way));
    }
    text
}

/// From the world outside to the instances, a line for each station.
fn path(state: &State, ovn: &Ovn, way: &Way) -> String {
    let mut text = "Path:\n".to_owned();
    if !way.lacking.is_empty() {
        let _ = writeln!(text, "  (where ports are is not known: {})", way.lacking);
    }
    match way.uplink.as_str() {
        "" => text.push_str("  no uplink: the network is isolated\n"),
        uplink => {
            let _ = writeln!(text, "  {uplink}");
            let _ = writeln!(text, "  -> {}", gateways(way));
        }
    }
    let outside = [&ovn.uplink_ipv4, &ovn.uplink_ipv6].into_iter().filter(|ip| !ip.is_empty()).cloned();
    let inside = state.addresses.iter().map(|a| format!("{}/{}", a.address, a.netmask));
    let addresses: Vec<String> = outside.chain(inside).collect();
    let _ = writeln!(text, "  -> router {} ({})", ovn.logical_router, addresses.join(", "));
    let _ = writeln!(text, "  -> switch {}", ovn.logical_switch);
    match way.ports.is_empty() {
        true => text.push_str("     no instance has an interface on it\n"),
        false => text.extend(ports(way).boxed().lines().map(|line| format!("     {line}\n"))),
    }
    text
}

/// Who carries what leaves, and who is next in line.
fn gateways(way: &Way) -> String {
    let (active, rest): (Vec<_>, Vec<_>) = way.gateways.iter().partition(|gateway| gateway.active);
    let rest: Vec<&str> = rest.iter().map(|gateway| gateway.location.as_str()).collect();
    match (active.first(), rest.is_empty()) {
        (Some(active), true) => format!("gateway {}", active.location),
        (Some(active), false) => format!("gateway {} (in reserve: {})", active.location, rest.join(", ")),
        (None, true) => "no member can be the gateway".into(),
        (None, false) if way.lacking.is_empty() => format!("no gateway now (it could be: {})", rest.join(", ")),
        (None, false) => format!("gateway: one of {}", rest.join(", ")),
    }
}

fn ports(way: &Way) -> Table {
    let mut table = Table::new(["INSTANCE", "DEVICE", "ADDRESSES", "LOCATION", "PLUGGED IN AT", "STATE"]);
    for port in &way.ports {
        let name = match port.project.as_str() {
            "default" => port.instance.clone(),
            project => format!("{project}/{}", port.instance),
        };
        let state = match (way.lacking.is_empty(), port.up) {
            (false, _) => "?",
            (true, true) => "UP",
            (true, false) => "DOWN",
        };
        let (addresses, device) = (port.addresses.join(" "), port.device.clone());
        table.row([name, device, addresses, port.location.clone(), port.bound.clone(), state.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use basalt_api::dto::network::{Gateway, WayPort};

    use super::*;

    fn way() -> Way {
        let gateway = |name: &str, active| Gateway { location: name.into(), active };
        let port = WayPort {
            instance: "c1".into(),
            project: "default".into(),
            device: "eth0".into(),
            addresses: vec!["10.0.0.2".into()],
            location: "node1".into(),
            bound: "node1".into(),
            up: true,
        };
        let gateways = vec![gateway("node2", true), gateway("node1", false)];
        Way { uplink: "outside".into(), gateways, ports: vec![port], lacking: String::new() }
    }

    #[test]
    fn the_path_has_a_line_for_each_station() {
        let ovn = Ovn { logical_router: "lr".into(), logical_switch: "ls".into(), ..Ovn::default() };
        let text = path(&State::default(), &ovn, &way());
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in {text}"));
        assert!(at("outside") < at("gateway node2 (in reserve: node1)"), "{text}");
        assert!(at("router lr") < at("switch ls") && at("switch ls") < at("c1"), "{text}");
        let lost = Way { lacking: "southbound: no connection".into(), ..way() };
        let text = path(&State::default(), &ovn, &lost);
        assert!(text.contains("not known: southbound: no connection") && !text.contains(" UP "), "{text}");
    }

    #[test]
    fn gateways_are_told_apart() {
        let mut way = way();
        way.gateways[0].active = false;
        assert_eq!(gateways(&way), "no gateway now (it could be: node2, node1)");
        way.lacking = "x".into();
        assert_eq!(gateways(&way), "gateway: one of node2, node1");
        way.gateways.clear();
        assert_eq!(gateways(&way), "no member can be the gateway");
    }
}
