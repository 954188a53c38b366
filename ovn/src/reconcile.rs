//! One pass: looks at the database, makes it what is wanted, says what was found wrong.
//!
//! ```text
//!  snapshot -> the one that was found right, for the same rows and term? --yes--> nothing is compared
//!                 |
//!              marker ours? --no--> claim it for our term, look again      later term: stop, we do not lead any more
//!                 |
//!              diff -> transactions, each [wait for our term] + operations
//!                 |         refused: that one's units stay as they are, others go on
//!                 |         not sent, unknown, outrun: the pass ends; the next one starts from what is
//!              repairs: what was wrong though nobody wanted it otherwise since the last whole pass
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::Error;
use crate::diff::{Change, Fault, Transaction, diff};
use crate::marker::{self, Standing};
use crate::nb::Rows;
use crate::northbound::{Northbound, Snapshot};
use crate::ovsdb::op::Operation;

/// Why a pass did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// A leader of a later term writes there.
    #[error("the northbound database is written by a leader of term {term}, which is later than ours")]
    Superseded { term: u64 },
    /// Somebody else wrote at the same time; the next pass looks again.
    #[error("somebody else wrote to the northbound database at the same time")]
    Outrun,
    /// It cannot be reached, or went away in the middle.
    #[error(transparent)]
    Northbound(#[from] Error),
    /// Working out the plan failed.
    #[error("the plan could not be worked out: {0}")]
    Plan(String),
}

/// What the database would not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose rows it was about.
    pub units: Vec<String>,
    pub error: Error,
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pass {
    pub transactions: u64,
    /// Rows that were not as they should be, though they had been.
    pub repairs: BTreeMap<Fault, u64>,
    pub refused: Vec<Refused>,
}

/// Makes one database hold what is wanted, pass by pass. It remembers what it last wrote, to tell repairs from changes, and
/// which look at the database had nothing wrong in it.
#[derive(Debug)]
pub struct Reconciler {
    owner: Uuid,
    written: Option<Arc<Rows>>,
    right: Option<Right>,
}

/// A look at the database in which there was nothing to do. Whatever anybody does to a row makes another version.
#[derive(Debug, Clone)]
struct Right {
    version: u64,
    epoch: u64,
    term: u64,
    desired: Arc<Rows>,
}

impl Reconciler {
    /// For the rows of the cluster `owner`.
    pub fn new(owner: Uuid) -> Self {
        Reconciler { owner, written: None, right: None }
    }

    /// One pass, as the leader of `term`.
    ///
    /// # Errors
    /// Why it did not come to its end. What it did until then stays; nothing of it is half done.
    pub async fn pass(&mut self, northbound: &dyn Northbound, desired: Arc<Rows>, term: u64) -> Result<Pass, Stopped> {
        let mut pass = Pass::default();
        let mut snapshot = northbound.snapshot()?;
        let same = |right: &Right| (right.version, right.epoch, right.term) == (snapshot.version, snapshot.epoch, term);
        let right = self.right.take().filter(same);
        if right.as_ref().is_some_and(|right| Arc::ptr_eq(&right.desired, &desired)) {
            self.right = right;
            return Ok(pass);
        }
        let mut plan = work_out(self.owner, &snapshot, &desired, right).await?;
        // Nothing is ours there, nor is to be: no marker either.
        if plan.is_empty() && desired.is_empty() {
            self.written = Some(desired);
            return Ok(pass);
        }
        // Claimed even when there is nothing to do: what an earlier leader has still on its way comes too late.
        if self.claim(northbound, &snapshot, term).await? {
            snapshot = northbound.snapshot()?;
            plan = work_out(self.owner, &snapshot, &desired, None).await?;
        }
        if plan.is_empty() {
            let Snapshot { version, epoch, .. } = snapshot;
            self.right = Some(Right { version, epoch, term, desired: Arc::clone(&desired) });
        }
        for transaction in plan {
            self.carry_out(northbound, &snapshot, (transaction, term, &desired), &mut pass).await?;
        }
        if pass.refused.is_empty() {
            self.written = Some(desired);
        }
        Ok(pass)
    }

    /// Makes the marker ours; says whether that took a transaction.
    async fn claim(&self, northbound: &dyn Northbound, snapshot: &Snapshot, term: u64) -> Result<bool, Stopped> {
        let found = snapshot.marker(self.owner);
        match marker::standing(self.owner, term, found) {
            Standing::Ours => Ok(false),
            Standing::Later(term) => Err(Stopped::Superseded { term }),
            Standing::Free => {
                northbound.transact(snapshot, marker::claim(self.owner, term, found)).await.map_err(stopped)?;
                Ok(true)
            }
        }
    }

    async fn carry_out(
        &self,
        northbound: &dyn Northbound,
        snapshot: &Snapshot,
        (transaction, term, desired): (Transaction, u64, &Rows),
        pass: &mut Pass,
    ) -> Result<(), Stopped> {
        let Transaction { units, operations, changes } = transaction;
        let mut all = vec![marker::guard(self.owner, term)];
        all.extend(operations);
        all.push(Operation::Comment(format!("basalt: {}", units.join(" "))));
        match northbound.transact(snapshot, all).await {
            Ok(_) => {
                pass.transactions += 1;
                for change in changes.iter().filter(|change| self.is_repair(change, desired)) {
                    *pass.repairs.entry(change.fault).or_default() += 1;
                }
                Ok(())
            }
            Err(error) if error.refusal().is_some() && !error.is_conflict() => {
                pass.refused.push(Refused { units, error });
                Ok(())
            }
            Err(error) => Err(stopped(error)),
        }
    }

    /// Whether the row had been as it is wanted now. After a change of leader nobody can tell.
    fn is_repair(&self, change: &Change, desired: &Rows) -> bool {
        let Some(written) = &self.written else { return false };
        match change.fault {
            Fault::Missing | Fault::Altered | Fault::Reference => {
                desired.get(&change.row).is_some_and(|wanted| written.get(&change.row) == Some(wanted))
            }
            Fault::Surplus => written.get(&change.row).is_none() || desired.get(&change.row).is_some(),
        }
    }
}

fn stopped(error: Error) -> Stopped {
    if error.is_conflict() { Stopped::Outrun } else { Stopped::Northbound(error) }
}

/// With many ports this is work for some milliseconds, so it is done beside those who wait for answers. Nothing is to be done
/// for rows for which the same look was `right`.
async fn work_out(
    owner: Uuid,
    snapshot: &Snapshot,
    desired: &Arc<Rows>,
    right: Option<Right>,
) -> Result<Vec<Transaction>, Stopped> {
    let (snapshot, desired) = (snapshot.clone(), Arc::clone(desired));
    let work = basalt_runtime::spawn_blocking("northbound plan", move || {
        if right.is_some_and(|right| right.desired == desired) {
            return Vec::new();
        }
        let mut actual = snapshot.actual(owner);
        actual.adopt(&desired);
        diff(&desired, &actual)
    });
    work.await.map_err(|panicked| Stopped::Plan(panicked.to_string()))
}
