//! Random commands against the state machine. Names and ids come from small pools, so that commands collide, repeat
//! themselves, name what is gone and come too late.
//!
//! After each one: the invariants hold, a refusal has changed nothing, a second replica agrees to the byte, what is
//! stored can be read back, and no counter has gone backwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]
#![allow(clippy::manual_is_multiple_of, reason = "bytes are cut into fields by their remainders")]

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::command::{
    ClusterCommand, IdentityCommand, ImageCommand, Init, InstanceCommand, MemberCommand, NetworkCommand, PoolCommand,
    ProfileCommand, ProjectCommand,
};
use basalt_model::identity::{Certificate, CertificateKind, Grant, Token};
use basalt_model::image::{Alias, Format, Image};
use basalt_model::instance::{
    Devices, Instance, Intent, Kind, Origin, Phase, Placement, Report, Run, Spec, StopMode, Target,
};
use basalt_model::member::{Announcement, Duty, Group, Health, Member};
use basalt_model::network::{Network, NetworkKind};
use basalt_model::pool::{Pool, PoolKind, PoolStatus};
use basalt_model::profile::Profile;
use basalt_model::project::Project;
use basalt_model::secrets::Secrets;
use basalt_model::{
    AliasName, ClusterState, Command, Epoch, Fingerprint, Generation, GroupName, InstanceId, InstanceName, MemberName,
    NetworkName, NodeId, PoolName, ProfileName, ProjectName, Timestamp, TokenId, invariant,
};
use proptest::prelude::*;
use uuid::Uuid;

/// One command to be, as bytes: the first picks the variant, the rest its fields. Shrinks well.
type Op = [u8; 6];

fn pick<T>(from: &[T], by: u8) -> &T {
    &from[usize::from(by) % from.len()]
}

fn fingerprint(by: u8) -> Fingerprint {
    Fingerprint::new(format!("{:064x}", by % 4)).unwrap()
}

fn project(by: u8) -> ProjectName {
    ProjectName::new(*pick(&["default", "default", "dev", "lab"], by)).unwrap()
}

fn profile(by: u8) -> ProfileName {
    ProfileName::new(*pick(&["default", "default", "fast", "slow"], by)).unwrap()
}

fn member_name(by: u8) -> MemberName {
    MemberName::new(format!("node{}", by % 5)).unwrap()
}

fn group(by: u8) -> GroupName {
    GroupName::new(*pick(&["east", "west", "north"], by)).unwrap()
}

fn instance_name(by: u8) -> InstanceName {
    InstanceName::new(*pick(&["a", "b", "c", "d"], by)).unwrap()
}

/// One of six at a time: an id is never used again once its instance is gone, but for a few that try.
fn instance_id(state: &ClusterState, by: u8) -> InstanceId {
    let id = |life: u128| InstanceId(Uuid::from_u128(life * 6 + u128::from(by % 6)));
    match by {
        250.. => id(0),
        _ => (0..).map(id).find(|id| !state.graves.contains_key(id)).expect("there are always more"),
    }
}

fn token_id(by: u8) -> TokenId {
    TokenId(Uuid::from_u128(u128::from(by % 4)))
}

fn pool(by: u8) -> PoolName {
    PoolName::new(*pick(&["local", "local", "fast", "none"], by)).unwrap()
}

fn network(by: u8) -> NetworkName {
    NetworkName::new(*pick(&["br0", "br0", "br1", "br2"], by)).unwrap()
}

fn alias(by: u8) -> AliasName {
    AliasName::new(*pick(&["debian", "alpine", "x/y"], by)).unwrap()
}

fn device(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn devices(by: u8) -> Devices {
    let mut devices = Devices::new();
    if by & 1 == 0 {
        let name = if by & 16 == 0 { "root" } else { "disk" };
        devices.insert(name.into(), device(&[("type", "disk"), ("path", "/"), ("pool", pool(by / 32).as_str())]));
    }
    if by & 2 == 0 {
        devices.insert("eth0".into(), device(&[("type", "nic"), ("network", network(by / 8).as_str())]));
    }
    if by & 12 == 12 {
        devices.insert("root".into(), device(&[("type", *pick(&["none", "gpu"], by / 16))]));
    }
    devices
}

fn config(by: u8) -> BTreeMap<String, String> {
    match by % 4 {
        0 => device(&[("security.protection.delete", "true")]),
        1 => device(&[("limits.cpu", "2"), ("user.colour", "red")]),
        _ => BTreeMap::new(),
    }
}

fn expect(by: u8) -> Option<Generation> {
    (by % 3 == 0).then_some(Generation(u64::from(by / 3 % 4)))
}

fn node(by: u8) -> NodeId {
    NodeId(*pick(&[1, 1, 1, 2, 2, 3, 4, 5, 0], by))
}

fn member(id: NodeId, name: MemberName, by: u8) -> Member {
    Member {
        id,
        name,
        certificate: fingerprint(by),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        health: Health::Online,
        failure_domain: "default".into(),
        description: String::new(),
        groups: if by % 4 == 0 { [group(by / 4)].into() } else { BTreeSet::new() },
        config: BTreeMap::new(),
        announced: announcement(id.0, 1),
    }
}

fn announcement(address: u64, feature_level: u32) -> Announcement {
    Announcement {
        api_address: format!("10.0.0.{address}:8443"),
        cluster_address: format!("10.0.0.{address}:8444"),
        feature_level,
        cpus: 4,
        memory: 8 << 30,
        ..Announcement::default()
    }
}

fn instance(state: &ClusterState, [a, b, c, d, e]: [u8; 5]) -> Instance {
    let intent = *pick(&[Intent::Stopped, Intent::Running, Intent::Deleted, Intent::Frozen], e / 4);
    Instance {
        id: instance_id(state, a),
        project: project(b),
        name: instance_name(c),
        created_at: Timestamp(1),
        last_used_at: Timestamp::NEVER,
        generation: Generation(7),
        spec: spec(d, e),
        target: match e % 8 {
            0 => Target::Member(member_name(d)),
            1 => Target::Group(group(d)),
            _ => Target::Any,
        },
        run: Run { intent, request: 9, start: 9, stop: StopMode::default() },
        placement: Placement::On { node: node(a), epoch: Epoch(9) },
        report: None,
    }
}

fn spec(a: u8, b: u8) -> Spec {
    Spec {
        kind: *pick(&[Kind::Container, Kind::Container, Kind::VirtualMachine], b),
        architecture: "x86_64".into(),
        origin: if b % 5 == 0 { Origin::Image(fingerprint(a)) } else { Origin::Empty },
        description: String::new(),
        ephemeral: a % 7 == 0,
        config: config(a),
        devices: if a % 3 == 0 { devices(b) } else { Devices::new() },
        profiles: if b % 4 == 0 { vec![profile(a), profile(b / 4)] } else { vec![ProfileName::default_profile()] },
    }
}

const OPS: u8 = 51;

/// The command that `op` stands for in `state`. Counters that a proposer would read are mostly read right.
fn command(state: &ClusterState, op: Op, now: u64) -> Command {
    let [kind, a, b, c, d, e] = op;
    let at = Timestamp(now);
    match kind % OPS {
        0 => Command::Cluster(ClusterCommand::Init(Box::new(Init {
            cluster_id: Uuid::from_u128(7),
            secrets: Secrets::default(),
            member: member(NodeId(1), member_name(a), b),
            at,
        }))),
        1 => Command::Cluster(ClusterCommand::SetConfig {
            set: [("user.x".to_owned(), (a % 2 == 0).then(|| a.to_string()))].into(),
            expect: expect(b),
        }),
        2 => Command::Cluster(ClusterCommand::RaiseFeatureLevel { level: u32::from(a % 3) }),
        kind @ 3..=13 => Command::Member(member_command(state, kind, [a, b, c, d, e], at)),
        kind @ 14..=20 => Command::Identity(identity_command(kind, [a, b, c, d], at)),
        kind @ 21..=31 => Command::Instance(instance_command(state, kind, [a, b, c, d, e], at)),
        kind @ 32..=38 => Command::Image(image_command(kind, [a, b, c])),
        kind @ 39..=42 => Command::Profile(profile_command(kind, [a, b, c, d, e])),
        kind => other_command(kind, [a, b, c, d]),
    }
}

fn member_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5], at: Timestamp) -> MemberCommand {
    let (id, name) = (node(a), group(b));
    match kind {
        3 | 13 => {
            let token = state.tokens.values().nth(usize::from(a % 2)).filter(|_| b % 8 != 0);
            let name = match token.map(|t| &t.grant) {
                Some(Grant::Join(name)) if c % 8 != 0 => name.clone(),
                Some(Grant::Join(_) | Grant::Trust { .. }) | None => member_name(c),
            };
            let id = if d % 8 == 0 { node(d) } else { NodeId(state.next_node) };
            MemberCommand::Join {
                token: token.map_or(token_id(a), |t| t.id),
                secret_hash: token.map_or(fingerprint(a), |t| t.secret_hash.clone()),
                member: Box::new(member(id, name, e)),
                at,
            }
        }
        4 => MemberCommand::Announce { id, announcement: Box::new(announcement(u64::from(a), u32::from(b % 3))) },
        5 => MemberCommand::Update {
            id,
            failure_domain: "d".into(),
            description: String::new(),
            groups: [group(b), group(c)].into(),
            config: BTreeMap::new(),
        },
        6 => MemberCommand::Rename { id, name: member_name(b) },
        7 => MemberCommand::SetDuty { id, duty: if b % 3 == 0 { Duty::Evacuated } else { Duty::Active } },
        8 => MemberCommand::SetHealth {
            id,
            health: if b % 2 == 0 { Health::Online } else { Health::Offline { since: at } },
        },
        9 => MemberCommand::Remove { id, force: b % 2 == 0 },
        10 => MemberCommand::AddGroup(Group { name, description: String::new() }),
        11 if a % 2 == 0 => MemberCommand::RenameGroup { name, to: group(c) },
        11 => MemberCommand::UpdateGroup {
            name,
            description: "x".into(),
            members: (c % 2 == 0).then(|| [member_name(c), member_name(d)].into()),
        },
        _ => MemberCommand::RemoveGroup(name),
    }
}

fn identity_command(kind: u8, [a, b, c, d]: [u8; 4], at: Timestamp) -> IdentityCommand {
    let projects: BTreeSet<ProjectName> = [project(c), project(d)].into();
    let certificate = Certificate {
        fingerprint: fingerprint(a),
        name: "client".into(),
        kind: CertificateKind::Client,
        certificate: String::new(),
        restricted: b % 2 == 0,
        projects: projects.clone(),
        description: String::new(),
    };
    match kind {
        14 | 20 => IdentityCommand::AddToken(Token {
            id: token_id(a),
            secret_hash: fingerprint(a),
            grant: match b % 3 {
                0 => Grant::Trust { name: "t".into(), kind: CertificateKind::Client, restricted: true, projects },
                _ => Grant::Join(member_name(c)),
            },
            created_at: at,
            expires_at: if d % 2 == 0 { Timestamp::NEVER } else { Timestamp(at.0 + u64::from(d % 32)) },
        }),
        15 => IdentityCommand::RevokeToken(token_id(a)),
        16 => IdentityCommand::RedeemTrust {
            token: token_id(a),
            secret_hash: fingerprint(a),
            certificate: Box::new(Certificate { fingerprint: fingerprint(b), ..certificate }),
            at,
        },
        17 => IdentityCommand::AddCertificate(certificate),
        18 if b % 2 == 0 => IdentityCommand::UpdateCertificate(certificate),
        18 => IdentityCommand::RemoveCertificate(fingerprint(a)),
        _ => IdentityCommand::DropExpired { at },
    }
}

fn instance_command(state: &ClusterState, kind: u8, fields: [u8; 5], at: Timestamp) -> InstanceCommand {
    let [a, b, c, d, e] = fields;
    let id = instance_id(state, a);
    let held = state.instances.get(&id);
    let present = held.and_then(|i| i.placement.home()).map_or(Epoch(0), |(_, epoch)| epoch);
    let epoch = if e % 5 == 0 { Epoch(u64::from(d % 3)) } else { present };
    let request = held.map_or(0, |i| i.run.request);
    match kind {
        21 | 31 => InstanceCommand::Create(Box::new(instance(state, fields))),
        22 | 30 => InstanceCommand::Place {
            id,
            node: node(b),
            epoch: if e % 5 == 0 { Epoch(u64::from(d % 3)) } else { Epoch(1) },
        },
        23 => InstanceCommand::RefusePlacement { id, reason: "no room".into() },
        24 => InstanceCommand::UpdateSpec { id, expect: expect(b), spec: Box::new(spec(c, d)) },
        25 => InstanceCommand::Rename { id, name: instance_name(b) },
        26 | 29 => InstanceCommand::SetRun {
            id,
            intent: *pick(&[Intent::Running, Intent::Stopped, Intent::Frozen, Intent::Deleted], b),
            restart: c % 4 == 0,
            stop: StopMode::default(),
            at,
        },
        27 => InstanceCommand::Report {
            id,
            report: Report {
                epoch,
                generation: Generation(1),
                phase: *pick(&[Phase::Stopped, Phase::Running, Phase::Frozen, Phase::Failed], b),
                made: c % 4 != 0,
                request: if d % 4 == 0 { u64::from(d / 4 % 4) } else { request },
                reason: None,
                at: if c % 8 == 1 { Timestamp(u64::from(c)) } else { at },
            },
        },
        28 if b % 2 == 0 => InstanceCommand::Forget { id, epoch },
        _ => InstanceCommand::SetVolatile {
            id,
            epoch,
            set: [
                ("volatile.eth0.hwaddr".to_owned(), (c % 2 == 0).then(|| "x".to_owned())),
                ("user.x".to_owned(), None),
            ]
            .into(),
        },
    }
}

fn image_command(kind: u8, [a, b, c]: [u8; 3]) -> ImageCommand {
    let fingerprint = fingerprint(a);
    match kind {
        32 => ImageCommand::Add(Box::new(Image {
            fingerprint,
            kind: Kind::Container,
            architecture: "x86_64".into(),
            format: Format::Unified,
            filename: String::new(),
            size: 1,
            public: false,
            properties: BTreeMap::new(),
            created_at: Timestamp(1),
            uploaded_at: Timestamp(1),
            expires_at: Timestamp::NEVER,
            last_used_at: Timestamp::NEVER,
            holders: [node(b), node(c)].into(),
        })),
        33 => ImageCommand::Remove(fingerprint),
        34 => ImageCommand::AddHolder { fingerprint, node: node(b) },
        35 => ImageCommand::DropHolder { fingerprint, node: node(b) },
        36 => ImageCommand::SetAlias {
            alias: Alias { name: alias(b), description: String::new(), target: fingerprint },
            replace: c % 2 == 0,
        },
        37 if c % 4 == 0 => ImageCommand::RemoveAlias(alias(b)),
        37 => ImageCommand::RenameAlias { name: alias(b), to: alias(c / 2) },
        _ => ImageCommand::Update {
            fingerprint,
            public: true,
            expires_at: Timestamp::NEVER,
            properties: BTreeMap::new(),
        },
    }
}

fn profile_command(kind: u8, [a, b, c, d, e]: [u8; 5]) -> ProfileCommand {
    let (project, name) = (project(a), profile(b));
    match kind {
        39 => ProfileCommand::Add(Profile {
            project,
            name,
            description: String::new(),
            config: config(c),
            devices: devices(d),
            generation: Generation(9),
        }),
        40 => ProfileCommand::Update {
            project,
            name,
            expect: expect(e),
            description: String::new(),
            config: config(c),
            devices: devices(d),
        },
        41 => ProfileCommand::Rename { project, name, to: profile(c) },
        _ => ProfileCommand::Remove { project, name },
    }
}

fn other_command(kind: u8, [a, b, c, d]: [u8; 4]) -> Command {
    let subnet = device(&[("ipv4.address", *pick(&["10.1.0.1/24", "10.1.0.9/16", "10.2.0.1/24", "none", "x"], c))]);
    match kind {
        43 if b % 4 != 0 => Command::Project(ProjectCommand::Add(Project {
            name: project(a),
            description: String::new(),
            config: BTreeMap::new(),
            created_at: Timestamp(1),
            generation: Generation(9),
        })),
        43 => Command::Project(ProjectCommand::Update {
            name: project(a),
            expect: expect(c),
            description: "x".into(),
            config: BTreeMap::new(),
        }),
        44 if b % 2 == 0 => Command::Project(ProjectCommand::Remove(project(a))),
        44 => Command::Project(ProjectCommand::Rename { name: project(a), to: project(c) }),
        45 => Command::Network(NetworkCommand::Add(Network {
            name: network(a),
            kind: NetworkKind::Bridge,
            description: String::new(),
            config: subnet,
            generation: Generation(9),
        })),
        46 => Command::Network(NetworkCommand::Update {
            name: network(a),
            expect: expect(b),
            description: String::new(),
            config: subnet,
        }),
        47 if b % 2 == 0 => Command::Network(NetworkCommand::Remove(network(a))),
        47 => Command::Network(NetworkCommand::Rename { name: network(a), to: network(c) }),
        48 => Command::Pool(PoolCommand::Add(Pool {
            name: pool(a),
            kind: PoolKind::Dir,
            description: String::new(),
            config: BTreeMap::new(),
            member_config: if b % 4 == 0 { [(node(c), BTreeMap::new())].into() } else { BTreeMap::new() },
            status: if b % 4 == 1 { [(node(c), PoolStatus::Ready { total: 1 })].into() } else { BTreeMap::new() },
            generation: Generation(9),
        })),
        49 if d % 4 == 0 => Command::Pool(PoolCommand::Remove(pool(a))),
        49 => Command::Pool(PoolCommand::Status {
            name: pool(a),
            node: node(b),
            status: if c % 2 == 0 { PoolStatus::Ready { total: 1 } } else { PoolStatus::Failed { reason: "x".into() } },
        }),
        _ if d % 2 == 0 => {
            Command::Pool(PoolCommand::SetMemberConfig { name: pool(a), node: node(b), config: BTreeMap::new() })
        }
        _ => Command::Pool(PoolCommand::Update {
            name: pool(a),
            expect: expect(b),
            description: String::new(),
            config: BTreeMap::new(),
        }),
    }
}

fn encode(state: &ClusterState) -> Vec<u8> {
    rmp_serde::to_vec_named(state).unwrap()
}

/// A cluster with a member, a pool, a network and a default profile that uses both: most commands have a chance.
fn begun() -> ClusterState {
    let mut state = ClusterState::default();
    for op in [[0, 1, 1, 0, 0, 0], [48, 0, 2, 0, 0, 0], [45, 0, 0, 0, 0, 0], [40, 0, 0, 2, 0, 1]] {
        let command = command(&state, op, 1);
        state.apply(&command).unwrap();
    }
    state
}

/// What no command may turn back.
#[derive(Debug, Default)]
struct History {
    /// Every member id there ever was, with the certificate it came with.
    ids: BTreeMap<NodeId, Timestamp>,
    next_node: u64,
    gone: BTreeSet<InstanceId>,
}

impl History {
    fn check(&mut self, before: &ClusterState, after: &ClusterState) -> Result<(), TestCaseError> {
        prop_assert!(after.next_node >= self.next_node, "the counter of members went backwards");
        self.next_node = after.next_node;
        for id in after.members.keys().filter(|id| !before.members.contains_key(*id)) {
            prop_assert!(self.ids.insert(*id, Timestamp(1)).is_none(), "member id {id} was used twice");
        }
        prop_assert!(after.feature_level >= before.feature_level);
        let back = after.instances.keys().find(|id| self.gone.contains(id));
        prop_assert!(back.is_none(), "an instance has come back from the dead: {:?}", back);
        for (id, old) in before.instances.iter() {
            let Some(new) = after.instances.get(id) else {
                prop_assert!(self.gone.insert(*id), "instance {id} was gone before");
                continue;
            };
            prop_assert!(new.generation >= old.generation && new.run.request >= old.run.request);
            prop_assert!(new.run.start >= old.run.start);
            if let Some((node, epoch)) = old.placement.home() {
                let (new_node, new_epoch) = new.placement.home().expect("a home is never lost");
                prop_assert!(new_epoch > epoch || (new_epoch, new_node) == (epoch, node), "moved under one epoch");
            }
            if old.run.intent == Intent::Deleted {
                prop_assert_eq!(new.run.intent, Intent::Deleted);
            }
            if let (Some(was), Some(is)) = (old.current_report(), new.current_report()) {
                prop_assert!((is.request, is.at) >= (was.request, was.at), "an older report has won");
            }
        }
        Ok(())
    }
}

/// Applies `ops` to two replicas and holds everything against them.
fn run(ops: &[Op], accepted: &mut BTreeSet<String>) -> Result<(), TestCaseError> {
    let mut state = begun();
    let mut other = state.clone();
    let mut history = History::default();
    history.check(&ClusterState::default(), &state)?;
    for (now, op) in ops.iter().enumerate() {
        let command = command(&state, *op, now as u64 + 10);
        let before = state.clone();
        let bytes = encode(&before);
        let verdict = state.apply(&command);
        prop_assert_eq!(&verdict, &other.apply(&command), "two replicas disagree on {:?}", command);
        let after = encode(&state);
        prop_assert_eq!(&after, &encode(&other), "two replicas differ after {:?}", command);
        match &verdict {
            Ok(()) => {
                let text = format!("{command:?}");
                let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).take(2).collect();
                accepted.insert(words.join("::"));
            }
            Err(_) => prop_assert_eq!(&after, &bytes, "refused, but changed: {:?}", command),
        }
        prop_assert_eq!(invariant::check(&state), Vec::<String>::new(), "after {:?}", command);
        history.check(&before, &state)?;
        // From here on the second replica is one that was restored from a snapshot, and the command one read from a log.
        other = rmp_serde::from_slice(&after).unwrap();
        prop_assert_eq!(&other, &state);
        let logged: Command = rmp_serde::from_slice(&rmp_serde::to_vec_named(&command).unwrap()).unwrap();
        prop_assert_eq!(logged, command);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_keep_the_state_whole(ops in prop::collection::vec(any::<Op>(), 1..150)) {
        run(&ops, &mut BTreeSet::new())?;
    }

    /// The same with the commands about members and instances only: deeper into their collisions.
    #[test]
    fn members_and_instances_stay_whole(ops in prop::collection::vec(
        prop_oneof![
            (21u8..32, any::<[u8; 5]>()), (21u8..32, any::<[u8; 5]>()), (3u8..15, any::<[u8; 5]>()), (32u8..43, any::<[u8; 5]>())
        ].prop_map(|(kind, [a, b, c, d, e])| [kind, a, b, c, d, e]), 1..200,
    )) {
        run(&ops, &mut BTreeSet::new())?;
    }
}

/// The generator is worth nothing if its commands are all refused.
#[test]
fn every_kind_of_command_is_accepted_now_and_then() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut accepted = BTreeSet::new();
    // All but Init, which is accepted once, before the run.
    let all = 54;
    for _ in 0..1000 {
        let ops = prop::collection::vec(any::<Op>(), 150).new_tree(&mut runner).unwrap().current();
        run(&ops, &mut accepted).unwrap();
        if accepted.len() == all {
            break;
        }
    }
    assert_eq!(accepted.len(), all, "{accepted:#?}");
}

#[test]
fn nothing_is_accepted_before_the_cluster_has_begun() {
    for kind in 1..OPS {
        let mut state = ClusterState::default();
        let command = command(&state, [kind, 1, 1, 1, 1, 1], 5);
        assert!(state.apply(&command).is_err(), "{command:?}");
        assert_eq!(state, ClusterState::default());
    }
}

/// A creation whose first try got through, against all odds, once more after the deletion.
#[test]
fn an_instance_does_not_come_back_from_the_dead() {
    let mut state = begun();
    let create = |state: &ClusterState, id: u128| {
        let mut fresh = instance(state, [0, 0, 0, 1, 2]);
        fresh.id = InstanceId(Uuid::from_u128(id));
        Command::Instance(InstanceCommand::Create(Box::new(fresh)))
    };
    let delete = |id: u128| {
        let (id, stop) = (InstanceId(Uuid::from_u128(id)), StopMode::default());
        let intent = Intent::Deleted;
        Command::Instance(InstanceCommand::SetRun { id, intent, restart: false, stop, at: Timestamp(1) })
    };
    for id in 0..1100 {
        let create = create(&state, id);
        state.apply(&create).unwrap();
        state.apply(&create).unwrap();
        state.apply(&delete(id)).unwrap();
        assert!(state.apply(&create).is_err());
    }
    assert_eq!((state.instances.len(), state.graves.len()), (0, 1024));
}
