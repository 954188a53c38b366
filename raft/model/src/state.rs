//! The replicated state: everything the cluster agrees on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::{Certificate, Token};
use crate::image::{Alias, Image};
use crate::instance::Instance;
use crate::member::{Group, Member};
use crate::network::acl::Acl;
use crate::network::address_set::AddressSet;
use crate::network::zone::Zone;
use crate::network::{Network, NicAddress};
use crate::pool::Pool;
use crate::profile::Profile;
use crate::project::Project;
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;
use crate::warning::Warning;
use crate::{
    AclKey, AliasKey, Fingerprint, Generation, GroupName, ImageKey, InstanceId, InstanceName, NetworkKey, NodeId,
    PoolName, ProfileName, ProjectName, SetKey, SnapshotId, Table, TokenId, WarningId, ZoneName,
};

/// Everything the cluster agrees on. Cloning shares structure: a snapshot for a reader is a handful of pointer copies.
///
/// The fields are public to read; only [`ClusterState::apply`] changes a state that counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterState {
    /// Nil until [`crate::command::ClusterCommand::Init`].
    pub cluster_id: Uuid,
    pub secrets: Secrets,
    /// Commands above this level are refused.
    pub feature_level: u32,
    /// The id that the next member gets. Ids are never used twice.
    pub next_node: u64,
    pub config: BTreeMap<String, String>,
    pub config_generation: Generation,
    pub members: Table<NodeId, Member>,
    pub groups: Table<GroupName, Group>,
    pub certificates: Table<Fingerprint, Certificate>,
    pub tokens: Table<TokenId, Token>,
    pub projects: Table<ProjectName, Project>,
    pub profiles: Table<(ProjectName, ProfileName), Profile>,
    pub instances: Table<InstanceId, Instance>,
    /// Index of `instances` by what users call them.
    pub instance_names: Table<(ProjectName, InstanceName), InstanceId>,
    /// Instances that are gone, each with its place in the row of the dead; the oldest make room for new ones. A
    /// creation that was asked for twice and gets through a second time late must not bring one back.
    pub graves: Table<InstanceId, u64>,
    /// How many instances have ever gone.
    pub burials: u64,
    pub images: Table<ImageKey, Image>,
    pub aliases: Table<AliasKey, Alias>,
    pub networks: Table<NetworkKey, Network>,
    /// The number that the last network got. Numbers are never used twice.
    pub networks_numbered: u32,
    pub acls: Table<AclKey, Acl>,
    /// The number that the last list got.
    pub acls_numbered: u32,
    pub zones: Table<ZoneName, Zone>,
    pub address_sets: Table<SetKey, AddressSet>,
    /// The number that the last set got.
    pub address_sets_numbered: u32,
    /// Addresses of interfaces on logical networks, by instance and device.
    pub addresses: Table<(InstanceId, String), NicAddress>,
    /// Index of `addresses` by the address.
    pub address_holders: Table<(NetworkKey, IpAddr), (InstanceId, String)>,
    pub pools: Table<PoolName, Pool>,
    /// Copies that are being made, with what each is made from: that stays as long.
    pub copies: Table<InstanceId, InstanceId>,
    /// By instance, so that those of one lie together; ids grow with time.
    pub snapshots: Table<(InstanceId, SnapshotId), Snapshot>,
    /// Snapshots that are gone, as `graves` is for instances.
    pub snapshot_graves: Table<SnapshotId, u64>,
    /// How many snapshots have ever gone.
    pub snapshot_burials: u64,
    pub warnings: Table<WarningId, Warning>,
}
