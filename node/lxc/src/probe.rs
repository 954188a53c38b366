//! What the host has for containers, and what it lacks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use basalt_driver::Probe;
use basalt_runtime::{CommandRunner, Invocation};

use crate::cgroup::Layout;
use crate::config::Host;
use crate::driver::{Programs, find};

/// Facts that the config depends on.
pub(crate) fn host() -> io::Result<Host> {
    let devices = ["/dev/fuse", "/dev/net/tun"].iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    let apparmor = enabled("/sys/module/apparmor/parameters/enabled") && find("apparmor_parser").is_some();
    let seccomp = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
    Ok(Host { layout: Layout::of_host()?, apparmor, seccomp, devices })
}

fn enabled(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "Y")
}

/// The whole answer. Runs one program, for its version.
pub(crate) async fn probe(host: &Host, programs: &Programs, runner: &dyn CommandRunner) -> Probe {
    let mut lacks = Vec::new();
    let missing: Vec<_> = programs.all().into_iter().filter(|path| !path.is_file()).collect();
    let version = match missing.first() {
        Some(path) => {
            lacks.push(format!("{} is missing: apt-get install lxc", path.display()));
            None
        }
        None => version(programs, runner, &mut lacks).await,
    };
    if !nix::unistd::geteuid().is_root() {
        lacks.push("basaltd does not run as root: containers cannot be started".into());
    }
    facilities(host, &mut lacks);
    let has = |controller: &str| host.layout.version(controller).is_some();
    let features = [
        ("cgroup2", host.layout.is_unified()),
        ("cpuset", has("cpuset")),
        ("cpu", has("cpu")),
        ("memory", has("memory")),
        ("pids", has("pids")),
        ("freezer", host.layout.can_freeze()),
        ("seccomp", host.seccomp),
        ("apparmor", host.apparmor),
        ("idmapped_mounts", idmapped_mounts()),
        ("user_namespaces", user_namespaces()),
    ];
    let features = features.into_iter().map(|(name, has)| (name.to_owned(), has)).collect::<BTreeMap<_, _>>();
    Probe { version, lacks, features }
}

async fn version(programs: &Programs, runner: &dyn CommandRunner, lacks: &mut Vec<String>) -> Option<String> {
    let ask = Invocation::new(programs.start.to_string_lossy()).arg("--version").deadline(Duration::from_secs(20));
    match runner.run(ask).await {
        Ok(finished) => Some(finished.text().trim().to_owned()),
        Err(error) => {
            lacks.push(format!("lxc-start does not run: {error}"));
            None
        }
    }
}

fn facilities(host: &Host, lacks: &mut Vec<String>) {
    for (controller, key) in [
        ("cpuset", "limits.cpu"),
        ("cpu", "limits.cpu.allowance"),
        ("memory", "limits.memory"),
        ("pids", "limits.processes"),
    ] {
        if host.layout.version(controller).is_none() {
            lacks.push(format!(
                "no cgroup controller {controller}: {key} cannot be used; boot with cgroup_enable={controller}"
            ));
        }
    }
    if !host.layout.can_freeze() {
        lacks.push("no freezer cgroup: containers cannot be paused; mount cgroup2 at /sys/fs/cgroup".into());
    }
    if !user_namespaces() {
        lacks.push("no user namespaces: only privileged containers; set user.max_user_namespaces".into());
    }
    if !idmapped_mounts() {
        lacks.push("no id-mapped mounts (Linux 5.12): roots of unprivileged containers must be shifted on disk".into());
    }
    if !host.seccomp {
        lacks.push(
            "no seccomp filters: containers may make any system call; use a kernel with CONFIG_SECCOMP_FILTER".into(),
        );
    }
    if enabled("/sys/module/apparmor/parameters/enabled") && !host.apparmor {
        lacks.push("AppArmor is on but its profiles cannot be loaded: apt-get install apparmor".into());
    }
    for device in ["/dev/fuse", "/dev/net/tun"] {
        if !host.devices.iter().any(|has| has == Path::new(device)) {
            let module = device.rsplit('/').next().unwrap_or(device);
            lacks.push(format!("no {device}: containers do not get it; modprobe {module}"));
        }
    }
}

fn user_namespaces() -> bool {
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    limit.trim().parse::<u64>().is_ok_and(|limit| limit > 0)
}

fn idmapped_mounts() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 12)
}
