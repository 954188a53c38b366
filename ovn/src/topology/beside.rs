//! What the replicated state says of access control lists, of what listens on uplinks, and of peerings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use basalt_model::network::acl::{Acl, Action, RuleState, terms};
use basalt_model::network::{self as model, listen, peer, port};
use basalt_model::{AclKey, ClusterState, SetKey};

use super::facts::{Guard, Joined, List, Listener, Network, Said, Set};

/// All lists, with the rules that count.
pub(super) fn lists(state: &ClusterState) -> BTreeMap<AclKey, List> {
    state.acls.iter().map(|(id, acl)| (id.clone(), list(acl))).collect()
}

/// All address sets.
pub(super) fn sets(state: &ClusterState) -> BTreeMap<SetKey, Set> {
    state.address_sets.iter().map(|(id, set)| (id.clone(), Set { number: set.number, nets: set.nets() })).collect()
}

fn list(acl: &Acl) -> List {
    let ingress = acl.ingress.len();
    let rules = acl.rules().enumerate().filter(|(_, (_, rule))| rule.state != RuleState::Disabled);
    let said = rules.filter_map(|(at, (direction, rule))| {
        Some(Said {
            index: if at < ingress { at } else { at - ingress },
            direction,
            action: rule.action,
            logged: rule.state == RuleState::Logged,
            terms: terms(rule, direction).ok()?,
        })
    });
    List { name: acl.id(), number: acl.number, rules: said.collect() }
}

/// Lists of an interface and of its network, if there are any.
pub(super) fn guard(port: &port::Port<'_>) -> Option<Guard> {
    let (of_network, theirs) = port.network.acls();
    let own = port.logical.defaults;
    let of_port = port.logical.acls.iter().map(|name| port.network.beside(name.clone()));
    let lists: BTreeSet<AclKey> = of_network.into_iter().chain(of_port).collect();
    let action = |own: Option<Action>, theirs: Option<Action>| own.or(theirs).unwrap_or(Action::Reject);
    let logged = |own: Option<bool>, theirs: Option<bool>| own.or(theirs).unwrap_or(false);
    (!lists.is_empty()).then(|| Guard {
        lists,
        ingress: (action(own.ingress, theirs.ingress), logged(own.ingress_logged, theirs.ingress_logged)),
        egress: (action(own.egress, theirs.egress), logged(own.egress_logged, theirs.egress_logged)),
    })
}

/// Forwards and load balancers.
pub(super) fn listeners(network: &model::Network, uplink: &model::Network) -> Vec<Listener> {
    let answered = listen::answered(uplink);
    let one = |(protocol, port, ip, to)| (protocol, port, vec![(ip, to)]);
    let forwards = network.forwards.values().map(|forward| Listener {
        address: forward.listen,
        rest: forward.default_target(),
        ports: forward.mapped().into_iter().map(one).collect(),
        check: None,
        answered,
    });
    let balancers = network.balancers.values().map(|balancer| Listener {
        address: balancer.listen,
        rest: None,
        ports: balancer.mapped(),
        check: balancer.health_check(),
        answered,
    });
    forwards.chain(balancers).collect()
}

/// Peerings that both sides have.
pub(super) fn peers(state: &ClusterState, network: &model::Network, known: &BTreeMap<u32, Network>) -> Vec<Joined> {
    let joined = |own: &peer::Peer| {
        let other = known.get(&peer::joined(state, network, own)?.number)?;
        let routes: BTreeSet<_> = other.ports.iter().flat_map(|port| port.routes.iter().copied()).collect();
        Some(Joined {
            name: own.name.clone(),
            number: other.number,
            gateway4: other.gateway4.map(|net| net.addr()),
            gateway6: other.gateway6.map(|net| net.addr()),
            subnets: other.subnets().chain(routes).collect(),
        })
    };
    network.peers.values().filter_map(joined).collect()
}

impl Listener {
    /// Whether any of its traffic goes there.
    pub fn leads_to(&self, ip: IpAddr) -> bool {
        self.rest == Some(ip)
            || self.ports.iter().any(|(_, _, targets)| targets.iter().any(|(target, _)| *target == ip))
    }
}
