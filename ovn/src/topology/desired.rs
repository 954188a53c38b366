//! What is wanted, kept from pass to pass: most changes of the replicated state say nothing of networks.

use std::sync::Arc;

use basalt_model::{StateView, Version};
use uuid::Uuid;

use super::{Facts, read, rows};
use crate::nb::Rows;

/// The rows that the state calls for, worked out anew only when it says something else of networks.
#[derive(Debug)]
pub struct Desired {
    owner: Uuid,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    version: Version,
    facts: Facts,
    rows: Arc<Rows>,
}

impl Desired {
    /// For the rows of the cluster `owner`.
    pub fn new(owner: Uuid) -> Self {
        Desired { owner, kept: None }
    }

    /// The rows, if they are known without looking: those of the last look, when the state has not changed since.
    pub fn known(&self, version: Version) -> Option<Arc<Rows>> {
        self.kept.as_ref().filter(|kept| kept.version == version).map(|kept| Arc::clone(&kept.rows))
    }

    /// The rows that `view` calls for. With many ports this is work for some milliseconds, unless they are known.
    pub fn look(&mut self, view: &StateView) -> Arc<Rows> {
        if let Some(rows) = self.known(view.version) {
            return rows;
        }
        let facts = read(view);
        let same = self.kept.take().filter(|kept| kept.facts == facts);
        let rows = same.map_or_else(|| Arc::new(rows(self.owner, &facts)), |kept| kept.rows);
        self.kept = Some(Kept { version: view.version, facts, rows: Arc::clone(&rows) });
        rows
    }
}
