//! The northbound database, as the controller sees it.

mod live;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::Error;
use crate::marker;
use crate::nb::{Actual, Table};
use crate::ovsdb::op::{OpResult, Operation};
use crate::ovsdb::value::{Datum, Row};

pub use live::LiveNorthbound;

/// The rows of one table, as one look at the database found them.
pub trait Look: Send + Sync + fmt::Debug {
    /// Shows each row to `take`.
    fn each<'a>(&'a self, table: Table, take: &mut dyn FnMut(Uuid, &'a Row));
}

/// One look at the database. Cheap to clone, never changes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What [`Northbound::changed`] waits from.
    pub version: u64,
    /// Of which link to the database it is.
    pub epoch: u64,
    pub tables: Arc<dyn Look>,
}

impl Snapshot {
    /// The rows of `owner`, by their keys.
    pub fn actual(&self, owner: Uuid) -> Actual<'_> {
        let mut actual = Actual::new(owner);
        for table in Table::ALL {
            self.tables.each(*table, &mut |uuid, row| actual.add(*table, uuid, row));
        }
        actual
    }

    /// The marker of `owner`.
    pub fn marker(&self, owner: Uuid) -> Option<&Row> {
        let name = marker::name(owner);
        let mut found = None;
        self.tables.each(Table::AddressSet, &mut |_, row| {
            if row.get("name").and_then(Datum::as_str) == Some(name.as_str()) {
                found = Some(row);
            }
        });
        found
    }
}

/// The northbound database. A snapshot may be behind what a transaction has just done; [`Northbound::changed`] tells when
/// it no longer is.
#[async_trait]
pub trait Northbound: Send + Sync + fmt::Debug {
    /// The rows as they are now; the error says why nobody can tell.
    fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Carries out a transaction that was worked out from `from`. Cancelling leaves the outcome unknown.
    async fn transact(&self, from: &Snapshot, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error>;

    /// Waits until there is another snapshot than that of `version`: `None` for any at all. Cancel-safe.
    async fn changed(&self, version: Option<u64>);
}
