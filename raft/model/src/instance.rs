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

use crate::evacuation::{Leg, Trip};
use crate::{
    Epoch, Fingerprint, Generation, GroupName, InstanceId, InstanceName, MemberName, NodeId, ProfileName, ProjectName,
    Rejected, SnapshotId, Timestamp,
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
    /// A copy of another instance.
    Copy(Box<CopyOf>),
}

/// What an instance is a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    pub source: InstanceId,
    /// As it was in this snapshot; else as it is when the copy is made.
    pub point: Option<SnapshotId>,
    /// Snapshots that come along, oldest first: the source's, and what each is at the copy.
    pub snapshots: Vec<(SnapshotId, SnapshotId)>,
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
    /// On its way to another home, or to another pool of the one that it has. It does not run meanwhile.
    Moving(Box<Move>),
}

/// What an instance becomes by a move, beside its new home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    /// Where the user wants it from now on.
    pub target: Target,
    pub project: ProjectName,
    pub name: InstanceName,
    pub spec: Spec,
}

/// A move that is under way. Until it is committed the old home is the home; after an abort it simply stays that.
///
/// ```text
///  user Move -> leader AssignMove -> new home pulls the volume, stamped `landing` -> new home Landed = the commit
///                      |                     |
///                      +-- no member fits    +-- cannot pull, member lost ---> AbortMove: nothing has happened
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub from: NodeId,
    /// The epoch of the old home.
    pub epoch: Epoch,
    /// `None` until the leader has chosen.
    pub to: Option<NodeId>,
    /// The epoch of the new home. No two attempts have the same: what an earlier one left is never taken for this one's.
    pub landing: Epoch,
    pub plan: MovePlan,
}

impl Move {
    /// Why nothing else can be done with the instance.
    pub(crate) fn busy(&self, name: &InstanceName) -> Rejected {
        Rejected::Busy(format!("instance {name} is being moved"))
    }
}

impl Placement {
    /// The home, if there is one.
    pub fn home(&self) -> Option<(NodeId, Epoch)> {
        match self {
            Placement::Unplaced { .. } => None,
            Placement::On { node, epoch } => Some((*node, *epoch)),
            Placement::Moving(on_its_way) => Some((on_its_way.from, on_its_way.epoch)),
        }
    }

    /// The move that is to end on `node`.
    pub fn landing_on(&self, node: NodeId) -> Option<&Move> {
        self.moving().filter(|m| m.to == Some(node))
    }

    /// The move that is under way.
    pub fn moving(&self) -> Option<&Move> {
        match self {
            Placement::Moving(on_its_way) => Some(on_its_way),
            Placement::Unplaced { .. } | Placement::On { .. } => None,
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

/// A snapshot that the user wants the instance to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    pub snapshot: SnapshotId,
    /// The request that asked for it: settled when that one is.
    pub request: u64,
}

/// What is to be done for an instance now and then, beside running it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Errands {
    /// The last restore that was asked for, done or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// The highest epoch that a move was ever given, committed or not.
    pub landings: Epoch,
    /// The epoch under which the root file system is made anew, in place of the one of an earlier epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remake: Option<Epoch>,
    /// Why the last move came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_failed: Option<String>,
    /// It was taken away from where it belongs, or is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trip: Option<Trip>,
}

impl Errands {
    fn none(&self) -> bool {
        *self == Self::default()
    }
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
    #[serde(default, skip_serializing_if = "Errands::none")]
    pub errands: Errands,
}

impl Instance {
    /// Whether it is down, or about to be, because of an evacuation: not what its user meant by a stop.
    pub fn held(&self) -> bool {
        let home = self.placement.home().map(|(node, _)| node);
        self.errands.trip.as_ref().is_some_and(|trip| trip.leg != Leg::Rest || Some(trip.origin) == home)
    }

    /// The restore that its home has not settled yet.
    pub fn pending_restore(&self) -> Option<Restore> {
        let pending = |r: &Restore| self.current_report().is_none_or(|report| report.request < r.request);
        self.errands.restore.filter(pending)
    }

    /// Whether what an earlier epoch has left of its root file system gives way to a new one.
    pub fn remade(&self) -> bool {
        self.errands.remake.is_some() && self.errands.remake == self.placement.home().map(|(_, epoch)| epoch)
    }

    /// Whether its root file system exists, as its home says.
    pub fn made(&self) -> bool {
        self.current_report().is_some_and(|report| report.made)
    }

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
