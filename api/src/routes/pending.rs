//! The two-step way of making a pool or a network: one call for each member with `?target=`, then one without. The
//! first calls are remembered here, on the member that got them, until the last one realises the object; Basalt itself
//! needs no first step.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use basalt_model::NodeId;

use crate::dto::Map;

/// Which objects of a kind wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Pool,
    Network,
}

/// An object that waits to be realised.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    pub(crate) driver: String,
    pub(crate) members: BTreeMap<NodeId, Map>,
}

/// Objects that wait to be realised.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<BTreeMap<(What, String), Waiting>>);

impl Pending {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<(What, String), Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers one member's part.
    pub(crate) fn add(&self, what: What, name: &str, driver: &str, (node, config): (NodeId, Map)) {
        let mut waiting = self.waiting();
        let object = waiting.entry((what, name.to_owned())).or_default();
        object.driver = driver.to_owned();
        object.members.insert(node, config);
    }

    /// What waits under this name.
    pub(crate) fn get(&self, what: What, name: &str) -> Option<Waiting> {
        self.waiting().get(&(what, name.to_owned())).cloned()
    }

    /// All that waits.
    pub(crate) fn list(&self, what: What) -> Vec<(String, Waiting)> {
        let waiting = self.waiting();
        waiting.iter().filter(|((w, _), _)| *w == what).map(|((_, n), object)| (n.clone(), object.clone())).collect()
    }

    /// Forgets it; says whether it was there.
    pub(crate) fn remove(&self, what: What, name: &str) -> bool {
        self.waiting().remove(&(what, name.to_owned())).is_some()
    }
}
