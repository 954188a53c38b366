//! One column: as it is wanted, and what is to be done when it differs.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Names;
use crate::nb::cache::Held;
use crate::nb::{Column, Hold, Kind, Row, Table, Value};
use crate::ovsdb::op::Mutation;
use crate::ovsdb::value::{Atom, Datum};

/// Maps with more entries are changed entry by entry.
const LARGE: usize = 16;

/// What is to be done to the references in a column.
#[derive(Debug, Default)]
pub(super) struct References<'a> {
    pub(super) mutations: Vec<Mutation>,
    /// Units of rows that are new.
    pub(super) units: BTreeSet<&'a str>,
    /// Rows of ours that the column is not to refer to, where it is the one that holds them.
    pub(super) surplus: Vec<Uuid>,
}

/// What the column of a new row is to hold, and the units of new rows that it refers to.
pub(super) fn wanted<'a>(row: &'a Row, column: Column, names: &Names<'a>) -> (Datum, BTreeSet<&'a str>) {
    let mut units = BTreeSet::new();
    let Kind::Refs(table, _) = column.kind else {
        let said = match row.value(column.name) {
            Some(Value::Plain(datum)) => Some(datum.clone()),
            Some(Value::Refs(_)) | None => None,
        };
        return (said.unwrap_or_else(|| column.kind.default_datum()), units);
    };
    let atoms = row.refs(column.name).filter_map(|key| names.atom(table, key, &mut units));
    (Datum::Set(atoms.collect()), units)
}

/// The new value of a column, or how it is changed; `None` when it is as it should be.
pub(super) fn plain(row: &Row, column: Column, held: Held<'_>) -> Option<(Option<Datum>, Vec<Mutation>)> {
    let is = held.column(column.name);
    let default;
    let said = match row.value(column.name) {
        Some(Value::Plain(datum)) => datum,
        // Most columns of most rows: nothing is made to see that.
        Some(Value::Refs(_)) | None if is.is_some_and(|is| column.kind.is_default(is)) => return None,
        Some(Value::Refs(_)) | None => {
            default = column.kind.default_datum();
            &default
        }
    };
    match (is, said) {
        (Some(is), said) if is == said => None,
        (Some(Datum::Map(is)), Datum::Map(said)) if said.len() > LARGE => Some((None, entries(column, is, said))),
        (Some(_) | None, said) => Some((Some(said.clone()), Vec::new())),
    }
}

fn entries(column: Column, is: &BTreeMap<Atom, Atom>, said: &BTreeMap<Atom, Atom>) -> Vec<Mutation> {
    let old: BTreeSet<Atom> = is.iter().filter(|(k, v)| said.get(k) != Some(v)).map(|(k, _)| k.clone()).collect();
    let new: BTreeMap<Atom, Atom> =
        said.iter().filter(|(k, v)| is.get(k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut mutations = Vec::new();
    if !old.is_empty() {
        mutations.push(Mutation::delete(column.name, Datum::Set(old)));
    }
    if !new.is_empty() {
        mutations.push(Mutation::insert(column.name, Datum::Map(new)));
    }
    mutations
}

/// Rows of ours are put in and taken out; others stay, but where there is room for one only.
pub(super) fn references<'a>(
    row: &'a Row,
    column: Column,
    (table, hold): (Table, Hold),
    held: Held<'_>,
    names: &Names<'a>,
) -> References<'a> {
    // In order, as sets of atoms are.
    let is: Vec<Uuid> = held.column(column.name).into_iter().flat_map(Datum::uuids).collect();
    let mut kept = vec![false; is.len()];
    let mut found = References::default();
    let mut add = BTreeSet::new();
    for key in row.refs(column.name) {
        let Some(atom) = names.atom(table, key, &mut found.units) else { continue };
        match atom.as_uuid().and_then(|uuid| is.binary_search(&uuid).ok()) {
            Some(at) => kept[at] = true,
            None => drop(add.insert(atom)),
        }
    }
    let ours = |uuid: Uuid| names.actual.key(table, uuid).is_some();
    let unwanted = |(uuid, kept): (&Uuid, &bool)| (!kept && (column.single || ours(*uuid))).then_some(*uuid);
    let drop: BTreeSet<Uuid> = is.iter().zip(&kept).filter_map(unwanted).collect();
    if hold == Hold::Strong {
        found.surplus = drop.iter().copied().filter(|uuid| ours(*uuid)).collect();
    }
    if !drop.is_empty() {
        found.mutations.push(Mutation::delete(column.name, Datum::set(drop)));
    }
    if !add.is_empty() {
        found.mutations.push(Mutation::insert(column.name, Datum::Set(add)));
    }
    found
}

impl<'a> Names<'a> {
    /// The row with a key, for a transaction; a new one's unit is put into `units`.
    fn atom(&self, table: Table, key: &'a str, units: &mut BTreeSet<&'a str>) -> Option<Atom> {
        if let Some(uuid) = self.actual.uuid(table, key) {
            return Some(Atom::Uuid(uuid));
        }
        let name = self.fresh.get(&(table, key))?;
        units.insert(crate::nb::rows::unit(key));
        Some(Atom::Named(name.clone()))
    }
}
