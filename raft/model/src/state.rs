//! The replicated state: everything the cluster agrees on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::{Certificate, Token};
use crate::image::{Alias, Image};
use crate::instance::Instance;
use crate::member::{Group, Member};
use crate::network::Network;
use crate::pool::Pool;
use crate::profile::Profile;
use crate::project::Project;
use crate::secrets::Secrets;
use crate::{
    AliasName, Fingerprint, Generation, GroupName, InstanceId, InstanceName, NetworkName, NodeId, PoolName,
    ProfileName, ProjectName, Table, TokenId,
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
    pub images: Table<Fingerprint, Image>,
    pub aliases: Table<AliasName, Alias>,
    pub networks: Table<NetworkName, Network>,
    pub pools: Table<PoolName, Pool>,
}
