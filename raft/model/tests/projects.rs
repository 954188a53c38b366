//! Networks and profiles of projects, case by case: what a name means, what stays one in the cluster, what a project may
//! change.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::command::{
    AclCommand, AddressSetCommand, ClusterCommand, Expect, Init, InstanceCommand, NetworkCommand, PoolCommand,
    ProfileCommand, ProjectCommand, ZoneCommand,
};
use basalt_model::instance::{Instance, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::network::acl::{Acl, Action, Rule, RuleState};
use basalt_model::network::address_set::AddressSet;
use basalt_model::network::peer::{self, Peer};
use basalt_model::network::zone::Zone;
use basalt_model::network::{Network, NetworkKind, address, check, port};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::profile::Profile;
use basalt_model::project::Project;
use basalt_model::secrets::Secrets;
use basalt_model::{
    AclKey, AclName, ClusterState, Command, Epoch, Fingerprint, Generation, InstanceId, InstanceName, MemberName,
    NetworkKey, NetworkName, NodeId, PeerName, PoolName, ProfileName, ProjectName, Rejected, SetKey, SetName,
    Timestamp, ZoneName, invariant,
};
use uuid::Uuid;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn project(name: &str) -> ProjectName {
    ProjectName::new(name).unwrap()
}

fn key(text: &str) -> NetworkKey {
    NetworkKey::try_from(text.to_owned()).unwrap()
}

fn acl(text: &str) -> AclKey {
    AclKey::try_from(text.to_owned()).unwrap()
}

fn set(text: &str) -> SetKey {
    SetKey::try_from(text.to_owned()).unwrap()
}

/// A member, a pool, the uplink `up0`, and three projects: `own` and `other` have networks of their own, `plain` none.
struct World(ClusterState);

impl World {
    fn new() -> Self {
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
            groups: BTreeSet::new(),
            roles: BTreeSet::new(),
            config: BTreeMap::new(),
            announced: Announcement { feature_level: 2, ..Announcement::default() },
        };
        let cluster_id = Uuid::from_u128(7);
        let init = Init { cluster_id, secrets: Secrets::default(), member, at: Timestamp(1) };
        let mut world = World(ClusterState::default());
        world.ok(Command::Cluster(ClusterCommand::Init(Box::new(init))));
        let northbound = [(check::NORTHBOUND.to_owned(), Some("unix:/nb".to_owned()))].into();
        world.ok(Command::Cluster(ClusterCommand::SetConfig { set: northbound, expect: None }));
        world.ok(Command::Pool(PoolCommand::Add(Pool {
            name: PoolName::new("local").unwrap(),
            kind: PoolKind::Dir,
            description: String::new(),
            config: BTreeMap::new(),
            member_config: BTreeMap::new(),
            status: BTreeMap::new(),
            generation: Generation(1),
        })));
        for (name, feature) in [("own", "true"), ("other", "1"), ("plain", "false")] {
            world.ok(add_project(name, &[("features.networks", feature)]));
        }
        let up = [("parent", "eth1"), ("ipv4.gateway", "192.0.2.1/24"), ("ipv4.ovn.ranges", "192.0.2.10-192.0.2.20")];
        world.ok(add("up0", NetworkKind::Physical, &up));
        world
    }

    fn ok(&mut self, command: Command) {
        self.0.apply(&command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert_eq!(invariant::check(&self.0), Vec::<String>::new(), "after {command:?}");
    }

    /// What a refusal says; it must leave no trace.
    fn refused(&mut self, command: Command) -> String {
        let before = self.0.clone();
        let why = self.0.apply(&command).expect_err(&format!("{command:?}"));
        assert_eq!(self.0, before, "{command:?}");
        why.to_string()
    }

    /// A logical network in its own subnet, isolated.
    fn logical(&mut self, id: &str, subnet: u8) {
        self.ok(isolated(id, subnet));
    }

    fn instance(&mut self, project: &str, name: &str, nic: &[(&str, &str)]) {
        let id = InstanceId(Uuid::from_u128(100 + self.0.instances.len() as u128));
        self.ok(create(id, project, name, nic));
        self.ok(Command::Instance(InstanceCommand::Place { id, node: NodeId(1), epoch: Epoch(1) }));
    }

    /// Gives out what the leader would.
    fn settle(&mut self) {
        for command in address::wanted(&self.0) {
            self.ok(Command::Network(command));
        }
        assert_eq!(address::wanted(&self.0), []);
    }
}

fn add_project(name: &str, config: &[(&str, &str)]) -> Command {
    Command::Project(ProjectCommand::Add(Project {
        name: project(name),
        description: String::new(),
        config: map(config),
        created_at: Timestamp(1),
        generation: Generation(1),
    }))
}

fn update_project(name: &str, config: &[(&str, &str)]) -> Command {
    let (name, config) = (project(name), map(config));
    Command::Project(ProjectCommand::Update { name, expect: None, description: String::new(), config })
}

fn add(id: &str, kind: NetworkKind, config: &[(&str, &str)]) -> Command {
    let NetworkKey { project, name } = key(id);
    Command::Network(NetworkCommand::Add(Network { project, config: map(config), ..Network::new(name, kind) }))
}

fn isolated(id: &str, subnet: u8) -> Command {
    let address = format!("10.{subnet}.0.1/24");
    add(id, NetworkKind::Ovn, &[("network", "none"), ("ipv4.address", &address)])
}

fn remove(id: &str) -> Command {
    Command::Network(NetworkCommand::Remove(key(id)))
}

fn create(id: InstanceId, of: &str, name: &str, nic: &[(&str, &str)]) -> Command {
    let nic = map(&[&[("type", "nic")], nic].concat());
    let root = map(&[("type", "disk"), ("path", "/"), ("pool", "local")]);
    Command::Instance(InstanceCommand::Create(Box::new(Instance {
        id,
        project: project(of),
        name: InstanceName::new(name).unwrap(),
        created_at: Timestamp(1),
        last_used_at: Timestamp(0),
        generation: Generation(1),
        spec: Spec {
            kind: Kind::Container,
            architecture: "x86_64".into(),
            origin: Origin::Empty,
            description: String::new(),
            ephemeral: false,
            config: BTreeMap::new(),
            devices: [("root".to_owned(), root), ("eth0".to_owned(), nic)].into(),
            profiles: vec![ProfileName::default_profile()],
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
    })))
}

fn profile(of: &str, nic: &[(&str, &str)]) -> Command {
    Command::Profile(ProfileCommand::Update {
        project: project(of),
        name: ProfileName::default_profile(),
        expect: None,
        description: String::new(),
        config: BTreeMap::new(),
        devices: [("eth0".to_owned(), map(&[&[("type", "nic")], nic].concat()))].into(),
    })
}

fn put_acl(id: &str, source: &str) -> Command {
    let none = String::new;
    let rule = Rule {
        action: Action::Allow,
        state: RuleState::Enabled,
        description: none(),
        source: source.into(),
        destination: none(),
        protocol: none(),
        source_port: none(),
        destination_port: none(),
        icmp_type: none(),
        icmp_code: none(),
    };
    let AclKey { project, name } = acl(id);
    let acl = Acl { project, ingress: vec![rule], ..Acl::new(name) };
    Command::Acl(AclCommand::Put { acl: Box::new(acl), expect: Expect::Absent })
}

fn put_set(id: &str) -> Command {
    let SetKey { project, name } = set(id);
    let set = AddressSet { project, addresses: vec!["192.0.2.9".into()], ..AddressSet::new(name) };
    Command::AddressSet(AddressSetCommand::Put { set: Box::new(set), expect: Expect::Absent })
}

fn put_peer(network: &str, target: &str) -> Command {
    let peer = Peer {
        name: PeerName::new("p").unwrap(),
        description: String::new(),
        config: BTreeMap::new(),
        target: key(target),
        generation: Generation(1),
    };
    let (network, peer) = (key(network), Box::new(peer));
    Command::Network(NetworkCommand::PutPeer { network, peer, expect: Expect::Absent })
}

#[test]
fn one_name_means_another_network_in_each_project() {
    let mut world = World::new();
    for (id, subnet) in [("lan0", 1), ("own/lan0", 2), ("other/lan0", 3)] {
        world.logical(id, subnet);
    }
    for of in ["default", "own", "other", "plain"] {
        world.instance(of, "c1", &[("network", "lan0")]);
    }
    world.settle();
    let found: Vec<(String, String, String)> = (world.0.instances.values())
        .flat_map(|i| port::of(&world.0, i))
        .map(|p| {
            let ip = p.address.and_then(|held| held.ipv4).unwrap();
            (p.instance.project.to_string(), p.network.id().to_string(), ip.to_string())
        })
        .collect();
    let expected = [
        ("default", "lan0", "10.1.0.2"),
        ("own", "own/lan0", "10.2.0.2"),
        ("other", "other/lan0", "10.3.0.2"),
        ("plain", "lan0", "10.1.0.3"),
    ];
    assert_eq!(found, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    assert_eq!(world.0.network_users(&key("own/lan0")), ["/1.0/instances/c1?project=own"]);
    assert_eq!(world.0.network_users(&key("lan0")), ["/1.0/instances/c1", "/1.0/instances/c1?project=plain"]);
    assert!(world.refused(remove("own/lan0")).contains("/1.0/instances/c1?project=own"));
    world.logical("other/wan0", 4);
    world.ok(Command::Network(NetworkCommand::Rename {
        name: key("other/wan0"),
        to: NetworkName::new("man0").unwrap(),
    }));
    world.ok(remove("other/man0"));
    // What is only in another project is not there.
    let id = InstanceId(Uuid::from_u128(99));
    assert_eq!(world.refused(create(id, "own", "c2", &[("network", "up0")])), "network not found: up0");
}

#[test]
fn only_logical_networks_are_of_projects() {
    let mut world = World::new();
    let bridge = world.refused(add("own/br0", NetworkKind::Bridge, &[("ipv4.address", "10.9.0.1/24")]));
    assert!(bridge.starts_with("type: ") && bridge.contains("bridge") && bridge.contains("\"own\""), "{bridge}");
    let uplink = world.refused(add("own/up1", NetworkKind::Physical, &[("parent", "eth2")]));
    assert!(uplink.starts_with("type: "), "{uplink}");
    assert!(world.refused(isolated("plain/lan0", 1)).contains("features.networks is not set"));
    assert_eq!(world.refused(isolated("nowhere/lan0", 1)), "project not found: nowhere");
    assert!(world.refused(put_acl("plain/web", "")).contains("features.networks is not set"));
    assert!(world.refused(put_set("plain/office")).contains("features.networks is not set"));
}

#[test]
fn uplinks_and_what_is_unique_are_the_clusters() {
    let mut world = World::new();
    let behind = |subnet: &str| [("network", "up0"), ("ipv4.address", subnet)].map(|(k, v)| (k, v.to_owned()));
    for (id, subnet) in [("own/lan0", "10.1.0.1/24"), ("other/lan0", "10.2.0.1/24"), ("lan0", "10.3.0.1/24")] {
        let config = behind(subnet);
        world.ok(add(id, NetworkKind::Ovn, &config.each_ref().map(|(k, v)| (*k, v.as_str()))));
    }
    world.settle();
    let routers: BTreeSet<_> = world.0.networks.values().filter_map(|n| n.router.ipv4).collect();
    let numbers: BTreeSet<_> = world.0.networks.values().map(|n| n.number).collect();
    assert_eq!((routers.len(), numbers.len()), (3, 4));
    assert_eq!(
        world.0.network_users(&key("up0")),
        ["/1.0/networks/lan0", "/1.0/networks/lan0?project=other", "/1.0/networks/lan0?project=own"]
    );
    // Who has it is said to those who run the cluster, and to nobody else.
    let taken = world.refused(isolated("own/lan1", 2));
    assert_eq!(taken, "ipv4.address: 10.2.0.0/24 overlaps 10.2.0.0/24 of a network of another project");
    let taken = world.refused(isolated("lan1", 2));
    assert_eq!(taken, "ipv4.address: 10.2.0.0/24 overlaps 10.2.0.0/24 of network lan0 of project other");
    // A network of the project itself is no way out, whatever it is called.
    let through = [("network", "lan0"), ("ipv4.address", "10.4.0.1/24")];
    assert!(world.refused(add("own/lan2", NetworkKind::Ovn, &through)).contains("an uplink is of type physical"));
}

#[test]
fn lists_and_sets_are_looked_for_beside_the_network() {
    let mut world = World::new();
    world.logical("own/lan0", 1);
    assert!(world.refused(put_acl("own/web", "$office")).contains("there is no network address set office"));
    world.ok(put_set("office"));
    assert!(world.refused(put_acl("own/web", "$office")).contains("there is no network address set office"));
    world.ok(put_set("own/office"));
    world.ok(put_acl("own/web", "$office"));
    world.ok(put_acl("own/db", "web"));
    assert!(world.refused(put_acl("web", "db")).contains("there is no network ACL db"));
    world.ok(put_acl("web", ""));
    assert_ne!(world.0.acls.get(&acl("web")).unwrap().number, world.0.acls.get(&acl("own/web")).unwrap().number);
    world.instance("own", "c1", &[("network", "lan0"), ("security.acls", "db")]);
    let users = world.0.acl_users(&acl("own/db"));
    assert_eq!(users, ["/1.0/instances/c1?project=own"]);
    assert_eq!(world.0.acl_users(&acl("own/web")), ["/1.0/network-acls/db?project=own"]);
    assert_eq!(world.0.acl_users(&acl("web")), [""; 0]);
    assert_eq!(world.0.address_set_users(&set("own/office")), ["/1.0/network-acls/web?project=own"]);
    world.ok(Command::AddressSet(AddressSetCommand::Remove(set("office"))));
    world.ok(Command::Acl(AclCommand::Rename { name: acl("web"), to: AclName::new("www").unwrap() }));
    let rename = AddressSetCommand::Rename { name: set("own/office"), to: SetName::new("home").unwrap() };
    assert!(world.refused(Command::AddressSet(rename)).contains("is used by"));
}

#[test]
fn networks_of_two_projects_can_be_joined() {
    let mut world = World::new();
    world.logical("own/lan0", 1);
    world.logical("other/lan0", 2);
    world.ok(put_peer("own/lan0", "other/lan0"));
    let joined = |world: &World, id: &str| {
        let network = world.0.networks.get(&key(id)).unwrap();
        network.peers.values().find_map(|p| peer::joined(&world.0, network, p)).map(|n| n.id().to_string())
    };
    assert_eq!(joined(&world, "own/lan0"), None);
    world.ok(put_peer("other/lan0", "own/lan0"));
    assert_eq!(joined(&world, "own/lan0").as_deref(), Some("other/lan0"));
    assert_eq!(joined(&world, "other/lan0").as_deref(), Some("own/lan0"));
    let used = world.refused(remove("other/lan0"));
    assert_eq!(used, "network lan0 is the target of peer p of a network of another project");
    world.ok(put_acl("own/web", "@lan0/p"));
    let (network, name) = (key("own/lan0"), PeerName::new("p").unwrap());
    let unjoin = Command::Network(NetworkCommand::RemovePeer { network, name });
    assert!(world.refused(unjoin.clone()).contains("/1.0/network-acls/web?project=own"));
    world.ok(Command::Acl(AclCommand::Remove(acl("own/web"))));
    world.ok(unjoin);
    world.ok(remove("other/lan0"));
}

#[test]
fn whose_networks_a_project_has_is_fixed_once_it_holds_anything() {
    let mut world = World::new();
    let cases: [(Command, Command, &str); 3] = [
        (isolated("own/lan0", 1), remove("own/lan0"), "network lan0"),
        (put_acl("own/web", ""), Command::Acl(AclCommand::Remove(acl("own/web"))), "network ACL web"),
        (
            put_set("own/office"),
            Command::AddressSet(AddressSetCommand::Remove(set("own/office"))),
            "network address set office",
        ),
    ];
    for (make, unmake, what) in cases {
        world.ok(make);
        let why = world.refused(update_project("own", &[]));
        assert_eq!(why, format!("features.networks cannot be changed: the project has {what}"));
        for command in [
            ProjectCommand::Remove(project("own")),
            ProjectCommand::Rename { name: project("own"), to: project("new") },
        ] {
            assert_eq!(world.refused(Command::Project(command)), "only empty projects can be renamed or removed");
        }
        // All but that may change, and the same word for yes is none.
        world.ok(update_project("own", &[("features.networks", "yes"), ("user.a", "b")]));
        world.ok(unmake);
    }
    world.logical("lan0", 1);
    world.ok(profile("plain", &[("network", "lan0")]));
    let why = world.refused(update_project("plain", &[("features.networks", "true")]));
    assert!(why.starts_with("features.networks cannot be changed for profile default: "), "{why}");
    world.ok(update_project("own", &[]));
    world.instance("own", "c1", &[("network", "lan0")]);
    let why = world.refused(update_project("own", &[("features.networks", "true")]));
    assert_eq!(why, "features.networks cannot be changed: the project has instance c1");
}

#[test]
fn limits_and_uplinks_of_restricted_projects() {
    let mut world = World::new();
    world.ok(update_project("own", &[("features.networks", "true"), ("limits.networks", "1")]));
    world.logical("lan0", 1);
    world.logical("own/lan0", 2);
    assert!(world.refused(isolated("own/lan1", 3)).starts_with("limits.networks: "));
    let restricted = [("features.networks", "true"), ("restricted", "true")];
    world.ok(update_project("other", &restricted));
    let out = [("network", "up0"), ("ipv4.address", "10.4.0.1/24")];
    let why = world.refused(add("other/lan0", NetworkKind::Ovn, &out));
    assert!(why.starts_with("restricted.networks.uplinks: ") && why.contains("up0"), "{why}");
    world.logical("other/lan0", 4);
    let update = |config: &[(&str, &str)]| {
        let (name, config) = (key("other/lan0"), map(config));
        Command::Network(NetworkCommand::Update { name, expect: None, description: String::new(), config })
    };
    assert!(world.refused(update(&out)).starts_with("restricted.networks.uplinks: "));
    let open = [&restricted[..], &[("restricted.networks.uplinks", "wan, up0")]].concat();
    world.ok(update_project("other", &open));
    world.ok(update(&out));
    assert!(world.refused(update_project("other", &restricted)).starts_with("restricted.networks.uplinks: "));
}

#[test]
fn zones_of_others_tell_of_no_network_of_a_project() {
    let mut world = World::new();
    let zone = |name: &str, of: &str| {
        let zone = Box::new(Zone::new(ZoneName::new(name).unwrap(), project(of)));
        Command::Zone(ZoneCommand::Put { zone, expect: Expect::Absent })
    };
    let zoned = [("features.networks", "true"), ("features.networks.zones", "true")];
    world.ok(update_project("other", &zoned));
    world.ok(zone("shared.example", "default"));
    world.ok(zone("other.example", "other"));
    let named = |id: &str, zone: &str| {
        let config = [("network", "none"), ("ipv4.address", "10.1.0.1/24"), ("dns.zone.forward", zone)];
        add(id, NetworkKind::Ovn, &config)
    };
    for (id, wrong) in [("own/lan0", "other.example"), ("other/lan0", "shared.example")] {
        assert!(world.refused(named(id, wrong)).contains("there is no network zone"), "{id}");
    }
    world.ok(named("own/lan0", "shared.example"));
    let why = world.refused(update_project("own", &zoned));
    assert!(why.contains("network lan0") && why.contains("shared.example"), "{why}");
}

#[test]
fn members_of_level_1_know_nothing_of_it() {
    let levels = |command: &Command| command.feature_level();
    assert_eq!(levels(&isolated("own/lan0", 1)), 2);
    assert_eq!(levels(&remove("own/lan0")), 2);
    assert_eq!(levels(&remove("lan0")), 1);
    assert_eq!(levels(&add_project("own", &[("features.networks", "true")])), 2);
    assert_eq!(levels(&add_project("own", &[])), 1);
    let mut old = ClusterState { feature_level: 1, ..ClusterState::default() };
    let refused = old.apply(&remove("own/lan0"));
    assert_eq!(refused, Err(Rejected::FeatureLevel { needs: 2, at: 1 }));
}

/// A profile with a root disk and a limit.
fn sized(of: &str, name: &str, memory: &str) -> Profile {
    let root = map(&[("type", "disk"), ("path", "/"), ("pool", "local")]);
    Profile {
        project: project(of),
        name: ProfileName::new(name).unwrap(),
        description: String::new(),
        config: map(&[("limits.memory", memory)]),
        devices: [("root".to_owned(), root)].into(),
        generation: Generation(1),
    }
}

fn update_profile(Profile { project, name, description, config, devices, .. }: Profile) -> Command {
    Command::Profile(ProfileCommand::Update { project, name, expect: None, description, config, devices })
}

#[test]
fn a_project_without_profiles_uses_those_of_the_default_project() {
    let mut world = World::new();
    world.ok(Command::Profile(ProfileCommand::Add(sized("default", "web", "1GiB"))));
    let bounded = [("features.profiles", "false"), ("limits.memory", "2GiB")];
    world.ok(add_project("guest", &bounded));
    assert!(!world.0.profiles.keys().any(|(of, _)| *of == project("guest")), "it has none of its own");
    let own = Command::Profile(ProfileCommand::Add(sized("guest", "web", "1GiB")));
    assert!(world.refused(own).contains("features.profiles is false"));
    let id = InstanceId(Uuid::from_u128(1));
    let Command::Instance(InstanceCommand::Create(mut made)) = create(id, "guest", "c1", &[]) else { unreachable!() };
    made.spec.devices.clear();
    made.spec.profiles = vec![ProfileName::new("web").unwrap()];
    world.ok(Command::Instance(InstanceCommand::Create(made)));
    let instance = world.0.instances.get(&id).unwrap().clone();
    let memory = |world: &World| world.0.expanded_config(&instance.project, &instance.spec)["limits.memory"].clone();
    assert_eq!(memory(&world), "1GiB");
    // What is done to the profile is done to its users elsewhere, with all that binds them.
    world.ok(update_profile(sized("default", "web", "2GiB")));
    assert_eq!(memory(&world), "2GiB");
    let why = world.refused(update_profile(sized("default", "web", "3GiB")));
    assert!(why.contains("\"guest\" is limited to 2048MiB"), "{why}");
    let bare = Profile { devices: Default::default(), ..sized("default", "web", "1GiB") };
    assert!(world.refused(update_profile(bare)).contains("no root disk"));
    let (of, name, to) = (project("default"), ProfileName::new("web").unwrap(), ProfileName::new("shop").unwrap());
    let remove = |name: &ProfileName| ProfileCommand::Remove { project: of.clone(), name: name.clone() };
    assert!(world.refused(Command::Profile(remove(&name))).contains("used by instance c1"));
    let rename = ProfileCommand::Rename { project: of.clone(), name: name.clone(), to: to.clone() };
    world.ok(Command::Profile(rename));
    assert_eq!(world.0.instances.get(&id).unwrap().spec.profiles, std::slice::from_ref(&to));
    // A restricted project answers for what it uses.
    let mut privileged = Profile { name: to, ..sized("default", "web", "1GiB") };
    privileged.config.insert("security.privileged".into(), "true".into());
    world.ok(update_profile(privileged));
    let strict = [("features.profiles", "false"), ("restricted", "true")];
    let why = world.refused(update_project("guest", &strict));
    assert!(why.starts_with("restricted.containers.privilege: ") && why.contains("profile \"shop\""), "{why}");
}

#[test]
fn whose_profiles_count_is_changed_only_where_nothing_is_lost() {
    let mut world = World::new();
    let (yes, no) = ([("features.profiles", "true")], [("features.profiles", "false")]);
    let held = |world: &World| world.0.profiles.keys().filter(|(of, _)| *of == project("guest")).count();
    world.ok(add_project("guest", &no));
    world.ok(update_project("guest", &yes));
    assert_eq!(held(&world), 1, "the default profile");
    world.ok(update_project("guest", &no));
    assert_eq!(held(&world), 0);
    world.ok(update_project("guest", &[]));
    world.ok(update_profile(sized("guest", "default", "1GiB")));
    assert!(world.refused(update_project("guest", &no)).contains("default profile that is not empty"));
    let empty = Profile { config: BTreeMap::new(), devices: Default::default(), ..sized("guest", "default", "1GiB") };
    world.ok(update_profile(empty));
    world.ok(Command::Profile(ProfileCommand::Add(sized("guest", "web", "1GiB"))));
    assert!(world.refused(update_project("guest", &no)).contains("profile web"));
    let (of, name) = (project("guest"), ProfileName::new("web").unwrap());
    world.ok(Command::Profile(ProfileCommand::Remove { project: of, name }));
    world.logical("lan0", 1);
    world.instance("guest", "c1", &[("network", "lan0")]);
    assert!(world.refused(update_project("guest", &no)).contains("instance c1"));
}
