use basalt_model::instance::{Instance, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::network::acl::{Acl, Action, Rule, RuleState};
use basalt_model::network::{NicAddress, peer::Peer};
use basalt_model::project::Project;
use basalt_model::{
    AclName, Generation, InstanceId, InstanceName, NetworkKey, NetworkName, NodeId, PeerName, ProjectName, Timestamp,
};
use uuid::Uuid;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn network(name: &str, kind: NetworkKind, number: u32, config: &[(&str, &str)]) -> model::Network {
    let name = NetworkName::new(name).unwrap();
    model::Network { number, config: map(config), ..model::Network::new(name, kind) }
}

/// Network `net0` behind `up0`, and on it one instance with two external routes.
fn state(uplink: &[(&str, &str)], logical: &[(&str, &str)]) -> ClusterState {
    let mut state = ClusterState::default();
    let up = network(
        "up0",
        NetworkKind::Physical,
        1,
        &[&[("parent", "eth1"), ("ipv4.gateway", "192.0.2.1/24")], uplink].concat(),
    );
    let addresses = [("network", "up0"), ("ipv4.address", "10.3.0.1/24"), ("ipv6.address", "fd42:3::1/64")];
    let net = network("net0", NetworkKind::Ovn, 2, &[&addresses, logical].concat());
    for network in [up, net] {
        state.networks.insert(network.id(), network);
    }
    let nic = [
        ("type", "nic"),
        ("network", "net0"),
        ("hwaddr", "00:16:3e:00:00:01"),
        ("ipv4.routes", "10.99.0.0/24"),
        ("ipv4.routes.external", "198.51.100.4/31"),
        ("ipv6.routes.external", "2001:db8::8/128"),
    ];
    let id = InstanceId(Uuid::from_u128(5));
    let instance = Instance {
        id,
        project: ProjectName::default_project(),
        name: InstanceName::new("c1").unwrap(),
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
            devices: BTreeMap::from([("eth0".to_owned(), map(&nic))]),
            profiles: Vec::new(),
        },
        target: Target::Any,
        run: Run::stopped(),
        placement: Placement::On { node: NodeId(1), epoch: basalt_model::Epoch(1) },
        report: None,
        errands: Default::default(),
    };
    state.instances.insert(id, instance);
    let held = NicAddress {
        network: NetworkKey::in_default(NetworkName::new("net0").unwrap()),
        ipv4: Some([10, 3, 0, 2].into()),
        ipv6: Some("fd42:3::2".parse().unwrap()),
    };
    state.addresses.insert((id, "eth0".to_owned()), held);
    state
}

/// The addresses that the router answers for.
fn proxied(state: &ClusterState) -> Vec<String> {
    let facts = read(state);
    let [net] = &facts.networks[..] else { panic!("{facts:?}") };
    net.ports[0].proxied.iter().map(ToString::to_string).collect()
}

const EXTERNAL: [&str; 3] = ["198.51.100.4", "198.51.100.5", "2001:db8::8"];

#[test]
fn a_router_answers_for_what_no_nat_hides() {
    let bare = state(&[], &[]);
    assert_eq!(proxied(&bare), ["10.3.0.2", EXTERNAL[0], EXTERNAL[1], EXTERNAL[2], "fd42:3::2"]);
    let hidden = state(&[("ovn.ingress_mode", "l2proxy")], &[("ipv4.nat", "true"), ("ipv6.nat", "true")]);
    assert_eq!(proxied(&hidden), EXTERNAL, "what is routed from outside is hidden by nothing");
    let half = state(&[], &[("ipv4.nat", "true")]);
    assert_eq!(proxied(&half), [EXTERNAL[0], EXTERNAL[1], EXTERNAL[2], "fd42:3::2"]);
}

#[test]
fn where_all_is_routed_it_answers_for_nothing() {
    assert_eq!(proxied(&state(&[("ovn.ingress_mode", "routed")], &[])), [""; 0]);
    let mut alone = state(&[], &[]);
    let net = network("net0", NetworkKind::Ovn, 2, &[("network", "none"), ("ipv4.address", "10.3.0.1/24")]);
    alone.networks.insert(net.id(), net);
    assert_eq!(proxied(&alone), [""; 0]);
}

/// The same once more in a project that has networks of its own, and both joined; in each project is a list `web` about
/// the other side of the peering.
fn twice() -> ClusterState {
    let mut state = state(&[], &[]);
    let own = ProjectName::new("own").unwrap();
    let config = map(&[("features.networks", "true")]);
    let (created_at, generation) = (Timestamp(1), Generation(1));
    let project = Project { name: own.clone(), description: String::new(), config, created_at, generation };
    state.projects.insert(own.clone(), project);
    let first = state.networks.get(&NetworkKey::in_default(NetworkName::new("net0").unwrap())).unwrap().clone();
    let mut second = model::Network { project: own.clone(), number: 3, ..first.clone() };
    second.config.insert("ipv4.address".into(), "10.4.0.1/24".into());
    second.config.insert("ipv6.address".into(), "none".into());
    let peer = |target: &model::Network| Peer {
        name: PeerName::new("p").unwrap(),
        description: String::new(),
        config: BTreeMap::new(),
        target: target.id(),
        generation,
    };
    for (network, other) in [(&first, &second), (&second, &first)] {
        let peers = [(PeerName::new("p").unwrap(), peer(other))].into();
        state.networks.insert(network.id(), model::Network { peers, ..network.clone() });
    }
    let id = InstanceId(Uuid::from_u128(6));
    let mut instance = state.instances.values().next().unwrap().clone();
    let nic = [("type", "nic"), ("network", "net0"), ("hwaddr", "00:16:3e:00:00:02"), ("security.acls", "web")];
    (instance.id, instance.project) = (id, own.clone());
    instance.spec.devices.insert("eth0".into(), map(&nic));
    state.instances.insert(id, instance);
    let held = NicAddress { network: second.id(), ipv4: Some([10, 4, 0, 2].into()), ipv6: None };
    state.addresses.insert((id, "eth0".to_owned()), held);
    for (project, number) in [(ProjectName::default_project(), 1), (own, 2)] {
        let none = String::new();
        let rule = Rule {
            action: Action::Allow,
            state: RuleState::Enabled,
            description: none.clone(),
            source: "@net0/p,web".into(),
            destination: none.clone(),
            protocol: none.clone(),
            source_port: none.clone(),
            destination_port: none.clone(),
            icmp_type: none.clone(),
            icmp_code: none,
        };
        let acl = Acl { project, number, ingress: vec![rule], ..Acl::new(AclName::new("web").unwrap()) };
        state.acls.insert(acl.id(), acl);
    }
    state
}

#[test]
fn networks_of_one_name_in_two_projects_are_two() {
    let facts = read(&twice());
    let [first, second] = &facts.networks[..] else { panic!("{facts:?}") };
    assert_eq!((first.name.to_string(), second.name.to_string()), ("net0".into(), "own/net0".into()));
    for (net, port, other) in [(first, "10.3.0.2", second), (second, "10.4.0.2", first)] {
        let ports: Vec<String> = net.ports.iter().filter_map(|port| port.ipv4).map(|ip| ip.to_string()).collect();
        assert_eq!(ports, [port]);
        let joined: Vec<u32> = net.peers.iter().map(|joined| joined.number).collect();
        assert_eq!(joined, [other.number]);
    }
    let rows = crate::topology::rows(Uuid::from_u128(1), &facts);
    let rules: Vec<String> = rows
        .iter()
        .filter(|(id, _)| id.table == crate::nb::Table::Acl)
        .map(|(_, row)| format!("{:?}", row.value("match")))
        .filter(|text| text.contains("basalt_acl"))
        .collect();
    assert!(!rules.is_empty() && rules.iter().all(|text| !text.contains("basalt_acl1_")), "{rules:?}");
    let joined =
        rules.iter().any(|text| text.contains("$basalt_acl2_net3_ip4") && text.contains("$basalt_net2_routes_ip4"));
    assert!(joined, "{rules:?}");
}
