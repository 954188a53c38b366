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

/// The page. Labels are sorted by name and the page ends in `# EOF`, as the stock servers do it.
pub(crate) fn page(prefix: &str, instances: &[Sample], daemon: Option<Daemon>, registry: Option<&Registry>) -> String {
    let mut page = String::new();
    for family in families(instances, daemon) {
        if family.samples.is_empty() {
            continue;
        }
        let Family { name, kind, help, samples } = family;
        let _ = writeln!(page, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}");
        for (labels, value) in samples {
            let _ = match labels.is_empty() {
                true => writeln!(page, "{prefix}{name} {value}"),
                false => writeln!(page, "{prefix}{name}{{{labels}}} {value}"),
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
        family("cpu_effective_total", "gauge", "The total number of effective CPUs.", Vec::new()),
        cpu_seconds(instances),
    ];
    for (name, kind, help, value) in PLAIN {
        families.push(family(name, kind, help, instances.iter().map(|i| (labels(i, &[]), value(&i.live))).collect()));
    }
    families.extend(disks(instances));
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

type Network = (&'static str, &'static str, fn(&crate::port::LiveInterface) -> f64);

/// Metrics with one sample for each interface.
const NETWORK: &[Network] = &[
    ("network_receive_bytes_total", "The amount of received bytes on a given interface.", |n| n.bytes_received as f64),
    ("network_receive_packets_total", "The amount of received packets on a given interface.", |n| {
        n.packets_received as f64
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

    #[test]
    fn labels_are_sorted_and_the_page_ends() {
        let live = LiveState { cpu_user_ns: 1_500_000_000, memory: 10, memory_total: 100, ..LiveState::default() };
        let sample = Sample { name: "c1".into(), project: "default".into(), kind: "container", live };
        let page = page("lxd_", &[sample], Some(Daemon::default()), None);
        assert!(
            page.contains("lxd_cpu_seconds_total{cpu=\"0\",mode=\"user\",name=\"c1\",project=\"default\",type=\"container\"} 1.5\n"),
            "{page}"
        );
        assert!(
            page.contains("lxd_memory_MemAvailable_bytes{name=\"c1\",project=\"default\",type=\"container\"} 90\n")
        );
        assert!(page.ends_with("# EOF\n"));
    }
}
