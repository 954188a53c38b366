//! Access control lists: what may come to interfaces and leave them.
//!
//! ```text
//!  priority                                          to interfaces (to-lport)   from interfaces (from-lport)
//!       0  nothing said: passes
//!     100  an interface with lists: its default      outport == "port"          inport == "port"
//!     200  what no network can live without: ARP, ND, DHCP, names, the gateway's answers
//!     300  allow, allow-stateless                    outport == @basalt_acl4_net7 && ...
//!     400  reject                                                               inport == @basalt_acl4_net7 && ...
//!     500  drop
//! ```
//! Both are looked at, one where a packet enters the switch and one where it leaves it: what one end lets out, the other
//! need not let in. (With all rows on one side, as others have it, the row with the higher priority would decide for both
//! ends.) A connection is known in a place of its own for each of the two interfaces, so that one may have rules without
//! state and the other not.
//!
//! A list has a group of ports in each network where an interface has it: that group holds the list's rules, so that
//! `@internal`, `@external` and peers mean those of that network, and a change of a network is one transaction. Rules about
//! a list name the addresses that OVN derives from those groups (`$basalt_acl4_net7_ip4`).
//!
//! Two ports that reject each other's rejections would talk for ever: errors that are on their first hop always pass.

mod terms;

use std::collections::BTreeSet;
use std::net::IpAddr;

use basalt_model::AclKey;
use basalt_model::network::acl::{Action, Direction};

use super::facts::{Facts, Guard, List, Network};
use super::sets;
use crate::nb::{Rows, Table};

/// Adds the rows of one network.
pub(super) fn add(rows: &mut Rows, facts: &Facts, net: &Network) {
    let guarded: BTreeSet<&AclKey> = net.ports.iter().filter_map(|p| p.guard.as_ref()).flat_map(|g| &g.lists).collect();
    if guarded.is_empty() && !net.ports.iter().any(|port| port.guard.is_some()) {
        return;
    }
    baseline(rows, net);
    let lists: Vec<&List> = guarded.into_iter().filter_map(|name| facts.lists.get(name)).collect();
    sets::add(rows, facts, net, lists.iter().copied());
    for list in lists {
        group(rows, facts, net, list);
    }
    for port in &net.ports {
        let Some(guard) = &port.guard else { continue };
        defaults(rows, net, (&port.name, &port.key), guard);
    }
}

/// What the ports of a list are called in a network.
fn group_name(list: u32, net: u32) -> String {
    format!("basalt_acl{list}_net{net}")
}

fn router_port(net: &Network) -> String {
    format!("{}-ls-int-lsp-router", net.prefix())
}

fn group(rows: &mut Rows, facts: &Facts, net: &Network, list: &List) {
    let key = net.key(&format!("acl/{}", list.number));
    let name = group_name(list.number, net.number);
    rows.add(Table::PortGroup, key.as_str()).text("name", name.as_str());
    let members = net.ports.iter().filter(|p| p.guard.as_ref().is_some_and(|g| g.lists.contains(&list.name)));
    for port in members {
        rows.add(Table::PortGroup, key.as_str()).refer("ports", net.key(&format!("port/{}", port.key)));
    }
    for said in &list.rules {
        let Some(about) = terms::matching(facts, net, said.direction, &said.terms) else { continue };
        let (side, word) = (near(said.direction), word(said.direction));
        let id = format!("acl/{}/{word}/{}", list.number, said.index);
        let text = match about.is_empty() {
            true => format!("{side} == @{name}"),
            false => format!("{side} == @{name} && {about}"),
        };
        let log = said.logged.then(|| format!("basalt_acl{}-{word}-{}", list.number, said.index));
        let row = Line { direction: said.direction, priority: priority(said.action), text, action: said.action, log };
        row.add(rows, (Table::PortGroup, &key), net.key(&id));
    }
}

/// The side of a rule that is the interface itself.
fn near(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "outport",
        Direction::Egress => "inport",
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn priority(action: Action) -> i64 {
    match action {
        Action::Allow | Action::AllowStateless => 300,
        Action::Reject => 400,
        Action::Drop => 500,
    }
}

/// One row of the table `ACL`.
struct Line {
    direction: Direction,
    priority: i64,
    text: String,
    action: Action,
    /// What the log calls it.
    log: Option<String>,
}

impl Line {
    fn add(self, rows: &mut Rows, (table, holder): (Table, &str), key: String) {
        let action = match self.action {
            Action::Allow => "allow-related",
            Action::AllowStateless => "allow-stateless",
            Action::Drop => "drop",
            Action::Reject => "reject",
        };
        let row = rows.add(Table::Acl, key.as_str());
        row.integer("priority", self.priority).text("match", self.text).text("action", action);
        let direction = match self.direction {
            Direction::Ingress => "to-lport",
            Direction::Egress => "from-lport",
        };
        row.text("direction", direction);
        row.boolean("log", self.log.is_some());
        if let Some(name) = self.log {
            row.texts("name", [name]).texts("severity", ["info"]);
        }
        rows.add(table, holder).refer("acls", key);
    }
}

fn defaults(rows: &mut Rows, net: &Network, (port, key): (&str, &str), guard: &Guard) {
    let group = net.key("group");
    for (direction, (action, log)) in [(Direction::Ingress, guard.ingress), (Direction::Egress, guard.egress)] {
        let word = word(direction);
        // The name of a log entry may have 63 characters: the port is in the entry itself.
        let log = log.then(|| format!("basalt_net{}-default-{word}", net.number));
        let text = format!("{} == \"{port}\"", near(direction));
        let line = Line { direction, priority: 100, text, action, log };
        line.add(rows, (Table::PortGroup, &group), net.key(&format!("acl-default/{key}/{word}")));
    }
}

/// What passes whatever lists say.
fn baseline(rows: &mut Rows, net: &Network) {
    use Direction::{Egress, Ingress};
    let router = router_port(net);
    let mut lines = Vec::new();
    for (word, text) in [
        ("neighbours", "arp || nd"),
        ("mld", "icmp6 && icmp6.type == 143 && ip.ttl == 1 && ip6.dst == ff02::16"),
        ("igmp", "igmp && ip.ttl == 1 && ip4.mcast"),
        ("errors4", "icmp4 && icmp4.type == {3, 11, 12} && ip.ttl == 255"),
        ("errors6", "icmp6 && icmp6.type == {1, 2, 3, 4} && ip.ttl == 255"),
        ("resets", "tcp && tcp.flags == 0x014"),
    ] {
        lines.extend([Ingress, Egress].map(|direction| (direction, word.to_owned(), text.to_owned())));
    }
    lines.push((Ingress, "advertisements".to_owned(), format!("inport == \"{router}\" && nd_ra")));
    let own = net.gateway4.map(|n| n.addr().into()).into_iter().chain(net.gateway6.map(|n| n.addr().into()));
    let own: BTreeSet<IpAddr> = own.collect();
    let mut out = vec![
        ("solicitations".to_owned(), "nd_rs".to_owned()),
        ("dhcp4".to_owned(), "ip4 && udp.src == 68 && udp.dst == 67".to_owned()),
        ("dhcp6".to_owned(), "ip6 && udp.src == 546 && udp.dst == 547".to_owned()),
    ];
    for gateway in &own {
        out.push(match gateway {
            IpAddr::V4(ip) => ("ping4".to_owned(), format!("icmp4.type == 8 && ip4.dst == {ip}")),
            IpAddr::V6(ip) => ("ping6".to_owned(), format!("icmp6.type == 128 && ip6.dst == {ip}")),
        });
    }
    for ip in net.resolvers.iter().copied().chain(own).collect::<BTreeSet<IpAddr>>() {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        out.push((format!("names-{ip}"), format!("{family}.dst == {ip} && (udp.dst == 53 || tcp.dst == 53)")));
    }
    lines.extend(out.into_iter().map(|(word, text)| (Egress, word, text)));
    for (direction, what, text) in lines {
        let line = Line { direction, priority: 200, text, action: Action::Allow, log: None };
        let key = net.key(&format!("acl-baseline/{what}/{}", word(direction)));
        line.add(rows, (Table::LogicalSwitch, &net.key("ls-int")), key);
    }
}
