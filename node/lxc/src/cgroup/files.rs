//! The control groups of one instance, as files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use basalt_driver::{DiskUse, Usage};

use super::{Layout, Setting, Version, disk};
use crate::process::Process;
use crate::record::gone;

/// How long freezing or emptying a group may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The kernel tells of neither by an event on version 1; both take microseconds to few milliseconds.
const STEP: Duration = Duration::from_millis(5);

/// The groups of one instance.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    layout: &'a Layout,
    /// `<prefix>/<instance id>`, below each mount.
    path: PathBuf,
}

impl<'a> Group<'a> {
    pub(crate) fn new(layout: &'a Layout, prefix: &str, name: &str) -> Self {
        Group { layout, path: Path::new(prefix).join(name) }
    }

    /// The control file of the guest.
    fn file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        Some(self.layout.mount(controller)?.join(&self.path).join("payload").join(file))
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        std::fs::read_to_string(self.file(controller, file)?).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.read(controller, file)?.trim().parse().ok()
    }

    /// Writes one limit of a running guest, unless it is so already.
    pub(crate) fn apply(&self, setting: &Setting) -> io::Result<()> {
        let Some(path) = self.file(setting.controller, setting.file) else { return Ok(()) };
        if std::fs::read_to_string(&path)?.trim() == setting.value {
            return Ok(());
        }
        std::fs::write(&path, format!("{}\n", setting.value))
            .map_err(|error| io::Error::new(error.kind(), format!("{} = {}: {error}", setting.file, setting.value)))
    }

    /// The CPUs that a guest without a limit may use.
    pub(crate) fn all_cpus(&self) -> String {
        let root = self.layout.mount("cpuset").map(|mount| mount.join("cpuset.cpus"));
        root.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default().trim().to_owned()
    }

    /// Where the freezer's files are: its own hierarchy, or any group of the unified one.
    fn freezer(&self) -> Option<(Version, PathBuf)> {
        if let Some(mount) = self.layout.one.get("freezer") {
            return Some((Version::One, mount.join(&self.path).join("payload")));
        }
        let (mount, _) = self.layout.two.as_ref()?;
        Some((Version::Two, mount.join(&self.path).join("payload")))
    }

    /// Whether the guest is frozen, or about to be.
    pub(crate) fn frozen(&self) -> bool {
        let Some((version, path)) = self.freezer() else { return false };
        let file = match version {
            Version::One => "freezer.state",
            Version::Two => "cgroup.freeze",
        };
        let state = std::fs::read_to_string(path.join(file)).unwrap_or_default();
        matches!(state.trim(), "FROZEN" | "FREEZING" | "1")
    }

    /// Freezes or thaws, and returns when that is done.
    pub(crate) async fn freeze(&self, freeze: bool) -> io::Result<()> {
        let (version, path) = self.freezer().ok_or_else(|| io::Error::other("this host has no freezer cgroup"))?;
        let (file, value) = match (version, freeze) {
            (Version::One, true) => ("freezer.state", "FROZEN"),
            (Version::One, false) => ("freezer.state", "THAWED"),
            (Version::Two, true) => ("cgroup.freeze", "1"),
            (Version::Two, false) => ("cgroup.freeze", "0"),
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            // Version 1 may need the order again when processes forked meanwhile.
            std::fs::write(path.join(file), value)?;
            let done = match version {
                Version::One => std::fs::read_to_string(path.join(file))?.trim() == value,
                Version::Two => flat(&std::fs::read_to_string(path.join("cgroup.events"))?, "frozen")
                    .is_some_and(|frozen| (frozen == 1) == freeze),
            };
            if done {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{file} does not become {value}")));
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// What the guest uses now.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = match self.layout.version("memory") {
            Some(Version::One) => self.memory_one(),
            Some(Version::Two) => self.memory_two(),
            None => Usage::default(),
        };
        let host = host_memory();
        usage.memory_total = if usage.memory_total == 0 { host } else { usage.memory_total.min(host) };
        usage.processes = self.number("pids", "pids.current").unwrap_or(0);
        usage.cpus = self.cpus();
        usage.disks = self.disks();
        self.cpu(&mut usage);
        usage
    }

    /// What went to and from the host's disks, as far as it is counted. Version 1 counts what its throttle sees, which is
    /// nothing on a host where no limit was ever set: then there is no device in its files.
    fn disks(&self) -> BTreeMap<String, DiskUse> {
        let read = |controller, file| self.read(controller, file).unwrap_or_default();
        let by_number = match (self.layout.version("blkio"), self.layout.version("io")) {
            (Some(_), _) => disk::of_throttle(
                &read("blkio", "blkio.throttle.io_service_bytes_recursive"),
                &read("blkio", "blkio.throttle.io_serviced_recursive"),
            ),
            (None, Some(_)) => disk::of_stat(&read("io", "io.stat")),
            (None, None) => BTreeMap::new(),
        };
        by_number.into_iter().map(|(number, used)| (disk::name(&number), used)).collect()
    }

    /// How many CPUs the guest may use.
    fn cpus(&self) -> u32 {
        let file = match self.layout.version("cpuset") {
            Some(Version::One) => "cpuset.effective_cpus",
            Some(Version::Two) => "cpuset.cpus.effective",
            None => return 0,
        };
        self.read("cpuset", file).map_or(0, |text| count(&text))
    }

    fn cpu(&self, usage: &mut Usage) {
        if self.layout.version("cpuacct") == Some(Version::One) {
            let ns = |file| self.number("cpuacct", file).unwrap_or(0);
            usage.cpu_ns = ns("cpuacct.usage");
            usage.cpu_user_ns = ns("cpuacct.usage_user");
            usage.cpu_system_ns = ns("cpuacct.usage_sys");
            return;
        }
        let stat = self.read("cpu", "cpu.stat").unwrap_or_default();
        let ns = |key| flat(&stat, key).unwrap_or(0).saturating_mul(1000);
        usage.cpu_ns = ns("usage_usec");
        usage.cpu_user_ns = ns("user_usec");
        usage.cpu_system_ns = ns("system_usec");
    }

    fn memory_one(&self) -> Usage {
        let number = |file| self.number("memory", file).unwrap_or(0);
        let stat = self.read("memory", "memory.stat").unwrap_or_default();
        let oom = self.read("memory", "memory.oom_control").unwrap_or_default();
        Usage {
            memory: number("memory.usage_in_bytes"),
            memory_peak: number("memory.max_usage_in_bytes"),
            memory_total: number("memory.limit_in_bytes"),
            swap: flat(&stat, "swap").unwrap_or(0),
            memory_parts: parts(&stat, &PARTS_ONE),
            oom_kills: flat(&oom, "oom_kill").unwrap_or(0),
            ..Usage::default()
        }
    }

    fn memory_two(&self) -> Usage {
        // A limit of `max` is no number, and neither is the peak of an old kernel.
        let number = |file| self.number("memory", file).unwrap_or(0);
        let events = self.read("memory", "memory.events").unwrap_or_default();
        let stat = self.read("memory", "memory.stat").unwrap_or_default();
        Usage {
            memory: number("memory.current"),
            memory_peak: number("memory.peak"),
            memory_total: number("memory.max"),
            swap: number("memory.swap.current"),
            oom_kills: flat(&events, "oom_kill").unwrap_or(0),
            memory_parts: parts(&stat, &PARTS_TWO),
            ..Usage::default()
        }
    }

    /// Whether any group of the instance exists.
    pub(crate) fn exists(&self) -> bool {
        self.layout.mounts().iter().any(|mount| mount.join(&self.path).exists())
    }

    /// Removes all groups of the instance, killing what is still inside. Only when its monitor has ended.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        for mount in self.layout.mounts() {
            let top = mount.join(&self.path);
            let deadline = Instant::now() + LIMIT;
            // Processes leave a group a moment after their end was told.
            while let Err(error) = remove_tree(&top) {
                if error.raw_os_error() != Some(nix::libc::EBUSY) || Instant::now() > deadline {
                    return Err(io::Error::new(error.kind(), format!("remove cgroup {}: {error}", top.display())));
                }
                kill_tree(&top)?;
                tokio::time::sleep(STEP).await;
            }
        }
        Ok(())
    }

    /// Removes the node's own groups above it, as far as they are empty.
    pub(crate) fn remove_prefix(&self) {
        for mount in self.layout.mounts() {
            let parents = self.path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
            for parent in parents {
                // Another instance's group is in it, and so it stays.
                if std::fs::remove_dir(mount.join(parent)).is_err() {
                    break;
                }
            }
        }
    }
}

/// A value of a file with lines of `key value`.
/// Names in `memory.stat`: version 2's, and what version 1 calls them, with what is in groups below.
const PARTS_TWO: [(&str, &str); 10] = [
    ("active_anon", "active_anon"),
    ("active_file", "active_file"),
    ("inactive_anon", "inactive_anon"),
    ("inactive_file", "inactive_file"),
    ("file", "file"),
    ("file_dirty", "file_dirty"),
    ("file_mapped", "file_mapped"),
    ("file_writeback", "file_writeback"),
    ("shmem", "shmem"),
    ("unevictable", "unevictable"),
];
const PARTS_ONE: [(&str, &str); 10] = [
    ("active_anon", "total_active_anon"),
    ("active_file", "total_active_file"),
    ("inactive_anon", "total_inactive_anon"),
    ("inactive_file", "total_inactive_file"),
    ("file", "total_cache"),
    ("file_dirty", "total_dirty"),
    ("file_mapped", "total_mapped_file"),
    ("file_writeback", "total_writeback"),
    ("shmem", "total_shmem"),
    ("unevictable", "total_unevictable"),
];

fn parts(stat: &str, names: &[(&str, &str)]) -> BTreeMap<String, u64> {
    names.iter().filter_map(|(name, key)| Some(((*name).to_owned(), flat(stat, key)?))).collect()
}

/// How many numbers a list like `0-2,5` has.
fn count(list: &str) -> u32 {
    let range = |part: &str| -> Option<u32> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.trim().split(',').filter_map(range).sum()
}

fn flat(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok());
    text.lines().find_map(value).flatten()
}

fn host_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

fn subgroups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut groups = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            groups.push(entry.path());
        }
    }
    Ok(groups)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for group in subgroups(path)? {
        remove_tree(&group)?;
    }
    gone(std::fs::remove_dir(path))
}

fn kill_tree(path: &Path) -> io::Result<()> {
    for group in subgroups(path)? {
        kill_tree(&group)?;
    }
    let pids = match std::fs::read_to_string(path.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for process in pids.lines().filter_map(|pid| Process::find(pid.parse().ok()?)) {
        process.kill()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        assert_eq!(["0", "0-1\n", "0-2,5", "", "x-y"].map(count), [1, 2, 4, 0, 0]);
    }

    #[test]
    fn memory_has_the_same_parts_on_both_versions() {
        let one = parts("active_anon 1\ntotal_active_anon 7\ntotal_cache 9\n", &PARTS_ONE);
        assert_eq!(one, parts("active_anon 7\nfile 9\nfile_thp 3\n", &PARTS_TWO));
    }

    #[test]
    fn flat_files() {
        let text = "low 0\noom 3\noom_kill 2\n";
        assert_eq!(flat(text, "oom_kill"), Some(2));
        assert_eq!(flat(text, "oom"), Some(3));
        assert_eq!(flat(text, "max"), None);
    }

    #[test]
    fn the_host_has_memory() {
        assert!(host_memory() > 1 << 20);
    }
}
