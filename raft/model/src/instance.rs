//! An instance: what the user wants of it, where it lives, and what its home last said of it.
//!
//! Three facts, three writers: [`Spec`] and [`Run`] are the user's, [`Placement`] is the placement controller's,
//! [`Report`] is the agent's that holds the epoch. A report describes; it never changes what the user wants.
//!
//! ```text
//!  user     Run { intent, request: 7, start: 3 }      request bumps with each start/stop/restart/pause the user asks for,
//!                                                     start only with those that mean a fresh guest
//!  agent    Report { request: 6, phase: Running, .. }  6 < 7: there is something to do
//!           Report { request: 7, phase: Stopped, .. }  settled. A guest that ends by itself later only changes the
//!                                                     phase: nobody starts it again but autorestart or a new request
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Epoch, Fingerprint, Generation, GroupName, InstanceId, InstanceName, MemberName, NodeId, ProfileName, ProjectName,
    Timestamp,
};

/// Free-form configuration: keys of `config::instance`.
pub type Config = BTreeMap<String, String>;
/// Devices by name; each a map whose `type` says how to read the rest (see [`crate::device`]).
pub type Devices = BTreeMap<String, BTreeMap<String, String>>;

/// What runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system container (LXC).
    Container,
    /// A full virtual machine.
    VirtualMachine,
}

impl Kind {
    /// The API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::VirtualMachine => "virtual-machine",
        }
    }
}

/// What the root file system starts as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// An empty root.
    Empty,
    /// A copy of an image.
    Image(Fingerprint),
}

/// What the user wants the instance to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub kind: Kind,
    /// Kernel's word for the architecture, e.g. `x86_64`.
    pub architecture: String,
    pub origin: Origin,
    pub description: String,
    pub ephemeral: bool,
    /// Keys of this instance itself, over those of its profiles.
    pub config: Config,
    /// Devices of this instance itself, over those of its profiles.
    pub devices: Devices,
    /// In order: later ones win.
    pub profiles: Vec<ProfileName>,
}

/// Where the user wants it to live.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Target {
    /// Wherever it fits best.
    #[default]
    Any,
    /// On this member.
    Member(MemberName),
    /// On a member of this group.
    Group(GroupName),
}

/// Whether the user wants the guest to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    Stopped,
    Running,
    Frozen,
    /// Gone, with its data. Never leaves this intent again.
    Deleted,
}

/// How to stop a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StopMode {
    /// Kill at once instead of asking.
    pub force: bool,
    /// How long a clean stop may take, in seconds; `None` waits for ever.
    pub timeout_secs: Option<u32>,
}

/// The user's wish about running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub intent: Intent,
    /// Bumps with each request of the user.
    pub request: u64,
    /// Bumps with each request that means a fresh guest: start and restart.
    pub start: u64,
    /// How the current stop or restart is to be done.
    pub stop: StopMode,
}

impl Run {
    /// The wish of an instance that was just created.
    pub fn stopped() -> Self {
        Run { intent: Intent::Stopped, request: 0, start: 0, stop: StopMode::default() }
    }
}

/// Where an instance lives. One enum, so that no combination is meaningless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// No home yet. `refused` says why the scheduler found none, if it has looked.
    Unplaced { refused: Option<String> },
    /// At home on `node`; only that agent may run it, and only under this epoch.
    On { node: NodeId, epoch: Epoch },
}

impl Placement {
    /// The home, if there is one.
    pub fn home(&self) -> Option<(NodeId, Epoch)> {
        match self {
            Placement::Unplaced { .. } => None,
            Placement::On { node, epoch } => Some((*node, *epoch)),
        }
    }
}

/// What the home says of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its root file system exists and the guest does not run.
    Stopped,
    Running,
    Frozen,
    /// The last request could not be carried out, or its root could not be made; `reason` says why.
    Failed,
}

/// A report of the home agent; ignored by apply when its epoch is old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub epoch: Epoch,
    /// The generation of the spec that the host's side was made from.
    pub generation: Generation,
    pub phase: Phase,
    /// Whether the root file system exists. Once it did, it is never made anew: data that is gone is said to be gone.
    pub made: bool,
    /// The last request that was carried out, or failed for good.
    pub request: u64,
    /// Why the request failed, or what went wrong since.
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    pub project: ProjectName,
    pub name: InstanceName,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    /// Bumps when the user edits `spec` or the name.
    pub generation: Generation,
    pub spec: Spec,
    pub target: Target,
    pub run: Run,
    pub placement: Placement,
    pub report: Option<Report>,
}

impl Instance {
    /// What its home last said of the guest, if it has said anything under the present epoch.
    pub fn phase(&self) -> Option<Phase> {
        self.current_report().map(|r| r.phase)
    }

    /// The report of the present epoch.
    pub fn current_report(&self) -> Option<&Report> {
        let (_, epoch) = self.placement.home()?;
        self.report.as_ref().filter(|r| r.epoch == epoch)
    }

    /// Whether the home has settled the user's latest request.
    pub fn settled(&self) -> bool {
        self.current_report().is_some_and(|r| r.request >= self.run.request)
    }
}
