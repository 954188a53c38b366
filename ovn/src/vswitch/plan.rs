//! From the switch's tables to what has to be written: pure. Nothing to write means that it is so.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{BoundPort, Datapath, Error, Facts, MARK, named};
use crate::Error as SessionError;
use crate::monitor::Tables;
use crate::ovsdb::op::{Mutation, Mutator, Operation};
use crate::ovsdb::value::{Atom, Datum, Row};

const MAPPINGS: &str = "ovn-bridge-mappings";

/// A device on a bridge as a logical port.
#[derive(Debug)]
pub(super) struct Binding<'a> {
    pub(super) bridge: &'a str,
    pub(super) interface: &'a str,
    pub(super) iface_id: &'a str,
}

fn root(tables: &Tables) -> Result<(Uuid, &Row), Error> {
    let row = tables.table("Open_vSwitch").iter().next();
    row.map(|(id, row)| (*id, row.as_ref())).ok_or(Error::Uninitialised)
}

fn texts(datum: Option<&Datum>) -> BTreeMap<String, String> {
    match datum {
        Some(Datum::Map(map)) => {
            map.iter().filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned()))).collect()
        }
        Some(Datum::Set(_)) | None => BTreeMap::new(),
    }
}

/// `uplink:bridge,uplink:bridge`
fn mappings(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.trim().split_once(':'));
    pairs.map(|(uplink, bridge)| (uplink.to_owned(), bridge.to_owned())).collect()
}

pub(super) fn facts(tables: &Tables) -> Option<Facts> {
    let (_, row) = root(tables).ok()?;
    let external_ids = texts(row.get("external_ids"));
    let set = |key: &str| external_ids.get(key).cloned();
    Some(Facts {
        system_id: set("system-id"),
        encap_type: set("ovn-encap-type"),
        encap_ip: set("ovn-encap-ip"),
        remote: set("ovn-remote"),
        integration_bridge: set("ovn-bridge").unwrap_or_else(|| "br-int".to_owned()),
        mappings: set(MAPPINGS).map(|text| mappings(&text)).unwrap_or_default(),
        version: row.get("ovs_version").and_then(Datum::as_str).map(str::to_owned),
        external_ids,
    })
}

/// Our ports.
pub fn ports(tables: &Tables) -> Vec<BoundPort> {
    bound(tables, |external| external.get(MARK).is_some())
}

/// Those of one logical port, whoever bound them.
pub(super) fn ports_of(tables: &Tables, iface_id: &str) -> Vec<BoundPort> {
    bound(tables, |external| external.get("iface-id") == Some(iface_id))
}

fn bound(tables: &Tables, wanted: impl Fn(&Datum) -> bool) -> Vec<BoundPort> {
    let none = Datum::empty();
    let mut found = Vec::new();
    for row in tables.table("Interface").values() {
        let external = row.get("external_ids").unwrap_or(&none);
        let Some(interface) = row.get("name").and_then(Datum::as_str).filter(|_| wanted(external)) else { continue };
        let text = |column: &str| row.get(column).and_then(Datum::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
        let port = named(tables.table("Port"), interface).map(|(id, _)| id);
        let bridge = port.and_then(|port| bridge_of(tables, port)).and_then(|(_, row)| row.get("name"));
        found.push(BoundPort {
            bridge: bridge.and_then(Datum::as_str).map(str::to_owned),
            interface: interface.to_owned(),
            iface_id: external.get("iface-id").or_else(|| external.get(MARK)).unwrap_or_default().to_owned(),
            // -1 is a failure, and `error` has it.
            ofport: row.get("ofport").and_then(Datum::as_integer).filter(|n| *n > 0),
            error: text("error"),
            off: row.get("admin_state").and_then(Datum::as_str) == Some("down"),
            installed: external.get("ovn-installed") == Some("true"),
        });
    }
    found
}

fn bridge_of(tables: &Tables, port: Uuid) -> Option<(Uuid, &Row)> {
    let has = |row: &Row| row.get("ports").is_some_and(|ports| ports.uuids().any(|p| p == port));
    tables.table("Bridge").iter().find(|(_, row)| has(row)).map(|(id, row)| (*id, row.as_ref()))
}

/// What is known of a port that does not come up.
pub(super) fn why_not_up(port: Option<&BoundPort>) -> String {
    match port {
        None => "no interface of this host has it".into(),
        Some(BoundPort { error: Some(error), .. }) => error.clone(),
        Some(BoundPort { bridge: None, interface, .. }) => format!("interface {interface} is on no bridge"),
        Some(BoundPort { ofport: None, interface, .. }) => {
            format!("interface {interface} is not plugged in; does ovs-vswitchd run?")
        }
        Some(port) => format!(
            "ovn-controller has not claimed it; does it run, and does the southbound database know the port? (interface {})",
            port.interface
        ),
    }
}

pub(super) fn set_external(
    tables: &Tables,
    wanted: &BTreeMap<String, Option<String>>,
) -> Result<Vec<Operation>, Error> {
    let (id, row) = root(tables)?;
    let now = texts(row.get("external_ids"));
    let differ: BTreeMap<&String, &Option<String>> =
        wanted.iter().filter(|(key, value)| now.get(*key) != value.as_ref()).collect();
    if differ.is_empty() {
        return Ok(Vec::new());
    }
    // A key that is there keeps its value unless it is deleted first.
    let old = Mutation::delete("external_ids", Datum::set(differ.keys().map(|k| k.as_str())));
    let new = differ.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_deref()?)));
    let new = Mutation::insert("external_ids", Datum::map(new));
    Ok(vec![Operation::mutate("Open_vSwitch", id, vec![old, new])])
}

pub(super) fn set_mapping(tables: &Tables, uplink: &str, bridge: Option<&str>) -> Result<Vec<Operation>, Error> {
    let (id, row) = root(tables)?;
    let text = row.get("external_ids").and_then(|ids| ids.get(MAPPINGS)).unwrap_or_default();
    let mut all = mappings(text);
    let before = match bridge {
        Some(bridge) => all.insert(uplink.to_owned(), bridge.to_owned()),
        None => all.remove(uplink),
    };
    if before.as_deref() == bridge {
        return Ok(Vec::new());
    }
    let text = all.iter().map(|(uplink, bridge)| format!("{uplink}:{bridge}")).collect::<Vec<_>>().join(",");
    let wanted = BTreeMap::from([(MAPPINGS.to_owned(), Some(text).filter(|t| !t.is_empty()))]);
    // The value is made of the old one: nobody may have changed it meanwhile.
    let same = row.get("external_ids").map(|ids| Row::from([("external_ids".into(), ids.clone())]));
    let mut operations = vec![Operation::guard("Open_vSwitch", id, same.unwrap_or_default())];
    operations.extend(set_external(tables, &wanted)?);
    Ok(operations)
}

pub(super) fn ensure_bridge(tables: &Tables, name: &str, datapath: Datapath) -> Result<Vec<Operation>, Error> {
    let (id, _) = root(tables)?;
    if let Some((bridge, row)) = named(tables.table("Bridge"), name) {
        let now = row.get("datapath_type").and_then(Datum::as_str).unwrap_or_default();
        return Ok(match now == datapath.as_str() || (now.is_empty() && datapath == Datapath::System) {
            true => Vec::new(),
            false => {
                let wanted = Row::from([("datapath_type".into(), datapath.as_str().into())]);
                vec![Operation::update("Bridge", bridge, wanted)]
            }
        });
    }
    if named(tables.table("Port"), name).is_some() {
        return Err(Error::Foreign { interface: name.to_owned() });
    }
    let interface = Row::from([("name".into(), name.into()), ("type".into(), "internal".into())]);
    let port = Row::from([("name".into(), name.into()), ("interfaces".into(), by_name("interface"))]);
    let bridge = Row::from([
        ("name".into(), name.into()),
        ("datapath_type".into(), datapath.as_str().into()),
        ("ports".into(), by_name("port")),
    ]);
    Ok(vec![
        Operation::insert_named("Interface", "interface", interface),
        Operation::insert_named("Port", "port", port),
        Operation::insert_named("Bridge", "bridge", bridge),
        Operation::mutate("Open_vSwitch", id, vec![Mutation::insert("bridges", by_name("bridge"))]),
    ])
}

pub(super) fn remove_bridge(tables: &Tables, name: &str) -> Result<Vec<Operation>, Error> {
    let (id, _) = root(tables)?;
    let Some((bridge, _)) = named(tables.table("Bridge"), name) else { return Ok(Vec::new()) };
    // Rows that nothing refers to any more go by themselves.
    Ok(vec![Operation::mutate("Open_vSwitch", id, vec![Mutation::delete("bridges", bridge)])])
}

fn by_name(row: &str) -> Datum {
    Atom::Named(row.to_owned()).into()
}

pub(super) fn bind(tables: &Tables, wanted: &Binding<'_>) -> Result<Vec<Operation>, Error> {
    let (bridge, row) = named(tables.table("Bridge"), wanted.bridge)
        .ok_or_else(|| Error::NoBridge { bridge: wanted.bridge.to_owned() })?;
    let mut operations = Vec::new();
    let mut bound = false;
    if let Some((port, _)) = named(tables.table("Port"), wanted.interface) {
        let here = row.get("ports").is_some_and(|ports| ports.uuids().any(|p| p == port));
        match of_ours(tables, wanted.interface)? {
            Some(iface_id) if here && iface_id == wanted.iface_id => bound = true,
            Some(_) | None => operations.extend(take_off(tables, port)),
        }
    }
    // The logical port on another device of ours is a left-over: two would be claimed in turns.
    for other in ports(tables).iter().filter(|p| p.iface_id == wanted.iface_id && p.interface != wanted.interface) {
        if let Some((port, _)) = named(tables.table("Port"), &other.interface) {
            operations.extend(take_off(tables, port));
        }
    }
    if !bound {
        let external = Datum::map([("iface-id", wanted.iface_id), (MARK, wanted.iface_id)]);
        let interface = Row::from([("name".into(), wanted.interface.into()), ("external_ids".into(), external)]);
        let port = Row::from([("name".into(), wanted.interface.into()), ("interfaces".into(), by_name("interface"))]);
        operations.push(Operation::insert_named("Interface", "interface", interface));
        operations.push(Operation::insert_named("Port", "port", port));
        operations.push(Operation::mutate("Bridge", bridge, vec![Mutation::insert("ports", by_name("port"))]));
    }
    Ok(operations)
}

pub(super) fn unbind(tables: &Tables, interface: &str) -> Result<Vec<Operation>, Error> {
    let Some((port, _)) = named(tables.table("Port"), interface) else { return Ok(Vec::new()) };
    of_ours(tables, interface)?;
    Ok(take_off(tables, port))
}

/// The logical port that a port of ours is bound as.
fn of_ours<'a>(tables: &'a Tables, interface: &str) -> Result<Option<&'a str>, Error> {
    let external = named(tables.table("Interface"), interface).and_then(|(_, row)| row.get("external_ids"));
    match external.filter(|ids| ids.get(MARK).is_some()) {
        Some(ids) => Ok(ids.get("iface-id")),
        None => Err(Error::Foreign { interface: interface.to_owned() }),
    }
}

fn take_off(tables: &Tables, port: Uuid) -> Vec<Operation> {
    let bridges = tables.table("Bridge").iter();
    bridges
        .filter(|(_, row)| row.get("ports").is_some_and(|ports| ports.uuids().any(|p| p == port)))
        .map(|(bridge, _)| Operation::mutate("Bridge", *bridge, vec![Mutation::delete("ports", port)]))
        .collect()
}

/// Tells the daemon that there is a new configuration, and reads its number: two operations, after all others.
pub(super) fn bump(tables: &Tables) -> Result<[Operation; 2], Error> {
    let (id, _) = root(tables)?;
    let next = Mutation { column: "next_cfg".into(), mutator: Mutator::Add, value: 1.into() };
    Ok([
        Operation::mutate("Open_vSwitch", id, vec![next]),
        Operation::select("Open_vSwitch", Vec::new(), &["next_cfg"]),
    ])
}

/// Whether a row of that name was made by somebody else just now.
pub(super) fn is_duplicate(error: &SessionError) -> bool {
    error.refusal().is_some_and(|r| r.error == "constraint violation" && r.details.contains("same value"))
}
