//! Values that cross the port: what a guest is to be, and what was found of one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use basalt_model::{Epoch, Generation, InstanceId, Mac, Timestamp};

/// A contiguous map of guest ids 0..`size` to host ids from `base`, for uids and gids alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    pub base: u32,
    pub size: u32,
}

/// The guest's root file system, as storage gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// The folder that becomes `/`.
    pub path: PathBuf,
    /// `None`: ids on disk are the guest's own (0 is root), and the mount must map them. `Some`: files were shifted to
    /// this map on disk, because the file system cannot be mounted with an id map.
    pub shifted: Option<IdMap>,
}

/// Who joins the host's end of an interface to its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// The engine does, to this Linux bridge.
    Bridge(String),
    /// The kernel's part of a switch takes the interface by its name, each time that one appears.
    Kernel,
    /// A switch that is a program.
    Program(SwitchPort),
}

/// A port of a switch that is a program. Such a one does not notice that an interface was made anew under the same name,
/// as at each reboot that a guest does by itself: it is told so by whoever makes it. And it reads packets as the guest
/// wrote them: the guest must fill in checksums, and not leave that to a card that will never see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchPort {
    /// The socket of the switch's database.
    pub database: PathBuf,
    pub bridge: String,
    /// The logical port that the interface is.
    pub port: String,
    /// Keys of the interface's `external_ids` that hold the port's name.
    pub keys: Vec<&'static str>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Device name in the instance's configuration.
    pub device: String,
    /// Interface name inside the guest, e.g. `eth0`.
    pub name: String,
    /// Interface name on the host, at most 15 characters, unique on the host.
    pub host_name: String,
    pub joined: Joined,
    pub mac: Mac,
    pub mtu: Option<u32>,
}

/// A host folder or file bound into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub device: String,
    pub source: PathBuf,
    /// Absolute path inside the guest.
    pub path: String,
    pub readonly: bool,
}

/// Parsed limits; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Host CPUs the guest may run on, from `limits.cpu` (a count is made a set by the agent).
    pub cpu_set: Option<Vec<u32>>,
    /// Hard quota: run at most `.0` out of each `.1` microseconds, from `limits.cpu.allowance=20ms/100ms`.
    pub cpu_quota: Option<(u64, u64)>,
    /// Soft share in percent, from `limits.cpu.allowance=50%`.
    pub cpu_share_percent: Option<u32>,
    /// 0 to 10, from `limits.cpu.priority`: who goes first among those with the same share.
    pub cpu_priority: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Whether `memory` only holds while the host is short of it.
    pub memory_soft: bool,
    /// Whether memory must not be swapped out.
    pub no_swap: bool,
    pub processes: Option<u64>,
    /// Limits of each process by their names (`nofile`), as numbers, `unlimited`, or `soft:hard`.
    pub rlimits: BTreeMap<String, String>,
    /// Settings of the guest's kernel (`net.ipv4.ip_forward`).
    pub sysctls: BTreeMap<String, String>,
}

/// Everything a driver needs to make and start a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSpec {
    pub id: InstanceId,
    pub epoch: Epoch,
    /// Generation of the configuration that this was made from.
    pub generation: Generation,
    /// Which start of the instance this is (`Run::start`); stamped on the running guest.
    pub start: u64,
    pub hostname: String,
    pub project: String,
    pub architecture: String,
    pub root: RootFs,
    /// `None` for a privileged container.
    pub id_map: Option<IdMap>,
    pub privileged: bool,
    pub nesting: bool,
    pub limits: Limits,
    pub nics: Vec<Nic>,
    pub disks: Vec<Disk>,
    /// `environment.*`.
    pub environment: BTreeMap<String, String>,
    /// `raw.lxc`, lines for the engine's own config.
    pub raw: Option<String>,
}

/// Whether a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Stopped,
    Running,
    Frozen,
}

/// One guest as found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: InstanceId,
    /// Stamped on its runtime folder.
    pub epoch: Epoch,
    pub state: State,
    /// The `start` stamped when the guest was last started; 0 if never.
    pub start: u64,
    /// Generation that its runtime config was written from.
    pub generation: Generation,
    /// Host pid of its init while it runs.
    pub pid: Option<u32>,
    pub started_at: Option<Timestamp>,
    /// Whether the last start happened in the host's present boot: if not, a stopped guest ended with the host.
    pub same_boot: bool,
}

/// A wake-up. What happened is to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub id: InstanceId,
}

/// What the host has for a driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// The engine's version when it can run guests here.
    pub version: Option<String>,
    /// What is missing or degraded, each with what to do about it.
    pub lacks: Vec<String>,
    /// Facts for `GET /1.0` (`lxc_features`, `kernel_features`).
    pub features: BTreeMap<String, bool>,
}

/// What a running guest uses now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time used, nanoseconds: user and system together, then each (0 where the host does not say).
    pub cpu_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    /// Bytes.
    pub memory: u64,
    pub memory_peak: u64,
    pub swap: u64,
    /// The limit, or the host's memory.
    pub memory_total: u64,
    /// What the memory is used for, in bytes, under the kernel's names: `active_anon`, `active_file`, `inactive_anon`,
    /// `inactive_file`, `file`, `file_dirty`, `file_mapped`, `file_writeback`, `shmem`, `unevictable`.
    pub memory_parts: BTreeMap<String, u64>,
    pub processes: u64,
    pub oom_kills: u64,
    /// CPUs it may use; 0 where the host does not say.
    pub cpus: u32,
    /// By block device of the host (`sda`); none where the host does not count.
    pub disks: BTreeMap<String, DiskUse>,
}

/// What went between a guest and a block device since the guest was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// Bytes, and requests that were completed.
    pub read_bytes: u64,
    pub reads: u64,
    pub written_bytes: u64,
    pub writes: u64,
}
