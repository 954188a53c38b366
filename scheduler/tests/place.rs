//! Placement over random clusters: a choice passes every filter by an independent reckoning, a refusal names every
//! member, and the same inputs give the same answer.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use basalt_model::instance::{Instance, Intent, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::limit::{Cpu, parse_bytes, parse_cpu, parse_memory};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::network::{Network, NetworkKind};
use basalt_model::pool::{Pool, PoolKind, PoolStatus};
use basalt_model::port::{Liveness, Load};
use basalt_model::profile::Profile;
use basalt_model::project::Project;
use basalt_model::{
    ClusterState, Epoch, Fingerprint, Generation, GroupName, InstanceId, InstanceName, MemberName, NetworkName, NodeId,
    PoolName, ProfileName, ProjectName, Timestamp,
};
use basalt_scheduler::{Decision, Request, next_placements, place};
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

#[derive(Debug, Default, Clone)]
struct Heard(BTreeMap<NodeId, Load>);

impl Liveness for Heard {
    fn load(&self, node: NodeId) -> Option<Load> {
        self.0.get(&node).cloned()
    }
}

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: MemberName::new(format!("node{id}")).unwrap(),
        certificate: Fingerprint::new("a".repeat(64)).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: "default".into(),
        description: String::new(),
        groups: BTreeSet::new(),
        roles: BTreeSet::new(),
        config: BTreeMap::new(),
        announced: Announcement {
            architecture: "x86_64".into(),
            cpus: 4,
            memory: 8 * GIB,
            drivers: [("container".to_owned(), "lxc".to_owned())].into(),
            ..Announcement::default()
        },
    }
}

fn instance(at: u128, name: &str) -> Instance {
    Instance {
        id: InstanceId(uuid::Uuid::from_u128(at)),
        project: ProjectName::default_project(),
        name: InstanceName::new(name).unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin: Origin::Empty,
            description: String::new(),
            ephemeral: false,
            config: BTreeMap::new(),
            devices: BTreeMap::new(),
            profiles: vec![ProfileName::default_profile()],
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    }
}

fn add(state: &mut ClusterState, instance: Instance) {
    state.instance_names.insert((instance.project.clone(), instance.name.clone()), instance.id);
    state.instances.insert(instance.id, instance);
}

/// `members` machines alike, with a pool of 100 GiB each, a network, and a default profile that uses both.
fn cluster(members: impl IntoIterator<Item = Member>) -> ClusterState {
    let mut state = ClusterState::default();
    let mut status = BTreeMap::new();
    for member in members {
        status.insert(member.id, PoolStatus::Ready { total: 100 * GIB });
        state.members.insert(member.id, member);
    }
    let pool = PoolName::new("default").unwrap();
    state.pools.insert(
        pool.clone(),
        Pool {
            name: pool,
            kind: PoolKind::Dir,
            description: String::new(),
            config: BTreeMap::new(),
            member_config: BTreeMap::new(),
            status,
            generation: Generation(1),
        },
    );
    let network = Network::new(NetworkName::new("br0").unwrap(), NetworkKind::Bridge);
    state.networks.insert(network.id(), network);
    let (project, name) = (ProjectName::default_project(), ProfileName::default_profile());
    let device = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let devices = [
        ("root".to_owned(), device(&[("type", "disk"), ("path", "/"), ("pool", "default")])),
        ("eth0".to_owned(), device(&[("type", "nic"), ("network", "br0")])),
    ];
    state.profiles.insert(
        (project.clone(), name.clone()),
        Profile {
            project,
            name,
            description: String::new(),
            config: BTreeMap::new(),
            devices: devices.into(),
            generation: Generation(1),
        },
    );
    state
}

fn set(instance: &mut Instance, key: &str, value: &str) {
    instance.spec.config.insert(key.into(), value.into());
}

fn root_of(instance: &mut Instance, size: &str) {
    let root = [("type", "disk"), ("path", "/"), ("pool", "default"), ("size", size)];
    instance.spec.devices.insert("root".into(), root.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
}

fn nodes(decisions: &[Decision]) -> Vec<u64> {
    let node = |d: &Decision| match d {
        Decision::Place { node, .. } => node.0,
        Decision::Refuse { reason, .. } => panic!("refused: {reason}"),
    };
    decisions.iter().map(node).collect()
}

#[test]
fn networks_are_those_of_the_project() {
    let mut state = cluster([member(1)]);
    for (name, feature) in [("own", "true"), ("plain", "false")] {
        let name = ProjectName::new(name).unwrap();
        let config = [("features.networks".to_owned(), feature.to_owned())].into();
        let (created_at, generation) = (Timestamp(1), Generation(1));
        let project = Project { name: name.clone(), description: String::new(), config, created_at, generation };
        state.projects.insert(name.clone(), project);
        let shared = state.profiles.values().next().unwrap().clone();
        state.profiles.insert((name.clone(), shared.name.clone()), Profile { project: name, ..shared });
    }
    let of = |project: &str, at| Instance { project: ProjectName::new(project).unwrap(), ..instance(at, "web") };
    add(&mut state, of("plain", 1));
    assert_eq!(nodes(&next_placements(&state, &Heard::default(), 10)), [1]);
    let mut alone = state.clone();
    add(&mut alone, of("own", 2));
    let decisions = next_placements(&alone, &Heard::default(), 10);
    let [_, Decision::Refuse { reason, .. }] = &decisions[..] else { panic!("{decisions:?}") };
    assert!(reason.contains("br0"), "{reason}");
    let own = ProjectName::new("own").unwrap();
    let network = Network { project: own, ..Network::new(NetworkName::new("br0").unwrap(), NetworkKind::Ovn) };
    alone.networks.insert(network.id(), network);
    assert_eq!(nodes(&next_placements(&alone, &Heard::default(), 10)), [1, 1]);
}

#[test]
fn a_burst_is_spread_evenly() {
    let mut state = cluster((1..=4).map(member));
    for at in 0..100 {
        add(&mut state, instance(at, &format!("bench-{at}")));
    }
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for node in nodes(&next_placements(&state, &Heard::default(), 100)) {
        *counts.entry(node).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [25, 25, 25, 25]);
}

#[test]
fn a_family_is_spread_over_failure_domains_first() {
    let mut state = cluster((1..=4).map(|id| {
        let mut m = member(id);
        m.failure_domain = if id <= 3 { "a" } else { "b" }.into();
        m
    }));
    // Domain b's only member is the fullest one; the second of a family goes there all the same.
    let mut big = instance(900, "other");
    set(&mut big, "limits.memory", "4GiB");
    big.placement = Placement::On { node: NodeId(4), epoch: Epoch(1) };
    add(&mut state, big);
    add(&mut state, instance(1, "web-1"));
    add(&mut state, instance(2, "web-2"));
    let chosen = nodes(&next_placements(&state, &Heard::default(), 10));
    assert!(chosen[0] <= 3 && chosen[1] == 4, "{chosen:?}");
}

#[test]
fn busy_members_come_last_and_memory_decides_among_the_rest() {
    let mut state = cluster((1..=3).map(member));
    let mut held = instance(900, "held");
    set(&mut held, "limits.memory", "2GiB");
    held.placement = Placement::On { node: NodeId(2), epoch: Epoch(1) };
    add(&mut state, held);
    add(&mut state, instance(1, "web"));
    let load = |load1| Load { load1, memory_available: 4 * GIB, ..Load::default() };
    let heard = Heard([(NodeId(1), load(8.0)), (NodeId(2), load(0.1)), (NodeId(3), load(1.0))].into());
    assert_eq!(nodes(&next_placements(&state, &heard, 10)), [3]);
}

#[test]
fn the_refusal_names_every_member_with_its_reason() {
    let mut all: Vec<Member> = (1..=11).map(member).collect();
    all[0].health = Health::Offline { since: Timestamp(1) };
    all[1].duty = Duty::Evacuated;
    all[2].config.insert("scheduler.instance".into(), "manual".into());
    all[3].config.insert("scheduler.instance".into(), "group".into());
    all[4].announced.architecture = "aarch64".into();
    all[5].announced.drivers.clear();
    all[8].announced.cpus = 2;
    all[9].announced.memory = GIB;
    let mut state = cluster(all);
    let mut pool = state.pools.get(&PoolName::new("default").unwrap()).unwrap().clone();
    pool.status.remove(&NodeId(7));
    pool.status.insert(NodeId(8), PoolStatus::Ready { total: GIB });
    state.pools.insert(pool.name.clone(), pool);
    let heard = Heard([(NodeId(11), Load { memory_available: GIB / 2, ..Load::default() })].into());
    let mut web = instance(1, "web");
    set(&mut web, "limits.memory", "2GiB");
    set(&mut web, "limits.cpu", "0-3");
    root_of(&mut web, "10GiB");
    let text = place(&state, &heard, &Request::of(&state, &web)).unwrap_err().to_string();
    let wanted = "no member can take instance web: node1: offline; node2: evacuated; \
        node3: scheduler.instance=manual: takes only instances that name it as target; \
        node4: scheduler.instance=group: takes only instances that name it or one of its groups as target; \
        node5: architecture is aarch64, not x86_64; node6: cannot run instances of type container; \
        node7: storage pool default is not ready: the member has not made it yet; \
        node8: not enough room in storage pool default: 1 GiB free of 1 GiB, 10 GiB needed; \
        node9: has no CPU 2: it has 2; node10: not enough memory: 1 GiB free of 1 GiB, 2 GiB needed; \
        node11: not enough memory: 512 MiB free of 8 GiB, 2 GiB needed";
    assert_eq!(text, wanted);
}

#[test]
fn a_restricted_project_keeps_to_its_groups() {
    let east = GroupName::new("east").unwrap();
    let mut state = cluster([member(1), Member { groups: [east].into(), ..member(2) }, member(3)]);
    let config = [("restricted", "true"), ("restricted.cluster.groups", "west, east")];
    let project = Project {
        name: ProjectName::default_project(),
        description: String::new(),
        config: config.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        created_at: Timestamp(1),
        generation: Generation(1),
    };
    state.projects.insert(project.name.clone(), project);
    for at in 1..=3 {
        add(&mut state, instance(at, &format!("c{at}")));
    }
    assert_eq!(nodes(&next_placements(&state, &Heard::default(), 10)), [2, 2, 2]);
    let mut named = instance(9, "c9");
    named.target = Target::Member(MemberName::new("node1").unwrap());
    let refused = place(&state, &Heard::default(), &Request::of(&state, &named)).unwrap_err().to_string();
    assert!(refused.contains("node1: in none of the cluster groups that the project may use"), "{refused}");
}

#[test]
fn a_batch_does_not_promise_the_same_memory_twice() {
    let mut state = cluster([member(1)]);
    for at in 1..=5 {
        let mut each = instance(at, &format!("web-{at}"));
        set(&mut each, "limits.memory", "2GiB");
        add(&mut state, each);
    }
    let decisions = next_placements(&state, &Heard::default(), 10);
    let placed = decisions.iter().filter(|d| matches!(d, Decision::Place { .. })).count();
    assert_eq!((placed, decisions.len()), (4, 5));
    // What the host could really give out counts too, less what the batch has just taken.
    let heard = Heard([(NodeId(1), Load { memory_available: 5 * GIB, ..Load::default() })].into());
    let placed = |d: &Vec<Decision>| d.iter().filter(|d| matches!(d, Decision::Place { .. })).count();
    assert_eq!(placed(&next_placements(&state, &heard, 10)), 2);
}

#[test]
fn a_profile_asks_for_its_instances_unless_they_say_otherwise() {
    let mut state = cluster([member(1)]);
    let key = (ProjectName::default_project(), ProfileName::default_profile());
    let mut profile = state.profiles.get(&key).unwrap().clone();
    profile.config.insert("limits.memory".into(), "16GiB".into());
    state.profiles.insert(key, profile);
    let mut web = instance(1, "web");
    assert!(place(&state, &Heard::default(), &Request::of(&state, &web)).is_err());
    set(&mut web, "limits.memory", "");
    assert_eq!(place(&state, &Heard::default(), &Request::of(&state, &web)), Ok(NodeId(1)));
}

#[test]
fn refused_and_placed_instances_are_left_alone() {
    let mut state = cluster([member(1)]);
    let mut refused = instance(1, "refused");
    refused.placement = Placement::Unplaced { refused: Some("no room".into()) };
    add(&mut state, refused);
    let mut placed = instance(2, "placed");
    placed.placement = Placement::On { node: NodeId(1), epoch: Epoch(1) };
    add(&mut state, placed);
    assert_eq!(next_placements(&state, &Heard::default(), 10), []);
}

#[test]
fn a_large_cluster_is_summed_once_a_call() {
    let mut state = cluster((1..=5000).map(member));
    for at in 0..50_000u64 {
        let mut each = instance(u128::from(at), &format!("i{at}"));
        set(&mut each, "limits.memory", "64MiB");
        each.placement = Placement::On { node: NodeId(at % 5000 + 1), epoch: Epoch(1) };
        add(&mut state, each);
    }
    for at in 50_000..50_100u128 {
        add(&mut state, instance(at, &format!("new-{at}")));
    }
    let begin = Instant::now();
    let decisions = next_placements(&state, &Heard::default(), 100);
    let took = begin.elapsed();
    assert_eq!(decisions.len(), 100);
    // Generous for a debug build on a busy machine; sums made once a request would take minutes.
    assert!(took < Duration::from_secs(20), "{took:?}");
    println!("100 placements among 5,000 members and 50,000 instances: {took:?}");
}

prop_compose! {
    fn any_member(id: u64)(
        health in prop::bool::weighted(0.8),
        duty in prop::bool::weighted(0.8),
        mode in prop::sample::select(vec!["", "all", "group", "manual"]),
        arch in prop::bool::weighted(0.9),
        runs in prop::bool::weighted(0.9),
        cpus in 1u32..6,
        memory in 1u64..8,
        domain in 0u8..3,
        grouped in any::<bool>(),
    ) -> Member {
        let mut m = member(id);
        if !health { m.health = Health::Offline { since: Timestamp(1) }; }
        if !duty { m.duty = Duty::Evacuated; }
        m.config.insert("scheduler.instance".into(), mode.into());
        if !arch { m.announced.architecture = "aarch64".into(); }
        if !runs { m.announced.drivers.clear(); }
        m.announced.cpus = cpus;
        m.announced.memory = memory * GIB;
        m.failure_domain = format!("d{domain}");
        if grouped { m.groups.insert(GroupName::new("fast").unwrap()); }
        m
    }
}

#[derive(Debug, Clone)]
struct Wish {
    home: Option<u64>,
    memory: Option<&'static str>,
    cpu: Option<&'static str>,
    size: Option<&'static str>,
    target: Target,
    deleted: bool,
}

prop_compose! {
    fn any_wish()(
        home in prop::option::of(1u64..6),
        memory in prop::option::of(prop::sample::select(vec!["512MiB", "1GiB", "3GiB", "25%", "90%"])),
        cpu in prop::option::of(prop::sample::select(vec!["1", "4", "0-1", "3-3", "0,5"])),
        size in prop::option::of(prop::sample::select(vec!["1GiB", "30GiB", "80GiB"])),
        target in 0u8..8,
        deleted in prop::bool::weighted(0.1),
    ) -> Wish {
        let target = match target {
            0 => Target::Member(MemberName::new("node1").unwrap()),
            1 => Target::Group(GroupName::new("fast").unwrap()),
            _ => Target::Any,
        };
        Wish { home, memory, cpu, size, target, deleted }
    }
}

fn any_cluster() -> impl Strategy<Value = (ClusterState, Heard)> {
    let members = (1u64..=5).map(any_member).collect::<Vec<_>>();
    let ready = prop::collection::vec(prop::bool::weighted(0.9), 5);
    let heard = prop::collection::vec(prop::option::of((0u64..8, 0u64..100, 0.0f64..10.0)), 5);
    (members, prop::collection::vec(any_wish(), 0..30), ready, heard).prop_map(|(members, wishes, ready, heard)| {
        let mut state = cluster(members);
        let mut pool = state.pools.get(&PoolName::new("default").unwrap()).unwrap().clone();
        for (at, _) in ready.iter().enumerate().filter(|(_, ready)| !**ready) {
            pool.status.insert(NodeId(at as u64 + 1), PoolStatus::Failed { reason: "no disk".into() });
        }
        state.pools.insert(pool.name.clone(), pool);
        for (at, wish) in wishes.iter().enumerate() {
            let mut each = instance(at as u128, &format!("i{}-{at}", at % 3));
            for (key, value) in [("limits.memory", wish.memory), ("limits.cpu", wish.cpu)] {
                if let Some(value) = value {
                    set(&mut each, key, value);
                }
            }
            if let Some(size) = wish.size {
                root_of(&mut each, size);
            }
            each.target = wish.target.clone();
            if let Some(home) = wish.home {
                each.placement = Placement::On { node: NodeId(home), epoch: Epoch(1) };
                if wish.deleted {
                    each.run.intent = Intent::Deleted;
                }
            }
            add(&mut state, each);
        }
        let load = |(memory, disk, load1): (u64, u64, f64)| Load {
            load1,
            memory_available: memory * GIB,
            pool_free: [("default".to_owned(), disk * GIB)].into(),
            ..Load::default()
        };
        let heard = heard.into_iter().enumerate();
        (state, Heard(heard.filter_map(|(at, h)| Some((NodeId(at as u64 + 1), load(h?)))).collect()))
    })
}

/// The rules once more, written down independently of the crate: whether `node` can take `wanted` beside what is there.
fn fits(state: &ClusterState, heard: &Heard, node: NodeId, wanted: &Instance, fresh: &[&Instance]) -> bool {
    let member = state.members.get(&node).unwrap();
    let config = |i: &Instance, key: &str| state.expanded_config(&i.project, &i.spec).get(key).cloned();
    let memory_of = |i: &Instance| {
        config(i, "limits.memory").map_or(0, |t| parse_memory(&t).unwrap().on_host(member.announced.memory))
    };
    let size_of = |i: &Instance| {
        let devices = state.expanded_devices(&i.project, &i.spec);
        devices["root"].get("size").map_or(0, |t| parse_bytes(t).unwrap())
    };
    let targeted = match (&wanted.target, member.config["scheduler.instance"].as_str()) {
        (Target::Member(name), _) => *name == member.name,
        (Target::Group(group), mode) => member.groups.contains(group) && mode != "manual",
        (Target::Any, mode) => matches!(mode, "" | "all"),
    };
    let here: Vec<&Instance> = state.assigned_to(node).collect();
    let living: u64 = here.iter().filter(|i| i.run.intent != Intent::Deleted).map(|i| memory_of(i)).sum();
    let promised: u64 = fresh.iter().map(|i| memory_of(i)).sum();
    let disk: u64 = here.iter().map(|i| size_of(i)).sum();
    let fresh_disk: u64 = fresh.iter().map(|i| size_of(i)).sum();
    let load = heard.load(node);
    let ready = matches!(
        state.pools.values().next().unwrap().status.get(&node),
        Some(PoolStatus::Ready { total }) if disk + fresh_disk + size_of(wanted) <= *total || size_of(wanted) == 0
    );
    let cpus = config(wanted, "limits.cpu").is_none_or(|t| match parse_cpu(&t).unwrap() {
        Cpu::Count(n) => n <= member.announced.cpus,
        Cpu::Set(set) => set.iter().all(|c| *c < member.announced.cpus),
    });
    let need = memory_of(wanted);
    targeted
        && member.health == Health::Online
        && member.duty == Duty::Active
        && member.announced.architecture == "x86_64"
        && member.announced.drivers.contains_key("container")
        && ready
        && cpus
        && (need == 0 || living + promised + need <= member.announced.memory)
        && load.is_none_or(|l| {
            let free = l.pool_free["default"].saturating_sub(fresh_disk);
            (need == 0 || promised + need <= l.memory_available) && free > 0 && size_of(wanted) <= free
        })
}

proptest! {
    #[test]
    fn every_decision_is_right((state, heard) in any_cluster()) {
        let decisions = next_placements(&state, &heard, usize::MAX);
        prop_assert_eq!(&decisions, &next_placements(&state, &heard, usize::MAX));
        let waiting = state.instances.values().filter(|i| i.placement.home().is_none()).count();
        prop_assert_eq!(decisions.len(), waiting);
        let mut fresh: BTreeMap<NodeId, Vec<&Instance>> = BTreeMap::new();
        for decision in &decisions {
            let of = |node: NodeId| fresh.get(&node).cloned().unwrap_or_default();
            match decision {
                Decision::Place { id, node } => {
                    let wanted = state.instances.get(id).unwrap();
                    prop_assert!(fits(&state, &heard, *node, wanted, &of(*node)), "{} on {}", wanted.name, node);
                    fresh.entry(*node).or_default().push(wanted);
                }
                Decision::Refuse { id, reason, .. } => {
                    let wanted = state.instances.get(id).unwrap();
                    for member in state.members.values() {
                        prop_assert!(!fits(&state, &heard, member.id, wanted, &of(member.id)), "{}", member.name);
                        prop_assert!(reason.contains(member.name.as_str()), "{reason}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_request_alone_is_the_first_of_a_batch((state, heard) in any_cluster()) {
        let first = next_placements(&state, &heard, 1).pop();
        let Some(first) = first else { return Ok(()) };
        let (Decision::Place { id, .. } | Decision::Refuse { id, .. }) = &first;
        let request = Request::of(&state, state.instances.get(id).unwrap());
        match (place(&state, &heard, &request), &first) {
            (Ok(chosen), Decision::Place { node, .. }) => prop_assert_eq!(chosen, *node),
            (Err(refusal), Decision::Refuse { reason, .. }) => {
                prop_assert_eq!(&refusal.to_string(), reason);
                let named: Vec<_> = refusal.reasons.iter().map(|(name, _)| name).collect();
                let all: Vec<_> = state.members.values().map(|m| &m.name).collect();
                prop_assert_eq!(named, all);
            }
            (answer, first) => prop_assert!(false, "{answer:?} but {first:?}"),
        }
    }
}
