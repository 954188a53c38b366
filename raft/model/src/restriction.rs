//! What a project may not do: `restricted` and `restricted.*`.
//!
//! **Purpose.** A project with `restricted=true` is for people who are not to reach beyond it. Everything that could is
//! blocked, unless its own key allows it. Apply asks after every change that could bring something forbidden in, of
//! instances and of profiles, so no path around it is left; who may pick a member or a group is asked by the API, as it
//! is about the caller, and the scheduler keeps to [`groups`].

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::{Outcome, invalid};
use crate::config::{self, PROJECT};
use crate::instance::{Config, Devices};
use crate::network::Network;
use crate::profile::Profile;
use crate::project::Project;
use crate::{ClusterState, GroupName, NetworkName, ProfileName, ProjectName};

/// Keys of containers that reach past what Basalt itself sets up.
const LOWLEVEL: &[&str] = &[
    "boot.host_shutdown_timeout",
    "linux.kernel_modules",
    "raw.apparmor",
    "raw.idmap",
    "raw.lxc",
    "raw.seccomp",
    "security.idmap.base",
    "security.idmap.size",
];

/// Whether the project is restricted at all.
pub fn restricted(project: &Project) -> bool {
    project.config.get("restricted").is_some_and(|v| config::is_true(v))
}

/// What holds for a key of a restricted project: what is set, or the default of the registry.
fn word<'a>(project: &'a Project, key: &str) -> &'a str {
    match project.config.get(key).filter(|v| !v.is_empty()) {
        Some(value) => value,
        None => config::find(PROJECT, key).map_or("block", |k| k.default),
    }
}

/// Whether something that `key` is about is blocked in the project.
pub fn blocks(project: &Project, key: &str) -> bool {
    restricted(project) && word(project, key) == "block"
}

/// The texts of a list such as `a,b`; `None` if the project is not restricted or leaves the key open.
fn list<'a>(project: &'a Project, key: &str) -> Option<impl Iterator<Item = &'a str>> {
    let value = project.config.get(key).filter(|v| !v.is_empty() && restricted(project))?;
    Some(value.split(',').map(str::trim).filter(|word| !word.is_empty()))
}

/// The only groups whose members may take instances of the project; `None` for all.
pub fn groups(project: &Project) -> Option<BTreeSet<GroupName>> {
    Some(list(project, "restricted.cluster.groups")?.filter_map(|name| GroupName::new(name).ok()).collect())
}

/// Whether the project may use a network, or a bridge of the host.
pub fn opens_network(project: &Project, network: &str) -> bool {
    list(project, "restricted.networks.access").is_none_or(|mut open| open.any(|name| name == network))
}

impl ClusterState {
    /// Whether a project may use a network: it must be of those that count for the project, and open to it.
    pub fn may_use_network(&self, project: &ProjectName, network: &Network) -> bool {
        let open = || self.projects.get(project).is_none_or(|p| opens_network(p, network.name.as_str()));
        self.network_project(project) == network.project && open()
    }

    /// Whether networks of a project may lead out through an uplink.
    pub fn may_lead_out(&self, project: &ProjectName, uplink: &NetworkName) -> bool {
        project.is_default() || self.projects.get(project).is_none_or(|p| opens_uplink(p, uplink.as_str()))
    }

    /// Folders of the host that disks of a project must lie in; `None` for any.
    pub fn disk_paths(&self, project: &ProjectName) -> Option<Vec<String>> {
        let project = self.projects.get(project)?;
        Some(list(project, "restricted.devices.disk.paths")?.map(str::to_owned).collect())
    }
}

/// Whether networks of the project may lead out through an uplink.
fn opens_uplink(project: &Project, uplink: &str) -> bool {
    let named = || word(project, "restricted.networks.uplinks").split(',').any(|name| name.trim() == uplink);
    !restricted(project) || named()
}

/// Looks for what the project may not do, in its instances, its profiles and its networks. Networks of the default
/// project are for whoever runs the cluster.
///
/// # Errors
/// Names the restriction, and whose key or device is against it.
pub(crate) fn check(state: &ClusterState, project: &Project) -> Outcome {
    if !restricted(project) {
        return Ok(());
    }
    for profile in profiles(state, project) {
        check_one(project, &format!("profile {:?}", profile.name.as_str()), (&profile.config, &profile.devices))?;
    }
    for instance in state.instances.values().filter(|i| i.project == project.name) {
        // Profiles were looked at above; what an instance adds to them is its own.
        let what = format!("instance {:?}", instance.name.as_str());
        check_one(project, &what, (&instance.spec.config, &instance.spec.devices))?;
    }
    for network in state.networks.values().filter(|n| n.project == project.name) {
        if let Some(uplink) = network.uplink().filter(|uplink| !state.may_lead_out(&project.name, &uplink.name)) {
            let (of, network) = (project.name.as_str(), network.name.as_str());
            let why = format!("project {of:?} does not allow uplink {:?} of network {network:?}", uplink.name.as_str());
            return Err(invalid("restricted.networks.uplinks", why));
        }
    }
    Ok(())
}

/// The profiles that a project answers for: those of its own, or those of the default project that its instances use.
fn profiles<'a>(state: &'a ClusterState, project: &Project) -> Vec<&'a Profile> {
    if state.profile_project(&project.name) == project.name {
        return state.profiles.values().filter(|profile| profile.project == project.name).collect();
    }
    let users = state.instances.values().filter(|i| i.project == project.name);
    let named: BTreeSet<&ProfileName> = users.flat_map(|i| &i.spec.profiles).collect();
    named.into_iter().filter_map(|name| state.profile_of(&project.name, name)).collect()
}

fn check_one(project: &Project, owner: &str, (config, devices): (&Config, &Devices)) -> Outcome {
    let refuse = |key: &str, what: String| {
        let why = format!("project {:?} does not allow {what} of {owner}", project.name.as_str());
        Err(invalid(key, why))
    };
    let on = |key: &str| config.get(key).is_some_and(|v| config::is_true(v));
    if on("security.nesting") && blocks(project, "restricted.containers.nesting") {
        return refuse("restricted.containers.nesting", "security.nesting".into());
    }
    if on("security.privileged") && word(project, "restricted.containers.privilege") != "allow" {
        return refuse("restricted.containers.privilege", "security.privileged".into());
    }
    if blocks(project, "restricted.containers.lowlevel")
        && let Some(key) = config.keys().find(|k| LOWLEVEL.contains(&k.as_str()))
    {
        return refuse("restricted.containers.lowlevel", key.clone());
    }
    for (name, properties) in devices {
        if let Err(key) = device(project, properties) {
            return refuse(&key, format!("device {name:?}"));
        }
    }
    Ok(())
}

/// The restriction that a device is against, if any.
fn device(project: &Project, properties: &BTreeMap<String, String>) -> Result<(), String> {
    let get = |key: &str| properties.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let kind = get("type").unwrap_or_default();
    let key = format!("restricted.devices.{kind}");
    let managed = match kind {
        "none" => return Ok(()),
        // The root disk is always allowed: no instance is without.
        "disk" if get("path") == Some("/") => return Ok(()),
        "disk" => get("pool").is_some(),
        "nic" => get("network").is_some(),
        _ => false,
    };
    let allowed = match word(project, &key) {
        "allow" => true,
        "managed" => managed,
        _ => false,
    };
    if !allowed {
        return Err(key);
    }
    match kind {
        "nic" => match get("network").or_else(|| get("parent")) {
            Some(network) if !opens_network(project, network) => Err("restricted.networks.access".into()),
            Some(_) | None => Ok(()),
        },
        "disk" if !managed => match get("source") {
            Some(source) if !inside(project, source) => Err("restricted.devices.disk.paths".into()),
            Some(_) | None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether a path of the host is one of those that the project's disks may lie in, as far as its text goes.
fn inside(project: &Project, source: &str) -> bool {
    let Some(mut folders) = list(project, "restricted.devices.disk.paths") else { return true };
    folders.any(|folder| std::path::Path::new(source).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, Timestamp};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn project(pairs: &[(&str, &str)]) -> Project {
        Project {
            name: ProjectName::new("p").unwrap(),
            description: String::new(),
            config: map(pairs),
            created_at: Timestamp(1),
            generation: Generation(1),
        }
    }

    #[test]
    fn blocks_unless_allowed() {
        let nic = map(&[("type", "nic"), ("nictype", "bridged"), ("parent", "br7")]);
        let managed = map(&[("type", "nic"), ("network", "br0")]);
        let disk = map(&[("type", "disk"), ("path", "/mnt"), ("source", "/srv/a/b")]);
        let root = map(&[("type", "disk"), ("path", "/"), ("pool", "p")]);
        let gpu = map(&[("type", "gpu")]);
        for (keys, device_, verdict) in [
            (&[][..], &nic, Some("restricted.devices.nic")),
            (&[], &managed, None),
            (&[], &disk, Some("restricted.devices.disk")),
            (&[], &root, None),
            (&[], &gpu, Some("restricted.devices.gpu")),
            (&[("restricted.devices.nic", "block")], &managed, Some("restricted.devices.nic")),
            (&[("restricted.devices.nic", "allow")], &nic, None),
            (&[("restricted.devices.disk", "block")], &root, None),
            (&[("restricted.devices.disk", "allow")], &disk, None),
            (&[("restricted.devices.disk", "allow"), ("restricted.devices.disk.paths", "/srv/a")], &disk, None),
            (
                &[("restricted.devices.disk", "allow"), ("restricted.devices.disk.paths", "/srv/b,/srv/a/bc")],
                &disk,
                Some("restricted.devices.disk.paths"),
            ),
            (&[("restricted.networks.access", "br1, br0")], &managed, None),
            (&[("restricted.networks.access", "br1")], &managed, Some("restricted.networks.access")),
        ] {
            let mut pairs = vec![("restricted", "true")];
            pairs.extend(keys);
            assert_eq!(device(&project(&pairs), device_).err().as_deref(), verdict, "{keys:?}");
        }
    }

    #[test]
    fn keys_of_guests() {
        let verdict = |keys: &[(&str, &str)], config: &[(&str, &str)]| {
            check_one(&project(keys), "it", (&map(config), &Devices::new())).is_ok()
        };
        for (key, allow, config) in [
            ("restricted.containers.nesting", "allow", ("security.nesting", "true")),
            ("restricted.containers.privilege", "allow", ("security.privileged", "1")),
            ("restricted.containers.lowlevel", "allow", ("raw.lxc", "x")),
        ] {
            assert!(!verdict(&[("restricted", "true")], &[config]), "{key}");
            assert!(verdict(&[("restricted", "true"), (key, allow)], &[config]), "{key}");
        }
        assert!(verdict(&[("restricted", "true")], &[("security.nesting", "false"), ("limits.cpu", "1")]));
    }

    #[test]
    fn unrestricted_projects_have_no_lists() {
        assert!(opens_network(&project(&[("restricted.networks.access", "br1")]), "br0"));
        assert_eq!(groups(&project(&[("restricted.cluster.groups", "g")])), None);
        assert!(!blocks(&project(&[]), "restricted.backups"));
        assert!(blocks(&project(&[("restricted", "true")]), "restricted.backups"));
    }
}
