//! Lists and forwards of a bridge, with real packets: a guest behind it, the world outside, and a neighbour.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use basalt_model::network::acl::{Action, Direction, Protocol, Subject, Terms};
use basalt_model::network::balance::Transport;
use basalt_net::{BridgeSpec, Forward, Guard, GuardRule, Host, HwAddr, NicGuard, Verdict};

use crate::bed::{Bed, Guest, in_namespace, out};
use crate::{MAC, name, spec};

const OUTSIDE: &str = "192.0.2.2";
const GUEST: &str = "10.83.7.11";
const NEIGHBOUR: &str = "10.83.7.12";

/// A bridge with guest and neighbour, and `outside` that knows the way to them.
struct World {
    host: Host,
    guest: Guest,
    neighbour: Guest,
    outside: Guest,
    spec: BridgeSpec,
}

/// How a connection began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Began {
    Open,
    Refused,
    Silent,
}

impl World {
    async fn new(bed: &Bed) -> Self {
        let host = bed.host();
        let spec =
            BridgeSpec { ipv4_nat: false, ipv6: Some("fd83:7::1/64".parse().unwrap()), ipv6_dhcp: false, ..spec() };
        host.ensure_bridge(&spec).await.unwrap();
        let mut guests = Vec::new();
        for (n, mac) in [(1, MAC), (2, HwAddr([2, 0, 0, 0, 0, 2]))] {
            let guest = Guest::new(&format!("v{n}"), mac);
            host.ensure_port(&name("bas0"), &name(&format!("v{n}")), None).await.unwrap();
            for command in [
                "ip link set lo up",
                "ip link set eth0 up",
                &format!("ip addr add 10.83.7.1{n}/24 dev eth0"),
                &format!("ip addr add fd83:7::1{n}/64 dev eth0 nodad"),
                "ip route add default via 10.83.7.1",
                "ip -6 route add default via fd83:7::1",
            ] {
                guest.run(command);
            }
            guests.push(guest);
        }
        let outside = Guest::new("uplink", HwAddr([2, 0, 0, 0, 0, 9]));
        out("ip addr add 192.0.2.1/24 dev uplink");
        out("ip addr add 2001:db8::1/64 dev uplink nodad");
        out("ip link set uplink up");
        for command in [
            "ip link set lo up",
            "ip link set eth0 up",
            "ip addr add 192.0.2.2/24 dev eth0",
            "ip addr add 2001:db8::2/64 dev eth0 nodad",
            "ip route add 10.83.7.0/24 via 192.0.2.1",
            "ip -6 route add fd83:7::/64 via 2001:db8::1",
        ] {
            outside.run(command);
        }
        let neighbour = guests.pop().unwrap();
        let guest = guests.pop().unwrap();
        Self { host, guest, neighbour, outside, spec }
    }

    async fn guard(&mut self, guard: Option<Guard>) {
        self.spec.guard = guard;
        self.host.ensure_bridge(&self.spec).await.unwrap();
    }
}

/// A server that answers each connection with the address it comes from.
fn serve(at: &Guest, address: &str, port: u16) {
    let address: IpAddr = address.parse().unwrap();
    let listener = at.inside(move || TcpListener::bind((address, port)).unwrap());
    std::thread::spawn(move || {
        use std::io::Write;
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    });
}

fn connect(from: &Guest, to: &str, port: u16) -> Result<TcpStream, ErrorKind> {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    from.inside(move || TcpStream::connect_timeout(&to, Duration::from_millis(700)).map_err(|e| e.kind()))
}

fn began(from: &Guest, to: &str, port: u16) -> Began {
    match connect(from, to, port) {
        Ok(_) => Began::Open,
        Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Began::Silent,
        Err(ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            Began::Refused
        }
        Err(other) => panic!("{to}:{port}: {other:?}"),
    }
}

/// Whom the server saw.
fn seen(from: &Guest, to: &str, port: u16) -> String {
    use std::io::Read;
    let mut text = String::new();
    connect(from, to, port).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn pings(from: &Guest, to: &str) -> bool {
    let family = if to.contains(':') { "ping -6" } else { "ping" };
    from.try_run(&format!("busybox {family} -c 1 -W 1 {to}")).is_ok()
}

fn tcp(port: u16) -> Protocol {
    Protocol::Tcp(Vec::new(), vec![(port, port)])
}

fn rule(direction: Direction, action: Action, sources: &[&str], protocol: Protocol) -> GuardRule {
    let subject = |text: &&str| Subject::Net(text.parse().unwrap());
    let terms = Terms { sources: sources.iter().map(subject).collect(), destinations: Vec::new(), protocol };
    GuardRule { direction, verdict: Verdict { action, logged: None }, terms }
}

fn guard(rules: Vec<GuardRule>, ingress: Action, egress: Action) -> Option<Guard> {
    let verdict = |action| Verdict { action, logged: Some("bas0".into()) };
    Some(Guard { rules, ingress: verdict(ingress), egress: verdict(egress) })
}

#[test]
fn every_action_in_both_directions() {
    in_namespace(async || {
        use Action::{Allow, Drop, Reject};
        use Direction::{Egress, Ingress};
        let bed = Bed::new();
        let mut world = World::new(&bed).await;
        for port in 80..84 {
            serve(&world.guest, GUEST, port);
            serve(&world.outside, OUTSIDE, port);
        }
        serve(&world.guest, "fd83:7::11", 80);
        let (into, from) = (
            |world: &World, port| began(&world.outside, GUEST, port),
            |world: &World, port| began(&world.guest, OUTSIDE, port),
        );
        assert_eq!((into(&world, 80), from(&world, 80)), (Began::Open, Began::Open), "no list, no limit");

        // Incoming: each action; what is not said is rejected. The guest's own connections are free.
        let each = |direction| {
            vec![
                rule(direction, Allow, &[], tcp(80)),
                rule(direction, Drop, &[], tcp(81)),
                rule(direction, Reject, &[], tcp(82)),
                // Dropping wins over allowing, in whatever order they are written.
                rule(direction, Allow, &[], tcp(81)),
            ]
        };
        world.guard(guard(each(Ingress), Reject, Allow)).await;
        let found: Vec<Began> = (80..84).map(|port| into(&world, port)).collect();
        assert_eq!(found, [Began::Open, Began::Silent, Began::Refused, Began::Refused]);
        assert_eq!(from(&world, 83), Began::Open, "answers to what was allowed come in");
        let own =
            |port| TcpStream::connect_timeout(&SocketAddr::new(GUEST.parse().unwrap(), port), Duration::from_secs(1));
        assert!(own(80).is_ok() && own(83).is_err(), "the host is outside too");
        assert!(!pings(&world.outside, GUEST) && pings(&world.guest, OUTSIDE));
        assert_eq!(began(&world.outside, "fd83:7::11", 80), Began::Open, "IPv6 too");
        assert!(!pings(&world.outside, "fd83:7::11") && pings(&world.guest, "2001:db8::2"));
        assert!(pings(&world.neighbour, GUEST), "neighbours are not looked at");

        // Outgoing: the same.
        world.guard(guard(each(Egress), Allow, Drop)).await;
        let found: Vec<Began> = (80..84).map(|port| from(&world, port)).collect();
        assert_eq!(found, [Began::Open, Began::Silent, Began::Refused, Began::Silent]);
        assert_eq!(into(&world, 83), Began::Open);
        assert!(pings(&world.outside, GUEST) && !pings(&world.guest, OUTSIDE));
        assert!(!pings(&world.guest, "192.0.2.1"), "an address of the host is outside too");
        assert!(!world.guest.resolve("_gateway.lab", "10.83.7.1").is_empty(), "what the host serves is served");

        // Another agent finds it as it is; without a list all is open again; nothing is left.
        let before = out("nft -a list ruleset");
        bed.host().ensure_bridge(&world.spec).await.unwrap();
        assert_eq!(out("nft -a list ruleset"), before);
        world.guard(None).await;
        assert_eq!(into(&world, 83), Began::Open);
        world.host.remove_bridge(&name("bas0")).await.unwrap();
        bed.assert_clean("bas0");
    });
}

#[test]
fn answers_sources_and_kinds() {
    in_namespace(async || {
        use Action::{Allow, AllowStateless, Drop, Reject};
        use Direction::{Egress, Ingress};
        let bed = Bed::new();
        let mut world = World::new(&bed).await;
        serve(&world.guest, GUEST, 80);
        let into = |world: &World, port| began(&world.outside, GUEST, port);

        // Without state, answers are looked at by themselves.
        let stateless = || rule(Ingress, AllowStateless, &[], tcp(80));
        world.guard(guard(vec![stateless()], Drop, Drop)).await;
        assert_eq!(into(&world, 80), Began::Silent);
        let back = GuardRule {
            terms: Terms {
                sources: Vec::new(),
                destinations: Vec::new(),
                protocol: Protocol::Tcp(vec![(80, 80)], Vec::new()),
            },
            ..rule(Egress, AllowStateless, &[], Protocol::Any)
        };
        world.guard(guard(vec![stateless(), back], Drop, Drop)).await;
        assert_eq!(into(&world, 80), Began::Open);

        // Sources, and kinds of ICMP.
        world.guard(guard(vec![rule(Ingress, Allow, &["192.0.2.0/25"], Protocol::Any)], Reject, Allow)).await;
        assert_eq!(into(&world, 80), Began::Open);
        world.guard(guard(vec![rule(Ingress, Allow, &["192.0.2.128/25"], Protocol::Any)], Reject, Allow)).await;
        assert_eq!(into(&world, 80), Began::Refused);
        world.guard(guard(vec![rule(Ingress, Allow, &[], Protocol::Icmp4(Some(8), Some(0)))], Reject, Allow)).await;
        assert!(pings(&world.outside, GUEST) && !pings(&world.outside, "fd83:7::11"));
        assert!(out("nft list table inet basalt_bas0").contains("log prefix \"bas0: \""));
        world.guard(guard(vec![rule(Ingress, Allow, &[], Protocol::Icmp6(None, None))], Reject, Allow)).await;
        assert!(!pings(&world.outside, GUEST) && pings(&world.outside, "fd83:7::11"));
    });
}

#[test]
fn a_change_reaches_connections_that_are_open() {
    in_namespace(async || {
        let bed = Bed::new();
        let mut world = World::new(&bed).await;
        let socket = world.guest.inside(|| UdpSocket::bind((GUEST, 7)).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 9];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..n], from);
            }
        });
        let client = world.outside.inside(|| UdpSocket::bind((OUTSIDE, 0)).unwrap());
        client.connect((GUEST, 7)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let echoes = || {
            client.send(b"x").unwrap();
            client.recv(&mut [0; 9]).is_ok()
        };
        let udp = Protocol::Udp(Vec::new(), vec![(7, 7)]);
        let allow = || rule(Direction::Ingress, Action::Allow, &[], udp.clone());
        world.guard(guard(vec![allow()], Action::Drop, Action::Drop)).await;
        assert!(echoes(), "and the answer, though nothing may leave by itself");
        let drop = rule(Direction::Ingress, Action::Drop, &[OUTSIDE_NET], udp.clone());
        world.guard(guard(vec![allow(), drop], Action::Drop, Action::Drop)).await;
        assert!(!echoes());
        world.guard(guard(vec![allow()], Action::Drop, Action::Drop)).await;
        assert!(echoes());
    });
}

#[test]
fn an_interface_with_lists_of_its_own() {
    in_namespace(async || {
        let bed = Bed::new();
        let mut world = World::new(&bed).await;
        for (port, at, address) in
            [(80, &world.guest, GUEST), (81, &world.guest, GUEST), (81, &world.neighbour, NEIGHBOUR)]
        {
            serve(at, address, port);
        }
        serve(&world.outside, OUTSIDE, 80);
        let rules = vec![rule(Direction::Ingress, Action::Allow, &[], tcp(80))];
        let nic = NicGuard {
            port: name("v1"),
            mac: MAC,
            addresses: vec![GUEST.parse().unwrap(), "fd83:7::11".parse().unwrap()],
            guard: guard(rules, Action::Reject, Action::Drop).unwrap(),
        };
        world.spec.nic_guards = vec![nic];
        world.guard(None).await;
        let into = |to: &str, port| began(&world.outside, to, port);
        assert_eq!((into(GUEST, 80), into(GUEST, 81), into(NEIGHBOUR, 81)), (Began::Open, Began::Refused, Began::Open));
        assert!(!pings(&world.outside, "fd83:7::11") && pings(&world.outside, "fd83:7::12"));
        let from = |guest: &Guest| began(guest, OUTSIDE, 80);
        assert_eq!((from(&world.guest), from(&world.neighbour)), (Began::Silent, Began::Open));
        assert!(!pings(&world.guest, "192.0.2.1") && pings(&world.guest, NEIGHBOUR));
        // Beside a network that lets nothing in.
        world.guard(guard(Vec::new(), Action::Drop, Action::Drop)).await;
        let into = |to: &str, port| began(&world.outside, to, port);
        assert_eq!(
            (into(GUEST, 80), into(GUEST, 81), into(NEIGHBOUR, 81)),
            (Began::Open, Began::Refused, Began::Silent)
        );
    });
}

const OUTSIDE_NET: &str = "192.0.2.2/32";

#[test]
fn forwards_lead_inside() {
    in_namespace(async || {
        let bed = Bed::new();
        let mut world = World::new(&bed).await;
        for (port, at) in [(80, &world.guest), (81, &world.guest), (8080, &world.guest)] {
            serve(at, GUEST, port);
        }
        serve(&world.neighbour, NEIGHBOUR, 99);
        serve(&world.guest, "fd83:7::11", 80);
        let forward = |listen: &str, ports, target: &str, port| Forward {
            listen: listen.parse().unwrap(),
            ports,
            target: target.parse().unwrap(),
            port,
        };
        let tcp = |first, last| Some((Transport::Tcp, first, last));
        out("ip addr add 198.51.100.9/32 dev lo");
        world.outside.run("ip route add 198.51.100.0/24 via 192.0.2.1");
        world.spec.forwards = vec![
            forward("198.51.100.9", None, NEIGHBOUR, None),
            forward("198.51.100.9", tcp(80, 81), GUEST, None),
            forward("198.51.100.9", tcp(443, 443), GUEST, Some(8080)),
            forward("192.0.2.1", tcp(80, 80), GUEST, None),
            forward("2001:db8::1", tcp(80, 80), "fd83:7::11", None),
            // Not an address of this host.
            forward("198.51.100.10", tcp(80, 80), GUEST, None),
        ];
        world.host.ensure_bridge(&world.spec).await.unwrap();
        let outside = |to: &str, port| began(&world.outside, to, port);
        for port in [80, 81, 443, 99] {
            assert_eq!(outside("198.51.100.9", port), Began::Open, "{port}");
        }
        assert_eq!(seen(&world.outside, "192.0.2.1", 80), OUTSIDE, "the guest sees who it is");
        assert_eq!(seen(&world.outside, "2001:db8::1", 80), "2001:db8::2");
        assert_eq!(outside("192.0.2.1", 81), Began::Refused, "other ports are the host's");
        // Neighbours come in through the host and are answered through it.
        assert_eq!(seen(&world.neighbour, "198.51.100.9", 80), "10.83.7.1");
        assert_eq!(seen(&world.guest, "198.51.100.9", 99), "10.83.7.1");
        let own = TcpStream::connect_timeout(&"198.51.100.9:443".parse().unwrap(), Duration::from_secs(2));
        assert!(own.is_ok(), "the host's own: {own:?}");

        // The address comes, and goes, and nothing has to be told.
        assert_ne!(outside("198.51.100.10", 80), Began::Open);
        out("ip addr add 198.51.100.10/32 dev lo");
        assert_eq!(outside("198.51.100.10", 80), Began::Open);

        // Lists look at where it goes.
        world
            .guard(guard(
                vec![rule(Direction::Ingress, Action::Allow, &[], self::tcp(8080))],
                Action::Reject,
                Action::Allow,
            ))
            .await;
        let outside = |to: &str, port| began(&world.outside, to, port);
        assert_eq!((outside("198.51.100.9", 443), outside("198.51.100.9", 80)), (Began::Open, Began::Refused));

        world.spec.forwards.clear();
        world.guard(None).await;
        assert_ne!(began(&world.outside, "198.51.100.9", 80), Began::Open);
    });
}
