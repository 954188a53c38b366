//! What is known to work with which client, as tests found it: the source of the README's compat table.
//!
//! ```text
//!   test:  let _row = compat::row("exec: pty", Client::Lxc);     // declares: "this test decides about that cell"
//!          ... asserts ...                                       // a panic makes it "no"; the guard's end makes it "yes"
//!             |
//!             v
//!   target/compat/lxc/exec-pty.stock.json  --- bin/compat -->  README.md, between <!-- compat --> and <!-- /compat -->
//! ```
//!
//! **How to use it.** A feature is a short text, `topic: what` (`"snapshot: restore"`); the same text in another test or for
//! another client is the same row. A test of one feature takes a [`row`] guard. A test that walks many features with one
//! cluster uses [`Rows`], where a failed row does not hide those after it, and `BASALT_ROWS=exec` runs only the rows whose
//! feature holds that text. Clients that are set up and trusted come from [`Stock::connect`]. A test that cannot run
//! leaves its rows alone: take the guard after `require!`; or say so with [`Row::skip`].
//!
//! After the suites, `make compat` writes the table into the README, and `compat check` (end of `make suites`) says when
//! the README says otherwise than the tests that ran, or names a feature that no test declares. Cells whose test did not
//! run keep what they say, and are listed.

mod stock;
pub mod table;
mod terminal;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use stock::{Stock, token};
pub use terminal::Terminal;

/// A client program or library that others made, or our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// `lxc` of LXD 5.0
    Lxc,
    /// `incus` of Incus 6.0
    Incus,
    /// `basalt`
    Basalt,
    /// The Python library of LXD
    Pylxd,
    /// The `lxd_*` modules of Ansible's `community.general`
    Ansible,
}

impl Client {
    pub const ALL: [Self; 5] = [Self::Lxc, Self::Incus, Self::Basalt, Self::Pylxd, Self::Ansible];

    /// As it is called at a shell.
    pub fn program(self) -> &'static str {
        match self {
            Self::Lxc => "lxc",
            Self::Incus => "incus",
            Self::Basalt => "basalt",
            Self::Pylxd => "pylxd",
            Self::Ansible => "ansible",
        }
    }

    /// As the head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Lxc => "`lxc` 5.0",
            Self::Incus => "`incus` 6.0",
            Self::Basalt => "`basalt`",
            Self::Pylxd => "pylxd",
            Self::Ansible => "Ansible",
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// What a test found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Works,
    Fails,
    /// The test could not run: nothing is known.
    Skipped,
}

/// One finding, as it lies in `target/compat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub feature: String,
    pub client: Client,
    pub outcome: Outcome,
    /// The test program's process: of two tests of one program for one cell, both must pass.
    pub run: u32,
}

/// Declares that this test decides whether `feature` works with `client`. Dropped well, it does; dropped by a panic, not.
#[must_use = "the row ends, and with it what was found, where the guard is dropped"]
pub fn row(feature: &str, client: Client) -> Row {
    Row { record: Record { feature: feature.into(), client, outcome: Outcome::Works, run: std::process::id() } }
}

/// See [`row`].
#[derive(Debug)]
pub struct Row {
    record: Record,
}

impl Row {
    /// Nothing was found out, for that reason.
    pub fn skip(mut self, why: &str) {
        self.record.outcome = Outcome::Skipped;
        crate::facility::skip(&format!("{} with {}", self.record.feature, self.record.client), why);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.record.outcome = Outcome::Fails;
        }
        if let Err(error) = folder().and_then(|folder| write(&folder, &self.record)) {
            eprintln!("compat: {}: {error:#}", self.record.feature);
        }
    }
}

/// Many rows of one client, against one cluster. All run; the end fails when one did.
#[derive(Debug)]
pub struct Rows {
    client: Client,
    only: Option<String>,
    failed: Vec<String>,
}

impl Rows {
    pub fn of(client: Client) -> Self {
        let only = std::env::var("BASALT_ROWS").ok().filter(|text| !text.is_empty());
        Self { client, only, failed: Vec::new() }
    }

    /// Runs the test of one feature.
    pub fn row(&mut self, feature: &str, test: impl FnOnce()) {
        if self.only.as_ref().is_some_and(|only| !feature.contains(only.as_str())) {
            return;
        }
        let begun = std::time::Instant::now();
        let client = self.client;
        let done = catch_unwind(AssertUnwindSafe(move || {
            let _row = row(feature, client);
            test();
        }));
        let said = if done.is_ok() { "ok" } else { "FAILED" };
        println!("{client}: {feature} ... {said} ({:.1} s)", begun.elapsed().as_secs_f64());
        if done.is_err() {
            self.failed.push(feature.to_owned());
        }
    }

    /// Says so when a feature does not work.
    ///
    /// # Panics
    /// When a row failed: this is how a test fails.
    pub fn done(self) {
        assert!(self.failed.is_empty(), "with {}: {}", self.client, self.failed.join(", "));
    }
}

/// Where findings lie: `compat` in cargo's target folder, which the running program is in.
///
/// # Errors
/// When this program was not built by cargo.
pub fn folder() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("this program's own path")?;
    let target = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(target.context("this program does not lie in a target folder")?.join("compat"))
}

fn write(folder: &Path, record: &Record) -> Result<()> {
    let folder = folder.join(record.client.program());
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let exe = std::env::current_exe().context("this program's own path")?;
    // `stock` of `stock-0123456789abcdef`.
    let test = exe.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let test = test.rsplit_once('-').map_or(test, |(name, _)| name);
    let file = folder.join(format!("{}.{test}.json", slug(&record.feature)));
    let before = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    if before.is_some_and(|b| b.run == record.run && b.outcome == Outcome::Fails) {
        return Ok(());
    }
    std::fs::write(&file, serde_json::to_vec(record)?).with_context(|| format!("write {}", file.display()))
}

fn slug(feature: &str) -> String {
    let plain: String =
        feature.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Everything found since the folder was last emptied.
///
/// # Errors
/// When a file cannot be read or understood.
pub fn records(folder: &Path) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    for client in Client::ALL {
        let Ok(entries) = std::fs::read_dir(folder.join(client.program())) else { continue };
        for entry in entries {
            let path = entry?.path();
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            found.push(serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(feature: &str, outcome: Outcome, run: u32) -> Record {
        Record { feature: feature.into(), client: Client::Lxc, outcome, run }
    }

    #[test]
    fn a_failure_stays_for_the_run_that_found_it() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &record("exec: pty", Outcome::Fails, 1)).unwrap();
        write(folder.path(), &record("exec: pty", Outcome::Works, 1)).unwrap();
        assert_eq!(records(folder.path()).unwrap(), [record("exec: pty", Outcome::Fails, 1)]);
        write(folder.path(), &record("exec: pty", Outcome::Works, 2)).unwrap();
        assert_eq!(records(folder.path()).unwrap(), [record("exec: pty", Outcome::Works, 2)]);
    }

    #[test]
    fn a_panic_is_a_no_and_does_not_end_the_walk() {
        // In a folder of its own: what this test makes up is no finding.
        let mut rows = Rows { client: Client::Lxc, only: Some("unit-test".into()), failed: Vec::new() };
        rows.row("another feature", || panic!("not to be run"));
        assert!(rows.failed.is_empty());
        let failed = catch_unwind(|| Rows { failed: vec!["exec".into()], ..rows }.done());
        assert!(failed.is_err());
    }
}
