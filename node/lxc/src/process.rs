//! Processes of the host, told from later ones with the same number by their start time.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, for as long as the host is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Clock ticks from boot to its start: field 22 of `/proc/PID/stat`.
    since: u64,
}

impl Process {
    /// The process that has `pid` now; `None` when there is none, or only its zombie.
    pub(crate) fn find(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, since) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Process { pid, since })
    }

    pub(crate) fn alive(self) -> bool {
        Process::find(self.pid) == Some(self)
    }

    /// A descriptor of it: from then on its number may be reused without harm.
    pub(crate) fn open(self) -> io::Result<Option<Handle>> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("not a pid"))?;
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only now is it sure whom the descriptor means.
        Ok(self.alive().then_some(Handle(fd)))
    }

    /// Waits until it has ended. Cancel-safe.
    pub(crate) async fn ended(self) -> io::Result<()> {
        match self.open()? {
            None => Ok(()),
            Some(handle) => handle.ended().await,
        }
    }

    /// The same for at most `limit`; tells whether it has ended.
    pub(crate) async fn ended_within(self, limit: Duration) -> io::Result<bool> {
        match tokio::time::timeout(limit, self.ended()).await {
            Ok(ended) => ended.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Kills it; fine when it has ended.
    pub(crate) fn kill(self) -> io::Result<()> {
        match self.open()? {
            None => Ok(()),
            Some(handle) => handle.signal(Signal::KILL),
        }
    }

    /// Its children now.
    pub(crate) fn children(self) -> Vec<u32> {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return Vec::new() };
        let mut children = Vec::new();
        for task in tasks.flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        children
    }

    /// Name of the program file, as the process sees it.
    pub(crate) fn program(self) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        Some(path.file_name()?.to_string_lossy().into_owned())
    }

    /// Signals that it handles, or blocks in order to fetch them: bit n-1 is signal n.
    pub(crate) fn handled_signals(self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        ["SigCgt:", "SigBlk:"].iter().fold(0, |all, key| all | mask(&status, key))
    }

    /// How many process namespaces it is in, counted from ours: more than one for what runs inside a container.
    pub(crate) fn depth(self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        line(&status, "NSpid:").map_or(0, |pids| pids.split_whitespace().count())
    }

    /// The process group it is in.
    pub(crate) fn group(self) -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        fields(&stat)?.nth(2)?.parse().ok()
    }
}

/// A descriptor of a process.
#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// Fine when it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn ended(self) -> io::Result<()> {
        // Readable from its end on, and for ever.
        #[expect(deprecated, reason = "what replaces it is unsafe; the descriptor is owned here and nowhere else")]
        let fd = AsyncFd::with_interest(self.0, Interest::READABLE)?;
        fd.readable().await.map(drop)
    }
}

/// The init of the container that `monitor` watches over.
pub(crate) fn init_of(monitor: Process) -> Option<Process> {
    let inits = monitor.children().into_iter().filter_map(Process::find);
    inits.into_iter().find(|child| child.depth() > monitor.depth())
}

/// What of the engine runs for the container `name` under `lxc_path`, found by its command line.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    /// `lxc-start` in its foreground half.
    pub(crate) starting: Option<Process>,
    pub(crate) monitor: Option<Process>,
}

/// Looks at every process of the host: only for what a crash left in doubt.
pub(crate) fn find_engine(lxc_path: &Path, name: &str) -> io::Result<Engine> {
    let mut found = Engine::default();
    // The monitor rewrites its command line to one text, cut off where the first one ended.
    let title = format!("[lxc monitor] {} {name}", lxc_path.display());
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.trim_end_matches('\0') == title {
            found.monitor = Process::find(pid);
        } else if is_start(&line, lxc_path, name) {
            found.starting = Process::find(pid);
        }
    }
    Ok(found)
}

fn is_start(line: &str, lxc_path: &Path, name: &str) -> bool {
    let args: Vec<&str> = line.split('\0').collect();
    let follows = |flag: &str, value: &str| args.windows(2).any(|pair| pair == [flag, value]);
    args.first().is_some_and(|program| program.ends_with("lxc-start"))
        && follows("-P", &lxc_path.to_string_lossy())
        && follows("-n", name)
}

/// Fields of `/proc/PID/stat` from the third on: before it comes the name, which may hold anything.
fn fields(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = fields(stat)?;
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn line<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key))
}

fn mask(status: &str, key: &str) -> u64 {
    line(status, key).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_hostile_names() {
        let stat = "12 (a) S 1 (x) R 3) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn this_process_is_alive_and_no_other_with_its_number() {
        let me = Process::find(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(!Process { since: me.since + 1, ..me }.alive());
        assert!(me.open().unwrap().is_some());
        assert_eq!(me.depth(), 1.max(me.depth()));
    }

    #[test]
    fn start_commands_are_known_by_path_and_name() {
        let path = Path::new("/s/lxc");
        assert!(is_start("/usr/bin/lxc-start\0-P\0/s/lxc\0-n\0a\0-d\0", path, "a"));
        assert!(!is_start("/usr/bin/lxc-start\0-P\0/s/lxc\0-n\0ab\0", path, "a"));
        assert!(!is_start("/usr/bin/lxc-start\0-P\0/t/lxc\0-n\0a\0", path, "a"));
        assert!(!is_start("vi\0-P\0/s/lxc\0-n\0a\0", path, "a"));
    }
}
