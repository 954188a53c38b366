//! Projects.

use std::collections::BTreeSet;

use super::{Outcome, exists, expect_generation, not_found};
use crate::command::ProjectCommand;
use crate::identity::Grant;
use crate::profile::Profile;
use crate::project::Project;
use crate::{ClusterState, Generation, ProfileName, ProjectName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &ProjectCommand) -> Outcome {
    match command {
        ProjectCommand::Add(project) => add(state, project),
        ProjectCommand::Update { name, expect, description, config } => {
            let project = state.projects.get_mut(name).ok_or_else(|| not_found("project", name))?;
            expect_generation("project", *expect, project.generation)?;
            project.description = description.clone();
            project.config = config.clone();
            project.generation = project.generation.next();
            Ok(())
        }
        ProjectCommand::Rename { name, to } => rename(state, name, to),
        ProjectCommand::Remove(name) => {
            empty(state, name)?;
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
    let profile = ProfileName::default_profile();
    state.profiles.insert(
        (project.name.clone(), profile.clone()),
        Profile {
            project: project.name.clone(),
            name: profile,
            description: format!("Default profile for project {}", project.name),
            config: Default::default(),
            devices: Default::default(),
            generation: Generation(1),
        },
    );
    Ok(())
}

/// A project that may be renamed or removed: not the default one, and nothing lives in it but its default profile.
fn empty(state: &ClusterState, name: &ProjectName) -> Outcome {
    if *name == ProjectName::default_project() {
        return Err(Rejected::Busy("the default project cannot be renamed or deleted".into()));
    }
    if !state.projects.contains_key(name) {
        return Err(not_found("project", name));
    }
    let default = ProfileName::default_profile();
    let used = state.instances.values().any(|i| i.project == *name)
        || state.profiles.keys().any(|(project, profile)| project == name && *profile != default);
    match used {
        true => Err(Rejected::Busy("only empty projects can be renamed or removed".into())),
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
