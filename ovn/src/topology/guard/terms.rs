//! What rules are about, in OVN's language.

use std::collections::BTreeSet;

use basalt_model::network::acl::{Direction, Protocol, Subject, Terms};
use basalt_model::{AclName, NetworkName, PeerName};

use super::{group_name, router_port};
use crate::topology::facts::{Facts, Network};
use crate::topology::sets;

/// What a rule is about, as a match; `None` when nobody can be meant, the empty text when everybody is.
pub(super) fn matching(facts: &Facts, net: &Network, direction: Direction, terms: &Terms) -> Option<String> {
    let source = End { facts, net, direction, end: "src" };
    let destination = End { facts, net, direction, end: "dst" };
    let parts =
        [any(source.all(&terms.sources)?), any(destination.all(&terms.destinations)?), protocol(&terms.protocol)];
    Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" && "))
}

fn any(parts: Vec<String>) -> String {
    match parts.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        many => format!("({})", many.join(" || ")),
    }
}

/// One end of a packet.
struct End<'a> {
    facts: &'a Facts,
    net: &'a Network,
    direction: Direction,
    end: &'static str,
}

impl End<'_> {
    /// One match for each subject; `None` when there are subjects, and none of them is there.
    fn all(&self, subjects: &[Subject]) -> Option<Vec<String>> {
        let parts: Vec<String> = subjects.iter().flat_map(|subject| self.one(subject)).collect();
        (subjects.is_empty() || !parts.is_empty()).then_some(parts)
    }

    fn one(&self, subject: &Subject) -> Vec<String> {
        let end = self.end;
        let family = |v4: bool| if v4 { "ip4" } else { "ip6" };
        match subject {
            Subject::Net(all) => vec![format!("{}.{end} == {all}", family(all.addr().is_ipv4()))],
            Subject::Range(first, last) => {
                let field = format!("{}.{end}", family(first.is_ipv4()));
                vec![format!("({field} >= {first} && {field} <= {last})")]
            }
            Subject::Internal => self.internal(),
            Subject::External => self.external(),
            Subject::Set(name) => sets::matches(self.facts, self.net, name, end),
            Subject::Acl(name) => self.with_list(name),
            Subject::Peer(network, peer) => self.beyond(network, peer),
        }
    }

    fn internal(&self) -> Vec<String> {
        ["ip4", "ip6"].map(|family| self.inside(family)).into()
    }

    fn external(&self) -> Vec<String> {
        match self.direction {
            Direction::Ingress => vec![format!("inport == \"{}\"", router_port(self.net))],
            Direction::Egress => {
                ["ip4", "ip6"].map(|family| format!("({family} && !({}))", self.inside(family))).into()
            }
        }
    }

    /// Told by addresses. Where a packet goes to is not known yet when it is looked at on its way out, and where it came
    /// from is no longer when it comes in: a host knows of a group of ports only those that it has itself.
    fn inside(&self, family: &str) -> String {
        let v4 = family == "ip4";
        let set = format!("$basalt_net{}_routes_{family}", self.net.number);
        let own = self.net.inside().any(|net| net.addr().is_ipv4() == v4).then_some(set.as_str());
        let near = if v4 { ["224.0.0.0/4", "255.255.255.255"] } else { ["fe80::/10", "ff00::/8"] };
        let all: Vec<&str> = own.into_iter().chain(near).collect();
        format!("{family}.{} == {{{}}}", self.end, all.join(", "))
    }

    /// Addresses of the interfaces that have a list, wherever they are.
    fn with_list(&self, name: &AclName) -> Vec<String> {
        let id = self.net.name.beside(name.clone());
        let Some(list) = self.facts.lists.get(&id) else { return Vec::new() };
        let has =
            |net: &&Network| net.ports.iter().any(|p| p.guard.as_ref().is_some_and(|guard| guard.lists.contains(&id)));
        let nets = self.facts.networks.iter().filter(has);
        nets.flat_map(|net| {
            let group = group_name(list.number, net.number);
            [("ip4", net.gateway4.is_some()), ("ip6", net.gateway6.is_some())]
                .into_iter()
                .filter(|(_, there)| *there)
                .map(move |(family, _)| (family, group.clone()))
        })
        .map(|(family, group)| format!("{family}.{} == ${group}_{family}", self.end))
        .collect()
    }

    /// Addresses of the network on the other side of a peering.
    fn beyond(&self, network: &NetworkName, peer: &PeerName) -> Vec<String> {
        let id = self.net.name.beside(network.clone());
        let of = self.facts.networks.iter().find(|net| net.name == id);
        let Some(joined) = of.and_then(|net| net.peers.iter().find(|joined| joined.name == *peer)) else {
            return Vec::new();
        };
        let families: BTreeSet<&str> =
            joined.subnets.iter().map(|net| if net.addr().is_ipv4() { "ip4" } else { "ip6" }).collect();
        let number = joined.number;
        families
            .into_iter()
            .map(|family| format!("{family}.{} == $basalt_net{number}_routes_{family}", self.end))
            .collect()
    }
}

fn protocol(protocol: &Protocol) -> String {
    let ports = |word: &str, end: &str, ranges: &[(u16, u16)]| {
        let one = |(first, last): &(u16, u16)| match first == last {
            true => format!("{word}.{end} == {first}"),
            false => format!("({word}.{end} >= {first} && {word}.{end} <= {last})"),
        };
        any(ranges.iter().map(one).collect())
    };
    let with_ports = |word: &str, from: &[(u16, u16)], to: &[(u16, u16)]| {
        let parts = [word.to_owned(), ports(word, "src", from), ports(word, "dst", to)];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" && ")
    };
    let icmp = |word: &str, kind: &Option<u8>, code: &Option<u8>| {
        let kind = kind.map(|kind| format!(" && {word}.type == {kind}")).unwrap_or_default();
        let code = code.map(|code| format!(" && {word}.code == {code}")).unwrap_or_default();
        format!("{word}{kind}{code}")
    };
    match protocol {
        Protocol::Any => String::new(),
        Protocol::Icmp4(kind, code) => icmp("icmp4", kind, code),
        Protocol::Icmp6(kind, code) => icmp("icmp6", kind, code),
        Protocol::Tcp(from, to) => with_ports("tcp", from, to),
        Protocol::Udp(from, to) => with_ports("udp", from, to),
    }
}
