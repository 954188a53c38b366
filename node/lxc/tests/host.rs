//! The driver on the real host: busybox containers, privileged and with an id map. Skipped, loudly, where that cannot be.

#![allow(
    clippy::unwrap_used,
    reason = "tests may panic; the lint knows only those functions that are tests themselves"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use basalt_driver::{
    Error, ExecRequest, GuestAccess, GuestIo, GuestSpec, IdMap, InstanceDriver, Joined, Limits, Nic, RootFs, State,
    SwitchPort, testing,
};
use basalt_lxc::{LxcDriver, LxcOptions};
use basalt_model::instance::StopMode;
use basalt_model::{Epoch, Generation, InstanceId};
use basalt_runtime::{CommandRunner, ExecError, HostRunner, Invocation, Shutdown, Supervisor};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;

const APPLETS: [&str; 18] = [
    "sh", "true", "false", "echo", "cat", "sleep", "stty", "kill", "ls", "ps", "id", "env", "pwd", "wc", "poweroff",
    "reboot", "mount", "tty",
];

/// A place for guests; everything in it is destroyed with it.
struct Place {
    folder: tempfile::TempDir,
    prefix: String,
}

impl Place {
    /// `None`, with the reason printed, where containers cannot run.
    fn new() -> Option<Self> {
        let skip = |why: &str| {
            println!("skipped: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skip("not root");
        }
        if !Path::new("/usr/bin/lxc-start").exists() {
            return skip("lxc is not installed");
        }
        if !Path::new("/bin/busybox").exists() {
            return skip("busybox-static is not installed");
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("basalt-test/{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        // The guest's root user must be able to reach its root file system.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(folder.path(), open).unwrap();
        Some(Place { folder, prefix })
    }

    fn options(&self) -> LxcOptions {
        LxcOptions {
            state_dir: self.folder.path().join("state"),
            cgroup_prefix: self.prefix.clone(),
            runner: Arc::new(HostRunner),
            supervisor: Supervisor::new(Shutdown::new()),
        }
    }

    fn driver(&self) -> LxcDriver {
        LxcDriver::new(self.options()).unwrap()
    }

    /// A new guest with a root of its own.
    fn guest(&self, kind: Sort) -> GuestSpec {
        let id = InstanceId(uuid::Uuid::new_v4());
        let root = self.folder.path().join("roots").join(id.to_string());
        make_root(&root);
        guest(id, root, kind)
    }

    /// Cgroups of this place that exist.
    fn cgroups(&self) -> BTreeSet<PathBuf> {
        let mut mounts = vec![PathBuf::from("/sys/fs/cgroup")];
        mounts.extend(std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()));
        mounts.into_iter().map(|mount| mount.join(&self.prefix)).filter(|path| path.exists()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.cgroups(), BTreeSet::new(), "no cgroup is left");
            return;
        }
        let options = self.options();
        let clean = move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async move {
                let driver = LxcDriver::new(options).unwrap();
                for found in driver.list().await.unwrap() {
                    driver.destroy(found.id).await.unwrap();
                }
            });
        };
        let _ = std::thread::spawn(clean).join();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Privileged,
    Mapped,
}

fn guest(id: InstanceId, root: PathBuf, kind: Sort) -> GuestSpec {
    let map = IdMap { base: 1_000_000, size: 65536 };
    GuestSpec {
        id,
        epoch: Epoch(1),
        generation: Generation(1),
        start: 1,
        hostname: "guest".into(),
        project: "default".into(),
        architecture: std::env::consts::ARCH.into(),
        root: RootFs { path: root, shifted: None },
        id_map: (kind == Sort::Mapped).then_some(map),
        privileged: kind == Sort::Privileged,
        nesting: false,
        limits: Limits::default(),
        nics: Vec::new(),
        disks: Vec::new(),
        environment: Default::default(),
        raw: None,
    }
}

fn make_root(root: &Path) {
    for folder in ["bin", "sbin", "etc", "dev", "proc", "sys", "tmp", "root"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    symlink("../bin/busybox", root.join("sbin/init")).unwrap();
    std::fs::write(root.join("etc/inittab"), "::sysinit:/bin/echo booted\n::once:/bin/sleep 100000\n").unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
}

const CLEAN: StopMode = StopMode { force: false, timeout_secs: Some(20) };
const FORCE: StopMode = StopMode { force: true, timeout_secs: None };

async fn up(driver: &LxcDriver, guest: &GuestSpec) {
    driver.prepare(guest).await.unwrap();
    driver.start(guest).await.unwrap();
}

fn access(driver: &LxcDriver) -> &dyn GuestAccess {
    driver.access().unwrap()
}

/// Runs a shell script in the guest.
async fn sh(driver: &LxcDriver, id: InstanceId, script: &str) -> testing::Output {
    testing::output(access(driver), id, testing::request(&["sh", "-c", script]), Vec::new()).await
}

fn text(output: &testing::Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_privileged() {
    let Some(place) = Place::new() else { return };
    testing::suite(&place.driver(), || place.guest(Sort::Privileged)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_mapped() {
    let Some(place) = Place::new() else { return };
    testing::suite(&place.driver(), || place.guest(Sort::Mapped)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_the_driver() {
    let Some(place) = Place::new() else { return };
    testing::adoption(|| async { place.driver() }, place.guest(Sort::Mapped)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let mut events = driver.events().unwrap();
    let mut guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let kill = |found: basalt_driver::Found| async move {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(found.pid.unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    testing::exit_event(&driver, &mut events, guest.id, kill).await;
    // From inside, and seen by a driver that only adopted it.
    guest.start = 2;
    driver.start(&guest).await.unwrap();
    let adopting = place.driver();
    let mut events = adopting.events().unwrap();
    assert_eq!(adopting.list().await.unwrap().len(), 1);
    // It may be killed before it can tell its code.
    let off = |_| async { drop(sh(&adopting, guest.id, "poweroff").await) };
    testing::exit_event(&adopting, &mut events, guest.id, off).await;
    assert_eq!(adopting.inspect(guest.id).await.unwrap().unwrap().start, 2);
    adopting.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_from_inside_is_the_same_run() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let before = testing::found(&driver, guest.id).await;
    // It may be killed before it can tell its code.
    sh(&driver, guest.id, "reboot").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let now = testing::found(&driver, guest.id).await;
        assert_eq!((now.state, now.start), (State::Running, 1));
        if now.pid.is_some() && now.pid != before.pid {
            break;
        }
        assert!(Instant::now() < deadline, "it does not come up again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Known by its new init to the next driver, too.
    drop(driver);
    let driver = place.driver();
    driver.stop(guest.id, CLEAN).await.unwrap();
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_passes_much_and_all_of_it() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let blob = vec![0xa5u8; 100 << 20];
    let said = testing::output(access(&driver), guest.id, testing::request(&["cat"]), blob).await;
    assert_eq!((said.code, said.stdout.len(), said.stderr.len()), (0, 100 << 20, 0));
    assert!(said.stdout.iter().all(|byte| *byte == 0xa5));

    let said = sh(&driver, guest.id, "kill -9 $$").await;
    assert_eq!(said.code, 137);
    let said = testing::output(access(&driver), guest.id, testing::request(&["/etc/passwd"]), Vec::new()).await;
    assert_eq!(said.code, 126);
    let said = sh(&driver, guest.id, "echo out; echo err >&2; exit 42").await;
    assert_eq!((said.code, text(&said).as_str(), said.stderr.as_slice()), (42, "out", &b"err\n"[..]));
    let request = ExecRequest {
        cwd: Some("/tmp".into()),
        uid: 1234,
        gid: 5678,
        ..testing::request(&["sh", "-c", "pwd; id -u; id -g; id -G; echo \"$A\"; env | wc -l"])
    };
    let said = testing::output(access(&driver), guest.id, request, Vec::new()).await;
    // A, PATH, container, and what the shell adds: PWD, OLDPWD (from the change of folder), SHLVL.
    let lines: Vec<String> = text(&said).lines().map(str::to_owned).collect();
    assert_eq!(lines[..5], ["/tmp", "1234", "5678", "5678", "b c"].map(String::from), "{said:?}");
    assert!(lines[5].trim().parse::<u32>().unwrap() <= 7, "{said:?}");
    assert!(String::from_utf8_lossy(&sh(&driver, guest.id, "pwd").await.stdout).starts_with("/root\n"));
    driver.destroy(guest.id).await.unwrap();
}

/// Reads from a terminal until `mark` was seen.
fn read_until(master: &mut File, mark: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(mark) {
        let mut buffer = [0; 1024];
        let n = master.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_are_real() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let mut request = testing::request(&["sh"]);
    request.terminal = Some((91, 29));
    let (io, mut process) = access(&driver).exec(guest.id, request).await.unwrap();
    let GuestIo::Terminal(master) = io else { panic!("a terminal was asked for") };
    let mut master = File::from(master);
    master.write_all(b"tty; stty size; echo do''ne\n").unwrap();
    let (seen, mut master) =
        tokio::task::spawn_blocking(move || (read_until(&mut master, "done\r\n"), master)).await.unwrap();
    assert!(seen.contains("/dev/pts/") && seen.contains("29 91"), "{seen:?}");
    process.resize(132, 50).unwrap();
    // The size reaches the guest a moment later; it has no event but its own signal, so the guest waits for it.
    master.write_all(b"while [ \"$(stty size)\" != '50 132' ]; do sleep 0.05; done; echo res''ized\n").unwrap();
    let mut master =
        tokio::task::spawn_blocking(move || (read_until(&mut master, "resized\r\n"), master).1).await.unwrap();
    // Job control needs a controlling terminal: the interrupt reaches the program and not the shell.
    master.write_all(b"sleep 1000\n").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    master.write_all(b"\x03").unwrap();
    master.write_all(b"echo co''de $?; exit 7\n").unwrap();
    let seen = tokio::task::spawn_blocking(move || read_until(&mut master, "code 130")).await.unwrap();
    assert!(seen.contains("code 130"));
    assert_eq!(process.wait().await.unwrap(), 7);

    let mut request = testing::request(&["sleep", "1000"]);
    request.terminal = Some((80, 24));
    let (io, mut process) = access(&driver).exec(guest.id, request).await.unwrap();
    let GuestIo::Terminal(master) = io else { panic!("a terminal was asked for") };
    tokio::time::sleep(Duration::from_millis(300)).await;
    File::from(master.try_clone().unwrap()).write_all(b"\x03").unwrap();
    assert_eq!(process.wait().await.unwrap(), 130, "ended by the interrupt");
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_processes_do_not_stay() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    for terminal in [None, Some((80, 24))] {
        let mut request = testing::request(&["sh", "-c", "sleep 4321 & sleep 1234; true"]);
        request.terminal = terminal;
        let (io, process) = access(&driver).exec(guest.id, request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop((io, process));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let said = text(&sh(&driver, guest.id, "ps").await);
            if !said.contains("1234") && !said.contains("4321") {
                break;
            }
            assert!(Instant::now() < deadline, "{said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_talks() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    std::fs::write(guest.root.path.join("etc/inittab"), "::sysinit:/bin/echo booted\nconsole::respawn:-/bin/sh\n")
        .unwrap();
    up(&driver, &guest).await;
    let (io, process) = access(&driver).console(guest.id).await.unwrap();
    let GuestIo::Terminal(master) = io else { panic!("a console is a terminal") };
    let mut master = File::from(master);
    let talk = move || {
        // It may not listen yet: typed once more until it answers.
        master.write_all(b"\necho he''llo\n").unwrap();
        read_until(&mut master, "hello\r")
    };
    let seen = tokio::time::timeout(Duration::from_secs(30), tokio::task::spawn_blocking(talk)).await.unwrap().unwrap();
    assert!(seen.contains("hello"));
    drop(process);
    // The engine answers the terminal first and writes its log after that.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let log = String::from_utf8(access(&driver).console_log(guest.id).await.unwrap()).unwrap();
        if log.contains("booted") && log.contains("hello") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{log:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    driver.destroy(guest.id).await.unwrap();
}

/// A control file of the guest, wherever its controller is.
fn control(place: &Place, guest: &GuestSpec, one: &str, two: &str) -> String {
    let payload = format!("{}/{}/payload", place.prefix, guest.id);
    let (controller, _) = one.split_once('.').unwrap();
    let one = Path::new("/sys/fs/cgroup").join(controller).join(&payload).join(one);
    let two = Path::new("/sys/fs/cgroup").join(&payload).join(two);
    let path = if one.exists() { one } else { two };
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_applied_at_start_and_live() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let mut guest = place.guest(Sort::Mapped);
    guest.limits = Limits {
        cpu_set: Some(vec![0]),
        cpu_quota: Some((30_000, 100_000)),
        cpu_share_percent: None,
        memory: Some(64 << 20),
        processes: Some(50),
        ..Limits::default()
    };
    up(&driver, &guest).await;
    let read = |one, two| control(&place, &guest, one, two);
    assert_eq!(read("memory.limit_in_bytes", "memory.max"), (64u64 << 20).to_string());
    assert_eq!(read("pids.max", "pids.max"), "50");
    assert_eq!(read("cpuset.cpus", "cpuset.cpus"), "0");
    assert!(read("cpu.cfs_quota_us", "cpu.max").starts_with("30000"));
    let usage = driver.usage(guest.id).await.unwrap();
    assert_eq!(usage.memory_total, 64 << 20);
    assert!(usage.memory > 0 && usage.processes >= 1 && usage.cpu_ns > 0, "{usage:?}");

    guest.limits = Limits { memory: Some(128 << 20), cpu_share_percent: Some(50), ..Limits::default() };
    driver.prepare(&guest).await.unwrap();
    let read = |one, two| control(&place, &guest, one, two);
    assert_eq!(read("memory.limit_in_bytes", "memory.max"), (128u64 << 20).to_string());
    assert_eq!(read("pids.max", "pids.max"), "max");
    assert_ne!(read("cpuset.cpus", "cpuset.cpus"), "0");
    assert!(["-1", "max 100000"].contains(&read("cpu.cfs_quota_us", "cpu.max").as_str()));
    assert!(["512", "50"].contains(&read("cpu.shares", "cpu.weight").as_str()));
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_is_confined() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let status = text(&sh(&driver, guest.id, "cat /proc/1/status /proc/self/status").await);
    assert_eq!(status.matches("Seccomp:\t2").count(), 2, "{status}");
    let map = text(&sh(&driver, guest.id, "cat /proc/self/uid_map").await);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1000000", "65536"]);
    sh(&driver, guest.id, "echo x > /root/mine").await;
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(guest.root.path.join("root/mine")).unwrap());
    assert_eq!(owner, 0, "files on disk have the guest's own ids");
    driver.destroy(guest.id).await.unwrap();
}

async fn ip(args: &str) -> Result<String, ExecError> {
    Ok(HostRunner.run(Invocation::new("ip").args(args.split(' '))).await?.text())
}

/// Runs `test` on a thread in a network namespace of its own, with or without a `/sys` that shows it.
fn in_netns<F: Future<Output = ()>>(own_sys: bool, test: impl FnOnce() -> F + Send + 'static) {
    let enter = move || -> nix::Result<()> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
        if own_sys {
            let keep = tempfile::tempdir().unwrap();
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some("/sys/fs/cgroup"), keep.path(), none, bind, none)?;
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
            mount(Some(keep.path()), "/sys/fs/cgroup", none, bind, none)?;
            umount2(keep.path(), MntFlags::MNT_DETACH)?;
        }
        Ok(())
    };
    let run = move || match enter() {
        Ok(()) => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test()),
        Err(error) => println!("skipped: no network namespace: {error}"),
    };
    std::thread::spawn(run).join().unwrap();
}

async fn with_nic() {
    let Some(place) = Place::new() else { return };
    ip("link add br7 up type bridge").await.unwrap();
    let driver = place.driver();
    let mut guest = place.guest(Sort::Mapped);
    guest.nics.push(Nic {
        device: "nic".into(),
        name: "eth5".into(),
        host_name: "vtest7".into(),
        joined: Joined::Bridge("br7".into()),
        mac: "00:16:3e:01:02:03".parse().unwrap(),
        mtu: Some(1420),
    });
    let switched = Nic {
        device: "switched".into(),
        name: "eth6".into(),
        host_name: "vtest8".into(),
        // Nobody listens there: the guest starts nevertheless.
        joined: Joined::Program(SwitchPort {
            database: place.folder.path().join("db.sock"),
            bridge: "br-int".into(),
            port: "port".into(),
            keys: vec!["iface-id"],
        }),
        mac: "00:16:3e:01:02:04".parse().unwrap(),
        mtu: None,
    };
    guest.nics.push(switched);
    up(&driver, &guest).await;
    let host = ip("link show vtest8").await.unwrap();
    assert!(!host.contains("master") && host.contains(",UP"), "{host}");
    let pid = testing::found(&driver, guest.id).await.pid.unwrap().to_string();
    let features = ["--target", &pid, "--net", "ethtool", "--show-offload", "eth6"];
    let features = HostRunner.run(Invocation::new("nsenter").args(features)).await.unwrap().text();
    assert!(features.contains("tx-checksumming: off"), "{features}");
    let seen = text(&sh(&driver, guest.id, "cat /sys/class/net/eth5/address /sys/class/net/eth5/mtu").await);
    assert_eq!(seen, "00:16:3e:01:02:03\n1420");
    let host = ip("link show vtest7").await.unwrap();
    assert!(host.contains("master br7") && host.contains("mtu 1420") && host.contains(",UP"), "{host}");
    driver.stop(guest.id, FORCE).await.unwrap();
    assert!(ip("link show vtest7").await.is_err(), "it is gone");
    for start in 2..5 {
        // At once again, under the same name.
        driver.start(&GuestSpec { start, ..guest.clone() }).await.unwrap();
        driver.stop(guest.id, FORCE).await.unwrap();
    }
    driver.destroy(guest.id).await.unwrap();
}

#[test]
fn interfaces_join_their_bridge_and_go_with_the_guest() {
    in_netns(true, with_nic);
}

#[test]
fn interfaces_join_their_bridge_when_sys_shows_another_namespace() {
    in_netns(false, with_nic);
}

/// The file that a start writes first and last.
fn run_file(place: &Place, guest: &GuestSpec) -> PathBuf {
    place.folder.path().join("state/lxc").join(guest.id.to_string()).join("run.json")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_cut_off_is_found_out() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let mut guest = place.guest(Sort::Mapped);
    guest.start = 5;
    up(&driver, &guest).await;
    let after = testing::found(&driver, guest.id).await;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // As a crash left it: the start was written down, its result was not.
    let cut = format!(r#"{{"last":null,"starting":{{"start":5,"boot":"{}"}}}}"#, boot.trim());
    std::fs::write(run_file(&place, &guest), &cut).unwrap();
    let found = testing::found(&place.driver(), guest.id).await;
    assert_eq!((found.pid, found.state, found.start), (after.pid, State::Running, 5));
    // The machine lost the file.
    std::fs::write(run_file(&place, &guest), "").unwrap();
    let found = testing::found(&place.driver(), guest.id).await;
    assert_eq!((found.pid, found.state), (after.pid, State::Running));
    driver.stop(guest.id, FORCE).await.unwrap();
    // Nothing came of it: it never started.
    std::fs::write(run_file(&place, &guest), &cut).unwrap();
    let found = testing::found(&place.driver(), guest.id).await;
    assert_eq!((found.state, found.start), (State::Stopped, 0));
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_flight_when_the_agent_dies_is_waited_for() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    driver.prepare(&guest).await.unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let cut = format!(r#"{{"last":null,"starting":{{"start":1,"boot":"{}"}}}}"#, boot.trim());
    std::fs::write(run_file(&place, &guest), &cut).unwrap();
    let lxc = std::fs::canonicalize(place.folder.path().join("state/lxc")).unwrap();
    let folder = lxc.join(guest.id.to_string());
    let start = Invocation::new("/usr/bin/lxc-start")
        .args(["-P".to_owned(), lxc.to_string_lossy().into_owned(), "-n".to_owned(), guest.id.to_string()])
        .args(["-f".to_owned(), folder.join("config").to_string_lossy().into_owned(), "-d".to_owned()])
        .env("PATH", "/usr/sbin:/sbin");
    let started = basalt_runtime::spawn("start", async move { HostRunner.run(start).await });
    tokio::time::sleep(Duration::from_millis(3)).await;
    let found = testing::found(&place.driver(), guest.id).await;
    started.join().await.unwrap().unwrap();
    let later = testing::found(&place.driver(), guest.id).await;
    // Either it had not begun to exist when we looked, or we waited for it; then both agree.
    assert!(found.state == State::Stopped || found.pid == later.pid, "{found:?} {later:?}");
    driver.destroy(guest.id).await.unwrap();
    assert_eq!(place.driver().list().await.unwrap(), Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_ends_with_its_monitor_and_that_is_told() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let mut events = driver.events().unwrap();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let run = std::fs::read_to_string(run_file(&place, &guest)).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let monitor = i32::try_from(run["last"]["monitor"]["pid"].as_i64().unwrap()).unwrap();
    let kill = |_| async {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    testing::exit_event(&driver, &mut events, guest.id, kill).await;
    // The monitor removed none of its things.
    driver.start(&GuestSpec { start: 2, ..guest.clone() }).await.unwrap();
    assert_eq!(sh(&driver, guest.id, "true").await.code, 0);
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_says_why_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let mut guest = place.guest(Sort::Mapped);
    guest.raw = Some("lxc.net.0.type = veth\nlxc.net.0.link = no-such-bridge\n".into());
    driver.prepare(&guest).await.unwrap();
    let error = driver.start(&guest).await.unwrap_err();
    assert!(
        matches!(&error, Error::Step { doing: "start", detail, .. } if detail.contains("no-such-bridge")),
        "{error}"
    );
    let found = testing::found(&driver, guest.id).await;
    assert_eq!((found.state, found.start), (State::Stopped, 0));
    assert_eq!(
        place
            .cgroups()
            .iter()
            .flat_map(|path| std::fs::read_dir(path).unwrap())
            .filter(|e| e.as_ref().unwrap().path().is_dir())
            .count(),
        0
    );
    guest.raw = None;
    guest.generation = guest.generation.next();
    up(&driver, &guest).await;
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_guest_times_out_and_runs_on() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    std::fs::remove_file(guest.root.path.join("sbin/init")).unwrap();
    std::fs::write(guest.root.path.join("sbin/init"), "#!/bin/sh\nwhile true; do sleep 1000; done\n").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(guest.root.path.join("sbin/init"), open).unwrap();
    up(&driver, &guest).await;
    let short = StopMode { force: false, timeout_secs: Some(1) };
    assert!(matches!(driver.stop(guest.id, short).await, Err(Error::Timeout { secs: 1, .. })));
    assert_eq!(testing::found(&driver, guest.id).await.state, State::Running);
    driver.stop(guest.id, FORCE).await.unwrap();
    driver.destroy(guest.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_knows_the_host() {
    let Some(place) = Place::new() else { return };
    let probe = place.driver().probe().await;
    println!("{probe:#?}");
    assert!(probe.version.is_some_and(|version| version.chars().next().is_some_and(|c| c.is_ascii_digit())));
    assert_eq!(probe.features.get("freezer"), Some(&true));
}

/// A whole distribution, if one is given: a folder that holds a Debian root with systemd.
#[tokio::test(flavor = "multi_thread")]
async fn systemd_boots_and_shuts_down() {
    let Some(place) = Place::new() else { return };
    let Ok(root) = std::env::var("BASALT_TEST_DEBIAN_ROOT") else {
        println!("skipped: BASALT_TEST_DEBIAN_ROOT names no root file system");
        return;
    };
    let driver = place.driver();
    for (sort, nesting) in [(Sort::Mapped, false), (Sort::Mapped, true), (Sort::Privileged, false)] {
        let mut guest = guest(InstanceId(uuid::Uuid::new_v4()), PathBuf::from(&root), sort);
        guest.nesting = nesting;
        up(&driver, &guest).await;
        let wait = "until systemctl is-system-running --wait 2>/dev/null; do s=$(systemctl is-system-running); \
                    case $s in degraded) systemctl --failed; break;; esac; sleep 0.1; done";
        let said = sh(&driver, guest.id, wait).await;
        println!("{sort:?} nesting {nesting}: {}", text(&said));
        assert!(text(&sh(&driver, guest.id, "cat /proc/1/comm").await).contains("systemd"));
        let before = Instant::now();
        driver.stop(guest.id, CLEAN).await.unwrap();
        println!("clean stop {:?}", before.elapsed());
        // At once: systemd may not listen yet.
        guest.start = 2;
        driver.start(&guest).await.unwrap();
        driver.stop(guest.id, CLEAN).await.unwrap();
        driver.destroy(guest.id).await.unwrap();
    }
}

/// The agent of `the_agent_may_be_killed_at_any_moment`: does nothing when run as a test.
#[tokio::test(flavor = "multi_thread")]
async fn child_agent() {
    let (Ok(state), Ok(prefix)) = (std::env::var("CHILD_STATE"), std::env::var("CHILD_PREFIX")) else { return };
    let text = |name| std::env::var(name).unwrap();
    let supervisor = Supervisor::new(Shutdown::new());
    let runner = Arc::new(HostRunner);
    let driver =
        LxcDriver::new(LxcOptions { state_dir: state.into(), cgroup_prefix: prefix, runner, supervisor }).unwrap();
    let guest = guest(text("CHILD_ID").parse().unwrap(), text("CHILD_ROOT").into(), Sort::Mapped);
    for start in 1.. {
        let guest = GuestSpec { start, ..guest.clone() };
        driver.prepare(&guest).await.unwrap();
        driver.start(&guest).await.unwrap();
        driver.stop(guest.id, FORCE).await.unwrap();
        if start % 3 == 0 {
            driver.destroy(guest.id).await.unwrap();
        }
    }
}

/// Whether a program runs in the guest: not in one that is about to be gone.
async fn enters(driver: &LxcDriver, id: InstanceId) -> bool {
    match access(driver).exec(id, testing::request(&["true"])).await {
        Ok((_io, mut process)) => process.wait().await.is_ok_and(|code| code == 0),
        Err(Error::NotRunning { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn ends_soon(driver: &LxcDriver, id: InstanceId, round: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while testing::found(driver, id).await.state != State::Stopped {
        assert!(Instant::now() < deadline, "round {round}: it runs but cannot be entered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Monitors of this guest on the host.
fn monitors(id: InstanceId) -> usize {
    let lines =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.starts_with("[lxc monitor]") && line.contains(&id.to_string())).count()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the child is to be killed like an agent, not like a command of one")]
async fn the_agent_may_be_killed_at_any_moment() {
    let Some(place) = Place::new() else { return };
    let spec = place.guest(Sort::Mapped);
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let (mut running, mut none) = (0, 0);
    for round in 0..25 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_agent"])
            .env("CHILD_STATE", place.folder.path().join("state"))
            .env("CHILD_PREFIX", &place.prefix)
            .env("CHILD_ID", spec.id.to_string())
            .env("CHILD_ROOT", &spec.root.path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_micros(10_000 + (random >> 33) % 250_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();

        let driver = place.driver();
        match driver.inspect(spec.id).await.unwrap() {
            Some(found) if found.state == State::Running => {
                running += 1;
                if enters(&driver, spec.id).await {
                    let again = GuestSpec { start: found.start, ..spec.clone() };
                    driver.start(&again).await.unwrap();
                    assert_eq!(testing::found(&driver, spec.id).await.pid, found.pid);
                } else {
                    // The agent died just after it had killed the guest.
                    ends_soon(&driver, spec.id, round).await;
                }
            }
            Some(_) => {}
            None => none += 1,
        }
        assert!(monitors(spec.id) <= 1, "round {round}: two of one guest");
        let next = GuestSpec { start: 1000 + round, ..spec.clone() };
        driver.stop(spec.id, FORCE).await.unwrap();
        up(&driver, &next).await;
        assert_eq!(monitors(spec.id), 1, "round {round}");
        if round % 2 == 0 {
            driver.stop(spec.id, FORCE).await.unwrap();
        } else {
            driver.destroy(spec.id).await.unwrap();
        }
    }
    println!("found {running} times running, {none} times gone");
    place.driver().destroy(spec.id).await.unwrap();
    assert_eq!(monitors(spec.id), 0);
}

/// Not a claim, a report: what the driver adds to the engine's own start.
#[tokio::test(flavor = "multi_thread")]
async fn start_costs_little_more_than_the_engine() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let mut guest = place.guest(Sort::Mapped);
    driver.prepare(&guest).await.unwrap();
    let lxc = std::fs::canonicalize(place.folder.path().join("state/lxc")).unwrap();
    let config = lxc.join(guest.id.to_string()).join("config").to_string_lossy().into_owned();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for n in 0..7 {
        let start = Invocation::new("/usr/bin/lxc-start")
            .args(["-P".to_owned(), lxc.to_string_lossy().into_owned(), "-n".to_owned(), guest.id.to_string()])
            .args(["-f".to_owned(), config.clone(), "-d".to_owned()])
            .env("PATH", "/usr/sbin:/sbin");
        let run = run_file(&place, &guest);
        let _ = std::fs::remove_file(&run);
        let before = Instant::now();
        HostRunner.run(start).await.unwrap();
        bare.push(before.elapsed());
        std::fs::write(&run, "").unwrap();
        driver.stop(guest.id, FORCE).await.unwrap();
        guest.start = n + 10;
        let before = Instant::now();
        driver.start(&guest).await.unwrap();
        ours.push(before.elapsed());
        let before = Instant::now();
        driver.stop(guest.id, FORCE).await.unwrap();
        println!("forced stop {:?}", before.elapsed());
    }
    bare.sort();
    ours.sort();
    println!("start: bare {:?}, driver {:?} (medians of 7)", bare[3], ours[3]);
    driver.destroy(guest.id).await.unwrap();
}
