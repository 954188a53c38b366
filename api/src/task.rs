//! The API's own tasks: connections, operations, relays. Tracked, so that shutting down can wait for them; a panic in
//! one is logged and ends that task alone.
//!
//! The layering lets this crate import the model and nothing else of ours, hence no supervisor of the runtime here.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks with one shutdown.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Tasks { tracker: TaskTracker::new(), shutdown }
    }

    /// Runs `future` until its end or until shutdown drops it.
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                ended = AssertUnwindSafe(future).catch_unwind() => report(name, &ended),
            }
        });
    }

    /// Runs `future` to its end: it looks at the shutdown itself.
    pub(crate) fn spawn_to_end(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(async move { report(name, &AssertUnwindSafe(future).catch_unwind().await) });
    }

    /// The token that says when to stop.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Waits until all tasks have ended; call it after shutdown.
    pub(crate) async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn report(name: &'static str, ended: &Result<(), Box<dyn std::any::Any + Send>>) {
    if let Err(panic) = ended {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(task = name, panic = text, "task lost");
    }
}

/// A task that belongs to a stream and ends with it; a panic in it is logged.
pub(crate) fn detached(name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
    let tracker = TaskTracker::new();
    tracker.spawn(async move { report(name, &AssertUnwindSafe(future).catch_unwind().await) });
}
