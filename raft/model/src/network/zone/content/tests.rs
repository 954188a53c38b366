use serde_json::json;

use super::super::entry::Entry;
use super::super::{FEATURE, FORWARD, REVERSE4, REVERSE6, Record};
use super::*;
use crate::network::NicAddress;
use crate::{Generation, InstanceId, NetworkName, RecordName};

const LAB: &str = "lab.example";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn network(state: &mut ClusterState, name: &str, kind: NetworkKind, pairs: &[(&str, &str)]) {
    let name = NetworkName::new(name).unwrap();
    let network = Network { config: map(pairs), ..Network::new(name, kind) };
    state.networks.insert(network.id(), network);
}

fn zone(state: &mut ClusterState, name: &str, project: &str, pairs: &[(&str, &str)]) {
    let (name, project) = (ZoneName::new(name).unwrap(), ProjectName::new(project).unwrap());
    state.zones.insert(name.clone(), Zone { config: map(pairs), ..Zone::new(name, project) });
}

fn record(state: &mut ClusterState, name: &str, entries: &[(&str, u32, &str)]) {
    let mut zone = state.zones.get(&ZoneName::new(LAB).unwrap()).unwrap().clone();
    let entry =
        |(kind, ttl, value): &(&str, u32, &str)| Entry { kind: (*kind).into(), ttl: *ttl, value: (*value).into() };
    let name = RecordName::new(name).unwrap();
    let (description, config, generation) = (String::new(), BTreeMap::new(), Generation(1));
    let entries = entries.iter().map(entry).collect();
    zone.records.insert(name.clone(), Record { name, description, config, entries, generation });
    state.zones.insert(zone.name.clone(), zone);
}

/// An instance with one interface; on a logical network it has the address.
fn instance(state: &mut ClusterState, name: &str, project: &str, nic: &[(&str, &str)], address: Option<&str>) {
    let id = InstanceId(uuid::Uuid::from_u128(state.instances.len() as u128 + 1));
    let mut device = map(&[("type", "nic")]);
    device.extend(map(nic));
    let instance: Instance = serde_json::from_value(json!({
        "id": id, "project": project, "name": name, "created_at": 1, "last_used_at": 0, "generation": 1,
        "spec": {"kind": "container", "architecture": "x86_64", "origin": "Empty", "description": "",
            "ephemeral": false, "config": {"volatile.eth0.hwaddr": "00:16:3e:00:00:01"}, "devices": {"eth0": device},
            "profiles": []},
        "target": "Any", "run": {"intent": "Stopped", "request": 1, "start": 0, "stop": {"force": false, "timeout_secs": null}},
        "placement": {"On": {"node": 1, "epoch": 1}}, "report": null
    }))
    .unwrap();
    if let Some(ip) = address {
        let network = NetworkName::new(nic.iter().find(|(k, _)| *k == "network").unwrap().1).unwrap();
        let network = NetworkKey::in_default(network);
        let address = NicAddress { network, ipv4: Some(ip.parse().unwrap()), ipv6: Some("fd42::5".parse().unwrap()) };
        state.addresses.insert((id, "eth0".into()), address);
    }
    state.instances.insert(id, instance);
}

fn shown(state: &ClusterState, name: &str, seen: &Seen) -> Vec<String> {
    let zone = state.zones.get(&ZoneName::new(name).unwrap()).unwrap();
    content(state, zone, seen).into_iter().map(|rr| format!("{} {} {:?}", rr.name, rr.ttl, rr.data)).collect()
}

/// Two networks, a project with zones of its own, and an instance of each kind.
fn lab() -> ClusterState {
    let mut state = ClusterState::default();
    for (name, zones) in [("default", "false"), ("dev", "true"), ("plain", "false")] {
        let project =
            json!({"name": name, "description": "", "config": {FEATURE: zones}, "created_at": 1, "generation": 1});
        state.projects.insert(ProjectName::new(name).unwrap(), serde_json::from_value(project).unwrap());
    }
    zone(&mut state, LAB, "default", &[("dns.nameservers", "NS1.example.org.")]);
    zone(&mut state, "dev.example", "dev", &[]);
    zone(&mut state, "10.in-addr.arpa", "default", &[]);
    zone(&mut state, "d.f.ip6.arpa", "default", &[]);
    let named = [(FORWARD, "lab.example, dev.example"), (REVERSE4, "10.in-addr.arpa"), (REVERSE6, "d.f.ip6.arpa")];
    let with = |own: &[(&'static str, &'static str)]| [&named[..], own].concat();
    network(
        &mut state,
        "net0",
        NetworkKind::Ovn,
        &with(&[("ipv4.address", "10.3.0.1/24"), ("ipv4.nat", "true"), ("ipv6.address", "fd42::1/64")]),
    );
    network(
        &mut state,
        "br0",
        NetworkKind::Bridge,
        &with(&[("ipv4.address", "10.4.0.1/24"), ("ipv6.address", "none")]),
    );
    network(&mut state, "br1", NetworkKind::Bridge, &[("ipv4.address", "10.5.0.1/24")]);
    instance(&mut state, "Web", "default", &[("network", "net0")], Some("10.3.0.5"));
    instance(&mut state, "api", "dev", &[("network", "net0")], Some("10.3.0.6"));
    instance(&mut state, "web", "plain", &[("network", "net0")], Some("10.3.0.7"));
    instance(&mut state, "db", "default", &[("network", "br0"), ("ipv4.address", "10.4.0.9")], None);
    instance(&mut state, "elsewhere", "default", &[("network", "br1"), ("ipv4.address", "10.5.0.9")], None);
    state
}

#[test]
fn a_zone_tells_of_its_project_on_the_networks_that_name_it() {
    let state = lab();
    assert_eq!(
        shown(&state, LAB, &Seen::new()),
        [
            "br0.gw.lab.example 300 A(10.4.0.1)",
            "db.lab.example 300 A(10.4.0.9)",
            "lab.example 300 Ns(\"ns1.example.org\")",
            "net0.gw.lab.example 300 A(10.3.0.1)",
            "net0.gw.lab.example 300 Aaaa(fd42::1)",
            "web.lab.example 300 A(10.3.0.5)",
            "web.lab.example 300 Aaaa(fd42::5)",
        ]
    );
    let dev = shown(&state, "dev.example", &Seen::new());
    assert!(dev.contains(&"api.dev.example 300 A(10.3.0.6)".to_owned()), "{dev:?}");
    assert!(!dev.iter().any(|rr| rr.starts_with("web.") || rr.starts_with("db.")), "{dev:?}");
}

#[test]
fn addresses_lead_back_to_names_of_all_projects() {
    let state = lab();
    assert_eq!(
        shown(&state, "10.in-addr.arpa", &Seen::new()),
        [
            "1.0.3.10.in-addr.arpa 300 Ptr(\"net0.gw.lab.example\")",
            "1.0.4.10.in-addr.arpa 300 Ptr(\"br0.gw.lab.example\")",
            "5.0.3.10.in-addr.arpa 300 Ptr(\"web.lab.example\")",
            "6.0.3.10.in-addr.arpa 300 Ptr(\"api.dev.example\")",
            "9.0.4.10.in-addr.arpa 300 Ptr(\"db.lab.example\")",
        ]
    );
    let v6 = shown(&state, "d.f.ip6.arpa", &Seen::new());
    let five = format!("5.{}2.4.d.f.ip6.arpa 300 Ptr(\"web.lab.example\")", "0.".repeat(27));
    assert!(v6.contains(&five), "{v6:?}");
}

#[test]
fn guests_on_bridges_are_told_as_they_were_seen() {
    let mut state = lab();
    instance(&mut state, "dhcp", "default", &[("network", "br0"), ("hwaddr", "00:16:3e:00:00:09")], None);
    let mac: Mac = "00:16:3e:00:00:09".parse().unwrap();
    // The gateway's address and what is beyond the subnet are not theirs; a guest with very many is cut short.
    let mut addresses: Vec<IpAddr> = vec!["10.4.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    addresses.extend((10..60).map(|last| IpAddr::from([10, 4, 0, last])));
    let all = shown(&state, LAB, &Seen::from([(mac, addresses)]));
    let told = all.iter().filter(|rr| rr.starts_with("dhcp.")).collect::<Vec<_>>();
    assert_eq!((told.len(), told[0].as_str()), (8, "dhcp.lab.example 300 A(10.4.0.10)"));
}

#[test]
fn translated_subnets_are_left_out_when_that_is_meant() {
    let mut state = lab();
    zone(&mut state, LAB, "default", &[("network.nat", "false")]);
    let all = shown(&state, LAB, &Seen::new());
    assert!(!all.iter().any(|rr| rr.contains("10.3.0.")) && all.iter().any(|rr| rr.contains("10.4.0.9")), "{all:?}");
    assert!(all.iter().any(|rr| rr.contains("fd42::5")), "IPv6 is not translated: {all:?}");
}

#[test]
fn records_of_users_stand_beside_and_an_alias_alone() {
    let mut state = lab();
    record(&mut state, "@", &[("MX", 60, "10 mail"), ("TXT", 0, "hello")]);
    record(&mut state, "db", &[("CNAME", 60, "db.example.net.")]);
    record(&mut state, "web", &[("A", 60, "192.0.2.9")]);
    let all = shown(&state, LAB, &Seen::new());
    for wanted in [
        "lab.example 60 Mx(10, \"mail.lab.example\")",
        "db.lab.example 60 Cname(\"db.example.net\")",
        "web.lab.example 60 A(192.0.2.9)",
        "web.lab.example 60 A(10.3.0.5)",
        "web.lab.example 300 Aaaa(fd42::5)",
    ] {
        assert!(all.contains(&wanted.to_owned()), "{wanted}: {all:?}");
    }
    assert_eq!(all.iter().filter(|rr| rr.starts_with("db.")).count(), 1, "{all:?}");
}
