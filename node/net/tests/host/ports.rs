//! What guests are held to, with real packets between namespaces.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use basalt_model::device::Rates;
use basalt_net::{BridgeSpec, Host, HwAddr, PortRules, Source};

use crate::bed::{Bed, Guest, in_namespace, out};
use crate::{name, spec};

const ONE: HwAddr = HwAddr([0, 0x16, 0x3e, 0, 0, 1]);
const TWO: HwAddr = HwAddr([0, 0x16, 0x3e, 0, 0, 2]);
const MBIT: u64 = 1_000_000;

/// A bridge with two guests, `10.83.7.11` and `10.83.7.12`.
async fn pair(bed: &Bed) -> (Host, Guest, Guest) {
    let host = bed.host();
    let spec = BridgeSpec { ipv6: Some("fd83:7::1/64".parse().unwrap()), ipv4_dhcp: false, ipv6_dhcp: false, ..spec() };
    host.ensure_bridge(&spec).await.unwrap();
    let mut guests = Vec::new();
    for (n, mac) in [(1, ONE), (2, TWO)] {
        let guest = Guest::new(&format!("v{n}"), mac);
        host.ensure_port(&name("bas0"), &name(&format!("v{n}")), None).await.unwrap();
        guest.run("ip link set lo up");
        guest.run("ip link set eth0 up");
        guest.run(&format!("ip addr add 10.83.7.1{n}/24 dev eth0"));
        guest.run(&format!("ip addr add fd83:7::1{n}/64 dev eth0 nodad"));
        guests.push(guest);
    }
    let two = guests.pop().unwrap();
    (host, guests.pop().unwrap(), two)
}

fn port(of: &str) -> PortRules {
    PortRules { name: name(of), rates: Rates::default(), source: None, isolated: false }
}

/// Bits a second from one guest to the other, over three seconds: what may pass at once is no more than a third of it.
fn speed(from: &Guest, to: &Guest) -> u64 {
    let address = SocketAddr::from(([10, 83, 7, 12], 5001));
    let listener = to.inside(move || TcpListener::bind(address).unwrap());
    let counted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut count, mut buffer) = (0, vec![0; 1 << 16]);
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            count += n as u64;
        }
        count
    });
    let mut stream = from.inside(move || TcpStream::connect(address).unwrap());
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let (begun, block) = (Instant::now(), vec![0; 1 << 14]);
    while begun.elapsed() < Duration::from_secs(3) {
        // A full queue is what a limit looks like from here.
        let _ = stream.write(&block);
    }
    let took = begun.elapsed();
    // What is still queued does not count: a reset drops it.
    nix::sys::socket::setsockopt(
        &stream,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger { l_onoff: 1, l_linger: 0 },
    )
    .unwrap();
    drop(stream);
    counted.join().unwrap() * 8 * 1000 / took.as_millis() as u64
}

#[test]
fn rates_hold_in_both_ways_and_change_at_once() {
    in_namespace(async || {
        let bed = Bed::new();
        let (host, one, two) = pair(&bed).await;
        let free = speed(&one, &two);
        assert!(free > 50 * MBIT, "{free}");
        let slow = Some(10 * MBIT);
        for (what, ports) in [
            ("sends", vec![PortRules { rates: Rates { egress: slow, ..Rates::default() }, ..port("v1") }]),
            ("receives", vec![PortRules { rates: Rates { ingress: slow, ..Rates::default() }, ..port("v2") }]),
        ] {
            host.ensure_ports(&ports).await.unwrap();
            let held = speed(&one, &two);
            assert!((MBIT..20 * MBIT).contains(&held), "{what}: {held}");
            let other = speed_back(&one, &two);
            assert!(other > 50 * MBIT, "the other way is free: {other}");
        }
        // The same again touches nothing; another agent finds it as it is.
        let ports = [PortRules { rates: Rates { ingress: slow, ..Rates::default() }, ..port("v2") }];
        let before = out("nft -a list ruleset");
        host.ensure_ports(&ports).await.unwrap();
        bed.host().ensure_ports(&ports).await.unwrap();
        assert_eq!(out("nft -a list ruleset"), before);
        out("nft flush table bridge basalt_ports");
        bed.host().ensure_ports(&ports).await.unwrap();
        assert!(speed(&one, &two) < 20 * MBIT, "put back");
        assert_eq!(host.list_bridges().await.unwrap(), [name("bas0")], "what is kept of ports is no bridge");

        host.ensure_ports(&[]).await.unwrap();
        assert!(!out("nft list tables").contains("basalt_ports"));
        let free = speed(&one, &two);
        assert!(free > 50 * MBIT, "{free}");
    });
}

/// The same the other way, by a guest that has the other's place.
fn speed_back(one: &Guest, two: &Guest) -> u64 {
    let swap = |guest: &Guest, from: u8, to: u8| {
        guest.run(&format!("ip addr del 10.83.7.1{from}/24 dev eth0"));
        guest.run(&format!("ip addr add 10.83.7.1{to}/24 dev eth0"));
        guest.run("ip neigh flush all");
    };
    swap(one, 1, 2);
    swap(two, 2, 1);
    let speed = speed(two, one);
    swap(one, 2, 1);
    swap(two, 1, 2);
    speed
}

#[test]
fn a_guest_is_what_it_says_it_is() {
    in_namespace(async || {
        let bed = Bed::new();
        let (host, one, _two) = pair(&bed).await;
        let pings = |from: &str, to: &str| {
            let family = if to.contains(':') { "ping -6" } else { "ping" };
            one.try_run(&format!("busybox {family} -c 1 -W 1 -I {from} {to}")).is_ok()
        };
        one.run("ip addr add 10.83.7.99/24 dev eth0");
        one.run("ip addr add fd83:7::99/64 dev eth0 nodad");
        let (two4, two6) = ("10.83.7.12", "fd83:7::12");
        assert!(pings("10.83.7.99", two4) && pings("fd83:7::99", two6), "nothing is filtered yet");

        let source = |mac, v4: bool, v6: bool| Source {
            mac,
            ipv4: v4.then(|| vec!["10.83.7.11".parse().unwrap()]),
            ipv6: v6.then(|| vec!["fd83:7::11".parse().unwrap()]),
        };
        let hold = async |source| {
            host.ensure_ports(&[PortRules { source: Some(source), ..port("v1") }]).await.unwrap();
        };
        hold(source(Some(ONE), false, false)).await;
        assert!(pings("10.83.7.99", two4), "only the hardware address is looked at");
        hold(source(Some(TWO), false, false)).await;
        assert!(!pings("10.83.7.11", two4), "another hardware address");

        hold(source(Some(ONE), true, true)).await;
        assert!(pings("10.83.7.11", two4) && pings("fd83:7::11", two6), "its own addresses");
        assert!(pings("10.83.7.11", "10.83.7.1") && pings("fd83:7::11", "fd83:7::1"), "to the host too");
        assert!(!pings("10.83.7.99", two4) && !pings("fd83:7::99", two6), "others are dropped");
        // Neither may it say of others' addresses that they are its own.
        assert!(out("busybox arping -c 1 -w 2 -I bas0 10.83.7.11").contains("00:16:3e:00:00:01"));
        let stolen = crate::bed::try_out("busybox arping -c 1 -w 2 -I bas0 10.83.7.99");
        assert!(stolen.is_err(), "{stolen:?}");
        out("ip -6 neigh flush dev bas0");
        assert!(crate::bed::try_out("busybox ping -6 -c 1 -W 1 fd83:7::99").is_err());
        assert!(crate::bed::try_out("busybox ping -6 -c 1 -W 5 fd83:7::11").is_ok());

        hold(source(None, false, false)).await;
        assert!(!pings("10.83.7.11", two4), "who has no address yet sends nothing");
        host.ensure_ports(&[]).await.unwrap();
        assert!(pings("10.83.7.99", two4));
    });
}

#[test]
fn isolated_guests_reach_the_host_only() {
    in_namespace(async || {
        let bed = Bed::new();
        let (host, one, _two) = pair(&bed).await;
        let pings = |to: &str| one.try_run(&format!("busybox ping -c 1 -W 1 {to}")).is_ok();
        let alone = |of: &str| PortRules { isolated: true, ..port(of) };
        host.ensure_ports(&[alone("v1")]).await.unwrap();
        assert!(pings("10.83.7.12"), "the other one is not isolated");
        host.ensure_ports(&[alone("v1"), alone("v2")]).await.unwrap();
        assert!(!pings("10.83.7.12") && pings("10.83.7.1"));
    });
}
