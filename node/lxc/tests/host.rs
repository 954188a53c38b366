//! The driver on the real host: busybox containers, privileged and with an id map. Skipped, loudly, where that cannot be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use basalt_driver::{
    Error, ExecRequest, GuestAccess, GuestIo, GuestSpec, IdMap, InstanceDriver, Limits, RootFs, State, testing,
};
use basalt_lxc::{LxcDriver, LxcOptions};
use basalt_model::instance::StopMode;
use basalt_model::{Epoch, Generation, InstanceId};
use basalt_runtime::{CommandRunner, HostRunner, Invocation, Shutdown, Supervisor};

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

    fn driver(&self) -> LxcDriver {
        LxcDriver::new(LxcOptions {
            state_dir: self.folder.path().join("state"),
            cgroup_prefix: self.prefix.clone(),
            runner: Arc::new(HostRunner),
            supervisor: Supervisor::new(Shutdown::new()),
        })
        .unwrap()
    }

    /// A new guest with a root of its own.
    fn guest(&self, kind: Sort) -> GuestSpec {
        let id = InstanceId(uuid::Uuid::new_v4());
        let root = self.folder.path().join("roots").join(id.to_string());
        make_root(&root);
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
        let (state, prefix) = (self.folder.path().join("state"), self.prefix.clone());
        let clean = move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async move {
                let supervisor = Supervisor::new(Shutdown::new());
                let options =
                    LxcOptions { state_dir: state, cgroup_prefix: prefix, runner: Arc::new(HostRunner), supervisor };
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
    let off = |_| async { assert_eq!(sh(&adopting, guest.id, "poweroff").await.code, 0) };
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
    assert_eq!(sh(&driver, guest.id, "reboot").await.code, 0);
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
    assert_eq!((said.code, said.stderr), (126, Vec::new()));
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
    assert!(String::from_utf8_lossy(&sh(&driver, guest.id, "pwd").await.stdout).starts_with("/\n"));
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
        read_until(&mut master, "hello\r\n")
    };
    let seen = tokio::time::timeout(Duration::from_secs(30), tokio::task::spawn_blocking(talk)).await.unwrap().unwrap();
    assert!(seen.contains("hello"));
    drop(process);
    let log = String::from_utf8(access(&driver).console_log(guest.id).await.unwrap()).unwrap();
    assert!(log.contains("booted") && log.contains("hello"), "{log:?}");
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
async fn a_guest_without_its_monitor_can_be_ended() {
    let Some(place) = Place::new() else { return };
    let driver = place.driver();
    let guest = place.guest(Sort::Mapped);
    up(&driver, &guest).await;
    let run = std::fs::read_to_string(run_file(&place, &guest)).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let monitor = i32::try_from(run["last"]["monitor"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), nix::sys::signal::Signal::SIGKILL).unwrap();
    let found = testing::found(&driver, guest.id).await;
    assert!(found.pid.is_some() && found.state == State::Running);
    driver.stop(guest.id, CLEAN).await.unwrap();
    assert_eq!(testing::found(&driver, guest.id).await.state, State::Stopped);
    driver.start(&GuestSpec { start: 2, ..guest.clone() }).await.unwrap();
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
