//! What lies on the hosts, counted from outside, to be compared with what the cluster says it has: no orphan volume,
//! runtime folder, cgroup, link or guest, and no instance with two homes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::testbed::{Node, Testbed};
use crate::{host, wait};

/// A running guest, as the kernel knows it: no other process has ever had both numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    pub pid: i32,
    pub started: u64,
}

impl Guest {
    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        host::alive(self.pid) && started(self.pid) == Some(self.started)
    }
}

/// Everything on one node that belongs to instances, by instance id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    pub volumes: BTreeSet<String>,
    pub runtimes: BTreeSet<String>,
    pub cgroups: BTreeSet<String>,
    pub guests: BTreeMap<String, Guest>,
    /// Host ends of veths.
    pub links: BTreeSet<String>,
}

/// Counts one node.
///
/// # Errors
/// When the host does not tell.
pub fn of(node: &Node) -> Result<Census> {
    let mut census = Census { runtimes: ids_in(&node.dir.join("lxc")), ..Census::default() };
    for pool in folders(&node.dir.join("storage-pools")) {
        census.volumes.extend(ids_in(&Path::new(&pool).join("instances")));
    }
    for line in host::try_run(&["zfs", "list", "-H", "-o", "name,basalt:state-dir"]).unwrap_or_default().lines() {
        let (dataset, owner) = line.split_once('\t').unwrap_or((line, ""));
        if dataset.contains("/instances/") && Path::new(owner) == node.dir {
            census.volumes.extend(dataset.rsplit('/').next().filter(|n| is_id(n)).map(str::to_owned));
        }
    }
    for hierarchy in folders(Path::new("/sys/fs/cgroup")) {
        census.cgroups.extend(ids_in(&Path::new(&hierarchy).join(&node.cgroup)));
    }
    census.cgroups.extend(ids_in(&Path::new("/sys/fs/cgroup").join(&node.cgroup)));
    census.guests = guests(node);
    let links = host::run(&["ip", "-n", &node.netns, "-o", "link", "show", "type", "veth"])?;
    let name = |line: &str| line.split(": ").nth(1).and_then(|n| n.split('@').next()).map(str::to_owned);
    census.links = links.lines().filter_map(name).filter(|n| n != "eth0").collect();
    Ok(census)
}

/// Init processes of the guests: children of the monitors that run in the node's namespaces.
fn guests(node: &Node) -> BTreeMap<String, Guest> {
    let marker = format!("{}/lxc", node.dir.display());
    let mut monitors = BTreeMap::new();
    for pid in host::pids() {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        if line.starts_with("[lxc monitor]") && line.contains(&marker) {
            monitors.extend(line.split_whitespace().last().filter(|id| is_id(id)).map(|id| (pid, id.to_owned())));
        }
    }
    let mut found = BTreeMap::new();
    for pid in host::pids() {
        let parent = host::status_field(pid, "PPid:").and_then(|p| i32::try_from(p).ok());
        if let (Some(id), Some(started)) = (parent.and_then(|p| monitors.get(&p)), started(pid)) {
            found.insert(id.clone(), Guest { pid, started });
        }
    }
    found
}

/// When the process was started, in clock ticks since boot.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn folders(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|e| e.path().is_dir()).map(|e| e.path().display().to_string()).collect()
}

fn ids_in(folder: &Path) -> BTreeSet<String> {
    let name = |path: &String| path.rsplit('/').next().map(str::to_owned);
    folders(folder).iter().filter_map(name).filter(|n| is_id(n)).collect()
}

/// A UUID in its usual form.
fn is_id(text: &str) -> bool {
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, b)| if [8, 13, 18, 23].contains(&at) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Compares all nodes with what the cluster says, until they agree.
///
/// # Errors
/// When they do not in time; the error says what is too much or too little.
pub fn agree(bed: &Testbed, within: Duration) -> Result<()> {
    wait::until_true("hosts and cluster agree", within, || compare(bed).map(|()| true))
}

fn compare(bed: &Testbed) -> Result<()> {
    let instances = bed.leader()?.api().instances()?;
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for node in &bed.nodes {
        let census = of(node)?;
        for id in &census.volumes {
            if let Some(other) = seen.insert(id.clone(), node.name.clone()) {
                bail!("{id} lies on {other} and on {}", node.name);
            }
        }
        // A member alone is not named: the API says "none".
        let lives_here = |i: &&Value| bed.nodes.len() == 1 || i["location"] == node.name.as_str();
        let home: Vec<&Value> = instances.iter().filter(lives_here).collect();
        compare_node(node, &census, &home)?;
    }
    Ok(())
}

fn compare_node(node: &Node, census: &Census, home: &[&Value]) -> Result<()> {
    let name = &node.name;
    ensure!(census.volumes.len() == home.len(), "{name}: {} volumes, {} instances", census.volumes.len(), home.len());
    let stray = |found: &BTreeSet<String>| found.difference(&census.volumes).cloned().collect::<Vec<_>>();
    ensure!(stray(&census.runtimes).is_empty(), "{name}: orphan runtime folders {:?}", stray(&census.runtimes));
    ensure!(stray(&census.cgroups).is_empty(), "{name}: orphan cgroups {:?}", stray(&census.cgroups));
    let running: Vec<&&Value> = home.iter().filter(|i| i["status"] == "Running" || i["status"] == "Frozen").collect();
    ensure!(census.guests.len() == running.len(), "{name}: {} guests, {} run", census.guests.len(), running.len());
    let wanted: BTreeSet<String> = running
        .iter()
        .flat_map(|i| i["config"].as_object().into_iter().flatten())
        .filter(|(key, _)| key.ends_with(".host_name"))
        .filter_map(|(_, value)| value.as_str().map(str::to_owned))
        .collect();
    ensure!(census.links == wanted, "{name}: links {:?}, wanted {wanted:?}", census.links);
    Ok(())
}
