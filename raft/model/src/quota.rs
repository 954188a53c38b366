//! How much a project may hold: `limits.*`.
//!
//! **Purpose.** Sums what the instances of a project declare and holds it against the project's limits. Pure functions
//! of the state: apply asks after every change that can weigh more, so two requests that cross cannot both get in, and
//! the API shows the same sums.
//!
//! What a project is limited in, each of its instances must declare, itself or by a profile, and in absolute figures:
//! a share of a host or a set of its CPUs cannot be summed. Limits count what is promised, not what is used.

use std::collections::BTreeMap;

use crate::apply::{Outcome, invalid};
use crate::device::{self, Device};
use crate::instance::{Instance, Kind};
use crate::limit::{self, Cpu, Memory};
use crate::project::Project;
use crate::{ClusterState, PoolName, ProjectName};

/// What projects can be limited in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Containers,
    Cpu,
    /// Bytes of root disks, wherever they lie.
    Disk,
    /// Bytes of root disks in one pool.
    DiskIn(PoolName),
    Instances,
    /// Bytes.
    Memory,
    Networks,
    Processes,
    VirtualMachines,
}

/// A resource of a project: how much it may hold (`None` for any), and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    pub limit: Option<u64>,
    pub used: u64,
}

impl Resource {
    /// The API's word for it; `limits.<word>` is its key, but for pools.
    pub fn word(&self) -> String {
        match self {
            Resource::Containers => "containers".into(),
            Resource::Cpu => "cpu".into(),
            Resource::Disk => "disk".into(),
            Resource::DiskIn(pool) => format!("disk.{pool}"),
            Resource::Instances => "instances".into(),
            Resource::Memory => "memory".into(),
            Resource::Networks => "networks".into(),
            Resource::Processes => "processes".into(),
            Resource::VirtualMachines => "virtual-machines".into(),
        }
    }

    /// The key of a project that limits it.
    pub fn key(&self) -> String {
        match self {
            Resource::DiskIn(pool) => format!("limits.disk.pool.{pool}"),
            other => format!("limits.{}", other.word()),
        }
    }

    fn of_key(key: &str) -> Option<Self> {
        Some(match key.strip_prefix("limits.")? {
            "containers" => Resource::Containers,
            "cpu" => Resource::Cpu,
            "disk" => Resource::Disk,
            "instances" => Resource::Instances,
            "memory" => Resource::Memory,
            "networks" => Resource::Networks,
            "processes" => Resource::Processes,
            "virtual-machines" => Resource::VirtualMachines,
            other => Resource::DiskIn(PoolName::new(other.strip_prefix("disk.pool.")?).ok()?),
        })
    }

    /// Whether its figures are bytes.
    fn bytes(&self) -> bool {
        matches!(self, Resource::Disk | Resource::DiskIn(_) | Resource::Memory)
    }

    fn text(&self, amount: u64) -> String {
        match (self.bytes(), amount % (1 << 20)) {
            (true, 0) => format!("{}MiB", amount >> 20),
            (true | false, _) => amount.to_string(),
        }
    }

    /// What an instance must set to declare it.
    fn declared_by(&self) -> String {
        match self {
            Resource::Disk | Resource::DiskIn(_) => "the size of its root disk".into(),
            Resource::Containers
            | Resource::Cpu
            | Resource::Instances
            | Resource::Memory
            | Resource::Networks
            | Resource::Processes
            | Resource::VirtualMachines => self.key(),
        }
    }
}

/// What one instance promises itself of a resource.
enum Demand {
    Of(u64),
    Unset,
    /// Not in absolute figures: says what it is.
    Relative(&'static str),
}

fn demand(state: &ClusterState, instance: &Instance, resource: &Resource) -> Demand {
    let value = |key: &str| state.config_value(&instance.project, &instance.spec, key);
    let one = |counts: bool| Demand::Of(u64::from(counts));
    match resource {
        Resource::Instances => one(true),
        Resource::Containers => one(instance.spec.kind == Kind::Container),
        Resource::VirtualMachines => one(instance.spec.kind == Kind::VirtualMachine),
        Resource::Networks => Demand::Of(0),
        Resource::Cpu => match value("limits.cpu").map(limit::parse_cpu) {
            Some(Ok(Cpu::Count(count))) => Demand::Of(u64::from(count)),
            Some(Ok(Cpu::Set(_))) => Demand::Relative("a set of CPUs; it must be a count"),
            Some(Err(_)) | None => Demand::Unset,
        },
        Resource::Memory => match value("limits.memory").map(limit::parse_memory) {
            Some(Ok(Memory::Bytes(bytes))) => Demand::Of(bytes),
            Some(Ok(Memory::Percent(_))) => Demand::Relative("a share of the host; it must be a size"),
            Some(Err(_)) | None => Demand::Unset,
        },
        Resource::Processes => match value("limits.processes").map(str::parse) {
            Some(Ok(count)) => Demand::Of(count),
            Some(Err(_)) | None => Demand::Unset,
        },
        Resource::Disk => root(state, instance).map_or(Demand::Unset, |(_, size)| size),
        Resource::DiskIn(pool) => match root(state, instance) {
            Some((lies, size)) if lies == *pool => size,
            Some(_) => Demand::Of(0),
            None => Demand::Unset,
        },
    }
}

fn root(state: &ClusterState, instance: &Instance) -> Option<(PoolName, Demand)> {
    let devices = state.expanded_devices(&instance.project, &instance.spec);
    devices.values().find_map(|properties| match device::parse(properties) {
        Ok(Device::Root { pool, size }) => Some((pool, size.map_or(Demand::Unset, Demand::Of))),
        Ok(_) | Err(_) => None,
    })
}

fn limits(project: &Project) -> BTreeMap<Resource, u64> {
    let limit = |(key, value): (&String, &String)| {
        let resource = Resource::of_key(key)?;
        let amount = if resource.bytes() { limit::parse_bytes(value).ok()? } else { value.parse().ok()? };
        Some((resource, amount))
    };
    project.config.iter().filter_map(limit).collect()
}

/// How many networks are the project's own.
fn networks(state: &ClusterState, project: &ProjectName) -> u64 {
    state.networks.values().filter(|network| network.project == *project).count() as u64
}

fn instances<'a>(state: &'a ClusterState, project: &'a ProjectName) -> impl Iterator<Item = &'a Instance> {
    state.instances.values().filter(move |i| i.project == *project)
}

/// What a project holds of each resource, and may. What an instance leaves open counts as nothing.
pub fn shares(state: &ClusterState, project: &Project) -> BTreeMap<Resource, Share> {
    let limits = limits(project);
    let always = [
        Resource::Containers,
        Resource::Cpu,
        Resource::Disk,
        Resource::Instances,
        Resource::Memory,
        Resource::Networks,
        Resource::Processes,
        Resource::VirtualMachines,
    ];
    let mut shares: BTreeMap<Resource, Share> = always.into_iter().map(|r| (r, Share::default())).collect();
    for (resource, limit) in limits {
        shares.entry(resource).or_default().limit = Some(limit);
    }
    for (resource, share) in &mut shares {
        let of = |instance: &Instance| match demand(state, instance, resource) {
            Demand::Of(amount) => amount,
            Demand::Unset | Demand::Relative(_) => 0,
        };
        share.used = instances(state, &project.name).map(of).fold(0, u64::saturating_add);
        if *resource == Resource::Networks {
            share.used = networks(state, &project.name);
        }
    }
    shares
}

/// Whether a project has any limit.
pub fn limited(project: &Project) -> bool {
    project.config.keys().any(|key| key.starts_with("limits."))
}

/// Whether a pool is closed to a project: a limit of zero hides it.
pub fn hides_pool(project: &Project, pool: &PoolName) -> bool {
    limits(project).get(&Resource::DiskIn(pool.clone())) == Some(&0)
}

/// Holds what a project's instances declare against its limits.
///
/// # Errors
/// The first limit that is passed, with its value and what would be in use; or the instance that leaves open what is
/// limited.
pub(crate) fn check(state: &ClusterState, project: &Project) -> Outcome {
    for (resource, limit) in limits(project) {
        let mut used = match resource {
            Resource::Networks => networks(state, &project.name),
            _ => 0,
        };
        for instance in instances(state, &project.name) {
            used = match demand(state, instance, &resource) {
                Demand::Of(amount) => used.saturating_add(amount),
                Demand::Unset => return Err(open(project, &resource, instance, "does not set it")),
                Demand::Relative(what) => return Err(open(project, &resource, instance, &format!("sets {what}"))),
            };
        }
        if used > limit {
            let (limit, used) = (resource.text(limit), resource.text(used));
            let why = format!("project {:?} is limited to {limit}, and would use {used}", project.name.as_str());
            return Err(invalid(&resource.key(), why));
        }
    }
    Ok(())
}

fn open(project: &Project, resource: &Resource, instance: &Instance, what: &str) -> crate::Rejected {
    let must = resource.declared_by();
    let why = format!(
        "project {:?} is limited, so each instance must set {must} (or a profile of it): instance {:?} {what}",
        project.name.as_str(),
        instance.name.as_str(),
    );
    invalid(&resource.key(), why)
}

/// Whether `config` holds keys that members of feature level 1 do not enforce.
pub(crate) fn enforced_from_level_2(config: &BTreeMap<String, String>) -> bool {
    config.keys().any(|key| key.starts_with("limits.") || key.starts_with("restricted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PROJECT;

    /// The registry and the reader must not drift apart.
    #[test]
    fn keys_and_resources_are_the_same() {
        for key in PROJECT.iter().filter(|k| k.name.starts_with("limits.")) {
            let name = key.name.replace('*', "local");
            let resource = Resource::of_key(&name).unwrap_or_else(|| panic!("{name} limits nothing"));
            assert_eq!(resource.key(), name);
        }
        assert_eq!(Resource::of_key("limits.colour"), None);
        assert_eq!(Resource::of_key("limits.disk.pool."), None);
    }

    #[test]
    fn figures() {
        assert_eq!(Resource::Memory.text(3 << 20), "3MiB");
        assert_eq!(Resource::Memory.text(1_000_001), "1000001");
        assert_eq!(Resource::Cpu.text(1 << 20), "1048576");
    }
}
