//! Control groups, version 2, version 1, or both at once (hybrid), read and written as files.
//!
//! ```text
//!   <mount of a hierarchy>/<prefix of this node>/<instance id>/payload   the guest: limits, use, freezer
//!                                                            /monitor   the engine's monitor
//!                                                            /pivot     where the monitor goes to remove the others
//! ```
//! A controller belongs to one hierarchy: a version 1 mount of its own, or the unified one.

mod disk;
mod files;
mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use files::Group;
pub(crate) use limits::{Setting, live, settings};

/// How a controller is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// What is mounted where on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// Version 1 hierarchies by controller, also `name=systemd`.
    one: BTreeMap<String, PathBuf>,
    /// The unified hierarchy and its controllers.
    two: Option<(PathBuf, BTreeSet<String>)>,
}

impl Layout {
    /// Of this host, as this process sees it.
    pub(crate) fn of_host() -> io::Result<Self> {
        let mut layout = Self::parse(&std::fs::read_to_string("/proc/self/mountinfo")?);
        if let Some((mount, controllers)) = &mut layout.two {
            let names = std::fs::read_to_string(mount.join("cgroup.controllers"))?;
            controllers.extend(names.split_whitespace().map(str::to_owned));
        }
        Ok(layout)
    }

    fn parse(mountinfo: &str) -> Self {
        let mut layout = Layout::default();
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let Some(mount) = place.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut kind = kind.split(' ');
            match (kind.next(), kind.next(), kind.next()) {
                (Some("cgroup2"), ..) => layout.two = layout.two.or(Some((mount, BTreeSet::new()))),
                (Some("cgroup"), _, Some(options)) => {
                    let names = options.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "xattr"));
                    for name in names.filter(|name| !name.starts_with("release_agent") && *name != "clone_children") {
                        layout.one.entry(name.to_owned()).or_insert_with(|| mount.clone());
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// Who has the controller, if anyone.
    pub(crate) fn version(&self, controller: &str) -> Option<Version> {
        if self.one.contains_key(controller) {
            return Some(Version::One);
        }
        self.two.as_ref().filter(|(_, has)| has.contains(controller)).map(|_| Version::Two)
    }

    /// The mount that has the controller.
    fn mount(&self, controller: &str) -> Option<&Path> {
        let two = || self.two.as_ref().filter(|(_, has)| has.contains(controller)).map(|(mount, _)| mount);
        self.one.get(controller).or_else(two).map(PathBuf::as_path)
    }

    /// All hierarchies, each once.
    fn mounts(&self) -> BTreeSet<&Path> {
        self.one.values().chain(self.two.as_ref().map(|(mount, _)| mount)).map(PathBuf::as_path).collect()
    }

    /// Whether there is only the unified hierarchy.
    pub(crate) fn is_unified(&self) -> bool {
        self.one.is_empty() && self.two.is_some()
    }

    /// Whether processes can be frozen.
    pub(crate) fn can_freeze(&self) -> bool {
        self.one.contains_key("freezer") || self.two.is_some()
    }

    /// Whether there is any hierarchy at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.one.is_empty() && self.two.is_none()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Unified, as Debian 12 has it.
    pub(crate) fn unified() -> Layout {
        let mut layout = Layout::parse("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate");
        if let Some((_, controllers)) = &mut layout.two {
            controllers.extend(["cpuset", "cpu", "io", "memory", "pids"].map(str::to_owned));
        }
        layout
    }

    /// All controllers on version 1, beside a unified hierarchy without any.
    pub(crate) fn hybrid() -> Layout {
        let mut text = String::new();
        for name in ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids"] {
            text += &format!("30 20 0:20 / /sys/fs/cgroup/{name} rw,relatime shared:1 - cgroup cgroup rw,{name}\n");
        }
        text += "30 20 0:20 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n";
        text += "31 20 0:21 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        Layout::parse(&text)
    }

    #[test]
    fn controllers_are_found_in_their_hierarchies() {
        let layout = hybrid();
        assert_eq!(layout.version("memory"), Some(Version::One));
        assert_eq!(layout.mount("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(layout.version("io"), None);
        assert_eq!(layout.mounts().len(), 9);
        assert!(layout.can_freeze() && !layout.is_unified());
        let layout = unified();
        assert_eq!(layout.version("memory"), Some(Version::Two));
        assert_eq!(layout.mount("pids"), Some(Path::new("/sys/fs/cgroup")));
        assert!(layout.is_unified());
        assert!(Layout::parse("1 2 0:1 / / rw - ext4 /dev/vda rw").is_empty());
    }
}
