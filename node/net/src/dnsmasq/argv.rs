//! The argument list, the hosts file and the mark in the environment: pure functions.

use std::{fmt::Write, net::Ipv4Addr, path::PathBuf};

use ipnet::Ipv4Net;

use crate::BridgeSpec;

pub(super) const PROGRAM: &str = "dnsmasq";
/// The variable that holds what a daemon was started for and its arguments do not tell.
pub(super) const TAG: &str = "BASALT_BRIDGE";

pub(super) struct Files {
    pub(super) pid: PathBuf,
    pub(super) leases: PathBuf,
    pub(super) hosts: PathBuf,
}

/// The argument by which a daemon of ours is known.
pub(super) fn pid_file(path: &std::path::Path) -> String {
    format!("--pid-file={}", path.display())
}

/// The daemon is bound to this very interface and to these addresses.
pub(super) fn tag(spec: &BridgeSpec, index: u32) -> String {
    let mut tag = format!("{} {index}", spec.name);
    // Writing to a string cannot fail.
    if let Some(net) = spec.ipv4 {
        let _ = write!(tag, " {net}");
    }
    if let Some(net) = spec.ipv6 {
        let _ = write!(tag, " {net}");
    }
    tag
}

pub(super) fn args(spec: &BridgeSpec, files: &Files, user: &str) -> Vec<String> {
    let bridge = &spec.name;
    let mut args = vec![
        // Nothing from the host's own configuration.
        "--conf-file=".to_owned(),
        pid_file(&files.pid),
        format!("--user={user}"),
        "--bind-interfaces".to_owned(),
        "--except-interface=lo".to_owned(),
        format!("--interface={bridge}"),
        "--strict-order".to_owned(),
        // Names without dots, and reverse names of private networks, are nobody else's business.
        "--domain-needed".to_owned(),
        "--bogus-priv".to_owned(),
        "--no-hosts".to_owned(),
    ];
    if let Some(domain) = &spec.dns_domain {
        args.push(format!("--domain={domain}"));
        args.push(format!("--local=/{domain}/"));
        args.push(format!("--interface-name=_gateway.{domain},{bridge}"));
    }
    let before = args.len();
    args.extend(dhcp4(spec));
    args.extend(dhcp6(spec));
    if args.len() > before {
        args.extend([
            format!("--dhcp-leasefile={}", files.leases.display()),
            format!("--dhcp-hostsfile={}", files.hosts.display()),
            "--dhcp-authoritative".to_owned(),
            "--dhcp-no-override".to_owned(),
            "--dhcp-rapid-commit".to_owned(),
            "--no-ping".to_owned(),
            "--quiet-dhcp".to_owned(),
            "--quiet-dhcp6".to_owned(),
            "--quiet-ra".to_owned(),
        ]);
    }
    args
}

fn dhcp4(spec: &BridgeSpec) -> Vec<String> {
    let Some(net) = spec.ipv4.filter(|_| spec.ipv4_dhcp) else { return Vec::new() };
    let (mask, expiry) = (net.netmask(), spec.ipv4_dhcp_expiry.as_secs());
    let whole = [everyone(net)];
    let ranges = if spec.ipv4_dhcp_ranges.is_empty() { &whole[..] } else { &spec.ipv4_dhcp_ranges[..] };
    let mut args: Vec<String> =
        ranges.iter().map(|(first, last)| format!("--dhcp-range={first},{last},{mask},{expiry}")).collect();
    match spec.ipv4_dhcp_gateway {
        Some(gateway) => args.push(format!("--dhcp-option=option:router,{gateway}")),
        // An option without a value is not sent.
        None if !spec.ipv4_routing => args.push("--dhcp-option=option:router".to_owned()),
        None => {}
    }
    if let Some(mtu) = spec.mtu {
        args.push(format!("--dhcp-option-force=option:mtu,{mtu}"));
    }
    args
}

/// The subnet's hosts; dnsmasq itself leaves out its own address.
fn everyone(net: Ipv4Net) -> (Ipv4Addr, Ipv4Addr) {
    let (network, broadcast) = (u32::from(net.network()), u32::from(net.broadcast()));
    (Ipv4Addr::from(network + 1), Ipv4Addr::from(broadcast - 1))
}

fn dhcp6(spec: &BridgeSpec) -> Vec<String> {
    let Some(net) = spec.ipv6.filter(|_| spec.ipv6_dhcp) else { return Vec::new() };
    let range = if spec.ipv6_dhcp_stateful {
        let (network, last) = (u128::from(net.network()), u128::from(net.broadcast()));
        let ends = (std::net::Ipv6Addr::from(network + 2), std::net::Ipv6Addr::from(last));
        let expiry = spec.ipv4_dhcp_expiry.as_secs();
        format!("--dhcp-range={},{},{},{expiry}", ends.0, ends.1, net.prefix_len())
    } else {
        format!("--dhcp-range=::,constructor:{},ra-stateless,ra-names", spec.name)
    };
    let mut args = vec!["--enable-ra".to_owned(), range];
    if let Some(mtu) = spec.mtu {
        args.push(format!("--ra-param={},mtu:{mtu},0", spec.name));
    }
    args
}

/// One line for each static lease, in a stable order.
pub(super) fn hosts(spec: &BridgeSpec) -> String {
    let mut leases: Vec<_> = spec.static_leases.iter().collect();
    leases.sort();
    let mut text = String::new();
    for lease in leases {
        let ipv4 = lease.ipv4.map(|ip| format!(",{ip}"));
        let ipv6 = lease.ipv6.map(|ip| format!(",[{ip}]"));
        let hostname = lease.hostname.as_ref().map(|name| format!(",{name}"));
        let parts: String = [ipv4, ipv6, hostname].into_iter().flatten().collect();
        if !parts.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}{parts}", lease.mac);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DnsName, HwAddr, IfName, StaticLease};

    fn spec() -> BridgeSpec {
        BridgeSpec {
            ipv4: Some("10.1.2.1/24".parse().unwrap()),
            dns_domain: Some(DnsName::new("lab").unwrap()),
            ..BridgeSpec::new(IfName::new("br0").unwrap())
        }
    }

    fn text(spec: &BridgeSpec) -> String {
        let file = |name: &str| PathBuf::from("/s").join(name);
        let files = Files { pid: file("pid"), leases: file("leases"), hosts: file("hosts") };
        args(spec, &files, "dnsmasq").join("\n")
    }

    #[test]
    fn the_usual_arguments() {
        let expected = "\
--conf-file=
--pid-file=/s/pid
--user=dnsmasq
--bind-interfaces
--except-interface=lo
--interface=br0
--strict-order
--domain-needed
--bogus-priv
--no-hosts
--domain=lab
--local=/lab/
--interface-name=_gateway.lab,br0
--dhcp-range=10.1.2.1,10.1.2.254,255.255.255.0,3600
--dhcp-leasefile=/s/leases
--dhcp-hostsfile=/s/hosts
--dhcp-authoritative
--dhcp-no-override
--dhcp-rapid-commit
--no-ping
--quiet-dhcp
--quiet-dhcp6
--quiet-ra";
        assert_eq!(text(&spec()), expected);
    }

    #[test]
    fn options() {
        let range = ("10.1.2.50".parse().unwrap(), "10.1.2.60".parse().unwrap());
        let spec = BridgeSpec {
            ipv4_dhcp_ranges: vec![range, range],
            ipv4_routing: false,
            mtu: Some(1400),
            ipv6: Some("fd00:1::1/64".parse().unwrap()),
            ..spec()
        };
        let lines = text(&spec);
        let count = |line: &str| lines.lines().filter(|&l| l == line).count();
        assert_eq!(count("--dhcp-range=10.1.2.50,10.1.2.60,255.255.255.0,3600"), 2, "{lines}");
        assert_eq!(count("--dhcp-option=option:router"), 1, "{lines}");
        assert_eq!(count("--dhcp-option-force=option:mtu,1400"), 1, "{lines}");
        assert_eq!(count("--enable-ra"), 1, "{lines}");
        assert_eq!(count("--dhcp-range=::,constructor:br0,ra-stateless,ra-names"), 1, "{lines}");
        let stateful = text(&BridgeSpec { ipv6_dhcp_stateful: true, ..spec });
        let line = "--dhcp-range=fd00:1::2,fd00:1::ffff:ffff:ffff:ffff,64,3600";
        assert!(stateful.lines().any(|l| l == line), "{stateful}");
    }

    #[test]
    fn dns_alone() {
        let lines = text(&BridgeSpec { ipv4_dhcp: false, ..spec() });
        assert!(!lines.contains("dhcp"), "{lines}");
    }

    #[test]
    fn hosts_lines_and_tag() {
        let lease = |last, ipv4: Option<&str>, ipv6: Option<&str>, name: Option<&str>| StaticLease {
            mac: HwAddr([0, 0x16, 0x3e, 0, 0, last]),
            ipv4: ipv4.map(|ip| ip.parse().unwrap()),
            ipv6: ipv6.map(|ip| ip.parse().unwrap()),
            hostname: name.map(|name| DnsName::new(name).unwrap()),
        };
        let static_leases = vec![
            lease(2, Some("10.1.2.9"), Some("fd00:1::9"), Some("web")),
            lease(1, None, None, Some("db")),
            lease(3, None, None, None),
        ];
        let spec = BridgeSpec { static_leases, ..spec() };
        assert_eq!(hosts(&spec), "00:16:3e:00:00:01,db\n00:16:3e:00:00:02,10.1.2.9,[fd00:1::9],web\n");
        assert_eq!(tag(&spec, 7), "br0 7 10.1.2.1/24");
    }
}
