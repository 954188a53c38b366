//! The commands that change the cluster, and the envelope in which they lie in the log.
//!
//! Variants are appended, never reordered or renamed: a log written by one version is read by the next, and members of
//! different versions run together. A variant that older members do not know may only be proposed once the cluster's
//! feature level says that all members do (see [`Command::feature_level`]). `tests/golden.rs` pins the encoding.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::device;
use crate::evacuation::{Order, TripStep};
use crate::identity::{Certificate, Token};
use crate::image::{self, Alias, Edit, Image};
use crate::instance::{Config, Devices, Instance, Intent, MovePlan, Origin, Report, Spec, StopMode};
use crate::member::{Announcement, Duty, Group, Health, Member, Role};
use crate::network::acl::Acl;
use crate::network::address_set::AddressSet;
use crate::network::balance::{Balancer, Forward};
use crate::network::own;
use crate::network::peer::Peer;
use crate::network::zone::{self, Zone};
use crate::network::{Network, NetworkKind};
use crate::pool::{Pool, PoolStatus};
use crate::profile::{self, Profile};
use crate::project::Project;
use crate::secrets::Secrets;
use crate::warning::Cause;
use crate::{
    AclKey, AclName, AliasKey, AliasName, Epoch, Fingerprint, Generation, GroupName, ImageKey, InstanceId,
    InstanceName, MemberName, NetworkKey, NetworkName, NodeId, PeerName, PoolName, ProfileName, ProjectName,
    RecordName, SetKey, SetName, SnapshotId, SnapshotName, Timestamp, TokenId, WarningId, ZoneName,
};

/// The feature level of this build: the highest that any of its commands asks for.
pub const FEATURE_LEVEL: u32 = 2;

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
    Snapshot(SnapshotCommand),
    Warning(WarningCommand),
    Acl(AclCommand),
    Zone(ZoneCommand),
    AddressSet(AddressSetCommand),
}

impl Command {
    /// Devices of the instance or profile that it makes or changes.
    fn devices(&self) -> Option<&Devices> {
        match self {
            Command::Instance(InstanceCommand::Create(instance)) => Some(&instance.spec.devices),
            Command::Instance(InstanceCommand::UpdateSpec { spec, .. }) => Some(&spec.devices),
            Command::Profile(ProfileCommand::Add(profile)) => Some(&profile.devices),
            Command::Profile(ProfileCommand::Update { devices, .. }) => Some(devices),
            Command::Instance(_)
            | Command::Profile(_)
            | Command::Cluster(_)
            | Command::Member(_)
            | Command::Identity(_)
            | Command::Image(_)
            | Command::Project(_)
            | Command::Network(_)
            | Command::Pool(_)
            | Command::Snapshot(_)
            | Command::Warning(_)
            | Command::Acl(_)
            | Command::Zone(_)
            | Command::AddressSet(_) => None,
        }
    }

    /// The cluster feature level that must have been reached before this may be proposed.
    pub fn feature_level(&self) -> u32 {
        if self.devices().is_some_and(device::understood_from_level_2) {
            return 2;
        }
        match self {
            Command::Instance(InstanceCommand::Create(instance)) if matches!(instance.spec.origin, Origin::Copy(_)) => {
                2
            }
            Command::Snapshot(_)
            | Command::Member(
                MemberCommand::Update { roles: Some(_), .. }
                | MemberCommand::Order { .. }
                | MemberCommand::OrderDone { .. },
            )
            | Command::Cluster(ClusterCommand::SetApiCertificate { .. })
            | Command::Instance(
                InstanceCommand::Restore { .. }
                | InstanceCommand::Move { .. }
                | InstanceCommand::AssignMove { .. }
                | InstanceCommand::Landed { .. }
                | InstanceCommand::AbortMove { .. }
                | InstanceCommand::Trip { .. }
                | InstanceCommand::Remake { .. },
            ) => 2,
            Command::Image(command) => command.feature_level(),
            Command::Cluster(_)
            | Command::Member(_)
            | Command::Identity(_)
            | Command::Instance(_)
            | Command::Profile(_)
            | Command::Pool(_) => 1,
            Command::Network(command) => command.feature_level(),
            Command::Project(c) => c.feature_level(),
            Command::Warning(_) | Command::Acl(_) | Command::Zone(_) | Command::AddressSet(_) => 2,
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
    /// Exchanges the certificate of the public API, and its key. Both are PEM.
    SetApiCertificate { certificate: String, key: String },
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
        /// Level 2. Without it the roles stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        roles: Option<BTreeSet<Role>>,
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
    /// Level 2: empties a member, or fills it again, and sets its duty.
    Order {
        id: NodeId,
        order: Order,
    },
    /// Level 2: the leader has carried out the order that was given at `at`.
    OrderDone {
        id: NodeId,
        at: Timestamp,
    },
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
    /// The user wants it back as it was in a snapshot, its `spec` with it. One that runs is stopped for it as `stop`
    /// says, and started again.
    Restore {
        id: InstanceId,
        snapshot: SnapshotId,
        spec: Box<Spec>,
        stop: StopMode,
    },
    /// The user wants it elsewhere, or to be called otherwise, or both. It must be stopped. Without `to` the leader
    /// chooses by the plan's target.
    Move {
        id: InstanceId,
        to: Option<NodeId>,
        plan: Box<MovePlan>,
        /// The generation that the plan was made from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect: Option<Generation>,
    },
    /// The placement controller's choice for a move.
    AssignMove {
        id: InstanceId,
        landing: Epoch,
        node: NodeId,
    },
    /// The new home holds everything: the one point of no return.
    Landed {
        id: InstanceId,
        landing: Epoch,
        at: Timestamp,
    },
    /// The move comes to nothing.
    AbortMove {
        id: InstanceId,
        landing: Epoch,
        reason: String,
    },
    /// Level 2: one step of what an order for a member means for an instance.
    Trip {
        id: InstanceId,
        step: Box<TripStep>,
    },
    /// Level 2: the user wants its root file system made anew where it is, from the origin in `spec`. It must be stopped.
    Remake {
        id: InstanceId,
        spec: Box<Spec>,
        /// Whether its snapshots go; else there may be none. Those of an origin that is a copy come instead.
        snapshots_too: bool,
        at: Timestamp,
        /// The generation that `spec` was made from.
        expect: Option<Generation>,
    },
}

/// Images and aliases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageCommand {
    Add(Box<Image>),
    Update {
        #[serde(rename = "fingerprint")]
        image: ImageKey,
        public: bool,
        expires_at: Timestamp,
        properties: BTreeMap<String, String>,
    },
    Remove(ImageKey),
    /// Of all images that have these files, whosesoever they are.
    AddHolder {
        fingerprint: Fingerprint,
        node: NodeId,
    },
    /// The same.
    DropHolder {
        fingerprint: Fingerprint,
        node: NodeId,
    },
    SetAlias {
        alias: Alias,
        replace: bool,
    },
    RemoveAlias(AliasKey),
    RenameAlias {
        name: AliasKey,
        to: AliasName,
    },
    /// Level 2: takes the place of `Update`.
    Edit {
        #[serde(rename = "fingerprint")]
        image: ImageKey,
        edit: Box<Edit>,
    },
    /// Level 2: removes a cached image that nobody has wanted after `unused_since`.
    Expire {
        #[serde(rename = "fingerprint")]
        image: ImageKey,
        unused_since: Timestamp,
    },
}

impl ImageCommand {
    fn feature_level(&self) -> u32 {
        // Members of level 1 know no images but those of the default project.
        let of = |project: &ProjectName| 1 + u32::from(!project.is_default());
        match self {
            ImageCommand::Add(image) if image.beyond_level_1() => 2,
            ImageCommand::Add(image) => of(&image.project),
            ImageCommand::Update { image: id, .. } | ImageCommand::Remove(id) => of(&id.project),
            ImageCommand::SetAlias { alias, .. } => of(&alias.project),
            ImageCommand::RemoveAlias(id) | ImageCommand::RenameAlias { name: id, .. } => of(&id.project),
            ImageCommand::AddHolder { .. } | ImageCommand::DropHolder { .. } => 1,
            ImageCommand::Edit { .. } | ImageCommand::Expire { .. } => 2,
        }
    }
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

impl ProjectCommand {
    /// Limits and restrictions bind every later command: members that do not know them would decide otherwise.
    fn feature_level(&self) -> u32 {
        match self {
            ProjectCommand::Add(Project { config, .. }) | ProjectCommand::Update { config, .. } => {
                let features = [own::FEATURE, profile::FEATURE, zone::FEATURE, image::own::FEATURE];
                let own = features.iter().any(|key| config.contains_key(*key));
                1 + u32::from(own || crate::quota::enforced_from_level_2(config))
            }
            ProjectCommand::Rename { .. } | ProjectCommand::Remove(_) => 1,
        }
    }
}

/// Networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkCommand {
    Add(Network),
    Update {
        name: NetworkKey,
        expect: Option<Generation>,
        description: String,
        config: BTreeMap<String, String>,
    },
    Rename {
        name: NetworkKey,
        to: NetworkName,
    },
    Remove(NetworkKey),
    /// The network controller's choice of addresses for interfaces. Those that do not fit any more are passed over; when
    /// none does, the command is refused.
    Allocate {
        addresses: Vec<Allocation>,
    },
    /// The network controller's choice of a router's addresses on its uplink.
    AllocateUplink {
        network: NetworkKey,
        ipv4: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
    },
    PutForward {
        network: NetworkKey,
        forward: Box<Forward>,
        expect: Expect,
    },
    RemoveForward {
        network: NetworkKey,
        listen: IpAddr,
    },
    PutBalancer {
        network: NetworkKey,
        balancer: Box<Balancer>,
        expect: Expect,
    },
    RemoveBalancer {
        network: NetworkKey,
        listen: IpAddr,
    },
    PutPeer {
        network: NetworkKey,
        peer: Box<Peer>,
        expect: Expect,
    },
    RemovePeer {
        network: NetworkKey,
        name: PeerName,
    },
}

/// What must be there for something to be put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// Something; of this generation, if one is given.
    Present(Option<Generation>),
}

/// Access control lists of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AclCommand {
    Put { acl: Box<Acl>, expect: Expect },
    Rename { name: AclKey, to: AclName },
    Remove(AclKey),
}

/// Address sets, which rules of access control lists name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressSetCommand {
    Put { set: Box<AddressSet>, expect: Expect },
    Rename { name: SetKey, to: SetName },
    Remove(SetKey),
}

/// Network zones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZoneCommand {
    /// All but the records, which stay.
    Put {
        zone: Box<Zone>,
        expect: Expect,
    },
    Remove(ZoneName),
    PutRecord {
        zone: ZoneName,
        record: Box<zone::Record>,
        expect: Expect,
    },
    RemoveRecord {
        zone: ZoneName,
        name: RecordName,
    },
}

/// The addresses that an interface on a logical network is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    pub instance: InstanceId,
    pub device: String,
    pub network: NetworkKey,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl NetworkCommand {
    fn feature_level(&self) -> u32 {
        match self {
            NetworkCommand::Add(network) if network.kind != NetworkKind::Bridge => 2,
            // Checked from level 2 on.
            NetworkCommand::Add(Network { config, .. }) | NetworkCommand::Update { config, .. }
                if config.keys().any(|key| key.starts_with("dns.zone."))
                    || ["ipv4.ovn.ranges", "security.acls"].iter().any(|key| config.contains_key(*key)) =>
            {
                2
            }
            NetworkCommand::Add(Network { project, .. })
            | NetworkCommand::Update { name: NetworkKey { project, .. }, .. }
            | NetworkCommand::Rename { name: NetworkKey { project, .. }, .. }
            | NetworkCommand::Remove(NetworkKey { project, .. }) => 1 + u32::from(!project.is_default()),
            NetworkCommand::Allocate { .. }
            | NetworkCommand::AllocateUplink { .. }
            | NetworkCommand::PutForward { .. }
            | NetworkCommand::RemoveForward { .. }
            | NetworkCommand::PutBalancer { .. }
            | NetworkCommand::RemoveBalancer { .. }
            | NetworkCommand::PutPeer { .. }
            | NetworkCommand::RemovePeer { .. } => 2,
        }
    }
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

/// Snapshots of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotCommand {
    /// The user wants one of the instance as it is when this is applied. The id is made by the proposer.
    Create {
        instance: InstanceId,
        id: SnapshotId,
        name: SnapshotName,
        at: Timestamp,
        expires_at: Timestamp,
    },
    Rename {
        instance: InstanceId,
        id: SnapshotId,
        name: SnapshotName,
    },
    Update {
        instance: InstanceId,
        id: SnapshotId,
        expires_at: Timestamp,
    },
    /// The user wants it gone.
    Delete {
        instance: InstanceId,
        id: SnapshotId,
    },
    /// The home has taken it.
    Taken {
        instance: InstanceId,
        id: SnapshotId,
        epoch: Epoch,
        size: u64,
    },
    /// The home could not take it.
    Failed {
        instance: InstanceId,
        id: SnapshotId,
        epoch: Epoch,
        reason: String,
    },
    /// The home has removed what was `Doomed`.
    Forget {
        instance: InstanceId,
        id: SnapshotId,
        epoch: Epoch,
    },
}

/// Warnings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarningCommand {
    /// Something is wrong. `id` is taken if nothing was known of it.
    Raise {
        id: WarningId,
        cause: Cause,
        message: String,
        at: Timestamp,
    },
    /// Its cause is gone.
    Resolve {
        id: WarningId,
        at: Timestamp,
    },
    /// Somebody has seen it, or wants it to be seen again.
    SetStatus {
        id: WarningId,
        status: crate::warning::Status,
    },
    Remove(WarningId),
}
