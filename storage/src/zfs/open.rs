//! Opening a pool: find it, import it, or make it; then check that it is ours and lay it out.

use std::collections::BTreeMap;

use basalt_model::PoolName;

use super::names::{FOLDERS, MEMBER, Names, POOL, STATE_DIR, text};
use super::run::{Zfs, is_missing};
use super::store::ZfsStore;
use super::vdev::{Source, Wanted, wanted};
use super::{Flavour, argv, daemon, parse};
use crate::dir::make_folder;
use crate::{Error, StorageHost};

/// Whose a pool is: values of the three stamps.
struct Owner {
    member: String,
    state_dir: String,
    pool: String,
}

impl Owner {
    fn stamps(&self) -> [argv::Property<'_>; 3] {
        [(MEMBER, &self.member), (STATE_DIR, &self.state_dir), (POOL, &self.pool)]
    }
}

struct Opening {
    zfs: Zfs,
    wanted: Wanted,
    owner: Owner,
}

/// Opens the pool, importing or making it as needed.
pub(crate) async fn open(
    host: &StorageHost,
    name: &PoolName,
    config: &BTreeMap<String, String>,
) -> Result<ZfsStore, Error> {
    let opening = Opening::start(host, name, config).await?;
    if !opening.find().await? {
        opening.make().await?;
    }
    opening.claim().await?;
    opening.lay_out().await?;
    let names = Names { root: opening.wanted.root().to_owned(), mounts: host.pool_dir(name) };
    // Guests without idmapped mounts walk to their root with ids of their own: the way must let them pass.
    let above = names.mounts.parent().unwrap_or(&names.mounts).to_owned();
    let below = |folder: &str| names.mounts.join(folder);
    let own = [(below("instances"), 0o711), (below("images"), 0o700), (below("views"), 0o700)];
    let modes = [(above, 0o711), (names.mounts.clone(), 0o711)].into_iter().chain(own);
    for (folder, mode) in modes {
        make_folder(&folder, mode).map_err(|error| opening.io("make folders", error))?;
    }
    let store = ZfsStore::new(opening.zfs, names);
    store.sweep_images().await?;
    store.sweep_views().await?;
    store.finish_restores().await?;
    store.sweep().await?;
    Ok(store)
}

/// Removes the pool unless it holds volumes.
pub(crate) async fn remove(
    host: &StorageHost,
    name: &PoolName,
    config: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let opening = Opening::start(host, name, config).await?;
    if opening.find().await? && opening.is_ours().await? {
        opening.take_away().await?;
    }
    opening.wanted.remove().map_err(|error| opening.io("remove files", error))?;
    for folder in ["instances", "images", "views", ""] {
        opening.zfs.remove_folder(&host.pool_dir(name).join(folder))?;
    }
    Ok(())
}

impl Opening {
    async fn start(host: &StorageHost, name: &PoolName, config: &BTreeMap<String, String>) -> Result<Self, Error> {
        let wanted = wanted(host, name, config)?;
        let (flavour, place) = (Flavour::detect(), format!("pool {name}"));
        daemon::ensure(&*host.runner, flavour, &place).await?;
        let owner = Owner { member: host.member.to_string(), state_dir: text(&host.state_dir), pool: name.to_string() };
        Ok(Opening { zfs: Zfs { flavour, runner: host.runner.clone(), place }, wanted, owner })
    }

    fn io(&self, step: &str, error: std::io::Error) -> Error {
        Error::io(&self.zfs.place, step, error)
    }

    fn refuse(&self, why: String) -> Error {
        Error::invalid(&self.zfs.place, why)
    }

    /// Whether the pool is there, imported if it was not.
    async fn find(&self) -> Result<bool, Error> {
        let Some(vdev) = self.wanted.vdev() else {
            let there = self.zfs.exists(self.wanted.root()).await?;
            return if there { Ok(true) } else { Err(Error::not_found(format!("dataset {}", self.wanted.root()))) };
        };
        if self.is_imported().await? {
            return Ok(true);
        }
        if !vdev.try_exists().map_err(|error| self.io("look for source", error))? {
            return match self.wanted.source {
                Source::File { .. } => Ok(false),
                Source::Device(_) | Source::Existing(_) => Err(Error::not_found(text(vdev))),
            };
        }
        self.wanted.link().map_err(|error| self.io("prepare import", error))?;
        let command = argv::import_pool(self.zfs.flavour, &self.wanted.zpool, &self.wanted.import);
        match self.zfs.try_run(command).await {
            Ok(()) => Ok(true),
            Err(error)
                if error.stderr().contains("no such pool available")
                    || error.stderr().contains("no pools available") =>
            {
                Ok(false)
            }
            Err(error) => Err(self.zfs.failed("import pool", error)),
        }
    }

    async fn is_imported(&self) -> Result<bool, Error> {
        match self.zfs.runner.run(argv::health(&self.wanted.zpool)).await {
            Ok(done) => match done.text().trim() {
                "ONLINE" | "DEGRADED" => Ok(true),
                health => Err(Error::Host {
                    place: self.zfs.place.clone(),
                    step: format!("zpool {} is {health}", self.wanted.zpool),
                    source: "see `zpool status`".into(),
                }),
            },
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(self.zfs.failed("look for pool", error)),
        }
    }

    /// Makes the zpool. A file that was there before is only taken if it is empty or we were making it.
    async fn make(&self) -> Result<(), Error> {
        let Some(vdev) = self.wanted.vdev() else { return Ok(()) };
        let started = self.wanted.is_being_made().map_err(|error| self.io("look for mark", error))?;
        let length = match &self.wanted.source {
            Source::File { path, .. } => std::fs::metadata(path).map_or(0, |found| found.len()),
            // zpool itself refuses a device with anything on it.
            Source::Device(_) | Source::Existing(_) => 0,
        };
        if length > 0 && !started {
            return Err(self.refuse(format!(
                "{} is there but holds no zpool {}: restore it, or remove it to start anew",
                vdev.display(),
                self.wanted.zpool
            )));
        }
        self.wanted.begin().and_then(|()| self.wanted.make_file()).map_err(|error| self.io("make file", error))?;
        let stamps = self.owner.stamps();
        let command = argv::create_pool(self.zfs.flavour, &self.wanted.zpool, vdev, &stamps);
        self.zfs.run("create zpool", command).await?;
        tracing::info!(zpool = self.wanted.zpool, vdev = %vdev.display(), "made a zpool");
        Ok(())
    }

    async fn stamps(&self) -> Result<parse::Properties, Error> {
        let found = self.zfs.get(self.wanted.root(), &[MEMBER, STATE_DIR, POOL]).await?;
        found.ok_or_else(|| Error::not_found(format!("dataset {}", self.wanted.root())))
    }

    async fn is_ours(&self) -> Result<bool, Error> {
        let found = self.stamps().await?;
        Ok(self.owner.stamps().iter().all(|(name, value)| found.local(name) == Some(value)))
    }

    /// Refuses a pool of somebody else; stamps an existing dataset that is empty.
    async fn claim(&self) -> Result<(), Error> {
        let found = self.stamps().await?;
        let differs = |(name, value): &argv::Property<'_>| found.local(name).is_some_and(|found| found != *value);
        if self.owner.stamps().iter().any(differs) {
            let told = |name| found.local(name).unwrap_or("?").to_owned();
            return Err(self.refuse(format!(
                "{} belongs to pool {} of member {} in {}; choose another with zfs.pool_name or source",
                self.wanted.root(),
                told(POOL),
                told(MEMBER),
                told(STATE_DIR)
            )));
        }
        if found.local(POOL).is_none() {
            let Source::Existing(root) = &self.wanted.source else {
                return Err(self.refuse(format!("zpool {} is not one of ours", self.wanted.zpool)));
            };
            if parse::children(&self.zfs.get_all(root, &["used"]).await?, root).next().is_some() {
                return Err(self.refuse(format!("dataset {root} is not empty")));
            }
            for stamp in self.owner.stamps() {
                self.zfs.run("stamp dataset", argv::set(root, stamp)).await?;
            }
        }
        self.wanted.made().map_err(|error| self.io("remove mark", error))
    }

    async fn lay_out(&self) -> Result<(), Error> {
        let root = self.wanted.root();
        let all = self.zfs.get_all(root, &["used"]).await?;
        for folder in FOLDERS.map(|folder| format!("{root}/{folder}")) {
            if !all.contains_key(&folder) {
                self.zfs.run("lay out", argv::create_folder(&folder)).await?;
            }
        }
        Ok(())
    }

    async fn take_away(&self) -> Result<(), Error> {
        let root = self.wanted.root();
        let instances = format!("{root}/instances");
        let all = self.zfs.get_all(root, &["used"]).await?;
        if parse::children(&all, &instances).next().is_some() {
            return Err(Error::Busy { what: self.zfs.place.clone(), why: "it holds volumes".into() });
        }
        match &self.wanted.source {
            Source::File { .. } | Source::Device(_) => {
                self.zfs.run("destroy zpool", argv::destroy_pool(&self.wanted.zpool)).await
            }
            Source::Existing(_) => {
                for folder in FOLDERS {
                    self.zfs.destroy("destroy", &format!("{root}/{folder}")).await?;
                }
                // Until the last stamp goes, a repeated call still knows that it is ours.
                for (name, _) in self.owner.stamps() {
                    self.zfs.run("unstamp dataset", argv::inherit(root, name)).await?;
                }
                Ok(())
            }
        }
    }
}
