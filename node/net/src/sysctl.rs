//! The few kernel switches a routed bridge needs, read first and written only when they differ.
//!
//! `/proc/sys/net` shows the namespace of the reading thread. Without a required switch the bridge
//! would not work: an error. The others only keep the host off the guests' link: a warning.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{BridgeSpec, Error, IfName};

pub(crate) fn apply(spec: &BridgeSpec) -> Result<(), Error> {
    let bridge = &spec.name;
    let own = |key: &str| format!("ipv6/conf/{bridge}/{key}");
    if spec.ipv6.is_some() {
        require(bridge, &own("disable_ipv6"), "0")?;
        // Our address must be usable at once: the daemon binds to it.
        prefer(bridge, &own("accept_dad"), "0");
        prefer(bridge, &own("accept_ra"), "0");
        prefer(bridge, &own("autoconf"), "0");
    } else {
        prefer(bridge, &own("disable_ipv6"), "1");
    }
    if spec.ipv4.is_some() && spec.ipv4_routing {
        require(bridge, "ipv4/ip_forward", "1")?;
    }
    if spec.ipv6.is_some() && spec.ipv6_routing {
        keep_router_advertisements(bridge);
        require(bridge, "ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A forwarding host ignores router advertisements on interfaces whose `accept_ra` is 1, and would
/// lose its own default route. 2 means: even when forwarding.
fn keep_router_advertisements(bridge: &IfName) {
    if read(&path("ipv6/conf/all/forwarding")).is_ok_and(|value| value == "1") {
        return;
    }
    let Ok(entries) = fs::read_dir(path("ipv6/conf")) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let key = format!("ipv6/conf/{name}/accept_ra");
        if name != bridge.as_str() && read(&path(&key)).is_ok_and(|value| value == "1") {
            prefer(bridge, &key, "2");
        }
    }
}

fn require(bridge: &IfName, key: &str, value: &'static str) -> Result<(), Error> {
    set(&path(key), value).map_err(|source| Error::Sysctl { bridge: bridge.clone(), key: dotted(key), value, source })
}

fn prefer(bridge: &IfName, key: &str, value: &'static str) {
    match set(&path(key), value) {
        Ok(()) => {}
        // A kernel without IPv6 has nothing to switch.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!(%bridge, key = dotted(key), value, %error, "cannot set"),
    }
}

fn set(path: &Path, value: &str) -> io::Result<()> {
    if read(path)? == value { Ok(()) } else { fs::write(path, value) }
}

fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(key)
}

/// As `sysctl` writes it: dots between, and a slash for a dot in an interface's name.
fn dotted(key: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    format!("net.{}", key.chars().map(swap).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_sysctl_writes_them() {
        assert_eq!(dotted("ipv6/conf/eth0.5/accept_ra"), "net.ipv6.conf.eth0/5.accept_ra");
    }

    #[test]
    fn writes_only_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("switch");
        assert!(set(&file, "1").is_err(), "a missing switch is not made");
        fs::write(&file, "0\n").unwrap();
        set(&file, "1").unwrap();
        assert_eq!(read(&file).unwrap(), "1");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        set(&file, "1").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    }
}
