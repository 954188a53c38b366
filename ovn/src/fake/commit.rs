//! What a database checks and does when a transaction ends.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Tables;
use crate::nb::{Hold, Kind, Table};
use crate::ovsdb::value::{Atom, Datum, Row};

/// Checks references, removes what nothing holds, then checks names. In this order: a row that is about to go for want of a
/// holder still holds.
pub(super) fn settle(tables: &mut Tables) -> Result<(), String> {
    for (table, uuid) in strongly_held(tables) {
        if !exists(tables, table, uuid) {
            return Err(format!("referential integrity violation: {} {uuid} is referred to", table.name()));
        }
    }
    loop {
        let held = strongly_held(tables);
        let mut gone = false;
        for (table, rows) in tables.iter_mut().filter(|(table, _)| !table.is_root()) {
            let before = rows.len();
            rows.retain(|uuid, _| held.contains(&(*table, *uuid)));
            gone |= rows.len() != before;
        }
        if !gone {
            break;
        }
    }
    forget_weak(tables);
    unique(tables)
}

/// Columns with references of a row.
fn references(table: Table, row: &Row) -> impl Iterator<Item = (Table, Hold, Uuid)> {
    table.columns().iter().flat_map(move |column| {
        let (to, hold) = match column.kind {
            Kind::Refs(to, hold) => (to, hold),
            Kind::Text | Kind::Integer | Kind::Boolean | Kind::Set | Kind::Map => (table, Hold::Weak),
        };
        let datum = row.get(column.name).filter(|_| matches!(column.kind, Kind::Refs(..)));
        datum.into_iter().flat_map(Datum::uuids).map(move |uuid| (to, hold, uuid))
    })
}

fn strongly_held(tables: &Tables) -> BTreeSet<(Table, Uuid)> {
    let rows = tables.iter().flat_map(|(table, rows)| rows.values().map(move |row| (*table, row)));
    let all = rows.flat_map(|(table, row)| references(table, row));
    all.filter(|(_, hold, _)| *hold == Hold::Strong).map(|(to, _, uuid)| (to, uuid)).collect()
}

fn exists(tables: &Tables, table: Table, uuid: Uuid) -> bool {
    tables.get(&table).is_some_and(|rows| rows.contains_key(&uuid))
}

fn forget_weak(tables: &mut Tables) {
    let there: BTreeSet<(Table, Uuid)> =
        tables.iter().flat_map(|(table, rows)| rows.keys().map(move |uuid| (*table, *uuid))).collect();
    for (table, rows) in tables.iter_mut() {
        for column in table.columns() {
            let Kind::Refs(to, Hold::Weak) = column.kind else { continue };
            for row in rows.values_mut() {
                if let Some(Datum::Set(set)) = row.get_mut(column.name) {
                    set.retain(|atom| atom.as_uuid().is_some_and(|uuid| there.contains(&(to, uuid))));
                }
            }
        }
    }
}

fn unique(tables: &Tables) -> Result<(), String> {
    for (table, rows) in tables.iter().filter(|(table, _)| table.has_unique_name()) {
        let mut names = BTreeSet::new();
        for name in rows.values().filter_map(|row| row.get("name")).filter_map(Datum::one).filter_map(Atom::as_str) {
            if !names.insert(name) {
                return Err(format!("constraint violation: two rows of {} are called {name}", table.name()));
            }
        }
    }
    Ok(())
}
