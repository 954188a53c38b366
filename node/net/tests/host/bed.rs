//! What the host tests stand on: a namespace, a state folder, a guest.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use basalt_net::{Host, HwAddr};
use basalt_runtime::{Attached, CommandRunner, ExecError, Finished, HostRunner, Invocation, Streaming};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// Runs a test in a network namespace of its own, or says why not.
pub(crate) fn in_namespace<F>(test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    for program in ["ip", "nft", "dnsmasq", "busybox", "nsenter", "unshare"] {
        let found =
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file());
        if !found {
            println!("skipped: {program} is not installed");
            return;
        }
    }
    let inside = move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("skipped: cannot make a network namespace: {errno}");
            return;
        }
        out("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    if let Err(panic) = thread::spawn(inside).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Output of a command that must succeed; words are split at spaces.
pub(crate) fn out(command: &str) -> String {
    try_out(command).unwrap_or_else(|stderr| panic!("{command}: {stderr}"))
}

/// Output, or what it said on failure.
pub(crate) fn try_out(command: &str) -> Result<String, String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Kills a process and waits until it holds nothing any more.
pub(crate) fn kill(pid: u32) {
    out(&format!("kill -9 {pid}"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < deadline, "{pid} does not die");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn make_proc_sys_read_only() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, "/proc/sys", none, read_only, none).unwrap();
}

/// A state folder; what a failed test leaves running is ended with it.
pub(crate) struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn host(&self) -> Host {
        Host::new(Arc::new(HostRunner), self.dir().to_owned())
    }

    /// The bridge's DHCP daemon, if exactly one runs.
    pub(crate) fn daemon(&self, bridge: &str) -> Option<u32> {
        let found = daemons(&format!("--pid-file={}", self.dir().join(bridge).display()));
        assert!(found.len() <= 1, "several daemons: {found:?}");
        found.first().copied()
    }

    /// Everything that must not change when nothing has to.
    pub(crate) fn picture(&self, bridge: &str) -> String {
        let mut picture = format!("daemon {:?}\n", self.daemon(bridge));
        picture += &out(&format!("ip addr show dev {bridge}"));
        picture += &out("nft -a list ruleset");
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.dir().join(bridge)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let meta = file.metadata().unwrap();
            picture += &format!("{} {} {}\n", file.display(), meta.ino(), meta.mtime_nsec());
        }
        picture
    }

    pub(crate) fn assert_clean(&self, bridge: &str) {
        assert_eq!(self.daemon(bridge), None);
        assert!(!out("nft list tables").contains(bridge));
        assert!(!out("ip -o link").contains(&format!(" {bridge}:")));
        assert!(!self.dir().join(bridge).exists());
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for pid in daemons(&format!("--pid-file={}/", self.dir().display())) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

/// Processes with an argument that starts so.
fn daemons(argument: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = command.split(|&byte| byte == 0);
        words.next() == Some(b"dnsmasq") && words.any(|word| word.starts_with(argument.as_bytes()))
    })
    .collect()
}

/// A second namespace with `eth0`, whose other end is in the test's.
pub(crate) struct Guest {
    holder: Child,
}

impl Guest {
    pub(crate) fn new(host_end: &str, mac: HwAddr) -> Self {
        let holder = Command::new("unshare").args(["--net", "sleep", "120"]).spawn().unwrap();
        let guest = Self { holder };
        let namespace = |path: String| fs::read_link(path).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while namespace(format!("/proc/{}/ns/net", guest.pid())) == namespace("/proc/thread-self/ns/net".to_owned()) {
            assert!(Instant::now() < deadline, "no namespace");
            thread::sleep(Duration::from_millis(5));
        }
        let pid = guest.pid();
        out(&format!("ip link add {host_end} type veth peer name eth0 address {mac} netns {pid}"));
        guest
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs a command inside.
    pub(crate) fn run(&self, command: &str) -> String {
        out(&format!("nsenter -t {} -n {command}", self.pid()))
    }

    pub(crate) fn try_run(&self, command: &str) -> Result<String, String> {
        try_out(&format!("nsenter -t {} -n {command}", self.pid()))
    }

    /// Does something in its namespace. Sockets stay in the one that they were made in.
    pub(crate) fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let inside = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        thread::spawn(inside).join().unwrap()
    }

    /// Asks for an address, sets it, and tells it.
    pub(crate) fn dhcp(&self, bed: &Bed, hostname: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let (script, answer) = (bed.dir().join("udhcpc.sh"), bed.dir().join("answer"));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev eth0\n\
             ip addr add $ip/24 dev eth0\nip route replace default via $router\necho $ip > {}\n",
            answer.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(&answer);
        self.run("ip link set eth0 up");
        self.run(&format!("busybox udhcpc -i eth0 -f -q -n -t 10 -T 1 -x hostname:{hostname} -s {}", script.display()));
        fs::read_to_string(answer).unwrap().trim().to_owned()
    }

    pub(crate) fn resolve(&self, name: &str, server: &str) -> String {
        self.run(&format!("busybox nslookup -type=a {name} {server}")).split("Name:").skip(1).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs commands until one of them, by number, cannot be started.
#[derive(Debug)]
pub(crate) struct FailingRunner {
    left: AtomicUsize,
}

impl FailingRunner {
    pub(crate) fn new(good: usize) -> Self {
        Self { left: AtomicUsize::new(good) }
    }

    fn check(&self, invocation: &Invocation) -> Result<(), ExecError> {
        let spend = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).map(drop).map_err(|_| ExecError::Spawn {
            program: invocation.program.clone(),
            source: std::io::Error::other("cut off"),
        })
    }
}

#[async_trait::async_trait]
impl CommandRunner for FailingRunner {
    async fn run(&self, invocation: Invocation) -> Result<Finished, ExecError> {
        self.check(&invocation)?;
        HostRunner.run(invocation).await
    }

    async fn stream(&self, invocation: Invocation) -> Result<Streaming, ExecError> {
        self.check(&invocation)?;
        HostRunner.stream(invocation).await
    }

    async fn attach(&self, invocation: Invocation, stdio: [std::os::fd::OwnedFd; 3]) -> Result<Attached, ExecError> {
        self.check(&invocation)?;
        HostRunner.attach(invocation, stdio).await
    }
}
