//! Projects.

use std::collections::BTreeSet;

use super::instance::check_devices;
use super::{Outcome, exists, expect_generation, not_found};
use crate::command::ProjectCommand;
use crate::identity::Grant;
use crate::instance::{Config, Devices};
use crate::network::{check, own};
use crate::profile::{self, Profile};
use crate::project::Project;
use crate::{ClusterState, Generation, ProfileName, ProjectName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &ProjectCommand) -> Outcome {
    match command {
        ProjectCommand::Add(project) => add(state, project),
        ProjectCommand::Update { name, expect, description, config } => {
            let found = state.projects.get(name).ok_or_else(|| not_found("project", name))?;
            expect_generation("project", *expect, found.generation)?;
            super::zone::stay(state, name, config)?;
            super::image::stay(state, name, config)?;
            let changed = Project {
                description: description.clone(),
                config: config.clone(),
                generation: found.generation.next(),
                ..found.clone()
            };
            let elsewhere = own::has(name, config) != own::has(name, &found.config);
            let otherwise = profile::has(name, config) != profile::has(name, &found.config);
            update(state, changed, elsewhere, otherwise)
        }
        ProjectCommand::Rename { name, to } => rename(state, name, to),
        ProjectCommand::Remove(name) => {
            empty(state, name)?;
            if state.images_of(name).next().is_some() {
                return Err(Rejected::Busy(NOT_EMPTY.into()));
            }
            state.profiles.retain(|(project, _), _| project != name);
            state.projects.remove(name);
            regrant(state, name, None);
            Ok(())
        }
    }
}

fn add(state: &mut ClusterState, project: &Project) -> Outcome {
    if state.projects.contains_key(&project.name) {
        return Err(exists("project", &project.name));
    }
    state.projects.insert(project.name.clone(), Project { generation: Generation(1), ..project.clone() });
    if profile::has(&project.name, &project.config) {
        add_default_profile(state, &project.name);
    }
    Ok(())
}

fn add_default_profile(state: &mut ClusterState, project: &ProjectName) {
    let name = ProfileName::default_profile();
    let profile = Profile {
        project: project.clone(),
        name: name.clone(),
        description: format!("Default profile for project {project}"),
        config: Config::new(),
        devices: Devices::new(),
        generation: Generation(1),
    };
    state.profiles.insert((project.clone(), name), profile);
}

/// Puts `changed` in place, if what the project holds may be as it is under its new configuration. `elsewhere` says
/// that it has other networks than before, `otherwise` that it has other profiles.
fn update(state: &mut ClusterState, changed: Project, elsewhere: bool, otherwise: bool) -> Outcome {
    let name = &changed.name;
    if elsewhere {
        shares_nothing(state, name)?;
    }
    let mut after = state.clone();
    after.projects.insert(name.clone(), changed.clone());
    if otherwise {
        switch_profiles(&mut after, name)?;
    }
    for network in after.networks.values().filter(|network| network.project == *name && !name.is_default()) {
        let refused = |why: Rejected| Rejected::Busy(format!("the project has network {}: {why}", network.name));
        check::network(&after, network).map_err(refused)?;
    }
    for profile in after.profiles.values().filter(|profile| elsewhere && profile.project == *name) {
        let refused = |why: Rejected| {
            Rejected::Busy(format!("{} cannot be changed for profile {}: {why}", own::FEATURE, profile.name))
        };
        check_devices(&after, name, &profile.devices).map_err(refused)?;
    }
    *state = after;
    Ok(())
}

/// Gives a project profiles of its own, or takes them away: only while nothing is lost and no instance changes by it.
fn switch_profiles(state: &mut ClusterState, name: &ProjectName) -> Outcome {
    let instance = state.instances.values().find(|i| i.project == *name).map(|i| format!("instance {}", i.name));
    if let Some(holder) = instance.or_else(|| profiled(state, name)) {
        return Err(Rejected::Busy(format!("{} cannot be changed: the project has {holder}", profile::FEATURE)));
    }
    match state.profile_project(name) == *name {
        true => add_default_profile(state, name),
        false => {
            state.profiles.remove(&(name.clone(), ProfileName::default_profile()));
        }
    }
    Ok(())
}

/// A profile of the project that says anything.
fn profiled(state: &ClusterState, name: &ProjectName) -> Option<String> {
    let mut own = state.profiles.values().filter(|profile| profile.project == *name);
    own.find_map(|p| match p.name == ProfileName::default_profile() {
        true if p.config.is_empty() && p.devices.is_empty() => None,
        true => Some("a default profile that is not empty".to_owned()),
        false => Some(format!("profile {}", p.name)),
    })
}

/// Whose networks a project uses is changed only while nothing of it could be on any.
fn shares_nothing(state: &ClusterState, name: &ProjectName) -> Outcome {
    let instance = state.instances.values().find(|i| i.project == *name).map(|i| format!("instance {}", i.name));
    match instance.or_else(|| networked(state, name)) {
        Some(holder) => Err(Rejected::Busy(format!("{} cannot be changed: the project has {holder}", own::FEATURE))),
        None => Ok(()),
    }
}

/// A network, access control list or address set of the project.
fn networked(state: &ClusterState, name: &ProjectName) -> Option<String> {
    let network = state.networks.values().find(|n| n.project == *name).map(|n| format!("network {}", n.name));
    let acl = || state.acls.values().find(|a| a.project == *name).map(|a| format!("network ACL {}", a.name));
    let set = || state.address_sets.values().find(|s| s.project == *name);
    network.or_else(acl).or_else(|| set().map(|s| format!("network address set {}", s.name)))
}

/// Why a project stays as it is.
const NOT_EMPTY: &str = "only empty projects can be renamed or removed";

/// A project that may be renamed: not the default one, and nothing lives in it but its default profile, and images, which
/// no host knows by their project.
fn empty(state: &ClusterState, name: &ProjectName) -> Outcome {
    if *name == ProjectName::default_project() {
        return Err(Rejected::Busy("the default project cannot be renamed or deleted".into()));
    }
    if !state.projects.contains_key(name) {
        return Err(not_found("project", name));
    }
    let default = ProfileName::default_profile();
    let used = state.instances.values().any(|i| i.project == *name)
        || state.profiles.keys().any(|(project, profile)| project == name && *profile != default)
        || state.zones.values().any(|zone| zone.project == *name)
        || networked(state, name).is_some();
    match used {
        true => Err(Rejected::Busy(NOT_EMPTY.into())),
        false => Ok(()),
    }
}

fn rename(state: &mut ClusterState, name: &ProjectName, to: &ProjectName) -> Outcome {
    empty(state, name)?;
    if state.projects.contains_key(to) {
        return Err(exists("project", to));
    }
    let Some(project) = state.projects.get(name).cloned() else { return Err(not_found("project", name)) };
    let default = ProfileName::default_profile();
    if let Some(profile) = state.profiles.get(&(name.clone(), default.clone())).cloned() {
        state.profiles.remove(&(name.clone(), default.clone()));
        state.profiles.insert((to.clone(), default), Profile { project: to.clone(), ..profile });
    }
    state.projects.remove(name);
    state.projects.insert(to.clone(), Project { name: to.clone(), ..project });
    super::image::follow(state, name, to);
    regrant(state, name, Some(to));
    Ok(())
}

/// What was granted for a project follows it to its new name, or ends with it: a later project that happens to bear
/// the old name is another one.
fn regrant(state: &mut ClusterState, name: &ProjectName, to: Option<&ProjectName>) {
    let moved = |projects: &BTreeSet<ProjectName>| {
        let kept = projects.iter().filter(|p| *p != name).cloned();
        projects.contains(name).then(|| kept.chain(to.cloned()).collect::<BTreeSet<_>>())
    };
    let certificates: Vec<_> = state.certificates.values().cloned().collect();
    for mut certificate in certificates {
        if let Some(projects) = moved(&certificate.projects) {
            certificate.projects = projects;
            state.certificates.insert(certificate.fingerprint.clone(), certificate);
        }
    }
    let tokens: Vec<_> = state.tokens.values().cloned().collect();
    for mut token in tokens {
        if let Grant::Trust { projects, .. } = &mut token.grant
            && let Some(now) = moved(projects)
        {
            *projects = now;
            state.tokens.insert(token.id, token);
        }
    }
}
