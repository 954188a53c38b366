//! The segment that is made ahead of need, and what is known of the space that is left.
//!
//! A thread fills it with zeros and syncs it, so that taking it is a rename and writing it cannot meet a full disk.
//! While it cannot be made, commands are refused (`admit`) long before the current segment is full: what is left is for
//! votes, for the entries that a new leader must write, and for what is on its way already.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{info, warn};

use crate::Error;
use crate::identity::sync_dir;

/// How often a spare is tried again when there was no space.
const RETRY: Duration = Duration::from_millis(500);
const BLOCK: usize = 256 << 10;

#[derive(Debug)]
enum State {
    Making,
    Ready(u64),
    /// There is no space; the text is what users are told.
    Failed(io::ErrorKind, String),
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Spare {
    dir: PathBuf,
    length: u64,
    state: Mutex<State>,
    changed: Condvar,
    room: AtomicU64,
    /// Set for ever when a write failed.
    broken: Mutex<Option<(bool, String)>>,
}

impl Spare {
    /// Starts the thread that makes spares.
    pub(crate) fn start(dir: &Path, length: u64, room: u64) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let spare = Arc::new(Spare {
            dir: dir.to_owned(),
            length,
            state: Mutex::new(State::Making),
            changed: Condvar::new(),
            room: AtomicU64::new(room),
            broken: Mutex::new(None),
        });
        let maker = Arc::clone(&spare);
        let thread = std::thread::Builder::new().name("raft-spare".into()).spawn(move || maker.work());
        Ok((spare, thread?))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic cannot leave the enum half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let path = self.dir.join("spare");
        loop {
            let made = make(&self.dir, &path, self.length);
            let mut state = self.lock();
            if matches!(*state, State::Stopped) {
                return;
            }
            let wait = match made {
                Ok(()) => {
                    if matches!(*state, State::Failed(..)) {
                        info!("there is space for the replicated log again");
                    }
                    *state = State::Ready(self.length);
                    None
                }
                Err(error) => {
                    if !matches!(*state, State::Failed(..)) {
                        warn!(%error, path = %path.display(), "no space for the next segment of the replicated log");
                    }
                    *state = State::Failed(error.kind(), error.to_string());
                    Some(RETRY)
                }
            };
            self.changed.notify_all();
            match wait {
                Some(delay) => {
                    let _ = self.changed.wait_timeout(state, delay).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    while matches!(*state, State::Ready(_)) {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    if matches!(*state, State::Stopped) {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the spare the segment at `path`, of at least `needed` bytes; says how long it is.
    pub(crate) fn take(&self, path: &Path, needed: u64) -> io::Result<u64> {
        let mut state = self.lock();
        while matches!(*state, State::Making) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &*state {
            State::Ready(length) if *length >= needed => {
                let length = *length;
                fs::rename(self.dir.join("spare"), path)?;
                sync_dir(&self.dir).map_err(into_io)?;
                *state = State::Making;
                self.changed.notify_all();
                Ok(length)
            }
            // A commit larger than a segment: rare, and made on the spot.
            State::Ready(_) => {
                make(&self.dir, path, needed)?;
                Ok(needed)
            }
            State::Failed(kind, why) => Err(io::Error::new(*kind, why.clone())),
            State::Stopped | State::Making => Err(io::Error::other("the log is closed")),
        }
    }

    pub(crate) fn set_room(&self, room: u64) {
        self.room.store(room, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, error: &io::Error) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some((Error::is_full(error), error.to_string()));
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, why)| why.clone())
    }

    /// Whether it is for want of space that nothing can be written any more.
    pub(crate) fn out_of_space(&self) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|(full, _)| *full)
    }

    /// Whether users' commands may still enter the log; else why not.
    pub(crate) fn admit(&self) -> Result<(), String> {
        self.room_for(self.length / 2)
    }

    /// Whether a leader's entries may still enter the log: a little longer than users' commands.
    pub(crate) fn admit_replicated(&self) -> Result<(), String> {
        self.room_for(self.length / 4)
    }

    fn room_for(&self, reserve: u64) -> Result<(), String> {
        if let Some(why) = self.broken() {
            return Err(why);
        }
        match &*self.lock() {
            State::Failed(_, why) if self.room.load(Ordering::Relaxed) < reserve => Err(why.clone()),
            State::Failed(..) | State::Making | State::Ready(_) => Ok(()),
            State::Stopped => Err("the log is closed".into()),
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        *self.lock() = State::Stopped;
        self.changed.notify_all();
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// Makes a file of zeros that is wholly on disk, or none.
pub(crate) fn make(dir: &Path, path: &Path, length: u64) -> io::Result<()> {
    let beside = dir.join("spare.new");
    let made = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let zeros = vec![0; BLOCK];
        let mut left = length;
        while left > 0 {
            let part = left.min(BLOCK as u64);
            file.write_all(&zeros[..usize::try_from(part).expect("a block is small")])?;
            left -= part;
        }
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_dir(dir).map_err(into_io)
    })();
    if made.is_err() {
        // Half a spare would keep the very space that is missing.
        let _ = fs::remove_file(&beside);
    }
    made
}
