//! Networks of projects. A project has networks, access control lists and address sets of its own, or uses those of the
//! default project; what its instances, its profiles and those objects themselves name is looked for there and nowhere
//! else. Uplinks alone are always the default project's: they are the way out of all.

use std::collections::BTreeMap;

use super::{Network, NetworkKind};
use crate::apply::{Outcome, invalid, not_found};
use crate::{ClusterState, InProject, NetworkName, ProjectName};

/// The key of projects that have networks of their own.
pub const FEATURE: &str = "features.networks";

/// Whether a project with this configuration has networks of its own.
pub(crate) fn has(project: &ProjectName, config: &BTreeMap<String, String>) -> bool {
    project.is_default() || config.get(FEATURE).is_some_and(|value| crate::config::is_true(value))
}

impl ClusterState {
    /// The project whose networks, access control lists and address sets count for one: itself, or the default project.
    pub fn network_project(&self, project: &ProjectName) -> ProjectName {
        match self.projects.get(project) {
            Some(found) if has(project, &found.config) => project.clone(),
            Some(_) | None => ProjectName::default_project(),
        }
    }

    /// What a project means by the name of a network, an access control list or an address set.
    pub fn meant<N: Clone>(&self, project: &ProjectName, name: &N) -> InProject<N> {
        InProject { project: self.network_project(project), name: name.clone() }
    }

    /// The network that a project means by a name.
    pub fn network_of(&self, project: &ProjectName, name: &NetworkName) -> Option<&Network> {
        self.networks.get(&self.meant(project, name))
    }
}

/// Whether a project may have what `what` names: it must be there, and have networks of its own.
pub(crate) fn check(state: &ClusterState, project: &ProjectName, what: &str) -> Outcome {
    if !state.projects.contains_key(project) {
        return Err(not_found("project", project));
    }
    match state.network_project(project) == *project {
        true => Ok(()),
        false => Err(invalid("project", format!("{project} has no {what} of its own: {FEATURE} is not set"))),
    }
}

/// Bridges and uplinks are of the hosts, which all projects share.
pub(super) fn kind(network: &Network) -> Outcome {
    match network.kind {
        NetworkKind::Ovn => Ok(()),
        NetworkKind::Bridge | NetworkKind::Physical if network.project.is_default() => Ok(()),
        kind @ (NetworkKind::Bridge | NetworkKind::Physical) => {
            let (kind, project) = (kind.as_str(), network.project.as_str());
            Err(invalid("type", format!("networks of type {kind} are not allowed in project {project:?}: use ovn")))
        }
    }
}
