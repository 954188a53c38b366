//! A network stack to send from and to listen in: a container's, or that of the world outside. Sockets are made by
//! threads that enter its namespace, so that a test sees what a program there would see: an answer, a refusal, silence.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use basalt_tests::api::Api;
use basalt_tests::{host, wait};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};

use super::world::SOON;

/// How long nothing has to come for it to be silence. An answer of these networks is there in milliseconds.
const SILENCE: Duration = Duration::from_millis(1500);

/// One network stack.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    netns: String,
    /// Of a guest: who can say where its packets go.
    trace: Option<Api>,
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Who answered, and whom they saw.
    Answered(String, IpAddr),
    /// The sender was told.
    Refused,
    Silent,
}

impl Fate {
    fn heard(text: &str) -> Self {
        let (name, peer) = text.trim().split_once(' ').unwrap_or_else(|| panic!("{text:?} is no answer of ours"));
        Fate::Answered(name.to_owned(), peer.parse().unwrap())
    }

    fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            // By a reset, or an ICMP error of whatever kind.
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::PermissionDenied => Fate::Refused,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Fate::Silent,
            // A guest that has no address or route yet.
            ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => Fate::Silent,
            _ => panic!("{error}"),
        }
    }

    /// The sender's address, as who answered saw it.
    pub(crate) fn seen(&self) -> IpAddr {
        match self {
            Fate::Answered(_, seen) => *seen,
            Fate::Refused | Fate::Silent => panic!("{self:?}"),
        }
    }

    /// Who answered.
    pub(crate) fn by(&self) -> Option<&str> {
        match self {
            Fate::Answered(name, _) => Some(name),
            Fate::Refused | Fate::Silent => None,
        }
    }
}

impl Place {
    pub(crate) fn new(name: &str, netns: String) -> Self {
        Self { name: name.to_owned(), netns, trace: None }
    }

    /// The stack of a guest.
    pub(crate) fn of_guest(name: &str, netns: String, api: Api) -> Self {
        Self { trace: Some(api), ..Self::new(name, netns) }
    }

    /// Works in the namespace, on a thread of its own.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = File::open(&self.netns).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Connects, and reads what [`Place::serve`] answers. One attempt: see [`Place::heard`].
    pub(crate) fn tcp(&self, to: SocketAddr) -> Fate {
        self.within(|| {
            let mut stream = match TcpStream::connect_timeout(&to, SILENCE) {
                Ok(stream) => stream,
                Err(error) => return Fate::of(&error),
            };
            stream.set_read_timeout(Some(SILENCE)).unwrap();
            let mut text = String::new();
            match stream.read_to_string(&mut text) {
                Ok(_) => Fate::heard(&text),
                Err(error) => Fate::of(&error),
            }
        })
    }

    /// Waits until it is answered by that one, and gives back whom they saw.
    pub(crate) fn heard(&self, to: SocketAddr, by: &str) -> IpAddr {
        wait::until(&format!("{} is answered by {by} at {to}", self.name), SOON, || {
            let fate = self.tcp(to);
            anyhow::ensure!(fate.by() == Some(by), "{fate:?}");
            Ok(Some(fate.seen()))
        })
        .unwrap()
    }

    /// The same with a datagram each way.
    pub(crate) fn udp(&self, to: SocketAddr) -> Fate {
        self.within(|| {
            let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            // Else the kernel keeps errors to itself that may pass.
            match to.is_ipv4() {
                true => setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap(),
                false => setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap(),
            }
            let mut text = [0; 100];
            let told = socket.connect(to).and_then(|()| socket.send(b"who?")).and_then(|_| socket.recv(&mut text));
            match told {
                Ok(length) => Fate::heard(&String::from_utf8_lossy(&text[..length])),
                Err(error) => Fate::of(&error),
            }
        })
    }

    /// One echo request: whether an answer came.
    pub(crate) fn ping(&self, to: IpAddr) -> bool {
        self.run(&["busybox", "ping", "-c", "1", "-W", "1", &to.to_string()]).is_ok()
    }

    /// A program of the host's in this network stack.
    pub(crate) fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        let enter = format!("--net={}", self.netns);
        host::run(&[&["nsenter", enter.as_str()], argv].concat())
    }

    /// Answers on these ports, TCP and UDP, with the place's name and the other end's address, until it is dropped.
    pub(crate) fn serve(&self, ports: &[u16]) -> Served {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, asked) = (self.name.clone(), stop.clone());
        let sockets = self.within(|| ports.iter().map(|port| Ears::open(*port)).collect::<Vec<_>>());
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                let mut fds: Vec<PollFd<'_>> = sockets.iter().flat_map(Ears::fds).collect();
                poll(&mut fds, PollTimeout::from(100_u8)).unwrap();
                sockets.iter().for_each(|ears| ears.answer(&name));
            }
        });
        Served { stop, thread: Some(thread) }
    }
}

/// Somebody who answers.
pub(crate) struct Served {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the server did not end well");
    }
}

/// One port.
struct Ears {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Ears {
    fn open(port: u16) -> Self {
        let all = (Ipv6Addr::UNSPECIFIED, port);
        let ears = Self { tcp: TcpListener::bind(all).unwrap(), udp: UdpSocket::bind(all).unwrap() };
        ears.tcp.set_nonblocking(true).unwrap();
        ears.udp.set_nonblocking(true).unwrap();
        ears
    }

    fn fds(&self) -> [PollFd<'_>; 2] {
        [self.tcp.as_fd(), self.udp.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN))
    }

    fn answer(&self, name: &str) {
        let text = |peer: SocketAddr| format!("{name} {}", peer.ip().to_canonical());
        // Whoever hangs up early is not our concern.
        while let Ok((mut stream, peer)) = self.tcp.accept() {
            let _ = stream.write_all(text(peer).as_bytes());
        }
        let mut asked = [0; 100];
        while let Ok((_, peer)) = self.udp.recv_from(&mut asked) {
            let _ = self.udp.send_to(text(peer).as_bytes(), peer);
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    Ping,
}

/// What a packet is expected to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Somebody answers.
    Passes,
    /// The sender is told, and at once.
    Refused,
    Silent,
}

/// One packet, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub what: &'a str,
    pub from: &'a Place,
    pub kind: Kind,
    /// The port counts for nothing in a ping.
    pub to: SocketAddr,
    pub want: Want,
}

impl Case<'_> {
    /// What is wrong, if anything.
    fn wrong(&self) -> Option<String> {
        let begun = Instant::now();
        let fate = match self.kind {
            Kind::Tcp => self.from.tcp(self.to),
            Kind::Udp => self.from.udp(self.to),
            Kind::Ping if self.from.ping(self.to.ip()) => Fate::Answered(String::new(), self.to.ip()),
            Kind::Ping => Fate::Silent,
        };
        let right = match (self.want, &fate) {
            (Want::Passes, Fate::Answered(..)) | (Want::Silent, Fate::Silent) => true,
            (Want::Refused, Fate::Refused) => begun.elapsed() < SILENCE,
            (Want::Passes | Want::Refused | Want::Silent, _) => false,
        };
        let (from, to) = (&self.from.name, self.to);
        (!right).then(|| format!("{}: {:?} {from} -> {to}: {fate:?}, not {:?}", self.what, self.kind, self.want))
    }

    /// What the sender knows of its network, and where OVN would have the packet go.
    fn explain(&self) -> String {
        let told = |argv: &[&str]| self.from.run(argv).unwrap_or_else(|error| format!("{error:#}"));
        let mut text = told(&["ip", "-br", "address"]) + &told(&["ip", "neighbour"]);
        if let Some(api) = &self.from.trace {
            let kind = match self.kind {
                Kind::Tcp => format!("tcp&port={}", self.to.port()),
                Kind::Udp => format!("udp&port={}", self.to.port()),
                Kind::Ping => "icmp".to_owned(),
            };
            let (from, to) = (&self.from.name, self.to.ip());
            let trace = api.get(&format!("/1.0/network-trace?instance={from}&address={to}&protocol={kind}"));
            text += &trace.map_or_else(|error| format!("{error:#}"), |t| format!("{}: {}", t["outcome"], t["end"]));
        }
        text
    }
}

/// Waits until all of it is so at the same time.
pub(crate) fn hold(cases: &[Case<'_>]) {
    if let Err(wrong) = holds(cases) {
        panic!("{wrong}");
    }
}

/// The same; or what is wrong in the end.
pub(crate) fn holds(cases: &[Case<'_>]) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let wrong: Vec<(&Case<'_>, String)> = std::thread::scope(|scope| {
            let sent: Vec<_> = cases.iter().map(|case| (case, scope.spawn(|| case.wrong()))).collect();
            sent.into_iter().filter_map(|(case, thread)| Some((case, thread.join().unwrap()?))).collect()
        });
        let Some((first, _)) = wrong.first() else { return Ok(()) };
        if begun.elapsed() > SOON {
            let all: Vec<&str> = wrong.iter().map(|(_, why)| why.as_str()).collect();
            return Err(format!("{}\nthe first:\n{}", all.join("\n"), first.explain()));
        }
    }
}
