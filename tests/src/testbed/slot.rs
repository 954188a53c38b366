//! Slots: which testbeds exist on this machine. One locked file each; what is in it is all that clean-up needs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const RECORDS: &str = "/run/basalt-testbed";
const FOLDERS: &str = "/var/lib/basalt-testbed";
const SLOTS: u8 = 60;
/// The first octet after `10.` of slot 0, which is the demo's.
const FIRST_NET: u8 = 88;

/// What is known of a testbed, on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub number: u8,
    /// Every name (namespace, link, member) starts with it.
    pub prefix: String,
    pub dir: PathBuf,
    /// Not to be swept when its process is gone: a demo, or kept for inspection.
    pub keep: bool,
}

/// A slot that this process holds.
#[derive(Debug)]
pub struct Slot {
    record: Record,
    file: Flock<File>,
}

impl Slot {
    /// Takes a free slot. Each process begins to look elsewhere: what one gives back is not taken at once by the suite
    /// beside it, so that a test can see that nothing is left in it.
    ///
    /// # Errors
    /// When all are taken or the records cannot be written.
    pub fn take() -> Result<Self> {
        let first = u8::try_from(std::process::id() % u32::from(SLOTS - 1))?;
        for number in (0..SLOTS - 1).map(|step| 1 + (first + step) % (SLOTS - 1)) {
            if let Some(slot) = Self::claim(number, format!("bt{number}"), PathBuf::from(FOLDERS), false)? {
                return Ok(slot);
            }
        }
        bail!("all {SLOTS} testbed slots are taken")
    }

    /// Takes the demo's slot.
    ///
    /// # Errors
    /// When another demo is being made right now, or one is up.
    pub fn demo() -> Result<Self> {
        Self::claim(0, "basalt".into(), PathBuf::from("/var/lib"), true)?.context("a demo is up, or being made")
    }

    /// The record of the demo, if one is up.
    pub fn demo_record() -> Option<Record> {
        read(&path(0))
    }

    /// Takes the demo's empty record away, with the folder when no testbed has one.
    pub fn clear_demo() {
        let _ = std::fs::remove_file(path(0));
        let _ = std::fs::remove_dir(RECORDS);
    }

    /// `None` when it is in use: locked, or with a record that says what is still there.
    fn claim(number: u8, prefix: String, parent: PathBuf, keep: bool) -> Result<Option<Self>> {
        std::fs::create_dir_all(RECORDS).context(RECORDS)?;
        let Some(mut file) = lock(&path(number))? else { return Ok(None) };
        let mut text = String::new();
        file.read_to_string(&mut text).context("read a slot")?;
        if !text.trim().is_empty() {
            return Ok(None);
        }
        let dir = if keep { parent.join("basalt-demo") } else { parent.join(&prefix) };
        let mut slot = Self { record: Record { number, prefix, dir, keep }, file };
        slot.write()?;
        Ok(Some(slot))
    }

    fn write(&mut self) -> Result<()> {
        self.file.set_len(0).context("truncate a slot")?;
        self.file.rewind().context("rewind a slot")?;
        self.file.write_all(serde_json::to_string(&self.record)?.as_bytes()).context("write a slot")
    }

    /// Leaves everything when this process ends.
    pub fn keep(&mut self) {
        self.record.keep = true;
        if let Err(error) = self.write() {
            eprintln!("{error:#}");
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn prefix(&self) -> &str {
        &self.record.prefix
    }

    pub fn dir(&self) -> &Path {
        &self.record.dir
    }
}

impl Record {
    /// First three octets of the fabric's network.
    pub fn net(&self) -> [u8; 3] {
        [10, FIRST_NET + self.number, 0]
    }

    /// Forgets the testbed: its slot is free once its process is gone.
    ///
    /// # Errors
    /// When the record cannot be changed.
    pub fn forget(&self) -> Result<()> {
        // Truncated and not removed: a removed file could be locked by one process while another makes it anew.
        OpenOptions::new().write(true).truncate(true).open(path(self.number)).context("forget a slot")?;
        Ok(())
    }
}

/// Records whose process is gone, each with the lock that keeps others from sweeping it too.
pub(super) fn orphans() -> Result<Vec<(Record, Flock<File>)>> {
    let mut found = Vec::new();
    for number in 1..SLOTS {
        if !path(number).exists() {
            continue;
        }
        let Some(file) = lock(&path(number))? else { continue };
        if let Some(record) = read(&path(number)).filter(|r| !r.keep) {
            found.push((record, file));
        }
    }
    Ok(found)
}

fn path(number: u8) -> PathBuf {
    Path::new(RECORDS).join(format!("slot-{number}"))
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn lock(path: &Path) -> Result<Option<Flock<File>>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    // std opens with O_CLOEXEC, so a node does not inherit the lock.
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(locked)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}
