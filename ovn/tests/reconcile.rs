//! The reconciler against a database in memory: random networks, random hands in the rows, one pass over it.
#![allow(clippy::unwrap_used)]

#[path = "reconcile/harm.rs"]
mod harm;
#[path = "reconcile/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use basalt_ovn::diff::{Transaction, diff};
use basalt_ovn::fake::{FakeNorthbound, Tables};
use basalt_ovn::nb::rows::KEY;
use basalt_ovn::nb::{Actual, Hold, Kind, RowId, Rows, Table, Value};
use basalt_ovn::northbound::Look;
use basalt_ovn::ovsdb::value::{Atom, Datum, Row};
use basalt_ovn::topology;
use proptest::prelude::*;
use uuid::Uuid;

use harm::{foreign, harm, ours, rows_of_ours, strangers};

const OURS: Uuid = Uuid::from_u128(0xba5a17);
const OTHERS: Uuid = Uuid::from_u128(0xdead);

fn plan(db: &FakeNorthbound, desired: &Rows) -> Vec<Transaction> {
    let tables = db.tables();
    let mut actual = Actual::new(OURS);
    for table in Table::ALL {
        tables.each(*table, &mut |uuid, row| actual.add(*table, uuid, row));
    }
    actual.adopt(desired);
    diff(desired, &actual)
}

fn carry_out(db: &FakeNorthbound, desired: &Rows) {
    for transaction in plan(db, desired) {
        db.apply(&transaction.operations).unwrap_or_else(|why| panic!("{why}\n{transaction:#?}"));
    }
}

/// Whether the tables hold what is desired: told apart from the plan's own reading of them.
fn holds(tables: &Tables, desired: &Rows) -> Result<(), String> {
    let mut found: BTreeMap<RowId, Uuid> = BTreeMap::new();
    for (table, uuid) in rows_of_ours(tables) {
        let key = tables[&table][&uuid]["external_ids"].get(KEY).unwrap().to_owned();
        let id = RowId { table, key };
        if desired.get(&id).is_some() && !found.contains_key(&id) {
            found.insert(id, uuid);
        } else if !held_by_others(tables, table, uuid) {
            return Err(format!("{id:?} is there and not wanted, or twice"));
        }
    }
    for (id, row) in desired.iter() {
        let uuid = found.get(id).ok_or_else(|| format!("{id:?} is missing"))?;
        let held = &tables[&id.table][uuid];
        for column in id.table.columns() {
            let is = &held[column.name];
            let good = match (row.value(column.name), column.kind) {
                (Some(Value::Plain(datum)), _) => is == datum,
                (_, Kind::Refs(to, _)) => {
                    let key = |key: &str| found[&RowId { table: to, key: key.to_owned() }];
                    let want: BTreeSet<Uuid> = row.refs(column.name).map(key).collect();
                    let is: BTreeSet<Uuid> = is.uuids().collect();
                    want.is_subset(&is) && is.difference(&want).all(|uuid| !ours(&tables[&to][uuid]))
                }
                (_, kind) => *is == kind.default_datum(),
            };
            if !good {
                return Err(format!("{id:?} {}: {is:?} instead of {:?}", column.name, row.value(column.name)));
            }
        }
    }
    Ok(())
}

/// Whether a row that is not ours holds it: then it cannot go.
fn held_by_others(tables: &Tables, table: Table, uuid: Uuid) -> bool {
    let holders = tables.iter().flat_map(|(holder, rows)| rows.values().map(move |row| (*holder, row)));
    holders.filter(|(_, row)| !ours(row)).any(|(holder, row)| {
        let columns = holder.columns().iter().filter(|c| c.kind == Kind::Refs(table, Hold::Strong));
        columns.flat_map(|c| row[c.name].uuids()).any(|held| held == uuid)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn one_pass_makes_it_right_and_the_next_has_nothing_to_do(
        before in world::facts(),
        after in world::facts(),
        harms in proptest::collection::vec(harm::any_harm(), 0..6),
    ) {
        let db = FakeNorthbound::new();
        strangers(&db);
        let theirs = foreign(&db.tables());
        let old = topology::rows(OURS, &before);
        carry_out(&db, &old);
        prop_assert_eq!(holds(&db.tables(), &old), Ok(()));
        for (serial, by) in harms.iter().enumerate() {
            // What a database refuses did not happen.
            let _ = db.damage(|tables| harm(tables, by, serial as u128));
        }
        for desired in [old, topology::rows(OURS, &after)] {
            carry_out(&db, &desired);
            prop_assert_eq!(holds(&db.tables(), &desired), Ok(()));
            let again = plan(&db, &desired);
            prop_assert!(again.is_empty(), "{:#?}", again);
        }
        let kept = foreign(&db.tables());
        for row in theirs {
            prop_assert!(kept.contains(&row), "{:?}", row);
        }
    }
}

#[test]
fn a_network_is_one_transaction_and_a_port_is_one_more() {
    let mut facts = world::example();
    let db = FakeNorthbound::new();
    carry_out(&db, &topology::rows(OURS, &facts));
    assert_eq!(db.transactions(), 1);
    let more = world::instance(7, 9);
    facts.networks[0].ports.push(more);
    let next = plan(&db, &topology::rows(OURS, &facts));
    assert_eq!(next.len(), 1, "{next:#?}");
    // The port; the switch and the group that name it; its DNS record.
    let names: Vec<_> = next[0].operations.iter().map(|o| (o.name(), o.table().unwrap().to_string())).collect();
    let names: Vec<_> = names.iter().map(|(op, table)| (*op, table.as_str())).collect();
    let wanted =
        [("mutate", "Logical_Switch"), ("insert", "Logical_Switch_Port"), ("update", "DNS"), ("mutate", "Port_Group")];
    assert_eq!(names, wanted);
}

/// Two rows of that name cannot be, and the one that is there does not go: a stranger's switch holds it as well.
#[test]
fn a_row_under_another_key_is_known_by_its_name() {
    let desired = topology::rows(OURS, &world::example());
    let db = FakeNorthbound::new();
    carry_out(&db, &desired);
    let port = |tables: &Tables| {
        let named = |row: &Row| row["name"].as_str().is_some_and(|name| name.ends_with("-ls-int-lsp-router"));
        tables[&Table::LogicalSwitchPort].iter().find(|(_, row)| named(row)).map(|(uuid, _)| *uuid).unwrap()
    };
    let before = port(&db.tables());
    db.damage(|tables| {
        let id = rows_of_ours(tables).iter().position(|(_, uuid)| *uuid == before).unwrap();
        harm(tables, &harm::Harm::Rekey(id), 1);
        let ports = Datum::from(Atom::Uuid(before));
        let row = Row::from([("name".into(), "theirs".into()), ("ports".into(), ports)]);
        tables.get_mut(&Table::LogicalSwitch).unwrap().insert(Uuid::from_u128(7), row);
    })
    .unwrap();
    carry_out(&db, &desired);
    assert_eq!(holds(&db.tables(), &desired), Ok(()));
    assert_eq!(port(&db.tables()), before);
    assert!(plan(&db, &desired).is_empty());
}

/// The rows of one network, as they were last looked at by a person. `UPDATE_GOLDEN=1` writes them anew.
#[test]
fn rows_of_one_network_are_what_they_were() {
    let rows = topology::rows(OURS, &world::example());
    let text = world::shown(&rows);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reconcile/network.golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

/// The tables and columns that we write are those of the installed schema.
#[test]
fn columns_are_those_of_the_schema() {
    let Ok(text) = std::fs::read_to_string("/usr/share/ovn/ovn-nb.ovsschema") else {
        println!("skipped: no northbound schema is installed (package ovn-common)");
        return;
    };
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    for table in Table::ALL {
        let found = &schema["tables"][table.name()];
        assert!(found.is_object(), "{}", table.name());
        assert_eq!(found["isRoot"].as_bool().unwrap_or_default(), table.is_root(), "{}", table.name());
        let unique = found["indexes"] == serde_json::json!([["name"]]);
        assert_eq!(unique, table.has_unique_name(), "{}", table.name());
        for column in table.columns() {
            let kind = &found["columns"][column.name]["type"];
            let single = kind["max"].is_null();
            let (to, hold) = (&kind["key"]["refTable"], kind["key"]["refType"].as_str().unwrap_or("strong"));
            let good = match column.kind {
                Kind::Text => *kind == "string" || kind["key"]["type"] == "string" && kind["min"].is_null(),
                Kind::Integer => kind["key"]["type"] == "integer" && kind["min"].is_null(),
                Kind::Boolean => *kind == "boolean",
                Kind::Set => !kind["min"].is_null() && to.is_null() && kind["value"].is_null(),
                Kind::Map => kind["value"] == "string" || kind["value"]["type"] == "integer",
                Kind::Refs(wanted, Hold::Strong) => *to == wanted.name() && hold == "strong",
                Kind::Refs(wanted, Hold::Weak) => *to == wanted.name() && hold == "weak",
            };
            assert!(good, "{}.{}: {kind}", table.name(), column.name);
            assert!(!column.single || single || kind["max"] == 1, "{}.{}", table.name(), column.name);
        }
    }
}
