//! Golden texts.

use basalt_driver::{IdMap, Joined, Limits, RootFs, SwitchPort};
use basalt_model::{Epoch, Generation};

use super::*;
use crate::cgroup::tests::{hybrid, unified};

fn guest() -> GuestSpec {
    GuestSpec {
        id: "00000000-0000-4000-8000-000000000001".parse().unwrap(),
        epoch: Epoch(1),
        generation: Generation(1),
        start: 1,
        hostname: "c1".into(),
        project: "default".into(),
        architecture: "x86_64".into(),
        root: RootFs { path: "/pool/c1/rootfs".into(), shifted: None },
        id_map: Some(IdMap { base: 1_000_000, size: 65536 }),
        privileged: false,
        nesting: false,
        limits: Limits::default(),
        nics: Vec::new(),
        disks: Vec::new(),
        environment: Default::default(),
        raw: None,
    }
}

fn host(layout: Layout) -> Host {
    Host { layout, apparmor: false, seccomp: true, devices: vec!["/dev/fuse".into()] }
}

fn text(guest: &GuestSpec, host: &Host) -> String {
    let places =
        Places { folder: Path::new("/s/lxc/1"), prefix: "basalt/n1", init: Init::Systemd, unseen: BTreeSet::new() };
    render(guest, &places, host).unwrap()
}

const PLAIN: &str = "\
# Written by Basalt before each start.
lxc.uts.name = c1
lxc.arch = x86_64
lxc.rootfs.path = dir:/pool/c1/rootfs
lxc.rootfs.options = idmap=container
lxc.signal.halt = SIGRTMIN+3
lxc.autodev = 1
lxc.tty.max = 0
lxc.pty.max = 1024
lxc.console.buffer.size = 128kB
lxc.console.logfile = /s/lxc/1/console.log
lxc.console.size = 128kB
lxc.console.rotate = 1
lxc.idmap = u 0 1000000 65536
lxc.idmap = g 0 1000000 65536
lxc.mount.auto = proc:rw sys:rw cgroup:mixed
lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio
lxc.seccomp.profile = /s/lxc/1/seccomp
lxc.cgroup.dir.monitor = basalt/n1/00000000-0000-4000-8000-000000000001/monitor
lxc.cgroup.dir.container = basalt/n1/00000000-0000-4000-8000-000000000001/payload
lxc.cgroup.dir.monitor.pivot = basalt/n1/00000000-0000-4000-8000-000000000001/pivot
lxc.net.0.type = empty
lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0
";

#[test]
fn plain() {
    assert_eq!(text(&guest(), &host(unified())), PLAIN);
}

/// The lines that are not in `PLAIN`, and those of it that are gone (with a minus).
fn diff(text: &str) -> Vec<String> {
    let gone = PLAIN.lines().filter(|line| !text.lines().any(|other| other == *line)).map(|line| format!("-{line}"));
    let new = text.lines().filter(|line| !PLAIN.lines().any(|other| other == *line)).map(str::to_owned);
    gone.chain(new).collect()
}

#[test]
fn network_limits_and_disks() {
    let mut guest = guest();
    guest.nics.push(Nic {
        device: "eth0".into(),
        name: "eth0".into(),
        host_name: "veth1a".into(),
        joined: Joined::Bridge("br0".into()),
        mac: "00:16:3e:00:00:01".parse().unwrap(),
        mtu: Some(1400),
    });
    guest.limits = Limits { cpu_quota: Some((20_000, 100_000)), memory: Some(1 << 20), ..Limits::default() };
    let disk = Disk { device: "d".into(), source: "/".into(), path: "/mnt/a b".into(), readonly: true };
    guest.disks.push(disk);
    guest.environment.insert("K".into(), "v w".into());
    guest.raw = Some("lxc.init.cmd = /bin/x\n".into());
    let common = ["-lxc.net.0.type = empty"];
    let net = [
        "lxc.net.0.type = veth",
        "lxc.net.0.flags = up",
        "lxc.net.0.link = br0",
        "lxc.net.0.veth.pair = veth1a",
        "lxc.net.0.name = eth0",
        "lxc.net.0.hwaddr = 00:16:3e:00:00:01",
        "lxc.net.0.mtu = 1400",
        "lxc.mount.entry = / mnt/a\\040b none rbind,create=dir,ro 0 0",
        "lxc.environment = K=v w",
        "# raw.lxc",
        "lxc.init.cmd = /bin/x",
    ];
    let two = ["lxc.cgroup2.cpu.max = 20000 100000", "lxc.cgroup2.memory.max = 1048576"];
    assert_eq!(diff(&text(&guest, &host(unified()))), [&common[..], &two, &net].concat());
    let one = [
        "lxc.cgroup.cpu.cfs_period_us = 100000",
        "lxc.cgroup.cpu.cfs_quota_us = 20000",
        "lxc.cgroup.memory.limit_in_bytes = 1048576",
    ];
    assert_eq!(diff(&text(&guest, &host(hybrid()))), [&common[..], &one, &net].concat());
}

#[test]
fn unseen_bridges_are_joined_by_a_hook() {
    let unseen = BTreeSet::from(["br0".to_owned()]);
    let places = Places { folder: Path::new("/s"), prefix: "p", init: Init::Other, unseen };
    let mut guest = guest();
    let mac = "00:16:3e:00:00:01".parse().unwrap();
    let joined = Joined::Bridge("br0".into());
    guest.nics.push(Nic { device: "e".into(), name: "e".into(), host_name: "v1".into(), joined, mac, mtu: None });
    let text = render(&guest, &places, &host(unified())).unwrap();
    assert!(text.contains("lxc.net.0.script.up = /sbin/ip link set dev v1 master br0 #\n"), "{text}");
    assert!(!text.contains("lxc.net.0.link"), "{text}");
    let port = |port: &str| {
        let (database, bridge) = ("/run/db.sock".into(), "br-int".into());
        Joined::Program(SwitchPort { database, bridge, port: port.into(), keys: vec!["iface-id", "own"] })
    };
    guest.nics[0].joined = port("net-1 e");
    let text = render(&guest, &places, &host(unified())).unwrap();
    let script = "/bin/sh -c '/usr/bin/nsenter -t $LXC_PID -n /sbin/ethtool -K e tx off; \
        /usr/bin/ovs-vsctl --timeout=10 \"--db=unix:/run/db.sock\" --if-exists del-port v1; \
        /usr/bin/ovs-vsctl --timeout=10 \"--db=unix:/run/db.sock\" --may-exist add-port br-int v1 \
        -- set interface v1 \"external_ids:iface-id=\\\"net-1 e\\\"\" \"external_ids:own=\\\"net-1 e\\\"\"; /sbin/ip link set dev v1 up; :' #";
    assert!(text.contains(&format!("lxc.hook.start-host = {script}\n")), "{text}");
    guest.nics[0].joined = Joined::Kernel;
    let text = render(&guest, &places, &host(unified())).unwrap();
    assert!(!text.contains("start-host") && !text.contains("script.up") && !text.contains("lxc.net.0.link"), "{text}");
    for bad in ["a'b", "a\"b", "a\\b", "a\nb", "a$(b)", "a`b`"] {
        guest.nics[0].joined = port(bad);
        assert!(render(&guest, &places, &host(unified())).is_err(), "{bad:?}");
    }
    for joined in [Joined::Bridge("br0".into()), port("p")] {
        guest.nics[0] = Nic { host_name: "v;reboot".into(), joined, ..guest.nics[0].clone() };
        assert!(render(&guest, &places, &host(unified())).is_err());
    }
}

#[test]
fn privileged_nested_shifted() {
    let mut guest = guest();
    guest.root.shifted = guest.id_map;
    assert_eq!(diff(&text(&guest, &host(unified()))), ["-lxc.rootfs.options = idmap=container"]);
    guest.root.shifted = None;
    guest.nesting = true;
    let nested = [
        "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0",
        "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0",
        "lxc.seccomp.allow_nesting = 1",
    ];
    assert_eq!(diff(&text(&guest, &host(unified()))), nested);
    guest.nesting = false;
    guest.privileged = true;
    guest.id_map = None;
    let lines = diff(&text(&guest, &Host { apparmor: true, ..host(hybrid()) }));
    for line in [
        "-lxc.idmap = u 0 1000000 65536",
        "-lxc.rootfs.options = idmap=container",
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed",
        "lxc.apparmor.profile = generated",
        "lxc.cgroup.devices.deny = a",
        "lxc.cgroup.devices.allow = c 1:3 rwm",
    ] {
        assert!(lines.iter().any(|has| has == line), "{line} in {lines:#?}");
    }
    assert!(text(&guest, &host(unified())).contains("lxc.cgroup2.devices.deny = a"));
}

#[test]
fn nobody_writes_a_line_of_his_own() {
    let places =
        Places { folder: Path::new("/s"), prefix: "p", init: Init::Other, unseen: BTreeSet::from(["br0".to_owned()]) };
    let refused = |guest: &GuestSpec| assert!(render(guest, &places, &host(unified())).is_err());
    let mut bad = guest();
    bad.environment.insert("A".into(), "x\nlxc.cap.keep = sys_module".into());
    refused(&bad);
    let mut bad = guest();
    bad.hostname = "a\nb".into();
    refused(&bad);
    let mut bad = guest();
    bad.disks.push(Disk { device: "d".into(), source: "/".into(), path: "../../etc".into(), readonly: false });
    refused(&bad);
    let mut bad = guest();
    bad.id_map = None;
    refused(&bad);
}
