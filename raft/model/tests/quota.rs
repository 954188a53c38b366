//! Limits and restrictions of projects: no path around them, and no way to set one below what is in use.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]

use std::collections::BTreeMap;

use basalt_model::command::{ClusterCommand, Init, InstanceCommand, PoolCommand, ProfileCommand, ProjectCommand};
use basalt_model::instance::{Instance, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::project::Project;
use basalt_model::quota::{self, Resource};
use basalt_model::secrets::Secrets;
use basalt_model::{
    ClusterState, Command, Fingerprint, Generation, InstanceId, InstanceName, MemberName, NodeId, PoolName,
    ProfileName, ProjectName, Rejected, Timestamp, invariant,
};
use uuid::Uuid;

type Map = BTreeMap<String, String>;

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn p() -> ProjectName {
    ProjectName::new("p").unwrap()
}

/// A cluster with pools `default` and `fast`, and a project `p` whose default profile has a root disk.
fn begun(level: u32) -> ClusterState {
    let mut state = ClusterState::default();
    let member = Member {
        id: NodeId(1),
        name: MemberName::new("node1").unwrap(),
        certificate: Fingerprint::new("0".repeat(64)).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: String::new(),
        description: String::new(),
        groups: Default::default(),
        roles: Default::default(),
        config: Map::new(),
        announced: Announcement { feature_level: level, ..Announcement::default() },
    };
    let init = Init { cluster_id: Uuid::from_u128(7), secrets: Secrets::default(), member, at: Timestamp(1) };
    let mut commands = vec![Command::Cluster(ClusterCommand::Init(Box::new(init)))];
    for name in ["default", "fast"] {
        commands.push(Command::Pool(PoolCommand::Add(Pool {
            name: PoolName::new(name).unwrap(),
            kind: PoolKind::Dir,
            description: String::new(),
            config: Map::new(),
            member_config: BTreeMap::new(),
            status: BTreeMap::new(),
            generation: Generation(1),
        })));
    }
    commands.push(Command::Project(ProjectCommand::Add(Project {
        name: p(),
        description: String::new(),
        config: Map::new(),
        created_at: Timestamp(1),
        generation: Generation(1),
    })));
    commands.push(profile(&[], &[("type", "disk"), ("path", "/"), ("pool", "default")]));
    for command in commands {
        state.apply(&command).unwrap();
    }
    state
}

fn profile(config: &[(&str, &str)], root: &[(&str, &str)]) -> Command {
    Command::Profile(ProfileCommand::Update {
        project: p(),
        name: ProfileName::default_profile(),
        expect: None,
        description: String::new(),
        config: map(config),
        devices: [("root".to_owned(), map(root))].into(),
    })
}

fn spec(config: &[(&str, &str)]) -> Spec {
    Spec {
        kind: Kind::Container,
        architecture: String::new(),
        origin: Origin::Empty,
        description: String::new(),
        ephemeral: false,
        config: map(config),
        devices: BTreeMap::new(),
        profiles: vec![ProfileName::default_profile()],
    }
}

fn create(id: u128, config: &[(&str, &str)]) -> Command {
    Command::Instance(InstanceCommand::Create(Box::new(Instance {
        id: InstanceId(Uuid::from_u128(id)),
        project: p(),
        name: InstanceName::new(format!("c{id}")).unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        spec: spec(config),
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    })))
}

fn set(id: u128, config: &[(&str, &str)]) -> Command {
    let id = InstanceId(Uuid::from_u128(id));
    Command::Instance(InstanceCommand::UpdateSpec { id, expect: None, spec: Box::new(spec(config)) })
}

fn bound(config: &[(&str, &str)]) -> Command {
    Command::Project(ProjectCommand::Update {
        name: p(),
        expect: None,
        description: String::new(),
        config: map(config),
    })
}

/// Refused, naming the field and these words, with nothing changed.
fn refused(state: &mut ClusterState, command: &Command, field: &str, words: &[&str]) {
    let before = state.clone();
    match state.apply(command) {
        Err(Rejected::Invalid { field: found, why }) => {
            assert_eq!(found, field, "{why}");
            for word in words {
                assert!(why.contains(word), "{why:?} does not say {word:?}");
            }
        }
        other => panic!("{other:?} for {command:?}"),
    }
    assert!(*state == before, "refused, but changed");
}

#[test]
fn counts_are_held_on_create_and_below_use_they_are_refused() {
    let mut state = begun(2);
    state.apply(&bound(&[("limits.instances", "2"), ("limits.containers", "3")])).unwrap();
    state.apply(&create(1, &[])).unwrap();
    state.apply(&create(2, &[])).unwrap();
    refused(&mut state, &create(3, &[]), "limits.instances", &["\"p\"", "limited to 2", "would use 3"]);
    // The same creation once more is no new one.
    state.apply(&create(2, &[])).unwrap();
    refused(&mut state, &bound(&[("limits.instances", "1")]), "limits.instances", &["limited to 1", "would use 2"]);
    state.apply(&bound(&[("limits.virtual-machines", "0")])).unwrap();
    assert_eq!(invariant::check(&state), Vec::<String>::new());
}

#[test]
fn sums_are_held_on_every_path() {
    let mut state = begun(2);
    state.apply(&create(1, &[("limits.memory", "1GiB"), ("limits.cpu", "1"), ("limits.processes", "10")])).unwrap();
    refused(&mut state, &bound(&[("limits.memory", "512MiB")]), "limits.memory", &["512MiB", "1024MiB"]);
    let limits = [("limits.memory", "2GiB"), ("limits.cpu", "3"), ("limits.processes", "100")];
    state.apply(&bound(&limits)).unwrap();
    let two = [("limits.memory", "1GiB"), ("limits.cpu", "2"), ("limits.processes", "90")];
    for (missing, _) in two {
        let rest: Vec<_> = two.into_iter().filter(|(key, _)| *key != missing).collect();
        refused(&mut state, &create(2, &rest), missing, &["must set", missing, "\"c2\""]);
    }
    for (key, relative) in [("limits.memory", "10%"), ("limits.cpu", "0-1")] {
        let odd: Vec<_> = two.into_iter().map(|(k, v)| (k, if k == key { relative } else { v })).collect();
        refused(&mut state, &create(2, &odd), key, &["\"c2\""]);
    }
    state.apply(&create(2, &two)).unwrap();
    let shares = quota::shares(&state, state.projects.get(&p()).unwrap());
    let used = |resource| (shares[&resource].limit, shares[&resource].used);
    assert_eq!(used(Resource::Memory), (Some(2 << 30), 2 << 30));
    assert_eq!(used(Resource::Cpu), (Some(3), 3));
    assert_eq!(used(Resource::Processes), (Some(100), 100));
    assert_eq!(used(Resource::Instances), (None, 2));
    // An edit of an instance, and of a profile.
    let more = [("limits.memory", "1025MiB"), ("limits.cpu", "2"), ("limits.processes", "90")];
    refused(&mut state, &set(2, &more), "limits.memory", &["2048MiB", "2049MiB"]);
    let root = [("type", "disk"), ("path", "/"), ("pool", "default")];
    state.apply(&set(2, &[("limits.processes", "90"), ("limits.memory", "1GiB")])).unwrap_err();
    state.apply(&profile(&[("limits.cpu", "1")], &root)).unwrap();
    state.apply(&set(2, &[("limits.processes", "90"), ("limits.memory", "1GiB")])).unwrap();
    refused(&mut state, &profile(&[("limits.cpu", "3")], &root), "limits.cpu", &["limited to 3", "would use 4"]);
    refused(&mut state, &profile(&[], &root), "limits.cpu", &["must set limits.cpu"]);
}

#[test]
fn disks_are_summed_by_pool() {
    let mut state = begun(2);
    let root = |pool, size| profile(&[], &[("type", "disk"), ("path", "/"), ("pool", pool), ("size", size)]);
    state.apply(&create(1, &[])).unwrap();
    refused(&mut state, &bound(&[("limits.disk", "5GiB")]), "limits.disk", &["size of its root disk", "\"c1\""]);
    state.apply(&bound(&[("limits.disk.pool.fast", "0")])).unwrap();
    assert!(quota::hides_pool(state.projects.get(&p()).unwrap(), &PoolName::new("fast").unwrap()));
    state.apply(&root("default", "3GiB")).unwrap();
    state.apply(&bound(&[("limits.disk", "5GiB"), ("limits.disk.pool.default", "4GiB")])).unwrap();
    refused(&mut state, &create(2, &[]), "limits.disk", &["5120MiB", "6144MiB"]);
    refused(&mut state, &root("default", "4097MiB"), "limits.disk.pool.default", &["4096MiB", "4097MiB"]);
    let shares = quota::shares(&state, state.projects.get(&p()).unwrap());
    assert_eq!(shares[&Resource::DiskIn(PoolName::new("default").unwrap())].used, 3 << 30);
}

#[test]
fn restrictions_hold_for_instances_and_profiles_old_and_new() {
    let mut state = begun(2);
    let root = [("type", "disk"), ("path", "/"), ("pool", "default")];
    state.apply(&create(1, &[("security.nesting", "true")])).unwrap();
    let strict = [("restricted", "true")];
    refused(&mut state, &bound(&strict), "restricted.containers.nesting", &["instance \"c1\""]);
    state.apply(&set(1, &[])).unwrap();
    state.apply(&bound(&strict)).unwrap();
    let nested = [("security.nesting", "true")];
    refused(&mut state, &create(2, &nested), "restricted.containers.nesting", &["instance \"c2\""]);
    refused(&mut state, &set(1, &nested), "restricted.containers.nesting", &["instance \"c1\""]);
    refused(&mut state, &profile(&nested, &root), "restricted.containers.nesting", &["profile \"default\""]);
    let nic = [("type", "nic"), ("nictype", "bridged"), ("parent", "br7")];
    let mut added = spec(&[]);
    added.devices.insert("eth0".into(), map(&nic));
    let id = InstanceId(Uuid::from_u128(1));
    let update = InstanceCommand::UpdateSpec { id, expect: None, spec: Box::new(added) };
    refused(&mut state, &Command::Instance(update), "restricted.devices.nic", &["\"eth0\""]);
    state.apply(&bound(&[("restricted", "true"), ("restricted.containers.nesting", "allow")])).unwrap();
    state.apply(&set(1, &nested)).unwrap();
}

/// A member that does not know limits would let in what the others refuse.
#[test]
fn limits_wait_for_the_feature_level() {
    let mut state = begun(1);
    for keys in [[("limits.cpu", "1")], [("restricted", "true")]] {
        let verdict = state.apply(&bound(&keys));
        assert_eq!(verdict, Err(Rejected::FeatureLevel { needs: 2, at: 1 }));
    }
    state.apply(&bound(&[("user.a", "b")])).unwrap();
}
