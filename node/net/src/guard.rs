//! Access control lists on a bridge: what may cross between its guests and all the rest, the host included.
//!
//! ```text
//! guest -> bridge -> host      input    \__ what the host serves itself, then acl_egress
//! guest -> bridge -> elsewhere forward  /
//! host, elsewhere -> bridge    output, forward: acl_ingress
//! guest -> bridge -> guest     not looked at: it is not routed
//! ```
//!
//! Interfaces with lists of their own are told apart by their addresses, which [`crate::PortRules`] hold them to, and
//! have chains of their own in place of the network's rules.
//!
//! In all chains: answers to what a rule has allowed, then rules that drop, that reject, that allow, then the default.
//! Packets of a connection's own direction are held to the rules one by one, so a change reaches connections that are
//! open; the way back is open while the connection carries the mark that an allowing rule has put on it.

use std::net::IpAddr;

use basalt_model::network::acl::{Action, Direction, Protocol, Subject, Terms};
use ipnet::IpNet;

use crate::{
    BridgeSpec, HwAddr, IfName,
    table::{chain, hooked},
};

/// The bit of a connection's mark that says that answers may pass. Others are left as they are.
const ALLOWED: &str = "0x04000000";
/// Of each rule that logs: a flood of packets shall not be one of lines.
const LOGGED: &str = "limit rate 10/second burst 50 packets";

/// What may cross.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// In any order.
    pub rules: Vec<GuardRule>,
    /// What becomes of what no rule is about, on the way to guests, and from them.
    pub ingress: Verdict,
    pub egress: Verdict,
}

/// An interface that has its own lists, beside those of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicGuard {
    /// The host's end.
    pub port: IfName,
    pub mac: HwAddr,
    pub addresses: Vec<IpAddr>,
    pub guard: Guard,
}

/// What becomes of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub action: Action,
    /// What lines in the log begin with, where there are to be any: up to 100 plain characters.
    pub logged: Option<String>,
}

/// One rule. Subjects that are not addresses match nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRule {
    pub direction: Direction,
    pub verdict: Verdict,
    pub terms: Terms,
}

/// The chains that see to it; none when nothing is guarded.
pub(crate) fn chains(spec: &BridgeSpec) -> Vec<String> {
    let (bridge, nics) = (&spec.name, &spec.nic_guards);
    if spec.guard.is_none() && nics.is_empty() {
        return Vec::new();
    }
    let mut chains: Vec<String> = nics.iter().flat_map(of_nic).collect();
    let mut ingress: Vec<String> = nics.iter().flat_map(to_nic).collect();
    let mut egress: Vec<String> = nics.iter().map(from_nic).collect();
    if let Some(guard) = &spec.guard {
        ingress.extend(rules(guard, Direction::Ingress, &guard.ingress));
        egress.extend(rules(guard, Direction::Egress, &guard.egress));
    }
    chains.extend([chain("acl_ingress", &ingress), chain("acl_egress", &egress)]);
    let input = [
        format!("iifname != \"{bridge}\" accept"),
        "udp dport { 53, 67, 547 } accept".into(),
        "tcp dport 53 accept".into(),
        // Router and neighbour discovery, and who listens to which group (RFC 4890, 4.4).
        "icmpv6 type { 130, 131, 132, 133, 135, 136, 143 } accept".into(),
        "jump acl_egress".into(),
    ];
    let output = [
        format!("oifname != \"{bridge}\" accept"),
        "udp sport { 53, 67, 547 } accept".into(),
        "tcp sport 53 accept".into(),
        "icmpv6 type { 130, 134, 135, 136, 143 } accept".into(),
        "jump acl_ingress".into(),
    ];
    let forward = [
        // br_netfilter shows here what goes between two ports of the bridge.
        format!("iifname \"{bridge}\" oifname \"{bridge}\" accept"),
        format!("iifname \"{bridge}\" jump acl_egress"),
        format!("oifname \"{bridge}\" jump acl_ingress"),
    ];
    chains.extend(hooked("acl_input", "filter hook input priority filter", &input));
    chains.extend(hooked("acl_output", "filter hook output priority filter", &output));
    chains.extend(hooked("acl_forward", "filter hook forward priority filter", &forward));
    chains
}

fn of_nic(nic: &NicGuard) -> [String; 2] {
    let (port, guard) = (&nic.port, &nic.guard);
    [
        chain(&format!("acl_ingress_{port}"), &rules(guard, Direction::Ingress, &guard.ingress)),
        chain(&format!("acl_egress_{port}"), &rules(guard, Direction::Egress, &guard.egress)),
    ]
}

fn to_nic(nic: &NicGuard) -> Vec<String> {
    let of = |family: &str, v4: bool| {
        let all: Vec<String> = nic.addresses.iter().filter(|ip| ip.is_ipv4() == v4).map(ToString::to_string).collect();
        (!all.is_empty()).then(|| format!("{family} daddr {{ {} }} goto acl_ingress_{}", all.join(", "), nic.port))
    };
    of("ip", true).into_iter().chain(of("ip6", false)).collect()
}

fn from_nic(nic: &NicGuard) -> String {
    format!("ether saddr {} goto acl_egress_{}", nic.mac, nic.port)
}

fn rules(guard: &Guard, direction: Direction, rest: &Verdict) -> Vec<String> {
    let mut lines = vec![
        format!("ct state related ct mark and {ALLOWED} != 0 accept"),
        format!("ct state established ct direction reply ct mark and {ALLOWED} != 0 accept"),
    ];
    let mut ours: Vec<&GuardRule> = guard.rules.iter().filter(|rule| rule.direction == direction).collect();
    ours.sort_by_key(|rule| match rule.verdict.action {
        Action::Drop => 0,
        Action::Reject => 1,
        Action::Allow | Action::AllowStateless => 2,
    });
    for rule in ours {
        for which in matches(&rule.terms) {
            lines.extend(verdict(&which, &rule.verdict));
        }
    }
    lines.extend(verdict("", rest));
    lines
}

/// Statements after a match, which is empty or ends in a blank.
fn verdict(which: &str, verdict: &Verdict) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(prefix) = &verdict.logged {
        let plain: String = prefix.chars().filter(|c| c.is_ascii_graphic() && *c != '"').take(100).collect();
        lines.push(format!("{which}{LOGGED} log prefix \"{plain}: \" level info"));
    }
    match verdict.action {
        Action::Allow => lines.push(format!("{which}ct mark set ct mark or {ALLOWED} accept")),
        Action::AllowStateless => lines.push(format!("{which}accept")),
        Action::Drop => lines.push(format!("{which}drop")),
        Action::Reject => {
            // What a closed port of the target itself would say.
            lines.push(format!("{which}meta l4proto tcp reject with tcp reset"));
            lines.push(format!("{which}reject"));
        }
    }
    lines
}

/// What a rule is about, in nft's words: one text for each family that it can be about, or one for both.
fn matches(terms: &Terms) -> Vec<String> {
    let protocol = protocol(&terms.protocol);
    let (v4, v6) = match terms.protocol {
        Protocol::Icmp4(..) => (true, false),
        Protocol::Icmp6(..) => (false, true),
        Protocol::Any | Protocol::Tcp(..) | Protocol::Udp(..) => (true, true),
    };
    if terms.sources.is_empty() && terms.destinations.is_empty() {
        return vec![protocol];
    }
    let families = [("ip", true, v4), ("ip6", false, v6)].into_iter().filter(|(.., spoken)| *spoken);
    let family = |(word, v4, _): (&str, bool, bool)| {
        let mut text = String::new();
        for (side, subjects) in [("saddr", &terms.sources), ("daddr", &terms.destinations)] {
            if subjects.is_empty() {
                continue;
            }
            let ranges = merged(subjects.iter().filter_map(range).filter(|(first, _)| first.is_ipv4() == v4));
            if ranges.is_empty() {
                return None;
            }
            text.push_str(&format!("{word} {side} {{ {} }} ", ranges.join(", ")));
        }
        Some(text + &protocol)
    };
    families.filter_map(family).collect()
}

fn protocol(protocol: &Protocol) -> String {
    let icmp = |family: &str, number: &str, word: &str, kind: Option<u8>, code: Option<u8>| match (kind, code) {
        (None, _) => format!("meta nfproto {family} meta l4proto {number} "),
        (Some(kind), None) => format!("{word} type {kind} "),
        (Some(kind), Some(code)) => format!("{word} type {kind} {word} code {code} "),
    };
    let ports = |word: &str, from: &[(u16, u16)], to: &[(u16, u16)]| {
        let side = |side: &str, ports: &[(u16, u16)]| match joined(ports.to_vec(), |port| port.checked_add(1)) {
            none if none.is_empty() => String::new(),
            all => format!("{word} {side} {{ {} }} ", all.join(", ")),
        };
        match side("sport", from) + &side("dport", to) {
            none if none.is_empty() => format!("meta l4proto {word} "),
            both => both,
        }
    };
    match protocol {
        Protocol::Any => String::new(),
        Protocol::Icmp4(kind, code) => icmp("ipv4", "icmp", "icmp", *kind, *code),
        Protocol::Icmp6(kind, code) => icmp("ipv6", "ipv6-icmp", "icmpv6", *kind, *code),
        Protocol::Tcp(from, to) => ports("tcp", from, to),
        Protocol::Udp(from, to) => ports("udp", from, to),
    }
}

fn range(subject: &Subject) -> Option<(IpAddr, IpAddr)> {
    match subject {
        Subject::Net(IpNet::V4(net)) => Some((net.network().into(), net.broadcast().into())),
        Subject::Net(IpNet::V6(net)) => Some((net.network().into(), net.broadcast().into())),
        Subject::Range(first, last) => Some((*first, *last)),
        Subject::Set(_) | Subject::Acl(_) | Subject::Internal | Subject::External | Subject::Peer(..) => None,
    }
}

fn merged(ranges: impl Iterator<Item = (IpAddr, IpAddr)>) -> Vec<String> {
    joined(ranges.collect(), |ip| match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|next| IpAddr::V6(next.into())),
    })
}

/// Ranges of one kind as nft takes them: apart from each other.
fn joined<T: Ord + Copy + ToString>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<String> {
    ranges.sort_unstable();
    let mut apart: Vec<(T, T)> = Vec::new();
    for (first, last) in ranges {
        match apart.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            Some(_) | None => apart.push((first, last)),
        }
    }
    let text = |(first, last): (T, T)| match first == last {
        true => first.to_string(),
        false => format!("{}-{}", first.to_string(), last.to_string()),
    };
    apart.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests;
