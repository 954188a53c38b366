//! The port's life cycle over the engine's programs.

mod files;
mod look;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use basalt_driver::{Error, Event, Found, GuestAccess, GuestSpec, InstanceDriver, Probe, State, Usage};
use basalt_model::InstanceId;
use basalt_model::instance::{Kind, StopMode};
use basalt_runtime::CommandRunner;
use tokio::sync::{RwLock, mpsc};

use crate::LxcOptions;
use crate::cgroup::{Group, live};
use crate::config::Host;
use crate::process::Process;
use crate::record::{Folder, Stamp, gone};
use crate::watch::Watcher;
use crate::{probe, stop};

pub(crate) use files::{Programs, find};
use look::Seen;

/// Wake-ups that may wait for the agent. A full queue makes watchers wait; nothing is lost.
const EVENTS: usize = 1024;

/// Containers of one node.
#[derive(Debug)]
pub struct LxcDriver {
    /// `STATE/lxc`, as the engine gets it.
    pub(crate) lxc_path: PathBuf,
    prefix: String,
    pub(crate) runner: Arc<dyn CommandRunner>,
    host: Host,
    pub(crate) programs: Programs,
    boot: String,
    watcher: Watcher,
    events: Mutex<Option<mpsc::Receiver<Event>>>,
    /// Instances that an operation works on: `list` must not wait for, or tidy up after, those.
    busy: Mutex<BTreeSet<InstanceId>>,
    /// Read: groups are being made below the prefix. Write: it is removed if empty.
    groups: RwLock<()>,
}

impl LxcDriver {
    /// Looks at the host and makes `STATE/lxc`. Fails only without a folder or any cgroup hierarchy; what else is missing
    /// is said by `probe`.
    pub fn new(options: LxcOptions) -> Result<Self, Error> {
        let LxcOptions { state_dir, cgroup_prefix, runner, supervisor } = options;
        let lxc_path = files::make_root(&state_dir)?;
        let host = probe::host().map_err(|error| Error::Host(format!("cannot look at the host: {error}")))?;
        if host.layout.is_empty() {
            return Err(Error::Host("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup".into()));
        }
        let prefix = files::check_prefix(cgroup_prefix)?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|error| Error::Host(format!("cannot read the host's boot id: {error}")))?;
        let (sender, receiver) = mpsc::channel(EVENTS);
        Ok(LxcDriver {
            lxc_path,
            prefix,
            watcher: Watcher::new(supervisor, sender),
            runner,
            host,
            programs: Programs::of_host(),
            boot: boot.trim().to_owned(),
            events: Mutex::new(Some(receiver)),
            busy: Mutex::default(),
            groups: RwLock::default(),
        })
    }

    pub(crate) fn folder(&self, id: InstanceId) -> Folder {
        Folder::of(&self.lxc_path, id)
    }

    fn group(&self, id: InstanceId) -> Group<'_> {
        Group::new(&self.host.layout, &self.prefix, &id.to_string())
    }

    fn stamp(&self, id: InstanceId) -> Result<Option<Stamp>, Error> {
        self.folder(id).stamp().map_err(step(id, "read the record"))
    }

    /// Marks the instance as worked on while the guard lives.
    fn busy(&self, id: InstanceId) -> Busy<'_> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Busy { driver: self, id }
    }

    fn is_busy(&self, id: InstanceId) -> bool {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Init of a guest that must run.
    pub(crate) async fn running(&self, id: InstanceId) -> Result<Process, Error> {
        let stamp = self.stamp(id)?.ok_or(Error::NotFound { id })?;
        self.look(&stamp, true).await?.init.ok_or(Error::NotRunning { id })
    }

    /// The same that is not frozen: what enters a frozen one would hang.
    pub(crate) async fn awake(&self, id: InstanceId) -> Result<(), Error> {
        self.running(id).await?;
        if self.group(id).frozen() {
            return Err(Error::Step {
                id,
                doing: "enter",
                detail: "it is frozen; resume it first".into(),
                source: None,
            });
        }
        Ok(())
    }

    async fn found(&self, stamp: &Stamp, wait: bool) -> Result<Found, Error> {
        let seen = self.look(stamp, wait).await?;
        let same_boot = seen.last.as_ref().is_none_or(|last| last.boot == self.boot);
        let state = match () {
            () if !seen.runs() => State::Stopped,
            () if self.group(stamp.id).frozen() => State::Frozen,
            () => State::Running,
        };
        Ok(Found {
            id: stamp.id,
            epoch: stamp.epoch,
            state,
            start: seen.last.as_ref().map_or(0, |last| last.start),
            generation: stamp.generation,
            pid: seen.init.map(|init| init.pid),
            started_at: seen.last.as_ref().map(|last| last.at),
            same_boot,
        })
    }

    /// Applies limits to a guest that runs.
    fn apply_limits(&self, guest: &GuestSpec) -> Result<(), Error> {
        let group = self.group(guest.id);
        let settings = live(&guest.limits, &self.host.layout, &group.all_cpus())
            .map_err(|error| Error::Host(error.to_string()))?;
        for setting in settings {
            group.apply(&setting).map_err(step(guest.id, "apply the limits"))?;
        }
        Ok(())
    }

    /// After the guest's end: waits for its monitor, then removes what that one left.
    async fn tidy(&self, stamp: &Stamp, seen: &Seen) -> Result<(), Error> {
        let id = stamp.id;
        if let Some(monitor) = seen.monitor {
            stop::end_monitor(monitor).await.map_err(step(id, "wait for the monitor"))?;
        }
        let group = self.group(id);
        if group.exists() {
            group.remove().await.map_err(step(id, "remove the cgroups"))?;
        }
        stop::wait_for_links(&stamp.host_names).await.map_err(step(id, "wait for the network interfaces"))
    }

    async fn force(&self, stamp: &Stamp, seen: &Seen) -> Result<(), Error> {
        let id = stamp.id;
        if let Some(init) = seen.init {
            init.kill().map_err(step(id, "kill"))?;
            let group = self.group(id);
            if group.frozen() {
                // Version 1 lets no frozen process die.
                // The group may be gone already: the guest was not frozen for long.
                gone(group.freeze(false).await).map_err(step(id, "thaw"))?;
            }
            stop::end_init(init).await.map_err(step(id, "kill"))?;
        }
        self.tidy(stamp, seen).await
    }
}

/// Wraps an I/O error of one step.
pub(crate) fn step(id: InstanceId, doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Step { id, doing, detail: error.to_string(), source: Some(Box::new(error)) }
}

struct Busy<'a> {
    driver: &'a LxcDriver,
    id: InstanceId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.driver.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[async_trait]
impl InstanceDriver for LxcDriver {
    fn kind(&self) -> Kind {
        Kind::Container
    }

    async fn probe(&self) -> Probe {
        probe::probe(&self.host, &self.programs, &*self.runner).await
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        let mut all = BTreeMap::new();
        for id in files::instances(&self.lxc_path)? {
            let busy = self.is_busy(id);
            let found = match self.stamp(id) {
                Ok(Some(stamp)) => self.found(&stamp, !busy).await,
                // A prepare that was cut off before its stamp, or a destroy after it.
                Ok(None) if !busy => {
                    self.folder(id).remove().map_err(step(id, "remove the leftovers"))?;
                    continue;
                }
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => drop(all.insert(id, found)),
                // One damaged record must not hide all other guests; `inspect` of this one tells the error.
                Err(error) => tracing::error!(instance = %id, %error, "left out of the list"),
            }
        }
        Ok(all.into_values().collect())
    }

    async fn inspect(&self, id: InstanceId) -> Result<Option<Found>, Error> {
        let Some(stamp) = self.stamp(id)? else { return Ok(None) };
        let found = self.found(&stamp, true).await?;
        let group = self.group(id);
        if found.state == State::Stopped && !self.is_busy(id) && group.exists() {
            // It ended by itself; its monitor cannot remove the group that it ends in.
            let seen = self.look(&stamp, true).await?;
            self.tidy(&stamp, &seen).await?;
        }
        Ok(Some(found))
    }

    async fn prepare(&self, guest: &GuestSpec) -> Result<(), Error> {
        let _busy = self.busy(guest.id);
        if self.write(guest).await? {
            self.apply_limits(guest)?;
        }
        Ok(())
    }

    async fn start(&self, guest: &GuestSpec) -> Result<(), Error> {
        let _busy = self.busy(guest.id);
        self.start_guest(guest).await
    }

    async fn stop(&self, id: InstanceId, mode: StopMode) -> Result<(), Error> {
        let _busy = self.busy(id);
        let Some(stamp) = self.stamp(id)? else { return Ok(()) };
        let seen = self.look(&stamp, true).await?;
        if let Some(init) = seen.init.filter(|_| !mode.force) {
            let asked = async {
                // Frozen it would never hear of it.
                if self.group(id).frozen() {
                    self.group(id).freeze(false).await.map_err(step(id, "thaw"))?;
                }
                self.ask_to_stop(id, init).await
            };
            match mode.timeout_secs {
                None => asked.await?,
                Some(secs) => tokio::time::timeout(std::time::Duration::from_secs(secs.into()), asked)
                    .await
                    .unwrap_or(Err(Error::Timeout { id, secs }))?,
            }
            return self.tidy(&stamp, &seen).await;
        }
        self.force(&stamp, &seen).await
    }

    async fn pause(&self, id: InstanceId) -> Result<(), Error> {
        self.running(id).await?;
        self.group(id).freeze(true).await.map_err(step(id, "pause"))
    }

    async fn resume(&self, id: InstanceId) -> Result<(), Error> {
        self.running(id).await?;
        self.group(id).freeze(false).await.map_err(step(id, "resume"))
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), Error> {
        let _busy = self.busy(id);
        if let Some(stamp) = self.stamp(id)? {
            let seen = self.look(&stamp, true).await?;
            self.force(&stamp, &seen).await?;
        }
        files::remove_lock(&self.lxc_path, id).map_err(step(id, "remove the engine's lock"))?;
        self.folder(id).remove().map_err(step(id, "remove the runtime folder"))?;
        // Whoever starts a guest now makes the prefix again; if someone is about to, it stays.
        if let Ok(_alone) = self.groups.try_write() {
            self.group(id).remove_prefix();
            files::remove_lock_folders(&self.lxc_path);
        }
        Ok(())
    }

    async fn usage(&self, id: InstanceId) -> Result<Usage, Error> {
        self.running(id).await?;
        Ok(self.group(id).usage())
    }

    fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn access(&self) -> Option<&dyn GuestAccess> {
        Some(self)
    }
}
