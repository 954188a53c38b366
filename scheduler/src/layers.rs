//! An instance's configuration over that of its profiles, read without copying it: sums over fifty thousand instances
//! cannot afford to build an expanded map for each.

use std::collections::BTreeMap;

use basalt_model::device::{self, Device};
use basalt_model::instance::{Devices, Instance};
use basalt_model::profile::Profile;
use basalt_model::{ClusterState, PoolName, ProfileName, ProjectName};

/// All profiles by borrowed key: each project's own, and those it uses of the default project.
pub(crate) struct Profiles<'a>(BTreeMap<(&'a ProjectName, &'a ProfileName), &'a Profile>);

impl<'a> Profiles<'a> {
    pub(crate) fn of(view: &'a ClusterState) -> Self {
        let mut known: BTreeMap<_, _> = view.profiles.values().map(|p| ((&p.project, &p.name), p)).collect();
        let own = |project: &ProjectName| view.profile_project(project) == *project;
        for project in view.projects.keys().filter(|project| !own(project)) {
            let shared = view.profiles.values().filter(|p| p.project.is_default());
            known.extend(shared.map(|p| ((project, &p.name), p)));
        }
        Profiles(known)
    }

    pub(crate) fn layers(&self, instance: &'a Instance) -> Layers<'a> {
        let wanted = instance.spec.profiles.iter().rev();
        let profiles = wanted.filter_map(|name| self.0.get(&(&instance.project, name)).copied()).collect();
        Layers { instance, profiles }
    }
}

/// One instance and its profiles, the ones that win first.
pub(crate) struct Layers<'a> {
    instance: &'a Instance,
    profiles: Vec<&'a Profile>,
}

impl<'a> Layers<'a> {
    /// The value that holds for `key`; an empty one means "not set" and hides those below it.
    pub(crate) fn value(&self, key: &str) -> Option<&'a str> {
        let own = self.instance.spec.config.get(key);
        let found = own.or_else(|| self.profiles.iter().find_map(|p| p.config.get(key)))?;
        (!found.is_empty()).then_some(found.as_str())
    }

    /// Devices that no layer above hides, with their properties.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (&'a str, &'a BTreeMap<String, String>)> {
        let own: &'a Devices = &self.instance.spec.devices;
        let below = self.profiles.iter().enumerate().flat_map(move |(at, profile)| {
            let hidden = move |name: &String| {
                own.contains_key(name) || self.profiles[..at].iter().any(|p| p.devices.contains_key(name))
            };
            profile.devices.iter().filter(move |(name, _)| !hidden(name))
        });
        own.iter().chain(below).map(|(name, properties)| (name.as_str(), properties))
    }

    /// Pool and size of the root disk: the first by name, as everywhere else.
    pub(crate) fn root(&self) -> Option<(PoolName, Option<u64>)> {
        let roots = self.devices().filter(|(_, p)| p.get("path").is_some_and(|path| path == "/"));
        let parsed = roots.filter_map(|(name, p)| match device::parse(p) {
            Ok(Device::Root { pool, size }) => Some((name, pool, size)),
            Ok(Device::Disk { .. } | Device::Nic { .. } | Device::None) | Err(_) => None,
        });
        parsed.min_by_key(|(name, _, _)| *name).map(|(_, pool, size)| (pool, size))
    }
}
