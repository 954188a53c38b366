//! A northbound database in memory, with the rules of the real one that we rely on: a transaction happens whole or not at
//! all, references point at rows that are there, rows that nothing holds go by themselves, names are unique where the
//! schema says so. `tests/northbound.rs` holds it against the real one.

mod commit;
mod execute;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

use crate::nb::Table;
use crate::northbound::{Look, Northbound, Snapshot};
use crate::ovsdb::op::{OpResult, Operation};
use crate::ovsdb::value::Row;
use crate::{Error, Refusal};

/// Tables by UUID.
pub type Tables = BTreeMap<Table, BTreeMap<Uuid, Row>>;

/// What the database answers, and whether it can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Well,
    /// Nobody answers.
    Away,
    /// Transactions happen, and their answers are lost.
    Mute,
}

/// The database.
#[derive(Debug, Default)]
pub struct FakeNorthbound {
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    next: u128,
    mood: Mood,
    transactions: u64,
}

impl FakeNorthbound {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does what a transaction says, or nothing.
    ///
    /// # Errors
    /// The database's reason, as the real one words it.
    pub fn apply(&self, operations: &[Operation]) -> Result<Vec<OpResult>, String> {
        let mut inner = self.lock();
        let mut work = inner.tables.clone();
        let mut next = inner.next;
        let results = execute::run(&mut work, &mut next, operations)?;
        commit::settle(&mut work)?;
        inner.next = next;
        inner.transactions += 1;
        let changed = inner.tables != work;
        inner.tables = work;
        drop(inner);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
        Ok(results)
    }

    /// All rows, whoever's.
    pub fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// Somebody's hand in the rows. What nothing holds goes; what no database could hold does not happen.
    ///
    /// # Errors
    /// Why it could not.
    pub fn damage(&self, by: impl FnOnce(&mut Tables)) -> Result<(), String> {
        let mut inner = self.lock();
        let mut work = inner.tables.clone();
        by(&mut work);
        commit::settle(&mut work)?;
        inner.tables = work;
        drop(inner);
        self.version.send_modify(|version| *version += 1);
        Ok(())
    }

    /// How it behaves from now on.
    pub fn mood(&self, mood: Mood) {
        self.lock().mood = mood;
        self.version.send_modify(|version| *version += 1);
    }

    /// How many transactions have happened.
    pub fn transactions(&self) -> u64 {
        self.lock().transactions
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look for Tables {
    fn each<'a>(&'a self, table: Table, take: &mut dyn FnMut(Uuid, &'a Row)) {
        for (uuid, row) in self.get(&table).into_iter().flatten() {
            take(*uuid, row);
        }
    }
}

const NAME: &str = "OVN_Northbound";

fn away() -> Error {
    Error::NotSent { database: NAME.into(), why: "no remote answers".into() }
}

fn refused(why: String) -> Error {
    let (error, details) = why.split_once(": ").map_or((why.as_str(), ""), |(error, details)| (error, details));
    let refusal = Box::new(Refusal { error: error.into(), details: details.into(), ..Refusal::default() });
    Error::Refused { database: NAME.into(), refusal }
}

#[async_trait]
impl Northbound for FakeNorthbound {
    fn snapshot(&self) -> Result<Snapshot, Error> {
        let inner = self.lock();
        let version = *self.version.borrow();
        match inner.mood {
            Mood::Away => Err(away()),
            Mood::Well | Mood::Mute => Ok(Snapshot { version, epoch: 1, tables: Arc::new(inner.tables.clone()) }),
        }
    }

    async fn transact(&self, _: &Snapshot, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error> {
        let mood = self.lock().mood;
        match mood {
            Mood::Away => Err(away()),
            Mood::Well => self.apply(&operations).map_err(refused),
            Mood::Mute => {
                self.apply(&operations).map_err(refused)?;
                Err(Error::Unknown { database: NAME.into(), why: "the connection broke".into() })
            }
        }
    }

    async fn changed(&self, version: Option<u64>) {
        // The sender lives in `self`, so the channel cannot close while we wait.
        let away = || self.lock().mood == Mood::Away;
        let _ = self.version.subscribe().wait_for(|now| (!away()).then_some(*now) != version).await;
    }
}
