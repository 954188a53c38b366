//! The machine that fake guests live on: it outlives drivers and, kept in a folder, agents too.
//!
//! ```text
//!   FOLDER/<instance id>.json   a slot: the guest, failures to come, counts of calls     replaced by rename
//!   FOLDER/boot                 how often the machine was booted
//!   FOLDER/lock                 flock around each change: the agent and a test are two processes
//!   FOLDER/wake                 FIFO, 16 bytes of instance id each: "look at it again", for the driver that listens
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use basalt_model::InstanceId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::slot::{Failure, Guest, Slot};
use crate::{Error, Event, Found, State};

/// What can be counted, delayed and made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    Prepare,
    Start,
    Stop,
    Pause,
    Resume,
    Destroy,
    Usage,
    Exec,
}

impl Op {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Op::Prepare => "prepare",
            Op::Start => "start",
            Op::Stop => "stop",
            Op::Pause => "pause",
            Op::Resume => "resume",
            Op::Destroy => "destroy",
            Op::Usage => "usage",
            Op::Exec => "exec",
        }
    }
}

#[derive(Debug, Default)]
struct Memory {
    slots: BTreeMap<InstanceId, Slot>,
    boot: u64,
    delays: BTreeMap<Op, Duration>,
    listener: Option<mpsc::Sender<Event>>,
}

/// The machine. Share it among the drivers of "restarted agents".
#[derive(Debug)]
pub struct FakeHost {
    memory: Mutex<Memory>,
    folder: Option<PathBuf>,
    pids: AtomicU32,
    changes: watch::Sender<u64>,
}

impl FakeHost {
    /// A machine in memory.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with(None))
    }

    /// A machine kept in a folder, made if missing: it survives the process, and a second process that opens the same
    /// folder may script it while the first one runs.
    pub fn in_folder(path: impl Into<PathBuf>) -> io::Result<Arc<Self>> {
        let path = path.into();
        std::fs::create_dir_all(&path)?;
        match nix::unistd::mkfifo(&path.join("wake"), nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(Arc::new(Self::with(Some(path))))
    }

    fn with(folder: Option<PathBuf>) -> Self {
        // Distinct in the agents of one testbed, and never a pid of this machine (they end at 4194304).
        let first = 5_000_000 + (std::process::id() % 1000) * 1_000_000;
        let changes = watch::channel(0).0;
        FakeHost { memory: Mutex::default(), folder, pids: AtomicU32::new(first), changes }
    }

    /// The next `op` on `id` fails with `text` and has no effect.
    pub fn fail_next(&self, id: InstanceId, op: Op, text: &str) -> Result<(), Error> {
        self.script(id, Failure { op, text: text.to_owned(), after: false })
    }

    /// The next `op` on `id` is reported as failed with `text`, but happens.
    pub fn fail_after(&self, id: InstanceId, op: Op, text: &str) -> Result<(), Error> {
        self.script(id, Failure { op, text: text.to_owned(), after: true })
    }

    fn script(&self, id: InstanceId, failure: Failure) -> Result<(), Error> {
        self.edit(id, |slot| slot.failures.push(failure))
    }

    /// Each `op` takes this long from now on. Not kept in the folder.
    pub fn set_delay(&self, op: Op, delay: Duration) {
        self.lock().delays.insert(op, delay);
    }

    /// Whether the guest ignores a clean stop.
    pub fn ignore_stop(&self, id: InstanceId, ignore: bool) -> Result<(), Error> {
        self.edit(id, |slot| {
            if let Some(guest) = &mut slot.guest {
                guest.ignores_stop = ignore;
            }
        })
    }

    /// The guest ends by itself; the listening driver gets an event. Tells whether it ran.
    pub fn kill(&self, id: InstanceId) -> Result<bool, Error> {
        let ran = self.edit(id, |slot| match &mut slot.guest {
            Some(guest) if guest.state != State::Stopped => {
                guest.end();
                true
            }
            Some(_) | None => false,
        })?;
        self.wake(id)?;
        Ok(ran)
    }

    /// The machine reboots: nothing runs any more, and nothing tells the driver.
    pub fn reboot(&self) -> Result<(), Error> {
        for found in self.guests()? {
            self.edit(found.id, |slot| {
                if let Some(guest) = &mut slot.guest {
                    guest.end();
                }
            })?;
        }
        let next = self.boot()? + 1;
        self.lock().boot = next;
        self.in_own_folder("boot", |folder| replace(&folder.join("boot"), next.to_string().as_bytes()))?;
        Ok(())
    }

    /// How often `op` was called for `id`, failed calls too.
    pub fn calls(&self, id: InstanceId, op: Op) -> Result<u64, Error> {
        Ok(self.slot(id)?.calls.get(&op).copied().unwrap_or(0))
    }

    /// All guests.
    pub fn guests(&self) -> Result<Vec<Found>, Error> {
        let boot = self.boot()?;
        let mut found = Vec::new();
        for id in self.ids()? {
            found.extend(self.slot(id)?.guest.map(|guest| guest.found(id, boot)));
        }
        Ok(found)
    }

    /// How many guests run or are frozen.
    pub fn running(&self) -> Result<usize, Error> {
        Ok(self.guests()?.iter().filter(|found| found.state != State::Stopped).count())
    }

    pub(super) fn begin(&self, id: InstanceId, op: Op) -> Result<(), Error> {
        self.edit(id, |slot| {
            *slot.calls.entry(op).or_default() += 1;
            slot.take_failure(id, op, false)
        })?
    }

    /// Applies `change` to the guest, then fails if so scripted.
    pub(super) fn change<T>(
        &self,
        id: InstanceId,
        op: Op,
        change: impl FnOnce(&mut Option<Guest>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let done = self.edit(id, |slot| {
            let mut guest = slot.guest.clone();
            let value = change(&mut guest)?;
            slot.guest = guest;
            slot.take_failure(id, op, true).map(|()| value)
        })?;
        self.changes.send_modify(|n| *n += 1);
        done
    }

    pub(super) fn guest(&self, id: InstanceId) -> Result<Option<Guest>, Error> {
        Ok(self.slot(id)?.guest)
    }

    pub(super) fn boot(&self) -> Result<u64, Error> {
        let kept = self.in_own_folder("boot", |folder| match std::fs::read_to_string(folder.join("boot")) {
            Ok(text) => text.trim().parse().map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        })?;
        Ok(kept.unwrap_or_else(|| self.lock().boot))
    }

    pub(super) fn delay(&self, op: Op) -> Duration {
        self.lock().delays.get(&op).copied().unwrap_or_default()
    }

    pub(super) fn next_pid(&self) -> u32 {
        self.pids.fetch_add(1, Ordering::Relaxed)
    }

    /// Bumps after every change that this process knows of.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes `listener` the one that gets events.
    pub(super) fn listen(self: &Arc<Self>, listener: mpsc::Sender<Event>) {
        let first = self.lock().listener.replace(listener).is_none();
        let Some(folder) = self.folder.clone().filter(|_| first) else { return };
        let host = Arc::downgrade(self);
        // A thread, as it blocks in read(2); it ends at the first wake-up after the host was dropped, and `Drop` sends one.
        std::thread::spawn(move || {
            let Ok(mut wake) = open_wake(&folder, true) else { return };
            let mut bytes = [0u8; 16];
            while wake.read_exact(&mut bytes).is_ok() {
                let Some(host) = host.upgrade() else { return };
                // Zeroes only end a thread, maybe that of another process.
                if bytes != [0; 16] {
                    host.tell(InstanceId(uuid::Uuid::from_bytes(bytes)));
                }
            }
        });
    }

    /// Something happened to `id`: tells the driver, here or in the process that has the folder.
    fn wake(&self, id: InstanceId) -> Result<(), Error> {
        let bytes = id.0.into_bytes();
        let told = self.in_own_folder("wake", |folder| match open_wake(folder, false) {
            Ok(mut wake) => wake.write_all(&bytes),
            // Nobody listens; whoever comes next looks at everything anyway.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => Ok(()),
            Err(error) => Err(error),
        })?;
        if told.is_none() {
            self.tell(id);
        }
        Ok(())
    }

    fn tell(&self, id: InstanceId) {
        self.changes.send_modify(|n| *n += 1);
        let listener = self.lock().listener.clone();
        if listener
            .is_some_and(|listener| matches!(listener.try_send(Event { id }), Err(mpsc::error::TrySendError::Full(_))))
        {
            tracing::warn!(instance = %id, "the fake host's event queue is full");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self) -> Result<Vec<InstanceId>, Error> {
        let kept = self.in_own_folder("list", |folder| {
            let mut ids = Vec::<InstanceId>::new();
            for entry in std::fs::read_dir(folder)? {
                let name = entry?.file_name();
                ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<InstanceId>().ok()));
            }
            ids.sort();
            Ok(ids)
        })?;
        Ok(kept.unwrap_or_else(|| self.lock().slots.keys().copied().collect()))
    }

    fn slot(&self, id: InstanceId) -> Result<Slot, Error> {
        let kept = self.in_own_folder("read", |folder| load(folder, id))?;
        Ok(kept.unwrap_or_else(|| self.lock().slots.get(&id).cloned().unwrap_or_default()))
    }

    /// The only way to change a slot: under the lock of this process and, in a folder, of all.
    pub(super) fn edit<T>(&self, id: InstanceId, edit: impl FnOnce(&mut Slot) -> T) -> Result<T, Error> {
        let mut memory = self.lock();
        let Some(folder) = &self.folder else {
            return Ok(edit(memory.slots.entry(id).or_default()));
        };
        let locked = || -> io::Result<T> {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
            let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
            let mut slot = load(folder, id)?;
            let before = slot.clone();
            let value = edit(&mut slot);
            if slot != before {
                replace(&slot_path(folder, id), &serde_json::to_vec(&slot)?)?;
            }
            Ok(value)
        };
        locked().map_err(|error| broken(folder, "change", &error))
    }

    fn in_own_folder<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<Option<T>, Error> {
        let Some(folder) = &self.folder else { return Ok(None) };
        work(folder).map(Some).map_err(|error| broken(folder, doing, &error))
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        // Ends the listening thread; without one there is nobody to end.
        let _ = self.in_own_folder("wake", |folder| open_wake(folder, false)?.write_all(&[0; 16]));
    }
}

fn broken(folder: &Path, doing: &str, error: &io::Error) -> Error {
    Error::Host(format!("fake host in {}: {doing}: {error}", folder.display()))
}

/// The listener opens it for writing too, so that it never sees an end of file.
fn open_wake(folder: &Path, listen: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).read(listen);
    if !listen {
        options.custom_flags(nix::libc::O_NONBLOCK);
    }
    options.open(folder.join("wake"))
}

fn slot_path(folder: &Path, id: InstanceId) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn load(folder: &Path, id: InstanceId) -> io::Result<Slot> {
    match std::fs::read(slot_path(folder, id)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Slot::default()),
        Err(error) => Err(error),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, bytes)?;
    std::fs::rename(&next, path)
}
