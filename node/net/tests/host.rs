//! The real thing: bridges in fresh network namespaces, with nft, dnsmasq and a DHCP client.
//!
//! Each test runs on a thread with a network namespace of its own. Needs root and the programs
//! below; without, it says what is missing.
// Tests start their own helpers and clients, and unwrap outside of test functions too.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "host/bed.rs"]
mod bed;
#[path = "host/guard.rs"]
mod guard;
#[path = "host/ports.rs"]
mod ports;

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use basalt_net::{BridgeSpec, DnsName, Error, Host, HwAddr, IfName, StaticLease, netns_addresses};
use basalt_runtime::HostRunner;
use bed::{Bed, FailingRunner, Guest, in_namespace, out};

fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

fn spec() -> BridgeSpec {
    BridgeSpec {
        ipv4: Some("10.83.7.1/24".parse().unwrap()),
        ipv4_nat: true,
        dns_domain: Some(DnsName::new("lab").unwrap()),
        ..BridgeSpec::new(name("bas0"))
    }
}

const MAC: HwAddr = HwAddr([0, 0x16, 0x3e, 1, 2, 3]);

#[test]
fn serves_a_guest_and_leaves_nothing() {
    in_namespace(async || {
        let bed = Bed::new();
        // Reachable for all, so the daemon gives its privileges up.
        fs::set_permissions(bed.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        let (host, spec) = (bed.host(), BridgeSpec { mtu: Some(1400), ..spec() });
        host.ensure_bridge(&spec).await.unwrap();

        let links = host.list_links().await.unwrap();
        let link = links.iter().find(|link| link.name == "bas0").unwrap();
        assert!(link.up && link.mtu == 1400 && link.kind.as_deref() == Some("bridge"), "{link:?}");
        let addresses: Vec<String> =
            link.addresses.iter().map(|a| format!("{}/{} {}", a.ip, a.prefix, a.scope)).collect();
        assert_eq!(addresses, ["10.83.7.1/24 global"]);
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
        assert!(out("nft list table inet basalt_bas0").contains("masquerade"));
        let daemon = bed.daemon("bas0").expect("dnsmasq runs");
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
        assert!(!status.contains("Uid:\t0\t"), "dnsmasq runs without privileges: {status}");

        // A second time nothing changes, for an agent started anew either.
        let before = bed.picture("bas0");
        host.ensure_bridge(&spec).await.unwrap();
        bed.host().ensure_bridge(&spec).await.unwrap();
        assert_eq!(bed.picture("bas0"), before);

        // A guest gets an address, a name, and answers.
        let guest = Guest::new("vhost0", MAC);
        host.ensure_port(&name("bas0"), &name("vhost0"), Some(1400)).await.unwrap();
        host.ensure_port(&name("bas0"), &name("vhost0"), Some(1400)).await.unwrap();
        let address = guest.dhcp(&bed, "web");
        assert!(address.starts_with("10.83.7.") && address != "10.83.7.1", "{address}");
        let leases = host.leases(&name("bas0")).await.unwrap();
        assert_eq!(leases.len(), 1, "{leases:?}");
        assert_eq!(leases[0].mac, Some(MAC));
        assert_eq!(leases[0].address.to_string(), address);
        assert_eq!(leases[0].hostname.as_deref(), Some("web"));
        assert!(guest.resolve("web.lab", "10.83.7.1").contains(&address));
        assert!(guest.resolve("_gateway.lab", "10.83.7.1").contains("10.83.7.1"));
        let inside = netns_addresses(guest.pid()).await.unwrap();
        let eth0 = inside.iter().find(|link| link.name == "eth0").unwrap();
        assert!(eth0.addresses.iter().any(|a| a.ip.to_string() == address), "{eth0:?}");
        assert!(eth0.counters.rx_bytes > 0 && eth0.mac == Some(MAC), "{eth0:?}");
        let ports = host.list_ports(&name("bas0")).await.unwrap();
        assert_eq!(ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["vhost0"]);
        assert_eq!((ports[0].mtu, ports[0].peer), (1400, Some(eth0.index)));

        // A fixed address reaches the running daemon.
        let fixed = StaticLease {
            mac: MAC,
            ipv4: Some("10.83.7.77".parse().unwrap()),
            ipv6: None,
            hostname: Some(DnsName::new("fixed").unwrap()),
        };
        let spec = BridgeSpec { static_leases: vec![fixed], ..spec };
        host.ensure_leases(&spec).await.unwrap();
        assert_eq!(bed.daemon("bas0"), Some(daemon), "told, not restarted");
        assert_eq!(guest.dhcp(&bed, "web"), "10.83.7.77");
        assert!(guest.resolve("fixed.lab", "10.83.7.1").contains("10.83.7.77"));

        host.remove_bridge(&name("bas0")).await.unwrap();
        bed.assert_clean("bas0");
        host.remove_bridge(&name("bas0")).await.unwrap();
        assert!(host.list_bridges().await.unwrap().is_empty());
        // The guest's port was left; as a leak it can go.
        host.remove_port(&name("vhost0")).await.unwrap();
        host.remove_port(&name("vhost0")).await.unwrap();
        assert!(host.list_links().await.unwrap().iter().all(|link| link.name != "vhost0"));
        assert!(host.list_ports(&name("bas0")).await.unwrap().is_empty());
    });
}

#[test]
fn masquerades_what_leaves() {
    in_namespace(async || {
        let bed = Bed::new();
        let host = bed.host();
        host.ensure_bridge(&spec()).await.unwrap();
        let guest = Guest::new("vhost0", MAC);
        host.ensure_port(&name("bas0"), &name("vhost0"), None).await.unwrap();
        guest.dhcp(&bed, "web");
        // A neighbour of the host's that knows no way back to the bridge's subnet.
        let outside = Guest::new("uplink", HwAddr([2, 0, 0, 0, 0, 9]));
        out("ip addr add 192.0.2.1/24 dev uplink");
        out("ip link set uplink up");
        outside.run("ip addr add 192.0.2.2/24 dev eth0");
        outside.run("ip link set eth0 up");
        guest.run("busybox ping -c 1 -W 10 192.0.2.2");
        // Without NAT the answers do not come back; without routing nothing goes out.
        let lost = |guest: &Guest| guest.try_run("busybox ping -c 1 -W 1 192.0.2.2").is_err();
        host.ensure_bridge(&BridgeSpec { ipv4_nat: false, ..spec() }).await.unwrap();
        assert!(lost(&guest));
        outside.run("ip route add 10.83.7.0/24 via 192.0.2.1");
        assert!(!lost(&guest));
        host.ensure_bridge(&BridgeSpec { ipv4_routing: false, ..spec() }).await.unwrap();
        assert!(lost(&guest));
        host.remove_bridge(&name("bas0")).await.unwrap();
        bed.assert_clean("bas0");
    });
}

#[test]
fn repairs_what_others_broke() {
    in_namespace(async || {
        let bed = Bed::new();
        let (host, spec) = (bed.host(), spec());
        host.ensure_bridge(&spec).await.unwrap();
        let first = bed.daemon("bas0").unwrap();

        bed::kill(first);
        host.ensure_bridge(&spec).await.unwrap();
        let second = bed.daemon("bas0").expect("started again");
        assert_ne!(first, second);

        // Its pid file lost, it is still found.
        fs::remove_file(bed.dir().join("bas0/dnsmasq.pid")).unwrap();
        host.ensure_bridge(&spec).await.unwrap();
        assert_eq!(bed.daemon("bas0"), Some(second));

        out("nft flush chain inet basalt_bas0 nat");
        out("ip addr del 10.83.7.1/24 dev bas0");
        out("ip addr add 10.99.0.1/24 dev bas0");
        host.ensure_bridge(&spec).await.unwrap();
        assert!(out("nft list table inet basalt_bas0").contains("masquerade"));
        let addresses = out("ip -4 -o addr show dev bas0");
        assert!(addresses.contains("10.83.7.1/24") && !addresses.contains("10.99"), "{addresses}");

        // A bridge made anew has another number: the daemon is bound to the old one.
        let mac = out("ip -o link show bas0");
        let mac = mac.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        out("ip link del bas0");
        host.ensure_bridge(&spec).await.unwrap();
        assert_ne!(bed.daemon("bas0").unwrap(), second);
        assert!(out("ip -o link show bas0").contains(&mac), "it keeps its address");

        // Another address: rules, daemon and link follow; the old ones are gone.
        let moved = BridgeSpec { ipv4: Some("10.84.0.1/16".parse().unwrap()), ..spec.clone() };
        host.ensure_bridge(&moved).await.unwrap();
        assert!(!out("nft list table inet basalt_bas0").contains("10.83.7"));
        assert!(!out("ip addr show dev bas0").contains("10.83.7"));

        // Its folder lost, it is still ours by its alias; only the daemon must be started anew.
        fs::remove_dir_all(bed.dir().join("bas0")).unwrap();
        assert_eq!(bed.host().list_bridges().await.unwrap(), [name("bas0")]);
        bed.host().ensure_bridge(&moved).await.unwrap();
        assert!(bed.daemon("bas0").is_some(), "exactly one");

        // Without addresses nothing is served.
        host.ensure_bridge(&BridgeSpec::new(name("bas0"))).await.unwrap();
        assert_eq!(bed.daemon("bas0"), None);
        assert_eq!(out("nft list tables"), "");
        host.remove_bridge(&name("bas0")).await.unwrap();
        bed.assert_clean("bas0");
    });
}

#[test]
fn cut_off_anywhere_it_is_finished_or_undone() {
    in_namespace(async || {
        let bed = Bed::new();
        let mut cut = 0;
        loop {
            let failing = Arc::new(FailingRunner::new(cut));
            let host = Host::new(failing.clone(), bed.dir().to_owned());
            let made = host.ensure_bridge(&spec()).await;
            if cut % 2 == 0 {
                bed.host().ensure_bridge(&spec()).await.unwrap();
                assert!(bed.daemon("bas0").is_some());
            }
            assert_eq!(bed.host().list_bridges().await.unwrap(), [name("bas0")]);
            let half = Host::new(Arc::new(FailingRunner::new(0)), bed.dir().to_owned());
            half.remove_bridge(&name("bas0")).await.unwrap_err();
            assert_eq!(bed.host().list_bridges().await.unwrap(), [name("bas0")]);
            bed.host().remove_bridge(&name("bas0")).await.unwrap();
            bed.assert_clean("bas0");
            if made.is_ok() {
                break;
            }
            cut += 1;
        }
        // List, load, list again, dnsmasq.
        assert_eq!(cut, 4);
    });
}

#[test]
fn leaves_what_is_not_ours() {
    in_namespace(async || {
        let bed = Bed::new();
        let host = bed.host();
        out("ip link add bas0 type bridge");
        let refused = |error: Error| assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        refused(host.ensure_bridge(&spec()).await.unwrap_err());
        refused(host.remove_bridge(&name("bas0")).await.unwrap_err());
        refused(host.remove_port(&name("bas0")).await.unwrap_err());
        assert!(host.list_bridges().await.unwrap().is_empty());
        // Another agent's.
        let other = Bed::new();
        let theirs = BridgeSpec { name: name("bas1"), ..spec() };
        other.host().ensure_bridge(&theirs).await.unwrap();
        refused(host.ensure_bridge(&theirs).await.unwrap_err());
        assert!(host.list_bridges().await.unwrap().is_empty());
        other.host().remove_bridge(&theirs.name).await.unwrap();
        assert!(out("ip link show bas0").contains("bas0"));
        let missing = host.ensure_port(&name("bas0"), &name("none"), None).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing:?}");
    });
}

#[test]
fn advertises_ipv6() {
    in_namespace(async || {
        let bed = Bed::new();
        let host = bed.host();
        let spec = BridgeSpec { ipv6: Some("fd83:7::1/64".parse().unwrap()), ipv6_nat: true, ..spec() };
        host.ensure_bridge(&spec).await.unwrap();
        let before = bed.picture("bas0");
        host.ensure_bridge(&spec).await.unwrap();
        assert_eq!(bed.picture("bas0"), before);
        let guest = Guest::new("vhost0", MAC);
        host.ensure_port(&name("bas0"), &name("vhost0"), None).await.unwrap();
        guest.run("ip link set eth0 up");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let inside = netns_addresses(guest.pid()).await.unwrap();
            let got = inside
                .iter()
                .flat_map(|link| &link.addresses)
                .any(|address| address.ip.to_string().starts_with("fd83:7:") && address.prefix == 64);
            if got {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "no address: {inside:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(guest.run("ip -6 route").contains("default via fe80"));
        host.remove_bridge(&name("bas0")).await.unwrap();
        bed.assert_clean("bas0");
    });
}

#[test]
fn a_read_only_switch_is_named() {
    in_namespace(async || {
        bed::make_proc_sys_read_only();
        let bed = Bed::new();
        let error = bed.host().ensure_bridge(&spec()).await.unwrap_err();
        assert!(error.to_string().contains("bas0: cannot set net.ipv4.ip_forward=1"), "{error}");
        // What needs no switch works.
        let plain = BridgeSpec { ipv4_routing: false, ..spec() };
        bed.host().ensure_bridge(&plain).await.unwrap();
        bed.host().remove_bridge(&name("bas0")).await.unwrap();
        bed.assert_clean("bas0");
    });
}

#[test]
fn a_process_that_is_gone_has_no_namespace() {
    in_namespace(async || {
        let error = netns_addresses(u32::MAX).await.unwrap_err();
        assert!(matches!(error, Error::Namespace { .. }), "{error:?}");
    });
}

/// Callers run these on a threaded runtime.
#[test]
fn futures_can_move_between_threads() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(Arc::new(HostRunner), dir.path().to_owned());
    let (spec, name) = (spec(), name("bas0"));
    drop(movable(host.ensure_bridge(&spec)));
    drop(movable(host.ensure_leases(&spec)));
    drop(movable(host.remove_bridge(&name)));
    drop(movable(host.ensure_port(&name, &name, None)));
    drop(movable(host.remove_port(&name)));
    drop(movable(host.ensure_ports(&[])));
    drop(movable(host.list_bridges()));
    drop(movable(host.leases(&name)));
    drop(movable(netns_addresses(1)));
}

#[test]
fn pairs_are_made_once_and_go_together() {
    in_namespace(async || {
        let bed = Bed::new();
        let (host, one, other) = (bed.host(), name("pair0"), name("pair1"));
        host.ensure_pair(&one, &other).await.unwrap();
        out("ip link set pair1 down");
        let index = |links: &[basalt_net::Link], of: &str| links.iter().find(|l| l.name == of).map(|l| (l.index, l.up));
        let before = host.list_links().await.unwrap();
        host.ensure_pair(&one, &other).await.unwrap();
        let after = host.list_links().await.unwrap();
        assert_eq!(index(&after, "pair0"), index(&before, "pair0"), "made once");
        assert!(index(&after, "pair0").unwrap().1 && index(&after, "pair1").unwrap().1, "both are on");
        assert!(host.list_bridges().await.unwrap().is_empty());
        out("ip link add dummy7 type bridge");
        let foreign = host.ensure_pair(&name("dummy7"), &other).await;
        assert!(matches!(foreign, Err(Error::Foreign { .. })), "{foreign:?}");
        host.ensure_up(&name("dummy7")).await.unwrap();
        assert!(index(&host.list_links().await.unwrap(), "dummy7").unwrap().1);
        assert!(matches!(host.ensure_up(&name("nowhere")).await, Err(Error::NotFound { .. })));
        host.remove_port(&one).await.unwrap();
        let left = host.list_links().await.unwrap();
        assert!(index(&left, "pair0").is_none() && index(&left, "pair1").is_none());
    });
}
