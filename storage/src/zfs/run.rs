//! Runs the driver's commands and sorts their failures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_runtime::{CommandRunner, ExecError, Invocation};

use super::Flavour;
use super::names::Dataset;
use super::parse::{self, Properties};
use super::{argv, names};
use crate::{Error, filesystem};

/// How long a dataset may be busy after its unmount.
const BUSY: Duration = Duration::from_secs(20);

/// The commands of one pool.
#[derive(Debug, Clone)]
pub(super) struct Zfs {
    pub(super) flavour: Flavour,
    pub(super) runner: Arc<dyn CommandRunner>,
    /// `pool NAME`, for errors.
    pub(super) place: String,
}

impl Zfs {
    pub(super) async fn run(&self, step: &str, command: Invocation) -> Result<(), Error> {
        self.try_run(command).await.map_err(|error| self.failed(step, error))
    }

    pub(super) async fn try_run(&self, command: Invocation) -> Result<(), ExecError> {
        self.runner.run(command).await.map(|_| ())
    }

    pub(super) fn failed(&self, step: &str, error: ExecError) -> Error {
        Error::exec(&self.place, step, error)
    }

    /// Properties of one dataset; `None` when it is not there.
    pub(super) async fn get(&self, dataset: &str, properties: &[&str]) -> Result<Option<Properties>, Error> {
        match self.runner.run(argv::get(dataset, false, properties)).await {
            Ok(done) => Ok(self.parse(&done.text())?.remove(dataset)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("read properties", error)),
        }
    }

    /// Properties of a dataset and of all below it.
    pub(super) async fn get_all(
        &self,
        dataset: &str,
        properties: &[&str],
    ) -> Result<BTreeMap<String, Properties>, Error> {
        match self.runner.run(argv::get(dataset, true, properties)).await {
            Ok(done) => self.parse(&done.text()),
            Err(error) => Err(self.failed("read properties", error)),
        }
    }

    fn parse(&self, text: &str) -> Result<BTreeMap<String, Properties>, Error> {
        parse::properties(text).map_err(|why| Error::invalid(&self.place, why))
    }

    pub(super) async fn exists(&self, dataset: &str) -> Result<bool, Error> {
        Ok(self.get(dataset, &["used"]).await?.is_some())
    }

    /// Removes a dataset with its snapshots; what is gone is a success.
    pub(super) async fn destroy(&self, step: &str, dataset: &str) -> Result<(), Error> {
        match self.try_destroy(dataset).await {
            Err(error) if !is_missing(&error) => Err(self.failed(step, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) async fn try_destroy(&self, dataset: &str) -> Result<(), ExecError> {
        self.settled(|| argv::destroy(dataset)).await
    }

    pub(super) async fn rename(&self, step: &str, from: &str, to: &str) -> Result<(), Error> {
        self.settled(|| argv::rename(from, to)).await.map_err(|error| self.failed(step, error))
    }

    /// Takes a dataset that is not mounted back to its newest snapshot.
    pub(super) async fn rollback(&self, step: &str, snapshot: &str) -> Result<(), Error> {
        self.settled(|| argv::rollback(snapshot)).await.map_err(|error| self.failed(step, error))
    }

    /// Runs what an unmount came before. zfs-fuse lets go of a file system some time after it is unmounted, and a short
    /// look of some indexer holds it too; so "busy" is only believed after a while. A rollback in that time is said to
    /// fail with an I/O error.
    async fn settled(&self, command: impl Fn() -> Invocation) -> Result<(), ExecError> {
        let since = Instant::now();
        loop {
            match self.try_run(command()).await {
                Err(error) if self.is_passing(&error) && since.elapsed() < BUSY => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    }

    fn is_passing(&self, error: &ExecError) -> bool {
        let said = error.stderr();
        said.contains("busy") || (self.flavour == Flavour::Fuse && said.contains("I/O error"))
    }

    /// Mounts a dataset unless it is. The mount must be seen from here: zfs-fuse mounts where the daemon lives.
    pub(super) async fn mount(&self, dataset: &Dataset) -> Result<(), Error> {
        if self.is_mounted(&dataset.mount)? {
            return Ok(());
        }
        match self.try_run(argv::mount(&dataset.name)).await {
            Err(error) if !error.stderr().contains("already mounted") => return Err(self.failed("mount", error)),
            Ok(()) | Err(_) => {}
        }
        if self.is_mounted(&dataset.mount)? {
            return Ok(());
        }
        let why = format!(
            "{} is mounted, but not seen from here: this process is in another mount namespace than {}",
            dataset.name,
            match self.flavour {
                Flavour::Kernel => "the one that mounted it",
                Flavour::Fuse => "the zfs-fuse daemon",
            }
        );
        Err(Error::unsupported(&self.place, why))
    }

    /// Unmounts a dataset if it is mounted, and removes the folder that it was mounted on.
    pub(super) async fn unmount(&self, dataset: &Dataset) -> Result<(), Error> {
        self.release(&dataset.name).await?;
        self.remove_folder(&dataset.mount)
    }

    /// Unmounts a dataset if it is mounted.
    pub(super) async fn release(&self, dataset: &str) -> Result<(), Error> {
        match self.try_run(argv::unmount(dataset)).await {
            Err(error) if !is_missing(&error) && !error.stderr().contains("not currently mounted") => {
                Err(self.failed("unmount", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes an empty folder that was a mount point.
    pub(super) fn remove_folder(&self, folder: &Path) -> Result<(), Error> {
        match std::fs::remove_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(&self.place, format!("remove {}", names::text(folder)), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn is_mounted(&self, path: &Path) -> Result<bool, Error> {
        filesystem::is_mount_point(path).map_err(|error| Error::io(&self.place, "look at mount", error))
    }
}

/// Whether the command failed because its object is not there.
pub(super) fn is_missing(error: &ExecError) -> bool {
    ["does not exist", "no such pool", "no such dataset"].iter().any(|words| error.stderr().contains(words))
}
