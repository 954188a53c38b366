//! Limits and restrictions of projects, held against the state after each change that could pass them.

use super::Outcome;
use crate::command::{InstanceCommand, NetworkCommand, ProfileCommand, ProjectCommand};
use crate::network::Network;
use crate::project::Project;
use crate::{ClusterState, Command, NetworkKey, ProjectName, quota, restriction};

/// Whose limits a command could pass.
pub(super) enum Scope {
    Nothing,
    One(ProjectName),
    /// Of all projects that use the profiles of this one.
    Profiles(ProjectName),
}

/// What only commands that bring in or change a spec can do. No wildcard: a new command does not compile until somebody
/// has said which it is.
pub(super) fn scope(state: &ClusterState, command: &Command) -> Scope {
    match command {
        Command::Cluster(_)
        | Command::Member(_)
        | Command::Identity(_)
        | Command::Image(_)
        | Command::Pool(_)
        | Command::Acl(_)
        | Command::Zone(_)
        | Command::AddressSet(_)
        | Command::Warning(_) => Scope::Nothing,
        Command::Instance(c) => instance(state, c),
        Command::Profile(ProfileCommand::Add(profile)) => Scope::One(profile.project.clone()),
        Command::Profile(ProfileCommand::Update { project, .. }) => Scope::Profiles(project.clone()),
        Command::Profile(ProfileCommand::Rename { .. } | ProfileCommand::Remove { .. }) => Scope::Nothing,
        Command::Project(ProjectCommand::Add(Project { name, .. }) | ProjectCommand::Update { name, .. }) => {
            Scope::One(name.clone())
        }
        Command::Project(ProjectCommand::Rename { .. } | ProjectCommand::Remove(_)) => Scope::Nothing,
        Command::Network(
            NetworkCommand::Add(Network { project, .. })
            | NetworkCommand::Update { name: NetworkKey { project, .. }, .. },
        ) => Scope::One(project.clone()),
        Command::Network(
            NetworkCommand::Rename { .. }
            | NetworkCommand::Remove(_)
            | NetworkCommand::Allocate { .. }
            | NetworkCommand::AllocateUplink { .. }
            | NetworkCommand::PutForward { .. }
            | NetworkCommand::RemoveForward { .. }
            | NetworkCommand::PutBalancer { .. }
            | NetworkCommand::RemoveBalancer { .. }
            | NetworkCommand::PutPeer { .. }
            | NetworkCommand::RemovePeer { .. },
        )
        | Command::Snapshot(_) => Scope::Nothing,
    }
}

fn instance(state: &ClusterState, command: &InstanceCommand) -> Scope {
    match command {
        InstanceCommand::Create(instance) => Scope::One(instance.project.clone()),
        InstanceCommand::Move { plan, .. } => Scope::One(plan.project.clone()),
        InstanceCommand::Landed { id, .. } => {
            let plan = state.instances.get(id).and_then(|i| i.placement.moving()).map(|m| &m.plan);
            plan.map_or(Scope::Nothing, |plan| Scope::One(plan.project.clone()))
        }
        InstanceCommand::UpdateSpec { id, .. }
        | InstanceCommand::Restore { id, .. }
        | InstanceCommand::Remake { id, .. } => match state.instances.get(id) {
            Some(instance) => Scope::One(instance.project.clone()),
            None => Scope::Nothing,
        },
        InstanceCommand::Place { .. }
        | InstanceCommand::RefusePlacement { .. }
        | InstanceCommand::Rename { .. }
        | InstanceCommand::SetRun { .. }
        | InstanceCommand::Report { .. }
        | InstanceCommand::Forget { .. }
        | InstanceCommand::SetVolatile { .. }
        | InstanceCommand::AssignMove { .. }
        | InstanceCommand::AbortMove { .. }
        | InstanceCommand::Trip { .. } => Scope::Nothing,
    }
}

/// Holds the state against limits and restrictions.
///
/// # Errors
/// What is passed.
pub(super) fn check(state: &ClusterState, scope: &Scope) -> Outcome {
    let one = |project: &Project| quota::check(state, project).and_then(|()| restriction::check(state, project));
    match scope {
        Scope::Nothing => Ok(()),
        Scope::One(name) => state.projects.get(name).map_or(Ok(()), one),
        Scope::Profiles(of) => {
            state.projects.values().filter(|project| state.profile_project(&project.name) == *of).try_for_each(one)
        }
    }
}
