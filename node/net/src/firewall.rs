//! One nftables table per bridge, replaced as a whole in one transaction.
//!
//! nft prints rules in its own words, so they are not compared with our text: kept are the text
//! that we loaded and the listing that it gave. While both still hold, nothing is touched.
//! The text is kept before it is loaded, the listing after: a kill in between loads it again.

use std::fmt::Write;

use basalt_runtime::{CommandRunner, ExecError, Invocation};

use crate::{BridgeSpec, Error, IfName, error::command, state::State};

const TEXT: &str = "firewall.nft";
const LISTED: &str = "firewall.listed";

pub(crate) async fn ensure(runner: &dyn CommandRunner, state: &State, spec: &BridgeSpec) -> Result<(), Error> {
    let bridge = &spec.name;
    let Some(text) = ruleset(spec) else {
        return match state.read(TEXT)? {
            Some(_) => remove(runner, state, bridge).await,
            None => Ok(()),
        };
    };
    let listed = list(runner, bridge).await?;
    if listed.is_some() && state.read(TEXT)?.as_deref() == Some(text.as_str()) && state.read(LISTED)? == listed {
        return Ok(());
    }
    state.forget(LISTED)?;
    state.write(TEXT, &text)?;
    load(runner, bridge, &text, "load firewall rules").await?;
    if let Some(listed) = list(runner, bridge).await? {
        state.write(LISTED, &listed)?;
    }
    Ok(())
}

/// Removes the table, whether it is there or not.
pub(crate) async fn remove(runner: &dyn CommandRunner, state: &State, bridge: &IfName) -> Result<(), Error> {
    match load(runner, bridge, &absent(bridge), "remove firewall rules").await {
        // Without the program no table of ours was ever loaded.
        Err(Error::MissingProgram { .. }) if state.read(TEXT)?.is_none() => {}
        other => other?,
    }
    state.forget(LISTED)?;
    state.forget(TEXT)
}

async fn load(runner: &dyn CommandRunner, bridge: &IfName, text: &str, step: &'static str) -> Result<(), Error> {
    let nft = Invocation::new("nft").args(["-f", "-"]).stdin(text);
    runner.run(nft).await.map(drop).map_err(|source| command(bridge, step, source))
}

/// The table as nft shows it, without counters; `None` when there is none.
async fn list(runner: &dyn CommandRunner, bridge: &IfName) -> Result<Option<String>, Error> {
    let nft = Invocation::new("nft").args(["-s", "list", "table", "inet", &table(bridge)]);
    match runner.run(nft).await {
        Ok(done) => Ok(Some(done.text())),
        Err(error @ ExecError::Failed { .. }) if error.stderr().contains("No such file or directory") => Ok(None),
        Err(error) => Err(command(bridge, "list firewall rules", error)),
    }
}

fn table(bridge: &IfName) -> String {
    format!("basalt_{bridge}")
}

/// Deleting alone fails when there is nothing to delete; naming the table first makes it.
fn absent(bridge: &IfName) -> String {
    let table = table(bridge);
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// The whole table; `None` when the bridge needs none.
pub(crate) fn ruleset(spec: &BridgeSpec) -> Option<String> {
    let chains = [
        chain("nat", "nat hook postrouting priority srcnat", nat(spec)),
        chain("input", "filter hook input priority filter", input(spec)),
        chain("forward", "filter hook forward priority filter", forward(spec)),
    ];
    let chains: Vec<String> = chains.into_iter().flatten().collect();
    if chains.is_empty() {
        return None;
    }
    let table = table(&spec.name);
    Some(format!("{}table inet {table} {{\n{}}}\n", absent(&spec.name), chains.join("\n")))
}

fn chain(name: &str, hook: &str, rules: Vec<String>) -> Option<String> {
    if rules.is_empty() {
        return None;
    }
    let mut text = format!("\tchain {name} {{\n\t\ttype {hook}; policy accept;\n");
    for rule in rules {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
    Some(text)
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

fn forward(spec: &BridgeSpec) -> Vec<String> {
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
