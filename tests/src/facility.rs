//! What this machine can do, and skipping loudly what it cannot.

use crate::host;

/// Process id of a zfs-fuse that was started here, not by the host.
const ZFS_FUSE: &str = "/run/basalt-zfs-fuse.pid";

/// Ends the zfs-fuse that [`zfs`] started, unless somebody has a pool on it.
pub fn release_zfs() {
    let Ok(pid) = std::fs::read_to_string(ZFS_FUSE) else { return };
    if host::run(&["zpool", "list", "-H"]).is_ok_and(|pools| pools.trim().is_empty()) {
        host::try_run(&["kill", pid.trim()]);
        let _ = std::fs::remove_file(ZFS_FUSE);
    }
}

/// Why a kind of test cannot run here; `None` when it can.
pub type Lack = Option<String>;

/// Namespaces, bridges and nftables: what every testbed needs.
pub fn testbed() -> Lack {
    if !host::is_root() {
        return Some("namespaces need root".into());
    }
    missing(&["ip", "nft", "nsenter"])
}

/// Real containers.
pub fn containers() -> Lack {
    testbed().or_else(|| missing(&["lxc-start", "dnsmasq", "busybox"]))
}

/// OVN from Debian's packages, over the userspace datapath.
pub fn ovn() -> Lack {
    let programs =
        ["ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovn-northd", "ovn-controller", "ethtool"];
    containers().or_else(|| missing(&programs)).or_else(|| {
        let tun = std::path::Path::new("/dev/net/tun").exists();
        (!tun).then(|| "there is no /dev/net/tun, which the userspace datapath needs".into())
    })
}

/// ZFS pools on loop files.
pub fn zfs() -> Lack {
    if let Some(lack) = missing(&["zpool", "zfs"]) {
        return Some(lack);
    }
    // zfs-fuse may be installed and not running: that is no reason to skip, it is started.
    if host::run(&["zpool", "list"]).is_ok() {
        return None;
    }
    if host::which("zfs-fuse").is_none() {
        return Some("no kernel ZFS and no zfs-fuse".into());
    }
    let started = host::run(&["zfs-fuse", "-p", ZFS_FUSE]);
    // The suite beside this one may have been faster: what counts is that one answers.
    crate::wait::until_true("zfs-fuse answers", std::time::Duration::from_secs(30), || {
        host::run(&["zpool", "list"]).map(|_| true)
    })
    .err()
    .map(|error| format!("zfs-fuse cannot be started: {started:?}, {error:#}"))
}

fn missing(programs: &[&str]) -> Lack {
    programs.iter().find(|p| host::which(p).is_none()).map(|p| format!("{p} is not installed"))
}

/// Prints why a test does not run here. Written past the test runner's capture, so that it is seen.
pub fn skip(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// Ends the calling test with `skipped: why` when something is lacking.
#[macro_export]
macro_rules! require {
    ($lack:expr) => {
        if let Some(why) = $lack {
            $crate::facility::skip(module_path!(), &why);
            return;
        }
    };
}
