//! The engine's config file of one guest: a pure function of its spec and of facts about the host.
//!
//! Every value that comes from a user is checked to stay on its line: a line break would be a key of the user's choice.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use basalt_driver::{Disk, Error, GuestSpec, Joined, Nic, SwitchPort};

use crate::cgroup::{Layout, Version, settings};
use crate::init::Init;

/// What of the host the config depends on.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) layout: Layout,
    /// The kernel enforces AppArmor and its profiles can be loaded.
    pub(crate) apparmor: bool,
    /// The kernel filters system calls.
    pub(crate) seccomp: bool,
    /// Devices of the host that guests get if they exist: fuse, tun.
    pub(crate) devices: Vec<PathBuf>,
}

/// Where things of this guest are.
#[derive(Debug, Clone)]
pub(crate) struct Places<'a> {
    /// Its runtime folder.
    pub(crate) folder: &'a Path,
    /// The node's own cgroup prefix.
    pub(crate) prefix: &'a str,
    pub(crate) init: Init,
    /// Bridges that the engine cannot recognise, as `/sys` shows another network namespace than this process is in.
    pub(crate) unseen: BTreeSet<String>,
}

/// Powers over the host's kernel that even a privileged container has no business with.
const DROPPED: &str = "mac_admin mac_override sys_time sys_module sys_rawio";

/// Devices that a privileged container may use; an unprivileged one can make none, and has those bound into its /dev.
const DEVICES: [&str; 13] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:229 rwm",
    "c 10:200 rwm",
];

/// The whole file.
pub(crate) fn render(guest: &GuestSpec, places: &Places<'_>, host: &Host) -> Result<String, Error> {
    let mut out = Lines::default();
    base(&mut out, guest, places)?;
    isolation(&mut out, guest, places, host)?;
    cgroups(&mut out, guest, places, host)?;
    if guest.nics.is_empty() {
        out.set("lxc.net.0.type", "empty")?;
    }
    for (n, nic) in guest.nics.iter().enumerate() {
        network(&mut out, n, nic, places)?;
    }
    for device in &host.devices {
        out.set("lxc.mount.entry", &mount(device, &device.to_string_lossy(), "bind,create=file,optional"))?;
    }
    for disk in &guest.disks {
        out.set("lxc.mount.entry", &disk_entry(disk)?)?;
    }
    for (key, value) in &guest.environment {
        if key.is_empty() || key.contains('=') {
            return Err(Error::Unsupported(format!("environment.{key}: not a name of a variable")));
        }
        out.set("lxc.environment", &format!("{key}={value}"))?;
    }
    if let Some(raw) = &guest.raw {
        // Last, so that it wins. It is the administrator's word, unchecked.
        out.0.push_str("# raw.lxc\n");
        out.0.push_str(raw.trim_end());
        out.0.push('\n');
    }
    Ok(out.0)
}

fn base(out: &mut Lines, guest: &GuestSpec, places: &Places<'_>) -> Result<(), Error> {
    let file = |name: &str| places.folder.join(name).to_string_lossy().into_owned();
    out.0.push_str("# Written by Basalt before each start.\n");
    out.set("lxc.uts.name", &guest.hostname)?;
    out.set("lxc.arch", &guest.architecture)?;
    out.set("lxc.rootfs.path", &format!("dir:{}", guest.root.path.to_string_lossy()))?;
    if guest.id_map.is_some() && guest.root.shifted.is_none() {
        out.set("lxc.rootfs.options", "idmap=container")?;
    }
    out.set("lxc.signal.halt", places.init.halt())?;
    out.set("lxc.autodev", "1")?;
    out.set("lxc.tty.max", "0")?;
    out.set("lxc.pty.max", "1024")?;
    out.set("lxc.console.buffer.size", "128kB")?;
    out.set("lxc.console.logfile", &file("console.log"))?;
    out.set("lxc.console.size", "128kB")?;
    out.set("lxc.console.rotate", "1")
}

fn isolation(out: &mut Lines, guest: &GuestSpec, places: &Places<'_>, host: &Host) -> Result<(), Error> {
    match guest.id_map {
        Some(map) => {
            out.set("lxc.idmap", &format!("u 0 {} {}", map.base, map.size))?;
            out.set("lxc.idmap", &format!("g 0 {} {}", map.base, map.size))?;
        }
        None if guest.privileged => {}
        None => return Err(Error::Unsupported("an unprivileged container needs an id map".into())),
    }
    // What the kernel shows there belongs to the host for a privileged container, to its own namespaces otherwise.
    let kernel = if guest.privileged && !guest.nesting { "mixed" } else { "rw" };
    out.set("lxc.mount.auto", &format!("proc:{kernel} sys:{kernel} cgroup:mixed"))?;
    if guest.nesting {
        // An unprivileged container may mount fresh ones only where it sees whole ones.
        out.set("lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0")?;
        out.set("lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0")?;
    }
    out.set("lxc.cap.drop", DROPPED)?;
    if host.seccomp {
        out.set("lxc.seccomp.profile", &places.folder.join("seccomp").to_string_lossy())?;
        if guest.nesting {
            out.set("lxc.seccomp.allow_nesting", "1")?;
        }
    }
    if host.apparmor {
        out.set("lxc.apparmor.profile", "generated")?;
        if guest.nesting || !guest.privileged {
            out.set("lxc.apparmor.allow_nesting", "1")?;
        }
    }
    Ok(())
}

fn cgroups(out: &mut Lines, guest: &GuestSpec, places: &Places<'_>, host: &Host) -> Result<(), Error> {
    let group = format!("{}/{}", places.prefix, guest.id);
    out.set("lxc.cgroup.dir.monitor", &format!("{group}/monitor"))?;
    out.set("lxc.cgroup.dir.container", &format!("{group}/payload"))?;
    out.set("lxc.cgroup.dir.monitor.pivot", &format!("{group}/pivot"))?;
    let limits = settings(&guest.limits, &host.layout).map_err(|error| Error::Host(error.to_string()))?;
    for limit in limits {
        out.set(&format!("{}.{}", section(limit.version), limit.file), &limit.value)?;
    }
    for (name, value) in &guest.limits.rlimits {
        out.set(&format!("lxc.prlimit.{name}"), value)?;
    }
    for (name, value) in &guest.limits.sysctls {
        out.set(&format!("lxc.sysctl.{name}"), value)?;
    }
    if guest.privileged {
        // Version 2 has no such controller: the engine makes a program of the kernel's of it.
        let section = section(host.layout.version("devices").unwrap_or(Version::Two));
        out.set(&format!("{section}.devices.deny"), "a")?;
        for device in DEVICES {
            out.set(&format!("{section}.devices.allow"), device)?;
        }
    }
    Ok(())
}

fn section(version: Version) -> &'static str {
    match version {
        Version::One => "lxc.cgroup",
        Version::Two => "lxc.cgroup2",
    }
}

fn network(out: &mut Lines, n: usize, nic: &Nic, places: &Places<'_>) -> Result<(), Error> {
    if let Joined::Program(port) = &nic.joined {
        out.set("lxc.hook.start-host", &tell(nic, port)?)?;
    }
    let mut set = |key: &str, value: &str| out.set(&format!("lxc.net.{n}.{key}"), value);
    set("type", "veth")?;
    set("flags", "up")?;
    let host = &nic.host_name;
    match &nic.joined {
        // The engine runs it in a shell at each creation, guest's reboots too, with arguments that are of no use here.
        Joined::Bridge(bridge) if places.unseen.contains(bridge) => {
            for_shell(nic, &[host, bridge])?;
            set("script.up", &format!("/sbin/ip link set dev {host} master {bridge} #"))?;
        }
        Joined::Bridge(bridge) => set("link", bridge)?,
        Joined::Kernel | Joined::Program(_) => {}
    }
    set("veth.pair", &nic.host_name)?;
    set("name", &nic.name)?;
    set("hwaddr", &nic.mac.to_string())?;
    match nic.mtu {
        Some(mtu) => set("mtu", &mtu.to_string()),
        None => Ok(()),
    }
}

/// Names that a shell takes for nothing else.
fn for_shell(nic: &Nic, names: &[&str]) -> Result<(), Error> {
    let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    match names.iter().all(plain) {
        true => Ok(()),
        false => Err(Error::Unsupported(format!("device {}: interface name {names:?}", nic.device))),
    }
}

/// Tells a switch of a new interface, each time before the guest's init runs. A guest that reboots must come up even
/// when the switch is away: once that is back, it takes what there is. The interface is switched on once more at the end:
/// a switch that took it while the engine switched it on may have undone that.
fn tell(nic: &Nic, to: &SwitchPort) -> Result<String, Error> {
    let (host, bridge, database) = (&nic.host_name, &to.bridge, to.database.to_string_lossy());
    for_shell(nic, &[host, &nic.name, bridge])?;
    if [&to.port, &*database].iter().any(|text| text.contains(['\'', '"', '\\', '$', '`'])) {
        return Err(Error::Unsupported(format!("device {}: port {:?} of {database:?}", nic.device, to.port)));
    }
    let plain = format!("/usr/bin/nsenter -t $LXC_PID -n /sbin/ethtool -K {} tx off", nic.name);
    let switch = format!("/usr/bin/ovs-vsctl --timeout=10 \"--db=unix:{database}\"");
    // Two transactions: in one, the switch would see no difference.
    let anew = format!("{switch} --if-exists del-port {host}; {switch} --may-exist add-port {bridge} {host}");
    let id = |key: &&str| format!("\"external_ids:{key}=\\\"{}\\\"\"", to.port);
    let ids = to.keys.iter().map(id).collect::<Vec<_>>().join(" ");
    // A shell of its own, as the engine's takes nothing but a program; what the engine adds is of no use.
    Ok(format!("/bin/sh -c '{plain}; {anew} -- set interface {host} {ids}; /sbin/ip link set dev {host} up; :' #"))
}

fn disk_entry(disk: &Disk) -> Result<String, Error> {
    let inside = disk.path.trim_start_matches('/');
    if inside.is_empty() || inside.split('/').any(|part| part == "..") {
        return Err(Error::Unsupported(format!("device {}: path {:?}", disk.device, disk.path)));
    }
    let create = if disk.source.is_dir() { "dir" } else { "file" };
    let readonly = if disk.readonly { ",ro" } else { "" };
    Ok(mount(&disk.source, inside, &format!("rbind,create={create}{readonly}")))
}

fn mount(source: &Path, inside: &str, options: &str) -> String {
    let (source, inside) = (escape(&source.to_string_lossy()), escape(inside.trim_start_matches('/')));
    format!("{source} {inside} none {options} 0 0")
}

/// As in fstab(5): a blank ends a field.
fn escape(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011")
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        if key.contains(['\n', '\r', '\0']) || value.contains(['\n', '\r', '\0']) {
            return Err(Error::Unsupported(format!("{key}: {value:?} holds a line break")));
        }
        writeln!(self.0, "{key} = {value}").map_err(|error| Error::Host(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
