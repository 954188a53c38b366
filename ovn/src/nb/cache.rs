//! The rows of ours that a database holds, found by their keys.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::rows::{KEY, OWNER, Row as Wanted, RowId, Rows, Value};
use super::table::{Kind, Table};
use crate::marker;
use crate::ovsdb::value::{Datum, Row};

/// A row that the database holds.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    pub uuid: Uuid,
    pub columns: &'a Row,
}

/// Rows of ours in a database, as one look at it found them. Borrowed from that look: it is an index, not a copy.
#[derive(Debug)]
pub struct Actual<'a> {
    owner: String,
    /// Hashed: there are many, their keys begin alike, and each is looked up several times in a pass.
    rows: HashMap<(Table, &'a str), Held<'a>>,
    /// Rows that have the key of another one; of two, the one with the lower UUID counts.
    doubles: BTreeMap<(Table, Uuid), (&'a str, Held<'a>)>,
    keys: HashMap<(Table, Uuid), &'a str>,
    /// Rows that nobody has put his name on.
    untagged: Vec<(Table, Held<'a>)>,
}

impl<'a> Actual<'a> {
    /// No row yet; those of the cluster `owner` will be taken for ours.
    pub fn new(owner: Uuid) -> Self {
        let owner = owner.to_string();
        Actual { owner, rows: HashMap::new(), doubles: BTreeMap::new(), keys: HashMap::new(), untagged: Vec::new() }
    }

    /// Takes a row in, if it is ours. The marker of the leader's term is not: it is no part of any network.
    pub fn add(&mut self, table: Table, uuid: Uuid, columns: &'a Row) {
        let held = Held { uuid, columns };
        let Some(ids) = columns.get("external_ids") else { return };
        let key = match (ids.get(OWNER), ids.get(KEY)) {
            (Some(owner), Some(key)) if owner == self.owner && key != marker::ROW_KEY => key,
            (None, _) => return self.untagged.push((table, held)),
            (Some(_), _) => return,
        };
        self.keys.insert((table, uuid), key);
        match self.rows.get(&(table, key)).copied() {
            None => drop(self.rows.insert((table, key), held)),
            Some(other) if other.uuid < uuid => drop(self.doubles.insert((table, uuid), (key, held))),
            Some(other) => {
                self.doubles.insert((table, other.uuid), (key, other));
                self.rows.insert((table, key), held);
            }
        }
    }

    /// Takes rows for those that are missing: rows of ours under another key, where only one may have the name, and rows
    /// that are it in all but the tag, which somebody has wiped off.
    pub fn adopt(&mut self, desired: &'a Rows) {
        self.rename(desired);
        self.claim(desired);
    }

    /// Where only one row may have a name, the one that has it is it, whatever its key: no second one can be made beside
    /// it, and it may be held by a row that is not ours.
    fn rename(&mut self, desired: &'a Rows) {
        let named = desired.iter().filter(|(id, _)| id.table.has_unique_name());
        let missing = named.filter(|(id, _)| self.uuid(id.table, &id.key).is_none());
        let missing: BTreeMap<(Table, &Datum), &'a str> =
            missing.filter_map(|(id, row)| Some(((id.table, said(row, "name")?), id.key.as_str()))).collect();
        if missing.is_empty() {
            return;
        }
        let wanted = |table, key: &str| desired.get(&RowId { table, key: key.to_owned() }).is_some();
        let found = self.iter().filter_map(|(table, key, held)| {
            let own = missing.get(&(table, held.column("name")?)).filter(|_| !wanted(table, key))?;
            Some((table, key, held, *own))
        });
        for (table, key, held, own) in found.collect::<Vec<_>>() {
            self.rows.remove(&(table, key));
            self.keys.insert((table, held.uuid), own);
            self.rows.insert((table, own), held);
        }
    }

    /// Those that have a name are known by that, others by all that they hold.
    fn claim(&mut self, desired: &'a Rows) {
        if self.untagged.is_empty() {
            return;
        }
        let mut found: BTreeMap<(Table, Vec<&Datum>), Held<'a>> = BTreeMap::new();
        for (table, held) in std::mem::take(&mut self.untagged) {
            let likeness = likeness(table, |name| held.columns.get(name));
            found.entry((table, likeness)).or_insert(held);
        }
        let missing: Vec<_> = desired.iter().filter(|(id, _)| self.uuid(id.table, &id.key).is_none()).collect();
        for (id, row) in missing {
            let Some(held) = found.remove(&(id.table, likeness(id.table, |name| said(row, name)))) else { continue };
            self.keys.insert((id.table, held.uuid), &id.key);
            self.rows.insert((id.table, &id.key), held);
        }
    }

    /// The row with a key.
    pub fn get(&self, table: Table, key: &str) -> Option<Held<'a>> {
        self.rows.get(&(table, key)).copied()
    }

    /// The UUID of the row with a key.
    pub fn uuid(&self, table: Table, key: &str) -> Option<Uuid> {
        self.get(table, key).map(|held| held.uuid)
    }

    /// The key of a row, if it is ours.
    pub fn key(&self, table: Table, uuid: Uuid) -> Option<&'a str> {
        self.keys.get(&(table, uuid)).copied()
    }

    /// All rows of ours, doubles left out, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Table, &'a str, Held<'a>)> {
        self.rows.iter().map(|((table, key), held)| (*table, *key, *held))
    }

    /// Rows that have the key of another one.
    pub fn doubles(&self) -> impl Iterator<Item = (Table, &'a str, Held<'a>)> {
        self.doubles.iter().map(|((table, _), (key, held))| (*table, *key, *held))
    }

    /// Whether the row is the one that counts for its key.
    pub fn counts(&self, table: Table, uuid: Uuid) -> bool {
        self.keys.contains_key(&(table, uuid)) && !self.doubles.contains_key(&(table, uuid))
    }

    /// How many rows are ours.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Held<'_> {
    /// What a column holds; nothing if it was not asked for.
    pub fn column(&self, name: &str) -> Option<&Datum> {
        self.columns.get(name)
    }
}

/// By what a row without a tag is known. Columns that nothing was said of count as not there.
fn likeness<'a>(table: Table, column: impl Fn(&str) -> Option<&'a Datum>) -> Vec<&'a Datum> {
    let telling = table.columns().iter().filter(|c| c.name != "external_ids" && !matches!(c.kind, Kind::Refs(..)));
    let named = table.column("name").is_some() && table != Table::Acl;
    let telling = telling.filter(|c| !named || c.name == "name");
    let held = telling.filter_map(|c| column(c.name).filter(|datum| **datum != c.kind.default_datum()));
    held.collect()
}

fn said<'a>(row: &'a Wanted, column: &str) -> Option<&'a Datum> {
    match row.value(column) {
        Some(Value::Plain(datum)) => Some(datum),
        Some(Value::Refs(_)) | None => None,
    }
}
