//! A cancel token and a gate: ask to stop, then wait until the last guard is gone.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, Guard};

/// Cheap to clone; all clones are one shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    gate: Gate,
    parent: Option<Box<Shutdown>>,
}

impl Shutdown {
    /// Nobody asked to stop yet, nobody inside.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token, for code that wants to `select!` on it or derive from it.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks everyone here and in children to stop. Idempotent.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Whether stopping was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until stopping is asked for. Cancel-safe.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// A part that can be stopped alone, and that stops with us. Who is inside the child is inside
    /// the parent too.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), gate: Gate::new(), parent: Some(Box::new(self.clone())) }
    }

    /// Marks work that a shutdown has to wait for.
    pub fn guard(&self, name: &'static str) -> Guard {
        let guard = self.gate.enter(name);
        match &self.parent {
            Some(parent) => guard.within(parent.guard(name)),
            None => guard,
        }
    }

    /// The gate, to count and name who is inside.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Waits until nobody is inside; the names of those left when the deadline passes.
    pub async fn finished(&self, deadline: Duration) -> Result<(), Vec<&'static str>> {
        match tokio::time::timeout(deadline, self.gate.empty()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gate.names()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_child_stops_with_its_parent_and_holds_it_open() {
        let parent = Shutdown::new();
        let child = parent.child();
        let guard = child.guard("worker");
        parent.cancel();
        child.cancelled().await;
        assert_eq!(parent.finished(Duration::from_secs(1)).await, Err(vec!["worker"]));
        drop(guard);
        assert_eq!(parent.finished(Duration::from_secs(1)).await, Ok(()));
    }

    #[test]
    fn a_child_stops_alone() {
        let parent = Shutdown::new();
        let child = parent.child();
        child.cancel();
        assert!(child.is_cancelled() && !parent.is_cancelled());
    }
}
