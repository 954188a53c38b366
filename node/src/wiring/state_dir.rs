//! The folder of everything this node keeps: private, and used by one `basaltd` at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held as long as the node runs.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "the lock ends when this is dropped")] Flock<File>);

/// How long the lock of a basaltd that is gone may outlive it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes the folder and takes its lock; `basaltd.pid` holds our pid.
pub(super) fn prepare(dir: &Path) -> anyhow::Result<Lock> {
    // Others may pass through, since id-mapped containers must reach their roots, but not list.
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    let path = dir.join("basaltd.pid");
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
    let begun = Instant::now();
    let mut lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            // A basaltd that was killed while it started a program leaves, for a moment, a child that holds its files.
            Err((given_back, _)) if begun.elapsed() < PATIENCE => file = given_back,
            Err((_, _)) => bail!("{} is in use by another basaltd", dir.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(Lock(lock))
}
