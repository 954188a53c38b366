use basalt_model::member::{Announcement, Duty, Member};
use basalt_model::{Fingerprint, MemberName, Timestamp};

use super::*;

fn member(id: u64, domain: &str, health: Health) -> Member {
    Member {
        id: NodeId(id),
        name: MemberName::new(format!("n{id}")).unwrap(),
        certificate: Fingerprint::new("0".repeat(64)).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp::NEVER,
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health,
        failure_domain: domain.into(),
        description: String::new(),
        groups: Default::default(),
        roles: Default::default(),
        config: Default::default(),
        announced: Announcement { cluster_address: format!("h{id}:1"), ..Announcement::default() },
    }
}

const LOST: Health = Health::Offline { since: Timestamp(1) };

/// Members given as (id, failure domain, silent?).
fn state(members: &[(u64, &str, bool)]) -> ClusterState {
    let mut state = ClusterState { cluster_id: uuid::Uuid::max(), ..ClusterState::default() };
    for (id, domain, lost) in members {
        let health = if *lost { LOST } else { Health::Online };
        state.members.insert(NodeId(*id), member(*id, domain, health));
        state.next_node = state.next_node.max(id + 1);
    }
    state
}

fn group(voters: &[u64], learners: &[u64]) -> Group {
    Group { voters: voters.iter().copied().collect(), learners: learners.iter().copied().collect(), half_done: None }
}

fn set(ids: &[u64]) -> Option<Change> {
    Some(Change::SetVoters(ids.iter().copied().collect()))
}

fn next(state: &ClusterState, group: &Group) -> Option<Change> {
    plan(state, group, 1, |_| true)
}

#[test]
fn every_member_is_added_one_at_a_time() {
    let state = state(&[(1, "a", false), (2, "b", false), (3, "c", false)]);
    assert_eq!(next(&state, &group(&[1], &[])), Some(Change::AddLearner(2, "h2:1".into())));
    assert_eq!(next(&state, &group(&[1], &[2])), Some(Change::AddLearner(3, "h3:1".into())));
    assert_eq!(next(&state, &group(&[1], &[2, 3])), set(&[1, 2, 3]));
    assert_eq!(next(&state, &group(&[1, 2, 3], &[])), None);
}

#[test]
fn an_odd_number_votes_and_never_more_than_asked() {
    let all: Vec<(u64, &str, bool)> = (1..=6).map(|id| (id, "a", false)).collect();
    for (members, limit, voters) in [(1, 3, 1), (2, 3, 1), (3, 3, 3), (4, 3, 3), (4, 5, 3), (5, 5, 5), (6, 5, 5)] {
        let mut state = state(&all[..members]);
        state.config.insert("cluster.max_voters".into(), limit.to_string());
        assert_eq!(wanted_voters(&state, &group(&[1], &[]), 1).len(), voters, "{members} members, at most {limit}");
    }
}

#[test]
fn voters_are_spread_and_stay_where_that_is_equal() {
    let state = state(&[(1, "a", false), (2, "a", false), (3, "a", false), (4, "b", false), (5, "c", false)]);
    assert_eq!(next(&state, &group(&[1, 2, 3], &[4, 5])), set(&[1, 4, 5]));
    assert_eq!(next(&state, &group(&[1, 4, 5], &[2, 3])), None);
    let even = self::state(&[(1, "a", false), (2, "a", false), (3, "a", false), (4, "a", false), (9, "a", false)]);
    assert_eq!(next(&even, &group(&[1, 4, 9], &[2, 3])), None, "no change for its own sake");
}

#[test]
fn a_lost_voter_is_replaced_only_by_a_healthy_member_that_has_caught_up() {
    let lost = [(1, "a", false), (2, "b", true), (3, "c", false), (4, "b", false)];
    assert_eq!(next(&state(&lost), &group(&[1, 2, 3], &[4])), set(&[1, 3, 4]));
    assert_eq!(plan(&state(&lost), &group(&[1, 2, 3], &[4]), 1, |id| id != 4), None);
    let nobody = [(1, "a", false), (2, "b", true), (3, "c", false), (4, "b", true)];
    assert_eq!(next(&state(&nobody), &group(&[1, 2, 3], &[4])), None, "a silent learner helps nobody");
    let young = [(1, "a", false), (2, "b", true), (3, "c", false)];
    assert_eq!(next(&state(&young), &group(&[1], &[2, 3])), None, "two voters would be worse than one");
}

fn spare(mut state: ClusterState, ids: &[u64]) -> ClusterState {
    for id in ids {
        let mut member = state.members.get(&NodeId(*id)).unwrap().clone();
        member.roles.insert(Role::DatabaseClient);
        state.members.insert(member.id, member);
    }
    state
}

#[test]
fn a_database_client_votes_only_where_there_is_no_other() {
    let four = [(1, "a", false), (2, "b", false), (3, "c", false), (4, "d", false)];
    assert_eq!(next(&spare(state(&four), &[3]), &group(&[1, 2, 3], &[4])), set(&[1, 2, 4]));
    let leader = spare(state(&four), &[1]);
    assert_eq!(next(&leader, &group(&[1, 2, 3], &[4])), Some(Change::HandOver(2)));
    assert_eq!(plan(&leader, &group(&[1, 2, 3], &[4]), 2, |_| true), set(&[2, 3, 4]));
    assert_eq!(next(&leader, &group(&[1], &[2, 3, 4])), set(&[2, 3, 4]), "and the engine steps down");
    let all = spare(state(&four), &[1, 2, 3, 4]);
    assert_eq!(next(&all, &group(&[1, 2, 3], &[4])), None, "somebody must vote");
    let silent = [(1, "a", false), (2, "b", true), (3, "c", false)];
    assert_eq!(next(&spare(state(&silent), &[1, 3]), &group(&[1, 2, 3], &[])), None, "a silent one is no other");
}

#[test]
fn who_was_removed_leaves() {
    let state = state(&[(1, "a", false), (2, "b", false), (4, "d", false)]);
    assert_eq!(next(&state, &group(&[1, 2, 3], &[4])), set(&[1, 2, 4]));
    assert_eq!(next(&state, &group(&[1, 2, 4], &[3])), Some(Change::Forget([3].into())));
    assert_eq!(next(&state, &group(&[1, 2, 4], &[])), None);
}

#[test]
fn a_leader_that_was_removed_hands_over() {
    let state = state(&[(2, "b", false), (3, "c", false), (4, "d", false)]);
    assert_eq!(next(&state, &group(&[1, 2, 3], &[4])), Some(Change::HandOver(2)));
    // Nobody can take over yet, so the voters change first, and the engine steps down.
    let two = self::state(&[(2, "b", false)]);
    assert_eq!(next(&two, &group(&[1], &[2])), set(&[2]));
}

#[test]
fn a_change_that_is_half_done_is_ended_first() {
    let state = state(&[(1, "a", false), (2, "b", false), (3, "c", false)]);
    let half = Group { half_done: Some([1, 2].into()), ..group(&[1, 2, 3], &[]) };
    assert_eq!(next(&state, &half), set(&[1, 2]));
}

#[test]
fn nothing_is_planned_without_a_state() {
    assert_eq!(next(&ClusterState::default(), &group(&[1], &[])), None);
}

/// Whatever happens to members, performing one plan after the other ends, and ends with what is wanted.
#[test]
fn plans_come_to_rest() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let count = random.random_range(1..8u64);
        let domains = ["a", "b", "c"];
        let members: Vec<_> = (1..=count)
            .map(|id| (id, domains[random.random_range(0..3)], id != 1 && random.random_bool(0.3)))
            .collect();
        let spared: Vec<u64> = (1..=count).filter(|_| random.random_bool(0.3)).collect();
        let state = spare(state(&members), &spared);
        let (mut group, mut me) = (group(&[1], &[]), 1);
        for step in 0.. {
            assert!(step < 30, "seed {seed} does not come to rest: {group:?}");
            match plan(&state, &group, me, |_| true) {
                None => break,
                Some(Change::AddLearner(id, _)) => assert!(group.learners.insert(id), "seed {seed}"),
                Some(Change::SetVoters(voters)) => {
                    assert!(voters.len() % 2 == 1 && voters.len() <= 3, "seed {seed}");
                    let there = voters.iter().filter(|id| healthy(&state, **id, me)).count();
                    assert!(there * 2 > voters.len(), "seed {seed}: no quorum of {voters:?}");
                    let all: BTreeSet<u64> = group.voters.union(&group.learners).copied().collect();
                    group.learners = all.difference(&voters).copied().collect();
                    // One that is there leads them.
                    if !voters.contains(&me) {
                        me = voters.iter().copied().find(|id| healthy(&state, *id, 0)).unwrap();
                    }
                    group.voters = voters;
                }
                Some(Change::Forget(ids)) => group.learners.retain(|id| !ids.contains(id)),
                Some(Change::HandOver(to)) => {
                    assert!(spared.contains(&me) && healthy(&state, to, 0), "seed {seed}: from {me} to {to}");
                    me = to;
                }
            }
        }
        assert_eq!(group.voters.len() + group.learners.len(), state.members.len(), "seed {seed}");
    }
}
