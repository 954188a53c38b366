//! Forwards of a bridge: what comes to an address of this host goes to guests.
//!
//! Rules hold only while the address is one of this host's, so the same can be loaded on every
//! host; they take effect where the address is, and move with it. A guest reaches its neighbours by
//! them; itself only where br_netfilter is off, for a bridge does not send back where it has heard.

use std::net::IpAddr;

use basalt_model::network::balance::Transport;

use crate::BridgeSpec;

/// Where something that is listened for goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    pub listen: IpAddr,
    /// First and last port; `None` for all that no other forward of the address is about.
    pub ports: Option<(Transport, u16, u16)>,
    /// Of the same family.
    pub target: IpAddr,
    /// The port of the target; `None` for the same.
    pub port: Option<u16>,
}

/// What rewrites destinations; for packets that come in, and for those of the host itself.
pub(crate) fn rules(spec: &BridgeSpec) -> Vec<String> {
    let (certain, rest): (Vec<&Forward>, Vec<&Forward>) = spec.forwards.iter().partition(|f| f.ports.is_some());
    certain.into_iter().chain(rest).map(rule).collect()
}

fn rule(forward: &Forward) -> String {
    let family = if forward.listen.is_ipv4() { "ip" } else { "ip6" };
    let ports = match forward.ports {
        None => String::new(),
        Some((transport, first, last)) if first == last => format!("{} dport {first} ", transport.as_str()),
        Some((transport, first, last)) => format!("{} dport {first}-{last} ", transport.as_str()),
    };
    let target = match (forward.target, forward.port) {
        (target, None) => target.to_string(),
        (IpAddr::V4(ip), Some(port)) => format!("{ip}:{port}"),
        (IpAddr::V6(ip), Some(port)) => format!("[{ip}]:{port}"),
    };
    format!("{family} daddr {} fib daddr type local {ports}dnat {family} to {target}", forward.listen)
}

/// A guest that is sent to its neighbour must hear the answer from where it asked.
pub(crate) fn hairpin(spec: &BridgeSpec) -> Vec<String> {
    let any = |v4: bool| spec.forwards.iter().any(|f| f.listen.is_ipv4() == v4);
    let rule = |family: &str, net: String| {
        format!("ct status dnat {family} saddr {net} {family} daddr {net} oifname \"{}\" masquerade", spec.name)
    };
    let ipv4 = spec.ipv4.filter(|_| any(true)).map(|net| rule("ip", net.trunc().to_string()));
    let ipv6 = spec.ipv6.filter(|_| any(false)).map(|net| rule("ip6", net.trunc().to_string()));
    ipv4.into_iter().chain(ipv6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfName;

    #[test]
    fn certain_ports_come_first() {
        let forward = |listen: &str, ports, target: &str, port| Forward {
            listen: listen.parse().unwrap(),
            ports,
            target: target.parse().unwrap(),
            port,
        };
        let spec = BridgeSpec {
            ipv4: Some("10.1.2.1/24".parse().unwrap()),
            ipv6: Some("fd42::1/64".parse().unwrap()),
            forwards: vec![
                forward("192.0.2.1", None, "10.1.2.9", None),
                forward("192.0.2.1", Some((Transport::Tcp, 80, 80)), "10.1.2.3", Some(8080)),
                forward("192.0.2.1", Some((Transport::Udp, 90, 99)), "10.1.2.3", None),
                forward("2001:db8::1", Some((Transport::Tcp, 80, 81)), "fd42::3", Some(80)),
            ],
            ..BridgeSpec::new(IfName::new("br0").unwrap())
        };
        assert_eq!(
            rules(&spec),
            [
                "ip daddr 192.0.2.1 fib daddr type local tcp dport 80 dnat ip to 10.1.2.3:8080",
                "ip daddr 192.0.2.1 fib daddr type local udp dport 90-99 dnat ip to 10.1.2.3",
                "ip6 daddr 2001:db8::1 fib daddr type local tcp dport 80-81 dnat ip6 to [fd42::3]:80",
                "ip daddr 192.0.2.1 fib daddr type local dnat ip to 10.1.2.9",
            ]
        );
        assert_eq!(hairpin(&spec).len(), 2);
        assert_eq!(hairpin(&BridgeSpec { forwards: Vec::new(), ..spec }), Vec::<String>::new());
    }
}
