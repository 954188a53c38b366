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
        health,
        failure_domain: domain.into(),
        description: String::new(),
        groups: Default::default(),
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
        let state = state(&members);
        let mut group = group(&[1], &[]);
        for step in 0.. {
            assert!(step < 30, "seed {seed} does not come to rest: {group:?}");
            match next(&state, &group) {
                None => break,
                Some(Change::AddLearner(id, _)) => assert!(group.learners.insert(id), "seed {seed}"),
                Some(Change::SetVoters(voters)) => {
                    assert!(voters.len() % 2 == 1 && voters.len() <= 3, "seed {seed}");
                    let all: BTreeSet<u64> = group.voters.union(&group.learners).copied().collect();
                    group.learners = all.difference(&voters).copied().collect();
                    group.voters = voters;
                }
                Some(Change::Forget(ids)) => group.learners.retain(|id| !ids.contains(id)),
                Some(Change::HandOver(_)) => panic!("seed {seed}: the leader is a member"),
            }
        }
        assert_eq!(group.voters.len() + group.learners.len(), state.members.len(), "seed {seed}");
    }
}
