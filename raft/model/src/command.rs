//! The commands that change the cluster, and the envelope in which they lie in the log.
//!
//! Variants are appended, never reordered or renamed: a log written by one version is read by the next, and members of
//! different versions run together. A variant that older members do not know may only be proposed once the cluster's
//! feature level says that all members do (see [`Command::feature_level`]). `tests/golden.rs` pins the encoding.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::{Certificate, Token};
use crate::image::{Alias, Image};
use crate::instance::{Config, Devices, Instance, Intent, Report, Spec, StopMode};
use crate::member::{Announcement, Duty, Group, Health, Member};
use crate::network::Network;
use crate::pool::{Pool, PoolStatus};
use crate::profile::Profile;
use crate::project::Project;
use crate::secrets::Secrets;
use crate::{
    AliasName, Epoch, Fingerprint, Generation, GroupName, InstanceId, InstanceName, MemberName, NetworkName, NodeId,
    PoolName, ProfileName, ProjectName, Timestamp, TokenId,
};

/// The feature level of this build: the highest that any of its commands asks for.
pub const FEATURE_LEVEL: u32 = 1;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Cluster(ClusterCommand),
    Member(MemberCommand),
    Identity(IdentityCommand),
    Instance(InstanceCommand),
    Image(ImageCommand),
    Profile(ProfileCommand),
    Project(ProjectCommand),
    Network(NetworkCommand),
    Pool(PoolCommand),
}

impl Command {
    /// The cluster feature level that must have been reached before this may be proposed.
    pub fn feature_level(&self) -> u32 {
        match self {
            Command::Cluster(_)
            | Command::Member(_)
            | Command::Identity(_)
            | Command::Instance(_)
            | Command::Image(_)
            | Command::Profile(_)
            | Command::Project(_)
            | Command::Network(_)
            | Command::Pool(_) => 1,
        }
    }
}

/// The cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// The first command of a cluster's life: its keys, its first member, the default project and profile.
    Init(Box<Init>),
    /// Sets (`Some`) and unsets (`None`) cluster-wide keys.
    SetConfig { set: BTreeMap<String, Option<String>>, expect: Option<Generation> },
    /// All members have announced `level`; commands up to it may be proposed from now on.
    RaiseFeatureLevel { level: u32 },
}

/// What a cluster begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// Names the cluster for ever; a member of another cluster is refused by it.
    pub cluster_id: uuid::Uuid,
    pub secrets: Secrets,
    pub member: Member,
    pub at: Timestamp,
}

/// Members and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberCommand {
    /// Redeems `token` and admits `member`, whose id must be the next of the counter.
    Join {
        token: TokenId,
        secret_hash: Fingerprint,
        member: Box<Member>,
        at: Timestamp,
    },
    /// What a member's agent says of its machine.
    Announce {
        id: NodeId,
        announcement: Box<Announcement>,
    },
    Update {
        id: NodeId,
        failure_domain: String,
        description: String,
        groups: BTreeSet<GroupName>,
        config: BTreeMap<String, String>,
    },
    Rename {
        id: NodeId,
        name: MemberName,
    },
    SetDuty {
        id: NodeId,
        duty: Duty,
    },
    SetHealth {
        id: NodeId,
        health: Health,
    },
    /// Takes a member out. Without `force` it must hold no instance; with it, its instances are forgotten.
    Remove {
        id: NodeId,
        force: bool,
    },
    AddGroup(Group),
    UpdateGroup {
        name: GroupName,
        description: String,
        members: Option<BTreeSet<MemberName>>,
    },
    RenameGroup {
        name: GroupName,
        to: GroupName,
    },
    RemoveGroup(GroupName),
}

/// Certificates and tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityCommand {
    AddToken(Token),
    RevokeToken(TokenId),
    /// Redeems a trust token for `certificate`; consumption and trust are one step.
    RedeemTrust {
        token: TokenId,
        secret_hash: Fingerprint,
        certificate: Box<Certificate>,
        at: Timestamp,
    },
    AddCertificate(Certificate),
    UpdateCertificate(Certificate),
    RemoveCertificate(Fingerprint),
    /// Drops tokens that expired before `at`.
    DropExpired {
        at: Timestamp,
    },
}

/// Instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceCommand {
    /// The id is made by the proposer, so a repeated proposal is harmless.
    Create(Box<Instance>),
    /// The placement controller's choice. `epoch` must be the next one.
    Place {
        id: InstanceId,
        node: NodeId,
        epoch: Epoch,
    },
    /// The placement controller found no home; the text names every member with its reason.
    RefusePlacement {
        id: InstanceId,
        reason: String,
    },
    UpdateSpec {
        id: InstanceId,
        expect: Option<Generation>,
        spec: Box<Spec>,
    },
    Rename {
        id: InstanceId,
        name: InstanceName,
    },
    /// A request of the user about running. `restart` asks for a fresh guest even when one runs.
    SetRun {
        id: InstanceId,
        intent: Intent,
        restart: bool,
        stop: StopMode,
        at: Timestamp,
    },
    /// What the home says.
    Report {
        id: InstanceId,
        report: Report,
    },
    /// The home has destroyed what was `Deleted`.
    Forget {
        id: InstanceId,
        epoch: Epoch,
    },
    /// Sets `volatile.*` keys found out by the home agent: facts of the host, not the user's intent.
    SetVolatile {
        id: InstanceId,
        epoch: Epoch,
        set: BTreeMap<String, Option<String>>,
    },
}

/// Images and aliases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageCommand {
    Add(Box<Image>),
    Update { fingerprint: Fingerprint, public: bool, expires_at: Timestamp, properties: BTreeMap<String, String> },
    Remove(Fingerprint),
    AddHolder { fingerprint: Fingerprint, node: NodeId },
    DropHolder { fingerprint: Fingerprint, node: NodeId },
    SetAlias { alias: Alias, replace: bool },
    RemoveAlias(AliasName),
    RenameAlias { name: AliasName, to: AliasName },
}

/// Profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileCommand {
    Add(Profile),
    Update {
        project: ProjectName,
        name: ProfileName,
        expect: Option<Generation>,
        description: String,
        config: Config,
        devices: Devices,
    },
    Rename {
        project: ProjectName,
        name: ProfileName,
        to: ProfileName,
    },
    Remove {
        project: ProjectName,
        name: ProfileName,
    },
}

/// Projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectCommand {
    Add(Project),
    Update { name: ProjectName, expect: Option<Generation>, description: String, config: BTreeMap<String, String> },
    Rename { name: ProjectName, to: ProjectName },
    Remove(ProjectName),
}

/// Networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkCommand {
    Add(Network),
    Update { name: NetworkName, expect: Option<Generation>, description: String, config: BTreeMap<String, String> },
    Rename { name: NetworkName, to: NetworkName },
    Remove(NetworkName),
}

/// Storage pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolCommand {
    Add(Pool),
    Update {
        name: PoolName,
        expect: Option<Generation>,
        description: String,
        config: BTreeMap<String, String>,
    },
    /// Keys of one member only.
    SetMemberConfig {
        name: PoolName,
        node: NodeId,
        config: BTreeMap<String, String>,
    },
    /// What a member's agent says of its share.
    Status {
        name: PoolName,
        node: NodeId,
        status: PoolStatus,
    },
    Remove(PoolName),
}
