//! Copies of tables, kept current over links that come and go.
//!
//! ```text
//! monitor_cond_since(last) --> nothing known of it: all rows --.
//!                          --> known: what changed since  -----+--> Tables (generation + 1) --> snapshot, changed
//! update3 (last') --------------------------------------------'
//! ```
//! Invariants: tables are of one moment, and go from one transaction's end to a later one's. Before the first load there
//! are none (not: empty ones). While the link is down they are the last known; [`Tables::epoch`] says of which link.

mod feed;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Error;
use crate::ovsdb::op::Condition;
use crate::ovsdb::value::{Datum, Name, Row};
use crate::session::Session;

pub(crate) use feed::{Dialect, Feed};
pub(crate) use update::{OldUpdates, Updates};

/// What is wanted of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorTable {
    /// Which. One that the database lacks is left out.
    pub table: Name,
    /// Of each row; none means all. Those that the database lacks are left out: what must be there is said in
    /// [`crate::session::SessionOptions::needs`].
    pub columns: Vec<Name>,
    /// Which rows: those for which **one** of the conditions holds (this differs from an operation's); none means all. Servers
    /// before 2.6 send all rows.
    pub where_: Vec<Condition>,
}

impl MonitorTable {
    /// Some columns of all rows.
    pub fn new(table: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|c| (*c).into()).collect();
        MonitorTable { table: table.into(), columns, where_: Vec::new() }
    }

    /// Of these rows only.
    #[must_use]
    pub fn only(mut self, condition: Condition) -> Self {
        self.where_.push(condition);
        self
    }
}

/// Rows of one table.
pub type Table = BTreeMap<Uuid, Arc<Row>>;

/// All tables of a monitor at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    generation: u64,
    epoch: u64,
    tables: BTreeMap<Name, Arc<Table>>,
}

static NO_ROWS: Table = Table::new();

impl Tables {
    /// A table's rows. Each has all the columns that were asked for, and that the database has.
    pub fn table(&self, name: &str) -> &Table {
        self.tables.get(name).map_or(&NO_ROWS, Arc::as_ref)
    }

    /// One row.
    pub fn row(&self, table: &str, row: Uuid) -> Option<&Arc<Row>> {
        self.table(table).get(&row)
    }

    /// The first row of a table that has this value in that column.
    pub fn find(&self, table: &str, column: &str, value: &Datum) -> Option<(Uuid, &Arc<Row>)> {
        self.table(table).iter().find(|(_, row)| row.get(column) == Some(value)).map(|(id, row)| (*id, row))
    }

    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Of which link they are ([`crate::session::Status::Up`], [`Session::transact_on`]).
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A monitor. Clones share the tables, and each has seen what it has seen. When the last one is dropped, it ends.
#[derive(Debug, Clone)]
pub struct Monitor {
    session: Session,
    feed: Arc<Feed>,
    seen: watch::Receiver<u64>,
}

impl Monitor {
    pub(crate) fn new(session: Session, feed: Arc<Feed>) -> Self {
        let seen = feed.generations();
        Monitor { session, feed, seen }
    }

    /// The tables as they are now; `None` before they were loaded for the first time.
    pub fn snapshot(&self) -> Option<Arc<Tables>> {
        self.feed.tables()
    }

    /// The tables, if they are those of the link that is up now: no change is known to be missed.
    pub fn current(&self) -> Option<Arc<Tables>> {
        let epoch = self.session.status().borrow().epoch();
        self.snapshot().filter(|tables| epoch == Some(tables.epoch))
    }

    /// Waits for a change after what was seen last by this: of rows, or of the link (its first load after a reconnect).
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        // The sender is in the feed, which we hold.
        let _ = self.seen.changed().await;
    }

    /// Waits until there are tables.
    ///
    /// # Errors
    /// The database refuses the monitor, or there was no link within the deadline.
    pub async fn loaded(&mut self, deadline: Duration) -> Result<Arc<Tables>, Error> {
        let found = self.until(deadline, |tables| Some(Arc::clone(tables))).await?;
        match found {
            Some(tables) => Ok(tables),
            // Without a link this says what the remotes say.
            None => match self.session.connected(Duration::ZERO).await {
                Ok(_) => Err(self.unloaded(format!("no tables within {deadline:?}"))),
                Err(error) => Err(error),
            },
        }
    }

    /// Waits until something is so: `look` is asked now and after each change. `None` when it is not within the deadline.
    ///
    /// # Errors
    /// The database refuses the monitor.
    pub async fn until<T>(
        &mut self,
        deadline: Duration,
        mut look: impl FnMut(&Arc<Tables>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let looking = async {
            loop {
                self.seen.borrow_and_update();
                if let Some(refusal) = self.feed.refusal() {
                    let (database, refusal) = (self.session.database().to_owned(), Box::new(refusal));
                    return Err(Error::Refused { database, refusal });
                }
                if let Some(found) = self.feed.tables().as_ref().and_then(&mut look) {
                    return Ok(found);
                }
                let _ = self.seen.changed().await;
            }
        };
        match timeout(deadline, looking).await {
            Ok(found) => found.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The generation of the tables, now and from now on: for those who wait for several things at once.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.seen.clone()
    }

    /// The session it belongs to.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn unloaded(&self, why: String) -> Error {
        Error::NotSent { database: self.session.database().to_owned(), why }
    }
}
