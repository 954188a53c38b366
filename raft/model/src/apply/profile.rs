//! Profiles.

use super::instance::{check_devices, check_spec};
use super::{Outcome, exists, expect_generation, invalid, not_found};
use crate::command::ProfileCommand;
use crate::profile::{FEATURE, Profile};
use crate::{ClusterState, Generation, ProfileName, ProjectName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &ProfileCommand) -> Outcome {
    match command {
        ProfileCommand::Add(profile) => {
            let key = (profile.project.clone(), profile.name.clone());
            if !state.projects.contains_key(&profile.project) {
                return Err(not_found("project", &profile.project));
            }
            if state.profile_project(&profile.project) != profile.project {
                let why = format!("{} has no profiles of its own: {FEATURE} is false", profile.project);
                return Err(invalid("project", why));
            }
            if state.profiles.contains_key(&key) {
                return Err(exists("profile", &profile.name));
            }
            check_devices(state, &profile.project, &profile.devices)?;
            state.profiles.insert(key, Profile { generation: Generation(1), ..profile.clone() });
            Ok(())
        }
        ProfileCommand::Update { project, name, expect, description, config, devices } => {
            let key = (project.clone(), name.clone());
            let Some(found) = state.profiles.get(&key).cloned() else { return Err(not_found("profile", name)) };
            expect_generation("profile", *expect, found.generation)?;
            let changed = Profile {
                description: description.clone(),
                config: config.clone(),
                devices: devices.clone(),
                generation: found.generation.next(),
                ..found
            };
            update(state, key, changed)
        }
        ProfileCommand::Rename { project, name, to } => rename(state, project, name, to),
        ProfileCommand::Remove { project, name } => remove(state, project, name),
    }
}

/// Puts `changed` in place, if all that use it stay whole: a profile may bring an instance its root disk.
fn update(state: &mut ClusterState, key: (ProjectName, ProfileName), changed: Profile) -> Outcome {
    let same_devices = state.profiles.get(&key).is_some_and(|held| held.devices == changed.devices);
    let mut after = state.clone();
    after.profiles.insert(key.clone(), changed.clone());
    if !same_devices {
        check_devices(&after, &changed.project, &changed.devices)?;
        let (project, name) = &key;
        let users: Vec<_> = state.profile_users(project, name).cloned().collect();
        for user in users {
            check_spec(&after, &user.project, &user.spec)?;
            super::address::settle(&mut after, &user)?;
            if after.root_pool(&user.project, &user.spec) != state.root_pool(&user.project, &user.spec) {
                let why = format!("would change the pool of the root disk of instance {}", user.name);
                return Err(invalid("devices", why));
            }
        }
    }
    *state = after;
    Ok(())
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
    let users: Vec<_> = state.profile_users(project, name).cloned().collect();
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
    if let Some(user) = state.profile_users(project, name).next() {
        return Err(Rejected::Busy(format!("profile {name} is used by instance {}", user.name)));
    }
    state.profiles.remove(&key);
    Ok(())
}
