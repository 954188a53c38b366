//! The process that keeps a node's namespaces.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Run in the new mount namespace. A sysfs shows the links of the network namespace it was mounted in.
const SCRIPT: &str = "\
set -e
stage=$(mktemp -d)
mount -t tmpfs none $stage
mkdir $stage/sys
mount -t sysfs sysfs $stage/sys
mount --rbind /sys/fs/cgroup $stage/sys/fs/cgroup
mount --rbind $stage/sys /sys
umount -l $stage
rmdir $stage
echo ready
exec >&- 2>&-
exec sleep infinity
";

/// Starts the holder of a node; it ends with the testbed's processes. Gives back its process id.
pub(super) fn start(netns: &str) -> Result<i32> {
    // None of the programs in this chain forks: the process id is the same to the end.
    let mut child = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", SCRIPT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("start the holder of a node")?;
    let mut line = String::new();
    let output = child.stdout.take().context("the holder's output")?;
    BufReader::new(output).read_line(&mut line).context("read from the holder")?;
    if line.trim() != "ready" {
        bail!("the namespaces of {netns} could not be made: {:?}", child.wait());
    }
    i32::try_from(child.id()).context("a process id")
}
