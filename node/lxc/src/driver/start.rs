//! Preparing and starting: the order of writes that lets a crash at any point be understood later.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use basalt_driver::{Error, GuestSpec, Joined};
use basalt_model::{InstanceId, Timestamp};
use basalt_runtime::{ExecError, Invocation, spawn_blocking};

use super::{LxcDriver, step};
use crate::config::{Places, render};
use crate::init::Init;
use crate::process::{Process, init_of};
use crate::record::{Folder, Stamp, Started, Starting, gone};
use crate::seccomp;
use crate::watch::Watched;

/// How long the engine may take to bring a guest's init up on a busy host.
const START: Duration = Duration::from_secs(90);
/// How long a monitor may take to end after the engine said that the start failed.
const GIVE_UP: Duration = Duration::from_secs(3);
/// Of the engine's log, looked at when a start fails: it begins with the start, and its first error is the cause.
const LOG_HEAD: usize = 16 * 1024;
/// How many of its errors are shown.
const ERRORS: usize = 8;
/// The engine's programs look for newuidmap in `PATH`, and with it obey /etc/subuid, which speaks of what users may map,
/// not of what the host's own manager may. Root needs no such helper; it is never in these folders.
const ENGINE_PATH: &str = "/usr/sbin:/sbin";

impl LxcDriver {
    /// Writes the folder; tells whether the guest runs. Who may is checked first.
    pub(super) async fn write(&self, guest: &GuestSpec) -> Result<bool, Error> {
        let id = guest.id;
        let folder = self.folder(id);
        let old = self.stamp(id)?;
        if let Some(old) = old.as_ref().filter(|old| old.epoch > guest.epoch) {
            return Err(Error::Epoch { id, found: old.epoch, given: guest.epoch });
        }
        let stamp = Stamp {
            id,
            epoch: guest.epoch,
            generation: guest.generation,
            host_names: guest.nics.iter().map(|nic| nic.host_name.clone()).collect(),
        };
        let runs = match &old {
            Some(old) => self.look(old, true).await?.runs(),
            None => false,
        };
        let stamp = match old.as_ref().filter(|_| runs) {
            // Until it stops it has the interfaces that it was started with.
            Some(old) => Stamp { host_names: union(&old.host_names, stamp.host_names), ..stamp },
            None => stamp,
        };
        let config = self.config(guest, &folder)?;
        let unchanged = old.as_ref() == Some(&stamp);
        let work = move || -> std::io::Result<()> {
            match std::fs::DirBuilder::new().mode(0o711).create(folder.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
            put_config(&folder, &config)?;
            if unchanged { Ok(()) } else { folder.write_stamp(&stamp) }
        };
        let written = spawn_blocking("lxc prepare", work).await;
        written.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))).map_err(step(id, "prepare"))?;
        Ok(runs)
    }

    fn config(&self, guest: &GuestSpec, folder: &Folder) -> Result<String, Error> {
        let init = Init::of_root(&guest.root.path);
        let bridges = guest.nics.iter().filter_map(|nic| match &nic.joined {
            Joined::Bridge(bridge) => Some(bridge),
            Joined::Kernel | Joined::Program(_) => None,
        });
        let unseen = bridges.filter(|bridge| unseen(bridge)).cloned().collect();
        render(guest, &Places { folder: folder.path(), prefix: &self.prefix, init, unseen }, &self.host)
    }

    pub(super) async fn start_guest(&self, guest: &GuestSpec) -> Result<(), Error> {
        let id = guest.id;
        let stamp = self.stamp(id)?.ok_or(Error::NotFound { id })?;
        if stamp.epoch != guest.epoch {
            return Err(Error::Epoch { id, found: stamp.epoch, given: guest.epoch });
        }
        let seen = self.look(&stamp, true).await?;
        if let (Some(last), true) = (&seen.last, seen.init.is_some()) {
            if last.start == guest.start {
                return Ok(());
            }
            let detail = format!("it still runs as start {}", last.start);
            return Err(Error::Step { id, doing: "start", detail, source: None });
        }
        self.tidy(&stamp, &seen).await?;
        let folder = self.folder(id);
        let starting = Starting { start: guest.start, boot: self.boot.clone() };
        // The root may have been mounted, or got another init, only after prepare.
        put_config(&folder, &self.config(guest, &folder)?).map_err(step(id, "write the config"))?;
        folder.write_starting(seen.last.clone(), starting).map_err(step(id, "write the record"))?;
        let ended = {
            let _groups = self.groups.read().await;
            self.run_engine(id, &folder).await
        };
        // The engine may have failed after the guest was up, or succeeded with one that is gone already.
        let monitor = read_pid(&folder.file("monitor.pid")).and_then(Process::find);
        if let (Err(_), Some(monitor)) = (&ended, monitor) {
            // It is about to give up, init and all, unless only the engine's front did.
            monitor.ended_within(GIVE_UP).await.map_err(step(id, "wait for the monitor"))?;
        }
        let monitor = monitor.filter(|monitor| ended.is_ok() || monitor.alive());
        let init = monitor.and_then(init_of);
        if let (Err(error), None) = (ended, init) {
            self.undo(&stamp, seen.last, monitor).await?;
            return Err(self.explain(id, &folder, error));
        }
        let last = Some(self.started(guest.start, monitor, init));
        folder.write_run(last).map_err(step(id, "write the record"))?;
        if let Some(process) = monitor {
            self.watcher.watch(Watched { id, process, init });
        }
        Ok(())
    }

    async fn run_engine(&self, id: InstanceId, folder: &Folder) -> Result<(), ExecError> {
        let text = |name: &str| folder.file(name).to_string_lossy().into_owned();
        for name in ["monitor.pid", "lxc.log", "attach.log"] {
            // What a past start left; if it cannot be removed, the engine will say why.
            let _ = gone(std::fs::remove_file(folder.file(name)));
        }
        let invocation = Invocation::new(self.programs.start.to_string_lossy())
            .args(["-P".to_owned(), self.lxc_path.to_string_lossy().into_owned(), "-n".to_owned(), id.to_string()])
            .args(["-f".to_owned(), text("config"), "-p".to_owned(), text("monitor.pid")])
            .args(["-o".to_owned(), text("lxc.log"), "-l".to_owned(), "WARN".to_owned(), "-d".to_owned()])
            .env("PATH", ENGINE_PATH)
            .deadline(START);
        self.runner.run(invocation).await.map(drop)
    }

    /// After a failed start: nothing stays but the folder.
    async fn undo(&self, stamp: &Stamp, before: Option<Started>, monitor: Option<Process>) -> Result<(), Error> {
        let seen = super::Seen { monitor, ..super::Seen::default() };
        self.tidy(stamp, &seen).await?;
        self.folder(stamp.id).write_run(before).map_err(step(stamp.id, "write the record"))
    }

    fn explain(&self, id: InstanceId, folder: &Folder, error: ExecError) -> Error {
        if let ExecError::NotFound { .. } = error {
            return Error::Host("lxc-start is not installed: apt-get install lxc".into());
        }
        let log = std::fs::read(folder.file("lxc.log")).unwrap_or_default();
        let head = String::from_utf8_lossy(&log[..log.len().min(LOG_HEAD)]).into_owned();
        let errors: Vec<&str> = head.lines().filter(|line| line.contains(" ERROR ")).take(ERRORS).collect();
        let detail = if errors.is_empty() { error.to_string() } else { errors.join("\n") };
        Error::Step { id, doing: "start", detail, source: Some(Box::new(error)) }
    }

    pub(super) fn started(&self, start: u64, monitor: Option<Process>, init: Option<Process>) -> Started {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        Started { start, boot: self.boot.clone(), monitor, init, at }
    }
}

/// Whether the interface exists here but not in `/sys`, which then was mounted in another network namespace.
fn unseen(bridge: &str) -> bool {
    nix::net::if_::if_nametoindex(bridge).is_ok() && !Path::new("/sys/class/net").join(bridge).exists()
}

fn put_config(folder: &Folder, config: &str) -> std::io::Result<()> {
    folder.put("seccomp", seccomp::PROFILE)?;
    folder.put("config", config)
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn union(old: &[String], mut new: Vec<String>) -> Vec<String> {
    new.extend(old.iter().filter(|name| !new.contains(name)).cloned().collect::<Vec<_>>());
    new
}
