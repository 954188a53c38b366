//! Random commands against the state machine. Names and ids come from small pools, so that commands collide, repeat
//! themselves, name what is gone and come too late.
//!
//! After each one: the invariants hold, a refusal has changed nothing, a second replica agrees to the byte, what is
//! stored can be read back, and no counter has gone backwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]
#![allow(clippy::manual_is_multiple_of, reason = "bytes are cut into fields by their remainders")]

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::command::{
    AclCommand, AddressSetCommand, Allocation, ClusterCommand, Expect, IdentityCommand, ImageCommand, Init,
    InstanceCommand, MemberCommand, NetworkCommand, PoolCommand, ProfileCommand, ProjectCommand, SnapshotCommand,
    WarningCommand, ZoneCommand,
};
use basalt_model::evacuation::{Leg, Mode, Order, Task, Trip, TripStep};
use basalt_model::identity::{Certificate, CertificateKind, Grant, Token};
use basalt_model::image::{Alias, Format, Image};
use basalt_model::instance::{
    CopyOf, Devices, Instance, Intent, Kind, MovePlan, Origin, Phase, Placement, Report, Run, Spec, StopMode, Target,
};
use basalt_model::member::{Announcement, Duty, Group, Health, Member, Role};
use basalt_model::network::acl::{Acl, Action, Rule, RuleState};
use basalt_model::network::address_set::AddressSet;
use basalt_model::network::balance::{Backend, Balancer, BalancerPort, Forward, ForwardPort, Transport};
use basalt_model::network::check::NORTHBOUND;
use basalt_model::network::peer::Peer;
use basalt_model::network::zone::{self, Zone, entry::Entry};
use basalt_model::network::{Network, NetworkKind};
use basalt_model::pool::{Pool, PoolKind, PoolStatus};
use basalt_model::profile::Profile;
use basalt_model::project::Project;
use basalt_model::secrets::Secrets;
use basalt_model::warning::{self, Cause};
use basalt_model::{
    AclName, AliasKey, AliasName, ClusterState, Command, Epoch, Fingerprint, Generation, GroupName, InProject,
    InstanceId, InstanceName, MemberName, NetworkKey, NetworkName, NodeId, PeerName, PoolName, ProfileName,
    ProjectName, RecordName, SetName, SnapshotId, SnapshotName, Timestamp, TokenId, WarningId, ZoneName, invariant,
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
    NetworkName::new(*pick(&["br0", "br0", "net0", "net0", "br1", "br2", "net1", "up0"], by)).unwrap()
}

/// A name of the default project, or now and then of one that has networks of its own.
fn owned<N>(state: &ClusterState, name: N, by: u8) -> InProject<N> {
    InProject { project: owner(state, "features.networks", by % 8 >= 5), name }
}

/// A project that has things of its own, if one is to be chosen and there is one; else the default project.
fn owner(state: &ClusterState, feature: &str, own: bool) -> ProjectName {
    let has = |p: &&Project| p.config.contains_key(feature);
    let own = state.projects.values().find(has).filter(|_| own);
    own.map_or_else(ProjectName::default_project, |p| p.name.clone())
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
        let network = network(by / 8);
        let mut nic = device(&[("type", "nic"), ("network", network.as_str())]);
        if by & 128 == 128 && network.as_str().starts_with("net") {
            nic.insert("security.acls".into(), "web".into());
        }
        if by & 4 == 4 && network.as_str().starts_with("net") {
            nic.insert(
                "ipv4.address".into(),
                pick(&["10.3.0.5", "10.3.0.5", "10.3.0.9", "10.4.0.9"], by / 64).to_string(),
            );
        }
        devices.insert("eth0".into(), nic);
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
        2 if by % 8 == 2 => device(&[("limits.cpu", "1"), ("security.nesting", "true")]),
        _ => BTreeMap::new(),
    }
}

/// Limits and restrictions of a project.
fn bounds(by: u8) -> BTreeMap<String, String> {
    match by % 10 {
        0 => device(&[("limits.instances", "1")]),
        1 => device(&[("limits.cpu", "3")]),
        2 => device(&[("restricted", "true")]),
        3 => device(&[("limits.networks", "1"), ("limits.containers", "2")]),
        5 => device(&[("features.networks.zones", "true")]),
        4 => device(&[("restricted", "true"), ("restricted.containers.nesting", "allow")]),
        6 => device(&[("features.networks", "true")]),
        7 if by % 16 == 7 => device(&[("features.images", "true")]),
        7 => device(&[("features.profiles", "false")]),
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
        order: None,
        health: Health::Online,
        failure_domain: "default".into(),
        description: String::new(),
        groups: if by % 4 == 0 { [group(by / 4)].into() } else { BTreeSet::new() },
        roles: BTreeSet::new(),
        config: BTreeMap::new(),
        announced: announcement(id.0, 2),
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
        errands: Default::default(),
    }
}

/// A copy of an instance that is made, if there is one, with its snapshots.
fn copy(state: &ClusterState, fields: [u8; 5]) -> Instance {
    let mut copy = instance(state, fields);
    let made = state.instances.values().filter(|i| i.made()).nth(usize::from(fields[1] / 2 % 3));
    let Some(source) = made else { return copy };
    let ready = state.snapshots_of(source.id).filter(|s| s.is_ready() || fields[2] % 8 == 0);
    let fresh = |s: &basalt_model::snapshot::Snapshot| {
        SnapshotId(Uuid::from_u128(s.id.0.as_u128() ^ copy.id.0.as_u128() << 64))
    };
    let snapshots: Vec<_> = ready.map(|s| (s.id, fresh(s))).collect();
    let point = snapshots.first().map(|(old, _)| *old).filter(|_| fields[3] % 2 == 0);
    copy.spec = source.spec.clone();
    copy.spec.origin = Origin::Copy(Box::new(CopyOf { source: source.id, point, snapshots }));
    copy.project = source.project.clone();
    copy.target = Target::Any;
    copy
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

const OPS: u8 = 80;

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
            set: [
                ("user.x".to_owned(), (a % 2 == 0).then(|| a.to_string())),
                (NORTHBOUND.to_owned(), (c % 4 != 0).then(|| "unix:/nb".to_owned())),
            ]
            .into(),
            expect: expect(b),
        }),
        2 if b % 4 == 0 => {
            Command::Cluster(ClusterCommand::SetApiCertificate { certificate: a.to_string(), key: c.to_string() })
        }
        2 => Command::Cluster(ClusterCommand::RaiseFeatureLevel { level: u32::from(a % 3) }),
        kind @ 3..=13 => Command::Member(member_command(state, kind, [a, b, c, d, e], at)),
        kind @ 14..=20 => Command::Identity(identity_command(kind, [a, b, c, d], at)),
        kind @ 21..=31 => Command::Instance(instance_command(state, kind, [a, b, c, d, e], at)),
        kind @ 32..=38 => Command::Image(image_command(state, kind, [a, b, c])),
        kind @ 78.. => Command::AddressSet(set_command(state, kind, [a, b, c, d, e])),
        kind @ 74.. => Command::Zone(zone_command(state, kind, [a, b, c, d, e])),
        kind @ 68.. => beside_command(state, kind, [a, b, c, d, e]),
        kind @ 62.. => Command::Network(network_command(state, kind, [a, b, c, d, e])),
        60.. => Command::Warning(warning_command([a, b, c, d], at)),
        kind @ 57..=59 => Command::Instance(move_command(state, kind, [a, b, c, d, e], at)),
        kind @ 51.. => snapshot_command(state, kind, [a, b, c, d, e], at),
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
            roles: (d % 2 == 0).then(|| Role::ALL.into_iter().take(usize::from(d % 3)).collect()),
        },
        6 => MemberCommand::Rename { id, name: member_name(b) },
        7 if d % 2 == 0 => {
            let task = if b % 3 == 0 { Task::Empty(*pick(&[Mode::Own, Mode::Force], c)) } else { Task::Fill };
            MemberCommand::Order { id, order: Order { task, at } }
        }
        8 if d % 4 == 0 => {
            let held = state.members.get(&id).and_then(|m| m.order);
            MemberCommand::OrderDone { id, at: held.map_or(at, |order| order.at) }
        }
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
        31 if b % 2 == 0 => InstanceCommand::Create(Box::new(copy(state, fields))),
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

/// Mostly of an instance that has a root: others have no snapshots.
fn snapshot_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5], at: Timestamp) -> Command {
    let made = state.instances.values().filter(|i| i.made() && a % 10 != 0).nth(usize::from(a % 2));
    let instance = made.map_or(instance_id(state, a), |i| i.id);
    let held = state.instances.get(&instance);
    let present = held.and_then(|i| i.placement.home()).map_or(Epoch(0), |(_, epoch)| epoch);
    let epoch = if e % 5 == 0 { Epoch(u64::from(d % 3)) } else { present };
    let name = SnapshotName::new(*pick(&["s0", "s1", "s2"], c)).unwrap();
    let there = state.snapshots_of(instance).nth(usize::from(b % 3)).map(|s| s.id);
    let fresh = SnapshotId(Uuid::from_u128(if e % 16 == 0 { u128::from(b % 4) } else { u128::from(at.0) << 8 }));
    let id = there.unwrap_or(fresh);
    Command::Snapshot(match kind {
        51 | 52 => SnapshotCommand::Create { instance, id: fresh, name, at, expires_at: Timestamp(u64::from(d)) },
        53 if d % 2 == 0 => SnapshotCommand::Rename { instance, id, name },
        53 => SnapshotCommand::Update { instance, id, expires_at: at },
        54 if d % 2 == 0 => SnapshotCommand::Delete { instance, id },
        54 => SnapshotCommand::Forget { instance, id, epoch },
        55 if d % 4 == 0 => SnapshotCommand::Failed { instance, id, epoch, reason: "full".into() },
        55 => SnapshotCommand::Taken { instance, id, epoch, size: u64::from(d) },
        _ => {
            let spec = held.map_or_else(|| spec(c, d), |i| i.spec.clone());
            let stop = StopMode::default();
            let restore = InstanceCommand::Restore { id: instance, snapshot: id, spec: Box::new(spec), stop };
            return Command::Instance(restore);
        }
    })
}

/// Moves of instances that are made, by the book three times of four.
fn move_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5], at: Timestamp) -> InstanceCommand {
    let on_its_way = state.instances.values().find(|i| i.placement.moving().is_some());
    let made = state.instances.values().filter(|i| i.made()).nth(usize::from(a % 2));
    let chosen = if kind == 57 { made } else { on_its_way.or(made) };
    let id = chosen.map_or(instance_id(state, a), |i| i.id);
    let landing = chosen.and_then(|i| i.placement.moving()).map_or(Epoch(u64::from(d % 4)), |m| m.landing);
    let landing = if e % 4 == 0 { Epoch(u64::from(d % 4)) } else { landing };
    match kind {
        57 if d % 4 == 1 => {
            let expect = chosen.and_then(|i| i.errands.trip.clone()).filter(|_| e % 8 != 0);
            let leg = *pick(&[Leg::Out { from: node(c), moves: c % 2 == 0 }, Leg::Back, Leg::Arrived, Leg::Rest], b);
            let order = state.members.values().find_map(|m| m.order).map_or(at, |order| order.at);
            let trip = Trip { origin: node(b), target: Target::Any, starts: a % 2 == 0, leg, order, failed: None };
            let to = (c % 3 != 0).then_some(trip);
            let run = (a % 3 == 0).then(|| (*pick(&[Intent::Stopped, Intent::Running], b), StopMode::default()));
            InstanceCommand::Trip { id, step: Box::new(TripStep { expect, to, run, at }) }
        }
        57 => InstanceCommand::Move {
            id,
            to: (b % 3 != 0).then(|| node(b / 3)),
            plan: Box::new(MovePlan {
                target: Target::Any,
                project: if c % 4 == 0 { project(c / 4) } else { chosen.map_or(project(c), |i| i.project.clone()) },
                name: if d % 4 == 0 { instance_name(d) } else { chosen.map_or(instance_name(d), |i| i.name.clone()) },
                spec: if e % 4 == 0 { spec(c, d) } else { chosen.map_or(spec(c, d), |i| i.spec.clone()) },
            }),
            expect: (a % 8 == 0).then_some(Generation(1)),
        },
        58 if b % 2 == 0 => InstanceCommand::AssignMove { id, landing, node: node(c) },
        58 if b % 8 == 1 => remake(state, id, [b, c, d, e], at),
        58 => InstanceCommand::AbortMove { id, landing, reason: "full".into() },
        _ => InstanceCommand::Landed { id, landing, at },
    }
}

/// A root made anew: of an image, of nothing, or of another instance with its snapshots.
fn remake(state: &ClusterState, id: InstanceId, [b, c, d, e]: [u8; 4], at: Timestamp) -> InstanceCommand {
    let mut wanted = state.instances.get(&id).filter(|_| e % 4 != 0).map_or(spec(c, d), |i| i.spec.clone());
    let source = state.instances.values().filter(|i| i.made()).nth(usize::from(d / 4 % 3));
    wanted.origin = match source.filter(|_| b % 16 == 1) {
        Some(source) => {
            let fresh = |n: usize| SnapshotId(Uuid::from_u128((u128::from(at.0) << 8) + 0x80 + n as u128));
            let snapshots = state.snapshots_of(source.id).filter(|s| s.is_ready()).enumerate();
            let snapshots = snapshots.map(|(n, s)| (s.id, fresh(n))).collect();
            Origin::Copy(Box::new(CopyOf { source: source.id, point: None, snapshots }))
        }
        None if c % 2 == 0 => Origin::Image(fingerprint(c)),
        None => Origin::Empty,
    };
    InstanceCommand::Remake { id, spec: Box::new(wanted), snapshots_too: c % 4 != 0, at, expect: None }
}

fn image_command(state: &ClusterState, kind: u8, [a, b, c]: [u8; 3]) -> ImageCommand {
    let project = if a % 64 == 63 { project(b) } else { owner(state, "features.images", a % 8 >= 4) };
    let fingerprint = fingerprint(a);
    let image = InProject { project: project.clone(), name: fingerprint.clone() };
    let named = |name| AliasKey { project: project.clone(), name };
    match kind {
        32 => ImageCommand::Add(Box::new(Image {
            project,
            fingerprint,
            kind: Kind::Container,
            architecture: "x86_64".into(),
            format: if c % 16 == 15 { Format::Split } else { Format::Unified },
            filename: String::new(),
            size: 1,
            public: false,
            properties: BTreeMap::new(),
            created_at: Timestamp(1),
            uploaded_at: Timestamp(1),
            expires_at: Timestamp::NEVER,
            last_used_at: Timestamp::NEVER,
            holders: [node(b), node(c)].into(),
            cached: c % 2 == 0,
            auto_update: false,
            update_source: None,
            profiles: None,
        })),
        33 if c % 4 == 0 => ImageCommand::Expire { image, unused_since: Timestamp(u64::from(b)) },
        33 => ImageCommand::Remove(image),
        34 => ImageCommand::AddHolder { fingerprint, node: node(b) },
        35 => ImageCommand::DropHolder { fingerprint, node: node(b) },
        36 => ImageCommand::SetAlias {
            alias: Alias { project, name: alias(b), description: String::new(), target: fingerprint },
            replace: c % 2 == 0,
        },
        37 if c % 4 == 0 => ImageCommand::RemoveAlias(named(alias(b))),
        37 => ImageCommand::RenameAlias { name: named(alias(b)), to: alias(c / 2) },
        _ => ImageCommand::Update { image, public: true, expires_at: Timestamp::NEVER, properties: BTreeMap::new() },
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

fn warning_command([a, b, c, d]: [u8; 4], at: Timestamp) -> WarningCommand {
    let id = WarningId(Uuid::from_u128(u128::from(a % 4)));
    match d % 4 {
        0 | 1 => WarningCommand::Raise {
            id,
            cause: Cause {
                kind: *pick(&[warning::Kind::OfflineMember, warning::Kind::HostLacks], b),
                project: None,
                entity: (b / 2 % 2).to_string(),
                node: None,
            },
            message: (c % 2).to_string(),
            at,
        },
        2 if b % 2 == 0 => WarningCommand::Remove(id),
        2 => WarningCommand::Resolve { id, at },
        _ => WarningCommand::SetStatus {
            id,
            status: *pick(&[warning::Status::New, warning::Status::Acknowledged, warning::Status::Resolved], b),
        },
    }
}

fn other_command(kind: u8, [a, b, c, d]: [u8; 4]) -> Command {
    let subnet = device(&[("ipv4.address", *pick(&["10.1.0.1/24", "10.1.0.9/16", "10.2.0.1/24", "none", "x"], c))]);
    match kind {
        43 if b % 4 != 0 => Command::Project(ProjectCommand::Add(Project {
            name: project(a),
            description: String::new(),
            config: bounds(d),
            created_at: Timestamp(1),
            generation: Generation(9),
        })),
        43 => Command::Project(ProjectCommand::Update {
            name: project(a),
            expect: expect(c),
            description: "x".into(),
            config: bounds(d),
        }),
        44 if b % 2 == 0 => Command::Project(ProjectCommand::Remove(project(a))),
        44 => Command::Project(ProjectCommand::Rename { name: project(a), to: project(c) }),
        45 => Command::Network(NetworkCommand::Add(Network {
            config: subnet,
            generation: Generation(9),
            number: 77,
            ..Network::new(network(a), NetworkKind::Bridge)
        })),
        46 => {
            let mut config = subnet;
            if d % 4 == 0 {
                config.insert("security.acls".into(), pick(&["web", "db", "web,db"], a).to_string());
            }
            let (name, expect, description) = (InProject::in_default(network(a)), expect(b), String::new());
            Command::Network(NetworkCommand::Update { name, expect, description, config })
        }
        47 if b % 2 == 0 => Command::Network(NetworkCommand::Remove(InProject::in_default(network(a)))),
        47 => Command::Network(NetworkCommand::Rename { name: InProject::in_default(network(a)), to: network(c) }),
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

/// Logical networks and their uplinks; addresses mostly as the leader would choose them.
fn network_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5]) -> NetworkCommand {
    let uplink = |by: u8| {
        let ranges = *pick(
            &["192.0.2.10-192.0.2.16", "192.0.2.10-192.0.2.10", "192.0.2.5-192.0.2.20", "192.0.2.1-192.0.2.9"],
            by,
        );
        let mut config = device(&[("parent", "eth1"), ("ipv4.gateway", "192.0.2.1/24"), ("ipv4.ovn.ranges", ranges)]);
        if by & 64 == 0 {
            config.insert("ipv6.gateway".into(), "2001:db8::1/64".into());
        }
        config
    };
    let logical = |by: u8| {
        let mut config = device(&[("network", *pick(&["up0", "up0", "none", "br0"], by))]);
        config.insert(
            "ipv4.address".into(),
            pick(&["10.3.0.1/24", "10.3.0.1/29", "10.4.0.1/16", "none"], by / 4).to_string(),
        );
        config.insert("ipv6.address".into(), pick(&["fd42::1/64", "none", "none"], by / 16).to_string());
        // What is not there is named now and then.
        if by & 64 == 64 && (by % 16 == 0 || !state.acls.is_empty()) {
            config.insert("security.acls".into(), "db".into());
        }
        if by & 128 == 128 && (by % 16 == 1 || state.zones.len() > 1) {
            config.insert("dns.zone.forward".into(), pick(&["lab", "lab,dev.lab"], by).to_string());
            config.insert("dns.zone.reverse.ipv4".into(), "10.in-addr.arpa".into());
        }
        config
    };
    let name = |text: &str| NetworkName::new(text).unwrap();
    let net = owned(state, name(if a % 2 == 0 { "net0" } else { "net1" }), a / 2);
    let ip = |by: u8| *pick(&["10.3.0.2", "10.3.0.5", "10.3.0.7", "192.0.2.10", "192.0.2.11"], by);
    let (description, expect) = (String::new(), expect(e));
    let mut chosen = basalt_model::network::address::wanted(state).into_iter();
    match kind {
        62 if b % 2 == 0 => {
            NetworkCommand::Add(Network { config: uplink(c), ..Network::new(name("up0"), NetworkKind::Physical) })
        }
        62 => {
            NetworkCommand::Update { name: InProject::in_default(name("up0")), expect, description, config: uplink(c) }
        }
        63 => {
            let InProject { project, name } = net;
            let mut config = logical(c);
            if !project.is_default() && c % 2 == 0 {
                config.insert("ipv4.address".into(), "10.6.0.1/24".into());
            }
            NetworkCommand::Add(Network { project, config, ..Network::new(name, NetworkKind::Ovn) })
        }
        64 => NetworkCommand::Update { name: net, expect, description, config: logical(c) },
        65 if b % 8 == 0 => NetworkCommand::AllocateUplink { network: net, ipv4: ip(d).parse().ok(), ipv6: None },
        66 if b % 8 == 0 => NetworkCommand::Allocate {
            addresses: vec![Allocation {
                instance: instance_id(state, c),
                device: "eth0".into(),
                network: net,
                ipv4: ip(d).parse().ok(),
                ipv6: None,
            }],
        },
        _ => chosen.nth(usize::from(e % 2)).unwrap_or(NetworkCommand::Remove(net)),
    }
}

/// Lists, and what belongs to logical networks.
fn beside_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5]) -> Command {
    // Two that can have it, more often than chance would find them, in either order.
    let there = state.networks.values().filter(|n| n.kind == NetworkKind::Ovn && a % 2 == 0).map(Network::id);
    let mut there: Vec<NetworkKey> = there.collect();
    if e % 2 == 1 {
        there.reverse();
    }
    let mut there = there.into_iter();
    let named = |names: &[&str], by: u8| owned(state, NetworkName::new(*pick(names, by)).unwrap(), e);
    let network = there.next().unwrap_or_else(|| named(&["net0", "net0", "net1", "br0"], a));
    let other = there.next().unwrap_or_else(|| named(&["net0", "net1", "br0"], c));
    let acl = |by: u8| owned(state, AclName::new(*pick(&["web", "db"], by)).unwrap(), e);
    let listen = pick(&["192.0.2.15", "192.0.2.16", "198.51.100.7", "192.0.2.10", "203.0.113.7", "10.1.0.9"], b)
        .parse()
        .unwrap();
    let target = pick(&["10.3.0.2", "10.3.0.2", "10.1.0.4", "10.3.0.4", "10.9.0.1"], c).parse().unwrap();
    let peer = || PeerName::new(*pick(&["p", "q"], b)).unwrap();
    let (description, config, generation) = (String::new(), BTreeMap::new(), Generation(9));
    let expect = if d % 2 == 0 { Expect::Absent } else { Expect::Present(expect(e)) };
    // Something to remove, more often than chance would find it.
    let some = |of: fn(&Network) -> Option<std::net::IpAddr>| {
        state.networks.values().filter(|_| a % 2 == 0).find_map(|n| Some((n.id(), of(n)?)))
    };
    let (protocol, port) =
        (*pick(&[Transport::Tcp, Transport::Udp], e), pick(&["80", "80-82", "x"], e / 2).to_string());
    Command::Network(match kind {
        68 if d % 4 == 3 => {
            let (network, listen) = some(|n| n.forwards.keys().next().copied()).unwrap_or((network, listen));
            NetworkCommand::RemoveForward { network, listen }
        }
        68 => {
            let (listen_port, target_port) = (port, String::new());
            let ports = vec![ForwardPort {
                description: String::new(),
                protocol,
                listen_port,
                target_port,
                target_address: target,
            }];
            let forward = Box::new(Forward { listen, description, config, ports, generation });
            NetworkCommand::PutForward { network, forward, expect }
        }
        69 if d % 4 == 3 => {
            let (network, listen) = some(|n| n.balancers.keys().next().copied()).unwrap_or((network, listen));
            NetworkCommand::RemoveBalancer { network, listen }
        }
        69 => {
            let (name, target_port) = ("b".to_owned(), String::new());
            let backends = vec![Backend { name, description: String::new(), target_port, target_address: target }];
            let target_backend = vec![pick(&["b", "b", "c"], c).to_string()];
            let ports = vec![BalancerPort { description: String::new(), protocol, listen_port: port, target_backend }];
            let balancer = Box::new(Balancer { listen, description, config, backends, ports, generation });
            NetworkCommand::PutBalancer { network, balancer, expect }
        }
        70 if d % 4 >= 2 => {
            let mut peers = state.networks.values().filter(|_| a % 4 != 0);
            let found = peers.find_map(|n| Some((n.id(), n.peers.keys().next()?.clone())));
            let (network, name) = found.unwrap_or((network, peer()));
            NetworkCommand::RemovePeer { network, name }
        }
        70 => NetworkCommand::PutPeer {
            network,
            peer: Box::new(Peer { name: peer(), description, config, target: other, generation }),
            expect,
        },
        71 if d % 4 == 3 => return Command::Acl(AclCommand::Rename { name: acl(a), to: acl(b).name }),
        72 if d % 4 == 3 => return Command::Acl(AclCommand::Remove(acl(a))),
        _ => {
            let rule = Rule {
                action: Action::Allow,
                state: RuleState::Enabled,
                description: String::new(),
                source: pick(&["", "10.0.0.0/8", "web", "db", "@net0/p", "@internal", "$office"], b).to_string(),
                destination: pick(&["", "10.3.0.2", "fd42::9"], c).to_string(),
                protocol: pick(&["", "", "tcp", "icmp4"], e).to_string(),
                source_port: String::new(),
                destination_port: pick(&["", "", "80"], e / 4).to_string(),
                icmp_type: String::new(),
                icmp_code: String::new(),
            };
            let InProject { project, name } = acl(a);
            let acl = Box::new(Acl { project, ingress: vec![rule], number: 77, generation, ..Acl::new(name) });
            return Command::Acl(AclCommand::Put { acl, expect });
        }
    })
}

fn set_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5]) -> AddressSetCommand {
    let name = |by: u8| owned(state, SetName::new(*pick(&["office", "home"], by)).unwrap(), e / 4);
    match kind {
        78 => {
            let address = |by: u8| pick(&["192.0.2.9", "2001:db8::/32", "x"], by).to_string();
            let InProject { project, name } = name(a);
            let mut set = AddressSet { project, number: 77, ..AddressSet::new(name) };
            set.addresses = [address(b), address(c)].into_iter().take(1 + usize::from(e % 4 == 3)).collect();
            let expect = if d % 2 == 0 { Expect::Absent } else { Expect::Present(expect(e)) };
            AddressSetCommand::Put { set: Box::new(set), expect }
        }
        _ => {
            // Mostly one that is there.
            let held = state.address_sets.keys().next().filter(|_| e % 4 != 0).cloned();
            let name = held.unwrap_or_else(|| name(a));
            let to = SetName::new(*pick(&["office", "home"], b)).unwrap();
            if d % 2 == 0 { AddressSetCommand::Rename { name, to } } else { AddressSetCommand::Remove(name) }
        }
    }
}

fn zone_command(state: &ClusterState, kind: u8, [a, b, c, d, e]: [u8; 5]) -> ZoneCommand {
    let name = |by: u8| ZoneName::new(*pick(&["lab", "lab", "dev.lab", "10.in-addr.arpa"], by)).unwrap();
    let expect = if d % 2 == 0 { Expect::Absent } else { Expect::Present(expect(e)) };
    let record = RecordName::new(*pick(&["@", "www"], b)).unwrap();
    match kind {
        74 => {
            let owner = if name(a).as_str() == "dev.lab" { "dev" } else { "default" };
            let mut zone = Zone::new(name(a), ProjectName::new(owner).unwrap());
            let (key, value) = *pick(&[("peers.ns.address", "192.0.2.1"), ("peers.ns.key", "x"), ("user.a", "b")], b);
            zone.config = device(&[(key, value)]);
            ZoneCommand::Put { zone: Box::new(zone), expect }
        }
        75 => ZoneCommand::Remove(name(a)),
        76 => {
            let entry = |by: u8| {
                let (kind, value) = *pick(&[("A", "192.0.2.9"), ("CNAME", "www"), ("TXT", "x"), ("A", "x")], by);
                Entry { kind: kind.into(), ttl: u32::from(by), value: value.into() }
            };
            let (description, config, generation) = (String::new(), BTreeMap::new(), Generation(9));
            let entries = [entry(c), entry(c / 4)].into_iter().take(1 + usize::from(b % 4 == 3)).collect();
            let record = Box::new(zone::Record { name: record, description, config, entries, generation });
            // Mostly of a zone that is there.
            let held = state.zones.keys().next().filter(|_| e % 4 != 0).cloned();
            ZoneCommand::PutRecord { zone: held.unwrap_or_else(|| name(a)), record, expect }
        }
        _ => {
            let first = |zone: &Zone| Some((zone.name.clone(), zone.records.keys().next()?.clone()));
            let held = state.zones.values().find_map(first).filter(|_| e % 4 != 0);
            let (zone, name) = held.unwrap_or_else(|| (name(a), record));
            ZoneCommand::RemoveRecord { zone, name }
        }
    }
}

fn encode(state: &ClusterState) -> Vec<u8> {
    rmp_serde::to_vec_named(state).unwrap()
}

/// A cluster with a member, a pool, a network and a default profile that uses both: most commands have a chance.
fn begun() -> ClusterState {
    let mut state = ClusterState::default();
    for op in [
        [0, 1, 1, 0, 0, 0],
        [48, 0, 2, 0, 0, 0],
        [45, 0, 0, 0, 0, 0],
        [40, 0, 0, 2, 0, 1],
        [1, 0, 1, 1, 0, 0],
        [62, 0, 0, 0, 0, 0],
        [63, 0, 0, 0, 0, 0],
    ] {
        let command = command(&state, op, 1);
        state.apply(&command).unwrap();
    }
    state
}

/// The same with an instance that is made, and a snapshot of it.
fn inhabited() -> ClusterState {
    let mut state = begun();
    let mut fresh = instance(&state, [0, 0, 0, 1, 2]);
    let (id, snapshot) = (fresh.id, SnapshotId(Uuid::from_u128(1)));
    fresh.run = Run::stopped();
    let report = Report {
        epoch: Epoch(1),
        generation: Generation(1),
        phase: Phase::Stopped,
        made: true,
        request: 0,
        reason: None,
        at: Timestamp(1),
    };
    let (name, at, expires_at) = (SnapshotName::new("s0").unwrap(), Timestamp(1), Timestamp::NEVER);
    for command in [
        Command::Instance(InstanceCommand::Create(Box::new(fresh))),
        Command::Instance(InstanceCommand::Place { id, node: NodeId(1), epoch: Epoch(1) }),
        Command::Instance(InstanceCommand::Report { id, report }),
        Command::Snapshot(SnapshotCommand::Create { instance: id, id: snapshot, name, at, expires_at }),
        Command::Snapshot(SnapshotCommand::Taken { instance: id, id: snapshot, epoch: Epoch(1), size: 1 }),
    ] {
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

/// The same with a project that has things of its own.
fn divided(feature: &str) -> ClusterState {
    let mut state = inhabited();
    let add = ProjectCommand::Add(Project {
        name: project(2),
        description: String::new(),
        config: device(&[(feature, "true")]),
        created_at: Timestamp(1),
        generation: Generation(1),
    });
    state.apply(&Command::Project(add)).unwrap();
    state
}

/// The same with a project that has images of its own: one that the default project has too, and one that it has not.
fn stocked() -> ClusterState {
    let mut state = divided("features.images");
    for [a, b] in [[0, 0], [1, 0], [5, 0], [6, 0]] {
        state.apply(&Command::Image(image_command(&state, 32, [a, b, b]))).unwrap();
    }
    let update = ProfileCommand::Update {
        project: project(2),
        name: profile(0),
        expect: None,
        description: String::new(),
        config: BTreeMap::new(),
        devices: devices(2),
    };
    state.apply(&Command::Profile(update)).unwrap();
    state
}

/// Images, what is made from them, and projects.
fn imaging() -> impl Strategy<Value = Op> {
    let rest = any::<[u8; 5]>();
    prop_oneof![(32u8..39, rest), (32u8..39, rest), (21u8..24, rest), (43u8..45, rest)]
        .prop_map(|(kind, [a, b, c, d, e])| [kind, a, b, c, d, e])
}

/// Profiles, projects, networks and what is beside them.
fn networking() -> impl Strategy<Value = Op> {
    let rest = any::<[u8; 5]>();
    prop_oneof![(21u8..26, rest), (39u8..48, rest), (62u8..74, rest), (63u8..71, rest), (74u8..80, rest)]
        .prop_map(|(kind, [a, b, c, d, e])| [kind, a, b, c, d, e])
}

/// Applies `ops` to two replicas and holds everything against them.
fn run(mut state: ClusterState, ops: &[Op]) -> Result<(), TestCaseError> {
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
        if verdict.is_err() {
            prop_assert_eq!(&after, &bytes, "refused, but changed: {:?}", command);
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
        run(inhabited(), &ops)?;
    }

    /// The same with the commands about networks only, of two projects.
    #[test]
    fn networks_of_projects_stay_whole(ops in prop::collection::vec(networking(), 1..150)) {
        run(divided("features.networks"), &ops)?;
    }

    /// The same with the commands about images, of two projects.
    #[test]
    fn images_of_projects_stay_whole(ops in prop::collection::vec(imaging(), 1..150)) {
        run(stocked(), &ops)?;
    }

    /// The same with the commands about members and instances only: deeper into their collisions.
    #[test]
    fn members_and_instances_stay_whole(ops in prop::collection::vec(
        prop_oneof![
            (21u8..32, any::<[u8; 5]>()), (21u8..32, any::<[u8; 5]>()), (51u8..60, any::<[u8; 5]>()), (3u8..15, any::<[u8; 5]>()), (32u8..43, any::<[u8; 5]>())
        ].prop_map(|(kind, [a, b, c, d, e])| [kind, a, b, c, d, e]), 1..200,
    )) {
        run(inhabited(), &ops)?;
    }
}

/// Each of them is made in the project now and then, too.
#[test]
fn projects_come_to_networks_of_their_own() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut made = BTreeMap::from([("network", 0), ("list", 0), ("set", 0), ("peer", 0)]);
    for _ in 0..500 {
        let ops = prop::collection::vec(networking(), 150).new_tree(&mut runner).unwrap().current();
        let mut state = divided("features.networks");
        for (now, op) in ops.iter().enumerate() {
            let command = command(&state, *op, now as u64 + 10);
            if state.apply(&command).is_err() {
                continue;
            }
            let (what, project) = match &command {
                Command::Network(NetworkCommand::Add(network)) => ("network", &network.project),
                Command::Network(NetworkCommand::PutPeer { network, .. }) => ("peer", &network.project),
                Command::Acl(AclCommand::Put { acl, .. }) => ("list", &acl.project),
                Command::AddressSet(AddressSetCommand::Put { set, .. }) => ("set", &set.project),
                _ => continue,
            };
            *made.entry(what).or_default() += u32::from(!project.is_default());
        }
    }
    assert!(made.values().all(|often| *often > 3), "{made:?}");
}

/// The same of images: of their own alone, of files that others have too, and carried to another name.
#[test]
fn projects_come_to_images_of_their_own() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut made = BTreeMap::from([("alone", 0), ("shared", 0), ("alias", 0), ("instance", 0), ("renamed", 0)]);
    for _ in 0..500 {
        let ops = prop::collection::vec(imaging(), 150).new_tree(&mut runner).unwrap().current();
        let mut state = stocked();
        for (now, op) in ops.iter().enumerate() {
            let command = command(&state, *op, now as u64 + 10);
            let before = state.clone();
            if state.apply(&command).is_err() {
                continue;
            }
            let own = |image: &Image| !image.project.is_default();
            let what = match &command {
                Command::Image(ImageCommand::Add(image)) if own(image) => {
                    if before.image_with(&image.fingerprint).is_some() { "shared" } else { "alone" }
                }
                Command::Image(ImageCommand::SetAlias { alias, .. }) if !alias.project.is_default() => "alias",
                Command::Instance(InstanceCommand::Create(instance)) => match &instance.spec.origin {
                    Origin::Image(_) if !state.image_project(&instance.project).is_default() => "instance",
                    _ => continue,
                },
                Command::Project(ProjectCommand::Rename { to, .. }) if state.images_of(to).next().is_some() => {
                    "renamed"
                }
                _ => continue,
            };
            *made.entry(what).or_default() += 1;
        }
    }
    assert!(made.values().all(|often| *often > 3), "{made:?}");
}

/// What a command is, without what it is about.
fn kind(command: &Command) -> String {
    let text = format!("{command:?}");
    text.split(|c: char| !c.is_alphanumeric()).take(2).collect::<Vec<_>>().join("::")
}

/// The generator is worth nothing if its commands are all refused.
#[test]
fn every_kind_of_command_is_accepted_now_and_then() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut accepted = BTreeSet::new();
    // All but Init, which is accepted once, before the run.
    let all = 93;
    for _ in 0..4000 {
        let ops = prop::collection::vec(any::<Op>(), 150).new_tree(&mut runner).unwrap().current();
        // What is to hold after each command is for the other tests to look at.
        let mut state = inhabited();
        for (now, op) in ops.iter().enumerate() {
            let command = command(&state, *op, now as u64 + 10);
            if state.apply(&command).is_ok() {
                accepted.insert(kind(&command));
            }
        }
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
