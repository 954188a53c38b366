//! What a fake host keeps of one instance.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use basalt_model::{Epoch, Generation, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::host::Op;
use crate::{Error, Found, GuestSpec, State};

/// One guest, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) epoch: Epoch,
    pub(super) generation: Generation,
    pub(super) start: u64,
    /// The start whose console output was cleared.
    #[serde(default)]
    pub(super) cleared: u64,
    #[serde(with = "state_name")]
    pub(super) state: State,
    pub(super) pid: Option<u32>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) memory: Option<u64>,
    pub(super) ignores_stop: bool,
    boot: u64,
}

impl Guest {
    pub(super) fn new(spec: &GuestSpec, boot: u64) -> Self {
        Guest {
            name: spec.hostname.clone(),
            epoch: spec.epoch,
            generation: spec.generation,
            start: 0,
            cleared: 0,
            state: State::Stopped,
            pid: None,
            started_at: None,
            memory: spec.limits.memory,
            ignores_stop: false,
            boot,
        }
    }

    pub(super) fn begin(&mut self, start: u64, boot: u64, pid: u32) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.start = start;
        self.boot = boot;
        self.state = State::Running;
        self.pid = Some(pid);
        self.started_at = Some(Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)));
    }

    pub(super) fn end(&mut self) {
        self.state = State::Stopped;
        self.pid = None;
    }

    /// As the port shows it on a machine in its boot `now`.
    pub(super) fn found(&self, id: InstanceId, now: u64) -> Found {
        Found {
            id,
            epoch: self.epoch,
            state: self.state,
            start: self.start,
            generation: self.generation,
            pid: self.pid,
            started_at: self.started_at,
            same_boot: self.boot == now,
        }
    }
}

/// A failure to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) op: Op,
    pub(super) text: String,
    /// The operation has its effect all the same.
    pub(super) after: bool,
}

/// All that is kept of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) guest: Option<Guest>,
    pub(super) failures: Vec<Failure>,
    pub(super) calls: BTreeMap<Op, u64>,
}

impl Slot {
    pub(super) fn take_failure(&mut self, id: InstanceId, op: Op, after: bool) -> Result<(), Error> {
        let Some(at) = self.failures.iter().position(|f| f.op == op && f.after == after) else { return Ok(()) };
        let detail = self.failures.remove(at).text;
        Err(Error::Step { id, doing: op.as_str(), detail, source: None })
    }
}

/// `State` on disk: the port's enum has no wire form of its own.
mod state_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::State;

    pub(super) fn serialize<S: Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match state {
            State::Stopped => "stopped",
            State::Running => "running",
            State::Frozen => "frozen",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<State, D::Error> {
        match String::deserialize(from)?.as_str() {
            "stopped" => Ok(State::Stopped),
            "running" => Ok(State::Running),
            "frozen" => Ok(State::Frozen),
            other => Err(serde::de::Error::custom(format!("no such state: {other}"))),
        }
    }
}
