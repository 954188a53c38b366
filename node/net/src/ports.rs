//! What the interfaces of guests on bridges are held to: rates, sources, isolation.
//!
//! One table of the bridge family for all of them. Rules match the name of the host's end, so they
//! hold from a guest's first packet on, also when it reboots while no agent runs. What is above a
//! rate is dropped, both ways: queues would belong to an interface, and go with it.
//!
//! ```text
//! guest -> prerouting:  from_NAME: sources, priority, rate     to_NAME: rate  :postrouting -> guest
//!          forward:     isolated interfaces do not hear each other
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use basalt_model::device::Rates;
use basalt_runtime::CommandRunner;

use crate::{
    Error, HwAddr, IfName,
    state::State,
    table::{Table, chain, hooked},
};

const NAME: &str = "basalt_ports";
/// Two of the largest packets that a guest hands over. The kernel adds what comes in a second: so
/// much may pass at once after a pause.
const BURST: u64 = 128 << 10;

/// What one interface of a guest is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRules {
    /// The host's end.
    pub name: IfName,
    /// As the guest sees it: ingress is what it receives.
    pub rates: Rates,
    /// What it may send from; `None` for anything.
    pub source: Option<Source>,
    /// Whether it is kept from others of which this is said.
    pub isolated: bool,
}

/// What a guest may send from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `None` when there is none yet: then nothing may be sent.
    pub mac: Option<HwAddr>,
    /// `None` for any.
    pub ipv4: Option<Vec<Ipv4Addr>>,
    /// Beside link-local ones; `None` for any.
    pub ipv6: Option<Vec<Ipv6Addr>>,
}

pub(crate) async fn ensure(runner: &dyn CommandRunner, state: &State, ports: &[PortRules]) -> Result<(), Error> {
    let of = IfName::new(NAME).expect("it is as short and plain as the name of an interface");
    state.create()?;
    let table = Table { family: "bridge", name: of.to_string(), state, of: &of };
    table.ensure(runner, &chains(ports)).await
}

fn chains(ports: &[PortRules]) -> Vec<String> {
    let mut chains = Vec::new();
    let (mut entries, mut exits) = (Vec::new(), Vec::new());
    for port in ports {
        let name = &port.name;
        let (from, to) = (from(port), to(port));
        if let Some(advertised) = advertised(port) {
            chains.push(chain(&format!("nd_{name}"), &advertised));
        }
        if !from.is_empty() {
            chains.push(chain(&format!("from_{name}"), &from));
            entries.push(format!("\"{name}\" : jump from_{name}"));
        }
        if !to.is_empty() {
            chains.push(chain(&format!("to_{name}"), &to));
            exits.push(format!("\"{name}\" : jump to_{name}"));
        }
    }
    let map = |key: &str, jumps: &[String]| match jumps {
        [] => Vec::new(),
        jumps => vec![format!("{key} vmap {{ {} }}", jumps.join(", "))],
    };
    let isolated: Vec<String> = ports.iter().filter(|p| p.isolated).map(|p| format!("\"{}\"", p.name)).collect();
    let apart = match isolated.join(", ") {
        none if none.is_empty() => Vec::new(),
        all => vec![format!("iifname {{ {all} }} oifname {{ {all} }} drop")],
    };
    // Before br_netfilter, which lets the host's own rules look at what crosses a bridge.
    chains.extend(hooked("prerouting", "filter hook prerouting priority -300", &map("iifname", &entries)));
    chains.extend(hooked("forward", "filter hook forward priority -200", &apart));
    chains.extend(hooked("postrouting", "filter hook postrouting priority 300", &map("oifname", &exits)));
    chains
}

fn from(port: &PortRules) -> Vec<String> {
    let mut rules = port.source.as_ref().map(|source| sources(&port.name, source)).unwrap_or_default();
    if let Some(priority) = port.rates.priority {
        rules.push(format!("meta priority set {:04x}:{:04x}", priority >> 16, priority & 0xffff));
    }
    rules.extend(port.rates.egress.map(above));
    rules
}

fn to(port: &PortRules) -> Vec<String> {
    port.rates.ingress.map(above).into_iter().collect()
}

/// What is above `rate` bits a second.
fn above(rate: u64) -> String {
    let bytes = (rate / 8).max(1);
    format!("limit rate over {bytes} bytes/second burst {BURST} bytes drop")
}

fn sources(name: &IfName, source: &Source) -> Vec<String> {
    let Some(mac) = source.mac else { return vec!["drop".to_owned()] };
    let digits = mac.to_string().replace(':', "");
    let mut rules = vec![
        format!("ether saddr != {mac} drop"),
        format!("arp saddr ether != {mac} drop"),
        // The link-layer address that it says is its own (RFC 4861, 4.4).
        format!("icmpv6 type nd-neighbor-advert @nh,528,48 != 0x{digits} drop"),
    ];
    if source.ipv4.is_some() || source.ipv6.is_some() {
        // Nothing may hide behind a tag.
        rules.push("ether type { 8021q, 8021ad } drop".to_owned());
    }
    if let Some(own) = &source.ipv4 {
        let all = joined(own.iter().chain([&Ipv4Addr::UNSPECIFIED]));
        rules.push(format!("arp saddr ip != {{ {all} }} drop"));
        rules.push(format!("ip saddr != {{ {all} }} drop"));
        // Who has no address yet may ask for one.
        rules.push("ip saddr 0.0.0.0 udp dport != 67 drop".to_owned());
        rules.push("ip saddr 0.0.0.0 ip protocol != udp drop".to_owned());
    }
    if let Some(own) = &source.ipv6 {
        rules.push("icmpv6 type nd-router-advert drop".to_owned());
        let all = joined(own);
        let comma = if own.is_empty() { "" } else { ", " };
        rules.push(format!("ip6 saddr != {{ ::, fe80::/10{comma}{all} }} drop"));
        rules.push(format!("icmpv6 type nd-neighbor-advert jump nd_{name}"));
    }
    rules
}

/// The addresses that it may say it has; nft 1.0 has no word for them.
fn advertised(port: &PortRules) -> Option<Vec<String>> {
    let source = port.source.as_ref().filter(|source| source.mac.is_some())?;
    let own = source.ipv6.as_ref()?;
    let mut rules = vec!["@nh,384,16 and 0xffc0 == 0xfe80 return".to_owned()];
    rules.extend(own.iter().map(|ip| format!("@nh,384,128 0x{:032x} return", u128::from(*ip))));
    rules.push("drop".to_owned());
    Some(rules)
}

fn joined<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> PortRules {
        PortRules { name: IfName::new(name).unwrap(), rates: Rates::default(), source: None, isolated: false }
    }

    #[test]
    fn nothing_wanted_is_no_chain() {
        assert_eq!(chains(&[]), Vec::<String>::new());
        assert_eq!(chains(&[port("v0")]), Vec::<String>::new());
    }

    #[test]
    fn rates_of_both_ways() {
        let rates = Rates { ingress: Some(10_000_000), egress: Some(80_000_000_000), priority: Some(0x0001_0007) };
        let all = chains(&[PortRules { rates, ..port("v0") }]).join("");
        let expected = "\
\tchain from_v0 {
\t\tmeta priority set 0001:0007
\t\tlimit rate over 10000000000 bytes/second burst 131072 bytes drop
\t}
\tchain to_v0 {
\t\tlimit rate over 1250000 bytes/second burst 131072 bytes drop
\t}
\tchain prerouting {
\t\ttype filter hook prerouting priority -300; policy accept;
\t\tiifname vmap { \"v0\" : jump from_v0 }
\t}
\tchain postrouting {
\t\ttype filter hook postrouting priority 300; policy accept;
\t\toifname vmap { \"v0\" : jump to_v0 }
\t}
";
        assert_eq!(all, expected);
    }

    #[test]
    fn sources_and_isolation() {
        let source = Source {
            mac: Some(HwAddr([0, 0x16, 0x3e, 1, 2, 3])),
            ipv4: Some(vec!["10.0.0.9".parse().unwrap()]),
            ipv6: Some(vec!["fd42::9".parse().unwrap()]),
        };
        let ports = [PortRules { source: Some(source), isolated: true, ..port("v0") }, port("v1")];
        let all = chains(&ports).join("");
        for rule in [
            "ether saddr != 00:16:3e:01:02:03 drop",
            "icmpv6 type nd-neighbor-advert @nh,528,48 != 0x00163e010203 drop",
            "ip saddr != { 10.0.0.9, 0.0.0.0 } drop",
            "ip6 saddr != { ::, fe80::/10, fd42::9 } drop",
            "@nh,384,128 0xfd420000000000000000000000000009 return",
            "iifname { \"v0\" } oifname { \"v0\" } drop",
        ] {
            assert!(all.contains(&format!("\t\t{rule}\n")), "{rule} in\n{all}");
        }
        assert!(!all.contains("v1"), "{all}");
    }

    #[test]
    fn without_an_address_nothing_is_sent() {
        let source = Source { mac: None, ipv4: None, ipv6: Some(Vec::new()) };
        let all = chains(&[PortRules { source: Some(source), ..port("v0") }]).join("");
        assert!(all.contains("\tchain from_v0 {\n\t\tdrop\n\t}\n") && !all.contains("nd_v0"), "{all}");
    }
}
