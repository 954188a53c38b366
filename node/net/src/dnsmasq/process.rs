//! Finding our daemons among the processes of this host.
//!
//! Processes of containers are visible too and may claim any argument list; they live in pid
//! namespaces of their own, and are passed over.

use std::{fs, io, path::Path};

use super::argv;

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) pid: i32,
    args: Vec<String>,
    tag: Option<String>,
    /// In the network namespace we are in ourselves.
    here: bool,
}

impl Daemon {
    /// Whether it does exactly this.
    pub(super) fn is(&self, args: &[String], tag: &str) -> bool {
        self.here && self.args == args && self.tag.as_deref() == Some(tag)
    }
}

/// The daemon that its pid file names, if it is one of ours: spares reading all of /proc.
pub(super) fn named(pid_file: &Path) -> Option<Daemon> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    look(pid, &argv::pid_file(pid_file))
}

/// Every dnsmasq with this pid file, in whatever network namespace.
pub(super) fn find(pid_file: &Path) -> io::Result<Vec<Daemon>> {
    let mark = argv::pid_file(pid_file);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        // A process may end at any moment: then it is not there.
        found.extend(pid.and_then(|pid| look(pid, &mark)));
    }
    Ok(found)
}

fn look(pid: i32, mark: &str) -> Option<Daemon> {
    let command = words(&fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    let (program, args) = command.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    if name != argv::PROGRAM || !args.iter().any(|arg| arg == mark) {
        return None;
    }
    if !same_namespace(pid, "pid") {
        return None;
    }
    let environment = words(&fs::read(format!("/proc/{pid}/environ")).ok()?);
    let tag = environment.iter().find_map(|pair| {
        let value = pair.strip_prefix(argv::TAG)?.strip_prefix('=')?;
        Some(value.to_owned())
    });
    Some(Daemon { pid, args: args.to_vec(), tag, here: same_namespace(pid, "net") })
}

/// Whether a process still runs. While it ends its argument list is empty, but its sockets are still
/// open; a zombie has none left.
pub(super) fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold any character.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn same_namespace(pid: i32, kind: &str) -> bool {
    // The calling thread counts, not the process: a namespace belongs to a thread.
    let ours = fs::read_link(format!("/proc/thread-self/ns/{kind}"));
    let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}

fn words(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_lists_keep_empty_words() {
        assert_eq!(words(b"dnsmasq\0--conf-file=\0\0x\0"), ["dnsmasq", "--conf-file=", "", "x"]);
    }

    #[test]
    fn tells_the_living() {
        assert!(alive(std::process::id() as i32));
        assert!(!alive(i32::MAX));
    }

    #[test]
    fn strangers_are_not_ours() {
        assert!(find(Path::new("/nowhere/dnsmasq.pid")).unwrap().is_empty());
    }
}
