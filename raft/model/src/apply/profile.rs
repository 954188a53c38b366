//! Profiles.

use super::{Outcome, exists, expect_generation, not_found};
use crate::command::ProfileCommand;
use crate::profile::Profile;
use crate::{ClusterState, Generation, ProfileName, ProjectName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &ProfileCommand) -> Outcome {
    match command {
        ProfileCommand::Add(profile) => {
            let key = (profile.project.clone(), profile.name.clone());
            if !state.projects.contains_key(&profile.project) {
                return Err(not_found("project", &profile.project));
            }
            if state.profiles.contains_key(&key) {
                return Err(exists("profile", &profile.name));
            }
            state.profiles.insert(key, Profile { generation: Generation(1), ..profile.clone() });
            Ok(())
        }
        ProfileCommand::Update { project, name, expect, description, config, devices } => {
            let profile = state
                .profiles
                .get_mut(&(project.clone(), name.clone()))
                .ok_or_else(|| not_found("profile", name))?;
            expect_generation("profile", *expect, profile.generation)?;
            profile.description = description.clone();
            profile.config = config.clone();
            profile.devices = devices.clone();
            profile.generation = profile.generation.next();
            Ok(())
        }
        ProfileCommand::Rename { project, name, to } => rename(state, project, name, to),
        ProfileCommand::Remove { project, name } => remove(state, project, name),
    }
}

fn rename(state: &mut ClusterState, project: &ProjectName, name: &ProfileName, to: &ProfileName) -> Outcome {
    if *name == ProfileName::default_profile() {
        return Err(Rejected::Busy("the default profile cannot be renamed".into()));
    }
    let key = (project.clone(), name.clone());
    let Some(profile) = state.profiles.get(&key).cloned() else { return Err(not_found("profile", name)) };
    let new_key = (project.clone(), to.clone());
    if state.profiles.contains_key(&new_key) {
        return Err(exists("profile", to));
    }
    state.profiles.remove(&key);
    state.profiles.insert(new_key, Profile { name: to.clone(), ..profile });
    let users: Vec<_> =
        state.instances.values().filter(|i| i.project == *project && i.spec.profiles.contains(name)).cloned().collect();
    for mut instance in users {
        for used in instance.spec.profiles.iter_mut().filter(|p| *p == name) {
            *used = to.clone();
        }
        state.instances.insert(instance.id, instance);
    }
    Ok(())
}

fn remove(state: &mut ClusterState, project: &ProjectName, name: &ProfileName) -> Outcome {
    if *name == ProfileName::default_profile() {
        return Err(Rejected::Busy("the default profile cannot be deleted".into()));
    }
    let key = (project.clone(), name.clone());
    if !state.profiles.contains_key(&key) {
        return Err(not_found("profile", name));
    }
    if let Some(user) = state.instances.values().find(|i| i.project == *project && i.spec.profiles.contains(name)) {
        return Err(Rejected::Busy(format!("profile {name} is used by instance {}", user.name)));
    }
    state.profiles.remove(&key);
    Ok(())
}
