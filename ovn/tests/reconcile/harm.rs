//! Hands in the database: ours, damaged in all the ways that a person with `ovn-nbctl` or a bug could, and strangers' rows.

use basalt_ovn::fake::{FakeNorthbound, Tables};
use basalt_ovn::nb::rows::{KEY, OWNER};
use basalt_ovn::nb::{Column, Hold, Kind, Table};
use basalt_ovn::ovsdb::op::Operation;
use basalt_ovn::ovsdb::value::{Atom, Datum, Row};
use proptest::prelude::*;
use uuid::Uuid;

use super::{OTHERS, OURS};

#[derive(Debug, Clone)]
pub(crate) enum Harm {
    Delete(usize),
    Alter(usize, usize),
    Clear(usize, usize),
    Misdirect(usize, usize, usize),
    Leak(usize),
    Rekey(usize),
    Double(usize),
    Untag(usize),
}

pub(crate) fn any_harm() -> impl Strategy<Value = Harm> {
    let n = any::<usize>;
    prop_oneof![
        n().prop_map(Harm::Delete),
        (n(), n()).prop_map(|(a, b)| Harm::Alter(a, b)),
        (n(), n()).prop_map(|(a, b)| Harm::Clear(a, b)),
        (n(), n(), n()).prop_map(|(a, b, c)| Harm::Misdirect(a, b, c)),
        n().prop_map(Harm::Leak),
        n().prop_map(Harm::Rekey),
        n().prop_map(Harm::Double),
        n().prop_map(Harm::Untag),
    ]
}

/// Rows that are somebody else's: with another owner, with none, with names much like ours.
pub(crate) fn strangers(db: &FakeNorthbound) {
    let tag = Datum::map([(OWNER, OTHERS.to_string()), (KEY, "net1/lr".to_owned())]);
    let row = |name: &str| Row::from([("name".into(), name.into())]);
    let mut tagged = row("basalt-net1-lr");
    tagged.insert("external_ids".into(), tag);
    let mut switch = row("basalt-net1-ls-int-of-others");
    switch.insert("ports".into(), Atom::Named("p".into()).into());
    let operations = [
        Operation::insert("Logical_Router", tagged),
        Operation::insert("Address_Set", row("theirs")),
        Operation::insert_named("Logical_Switch_Port", "p", row("their-port")),
        Operation::insert("Logical_Switch", switch),
    ];
    db.apply(&operations).unwrap();
}

/// The strangers' rows, as they are.
pub(crate) fn foreign(tables: &Tables) -> Vec<(Table, Uuid, Row)> {
    let all = tables.iter().flat_map(|(table, rows)| rows.iter().map(move |(uuid, row)| (*table, *uuid, row.clone())));
    let named = ["basalt-net1-lr", "theirs", "their-port", "basalt-net1-ls-int-of-others"];
    let theirs = |row: &Row| row.get("name").and_then(Datum::as_str).is_some_and(|name| named.contains(&name));
    all.filter(|(_, _, row)| !ours(row) && theirs(row)).collect()
}

pub(crate) fn ours(row: &Row) -> bool {
    row.get("external_ids").and_then(|ids| ids.get(OWNER)) == Some(OURS.to_string().as_str())
}

/// All rows of ours, in an order.
pub(crate) fn rows_of_ours(tables: &Tables) -> Vec<(Table, Uuid)> {
    let all = tables.iter().flat_map(|(table, rows)| rows.iter().map(move |(uuid, row)| (*table, *uuid, row)));
    all.filter(|(_, _, row)| ours(row)).map(|(table, uuid, _)| (table, uuid)).collect()
}

pub(crate) fn harm(tables: &mut Tables, by: &Harm, serial: u128) {
    let all = rows_of_ours(tables);
    if all.is_empty() {
        return;
    }
    let nth = |n: usize| all[n % all.len()];
    let tag = |key: &str| Datum::map([(OWNER, OURS.to_string()), (KEY, format!("{key}/{serial}"))]);
    match *by {
        Harm::Delete(n) => delete(tables, nth(n)),
        Harm::Alter(n, m) => alter(tables, nth(n), m, serial),
        Harm::Clear(n, m) => {
            if let Some((row, column, _)) = reference(tables, nth(n), m) {
                row.insert(column.name.into(), Datum::empty());
            }
        }
        Harm::Misdirect(n, m, target) => misdirect(tables, nth(n), m, target),
        Harm::Leak(n) => {
            let mut row = row(tables, nth(n)).clone();
            row.insert("name".into(), format!("leak{serial}").into());
            row.insert("external_ids".into(), tag("gone"));
            copy(tables, nth(n), row, serial);
        }
        Harm::Double(n) => {
            let row = row(tables, nth(n)).clone();
            copy(tables, nth(n), row, serial);
        }
        Harm::Rekey(n) => drop(row(tables, nth(n)).insert("external_ids".into(), tag("junk"))),
        Harm::Untag(n) => drop(row(tables, nth(n)).insert("external_ids".into(), Datum::map::<Atom, Atom>([]))),
    }
}

fn row(tables: &mut Tables, (table, uuid): (Table, Uuid)) -> &mut Row {
    tables.get_mut(&table).unwrap().get_mut(&uuid).unwrap()
}

/// The row, and one of its columns with references.
fn reference(tables: &mut Tables, id: (Table, Uuid), m: usize) -> Option<(&mut Row, Column, Table)> {
    let columns: Vec<Column> = id.0.columns().iter().filter(|c| matches!(c.kind, Kind::Refs(..))).copied().collect();
    let column = *columns.get(m.checked_rem(columns.len())?)?;
    let Kind::Refs(to, _) = column.kind else { return None };
    Some((row(tables, id), column, to))
}

fn delete(tables: &mut Tables, (table, uuid): (Table, Uuid)) {
    tables.get_mut(&table).unwrap().remove(&uuid);
    for (holder, rows) in tables.iter_mut() {
        for column in holder.columns().iter().filter(|c| matches!(c.kind, Kind::Refs(to, _) if to == table)) {
            for row in rows.values_mut() {
                if let Some(Datum::Set(set)) = row.get_mut(column.name) {
                    set.remove(&Atom::Uuid(uuid));
                }
            }
        }
    }
}

fn alter(tables: &mut Tables, id: (Table, Uuid), m: usize, serial: u128) {
    let plain = |c: &&Column| !matches!(c.kind, Kind::Refs(..)) && c.name != "external_ids";
    let columns: Vec<&Column> = id.0.columns().iter().filter(plain).collect();
    let column = columns[m % columns.len()];
    let junk = match column.kind {
        Kind::Text => Datum::from(format!("junk{serial}")),
        Kind::Integer => Datum::from(7),
        Kind::Boolean => Datum::from(true),
        Kind::Set => Datum::set(["junk"]),
        Kind::Map => Datum::map([("junk", "junk")]),
        Kind::Refs(..) => return,
    };
    row(tables, id).insert(column.name.into(), junk);
}

fn misdirect(tables: &mut Tables, id: (Table, Uuid), m: usize, target: usize) {
    let Some((_, column, to)) = reference(tables, id, m) else { return };
    let targets: Vec<Uuid> = tables.get(&to).into_iter().flat_map(|rows| rows.keys().copied()).collect();
    if let (false, Some(Datum::Set(set))) = (targets.is_empty(), row(tables, id).get_mut(column.name)) {
        if column.single {
            set.clear();
        }
        set.insert(Atom::Uuid(targets[target % targets.len()]));
    }
}

/// A row like another one, held by whoever holds that.
fn copy(tables: &mut Tables, (table, like): (Table, Uuid), mut row: Row, serial: u128) {
    row.retain(|name, _| table.column(name).is_some());
    let uuid = Uuid::from_u128(u128::MAX - serial);
    tables.get_mut(&table).unwrap().insert(uuid, row);
    for (holder, rows) in tables.iter_mut() {
        for column in holder.columns().iter().filter(|c| c.kind == Kind::Refs(table, Hold::Strong) && !c.single) {
            for row in rows.values_mut() {
                if let Some(Datum::Set(set)) = row.get_mut(column.name)
                    && set.contains(&Atom::Uuid(like))
                {
                    set.insert(Atom::Uuid(uuid));
                }
            }
        }
    }
}
