//! The real database, over a session.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Look, Northbound, Snapshot};
use crate::Error;
use crate::monitor::{Monitor, MonitorTable, Tables};
use crate::nb::Table;
use crate::ovsdb::op::{OpResult, Operation};
use crate::ovsdb::value::{Name, Row};
use crate::session::{Counts, Remote, Session, SessionOptions, Status, Tls};

/// The database's name.
const DATABASE: &str = "OVN_Northbound";

/// The northbound database of an OVN.
#[derive(Debug)]
pub struct LiveNorthbound {
    session: Session,
    monitor: Monitor,
}

impl LiveNorthbound {
    /// Begins to connect, in the background, and keeps connected: to the leader, if the database is a cluster of several.
    ///
    /// # Errors
    /// A remote with TLS, and no certificates; or no remote.
    pub fn connect(remotes: Vec<Remote>, tls: Option<Tls>) -> Result<Self, Error> {
        let names = |table: &Table| table.columns().iter().map(|column| Name::from(column.name)).collect::<Vec<_>>();
        let needs = Table::ALL.iter().map(|table| (table.name().into(), names(table))).collect();
        let options = SessionOptions { leader_only: true, tls, needs, ..SessionOptions::new(DATABASE) };
        let session = Session::connect(remotes, options)?;
        // All rows, not only those with our tag: one whose tag was wiped off is to be found again.
        let table =
            |table: &Table| MonitorTable { table: table.name().into(), columns: names(table), where_: Vec::new() };
        let monitor = session.monitor(Table::ALL.iter().map(table).collect());
        Ok(LiveNorthbound { session, monitor })
    }

    /// What went over the wire.
    pub fn counts(&self) -> Counts {
        self.session.counts()
    }

    fn version(&self) -> Option<u64> {
        self.monitor.current().map(|tables| tables.generation())
    }
}

impl Look for Tables {
    fn each<'a>(&'a self, table: Table, take: &mut dyn FnMut(Uuid, &'a Row)) {
        for (uuid, row) in self.table(table.name()) {
            take(*uuid, row);
        }
    }
}

#[async_trait]
impl Northbound for LiveNorthbound {
    fn snapshot(&self) -> Result<Snapshot, Error> {
        match self.monitor.current() {
            Some(tables) => {
                Ok(Snapshot { version: tables.generation(), epoch: tables.epoch(), tables: tables as Arc<dyn Look> })
            }
            None => {
                let why = match &*self.session.status().borrow() {
                    Status::Down { why } if why.is_empty() => "there is no connection yet".to_owned(),
                    Status::Down { why } => why.clone(),
                    Status::Up { remote, .. } => format!("{remote} has not sent its rows yet"),
                };
                Err(Error::NotSent { database: DATABASE.into(), why })
            }
        }
    }

    async fn transact(&self, from: &Snapshot, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error> {
        self.session.transact_on(from.epoch, operations).await
    }

    async fn changed(&self, version: Option<u64>) {
        let (mut rows, mut status) = (self.monitor.generations(), self.session.status());
        loop {
            rows.borrow_and_update();
            status.borrow_and_update();
            if self.version() != version {
                return;
            }
            // Their senders live as long as the session, which we hold.
            tokio::select! {
                _ = rows.changed() => {}
                _ = status.changed() => {}
            }
        }
    }
}
