//! What the southbound database says, beside what is to be: translation, gateways, ports.

use super::{Finding, Station, Wanted, few};
use crate::southbound::{Bindings, gateway_port};

const SLOW: &str = "is it running, and does it reach the databases? See its log";

/// How far translation is behind a configuration that was asked for just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The number of that configuration.
    pub asked: i64,
    /// How long it was waited for, in seconds.
    pub waited: u64,
}

/// Compares one network. Without `progress` nobody knows whether what was read is of today.
pub fn bindings(wanted: &Wanted, found: &Bindings, progress: Option<&Progress>) -> Vec<Finding> {
    let mut all = Vec::new();
    let translated = progress.is_none_or(|progress| found.translated >= progress.asked);
    if let Some(progress) = progress {
        all.extend(behind(wanted, found, progress));
    }
    all.extend(gateways(wanted, found));
    all.extend(ports(wanted, found, translated));
    all
}

fn behind(wanted: &Wanted, found: &Bindings, progress: &Progress) -> Vec<Finding> {
    let waited = progress.waited;
    if found.translated < progress.asked {
        let what = format!("ovn-northd has not translated the northbound database within {waited} s");
        return vec![Finding::wrong(Station::Southbound, what, format!("ovn-northd: {SLOW}"))];
    }
    let late = found
        .chassis
        .iter()
        .filter(|(name, chassis)| wanted.members.contains_key(*name) && chassis.done < progress.asked);
    late.map(|(name, _)| {
        let what = format!("ovn-controller has not followed the southbound database within {waited} s");
        let remedy = format!("ovn-controller on {}: {SLOW}", wanted.member(name));
        Finding::wrong(Station::Host, what, remedy).on(wanted.member(name))
    })
    .collect()
}

fn gateways(wanted: &Wanted, found: &Bindings) -> Vec<Finding> {
    let Some(uplink) = &wanted.uplink else { return Vec::new() };
    let mut all = Vec::new();
    for name in &wanted.gateways {
        let member = wanted.member(name);
        match found.chassis.get(name) {
            None => {
                let what = format!("{member} is not known to OVN as chassis {name}");
                let remedy = "is ovn-controller running there, and is ovn-remote of its switch this database?";
                all.push(Finding::wrong(Station::Gateway, what, remedy).on(member));
            }
            Some(chassis) if !chassis.mappings.contains_key(uplink) => {
                let what =
                    format!("{member} has no bridge for the uplink {uplink}: as the gateway it would reach nothing");
                let remedy =
                    format!("does {member} have the parent of {uplink}? See its log, and ovn-bridge-mappings there");
                all.push(Finding::wrong(Station::Gateway, what, remedy).on(member));
            }
            Some(_) => {}
        }
    }
    let active = found.gateway(&wanted.prefix);
    match (active, wanted.gateways.first()) {
        (_, None) => all.push(Finding::wrong(
            Station::Gateway,
            "no member can be the gateway: nothing leaves the network",
            "at least one member has to be a chassis: [ovn] in its basaltd.toml",
        )),
        (None, Some(_)) => {
            let candidates: Vec<String> = wanted.gateways.iter().map(|name| wanted.member(name)).collect();
            let what =
                format!("there is no gateway now: nothing leaves the network (it could be {})", few(&candidates));
            all.push(Finding::wrong(
                Station::Gateway,
                what,
                format!("do switch and ovn-controller of one of them run? ({})", gateway_port(&wanted.prefix)),
            ));
        }
        (Some(active), Some(first)) if active != first && wanted.gateways.iter().any(|name| name == active) => {
            let what = format!("{} is the gateway in place of {}", wanted.member(active), wanted.member(first));
            all.push(Finding::note(Station::Gateway, what, format!("is all well with {}?", wanted.member(first))));
        }
        (Some(active), Some(_)) if !wanted.gateways.iter().any(|name| name == active) => {
            let what = format!("{} is the gateway, and should not be", wanted.member(active));
            all.push(Finding::wrong(Station::Gateway, what, "see the rows of HA_Chassis"));
        }
        (Some(_), Some(_)) => {}
    }
    all
}

fn ports(wanted: &Wanted, found: &Bindings, translated: bool) -> Vec<Finding> {
    let mut all = Vec::new();
    for port in wanted.ports.iter().filter(|port| port.runs) {
        let home = port.chassis.first().map(|name| wanted.member(name)).unwrap_or_default();
        let finding = match found.ports.get(&port.name) {
            // That it is not translated is said already, and once.
            None if !translated => continue,
            None => Finding::wrong(
                Station::Port,
                format!("{} is not in the southbound database", port.label),
                "is its row in the northbound database? See above, and the log of ovn-northd",
            ),
            Some(binding) => match &binding.chassis {
                None => Finding::wrong(
                    Station::Port,
                    format!("{} is not plugged in: no chassis has it", port.label),
                    format!(
                        "on {home}: is its interface on the integration bridge (ovs-vsctl show), does ovn-controller run?"
                    ),
                ),
                Some(at) if !port.chassis.is_empty() && !port.chassis.contains(at) => Finding::wrong(
                    Station::Port,
                    format!("{} is plugged in on {}, and its instance is on {home}", port.label, wanted.member(at)),
                    format!("take the interface off the switch of {}: ovs-vsctl del-port", wanted.member(at)),
                ),
                Some(at) if !binding.up => Finding::wrong(
                    Station::Port,
                    format!("{} is plugged in and not up: its flows are not in place", port.label),
                    format!("see the log of ovn-controller on {}", wanted.member(at)),
                ),
                Some(_) => continue,
            },
        };
        all.push(finding.on(home));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{Gravity, Port};
    use super::*;
    use crate::southbound::{Binding, Chassis};

    fn wanted() -> Wanted {
        let port = |n: u8, home: &str, runs| Port {
            name: format!("p{n}"),
            label: format!("eth0 of c{n}"),
            chassis: vec![home.into()],
            runs,
        };
        Wanted {
            prefix: "basalt-net7".into(),
            uplink: Some("up".into()),
            gateways: vec!["ch1".into(), "ch2".into()],
            ports: vec![port(1, "ch1", true), port(2, "ch2", true), port(3, "ch2", false)],
            members: [("ch1", "node1"), ("ch2", "node2")].map(|(a, b)| (a.into(), b.into())).into(),
            ..Wanted::default()
        }
    }

    fn healthy() -> Bindings {
        let chassis = Chassis { mappings: [("up".into(), "br".into())].into(), done: 5, ..Chassis::default() };
        let at = |name: &str| Binding { kind: String::new(), chassis: Some(name.into()), up: true };
        Bindings {
            chassis: [("ch1".into(), chassis.clone()), ("ch2".into(), chassis)].into(),
            ports: [("p1".into(), at("ch1")), ("p2".into(), at("ch2")), (gateway_port("basalt-net7"), at("ch1"))]
                .into(),
            translated: 5,
        }
    }

    type Harm = fn(&mut Bindings);

    fn says(change: impl Fn(&mut Bindings)) -> Vec<(Gravity, String)> {
        let mut found = healthy();
        change(&mut found);
        let progress = Progress { asked: 5, waited: 3 };
        bindings(&wanted(), &found, Some(&progress)).into_iter().map(|f| (f.gravity, f.what)).collect()
    }

    #[test]
    fn each_thing_that_is_wrong_is_named_once() {
        assert_eq!(says(|_| {}), []);
        let cases: [(Harm, &str); 9] = [
            (|b| b.ports.get_mut("p1").unwrap().chassis = None, "eth0 of c1 is not plugged in"),
            (|b| b.ports.get_mut("p1").unwrap().chassis = Some("ch2".into()), "eth0 of c1 is plugged in on node2, and"),
            (|b| b.ports.get_mut("p2").unwrap().up = false, "eth0 of c2 is plugged in and not up"),
            (|b| drop(b.ports.remove("p2")), "eth0 of c2 is not in the southbound"),
            (|b| b.chassis.get_mut("ch2").unwrap().mappings.clear(), "node2 has no bridge for the uplink up"),
            (|b| drop(b.chassis.remove("ch2")), "node2 is not known to OVN"),
            (|b| b.ports.get_mut("cr-basalt-net7-lr-lrp-ext").unwrap().chassis = None, "there is no gateway now"),
            (|b| b.chassis.get_mut("ch2").unwrap().done = 4, "ovn-controller has not followed"),
            (|b| b.translated = 4, "ovn-northd has not translated"),
        ];
        for (change, part) in cases {
            let said = says(change);
            assert!(said.len() == 1 && said[0].1.contains(part) && said[0].0 == Gravity::Wrong, "{part}: {said:?}");
        }
        let moved = says(|b| b.ports.get_mut("cr-basalt-net7-lr-lrp-ext").unwrap().chassis = Some("ch2".into()));
        assert_eq!(moved, [(Gravity::Note, "node2 is the gateway in place of node1".to_owned())]);
    }

    #[test]
    fn a_network_without_a_way_out_needs_no_gateway() {
        let mut found = healthy();
        found.ports.remove("cr-basalt-net7-lr-lrp-ext");
        let wanted = Wanted { uplink: None, ..wanted() };
        assert_eq!(bindings(&wanted, &found, None), []);
    }
}
