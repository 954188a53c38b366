//! Access control lists: rules about what may come to interfaces and what may leave them. Rules are kept as users wrote
//! them; [`terms`] says what they mean, or why they mean nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::device::InvalidDevice as InvalidKey;
use crate::network::address_set::AddressSet;
use crate::{AclKey, AclName, ClusterState, Generation, InProject, NetworkName, PeerName, ProjectName, SetName};

/// What becomes of a packet that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It passes, and so do the answers to it.
    Allow,
    /// It passes; answers are looked at by themselves.
    AllowStateless,
    Drop,
    /// It is dropped, and the sender is told.
    Reject,
}

/// Whether a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleState {
    #[default]
    Enabled,
    Disabled,
    /// It counts, and what it was about is logged.
    Logged,
}

macro_rules! words {
    ($kind:ident: $($variant:ident = $word:literal),+) => {
        impl $kind {
            /// The API's word for it.
            pub fn as_str(self) -> &'static str {
                match self { $($kind::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $kind {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($kind::$variant),)+
                    other => Err(format!("{other:?} is not one of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(Action: Allow = "allow", AllowStateless = "allow-stateless", Drop = "drop", Reject = "reject");
words!(RuleState: Enabled = "enabled", Disabled = "disabled", Logged = "logged");

/// Which way traffic goes, as the interface sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the interface.
    Ingress,
    /// From the interface.
    Egress,
}

/// A rule, as the user wrote it; an empty text stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub action: Action,
    pub state: RuleState,
    pub description: String,
    pub source: String,
    pub destination: String,
    pub protocol: String,
    pub source_port: String,
    pub destination_port: String,
    pub icmp_type: String,
    pub icmp_code: String,
}

/// One list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    pub name: AclName,
    /// Whose it is.
    #[serde(default = "ProjectName::default_project", skip_serializing_if = "ProjectName::is_default")]
    pub project: ProjectName,
    /// Given by apply and never again: what the list is called in northbound rows (`basalt_acl{number}`).
    pub number: u32,
    pub description: String,
    /// `user.*` only.
    pub config: BTreeMap<String, String>,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
    pub generation: Generation,
}

impl Acl {
    /// One of the default project that was not applied yet, without rules.
    pub fn new(name: AclName) -> Self {
        let (description, config) = (String::new(), BTreeMap::new());
        let (ingress, egress) = (Vec::new(), Vec::new());
        let project = ProjectName::default_project();
        Acl { name, project, number: 0, description, config, ingress, egress, generation: Generation(1) }
    }

    /// What it is found by.
    pub fn id(&self) -> AclKey {
        InProject { project: self.project.clone(), name: self.name.clone() }
    }

    /// Its rules with their directions; disabled ones too.
    pub fn rules(&self) -> impl Iterator<Item = (Direction, &Rule)> {
        let ingress = self.ingress.iter().map(|rule| (Direction::Ingress, rule));
        ingress.chain(self.egress.iter().map(|rule| (Direction::Egress, rule)))
    }

    /// Where a rule is about something else than addresses, which only logical networks can tell apart: the field, such as
    /// `ingress[0].source`.
    pub fn beyond_bridges(&self) -> Option<String> {
        let named = |s: &Subject| !matches!(s, Subject::Net(_) | Subject::Range(..) | Subject::Set(_));
        let lists = [("ingress", Direction::Ingress, &self.ingress), ("egress", Direction::Egress, &self.egress)];
        lists.into_iter().find_map(|(list, direction, rules)| {
            rules.iter().enumerate().find_map(|(at, rule)| {
                let terms = terms(rule, direction).ok()?;
                let sides = [("source", terms.sources), ("destination", terms.destinations)];
                let (side, _) = sides.into_iter().find(|(_, subjects)| subjects.iter().any(named))?;
                Some(format!("{list}[{at}].{side}"))
            })
        })
    }

    /// All that its rules are about.
    pub fn subjects(&self) -> Vec<Subject> {
        let terms = self.rules().filter_map(|(direction, rule)| terms(rule, direction).ok());
        terms.flat_map(|terms| terms.sources.into_iter().chain(terms.destinations)).collect()
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Net(IpNet),
    /// First and last address, of one family.
    Range(IpAddr, IpAddr),
    /// Addresses of a set.
    Set(SetName),
    /// Interfaces with this list.
    Acl(AclName),
    /// Everything on the network.
    Internal,
    /// Everything beyond the network's router.
    External,
    /// What is on the other side of a peering.
    Peer(NetworkName, PeerName),
}

/// What a rule is about beside who.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Any,
    /// Type and code; `None` for all.
    Icmp4(Option<u8>, Option<u8>),
    Icmp6(Option<u8>, Option<u8>),
    /// First and last port, of the source and of the destination; none for all.
    Tcp(Vec<(u16, u16)>, Vec<(u16, u16)>),
    Udp(Vec<(u16, u16)>, Vec<(u16, u16)>),
}

/// A rule, understood. An empty list stands for anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub sources: Vec<Subject>,
    pub destinations: Vec<Subject>,
    pub protocol: Protocol,
}

impl Terms {
    /// The same with what is in address sets of the project in their place; a set that is empty stays, and is about
    /// nobody.
    pub fn with_sets(self, state: &ClusterState, project: &ProjectName) -> Self {
        let one = |subject: Subject| {
            let Subject::Set(name) = &subject else { return vec![subject] };
            let id = InProject { project: project.clone(), name: name.clone() };
            let nets = state.address_sets.get(&id).map(AddressSet::nets).unwrap_or_default();
            if nets.is_empty() { vec![subject] } else { nets.into_iter().map(Subject::Net).collect() }
        };
        let all = |subjects: Vec<Subject>| subjects.into_iter().flat_map(one).collect();
        Terms { sources: all(self.sources), destinations: all(self.destinations), protocol: self.protocol }
    }
}

/// What a rule means.
///
/// # Errors
/// Names the field that is wrong, or that contradicts another.
pub fn terms(rule: &Rule, direction: Direction) -> Result<Terms, InvalidKey> {
    let protocol = protocol(rule)?;
    let near = "only addresses and address sets: lists and @ subjects are for the other end";
    let side = |field: &str, text: &str, far: bool| -> Result<Vec<Subject>, InvalidKey> {
        let all = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let all = all.map(|part| subject(part).map_err(|why| bad(field, why)));
        let all: Vec<Subject> = all.collect::<Result<_, _>>()?;
        match all.iter().any(|s| !far && !matches!(s, Subject::Net(_) | Subject::Range(..) | Subject::Set(_))) {
            true => Err(bad(field, near)),
            false => Ok(all),
        }
    };
    let sources = side("source", &rule.source, direction == Direction::Ingress)?;
    let destinations = side("destination", &rule.destination, direction == Direction::Egress)?;
    one_family(&sources, &destinations, &protocol)?;
    Ok(Terms { sources, destinations, protocol })
}

fn bad(field: &str, why: impl Into<String>) -> InvalidKey {
    InvalidKey { key: field.into(), why: why.into() }
}

fn subject(part: &str) -> Result<Subject, String> {
    if let Some(word) = part.strip_prefix('@') {
        return match (word, word.split_once('/')) {
            ("internal", _) => Ok(Subject::Internal),
            ("external", _) => Ok(Subject::External),
            (_, Some((network, peer))) => {
                let network = NetworkName::new(network).map_err(|e| e.to_string())?;
                PeerName::new(peer).map(|peer| Subject::Peer(network, peer)).map_err(|e| e.to_string())
            }
            _ => Err(format!("{part:?} is not @internal, @external or @network/peer")),
        };
    }
    if let Some(name) = part.strip_prefix('$') {
        return SetName::new(name).map(Subject::Set).map_err(|e| e.to_string());
    }
    if let Ok(net) = part.parse::<IpNet>() {
        return Ok(Subject::Net(net.trunc()));
    }
    if let Ok(ip) = part.parse::<IpAddr>() {
        return Ok(Subject::Net(ip.into()));
    }
    if let Some((Ok(first), Ok(last))) = part.split_once('-').map(|(a, b)| (a.trim().parse(), b.trim().parse())) {
        let (first, last): (IpAddr, IpAddr) = (first, last);
        return match first.is_ipv4() == last.is_ipv4() && first <= last {
            true => Ok(Subject::Range(first, last)),
            false => Err(format!("{part:?} is not a range of addresses")),
        };
    }
    AclName::new(part).map(Subject::Acl).map_err(|_| {
        format!("{part:?} is not an address, a network, a range, the name of a list, a $ set, or an @ subject")
    })
}

/// The family of an address; what is not an address has both.
fn family(subject: &Subject) -> Option<bool> {
    match subject {
        Subject::Net(net) => Some(net.addr().is_ipv4()),
        Subject::Range(first, _) => Some(first.is_ipv4()),
        Subject::Set(_) | Subject::Acl(_) | Subject::Internal | Subject::External | Subject::Peer(..) => None,
    }
}

/// A packet has one family: a rule whose two ends have none in common is about nothing.
fn one_family(sources: &[Subject], destinations: &[Subject], protocol: &Protocol) -> Result<(), InvalidKey> {
    let holds = |subjects: &[Subject], v4: bool| {
        subjects.is_empty() || subjects.iter().any(|s| family(s).is_none_or(|of| of == v4))
    };
    let spoken = |v4: bool| match protocol {
        Protocol::Icmp4(..) => v4,
        Protocol::Icmp6(..) => !v4,
        Protocol::Any | Protocol::Tcp(..) | Protocol::Udp(..) => true,
    };
    match [true, false].into_iter().any(|v4| spoken(v4) && holds(sources, v4) && holds(destinations, v4)) {
        true => Ok(()),
        false if sources.is_empty() || destinations.is_empty() => {
            let field = if sources.is_empty() { "destination" } else { "source" };
            Err(bad(field, "holds no address of the family of the protocol"))
        }
        false => Err(bad("destination", "has no address of the family of the source")),
    }
}

fn protocol(rule: &Rule) -> Result<Protocol, InvalidKey> {
    let ports = |field: &str, text: &str| match text {
        "" => Ok(Vec::new()),
        text => super::ports(text).map_err(|why| bad(field, why)),
    };
    let number = |field: &str, text: &str| match text {
        "" => Ok(None),
        text => text.parse::<u8>().map(Some).map_err(|_| bad(field, format!("{text:?} is not a number up to 255"))),
    };
    let (from, to) = (&rule.source_port, &rule.destination_port);
    let (kind, code) = (&rule.icmp_type, &rule.icmp_code);
    let none = |fields: [(&str, &String); 2], of: &str| match fields.iter().find(|(_, text)| !text.is_empty()) {
        Some((field, _)) => Err(bad(field, format!("is only for {of}"))),
        None => Ok(()),
    };
    let no_ports = || none([("source_port", from), ("destination_port", to)], "tcp and udp");
    let no_icmp = || none([("icmp_type", kind), ("icmp_code", code)], "icmp4 and icmp6");
    let icmp = || {
        no_ports()?;
        match (number("icmp_type", kind)?, number("icmp_code", code)?) {
            (None, Some(_)) => Err(bad("icmp_code", "needs icmp_type")),
            both => Ok(both),
        }
    };
    match rule.protocol.as_str() {
        "" => no_ports().and_then(|()| no_icmp()).map(|()| Protocol::Any),
        "icmp4" => icmp().map(|(kind, code)| Protocol::Icmp4(kind, code)),
        "icmp6" => icmp().map(|(kind, code)| Protocol::Icmp6(kind, code)),
        "tcp" => {
            no_icmp()?;
            Ok(Protocol::Tcp(ports("source_port", from)?, ports("destination_port", to)?))
        }
        "udp" => {
            no_icmp()?;
            Ok(Protocol::Udp(ports("source_port", from)?, ports("destination_port", to)?))
        }
        other => Err(bad("protocol", format!("{other:?} is not one of icmp4, icmp6, tcp, udp"))),
    }
}

/// What becomes of traffic that no rule of an interface's lists is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Defaults {
    /// `None` when nothing is said: the network's own default, or [`Action::Reject`].
    pub ingress: Option<Action>,
    pub egress: Option<Action>,
    pub ingress_logged: Option<bool>,
    pub egress_logged: Option<bool>,
}

/// The keys of lists, the same for networks and interfaces.
pub const KEYS: [&str; 5] = [
    "security.acls",
    "security.acls.default.ingress.action",
    "security.acls.default.egress.action",
    "security.acls.default.ingress.logged",
    "security.acls.default.egress.logged",
];

/// Reads [`KEYS`] of a network or an interface.
///
/// # Errors
/// Names the key.
pub fn assigned(config: &BTreeMap<String, String>) -> Result<(Vec<AclName>, Defaults), InvalidKey> {
    let text = |key: &str| config.get(key).map(String::as_str).unwrap_or_default();
    let mut names = Vec::new();
    for name in text(KEYS[0]).split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let name = AclName::new(name).map_err(|e| bad(KEYS[0], e.to_string()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let action = |key: &str| match text(key) {
        "" => Ok(None),
        word => word.parse::<Action>().map(Some).map_err(|why| bad(key, why)),
    };
    let logged = |key: &str| match text(key) {
        "" => Ok(None),
        word if crate::config::is_true(word) => Ok(Some(true)),
        word if crate::config::is_false(word) => Ok(Some(false)),
        word => Err(bad(key, format!("{word:?} is neither true nor false"))),
    };
    let defaults = Defaults {
        ingress: action(KEYS[1])?,
        egress: action(KEYS[2])?,
        ingress_logged: logged(KEYS[3])?,
        egress_logged: logged(KEYS[4])?,
    };
    Ok((names, defaults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pairs: &[(&str, &str)]) -> Rule {
        let get = |key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v).to_owned();
        Rule {
            action: Action::Allow,
            state: RuleState::Enabled,
            description: String::new(),
            source: get("source"),
            destination: get("destination"),
            protocol: get("protocol"),
            source_port: get("source_port"),
            destination_port: get("destination_port"),
            icmp_type: get("icmp_type"),
            icmp_code: get("icmp_code"),
        }
    }

    #[test]
    fn rules_are_understood() {
        let pairs = [
            ("source", "10.0.0.0/8, fd42::1-fd42::9,web,@external,@net0/lab,$office"),
            ("destination", "$servers"),
            ("protocol", "tcp"),
            ("destination_port", "80,8000-8080"),
        ];
        let terms = terms(&rule(&pairs), Direction::Ingress).unwrap();
        assert_eq!(terms.sources.len(), 6);
        assert_eq!(terms.destinations, [Subject::Set(SetName::new("servers").unwrap())]);
        assert_eq!(terms.sources[2], Subject::Acl(AclName::new("web").unwrap()));
        assert_eq!(terms.protocol, Protocol::Tcp(vec![], vec![(80, 80), (8000, 8080)]));
    }

    #[test]
    fn bridges_know_addresses_only() {
        let acl = |pairs: &[(&str, &str)]| {
            Acl { egress: vec![rule(&[]), rule(pairs)], ..Acl::new(AclName::new("web").unwrap()) }.beyond_bridges()
        };
        assert_eq!(acl(&[("destination", "10.0.0.0/8,fd42::1-fd42::9,$office"), ("source", "10.0.0.1")]), None);
        for subject in ["@internal", "@external", "@net0/lab", "db"] {
            let found = acl(&[("destination", &format!("10.0.0.0/8,{subject}"))]);
            assert_eq!(found.as_deref(), Some("egress[1].destination"), "{subject}");
        }
    }

    #[test]
    fn what_cannot_be_expressed_names_its_field() {
        for (direction, pairs, field) in [
            (Direction::Ingress, &[("destination", "web")][..], "destination"),
            (Direction::Egress, &[("source", "@internal")], "source"),
            (Direction::Ingress, &[("source", "10.0.0.1"), ("destination", "fd42::1")], "destination"),
            (Direction::Ingress, &[("source", "10.0.0.1"), ("protocol", "icmp6")], "source"),
            (Direction::Ingress, &[("source", "10.0.0.9-10.0.0.1")], "source"),
            (Direction::Ingress, &[("source", "a b")], "source"),
            (Direction::Ingress, &[("source", "@nowhere")], "source"),
            (Direction::Ingress, &[("source", "$")], "source"),
            (Direction::Ingress, &[("destination_port", "80")], "destination_port"),
            (Direction::Ingress, &[("protocol", "udp"), ("destination_port", "0")], "destination_port"),
            (Direction::Ingress, &[("protocol", "udp"), ("source_port", "9-2")], "source_port"),
            (Direction::Ingress, &[("protocol", "udp"), ("icmp_type", "8")], "icmp_type"),
            (Direction::Ingress, &[("protocol", "icmp4"), ("icmp_code", "0")], "icmp_code"),
            (Direction::Ingress, &[("protocol", "icmp4"), ("icmp_type", "256")], "icmp_type"),
            (Direction::Ingress, &[("protocol", "sctp")], "protocol"),
        ] {
            assert_eq!(terms(&rule(pairs), direction).unwrap_err().key, field, "{pairs:?}");
        }
    }
}
