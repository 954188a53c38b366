//! Limits as values of control files: for the engine's config, and for a guest that runs.

use basalt_driver::Limits;

use super::{Layout, Version};

/// One control file and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) controller: &'static str,
    pub(crate) version: Version,
    pub(crate) file: &'static str,
    pub(crate) value: String,
}

/// A limit that the host has no controller for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} needs the cgroup controller {controller}, which this host does not have: \
         boot it with cgroup_enable={controller}, or mount it"
)]
pub(crate) struct NoController {
    key: &'static str,
    controller: &'static str,
}

/// A limit and where it is kept: its key for users, the controller, and the files of both versions.
struct Kind {
    key: &'static str,
    controller: &'static str,
    one: &'static str,
    two: &'static str,
}

const CPU_SET: Kind = Kind { key: "limits.cpu", controller: "cpuset", one: "cpuset.cpus", two: "cpuset.cpus" };
const PERIOD: Kind = Kind { key: "limits.cpu.allowance", controller: "cpu", one: "cpu.cfs_period_us", two: "cpu.max" };
const QUOTA: Kind = Kind { key: "limits.cpu.allowance", controller: "cpu", one: "cpu.cfs_quota_us", two: "cpu.max" };
const SHARE: Kind = Kind { key: "limits.cpu.allowance", controller: "cpu", one: "cpu.shares", two: "cpu.weight" };
const MEMORY: Kind =
    Kind { key: "limits.memory", controller: "memory", one: "memory.limit_in_bytes", two: "memory.max" };
const SOFT: Kind =
    Kind { key: "limits.memory.enforce", controller: "memory", one: "memory.soft_limit_in_bytes", two: "memory.high" };
const SWAP: Kind =
    Kind { key: "limits.memory.swap", controller: "memory", one: "memory.swappiness", two: "memory.swap.max" };
const PROCESSES: Kind = Kind { key: "limits.processes", controller: "pids", one: "pids.max", two: "pids.max" };

const DEFAULT_PERIOD: u64 = 100_000;

/// What a guest starts with: only what is limited.
pub(crate) fn settings(limits: &Limits, layout: &Layout) -> Result<Vec<Setting>, NoController> {
    let mut out = Vec::new();
    let mut add = |kind: &Kind, one: String, two: String| -> Result<(), NoController> {
        let missing = NoController { key: kind.key, controller: kind.controller };
        out.extend(setting(kind, layout.version(kind.controller).ok_or(missing)?, one, two));
        Ok(())
    };
    if let Some(set) = &limits.cpu_set {
        add(&CPU_SET, cpu_list(set), cpu_list(set))?;
    }
    if let Some((quota, period)) = limits.cpu_quota {
        add(&PERIOD, period.to_string(), String::new())?;
        add(&QUOTA, quota.to_string(), format!("{quota} {period}"))?;
    }
    if limits.cpu_share_percent.is_some() || limits.cpu_priority.is_some() {
        let (percent, behind) = (limits.cpu_share_percent.unwrap_or(100), behind(limits));
        add(&SHARE, shares(percent, behind), weight(percent, behind))?;
    }
    if let Some(bytes) = limits.memory {
        let kind = if limits.memory_soft { &SOFT } else { &MEMORY };
        add(kind, bytes.to_string(), bytes.to_string())?;
    }
    if limits.no_swap {
        add(&SWAP, "0".into(), "0".into())?;
    }
    if let Some(processes) = limits.processes {
        add(&PROCESSES, processes.to_string(), processes.to_string())?;
    }
    Ok(out)
}

/// What a running guest is to have: also that something is not limited (any more). `all_cpus` is the host's set.
pub(crate) fn live(limits: &Limits, layout: &Layout, all_cpus: &str) -> Result<Vec<Setting>, NoController> {
    let mut out = settings(limits, layout)?;
    let mut open = |limited: bool, kind: &Kind, one: &str, two: &str| {
        if let Some(version) = layout.version(kind.controller).filter(|_| !limited) {
            out.extend(setting(kind, version, one.to_owned(), two.to_owned()));
        }
    };
    open(limits.cpu_set.is_some(), &CPU_SET, all_cpus, "");
    open(limits.cpu_quota.is_some(), &QUOTA, "-1", &format!("max {DEFAULT_PERIOD}"));
    open(limits.cpu_share_percent.is_some() || limits.cpu_priority.is_some(), &SHARE, "1024", "100");
    open(limits.memory.is_some() && !limits.memory_soft, &MEMORY, "-1", "max");
    open(limits.memory.is_some() && limits.memory_soft, &SOFT, "-1", "max");
    open(limits.processes.is_some(), &PROCESSES, "max", "max");
    Ok(out)
}

/// `None` for what this version says elsewhere.
fn setting(kind: &Kind, version: Version, one: String, two: String) -> Option<Setting> {
    let (file, value) = match version {
        Version::One => (kind.one, one),
        // Quota and period are one file there.
        Version::Two if std::ptr::eq(kind.two, PERIOD.two) && two.is_empty() => return None,
        Version::Two => (kind.two, two),
    };
    Some(Setting { controller: kind.controller, version, file, value })
}

fn cpu_list(set: &[u32]) -> String {
    set.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// How far a guest stands behind others with the same share: a hundredth of it at most on version 1 of cgroups, a tenth
/// on version 2, whose weights are coarser.
fn behind(limits: &Limits) -> u32 {
    10 - limits.cpu_priority.unwrap_or(10).min(10)
}

/// 1024 is the share of a group that has no limit.
fn shares(percent: u32, behind: u32) -> String {
    (u64::from(percent) * 1024 / 100).saturating_sub(u64::from(behind)).clamp(2, 262_144).to_string()
}

/// 100 is the weight of a group that has no limit.
fn weight(percent: u32, behind: u32) -> String {
    percent.saturating_sub(behind).clamp(1, 10_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hybrid, unified};
    use super::*;

    fn all() -> Limits {
        Limits {
            cpu_set: Some(vec![0, 2]),
            cpu_quota: Some((20_000, 100_000)),
            cpu_share_percent: Some(50),
            memory: Some(1 << 30),
            processes: Some(64),
            ..Limits::default()
        }
    }

    fn text(settings: Vec<Setting>) -> Vec<String> {
        settings.into_iter().map(|s| format!("{} = {}", s.file, s.value)).collect()
    }

    #[test]
    fn both_versions() {
        let one = [
            "cpuset.cpus = 0,2",
            "cpu.cfs_period_us = 100000",
            "cpu.cfs_quota_us = 20000",
            "cpu.shares = 512",
            "memory.limit_in_bytes = 1073741824",
            "pids.max = 64",
        ];
        assert_eq!(text(settings(&all(), &hybrid()).unwrap()), one);
        let two = [
            "cpuset.cpus = 0,2",
            "cpu.max = 20000 100000",
            "cpu.weight = 50",
            "memory.max = 1073741824",
            "pids.max = 64",
        ];
        assert_eq!(text(settings(&all(), &unified()).unwrap()), two);
    }

    #[test]
    fn no_limits_are_written_only_to_running_guests() {
        let none = Limits::default();
        assert!(settings(&none, &hybrid()).unwrap().is_empty());
        let one = [
            "cpuset.cpus = 0-1",
            "cpu.cfs_quota_us = -1",
            "cpu.shares = 1024",
            "memory.limit_in_bytes = -1",
            "memory.soft_limit_in_bytes = -1",
            "pids.max = max",
        ];
        assert_eq!(text(live(&none, &hybrid(), "0-1").unwrap()), one);
        let two = [
            "cpuset.cpus = ",
            "cpu.max = max 100000",
            "cpu.weight = 100",
            "memory.max = max",
            "memory.high = max",
            "pids.max = max",
        ];
        assert_eq!(text(live(&none, &unified(), "0-1").unwrap()), two);
        let mut whole = text(settings(&all(), &unified()).unwrap());
        whole.push("memory.high = max".into());
        assert_eq!(text(live(&all(), &unified(), "0-1").unwrap()), whole);
    }

    #[test]
    fn priority_soft_memory_and_swap() {
        let limits = Limits {
            cpu_priority: Some(3),
            memory: Some(1 << 20),
            memory_soft: true,
            no_swap: true,
            ..Limits::default()
        };
        let one = ["cpu.shares = 1017", "memory.soft_limit_in_bytes = 1048576", "memory.swappiness = 0"];
        assert_eq!(text(settings(&limits, &hybrid()).unwrap()), one);
        let two = ["cpu.weight = 93", "memory.high = 1048576", "memory.swap.max = 0"];
        assert_eq!(text(settings(&limits, &unified()).unwrap()), two);
        let below = Limits { cpu_priority: Some(0), cpu_share_percent: Some(5), ..Limits::default() };
        assert_eq!(text(settings(&below, &unified()).unwrap()), ["cpu.weight = 1"]);
    }

    #[test]
    fn a_missing_controller_is_named() {
        let error = settings(&all(), &Layout::default()).unwrap_err().to_string();
        assert!(error.starts_with("limits.cpu needs the cgroup controller cpuset"), "{error}");
    }
}
