//! What a database's tables look like (RFC 7047, section 3.2), as far as a client needs it: whether the columns are there,
//! their defaults (updates leave them out), and which hold one value at most (their differences are written differently).

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use super::value::{Atom, Datum, Name};

/// A database's schema.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Schema {
    /// The database's name.
    pub name: String,
    /// `7.0.0`
    #[serde(default)]
    pub version: String,
    tables: BTreeMap<Name, Table>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Table {
    columns: BTreeMap<Name, Column>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Column {
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Kind {
    Scalar(Base),
    Full {
        key: Key,
        value: Option<Key>,
        #[serde(default = "one")]
        min: u64,
        #[serde(default)]
        max: Max,
    },
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Max {
    Number(u64),
    /// `unlimited`
    Word(String),
}

impl Default for Max {
    fn default() -> Self {
        Max::Number(1)
    }
}

fn one() -> u64 {
    1
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Key {
    Plain(Base),
    Full {
        #[serde(rename = "type")]
        base: Base,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Base {
    Integer,
    Real,
    Boolean,
    String,
    Uuid,
}

impl Schema {
    /// A column, if there is one.
    pub fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.tables.get(table)?.columns.get(column)
    }

    /// Whether there is that table.
    pub fn has_table(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// The names of a table's columns.
    pub fn columns(&self, table: &str) -> impl Iterator<Item = &Name> {
        self.tables.get(table).into_iter().flat_map(|t| t.columns.keys())
    }

    /// What of this is not there, as `Table` or `Table.column`.
    pub fn lacks<'a>(&self, needs: impl IntoIterator<Item = &'a (Name, Vec<Name>)>) -> Vec<String> {
        let mut missing = Vec::new();
        for (table, columns) in needs {
            match self.tables.get(table) {
                None => missing.push(table.to_string()),
                Some(found) => missing
                    .extend(columns.iter().filter(|c| !found.columns.contains_key(*c)).map(|c| format!("{table}.{c}"))),
            }
        }
        missing
    }
}

impl Column {
    /// What a row has here if nobody said otherwise.
    pub fn default_value(&self) -> Datum {
        match &self.kind {
            Kind::Scalar(base) => base.default_value().into(),
            Kind::Full { key, value: None, min, .. } => match min {
                0 => Datum::empty(),
                _ => key.base().default_value().into(),
            },
            Kind::Full { key, value: Some(value), min, .. } => match min {
                0 => Datum::Map(BTreeMap::new()),
                _ => Datum::map([(key.base().default_value(), value.base().default_value())]),
            },
        }
    }

    /// Whether it never holds more than one value: a difference of it is then the new value.
    pub fn is_single(&self) -> bool {
        match &self.kind {
            Kind::Scalar(_) => true,
            Kind::Full { max, .. } => *max == Max::Number(1),
        }
    }
}

impl Key {
    fn base(&self) -> Base {
        match self {
            Key::Plain(base) | Key::Full { base } => *base,
        }
    }
}

impl Base {
    fn default_value(self) -> Atom {
        match self {
            Base::Integer | Base::Real => Atom::Integer(0),
            Base::Boolean => Atom::Boolean(false),
            Base::String => Atom::String(String::new()),
            Base::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"name": "D", "version": "1.0.0", "cksum": "1 2", "tables": {"T": {"isRoot": true, "columns": {
        "name": {"type": "string"},
        "up": {"type": {"key": "boolean", "min": 0, "max": 1}},
        "number": {"type": {"key": {"type": "integer", "minInteger": 0}}},
        "kind": {"type": {"key": {"type": "string", "enum": ["set", ["a", "b"]]}}, "ephemeral": true},
        "ports": {"type": {"key": {"type": "uuid", "refTable": "T"}, "min": 0, "max": "unlimited"}},
        "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}}"#;

    #[test]
    fn columns_are_understood() {
        let schema: Schema = serde_json::from_str(TEXT).unwrap();
        let default = |name| schema.column("T", name).unwrap().default_value();
        let single = |name| schema.column("T", name).unwrap().is_single();
        assert_eq!(default("name"), "".into());
        assert_eq!(default("up"), Datum::empty());
        assert_eq!(default("number"), 0.into());
        assert_eq!(default("kind"), "".into());
        assert_eq!(default("ports"), Datum::empty());
        assert_eq!(default("ids"), Datum::Map(BTreeMap::new()));
        assert!(single("name") && single("number") && single("kind") && single("up"));
        assert!(!single("ports") && !single("ids"));
        let needs = [("T".into(), vec!["name".into(), "other".into()]), ("U".into(), Vec::new())];
        assert_eq!(schema.lacks(&needs), ["T.other", "U"]);
    }
}
