use super::*;

fn terms(sources: &[&str], destinations: &[&str], protocol: Protocol) -> Terms {
    let subject = |text: &&str| match text.split_once("..") {
        Some((first, last)) => Subject::Range(first.parse().unwrap(), last.parse().unwrap()),
        None => Subject::Net(text.parse().unwrap()),
    };
    Terms {
        sources: sources.iter().map(subject).collect(),
        destinations: destinations.iter().map(subject).collect(),
        protocol,
    }
}

fn plain(action: Action) -> Verdict {
    Verdict { action, logged: None }
}

#[test]
fn matches_are_of_one_family_each() {
    let of = |sources: &[&str], destinations: &[&str], protocol| matches(&terms(sources, destinations, protocol));
    assert_eq!(of(&[], &[], Protocol::Any), [""]);
    assert_eq!(of(&[], &[], Protocol::Tcp(vec![], vec![])), ["meta l4proto tcp "]);
    assert_eq!(of(&[], &[], Protocol::Icmp4(None, None)), ["meta nfproto ipv4 meta l4proto icmp "]);
    assert_eq!(of(&[], &[], Protocol::Icmp6(Some(128), Some(0))), ["icmpv6 type 128 icmpv6 code 0 "]);
    assert_eq!(
        of(
            &["10.0.0.0/8", "fd42::1/128"],
            &[],
            Protocol::Udp(vec![(53, 53)], vec![(1, 9), (5, 20), (21, 22), (80, 80)])
        ),
        [
            "ip saddr { 10.0.0.0-10.255.255.255 } udp sport { 53 } udp dport { 1-22, 80 } ",
            "ip6 saddr { fd42::1 } udp sport { 53 } udp dport { 1-22, 80 } ",
        ]
    );
    assert_eq!(
        of(&["10.0.0.0/8", "fd42::/64"], &["10.1.0.5..10.1.0.9", "10.1.0.8/32", "10.1.0.12/32"], Protocol::Any),
        ["ip saddr { 10.0.0.0-10.255.255.255 } ip daddr { 10.1.0.5-10.1.0.9, 10.1.0.12 } "]
    );
    assert_eq!(of(&["0.0.0.0/0", "10.0.0.1/32"], &[], Protocol::Any), ["ip saddr { 0.0.0.0-255.255.255.255 } "]);
    assert_eq!(of(&["10.0.0.0/8"], &[], Protocol::Icmp6(None, None)), Vec::<String>::new());
    let lists = Terms { sources: vec![Subject::Internal], destinations: vec![], protocol: Protocol::Any };
    assert_eq!(matches(&lists), Vec::<String>::new(), "what is not an address matches nothing, not everything");
}

#[test]
fn what_forbids_comes_before_what_allows() {
    let rule = |action, port| GuardRule {
        direction: Direction::Ingress,
        verdict: plain(action),
        terms: terms(&[], &[], Protocol::Tcp(vec![], vec![(port, port)])),
    };
    let guard = Guard {
        rules: vec![
            rule(Action::Allow, 1),
            rule(Action::AllowStateless, 2),
            rule(Action::Reject, 3),
            rule(Action::Drop, 4),
            GuardRule { direction: Direction::Egress, ..rule(Action::Drop, 5) },
        ],
        ingress: Verdict { action: Action::Drop, logged: Some("web \"in\"\n".into()) },
        egress: plain(Action::Allow),
    };
    assert_eq!(
        rules(&guard, Direction::Ingress, &guard.ingress)[2..],
        [
            "tcp dport { 4 } drop",
            "tcp dport { 3 } meta l4proto tcp reject with tcp reset",
            "tcp dport { 3 } reject",
            "tcp dport { 1 } ct mark set ct mark or 0x04000000 accept",
            "tcp dport { 2 } accept",
            "limit rate 10/second burst 50 packets log prefix \"webin: \" level info",
            "drop",
        ]
    );
    assert_eq!(
        rules(&guard, Direction::Egress, &guard.egress)[2..],
        ["tcp dport { 5 } drop", "ct mark set ct mark or 0x04000000 accept"]
    );
}

#[test]
fn interfaces_with_lists_have_chains_of_their_own() {
    let spec = BridgeSpec::new(IfName::new("br0").unwrap());
    assert_eq!(chains(&spec), Vec::<String>::new());
    let guard = Guard { rules: Vec::new(), ingress: plain(Action::Drop), egress: plain(Action::Reject) };
    let nic = NicGuard {
        port: IfName::new("v0").unwrap(),
        mac: HwAddr([2, 0, 0, 0, 0, 1]),
        addresses: vec!["10.0.0.9".parse().unwrap(), "fd42::9".parse().unwrap()],
        guard,
    };
    let all = chains(&BridgeSpec { nic_guards: vec![nic], ..spec }).join("");
    let ingress = "\
\tchain acl_ingress {
\t\tip daddr { 10.0.0.9 } goto acl_ingress_v0
\t\tip6 daddr { fd42::9 } goto acl_ingress_v0
\t}
\tchain acl_egress {
\t\tether saddr 02:00:00:00:00:01 goto acl_egress_v0
\t}
";
    assert!(all.contains(ingress), "the rest of the network is free: {all}");
    assert!(
        all.find("chain acl_ingress_v0") < all.find("chain acl_ingress {"),
        "it must be known before it is gone to"
    );
}
