//! The text of the page: built from memory, no call to the host.

use std::collections::BTreeMap;
use std::fmt::Write;

use prometheus::{Encoder, Registry, TextEncoder};

use crate::port::LiveState;

/// One instance's samples.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) project: String,
    /// `container` or `virtual-machine`.
    pub(crate) kind: &'static str,
    pub(crate) live: LiveState,
}

/// Figures of the daemon itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Daemon {
    pub(crate) uptime_secs: f64,
    pub(crate) operations: usize,
    pub(crate) warnings: usize,
}

/// One metric with its samples: labels, written out and sorted, and a value.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

/// Whose names the figures of instances and of the daemon have; what is in the registry has ours in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Lxd,
    Incus,
    /// As Prometheus's own rules would have them.
    Basalt,
}

impl Names {
    /// Reads `?format=`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "lxd" => Some(Names::Lxd),
            "incus" => Some(Names::Incus),
            "basalt" => Some(Names::Basalt),
            _ => None,
        }
    }

    /// The whole name of what LXD and Incus call `name` after their prefix.
    fn name(self, name: &str) -> String {
        match self {
            Names::Lxd => format!("lxd_{name}"),
            Names::Incus => format!("incus_{name}"),
            Names::Basalt => match OURS.iter().find(|(theirs, _)| *theirs == name) {
                Some((_, ours)) => format!("basalt_{ours}"),
                None => format!("basalt_instance_{}", name.to_ascii_lowercase()),
            },
        }
    }
}

/// Names that are not simply put under `basalt_instance_` in lower case: of gauges that say `_total`, and not in snake case.
const OURS: &[(&str, &str)] = &[
    ("cpu_effective_total", "instance_cpus"),
    ("memory_MemTotal_bytes", "instance_memory_limit_bytes"),
    ("memory_MemAvailable_bytes", "instance_memory_available_bytes"),
    ("memory_MemFree_bytes", "instance_memory_free_bytes"),
    ("memory_RSS_bytes", "instance_memory_used_bytes"),
    ("memory_Swap_bytes", "instance_memory_swap_bytes"),
    ("memory_OOM_kills_total", "instance_memory_oom_kills_total"),
    ("procs_total", "instance_processes"),
    ("operations_total", "operations"),
    ("uptime_seconds", "uptime_seconds"),
    ("warnings_total", "warnings"),
];

/// The page. Labels are sorted by name and the page ends in `# EOF`, as the stock servers do it.
pub(crate) fn page(names: Names, instances: &[Sample], daemon: Option<Daemon>, registry: Option<&Registry>) -> String {
    let mut page = String::new();
    for family in families(instances, daemon) {
        if family.samples.is_empty() {
            continue;
        }
        let Family { name, kind, help, samples } = family;
        let name = names.name(name);
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = match labels.is_empty() {
                true => writeln!(page, "{name} {value}"),
                false => writeln!(page, "{name}{{{labels}}} {value}"),
            };
        }
    }
    if let Some(registry) = registry {
        let mut ours = Vec::new();
        match TextEncoder::new().encode(&registry.gather(), &mut ours) {
            Ok(()) => page.push_str(&String::from_utf8_lossy(&ours)),
            Err(error) => tracing::error!(%error, "metrics cannot be written"),
        }
    }
    page.push_str("# EOF\n");
    page
}

fn families(instances: &[Sample], daemon: Option<Daemon>) -> Vec<Family> {
    let mut families = vec![
        family("cpu_effective_total", "gauge", "The total number of effective CPUs.", effective(instances)),
        cpu_seconds(instances),
    ];
    for (name, help, parts) in MEMORY {
        let sum = |live: &LiveState| parts.iter().filter_map(|part| live.memory_parts.get(*part)).sum::<u64>();
        let known = instances.iter().filter(|i| parts.iter().all(|part| i.live.memory_parts.contains_key(*part)));
        families.push(family(name, "gauge", help, known.map(|i| (labels(i, &[]), sum(&i.live) as f64)).collect()));
    }
    for (name, kind, help, value) in PLAIN {
        families.push(family(name, kind, help, instances.iter().map(|i| (labels(i, &[]), value(&i.live))).collect()));
    }
    families.extend(disks(instances));
    for (name, help, value) in DISK {
        let of = |i: &'_ Sample| {
            let one =
                |(device, used): (&String, &crate::port::LiveDisk)| (labels(i, &[("device", device)]), value(used));
            i.live.disks.iter().map(one).collect::<Vec<_>>()
        };
        families.push(family(name, "counter", help, instances.iter().flat_map(of).collect()));
    }
    for (name, help, value) in NETWORK {
        let samples = instances
            .iter()
            .flat_map(|i| i.live.interfaces.iter().map(move |n| (labels(i, &[("device", &n.name)]), value(n))));
        families.push(family(name, "counter", help, samples.collect()));
    }
    if let Some(daemon) = daemon {
        families.push(family(
            "operations_total",
            "gauge",
            "The number of running operations.",
            one(daemon.operations as f64),
        ));
        families.push(family("uptime_seconds", "gauge", "The daemon uptime in seconds.", one(daemon.uptime_secs)));
        families.push(family("warnings_total", "gauge", "The number of active warnings.", one(daemon.warnings as f64)));
    }
    families
}

fn family(name: &'static str, kind: &'static str, help: &'static str, samples: Vec<(String, f64)>) -> Family {
    Family { name, kind, help, samples }
}

fn one(value: f64) -> Vec<(String, f64)> {
    vec![(String::new(), value)]
}

type Plain = (&'static str, &'static str, &'static str, fn(&LiveState) -> f64);

/// Metrics with one sample for each instance.
const PLAIN: &[Plain] = &[
    ("memory_MemTotal_bytes", "gauge", "The amount of memory the instance may use.", |l| l.memory_total as f64),
    ("memory_MemAvailable_bytes", "gauge", "The amount of available memory.", |l| {
        l.memory_total.saturating_sub(l.memory) as f64
    }),
    ("memory_MemFree_bytes", "gauge", "The amount of free memory.", |l| l.memory_total.saturating_sub(l.memory) as f64),
    ("memory_RSS_bytes", "gauge", "The amount of memory in use.", |l| l.memory as f64),
    ("memory_Swap_bytes", "gauge", "The amount of used swap.", |l| l.swap as f64),
    ("memory_OOM_kills_total", "counter", "The number of out-of-memory kills.", |l| l.oom_kills as f64),
    ("procs_total", "gauge", "The number of running processes.", |l| l.processes as f64),
];

/// Metrics of what the memory is used for: the kernel's names, which are added up.
const MEMORY: &[(&str, &str, &[&str])] = &[
    ("memory_Active_anon_bytes", "The amount of anonymous memory on active LRU list.", &["active_anon"]),
    ("memory_Active_bytes", "The amount of memory on active LRU list.", &["active_anon", "active_file"]),
    ("memory_Active_file_bytes", "The amount of file-backed memory on active LRU list.", &["active_file"]),
    ("memory_Cached_bytes", "The amount of cached memory.", &["file"]),
    ("memory_Dirty_bytes", "The amount of memory waiting to get written back to the disk.", &["file_dirty"]),
    ("memory_Inactive_anon_bytes", "The amount of anonymous memory on inactive LRU list.", &["inactive_anon"]),
    ("memory_Inactive_bytes", "The amount of memory on inactive LRU list.", &["inactive_anon", "inactive_file"]),
    ("memory_Inactive_file_bytes", "The amount of file-backed memory on inactive LRU list.", &["inactive_file"]),
    ("memory_Mapped_bytes", "The amount of mapped memory.", &["file_mapped"]),
    ("memory_Shmem_bytes", "The amount of cached filesystem data that is swap-backed.", &["shmem"]),
    ("memory_Unevictable_bytes", "The amount of unevictable memory.", &["unevictable"]),
    ("memory_Writeback_bytes", "The amount of memory queued for syncing to disk.", &["file_writeback"]),
];

fn effective(instances: &[Sample]) -> Vec<(String, f64)> {
    let known = instances.iter().filter(|i| i.live.cpus > 0);
    known.map(|i| (labels(i, &[]), f64::from(i.live.cpus))).collect()
}

type Disk = (&'static str, &'static str, fn(&crate::port::LiveDisk) -> f64);

/// Metrics with one sample for each block device of the host.
const DISK: &[Disk] = &[
    ("disk_read_bytes_total", "The total number of bytes read.", |d| d.read_bytes as f64),
    ("disk_reads_completed_total", "The total number of completed reads.", |d| d.reads as f64),
    ("disk_written_bytes_total", "The total number of bytes written.", |d| d.written_bytes as f64),
    ("disk_writes_completed_total", "The total number of completed writes.", |d| d.writes as f64),
];

type Network = (&'static str, &'static str, fn(&crate::port::LiveInterface) -> f64);

/// Metrics with one sample for each interface.
const NETWORK: &[Network] = &[
    ("network_receive_bytes_total", "The amount of received bytes on a given interface.", |n| n.bytes_received as f64),
    ("network_receive_packets_total", "The amount of received packets on a given interface.", |n| {
        n.packets_received as f64
    }),
    ("network_receive_errs_total", "The amount of received errors on a given interface.", |n| n.errors_received as f64),
    ("network_receive_drop_total", "The amount of received dropped packets on a given interface.", |n| {
        n.dropped_received as f64
    }),
    ("network_transmit_errs_total", "The amount of transmitted errors on a given interface.", |n| n.errors_sent as f64),
    ("network_transmit_drop_total", "The amount of transmitted dropped packets on a given interface.", |n| {
        n.dropped_sent as f64
    }),
    ("network_transmit_bytes_total", "The amount of transmitted bytes on a given interface.", |n| n.bytes_sent as f64),
    ("network_transmit_packets_total", "The amount of transmitted packets on a given interface.", |n| {
        n.packets_sent as f64
    }),
];

fn cpu_seconds(instances: &[Sample]) -> Family {
    let mut samples = Vec::new();
    for i in instances {
        let known = i.live.cpu_user_ns + i.live.cpu_system_ns;
        // When only the sum is known it counts as user time.
        let user = if known == 0 { i.live.cpu_ns } else { i.live.cpu_user_ns };
        for (mode, ns) in [("system", i.live.cpu_system_ns), ("user", user)] {
            samples.push((labels(i, &[("cpu", "0"), ("mode", mode)]), ns as f64 / 1e9));
        }
    }
    family("cpu_seconds_total", "counter", "The total number of CPU time used in seconds.", samples)
}

fn disks(instances: &[Sample]) -> Vec<Family> {
    let root = [("device", "root"), ("fstype", "unknown"), ("mountpoint", "/")];
    let limited = || instances.iter().filter(|i| i.live.disk_total > 0);
    let free = |l: &LiveState| l.disk_total.saturating_sub(l.disk_used) as f64;
    let of = |value: &dyn Fn(&LiveState) -> f64| limited().map(|i| (labels(i, &root), value(&i.live))).collect();
    vec![
        family("filesystem_avail_bytes", "gauge", "The number of available space in bytes.", of(&free)),
        family("filesystem_free_bytes", "gauge", "The number of free space in bytes.", of(&free)),
        family("filesystem_size_bytes", "gauge", "The size of the filesystem in bytes.", of(&|l| l.disk_total as f64)),
    ]
}

/// Labels of an instance and some more, sorted and escaped.
fn labels(instance: &Sample, more: &[(&str, &str)]) -> String {
    let mut all: BTreeMap<&str, &str> = more.iter().copied().collect();
    all.insert("name", &instance.name);
    all.insert("project", &instance.project);
    all.insert("type", instance.kind);
    let text: Vec<String> = all.into_iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
    text.join(",")
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::LiveDisk;

    #[test]
    fn labels_are_sorted_and_the_page_ends() {
        let memory_parts =
            [("active_anon", 3), ("active_file", 4)].map(|(part, bytes)| (part.to_owned(), bytes)).into();
        let known = LiveState { memory: 10, memory_total: 100, memory_parts, cpus: 2, ..LiveState::default() };
        let used = LiveDisk { read_bytes: 1, reads: 2, written_bytes: 3, writes: 4 };
        let disks = [("vda".to_owned(), used)].into();
        let live = LiveState { cpu_user_ns: 1_500_000_000, disks, ..known };
        let sample = Sample { name: "c1".into(), project: "default".into(), kind: "container", live };
        let all = [sample];
        let page = page(Names::Lxd, &all, Some(Daemon::default()), None);
        assert!(
            page.contains("lxd_cpu_seconds_total{cpu=\"0\",mode=\"user\",name=\"c1\",project=\"default\",type=\"container\"} 1.5\n"),
            "{page}"
        );
        assert!(
            page.contains("lxd_memory_MemAvailable_bytes{name=\"c1\",project=\"default\",type=\"container\"} 90\n")
        );
        let labels = "{name=\"c1\",project=\"default\",type=\"container\"}";
        assert!(page.contains(&format!("lxd_memory_Active_bytes{labels} 7\n")), "{page}");
        assert!(page.contains(&format!("lxd_cpu_effective_total{labels} 2\n")), "{page}");
        let labels = "{device=\"vda\",name=\"c1\",project=\"default\",type=\"container\"}";
        for (name, value) in [("read_bytes", 1), ("reads_completed", 2), ("written_bytes", 3), ("writes_completed", 4)]
        {
            assert!(page.contains(&format!("lxd_disk_{name}_total{labels} {value}\n")), "{page}");
        }
        // What is not known is left out.
        assert!(!page.contains("lxd_memory_Cached_bytes"), "{page}");
        let uncounted = Sample { live: LiveState { disks: BTreeMap::new(), ..all[0].live.clone() }, ..all[0].clone() };
        assert!(!super::page(Names::Incus, &[uncounted], None, None).contains("incus_disk_"));
        assert!(page.ends_with("# EOF\n"));
        let ours = super::page(Names::Basalt, &all, Some(Daemon::default()), None);
        for name in ["instance_cpu_seconds_total", "instance_memory_limit_bytes", "instance_processes", "operations"] {
            assert!(ours.contains(&format!("# TYPE basalt_{name} ")), "{name}: {ours}");
        }
        assert!(ours.contains("# TYPE basalt_instance_memory_active_bytes "), "{ours}");
        assert!(!ours.contains("lxd_") && !ours.contains("Mem"), "{ours}");
    }
}
