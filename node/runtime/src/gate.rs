//! Counts who is still inside. The token of a `Shutdown` asks to stop; the gate waits.
//!
//! A guard carries a name, so that whatever holds a shutdown up can be named.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// Cheap to clone; all clones are one gate.
#[derive(Clone, Debug)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    inside: Mutex<Inside>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    names: BTreeMap<u64, &'static str>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An empty gate.
    pub fn new() -> Self {
        let count = watch::channel(0).0;
        Self { inner: Arc::new(Inner { inside: Mutex::default(), count }) }
    }

    /// Goes in; out again when the guard is dropped.
    pub fn enter(&self, name: &'static str) -> Guard {
        let id = self.inner.change(|inside| {
            inside.next += 1;
            inside.names.insert(inside.next, name);
            inside.next
        });
        Guard { inner: Arc::clone(&self.inner), id, name, _outer: None }
    }

    /// Names of those inside, in the order they came.
    pub fn names(&self) -> Vec<&'static str> {
        self.inner.lock().names.values().copied().collect()
    }

    /// How many are inside.
    pub fn len(&self) -> usize {
        *self.inner.count.borrow()
    }

    /// Whether nobody is inside.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until nobody is inside. Cancel-safe.
    pub async fn empty(&self) {
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = self.inner.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        // Nothing panics while holding it; were it so, the map is still sound.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and publishes the new count under one lock, so counts arrive in order.
    fn change<T>(&self, f: impl FnOnce(&mut Inside) -> T) -> T {
        let mut inside = self.lock();
        let out = f(&mut inside);
        self.count.send_replace(inside.names.len());
        out
    }
}

/// Presence inside a [`Gate`]; leaving is dropping it.
#[derive(Debug)]
pub struct Guard {
    inner: Arc<Inner>,
    id: u64,
    name: &'static str,
    /// The guard of the enclosing gate: whoever is in a child is in its parent too.
    _outer: Option<Box<Guard>>,
}

impl Guard {
    pub(crate) fn within(mut self, outer: Guard) -> Self {
        self._outer = Some(Box::new(outer));
        self
    }

    /// The name given at entry.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.change(|inside| inside.names.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_last_guard() {
        let gate = Gate::new();
        gate.empty().await;
        let (a, b) = (gate.enter("a"), gate.enter("b"));
        assert_eq!((gate.names(), gate.len()), (vec!["a", "b"], 2));
        drop(a);
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.empty()).await.is_err());
        drop(b);
        gate.empty().await;
        assert!(gate.is_empty());
    }
}
