//! Which init a root file system has, and by which signal that one shuts down.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// The inits whose manners differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    Systemd,
    Busybox,
    /// SysV init, OpenRC, runit and others that take a power failure as the order to shut down.
    Other,
}

impl Init {
    /// By the name of its program file.
    pub(crate) fn named(program: &str) -> Self {
        match program {
            "systemd" => Init::Systemd,
            "busybox" | "busybox.static" => Init::Busybox,
            _ => Init::Other,
        }
    }

    /// What `/sbin/init` under `root` is. Links are followed as the guest would, never out of its root.
    pub(crate) fn of_root(root: &Path) -> Self {
        resolve(root).map_or(Init::Other, |program| Init::named(&program))
    }

    /// The engine's name for the signal.
    pub(crate) fn halt(self) -> &'static str {
        match self {
            Init::Systemd => "SIGRTMIN+3",
            Init::Busybox => "SIGUSR2",
            Init::Other => "SIGPWR",
        }
    }
}

/// Name of the file that `/sbin/init` leads to; the file itself is not read.
fn resolve(root: &Path) -> Option<String> {
    let root = File::open(root).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let init = openat2(&root, "sbin/init", how).ok()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", init.as_raw_fd())).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        assert_eq!(Init::of_root(root.path()), Init::Other);
        std::fs::create_dir_all(at("usr/sbin")).unwrap();
        std::fs::create_dir_all(at("usr/lib/systemd")).unwrap();
        std::fs::write(at("usr/lib/systemd/systemd"), "").unwrap();
        symlink("usr/sbin", at("sbin")).unwrap();
        symlink("/usr/lib/systemd/systemd", at("usr/sbin/init")).unwrap();
        assert_eq!(Init::of_root(root.path()), Init::Systemd);
        std::fs::remove_file(at("usr/sbin/init")).unwrap();
        // The host's busybox, not the guest's: there is none in the guest.
        symlink("../../../../../../../../bin/busybox", at("usr/sbin/init")).unwrap();
        assert_eq!(Init::of_root(root.path()), Init::Other);
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::write(at("bin/busybox"), "").unwrap();
        assert_eq!(Init::of_root(root.path()), Init::Busybox);
    }
}
