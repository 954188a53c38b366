//! What is to be done so that a database holds what is wanted: pure, empty when it does.
//!
//! ```text
//!  desired rows (keys) --+                                              +-- insert  r0, r1, ..   named in their transaction
//!                        +-- by table and key -- groups of units -- ops +-- update / mutate      of what differs
//!  actual rows (UUIDs) --+                                              +-- delete               roots that are not wanted
//! ```
//! **Invariants.**
//! - A row without our tag is not touched, nor is a reference of our rows to one: what people hang into our routers stays.
//! - Rows that no root holds go by themselves, so those are dropped from their holders, never deleted.
//! - A unit (a network, an ACL) is one transaction; units of which one refers to new rows of another are one together.
//! - Only columns of [`Table::columns`] are looked at.
//!
//! **Failure.** Nothing here depends on the plan being carried out: a transaction that is refused, or whose answer is
//! lost, is forgotten, and the next look starts from what is.

mod column;
mod group;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use uuid::Uuid;

use crate::nb::cache::Held;
use crate::nb::{Actual, Hold, Kind, Row, RowId, Rows, Table};
use crate::ovsdb::op::{Mutation, Operation};
use crate::ovsdb::value;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// A column holds something else.
    Altered,
    /// It does not refer to a row of ours that it should, or to one that it should not.
    Reference,
    /// It is ours, and not wanted.
    Surplus,
}

/// One row that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub row: RowId,
    pub fault: Fault,
}

/// What is to be done at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// The units that it is about.
    pub units: Vec<String>,
    pub operations: Vec<Operation>,
    /// Why.
    pub changes: Vec<Change>,
}

/// One step of the plan, before steps are grouped.
#[derive(Debug)]
struct Step<'a> {
    unit: &'a str,
    operations: Vec<Operation>,
    changes: Vec<Change>,
    /// Units that must be in the same transaction.
    with: BTreeSet<&'a str>,
}

/// Which rows are wanted.
type Wanted<'a> = HashSet<(Table, &'a str)>;

/// Where references of wanted rows point.
struct Names<'a> {
    actual: &'a Actual<'a>,
    wanted: &'a Wanted<'a>,
    /// Rows that are to be made, by what they are called in their transaction.
    fresh: BTreeMap<(Table, &'a str), String>,
}

/// The transactions after which `actual` holds what is `desired`. They do not depend on each other's success.
pub fn diff<'a>(desired: &'a Rows, actual: &'a Actual<'a>) -> Vec<Transaction> {
    let wanted: Wanted<'_> = desired.iter().map(|(id, _)| (id.table, id.key.as_str())).collect();
    let missing = desired.iter().filter(|(id, _)| actual.uuid(id.table, &id.key).is_none());
    let fresh = missing.enumerate().map(|(n, (id, _))| ((id.table, id.key.as_str()), format!("r{n}"))).collect();
    let names = Names { actual, wanted: &wanted, fresh };
    let mut steps = Vec::new();
    for (id, row) in desired.iter() {
        match actual.get(id.table, &id.key) {
            None => steps.push(insert(id, row, &names)),
            Some(held) => steps.extend(alter(id, row, held, &names)),
        }
    }
    let unwanted = actual.iter().filter(|(table, key, _)| table.is_root() && !wanted.contains(&(*table, *key)));
    let mut unwanted: Vec<_> = unwanted.collect();
    unwanted.sort_unstable_by_key(|(table, key, _)| (*table, *key));
    let doubles = actual.doubles().filter(|(table, ..)| table.is_root());
    for (table, key, held) in unwanted.into_iter().chain(doubles) {
        steps.push(remove(&wanted, table, key, held, actual));
    }
    group::transactions(steps)
}

fn insert<'a>(id: &'a RowId, row: &'a Row, names: &Names<'a>) -> Step<'a> {
    let mut columns = value::Row::new();
    let mut with = BTreeSet::new();
    for column in id.table.columns() {
        if row.value(column.name).is_none() {
            continue;
        }
        let (datum, units) = column::wanted(row, *column, names);
        with.extend(units);
        columns.insert(column.name.into(), datum);
    }
    let name = names.fresh.get(&(id.table, id.key.as_str())).cloned().unwrap_or_default();
    let operations = vec![Operation::insert_named(id.table.name(), name, columns)];
    Step { unit: id.unit(), operations, changes: vec![Change { row: id.clone(), fault: Fault::Missing }], with }
}

/// What makes a row that is there as it is wanted; nothing if it is.
fn alter<'a>(id: &'a RowId, row: &'a Row, held: Held<'_>, names: &Names<'a>) -> Option<Step<'a>> {
    let mut update = value::Row::new();
    let mut mutations = Vec::new();
    let mut changes = Vec::new();
    let mut with = BTreeSet::new();
    for column in id.table.columns() {
        match column.kind {
            Kind::Refs(table, hold) => {
                let refs = column::references(row, *column, (table, hold), held, names);
                with.extend(refs.units);
                let gone = refs.surplus.iter().filter_map(|uuid| surplus(names, table, *uuid));
                changes.extend(gone);
                if !refs.mutations.is_empty() {
                    changes.push(Change { row: id.clone(), fault: Fault::Reference });
                    mutations.extend(refs.mutations);
                }
            }
            Kind::Text | Kind::Integer | Kind::Boolean | Kind::Set | Kind::Map => {
                let Some((set, changed)) = column::plain(row, *column, held) else { continue };
                update.extend(set.map(|datum| (column.name.into(), datum)));
                mutations.extend(changed);
                if !changes.iter().any(|c: &Change| c.fault == Fault::Altered) {
                    changes.push(Change { row: id.clone(), fault: Fault::Altered });
                }
            }
        }
    }
    if changes.is_empty() && update.is_empty() && mutations.is_empty() {
        return None;
    }
    let table = id.table.name();
    let mut operations = Vec::new();
    if !update.is_empty() {
        operations.push(Operation::update(table, held.uuid, update));
    }
    if !mutations.is_empty() {
        operations.push(Operation::mutate(table, held.uuid, mutations));
    }
    Some(Step { unit: id.unit(), operations, changes, with })
}

/// A row that goes because its holder drops it.
fn surplus(names: &Names<'_>, table: Table, uuid: Uuid) -> Option<Change> {
    let key = names.actual.key(table, uuid)?;
    let stays = table.is_root() || names.wanted.contains(&(table, key)) && names.actual.counts(table, uuid);
    (!stays).then(|| Change { row: RowId { table, key: key.to_owned() }, fault: Fault::Surplus })
}

fn remove<'a>(wanted: &Wanted<'_>, table: Table, key: &'a str, held: Held<'a>, actual: &Actual<'a>) -> Step<'a> {
    let mut with = BTreeSet::new();
    for column in table.columns() {
        let Kind::Refs(to, _) = column.kind else { continue };
        // What it holds and another row is to hold from now on must not go with it.
        for uuid in held.column(column.name).into_iter().flat_map(value::Datum::uuids) {
            let kept = actual.key(to, uuid).filter(|key| wanted.contains(&(to, *key)));
            with.extend(kept.map(crate::nb::rows::unit));
        }
    }
    let mut operations = Vec::new();
    // It can only go together with what holds it, and that with what holds it in turn. What is about to go for want of a
    // holder still holds: it has to let go.
    for (holder, key, uuid) in holders(actual, table, held.uuid) {
        with.insert(crate::nb::rows::unit(key));
        with.extend(holders(actual, holder, uuid).into_iter().map(|(_, key, _)| crate::nb::rows::unit(key)));
        if !(wanted.contains(&(holder, key)) && actual.counts(holder, uuid)) {
            let columns = holder.columns().iter().filter(|c| c.kind == Kind::Refs(table, Hold::Strong));
            let drop = columns.map(|column| Mutation::delete(column.name, held.uuid)).collect();
            operations.push(Operation::mutate(holder.name(), uuid, drop));
        }
    }
    operations.push(Operation::delete(table.name(), held.uuid));
    let changes = vec![Change { row: RowId { table, key: key.to_owned() }, fault: Fault::Surplus }];
    Step { unit: crate::nb::rows::unit(key), operations, changes, with }
}

/// Rows of ours that hold a row.
fn holders<'a>(actual: &Actual<'a>, table: Table, uuid: Uuid) -> Vec<(Table, &'a str, Uuid)> {
    let holds = |holder: Table| -> Vec<&'static str> {
        let strong = |kind: Kind| kind == Kind::Refs(table, Hold::Strong);
        holder.columns().iter().filter(|column| strong(column.kind)).map(|column| column.name).collect()
    };
    let tables: BTreeMap<Table, Vec<&str>> =
        Table::ALL.iter().map(|holder| (*holder, holds(*holder))).filter(|(_, columns)| !columns.is_empty()).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    let held_by = |(holder, key, held): (Table, &'a str, Held<'a>)| {
        let columns = tables.get(&holder)?;
        let mut there = columns.iter().filter_map(|name| held.column(name)).flat_map(value::Datum::uuids);
        there.any(|found| found == uuid).then_some((holder, key, held.uuid))
    };
    let mut found: Vec<_> = actual.iter().chain(actual.doubles()).filter_map(held_by).collect();
    found.sort_unstable();
    found
}
