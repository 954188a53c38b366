//! The marker: a row of ours that says under which leader the database is written. Each transaction of a leader begins
//! with a wait for its own term on it, so that one that lost leadership on its way writes nothing.
//!
//! ```text
//!  no marker ------- term 3 inserts it; of two that do, the second breaks the index on the name
//!  term 3 (ours) --- nothing to do: guard, then write
//!  term 3, we are 5  guard on 3, then update to 5: the leader of term 3 is out from here on
//!  term 7, we are 5  we do not lead any more, whatever we believe: nothing is written
//! ```
//! It is an address set without addresses: northd copies that and nothing looks at it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::nb::Table;
use crate::nb::rows::{KEY, OWNER};
use crate::ovsdb::op::{Condition, Operation, Until};
use crate::ovsdb::value::{Datum, Row};

/// The marker's `basalt_key`.
pub const ROW_KEY: &str = "leader";
const TERM: &str = "basalt_term";

/// How the marker stands to a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is this term's.
    Ours,
    /// It is an earlier one's, or nobody's.
    Free,
    /// It is that later term's.
    Later(u64),
}

/// The name of a cluster's marker.
pub fn name(owner: Uuid) -> String {
    format!("basalt_leader_{}", owner.simple())
}

fn external_ids(owner: Uuid, term: u64) -> Datum {
    let entries = [(OWNER, owner.to_string()), (KEY, ROW_KEY.to_owned()), (TERM, term.to_string())];
    Datum::map(entries)
}

/// How the marker, as it was found, stands to `term`. One that says nothing sensible is nobody's.
pub fn standing(owner: Uuid, term: u64, found: Option<&Row>) -> Standing {
    let ids = found.and_then(|row| row.get("external_ids"));
    let held: Option<u64> = ids.and_then(|ids| ids.get(TERM)).and_then(|text| text.parse().ok());
    match held {
        Some(held) if held > term => Standing::Later(held),
        Some(_) if ids == Some(&external_ids(owner, term)) => Standing::Ours,
        Some(_) | None => Standing::Free,
    }
}

/// Fails the transaction that it begins unless the marker holds this term.
pub fn guard(owner: Uuid, term: u64) -> Operation {
    Operation::Wait {
        table: Table::AddressSet.name().into(),
        where_: vec![Condition::equal("name", name(owner))],
        columns: vec!["external_ids".into()],
        until: Until::Equal,
        rows: vec![BTreeMap::from([("external_ids".into(), external_ids(owner, term))])],
        timeout: 0,
    }
}

/// The transaction that makes `term` the one that may write, after `found`. `columns` is the marker as it is.
pub fn claim(owner: Uuid, term: u64, found: Option<&Row>) -> Vec<Operation> {
    let table = Table::AddressSet.name();
    let ids = ("external_ids".into(), external_ids(owner, term));
    let Some(found) = found else {
        return vec![Operation::insert(table, BTreeMap::from([("name".into(), name(owner).into()), ids]))];
    };
    let where_ = vec![Condition::equal("name", name(owner))];
    let held = found.get("external_ids").cloned().unwrap_or_else(|| Datum::Map(BTreeMap::new()));
    vec![
        Operation::Wait {
            table: table.into(),
            where_: where_.clone(),
            columns: vec!["external_ids".into()],
            until: Until::Equal,
            rows: vec![BTreeMap::from([("external_ids".into(), held)])],
            timeout: 0,
        },
        Operation::Update { table: table.into(), where_, row: BTreeMap::from([ids]) },
    ]
}
