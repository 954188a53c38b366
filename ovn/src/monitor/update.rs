//! What the server sends of changes: the newer form (`update2`, `update3`), with differences, and the older, with whole rows.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use crate::ovsdb::value::{Name, Row};

/// Changes by table and row.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Updates(pub(super) BTreeMap<Name, BTreeMap<Uuid, Change>>);

/// What became of a row. Columns with their default are left out of a whole row.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    Initial(Row),
    Insert(Row),
    Delete(()),
    Modify(Row),
}

/// The older form.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct OldUpdates(pub(crate) BTreeMap<Name, BTreeMap<Uuid, OldChange>>);

/// A row as it is now; gone if not given.
#[derive(Debug, Deserialize)]
pub(crate) struct OldChange {
    pub(crate) new: Option<Row>,
}

impl From<OldUpdates> for Updates {
    fn from(old: OldUpdates) -> Self {
        let change = |change: OldChange| match change.new {
            Some(row) => Change::Insert(row),
            None => Change::Delete(()),
        };
        let rows = |rows: BTreeMap<Uuid, OldChange>| rows.into_iter().map(|(id, c)| (id, change(c))).collect();
        Updates(old.0.into_iter().map(|(table, changes)| (table, rows(changes))).collect())
    }
}
