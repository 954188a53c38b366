//! Taking a testbed away: from its record alone, so that what a killed run left goes the same way as what a finished
//! one leaves. Every step is fit to be repeated and finds its work on the host, not in memory.
//!
//! Order: thaw (a frozen process does not die), processes, zpools, mounts, cgroups, namespaces, files, record.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::slot::{self, Record};
use crate::{host, wait};

/// Removes the testbeds whose processes are gone.
///
/// # Errors
/// When something cannot be removed.
pub fn leftovers() -> Result<()> {
    for (record, _lock) in slot::orphans()? {
        remove(&record)?;
    }
    Ok(())
}

/// Removes a testbed.
///
/// # Errors
/// When something stays.
pub fn remove(record: &Record) -> Result<()> {
    let namespaces = namespaces(&record.prefix);
    let ids = instance_ids(&record.dir);
    thaw(&record.dir);
    wait::until_true("processes end", Duration::from_secs(60), || {
        let left = processes(record, &namespaces, &ids);
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(left.is_empty())
    })?;
    zpools(&record.dir)?;
    for mount in host::mounts_under(&record.dir) {
        host::run(&["umount", "-l", &mount])?;
    }
    // The folder itself is a mount of its own; not there when it never came so far.
    if record.dir.exists() {
        host::try_run(&["umount", "-l", super::path(&record.dir)]);
    }
    // The kernel lets go of a group some moments after its last process.
    wait::until_true("cgroups are empty", Duration::from_secs(60), || {
        cgroups(&record.dir).iter().for_each(|folder| remove_cgroup(folder));
        Ok(cgroups(&record.dir).is_empty())
    })?;
    // The common parents; those of other testbeds keep theirs.
    for hierarchy in folders(Path::new("/sys/fs/cgroup")) {
        let _ = std::fs::remove_dir(hierarchy.join("basalt"));
    }
    for netns in &namespaces {
        host::run(&["ip", "netns", "del", netns])?;
    }
    host::try_run(&["ip", "link", "del", &format!("{}-host", record.prefix)]);
    if record.dir.exists() {
        std::fs::remove_dir_all(&record.dir).with_context(|| format!("remove {}", record.dir.display()))?;
    }
    record.forget()
}

/// Network namespaces of the testbed.
fn namespaces(prefix: &str) -> Vec<String> {
    let wanted = format!("{prefix}-");
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(&wanted)).collect()
}

/// Instances whose runtime folders lie in the nodes' state folders.
pub fn instance_ids(dir: &Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for node in folders(dir) {
        ids.extend(folders(&node.join("lxc")).iter().filter_map(|f| Some(f.file_name()?.to_str()?.to_owned())));
    }
    ids
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// Processes of the testbed: those in its namespaces, all that descend from them (guests), and those whose root comes
/// out of its folder or pools (guests whose monitor died first).
fn processes(record: &Record, namespaces: &[String], ids: &BTreeSet<String>) -> Vec<i32> {
    let inodes: BTreeSet<u64> =
        namespaces.iter().filter_map(|n| Some(std::fs::metadata(format!("/run/netns/{n}")).ok()?.ino())).collect();
    let pids = host::pids();
    let mut found: BTreeSet<i32> = pids.iter().copied().filter(|p| inodes.contains(&ns_inode(*p, "net"))).collect();
    let parents: BTreeMap<i32, i32> =
        pids.iter().filter_map(|p| Some((*p, i32::try_from(host::status_field(*p, "PPid:")?).ok()?))).collect();
    loop {
        let more: Vec<i32> =
            parents.iter().filter(|(p, up)| found.contains(*up) && !found.contains(*p)).map(|(p, _)| *p).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let marker = format!("{}/", record.dir.display());
    found.extend(pids.iter().copied().filter(|p| {
        root_mount(*p).is_some_and(|line| line.contains(&marker) || ids.iter().any(|id| line.contains(id.as_str())))
    }));
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    found.into_iter().filter(|p| *p != me && *p > 1 && host::alive(*p)).collect()
}

/// The line of a process's mount table that says where its `/` comes from.
fn root_mount(pid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    text.lines().find(|line| line.split(' ').nth(4) == Some("/")).map(str::to_owned)
}

fn ns_inode(pid: i32, kind: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).map(|m| m.ino()).unwrap_or(0)
}

/// Destroys the pools whose loop files lie in the folder. Other pools of the same zfs-fuse stay.
fn zpools(dir: &Path) -> Result<()> {
    let Some(names) = host::try_run(&["zpool", "list", "-H", "-o", "name"]) else { return Ok(()) };
    let marker = format!("{}/", dir.display());
    for name in names.lines() {
        let status = host::try_run(&["zpool", "status", name]).unwrap_or_default();
        if status.contains(&marker) {
            wait::until_true(&format!("destroy zpool {name}"), Duration::from_secs(60), || {
                host::run(&["zpool", "destroy", "-f", name]).map(|_| true)
            })?;
        }
    }
    Ok(())
}

/// The nodes' own parts of each cgroup hierarchy: `basalt/<member>`.
fn cgroups(dir: &Path) -> Vec<PathBuf> {
    let members: Vec<PathBuf> =
        folders(dir).iter().filter_map(|f| Some(Path::new("basalt").join(f.file_name()?))).collect();
    let root = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = std::iter::once(root.clone()).chain(folders(&root));
    hierarchies
        .flat_map(|h| members.iter().map(move |m| h.join(m)).collect::<Vec<_>>())
        .filter(|f| f.is_dir())
        .collect()
}

fn remove_cgroup(folder: &Path) {
    for child in folders(folder) {
        remove_cgroup(&child);
    }
    // Busy or gone: a busy one is tried again.
    let _ = std::fs::remove_dir(folder);
}

/// A frozen process does not die. A node that was stopped in its tracks does.
fn thaw(dir: &Path) {
    fn walk(folder: &Path) {
        // Only one of the two exists, by the hierarchy's version.
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            if folder.join(file).exists() {
                let _ = std::fs::write(folder.join(file), word);
            }
        }
        folders(folder).iter().for_each(|child| walk(child));
    }
    cgroups(dir).iter().for_each(|folder| walk(folder));
}
