//! Questions that may be asked of a state, and the snapshot of it that readers hold.

use std::ops::Deref;
use std::sync::Arc;

use crate::device::{self, Device};
use crate::instance::{Config, Devices, Instance, Intent, Spec};
use crate::member::{Health, Member};
use crate::{
    AliasName, ClusterState, Fingerprint, InstanceName, MemberName, NetworkName, NodeId, PoolName, ProjectName, Version,
};

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

    fn profiles_of(&self, project: &ProjectName, spec: &Spec) -> impl Iterator<Item = &crate::profile::Profile> {
        spec.profiles.iter().filter_map(move |name| self.profiles.get(&(project.clone(), name.clone())))
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

    /// URLs of what uses a network: instances and profiles.
    pub fn network_users(&self, network: &NetworkName) -> Vec<String> {
        self.users(|device| matches!(device, Device::Nic { network: Some(used), .. } if used == network))
    }

    /// URLs of what uses a pool: instances and profiles.
    pub fn pool_users(&self, pool: &PoolName) -> Vec<String> {
        self.users(|device| matches!(device, Device::Root { pool: used, .. } if used == pool))
    }

    fn users(&self, uses: impl Fn(&Device) -> bool) -> Vec<String> {
        let suffix = |project: &ProjectName| match *project == ProjectName::default_project() {
            true => String::new(),
            false => format!("?project={project}"),
        };
        let any = |devices: &Devices| devices.values().any(|p| device::parse(p).is_ok_and(|d| uses(&d)));
        let instances = self
            .instances
            .values()
            .filter(|i| any(&self.expanded_devices(&i.project, &i.spec)))
            .map(|i| format!("/1.0/instances/{}{}", i.name, suffix(&i.project)));
        let profiles = self
            .profiles
            .values()
            .filter(|p| any(&p.devices))
            .map(|p| format!("/1.0/profiles/{}{}", p.name, suffix(&p.project)));
        instances.chain(profiles).collect()
    }

    /// The image that `text` names: an alias, a fingerprint, or a prefix of one that fits a single image.
    pub fn find_image(&self, text: &str) -> Option<Fingerprint> {
        if let Some(alias) = AliasName::new(text).ok().and_then(|name| self.aliases.get(&name)) {
            return Some(alias.target.clone());
        }
        if text.is_empty() {
            return None;
        }
        let mut fits = self.images.keys().filter(|f| f.as_str().starts_with(text));
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
