//! One machine: its guests and its volumes. They outlive the agent; guests do not outlive a reboot.

use std::collections::BTreeMap;

use basalt_driver::{Found, State};
use basalt_model::instance::StopMode;
use basalt_model::{Epoch, Generation, InstanceId, SnapshotId};
use basalt_node::agent::plan::{Actual, Desired, FoundVolume};

#[derive(Debug, Clone, Default)]
pub(super) struct Volume {
    pub(super) epoch: Epoch,
    pub(super) complete: bool,
    /// Whether a guest has written to it: such a volume must never be made anew.
    pub(super) written: bool,
    /// When it was last written to: what it holds.
    pub(super) content: u64,
    /// What it held when each was taken.
    pub(super) snapshots: BTreeMap<SnapshotId, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) guests: BTreeMap<InstanceId, Found>,
    pub(super) volumes: BTreeMap<InstanceId, Volume>,
}

impl Host {
    pub(super) fn actual(&self, id: InstanceId) -> Actual {
        Actual {
            guest: self.guests.get(&id).cloned(),
            volume: self.volumes.get(&id).map(|v| FoundVolume { epoch: v.epoch, complete: v.complete }),
            strays: false,
        }
    }

    /// Everything there is a trace of.
    pub(super) fn ids(&self) -> impl Iterator<Item = InstanceId> {
        self.guests.keys().chain(self.volumes.keys()).copied()
    }

    pub(super) fn holds(&self, id: InstanceId) -> bool {
        self.guests.contains_key(&id) || self.volumes.contains_key(&id)
    }

    /// Half of making a volume, or the rest of it. `true` when it is complete.
    pub(super) fn ensure_volume(&mut self, wanted: &Desired) -> bool {
        let fresh = Volume { epoch: wanted.epoch, ..Volume::default() };
        match self.volumes.get_mut(&wanted.id) {
            None => {
                self.volumes.insert(wanted.id, fresh);
                false
            }
            Some(found) if found.complete => true,
            Some(found) => {
                *found = Volume { complete: true, ..fresh };
                true
            }
        }
    }

    pub(super) fn prepare(&mut self, wanted: &Desired) -> Result<(), String> {
        let guest = self.guests.entry(wanted.id).or_insert(Found {
            id: wanted.id,
            epoch: wanted.epoch,
            state: State::Stopped,
            start: 0,
            generation: Generation(0),
            pid: None,
            started_at: None,
            same_boot: true,
        });
        if guest.epoch > wanted.epoch {
            return Err(format!("belongs to epoch {}", guest.epoch));
        }
        guest.epoch = wanted.epoch;
        guest.generation = wanted.configuration;
        Ok(())
    }

    pub(super) fn take_snapshot(&mut self, id: InstanceId, snapshot: SnapshotId) -> Result<(), String> {
        let volume = self.volumes.get_mut(&id).filter(|v| v.complete).ok_or("a snapshot of nothing")?;
        let content = volume.content;
        volume.snapshots.entry(snapshot).or_insert(content);
        Ok(())
    }

    pub(super) fn restore(&mut self, id: InstanceId, snapshot: SnapshotId) -> Result<(), String> {
        let volume = self.volumes.get_mut(&id).ok_or("has no volume")?;
        volume.content = *volume.snapshots.get(&snapshot).ok_or("has no such snapshot")?;
        Ok(())
    }

    pub(super) fn start(&mut self, wanted: &Desired, now: u64) -> Result<(), String> {
        let volume = self.volumes.get_mut(&wanted.id).filter(|v| v.complete).ok_or("has no volume")?;
        let guest = self.guests.get_mut(&wanted.id).ok_or("was not prepared")?;
        match guest.state {
            State::Running if guest.start == wanted.run.start => return Ok(()),
            State::Running | State::Frozen => return Err("runs already".into()),
            State::Stopped => {}
        }
        guest.state = State::Running;
        guest.start = wanted.run.start;
        guest.same_boot = true;
        volume.written = true;
        volume.content = now;
        Ok(())
    }

    /// Stops a guest; `stubborn` ones need force.
    pub(super) fn stop(&mut self, id: InstanceId, mode: StopMode, stubborn: bool) -> Result<(), String> {
        match self.guests.get_mut(&id) {
            Some(guest) if guest.state != State::Stopped && stubborn && !mode.force => {
                Err("did not stop in time".into())
            }
            Some(guest) => {
                guest.state = State::Stopped;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn set_state(&mut self, id: InstanceId, from: State, to: State) -> Result<(), String> {
        match self.guests.get_mut(&id) {
            Some(guest) if guest.state == from || guest.state == to => {
                guest.state = to;
                Ok(())
            }
            Some(_) | None => Err("is not running".into()),
        }
    }

    /// The power goes and comes back.
    pub(super) fn reboot(&mut self) {
        for guest in self.guests.values_mut() {
            guest.state = State::Stopped;
            guest.same_boot = false;
        }
    }
}
