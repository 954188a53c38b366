//! Which ZFS this host has, and starting zfs-fuse where it is that one.

use std::path::Path;
use std::time::{Duration, Instant};

use basalt_runtime::{CommandRunner, ExecError, Invocation};

use super::argv;
use crate::Error;

const DAEMON: &str = "zfs-fuse";
const PID_FILE: &str = "/run/zfs-fuse.pid";
const START: Duration = Duration::from_secs(15);

/// Which ZFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// OpenZFS in the kernel.
    Kernel,
    /// The zfs-fuse daemon.
    Fuse,
}

impl Flavour {
    /// The kernel's, if its control device is there.
    pub(super) fn detect() -> Self {
        if Path::new("/dev/zfs").exists() { Flavour::Kernel } else { Flavour::Fuse }
    }
}

/// Its version, or why it cannot be used. Starts nothing.
pub(crate) async fn probe(runner: &dyn CommandRunner) -> Result<String, String> {
    match Flavour::detect() {
        Flavour::Kernel => {
            runner.run(argv::ping()).await.map_err(|error| error.to_string())?;
            let version = std::fs::read_to_string("/sys/module/zfs/version").unwrap_or_default();
            Ok(if version.is_empty() { "OpenZFS".to_owned() } else { version.trim().to_owned() })
        }
        Flavour::Fuse => {
            match runner.run(argv::ping()).await {
                Err(error @ (ExecError::NotFound { .. } | ExecError::Spawn { .. })) => return Err(error.to_string()),
                Ok(_) => return Ok(DAEMON.to_owned()),
                Err(ExecError::Failed { .. } | ExecError::Deadline { .. } | ExecError::Io { .. }) => {}
            }
            if !Path::new("/dev/fuse").exists() {
                return Err("neither /dev/zfs nor /dev/fuse is there".to_owned());
            }
            match runner.run(Invocation::new(DAEMON).arg("--help").deadline(START)).await {
                Err(error @ ExecError::NotFound { .. }) => Err(error.to_string()),
                // It runs; what it says of its options does not matter.
                Ok(_) | Err(ExecError::Failed { .. }) => Ok(format!("{DAEMON} (started when first used)")),
                Err(error @ (ExecError::Spawn { .. } | ExecError::Deadline { .. } | ExecError::Io { .. })) => {
                    Err(error.to_string())
                }
            }
        }
    }
}

/// Makes sure that ZFS answers, starting zfs-fuse where that is what serves it. Several agents may do so at once: the
/// daemon takes a lock, the losers end, and all ask until somebody answers.
pub(super) async fn ensure(runner: &dyn CommandRunner, flavour: Flavour, place: &str) -> Result<(), Error> {
    let first = match runner.run(argv::ping()).await {
        Ok(_) => return Ok(()),
        Err(error @ ExecError::NotFound { .. }) => return Err(Error::exec(place, "look for ZFS", error)),
        Err(error) => error,
    };
    if flavour == Flavour::Kernel {
        return Err(Error::exec(place, "look for ZFS", first));
    }
    tracing::info!("starting {DAEMON}");
    let started = runner.run(Invocation::new(DAEMON).args(["--no-kstat-mount", "-p", PID_FILE]).deadline(START)).await;
    let since = Instant::now();
    loop {
        match runner.run(argv::ping()).await {
            Ok(_) => return Ok(()),
            Err(_) if since.elapsed() < START => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => {
                let error = started.err().unwrap_or(error);
                return Err(Error::exec(place, format!("start {DAEMON}"), error));
            }
        }
    }
}
