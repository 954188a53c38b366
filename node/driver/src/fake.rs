//! In-memory driver with the same contract: no guest exists, but every answer is what a real host would give.
//!
//! ```text
//!   FakeHost  (the machine: guests, scripted failures, counts)   survives FakeDriver; in a folder, survives the process
//!      ^
//!   FakeDriver (the agent's side: the port)                      made anew by each "restarted agent"
//! ```
//!
//! **Invariants.** What `prepare`/`start` stored is what a later driver on the same [`FakeHost`] finds. A scripted
//! failure happens once, either before the operation's effect or after it (a call that failed but happened).
//!
//! **Failure.** In a folder, I/O errors of the folder are `Error::Host`.

mod host;
mod process;
mod slot;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use basalt_model::InstanceId;
use basalt_model::instance::{Kind, StopMode};
use tokio::sync::mpsc;

pub use host::{FakeHost, Op};

use crate::{
    Error, Event, ExecRequest, Found, GuestAccess, GuestIo, GuestProcess, GuestSpec, InstanceDriver, Probe, State,
    Usage,
};
use slot::Guest;

/// Wake-ups that may wait for the agent; more than any test has instances.
const EVENTS: usize = 4096;

/// The port over a [`FakeHost`].
#[derive(Debug)]
pub struct FakeDriver {
    host: Arc<FakeHost>,
    kind: Kind,
    events: Mutex<Option<mpsc::Receiver<Event>>>,
}

impl FakeDriver {
    /// A driver of containers on `host`. The newest driver gets the host's events.
    pub fn new(host: Arc<FakeHost>) -> Self {
        Self::of_kind(host, Kind::Container)
    }

    /// The same that says it runs `kind`.
    pub fn of_kind(host: Arc<FakeHost>, kind: Kind) -> Self {
        let (sender, receiver) = mpsc::channel(EVENTS);
        host.listen(sender);
        FakeDriver { host, kind, events: Mutex::new(Some(receiver)) }
    }

    /// The machine behind it.
    pub fn host(&self) -> &Arc<FakeHost> {
        &self.host
    }

    /// One operation: counted, delayed, failed as scripted before or after `change`.
    async fn step<T>(
        &self,
        id: InstanceId,
        op: Op,
        change: impl FnOnce(&mut Option<Guest>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.begin(id, op).await?;
        self.host.change(id, op, change)
    }

    async fn begin(&self, id: InstanceId, op: Op) -> Result<(), Error> {
        let delay = self.host.delay(op);
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        self.host.begin(id, op)
    }

    fn running(&self, id: InstanceId) -> Result<u32, Error> {
        let guest = self.host.guest(id)?.ok_or(Error::NotFound { id })?;
        guest.pid.ok_or(Error::NotRunning { id })
    }

    /// Waits until the guest does not run any more.
    async fn ended(&self, id: InstanceId) -> Result<(), Error> {
        let mut changes = self.host.changes();
        loop {
            if self.host.guest(id)?.is_none_or(|guest| guest.state == State::Stopped) {
                return Ok(());
            }
            // The host outlives us, so the channel does too.
            let _ = changes.changed().await;
        }
    }
}

fn stamp(guest: &mut Option<Guest>, spec: &GuestSpec, boot: u64) -> Result<(), Error> {
    let old = guest.get_or_insert_with(|| Guest::new(spec, boot));
    if old.epoch > spec.epoch {
        return Err(Error::Epoch { id: spec.id, found: old.epoch, given: spec.epoch });
    }
    old.epoch = spec.epoch;
    old.generation = spec.generation;
    old.name.clone_from(&spec.hostname);
    old.memory = spec.limits.memory;
    Ok(())
}

#[async_trait]
impl InstanceDriver for FakeDriver {
    fn kind(&self) -> Kind {
        self.kind
    }

    async fn probe(&self) -> Probe {
        Probe { version: Some("fake".into()), ..Probe::default() }
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        self.host.guests()
    }

    async fn inspect(&self, id: InstanceId) -> Result<Option<Found>, Error> {
        let boot = self.host.boot()?;
        Ok(self.host.guest(id)?.map(|guest| guest.found(id, boot)))
    }

    async fn prepare(&self, guest: &GuestSpec) -> Result<(), Error> {
        let boot = self.host.boot()?;
        self.step(guest.id, Op::Prepare, |slot| stamp(slot, guest, boot)).await
    }

    async fn start(&self, spec: &GuestSpec) -> Result<(), Error> {
        let id = spec.id;
        let boot = self.host.boot()?;
        let pid = self.host.next_pid();
        self.step(id, Op::Start, |slot| {
            let guest = slot.as_mut().ok_or(Error::NotFound { id })?;
            if guest.epoch != spec.epoch {
                return Err(Error::Epoch { id, found: guest.epoch, given: spec.epoch });
            }
            match guest.state {
                State::Running | State::Frozen if guest.start == spec.start => Ok(()),
                State::Running | State::Frozen => Err(Error::Step {
                    id,
                    doing: "start",
                    detail: format!("it still runs as start {}", guest.start),
                    source: None,
                }),
                State::Stopped => {
                    guest.begin(spec.start, boot, pid);
                    Ok(())
                }
            }
        })
        .await
    }

    async fn stop(&self, id: InstanceId, mode: StopMode) -> Result<(), Error> {
        let deaf = self.host.guest(id)?.is_some_and(|guest| guest.ignores_stop);
        if mode.force || !deaf {
            return self
                .step(id, Op::Stop, |slot| {
                    if let Some(guest) = slot {
                        guest.end();
                    }
                    Ok(())
                })
                .await;
        }
        self.begin(id, Op::Stop).await?;
        match mode.timeout_secs {
            None => self.ended(id).await,
            Some(secs) => tokio::time::timeout(Duration::from_secs(secs.into()), self.ended(id))
                .await
                .unwrap_or(Err(Error::Timeout { id, secs })),
        }
    }

    async fn pause(&self, id: InstanceId) -> Result<(), Error> {
        self.step(id, Op::Pause, |slot| set(slot, id, State::Frozen)).await
    }

    async fn resume(&self, id: InstanceId) -> Result<(), Error> {
        self.step(id, Op::Resume, |slot| set(slot, id, State::Running)).await
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), Error> {
        self.step(id, Op::Destroy, |slot| {
            *slot = None;
            Ok(())
        })
        .await
    }

    async fn usage(&self, id: InstanceId) -> Result<Usage, Error> {
        self.begin(id, Op::Usage).await?;
        let pid = self.running(id)?;
        let limit = self.host.guest(id)?.and_then(|guest| guest.memory);
        Ok(Usage {
            cpu_ns: u64::from(pid) * 1_000_000,
            memory: 8 << 20,
            memory_peak: 16 << 20,
            memory_total: limit.unwrap_or(1 << 30),
            processes: 2,
            ..Usage::default()
        })
    }

    fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn access(&self) -> Option<&dyn GuestAccess> {
        Some(self)
    }
}

fn set(slot: &mut Option<Guest>, id: InstanceId, state: State) -> Result<(), Error> {
    let guest = slot.as_mut().ok_or(Error::NotFound { id })?;
    if guest.state == State::Stopped {
        return Err(Error::NotRunning { id });
    }
    guest.state = state;
    Ok(())
}

#[async_trait]
impl GuestAccess for FakeDriver {
    async fn exec(&self, id: InstanceId, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        self.begin(id, Op::Exec).await?;
        self.running(id)?;
        if self.host.guest(id)?.is_some_and(|guest| guest.state == State::Frozen) {
            let detail = "it is frozen; resume it first".into();
            return Err(Error::Step { id, doing: "enter", detail, source: None });
        }
        process::run(id, self.host.next_pid(), request)
    }

    async fn console(&self, id: InstanceId) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        self.running(id)?;
        // A getty that repeats what is typed.
        let request = ExecRequest { command: vec!["cat".into()], terminal: Some((80, 24)), ..ExecRequest::default() };
        process::run(id, self.host.next_pid(), request)
    }

    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, Error> {
        let guest = self.host.guest(id)?.ok_or(Error::NotFound { id })?;
        let silent = guest.start == 0 || guest.start == guest.cleared;
        let starts = if silent { String::new() } else { format!("{} started as {}\n", guest.name, guest.start) };
        Ok(starts.into_bytes())
    }

    async fn clear_console_log(&self, id: InstanceId) -> Result<(), Error> {
        self.host.edit(id, |slot| {
            let guest = slot.guest.as_mut().ok_or(Error::NotFound { id })?;
            guest.cleared = guest.start;
            Ok(())
        })?
    }

    async fn engine_log(&self, id: InstanceId) -> Result<Vec<u8>, Error> {
        self.host.guest(id)?.ok_or(Error::NotFound { id })?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
