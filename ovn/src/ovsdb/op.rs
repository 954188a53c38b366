//! Operations of a transaction and what comes back (RFC 7047, section 5.2).

use serde::ser::{SerializeMap, SerializeTuple};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::value::{Datum, Name, Row};

/// One step of a transaction. All happen, or none.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Makes a row; columns that are not named get their default.
    Insert {
        /// Where.
        table: Name,
        /// What it holds.
        row: Row,
        /// By what other operations of this transaction refer to it ([`super::value::Atom::Named`]): letters, digits and
        /// `_`, not beginning with a digit.
        uuid_name: Option<String>,
    },
    /// Overwrites the named columns of all rows that match.
    Update {
        /// Where.
        table: Name,
        /// Which rows.
        where_: Vec<Condition>,
        /// The new values.
        row: Row,
    },
    /// Changes columns of all rows that match, by what they hold.
    Mutate {
        /// Where.
        table: Name,
        /// Which rows.
        where_: Vec<Condition>,
        /// What is done to them, in this order.
        mutations: Vec<Mutation>,
    },
    /// Removes all rows that match.
    Delete {
        /// Where.
        table: Name,
        /// Which rows.
        where_: Vec<Condition>,
    },
    /// Fails the transaction (`timed out`) unless the rows that match are, or are not, these.
    Wait {
        /// Where.
        table: Name,
        /// Which rows.
        where_: Vec<Condition>,
        /// What of them is compared.
        columns: Vec<Name>,
        /// Equal or different.
        until: Until,
        /// Against what.
        rows: Vec<Row>,
        /// How long the server waits for it, in milliseconds; 0 asks once.
        timeout: u32,
    },
    /// Reads all rows that match; no columns means all of them.
    Select {
        /// Where.
        table: Name,
        /// Which rows.
        where_: Vec<Condition>,
        /// What of them.
        columns: Vec<Name>,
    },
    /// A line for the database's log.
    Comment(String),
    /// Fails the transaction (`not owner`) unless this connection holds the lock.
    Assert(String),
    /// Fails the transaction: nothing of it happens.
    Abort,
}

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The rows are these.
    Equal,
    /// They are not.
    Different,
}

/// A test on one column. Of several, all must hold; an empty list holds for each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is looked at; `_uuid` is the row itself.
    pub column: Name,
    /// How.
    pub function: Function,
    /// Against what.
    pub value: Datum,
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Function {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    /// All members of the value are in the column.
    Includes,
    /// No member of the value is.
    Excludes,
}

/// A change of one column by what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// Which.
    pub column: Name,
    /// How.
    pub mutator: Mutator,
    /// By what.
    pub value: Datum,
}

/// How a mutation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mutator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// Members that are there already stay, with a map their value too: delete the key first to overwrite it.
    Insert,
    /// Of a map: pairs (a map) or keys (a set).
    Delete,
}

impl Operation {
    /// Makes a row.
    pub fn insert(table: impl Into<Name>, row: Row) -> Self {
        Operation::Insert { table: table.into(), row, uuid_name: None }
    }

    /// Makes a row that other operations of the transaction refer to.
    pub fn insert_named(table: impl Into<Name>, uuid_name: impl Into<String>, row: Row) -> Self {
        Operation::Insert { table: table.into(), row, uuid_name: Some(uuid_name.into()) }
    }

    /// Overwrites columns of one row.
    pub fn update(table: impl Into<Name>, row: Uuid, columns: Row) -> Self {
        Operation::Update { table: table.into(), where_: vec![Condition::is(row)], row: columns }
    }

    /// Changes columns of one row.
    pub fn mutate(table: impl Into<Name>, row: Uuid, mutations: Vec<Mutation>) -> Self {
        Operation::Mutate { table: table.into(), where_: vec![Condition::is(row)], mutations }
    }

    /// Removes one row.
    pub fn delete(table: impl Into<Name>, row: Uuid) -> Self {
        Operation::Delete { table: table.into(), where_: vec![Condition::is(row)] }
    }

    /// Reads rows.
    pub fn select(table: impl Into<Name>, where_: Vec<Condition>, columns: &[&str]) -> Self {
        Operation::Select { table: table.into(), where_, columns: columns.iter().map(|c| (*c).into()).collect() }
    }

    /// Fails the transaction unless that row has these values.
    pub fn guard(table: impl Into<Name>, row: Uuid, columns: Row) -> Self {
        Operation::Wait {
            table: table.into(),
            where_: vec![Condition::is(row)],
            columns: columns.keys().cloned().collect(),
            until: Until::Equal,
            rows: vec![columns],
            timeout: 0,
        }
    }
}

impl Condition {
    /// The column holds exactly this.
    pub fn equal(column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        Condition { column: column.into(), function: Function::Equal, value: value.into() }
    }

    /// The column holds this, and maybe more.
    pub fn includes(column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        Condition { column: column.into(), function: Function::Includes, value: value.into() }
    }

    /// The row is this one.
    pub fn is(row: Uuid) -> Self {
        Self::equal("_uuid", row)
    }
}

impl Mutation {
    /// Adds members.
    pub fn insert(column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        Mutation { column: column.into(), mutator: Mutator::Insert, value: value.into() }
    }

    /// Removes members; of a map, pairs (a map) or keys (a set).
    pub fn delete(column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        Mutation { column: column.into(), mutator: Mutator::Delete, value: value.into() }
    }
}

impl Function {
    fn sign(self) -> &'static str {
        match self {
            Function::Less => "<",
            Function::LessOrEqual => "<=",
            Function::Equal => "==",
            Function::NotEqual => "!=",
            Function::GreaterOrEqual => ">=",
            Function::Greater => ">",
            Function::Includes => "includes",
            Function::Excludes => "excludes",
        }
    }
}

impl Mutator {
    fn sign(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Subtract => "-=",
            Mutator::Multiply => "*=",
            Mutator::Divide => "/=",
            Mutator::Remainder => "%=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        }
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        triple(to, &self.column, self.function.sign(), &self.value)
    }
}

impl Serialize for Mutation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        triple(to, &self.column, self.mutator.sign(), &self.value)
    }
}

fn triple<S: Serializer>(to: S, column: &Name, sign: &str, value: &Datum) -> Result<S::Ok, S::Error> {
    let mut parts = to.serialize_tuple(3)?;
    parts.serialize_element(column)?;
    parts.serialize_element(sign)?;
    parts.serialize_element(value)?;
    parts.end()
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("op", self.name())?;
        if let Some(table) = self.table() {
            map.serialize_entry("table", table)?;
        }
        match self {
            Operation::Insert { row, uuid_name, .. } => {
                map.serialize_entry("row", row)?;
                if let Some(name) = uuid_name {
                    map.serialize_entry("uuid-name", name)?;
                }
            }
            Operation::Update { where_, row, .. } => {
                map.serialize_entry("where", where_)?;
                map.serialize_entry("row", row)?;
            }
            Operation::Mutate { where_, mutations, .. } => {
                map.serialize_entry("where", where_)?;
                map.serialize_entry("mutations", mutations)?;
            }
            Operation::Delete { where_, .. } => map.serialize_entry("where", where_)?,
            Operation::Wait { where_, columns, until, rows, timeout, .. } => {
                map.serialize_entry("where", where_)?;
                map.serialize_entry("columns", columns)?;
                map.serialize_entry("until", until.sign())?;
                map.serialize_entry("rows", rows)?;
                map.serialize_entry("timeout", timeout)?;
            }
            Operation::Select { where_, columns, .. } => {
                map.serialize_entry("where", where_)?;
                if !columns.is_empty() {
                    map.serialize_entry("columns", columns)?;
                }
            }
            Operation::Comment(text) => map.serialize_entry("comment", text)?,
            Operation::Assert(lock) => map.serialize_entry("lock", lock)?,
            Operation::Abort => {}
        }
        map.end()
    }
}

impl Until {
    fn sign(self) -> &'static str {
        match self {
            Until::Equal => "==",
            Until::Different => "!=",
        }
    }
}

impl Operation {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Insert { .. } => "insert",
            Operation::Update { .. } => "update",
            Operation::Mutate { .. } => "mutate",
            Operation::Delete { .. } => "delete",
            Operation::Wait { .. } => "wait",
            Operation::Select { .. } => "select",
            Operation::Comment(_) => "comment",
            Operation::Assert(_) => "assert",
            Operation::Abort => "abort",
        }
    }

    /// The table it is about.
    pub fn table(&self) -> Option<&Name> {
        match self {
            Operation::Insert { table, .. }
            | Operation::Update { table, .. }
            | Operation::Mutate { table, .. }
            | Operation::Delete { table, .. }
            | Operation::Wait { table, .. }
            | Operation::Select { table, .. } => Some(table),
            Operation::Comment(_) | Operation::Assert(_) | Operation::Abort => None,
        }
    }
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq)]
pub enum OpResult {
    /// The row that was made.
    Inserted(Uuid),
    /// How many rows matched.
    Count(u64),
    /// The rows that were read.
    Rows(Vec<Row>),
    /// It held, or was noted.
    Done,
}

impl OpResult {
    /// The row that was made.
    pub fn inserted(&self) -> Option<Uuid> {
        match self {
            OpResult::Inserted(row) => Some(*row),
            OpResult::Count(_) | OpResult::Rows(_) | OpResult::Done => None,
        }
    }

    /// The rows that were read.
    pub fn rows(&self) -> &[Row] {
        match self {
            OpResult::Rows(rows) => rows,
            OpResult::Inserted(_) | OpResult::Count(_) | OpResult::Done => &[],
        }
    }
}

/// One element of the answer, as the server writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    uuid: Option<Datum>,
    count: Option<u64>,
    rows: Option<Vec<Row>>,
    pub(crate) error: Option<String>,
    pub(crate) details: Option<String>,
}

impl Answer {
    pub(crate) fn into_result(self) -> OpResult {
        match (self.uuid.as_ref().and_then(Datum::as_uuid), self.count, self.rows) {
            (Some(row), ..) => OpResult::Inserted(row),
            (None, Some(count), _) => OpResult::Count(count),
            (None, None, Some(rows)) => OpResult::Rows(rows),
            (None, None, None) => OpResult::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ovsdb::value::Atom;

    #[test]
    fn operations_are_written_as_the_rfc_says() {
        let row = Uuid::from_u128(7);
        let id = "00000000-0000-0000-0000-000000000007";
        let columns = || Row::from([("name".into(), "ls1".into())]);
        let all = [
            (
                Operation::insert_named("T", "r1", Row::from([("ports".into(), Atom::Named("p1".into()).into())])),
                json!({"op": "insert", "table": "T", "row": {"ports": ["named-uuid", "p1"]}, "uuid-name": "r1"}),
            ),
            (
                Operation::update("T", row, columns()),
                json!({"op": "update", "table": "T", "where": [["_uuid", "==", ["uuid", id]]], "row": {"name": "ls1"}}),
            ),
            (
                Operation::mutate("T", row, vec![Mutation::insert("ports", Datum::set(["a", "b"]))]),
                json!({"op": "mutate", "table": "T", "where": [["_uuid", "==", ["uuid", id]]],
                       "mutations": [["ports", "insert", ["set", ["a", "b"]]]]}),
            ),
            (
                Operation::guard("T", row, columns()),
                json!({"op": "wait", "table": "T", "where": [["_uuid", "==", ["uuid", id]]], "columns": ["name"],
                       "until": "==", "rows": [{"name": "ls1"}], "timeout": 0}),
            ),
            (Operation::select("T", Vec::new(), &[]), json!({"op": "select", "table": "T", "where": []})),
            (Operation::Comment("x".into()), json!({"op": "comment", "comment": "x"})),
            (Operation::Assert("l".into()), json!({"op": "assert", "lock": "l"})),
            (Operation::Abort, json!({"op": "abort"})),
        ];
        for (operation, wanted) in all {
            assert_eq!(serde_json::to_value(&operation).unwrap(), wanted);
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let read = |text: &str| serde_json::from_str::<Answer>(text).unwrap().into_result();
        assert_eq!(
            read(r#"{"uuid":["uuid","00000000-0000-0000-0000-000000000007"]}"#).inserted(),
            Some(Uuid::from_u128(7))
        );
        assert_eq!(read(r#"{"count":3}"#), OpResult::Count(3));
        assert_eq!(read(r#"{"rows":[{"a":1}]}"#).rows().len(), 1);
        assert_eq!(read("{}"), OpResult::Done);
    }
}
