//! The group's membership follows the members of the state.
//!
//! Every member is in the group, at least as a learner. Of them, `cluster.max_voters` vote, or the largest odd number
//! that there are members for. So two members have one voter: with two, the loss of either would stop both, and with
//! one, only the loss of that one does.
//!
//! Voters are healthy members before silent ones, in as many failure domains as there are, and the same as before where
//! that is equal. The leader stays one. A silent voter is replaced as soon as a healthy learner can take its place; a
//! silent learner is never promoted. Members that the operator made `database-client` vote only where there is no other.
//!
//! [`plan`] is pure and gives one change at a time; [`reconcile`] performs it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use basalt_model::member::{Health, Member, Role};
use basalt_model::{ClusterState, NodeId, StateView};
use openraft::ChangeMembers;
use openraft::impls::BasicNode;
use tracing::{info, warn};

use crate::handle::core::Core;

/// The group as the engine has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
    /// Set while a change of voters is half done: the voters that it leads to.
    pub(crate) half_done: Option<BTreeSet<u64>>,
}

/// One change of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    AddLearner(u64, String),
    SetVoters(BTreeSet<u64>),
    /// These are no members any more, and do not vote.
    Forget(BTreeSet<u64>),
    /// This leader is not to vote any more.
    HandOver(u64),
}

/// The next change that brings `group` nearer to the state, if any; `me` leads.
pub(crate) fn plan(state: &ClusterState, group: &Group, me: u64, caught_up: impl Fn(u64) -> bool) -> Option<Change> {
    if let Some(voters) = &group.half_done {
        return Some(Change::SetVoters(voters.clone()));
    }
    if !state.initialised() {
        return None;
    }
    let known = |id: u64| group.voters.contains(&id) || group.learners.contains(&id);
    if let Some(member) = state.members.values().find(|m| !known(m.id.0)) {
        return Some(Change::AddLearner(member.id.0, member.announced.cluster_address.clone()));
    }
    let wanted = wanted_voters(state, group, me);
    let stays = wanted.contains(&me);
    let can_lead = |id: &&u64| group.voters.contains(id) && healthy(state, **id, me) && caught_up(**id);
    if !stays && let Some(heir) = wanted.iter().find(can_lead) {
        return Some(Change::HandOver(*heir));
    }
    if wanted != group.voters && !wanted.is_empty() {
        let ready = wanted.difference(&group.voters).all(|id| caught_up(*id));
        return ready.then_some(Change::SetVoters(wanted));
    }
    let strangers: BTreeSet<u64> =
        group.learners.iter().copied().filter(|id| !state.members.contains_key(&NodeId(*id))).collect();
    (!strangers.is_empty()).then_some(Change::Forget(strangers))
}

fn wanted_voters(state: &ClusterState, group: &Group, me: u64) -> BTreeSet<u64> {
    let spared = |m: &&Member| !m.roles.contains(&Role::DatabaseClient);
    let chosen = choose(state, state.members.values().filter(spared), group, me);
    let there = chosen.iter().filter(|id| healthy(state, **id, me)).count();
    // Better that one votes who should not than that there is no quorum.
    match there * 2 > chosen.len() {
        true => chosen,
        false => choose(state, state.members.values(), group, me),
    }
}

fn healthy(state: &ClusterState, id: u64, me: u64) -> bool {
    // One that was admitted and not heard of since may be a ghost: it must not count for a quorum.
    let there = |m: &Member| m.health == Health::Online && !m.awaited;
    id == me || state.members.get(&NodeId(id)).is_some_and(there)
}

fn choose<'a>(state: &ClusterState, among: impl Iterator<Item = &'a Member>, group: &Group, me: u64) -> BTreeSet<u64> {
    let limit = state.config.get("cluster.max_voters").and_then(|v| v.parse().ok()).unwrap_or(3_usize);
    let healthy = |id: u64| healthy(state, id, me);
    let mut candidates: Vec<(u64, &str)> = among
        .map(|m| (m.id.0, m.failure_domain.as_str()))
        .filter(|(id, _)| group.voters.contains(id) || healthy(*id))
        .collect();
    let size = largest_odd(candidates.len().min(limit));
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chosen = BTreeSet::new();
    while chosen.len() < size {
        let cost = |(id, domain): &(u64, &str)| {
            (*id != me, !healthy(*id), used.get(domain).copied().unwrap_or(0), !group.voters.contains(id), *id)
        };
        let Some(best) = candidates.iter().copied().min_by_key(cost) else { break };
        candidates.retain(|(id, _)| *id != best.0);
        *used.entry(best.1).or_default() += 1;
        chosen.insert(best.0);
    }
    chosen
}

fn largest_odd(n: usize) -> usize {
    if n.is_multiple_of(2) { n.saturating_sub(1) } else { n }
}

const LIMIT: Duration = Duration::from_secs(5);

/// Performs the next change, if any. What fails is logged and seen again in the next round.
pub(crate) async fn reconcile(core: &Core, view: &StateView) {
    let Some(group) = group(core) else { return };
    let Some(change) = plan(view, &group, core.identity.node_id.0, |id| core.caught_up(id)) else { return };
    info!(?change, "the group is changed");
    let done = tokio::time::timeout(LIMIT, perform(core, change.clone())).await;
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(?change, error, "the group was not changed"),
        Err(_) => warn!(?change, "no quorum agreed to change the group within {LIMIT:?}"),
    }
}

/// The group, if nothing that changes it is on its way: there is never a second change at once.
fn group(core: &Core) -> Option<Group> {
    let seen = core.seen();
    let settled = seen.committed_membership_config.log_id() == seen.membership_config.log_id();
    if !settled {
        return None;
    }
    let membership = seen.membership_config.membership();
    let half_done = match membership.get_joint_config().as_slice() {
        [_, next] => Some(next.clone()),
        _ => None,
    };
    Some(Group { voters: membership.voter_ids().collect(), learners: membership.learner_ids().collect(), half_done })
}

async fn perform(core: &Core, change: Change) -> Result<(), String> {
    let raft = &core.raft;
    match change {
        Change::AddLearner(id, addr) => {
            raft.add_learner(id, BasicNode { addr }, false).await.map(drop).map_err(|e| e.to_string())
        }
        Change::SetVoters(voters) => raft.change_membership(voters, true).await.map(drop).map_err(|e| e.to_string()),
        Change::Forget(ids) => {
            let forget = ChangeMembers::RemoveNodes(ids);
            raft.change_membership(forget, true).await.map(drop).map_err(|e| e.to_string())
        }
        Change::HandOver(to) => raft.trigger().transfer_leader(to).await.map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests;
