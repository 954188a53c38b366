//! What the driver keeps of an instance on disk, in its runtime folder.
//!
//! ```text
//!   runtime.json   Stamp: epoch and generation    replaced and synced by prepare: it must survive the machine, it fences
//!   run.json       Run: the last start             not synced: after a crash of the machine nothing runs anyway
//!   starting.json  Run: a start under way          there from before the engine starts until run.json tells the result
//! ```
//! After a crash in between, a later driver finds `starting.json` and knows that it has to look for what was begun. Both
//! are made anew, not renamed over an old one: ext4 answers that by writing the data out, which costs a start more than
//! all else here.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use basalt_model::{Epoch, Generation, InstanceId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// Who may run it, and what its configuration was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) id: InstanceId,
    pub(crate) epoch: Epoch,
    pub(crate) generation: Generation,
    /// Host ends of its network interfaces: gone only when these are.
    pub(crate) host_names: Vec<String>,
}

/// The starts of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The last one that succeeded.
    pub(crate) last: Option<Started>,
    /// One whose end was not written down (yet).
    pub(crate) starting: Option<Starting>,
}

/// A start that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) start: u64,
    pub(crate) boot: String,
    /// `None`, like the init, when it had ended before the start returned.
    pub(crate) monitor: Option<Process>,
    pub(crate) init: Option<Process>,
    pub(crate) at: Timestamp,
}

/// A start under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Starting {
    pub(crate) start: u64,
    pub(crate) boot: String,
}

/// The runtime folder of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn of(lxc_path: &Path, id: InstanceId) -> Self {
        Folder(lxc_path.join(id.to_string()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `None` when there is no such instance.
    pub(crate) fn stamp(&self) -> io::Result<Option<Stamp>> {
        read(&self.file("runtime.json"))
    }

    pub(crate) fn write_stamp(&self, stamp: &Stamp) -> io::Result<()> {
        replace(&self.file("runtime.json"), &serde_json::to_vec_pretty(stamp)?, Sync::Yes)
    }

    /// A file that cannot be read was lost with the machine, or cut off; what runs is then found by looking.
    pub(crate) fn run(&self) -> io::Result<Option<Run>> {
        let read = read(&self.file("starting.json")).and_then(|starting| match starting {
            Some(run) => Ok(Some(run)),
            None => read(&self.file("run.json")),
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(folder = %self.0.display(), %error, "what ran has to be looked for");
                Ok(None)
            }
            other => other.map(|run| Some(run.unwrap_or_default())),
        }
    }

    /// Before a start.
    pub(crate) fn write_starting(&self, last: Option<Started>, starting: Starting) -> io::Result<()> {
        let path = self.file("starting.json");
        gone(std::fs::remove_file(&path))?;
        std::fs::write(path, serde_json::to_vec(&Run { last, starting: Some(starting) })?)
    }

    /// After it, or when something else was found.
    pub(crate) fn write_run(&self, last: Option<Started>) -> io::Result<()> {
        // A start and a look at the same instance may both come to this: each with a file of its own.
        let next = self.file(&format!("run.{:?}.next", std::thread::current().id()));
        let path = self.file("run.json");
        gone(std::fs::remove_file(&next))?;
        std::fs::write(&next, serde_json::to_vec(&Run { last, starting: None })?)?;
        gone(std::fs::remove_file(&path))?;
        std::fs::rename(next, path)?;
        gone(std::fs::remove_file(self.file("starting.json")))
    }

    /// Writes a file only if that changes it.
    pub(crate) fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.file(name);
        match std::fs::read(&path) {
            Ok(old) if old == text.as_bytes() => Ok(()),
            Ok(_) => replace(&path, text.as_bytes(), Sync::No),
            Err(error) if error.kind() == io::ErrorKind::NotFound => replace(&path, text.as_bytes(), Sync::No),
            Err(error) => Err(error),
        }
    }

    /// Removes the folder, its stamp last: until then a repeated destroy finds the rest.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name() == "runtime.json" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        gone(std::fs::remove_file(self.file("runtime.json")))?;
        gone(std::fs::remove_dir(&self.0))
    }
}

/// "It is not there" is success.
pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Yes,
    No,
}

fn replace(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(bytes)?;
    if sync == Sync::Yes {
        file.sync_all()?;
    }
    std::fs::rename(&next, path)?;
    if sync == Sync::Yes {
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_may_write_the_record_at_once() {
        let root = tempfile::tempdir().unwrap();
        let id = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let folder = Folder::of(root.path(), id);
        std::fs::create_dir_all(folder.file("run.json").parent().unwrap()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| folder.write_run(None).unwrap()));
            }
        });
        assert!(folder.file("run.json").exists());
    }

    #[test]
    fn a_folder_is_gone_only_with_its_stamp() {
        let root = tempfile::tempdir().unwrap();
        let id = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let folder = Folder::of(root.path(), id);
        assert_eq!(folder.stamp().unwrap(), None);
        std::fs::create_dir(folder.path()).unwrap();
        let stamp = Stamp { id, epoch: Epoch(2), generation: Generation(3), host_names: vec!["v1".into()] };
        folder.write_stamp(&stamp).unwrap();
        assert_eq!(folder.stamp().unwrap(), Some(stamp));
        assert_eq!(folder.run().unwrap(), Some(Run::default()));
        std::fs::write(folder.file("run.json"), "").unwrap();
        assert_eq!(folder.run().unwrap(), None, "damaged is not the same as never");
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert!(!folder.path().exists());
    }

    #[test]
    fn a_damaged_stamp_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::of(root.path(), "00000000-0000-4000-8000-000000000001".parse().unwrap());
        std::fs::create_dir(folder.path()).unwrap();
        std::fs::write(folder.file("runtime.json"), "{").unwrap();
        assert!(folder.stamp().unwrap_err().to_string().contains("runtime.json is damaged"));
    }
}
