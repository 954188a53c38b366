//! Programs of the host.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end and gives back its standard output.
///
/// # Errors
/// When it cannot be started or ends with another status than 0; the error holds its standard error.
pub fn run<S: AsRef<str>>(argv: &[S]) -> Result<String> {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let (program, arguments) = words.split_first().context("an empty command")?;
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !done.status.success() {
        bail!("{}: {}: {}", words.join(" "), done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program for its effect where a failure means that there was nothing to do (clean-up).
pub fn try_run<S: AsRef<str>>(argv: &[S]) -> Option<String> {
    run(argv).ok()
}

/// Where a program lies in `PATH` or the system folders.
pub fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .map(|folder| Path::new(folder).join(program))
        .find(|file| file.is_file())
}

/// Whether we are root, which namespaces need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The processes of this machine.
pub fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// A number out of `/proc/PID/status`, e.g. `VmRSS:` in kB or `PPid:`.
pub fn status_field(pid: i32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line[field.len()..].split_whitespace().next()?.parse().ok()
}

/// Whether the process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

/// Mount points under a folder, innermost first.
pub fn mounts_under(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let prefix = format!("{}/", folder.display());
    let mut found: Vec<String> = text
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .filter(|m| m.starts_with(&prefix))
        .map(str::to_owned)
        .collect();
    found.sort_by_key(|mount| std::cmp::Reverse(mount.len()));
    found
}
