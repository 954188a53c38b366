//! The rules of a bridge: one table each.

use basalt_runtime::CommandRunner;

use crate::{
    BridgeSpec, Error, IfName, forward, guard,
    state::State,
    table::{Table, hooked},
};

pub(crate) async fn ensure(runner: &dyn CommandRunner, state: &State, spec: &BridgeSpec) -> Result<(), Error> {
    table(state, &spec.name).ensure(runner, &chains(spec)).await
}

/// Removes the table, whether it is there or not.
pub(crate) async fn remove(runner: &dyn CommandRunner, state: &State, bridge: &IfName) -> Result<(), Error> {
    table(state, bridge).remove(runner).await
}

fn table<'a>(state: &'a State, bridge: &'a IfName) -> Table<'a> {
    Table { family: "inet", name: format!("basalt_{bridge}"), state, of: bridge }
}

/// All chains; none when the bridge needs none.
fn chains(spec: &BridgeSpec) -> Vec<String> {
    let forwards = forward::rules(spec);
    let nat = [forward::hairpin(spec), nat(spec)].concat();
    let chains = [
        hooked("inward", "nat hook prerouting priority dstnat", &forwards),
        hooked("inward_own", "nat hook output priority -100", &forwards),
        hooked("nat", "nat hook postrouting priority srcnat", &nat),
        hooked("input", "filter hook input priority filter", &input(spec)),
        hooked("forward", "filter hook forward priority filter", &routed(spec)),
    ];
    chains.into_iter().flatten().chain(guard::chains(spec)).collect()
}

fn nat(spec: &BridgeSpec) -> Vec<String> {
    let bridge = &spec.name;
    let ipv4 = spec.ipv4.filter(|_| spec.ipv4_nat).map(|net| {
        let net = net.trunc();
        format!("ip saddr {net} ip daddr != {net} oifname != \"{bridge}\" masquerade")
    });
    let ipv6 = spec.ipv6.filter(|_| spec.ipv6_nat).map(|net| {
        let net = net.trunc();
        format!("ip6 saddr {net} ip6 daddr != {net} oifname != \"{bridge}\" masquerade")
    });
    ipv4.into_iter().chain(ipv6).collect()
}

fn input(spec: &BridgeSpec) -> Vec<String> {
    let from = format!("iifname \"{}\"", spec.name);
    let mut rules = Vec::new();
    if spec.ipv4.is_some() && spec.ipv4_firewall {
        rules.push(format!("{from} meta nfproto ipv4 udp dport {{ 53, 67 }} accept"));
        rules.push(format!("{from} meta nfproto ipv4 tcp dport 53 accept"));
    }
    if spec.ipv6.is_some() && spec.ipv6_firewall {
        rules.push(format!("{from} meta nfproto ipv6 udp dport {{ 53, 547 }} accept"));
        rules.push(format!("{from} meta nfproto ipv6 tcp dport 53 accept"));
        rules.push(format!("{from} meta l4proto ipv6-icmp accept"));
    }
    rules
}

fn routed(spec: &BridgeSpec) -> Vec<String> {
    let families = [
        ("ipv4", spec.ipv4.is_some(), spec.ipv4_routing, spec.ipv4_firewall),
        ("ipv6", spec.ipv6.is_some(), spec.ipv6_routing, spec.ipv6_firewall),
    ];
    let mut rules = Vec::new();
    for (family, present, routing, firewall) in families {
        let bridge = &spec.name;
        let rule = |side: &str, other: &str| match (present, routing, firewall) {
            (false, _, _) | (true, true, false) => None,
            (true, true, true) => Some(format!("{side} \"{bridge}\" meta nfproto {family} accept")),
            // The host may forward for other reasons: not routing has to be said. Between two
            // ports of the bridge nothing is routed, though br_netfilter shows it here.
            (true, false, _) => {
                Some(format!("{side} \"{bridge}\" {other} != \"{bridge}\" meta nfproto {family} reject"))
            }
        };
        rules.extend(rule("iifname", "oifname"));
        rules.extend(rule("oifname", "iifname"));
    }
    rules
}

#[cfg(test)]
mod tests;
