//! Facts that the pure code may not look up itself: the time, fresh ids, what machine this is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use basalt_model::Timestamp;

/// A clock that never goes backwards within one agent's life, whatever is done to the host's.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Now, in microseconds; each call returns more than the last.
    pub fn now(&self) -> Timestamp {
        let host = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        let last = self.0.fetch_max(host, Ordering::SeqCst);
        match last < host {
            true => Timestamp(host),
            false => Timestamp(self.0.fetch_add(1, Ordering::SeqCst) + 1),
        }
    }
}

/// What machine this is, read once at start.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub hostname: String,
    pub kernel: String,
    pub kernel_version: String,
    pub architecture: String,
    pub os_name: String,
    pub os_version: String,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
}

impl Machine {
    /// Reads uname(2), /etc/os-release and /proc/meminfo; what cannot be read is left empty.
    pub fn read() -> Self {
        let uname = nix::sys::utsname::uname();
        let word = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
        let (kernel, kernel_version, architecture, hostname) = match &uname {
            Ok(u) => (word(u.sysname()), word(u.release()), word(u.machine()), word(u.nodename())),
            Err(_) => Default::default(),
        };
        let release = os_release();
        let from = |key: &str| release.get(key).cloned().unwrap_or_default();
        Machine {
            hostname,
            kernel,
            kernel_version,
            architecture,
            os_name: from("NAME"),
            os_version: from("VERSION_ID"),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory: meminfo("MemTotal").unwrap_or(0),
        }
    }
}

fn os_release() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// A value of /proc/meminfo (proc(5)), in bytes.
pub fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The 1-minute load average.
pub fn load1() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Time since the host's boot.
pub fn uptime() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let secs = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    std::time::Duration::from_secs_f64(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_repeats() {
        let clock = Clock::default();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now > last);
            last = now;
        }
    }
}
