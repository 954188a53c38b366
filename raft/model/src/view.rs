//! Questions that may be asked of a state, and the snapshot of it that readers hold.

use std::ops::Deref;
use std::sync::Arc;

use crate::device::{self, Device};
use crate::instance::{Config, Devices, Instance, Intent, Spec};
use crate::member::{Health, Member};
use crate::network::acl::{Acl, Subject};
use crate::network::{Network, NetworkKind};
use crate::snapshot::Snapshot;
use crate::{
    AclKey, AliasKey, AliasName, ClusterState, ImageKey, InstanceId, InstanceName, MemberName, NetworkKey, NetworkName,
    NodeId, PeerName, PoolName, ProjectName, SetKey, SnapshotId, SnapshotName, Version,
};
use uuid::Uuid;

/// A snapshot of the state at one version. Cheap to clone, never changes.
#[derive(Debug, Clone, Default)]
pub struct StateView {
    pub version: Version,
    state: Arc<ClusterState>,
}

impl StateView {
    /// Wraps a state as it was at `version`.
    pub fn new(version: Version, state: Arc<ClusterState>) -> Self {
        StateView { version, state }
    }
}

impl Deref for StateView {
    type Target = ClusterState;
    fn deref(&self) -> &ClusterState {
        &self.state
    }
}

fn network_url(network: &Network) -> String {
    format!("/1.0/networks/{}{}", network.name, network.project.suffix())
}

fn acl_url(acl: &Acl) -> String {
    format!("/1.0/network-acls/{}{}", acl.name, acl.project.suffix())
}

impl ClusterState {
    /// Whether [`crate::command::ClusterCommand::Init`] has been applied.
    pub fn initialised(&self) -> bool {
        !self.cluster_id.is_nil()
    }

    /// The instance that users call `name`.
    pub fn instance(&self, project: &ProjectName, name: &InstanceName) -> Option<&Instance> {
        // The index is keyed by pairs; building one costs two short strings.
        let id = self.instance_names.get(&(project.clone(), name.clone()))?;
        self.instances.get(id)
    }

    /// Instances whose home is `node`.
    pub fn assigned_to(&self, node: NodeId) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(move |i| i.placement.home().is_some_and(|(home, _)| home == node))
    }

    /// Instances that `node` has something to do for: those at home there, and those on their way there.
    pub fn concerning(&self, node: NodeId) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(move |i| {
            i.placement.home().is_some_and(|(home, _)| home == node) || i.placement.landing_on(node).is_some()
        })
    }

    /// Snapshots of an instance, whatever their stage, oldest first.
    pub fn snapshots_of(&self, id: InstanceId) -> impl Iterator<Item = &Snapshot> {
        let bound = |uuid: Uuid| (id, SnapshotId(uuid));
        self.snapshots.range(bound(Uuid::nil())..=bound(Uuid::max())).map(|(_, snapshot)| snapshot)
    }

    /// The snapshot that users call `name`.
    pub fn snapshot_named(&self, id: InstanceId, name: &SnapshotName) -> Option<&Snapshot> {
        self.snapshots_of(id).find(|s| s.is_ready() && s.name == *name)
    }

    /// The member that users call `name`.
    pub fn member_named(&self, name: &MemberName) -> Option<&Member> {
        self.members.values().find(|m| m.name == *name)
    }

    /// Whether the health controller believes `node` to be there.
    pub fn online(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|m| m.health == Health::Online)
    }

    /// The instance's own configuration over that of its profiles.
    pub fn expanded_config(&self, project: &ProjectName, spec: &Spec) -> Config {
        let mut config = Config::new();
        for profile in self.profiles_of(project, spec) {
            config.extend(profile.config.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        config.extend(spec.config.iter().map(|(k, v)| (k.clone(), v.clone())));
        config
    }

    /// The instance's own devices over those of its profiles; a device replaces one of the same name whole.
    pub fn expanded_devices(&self, project: &ProjectName, spec: &Spec) -> Devices {
        let mut devices = Devices::new();
        for profile in self.profiles_of(project, spec) {
            devices.extend(profile.devices.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        devices.extend(spec.devices.iter().map(|(k, v)| (k.clone(), v.clone())));
        devices
    }

    /// One key of the expanded configuration.
    pub fn config_value<'a>(&'a self, project: &ProjectName, spec: &'a Spec, key: &str) -> Option<&'a str> {
        let own = spec.config.get(key);
        let value = own.or_else(|| {
            let owner = self.profile_project(project);
            let keys = spec.profiles.iter().rev().map(|name| (owner.clone(), name.clone()));
            keys.filter_map(|key| self.profiles.get(&key)).find_map(|profile| profile.config.get(key))
        });
        value.map(String::as_str)
    }

    fn profiles_of(&self, project: &ProjectName, spec: &Spec) -> impl Iterator<Item = &crate::profile::Profile> {
        let owner = self.profile_project(project);
        spec.profiles.iter().filter_map(move |name| self.profiles.get(&(owner.clone(), name.clone())))
    }

    /// Expanded devices, parsed; those that do not parse are left out (apply never lets one in).
    pub fn parsed_devices(&self, project: &ProjectName, spec: &Spec) -> Vec<(String, Device)> {
        let devices = self.expanded_devices(project, spec);
        devices.into_iter().filter_map(|(name, p)| device::parse(&p).ok().map(|d| (name, d))).collect()
    }

    /// The pool of the instance's root disk.
    pub fn root_pool(&self, project: &ProjectName, spec: &Spec) -> Option<PoolName> {
        self.parsed_devices(project, spec).into_iter().find_map(|(_, device)| match device {
            Device::Root { pool, .. } => Some(pool),
            Device::Disk { .. } | Device::Nic { .. } | Device::None => None,
        })
    }

    /// URLs of what uses a network: instances, profiles, and networks that lead out through it.
    pub fn network_users(&self, network: &NetworkKey) -> Vec<String> {
        let named =
            |device: &Device| matches!(device, Device::Nic { network: Some(used), .. } if *used == network.name);
        let mut users = self.users(|project, device| *project == network.project && named(device));
        users.extend(self.networks.values().filter(|n| n.uplink().as_ref() == Some(network)).map(network_url));
        users
    }

    /// URLs of what uses an access control list: networks, instances, profiles, and rules of other lists.
    pub fn acl_users(&self, acl: &AclKey) -> Vec<String> {
        let networks = self.networks.values().filter(|n| n.acls().0.contains(acl));
        let mut users: Vec<String> = networks.map(network_url).collect();
        let has = |device: &Device| matches!(device, Device::Nic { logical, .. } if logical.acls.contains(&acl.name));
        users.extend(self.users(|project, device| *project == acl.project && has(device)));
        let named = |subject: &Subject| matches!(subject, Subject::Acl(name) if *name == acl.name);
        users.extend(self.acls_with(&acl.project, named).filter(|other| other.name != acl.name).map(acl_url));
        users
    }

    /// A bridge network that has the list, or whose interfaces have.
    pub(crate) fn bridge_with(&self, acl: &AclKey) -> Option<&NetworkName> {
        let named = |device: &Device, network: &NetworkName| match device {
            Device::Nic { network: Some(on), logical, .. } => on == network && logical.acls.contains(&acl.name),
            Device::Nic { network: None, .. } | Device::Root { .. } | Device::Disk { .. } | Device::None => false,
        };
        let worn = |network: &Network| {
            !self.users(|project, device| *project == network.project && named(device, &network.name)).is_empty()
        };
        let bridges = self.networks.values().filter(|n| n.kind == NetworkKind::Bridge && n.project == acl.project);
        let mut bridges = bridges.map(|n| (n, n.acls().0.contains(acl)));
        bridges.find(|(network, own)| *own || worn(network)).map(|(network, _)| &network.name)
    }

    /// URLs of access control lists whose rules name a peering of the network; a certain one, or any.
    pub fn acls_about(&self, network: &NetworkKey, peer: Option<&PeerName>) -> Vec<String> {
        let meant = |of: &NetworkName, name: &PeerName| *of == network.name && peer.is_none_or(|peer| peer == name);
        let named = |subject: &Subject| matches!(subject, Subject::Peer(of, name) if meant(of, name));
        self.acls_with(&network.project, named).map(acl_url).collect()
    }

    /// URLs of access control lists whose rules name an address set.
    pub fn address_set_users(&self, set: &SetKey) -> Vec<String> {
        let named = |subject: &Subject| matches!(subject, Subject::Set(name) if *name == set.name);
        self.acls_with(&set.project, named).map(acl_url).collect()
    }

    /// Lists of a project with a rule about something: what rules name is of the list's own project.
    fn acls_with(&self, project: &ProjectName, named: impl Fn(&Subject) -> bool) -> impl Iterator<Item = &Acl> {
        let any = move |acl: &&Acl| acl.project == *project && acl.subjects().iter().any(&named);
        self.acls.values().filter(any)
    }

    /// URLs of what uses a pool: instances and profiles.
    pub fn pool_users(&self, pool: &PoolName) -> Vec<String> {
        self.users(|_, device| matches!(device, Device::Root { pool: used, .. } if used == pool))
    }

    /// URLs of instances and profiles with a device that is asked for; it comes with the project whose networks count.
    fn users(&self, uses: impl Fn(&ProjectName, &Device) -> bool) -> Vec<String> {
        let any = |project: &ProjectName, devices: &Devices| {
            let project = self.network_project(project);
            devices.values().any(|p| device::parse(p).is_ok_and(|d| uses(&project, &d)))
        };
        let instances = self
            .instances
            .values()
            .filter(|i| any(&i.project, &self.expanded_devices(&i.project, &i.spec)))
            .map(|i| format!("/1.0/instances/{}{}", i.name, i.project.suffix()));
        let profiles = self
            .profiles
            .values()
            .filter(|p| any(&p.project, &p.devices))
            .map(|p| format!("/1.0/profiles/{}{}", p.name, p.project.suffix()));
        instances.chain(profiles).collect()
    }

    /// The image that a project means by `text`: an alias, a fingerprint, or a prefix of one that fits a single image.
    pub fn find_image(&self, project: &ProjectName, text: &str) -> Option<ImageKey> {
        let project = self.image_project(project);
        let named = AliasName::new(text).ok().map(|name| AliasKey { project: project.clone(), name });
        if let Some(alias) = named.and_then(|name| self.aliases.get(&name)) {
            return Some(alias.image());
        }
        if text.is_empty() {
            return None;
        }
        let mut fits = self.images.keys().filter(|id| id.project == project && id.name.as_str().starts_with(text));
        match (fits.next(), fits.next()) {
            (Some(only), None) => Some(only.clone()),
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    /// Instances on `node` that are to exist.
    pub fn living_on(&self, node: NodeId) -> impl Iterator<Item = &Instance> {
        self.assigned_to(node).filter(|i| i.run.intent != Intent::Deleted)
    }
}
