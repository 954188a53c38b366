//! Access control lists and forwards of a bridge network, as the host is to carry them out.

use std::net::IpAddr;

use basalt_model::device::Logical;
use basalt_model::network::Network;
use basalt_model::network::acl::{Acl, Action, Defaults, Direction, Rule, RuleState, terms};
use basalt_model::network::balance::Transport;
use basalt_model::{AclKey, ClusterState};
use basalt_net::{Forward, Guard, GuardRule, Verdict};

/// What holds for a network; `None` for one without lists.
pub(super) fn guard(state: &ClusterState, network: &Network) -> Option<Guard> {
    let (names, defaults) = network.acls();
    resolved(state, network, &names, defaults)
}

/// What holds for an interface, in place of that: the network's lists and its own, its own defaults first.
pub(super) fn of_nic(state: &ClusterState, network: &Network, own: &Logical) -> Option<Guard> {
    let (mut names, of_network) = network.acls();
    let of_nic = own.acls.iter().map(|name| network.beside(name.clone()));
    names.extend(of_nic.filter(|id| !network.acls().0.contains(id)));
    let defaults = Defaults {
        ingress: own.defaults.ingress.or(of_network.ingress),
        egress: own.defaults.egress.or(of_network.egress),
        ingress_logged: own.defaults.ingress_logged.or(of_network.ingress_logged),
        egress_logged: own.defaults.egress_logged.or(of_network.egress_logged),
    };
    resolved(state, network, &names, defaults)
}

fn resolved(state: &ClusterState, network: &Network, names: &[AclKey], defaults: Defaults) -> Option<Guard> {
    if names.is_empty() {
        return None;
    }
    let rest = |action: Option<Action>, logged: Option<bool>, direction| Verdict {
        action: action.unwrap_or(Action::Reject),
        logged: logged.unwrap_or(false).then(|| format!("{}-{direction}", network.name)),
    };
    Some(Guard {
        rules: names.iter().filter_map(|name| state.acls.get(name)).flat_map(|acl| rules(state, acl)).collect(),
        ingress: rest(defaults.ingress, defaults.ingress_logged, "ingress"),
        egress: rest(defaults.egress, defaults.egress_logged, "egress"),
    })
}

/// The rules of a list that count.
fn rules(state: &ClusterState, acl: &Acl) -> impl Iterator<Item = GuardRule> + use<> {
    let each = |direction, word: &'static str, rules: &[Rule]| {
        let one = |(at, rule): (usize, &Rule)| {
            let logged = match rule.state {
                RuleState::Disabled => return None,
                RuleState::Enabled => None,
                RuleState::Logged => Some(format!("{}-{word}-{at}", acl.name)),
            };
            let verdict = Verdict { action: rule.action, logged };
            Some(GuardRule { direction, verdict, terms: terms(rule, direction).ok()?.with_sets(state, &acl.project) })
        };
        rules.iter().enumerate().filter_map(one).collect::<Vec<_>>()
    };
    let ingress = each(Direction::Ingress, "ingress", &acl.ingress);
    ingress.into_iter().chain(each(Direction::Egress, "egress", &acl.egress))
}

/// All forwards of the network, ports that go to the same place together.
pub(super) fn forwards(network: &Network) -> Vec<Forward> {
    let mut all = Vec::new();
    for forward in network.forwards.values() {
        let mut mapped = forward.mapped();
        mapped.sort_unstable();
        let mut runs: Vec<Forward> = Vec::new();
        for (transport, listen, target, to) in mapped {
            let joins = |run: &Forward| run.target == target && follows(run, transport, listen, to);
            match runs.last_mut().filter(|run| joins(run)) {
                Some(run) => run.ports = run.ports.map(|(transport, first, _)| (transport, first, listen)),
                None => runs.push(Forward {
                    listen: forward.listen,
                    ports: Some((transport, listen, listen)),
                    target,
                    port: (to != listen).then_some(to),
                }),
            }
        }
        all.append(&mut runs);
        let rest = |target: IpAddr| Forward { listen: forward.listen, ports: None, target, port: None };
        all.extend(forward.default_target().map(rest));
    }
    all
}

/// Whether a port is the next of a run: both keep their numbers, or both go to the same one.
fn follows(run: &Forward, transport: Transport, listen: u16, to: u16) -> bool {
    let next = run.ports.is_some_and(|(kind, _, last)| kind == transport && last.checked_add(1) == Some(listen));
    next && run.port.unwrap_or(listen) == to
}

#[cfg(test)]
mod tests {
    use basalt_model::network::NetworkKind;
    use basalt_model::network::acl::Subject;
    use basalt_model::network::address_set::AddressSet;
    use basalt_model::network::balance;
    use basalt_model::{AclName, Generation, NetworkName, SetName};

    use super::*;

    fn network() -> Network {
        Network::new(NetworkName::new("lab").unwrap(), NetworkKind::Bridge)
    }

    #[test]
    fn ports_are_told_in_runs() {
        let port = |protocol, listen: &str, target: &str| balance::ForwardPort {
            description: String::new(),
            protocol,
            listen_port: listen.into(),
            target_port: target.into(),
            target_address: "10.0.0.9".parse().unwrap(),
        };
        let listen: IpAddr = "192.0.2.1".parse().unwrap();
        let forward = balance::Forward {
            listen,
            description: String::new(),
            config: [("target_address".to_owned(), "10.0.0.5".to_owned())].into(),
            ports: vec![
                port(Transport::Udp, "1-65535", ""),
                port(Transport::Tcp, "80,90-92", "8080"),
                port(Transport::Tcp, "20-21", "30-31"),
            ],
            generation: Generation(1),
        };
        let mut network = network();
        network.forwards.insert(listen, forward);
        let told: Vec<_> = forwards(&network).into_iter().map(|f| (f.ports, f.port)).collect();
        let tcp = |first, last, to| (Some((Transport::Tcp, first, last)), to);
        assert_eq!(
            told,
            [
                tcp(20, 20, Some(30)),
                tcp(21, 21, Some(31)),
                tcp(80, 80, Some(8080)),
                tcp(90, 92, Some(8080)),
                (Some((Transport::Udp, 1, 65535)), None),
                (None, None),
            ]
        );
    }

    fn rule(state: RuleState) -> Rule {
        Rule {
            action: Action::Allow,
            state,
            description: String::new(),
            source: String::new(),
            destination: String::new(),
            protocol: "tcp".into(),
            source_port: String::new(),
            destination_port: "80".into(),
            icmp_type: String::new(),
            icmp_code: String::new(),
        }
    }

    #[test]
    fn only_rules_that_count_are_carried_out() {
        let mut state = ClusterState::default();
        let ingress = vec![rule(RuleState::Enabled), rule(RuleState::Disabled), rule(RuleState::Logged)];
        let acl = Acl { ingress, ..Acl::new(AclName::new("web").unwrap()) };
        state.acls.insert(acl.id(), acl);
        let mut network = network();
        assert_eq!(guard(&state, &network), None);
        network.config.insert("security.acls".into(), "web".into());
        network.config.insert("security.acls.default.egress.action".into(), "allow".into());
        let guard = guard(&state, &network).unwrap();
        let logged: Vec<_> = guard.rules.iter().map(|rule| rule.verdict.logged.as_deref()).collect();
        assert_eq!(logged, [None, Some("web-ingress-2")]);
        assert_eq!((guard.ingress.action, guard.egress.action), (Action::Reject, Action::Allow));
        let defaults = Defaults { ingress: Some(Action::Drop), ..Defaults::default() };
        let own = of_nic(&state, &network, &Logical { defaults, ..Logical::default() }).unwrap();
        assert_eq!((own.ingress.action, own.egress.action), (Action::Drop, Action::Allow), "its own come first");
        assert_eq!(own.rules, guard.rules);
    }

    #[test]
    fn rules_are_about_what_is_in_address_sets() {
        let mut state = ClusterState::default();
        let office = AddressSet {
            addresses: vec!["192.0.2.9".into(), "2001:db8::/32".into()],
            ..AddressSet::new(SetName::new("office").unwrap())
        };
        let nobody = AddressSet::new(SetName::new("nobody").unwrap());
        for set in [office, nobody] {
            state.address_sets.insert(set.id(), set);
        }
        let mut acl = Acl::new(AclName::new("web").unwrap());
        acl.ingress = vec![rule(RuleState::Enabled), rule(RuleState::Enabled)];
        acl.ingress[0].source = "$office,10.0.0.1".into();
        acl.ingress[1].source = "$nobody".into();
        let told: Vec<Vec<Subject>> = rules(&state, &acl).map(|rule| rule.terms.sources).collect();
        let net = |text: &str| Subject::Net(text.parse().unwrap());
        let office = vec![net("192.0.2.9/32"), net("2001:db8::/32"), net("10.0.0.1/32")];
        // A rule about nobody must not become one about everybody.
        assert_eq!(told, [office, vec![Subject::Set(SetName::new("nobody").unwrap())]]);
    }
}
