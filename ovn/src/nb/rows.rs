//! Rows as we want them, by keys of our own: a key says what the row is for and never changes while it lives. References
//! are keys too; which UUID a key has is only known when a database is looked at.
//!
//! A key begins with the unit that the row belongs to, then a slash: `net7/lr`. Rows of a unit go together in a transaction.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::table::{Kind, Table};
use crate::ovsdb::value::{Atom, Datum};

/// The key of `external_ids` that says whose a row is: the cluster's id.
pub const OWNER: &str = "basalt_owner";
/// The key of `external_ids` that says what a row is for.
pub const KEY: &str = "basalt_key";

/// A row of ours, whatever its UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    pub table: Table,
    pub key: String,
}

impl RowId {
    /// What goes together in one transaction.
    pub fn unit(&self) -> &str {
        unit(&self.key)
    }
}

/// The part of a key before its first slash.
pub fn unit(key: &str) -> &str {
    key.split_once('/').map_or(key, |(unit, _)| unit)
}

/// What a column is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Plain(Datum),
    /// Keys of rows in the table that the column refers to.
    Refs(BTreeSet<String>),
}

/// One row as it is wanted. Columns that are not said have their default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    table: Table,
    columns: BTreeMap<&'static str, Value>,
}

/// Rows as they are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    owner: Uuid,
    rows: BTreeMap<RowId, Row>,
}

impl Rows {
    /// None yet, of the cluster `owner`.
    pub fn new(owner: Uuid) -> Self {
        Rows { owner, rows: BTreeMap::new() }
    }

    /// The cluster whose rows these are.
    pub fn owner(&self) -> Uuid {
        self.owner
    }

    /// Adds a row, or says more of one that was added.
    pub fn add(&mut self, table: Table, key: impl Into<String>) -> &mut Row {
        let id = RowId { table, key: key.into() };
        let owner = self.owner;
        self.rows.entry(id).or_insert_with_key(|id| {
            let mut row = Row { table, columns: BTreeMap::new() };
            row.put("external_ids", OWNER, owner.to_string());
            row.put("external_ids", KEY, id.key.clone());
            row
        })
    }

    /// One row.
    pub fn get(&self, id: &RowId) -> Option<&Row> {
        self.rows.get(id)
    }

    /// All rows, by table and key.
    pub fn iter(&self) -> impl Iterator<Item = (&RowId, &Row)> {
        self.rows.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Row {
    /// Sets a column to one text.
    pub fn text(&mut self, column: &'static str, value: impl Into<String>) -> &mut Self {
        self.plain(column, Datum::Set(BTreeSet::from([Atom::String(value.into())])))
    }

    /// Sets a column to one number.
    pub fn integer(&mut self, column: &'static str, value: i64) -> &mut Self {
        self.plain(column, Datum::Set(BTreeSet::from([Atom::Integer(value)])))
    }

    /// Sets a column to yes or no.
    pub fn boolean(&mut self, column: &'static str, value: bool) -> &mut Self {
        self.plain(column, Datum::Set(BTreeSet::from([Atom::Boolean(value)])))
    }

    /// Sets a column to these texts.
    pub fn texts<T: Into<String>>(&mut self, column: &'static str, values: impl IntoIterator<Item = T>) -> &mut Self {
        self.plain(column, Datum::Set(values.into_iter().map(|value| Atom::String(value.into())).collect()))
    }

    /// Adds an entry to a column that is a map.
    pub fn put(&mut self, column: &'static str, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.entry(column, key.into(), Atom::String(value.into()))
    }

    /// Adds an entry whose value is a number to a column that is a map.
    pub fn put_integer(&mut self, column: &'static str, key: impl Into<String>, value: i64) -> &mut Self {
        self.entry(column, key.into(), Atom::Integer(value))
    }

    fn entry(&mut self, column: &'static str, key: String, value: Atom) -> &mut Self {
        self.is(column, |kind| kind == Kind::Map);
        let held = self.columns.entry(column).or_insert_with(|| Value::Plain(Datum::Map(BTreeMap::new())));
        if let Value::Plain(Datum::Map(entries)) = held {
            entries.insert(Atom::String(key), value);
        }
        self
    }

    /// Adds a reference to the row with `key` in the table that the column refers to.
    pub fn refer(&mut self, column: &'static str, key: impl Into<String>) -> &mut Self {
        self.is(column, |kind| matches!(kind, Kind::Refs(..)));
        if let Value::Refs(keys) = self.columns.entry(column).or_insert_with(|| Value::Refs(BTreeSet::new())) {
            keys.insert(key.into());
        }
        self
    }

    fn plain(&mut self, column: &'static str, datum: Datum) -> &mut Self {
        self.is(column, |kind| !matches!(kind, Kind::Refs(..) | Kind::Map));
        self.columns.insert(column, Value::Plain(datum));
        self
    }

    fn is(&self, column: &str, fits: impl Fn(Kind) -> bool) {
        debug_assert!(self.table.column(column).is_some_and(|c| fits(c.kind)), "{}.{column}", self.table.name());
    }

    /// What was said of a column.
    pub fn value(&self, column: &str) -> Option<&Value> {
        self.columns.get(column)
    }

    /// Keys of the rows that a column refers to.
    pub fn refs(&self, column: &str) -> impl Iterator<Item = &str> {
        let keys = match self.columns.get(column) {
            Some(Value::Refs(keys)) => Some(keys),
            Some(Value::Plain(_)) | None => None,
        };
        keys.into_iter().flatten().map(String::as_str)
    }
}
