//! The port to whatever runs guests: containers, virtual machines, microVMs.
//!
//! ```text
//!   agent --InstanceDriver--> lxc | qemu | vmm | fake      life cycle, idempotent where said so
//!         --GuestAccess-----> the same                     exec and console inside a running guest
//!         <--Event----------- the same                     "look at this instance again"; carries no data
//! ```
//!
//! **Invariants.** A driver owns no intent: it does what it is told and says what is. Everything it knows can be found
//! again on the host after its process is gone (`list`, `inspect`); guests outlive it. Every method may be called again
//! after a crash at any instruction. Methods on one instance are never called concurrently (the agent has one serial
//! task per instance), but those of different instances are.
//!
//! **Failure.** [`Error`] says what was being done and to which instance; `destroy` of what is gone succeeds.

pub mod access;
pub mod error;
pub mod fake;
pub mod guest;
pub mod testing;

pub use access::{ExecRequest, GuestAccess, GuestIo, GuestProcess};
pub use error::Error;
pub use guest::{
    Disk, DiskUse, Event, Found, GuestSpec, IdMap, Joined, Limits, Nic, Probe, RootFs, State, SwitchPort, Usage,
};

use async_trait::async_trait;
use basalt_model::InstanceId;
use basalt_model::instance::{Kind, StopMode};
use tokio::sync::mpsc;

/// Life cycle of guests of one kind on this host.
#[async_trait]
pub trait InstanceDriver: Send + Sync + std::fmt::Debug {
    /// What this driver runs.
    fn kind(&self) -> Kind;

    /// What the host has and lacks for it. Never fails for something missing: it says so.
    async fn probe(&self) -> Probe;

    /// Everything of ours on this host, running or not, known to the agent or not.
    async fn list(&self) -> Result<Vec<Found>, Error>;

    /// One of them; `None` when there is no trace of it.
    async fn inspect(&self, id: InstanceId) -> Result<Option<Found>, Error>;

    /// Writes what `start` needs (runtime folder, engine config), stamped with the guest's epoch. Idempotent; also
    /// applies what of a changed spec can be applied to a running guest (limits), and leaves the rest to the next start.
    async fn prepare(&self, guest: &GuestSpec) -> Result<(), Error>;

    /// Starts a prepared guest and returns once its init runs. Starting one that already runs under the same
    /// `start` succeeds without doing anything.
    async fn start(&self, guest: &GuestSpec) -> Result<(), Error>;

    /// Stops it: cleanly within the mode's timeout, or at once with `force`. `Error::Timeout` when a clean stop did not
    /// end in time; the guest then runs on. Stopping one that does not run succeeds.
    async fn stop(&self, id: InstanceId, mode: StopMode) -> Result<(), Error>;

    /// Freezes all its processes. Idempotent.
    async fn pause(&self, id: InstanceId) -> Result<(), Error>;

    /// Thaws them. Idempotent.
    async fn resume(&self, id: InstanceId) -> Result<(), Error>;

    /// Removes every trace of it but its volumes; kills it first if it runs. Idempotent.
    async fn destroy(&self, id: InstanceId) -> Result<(), Error>;

    /// What it uses now. Cheap: reads cgroup files, starts no process.
    async fn usage(&self, id: InstanceId) -> Result<Usage, Error>;

    /// The stream of wake-ups; taken once. An event says that an instance's state may have changed by itself.
    fn events(&self) -> Option<mpsc::Receiver<Event>>;

    /// Exec and console, where the engine has them.
    fn access(&self) -> Option<&dyn GuestAccess>;
}
