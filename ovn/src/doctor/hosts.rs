//! The switches of the hosts, beside what is to be: ports, and room for packets.

use std::collections::BTreeMap;

use super::{Finding, Station, Wanted};

/// What a host says of its switch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// What OVN calls it; `None` when it is no chassis.
    pub chassis: Option<String>,
    /// The largest packet of a guest that fits into one between chassis, in bytes; `None` when that is not known.
    pub room: Option<u32>,
    /// Ports of ours, by the logical port.
    pub ports: BTreeMap<String, HostPort>,
    /// Why it could not be looked at; empty when it could.
    pub lacking: String,
}

/// An interface on the integration bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPort {
    pub interface: String,
    /// Whether the switch has taken it.
    pub plugged: bool,
    /// What the switch says against it.
    pub error: String,
    /// Whether it is switched off on the host.
    pub off: bool,
}

/// Compares one network with the switches of `hosts`, by the names of the members.
pub fn hosts(wanted: &Wanted, hosts: &BTreeMap<String, Host>) -> Vec<Finding> {
    let mut all = Vec::new();
    for (member, host) in hosts {
        if !host.lacking.is_empty() {
            let what = format!("its switch could not be looked at: {}", host.lacking);
            all.push(
                Finding::wrong(Station::Host, what, format!("do basaltd and ovsdb-server of {member} run?")).on(member),
            );
            continue;
        }
        if let Some(room) = host.room.filter(|room| *room < wanted.mtu) {
            let mtu = wanted.mtu;
            let what = format!("packets of {mtu} bytes do not fit between members: there is room for {room}");
            let remedy = format!("set bridge.mtu of the network to {room}, or make the MTU of the link larger");
            all.push(Finding::wrong(Station::Host, what, remedy).on(member));
        }
        all.extend(ports(wanted, member, host));
    }
    all
}

fn ports(wanted: &Wanted, member: &str, host: &Host) -> Vec<Finding> {
    let home =
        |port: &&super::Port| port.runs && host.chassis.is_some() && port.chassis.first() == host.chassis.as_ref();
    let mut all = Vec::new();
    for port in wanted.ports.iter().filter(home) {
        let what = match host.ports.get(&port.name) {
            None => format!("{} is on no bridge of the switch", port.label),
            Some(found) if !found.error.is_empty() => {
                format!("the switch cannot take {} ({}): {}", found.interface, port.label, found.error)
            }
            Some(found) if !found.plugged => format!("the switch has not taken {} ({})", found.interface, port.label),
            Some(found) if found.off => {
                let what = format!("{} ({}) is switched off", found.interface, port.label);
                let remedy = format!("does basaltd run on {member}? Else there: ip link set {} up", found.interface);
                all.push(Finding::wrong(Station::Port, what, remedy).on(member));
                continue;
            }
            Some(_) => continue,
        };
        let remedy = format!("does ovs-vswitchd run on {member}? Else restart the instance: that plugs it in anew");
        all.push(Finding::wrong(Station::Port, what, remedy).on(member));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::Port;
    use super::*;

    #[test]
    fn each_host_is_asked_for_its_own() {
        let port = |n: u8, runs| Port {
            name: format!("p{n}"),
            label: format!("eth0 of c{n}"),
            chassis: vec![format!("ch{n}")],
            runs,
        };
        let wanted =
            Wanted { mtu: 1442, ports: vec![port(1, true), port(2, true), port(3, false)], ..Wanted::default() };
        let plugged = HostPort { interface: "v1".into(), plugged: true, ..HostPort::default() };
        let host = |n: u8, ports: &[(&str, HostPort)]| Host {
            chassis: Some(format!("ch{n}")),
            room: Some(1442),
            ports: ports.iter().map(|(name, port)| ((*name).to_owned(), port.clone())).collect(),
            lacking: String::new(),
        };
        let ask = |all: Vec<Host>| {
            let named = all.into_iter().enumerate().map(|(n, host)| (format!("node{}", n + 1), host)).collect();
            hosts(&wanted, &named).into_iter().map(|f| (f.host, f.what)).collect::<Vec<_>>()
        };
        let (first, second) = (host(1, &[("p1", plugged.clone())]), host(2, &[("p2", plugged.clone())]));
        assert_eq!(ask(vec![first.clone(), second.clone(), host(3, &[])]), []);
        assert_eq!(
            ask(vec![host(1, &[]), second.clone()]),
            [("node1".to_owned(), "eth0 of c1 is on no bridge of the switch".to_owned())]
        );
        let off = HostPort { off: true, ..plugged.clone() };
        assert_eq!(ask(vec![host(1, &[("p1", off)])])[0].1, "v1 (eth0 of c1) is switched off");
        let broken = HostPort { plugged: false, error: "no such device".into(), ..plugged };
        assert!(ask(vec![host(1, &[("p1", broken)])])[0].1.contains("no such device"));
        let tight = Host { room: Some(1342), ..second };
        assert!(ask(vec![first.clone(), tight])[0].1.contains("there is room for 1342"));
        let away = Host { lacking: "no answer".into(), ..Host::default() };
        assert_eq!(
            ask(vec![first, away]),
            [("node2".to_owned(), "its switch could not be looked at: no answer".to_owned())]
        );
    }
}
