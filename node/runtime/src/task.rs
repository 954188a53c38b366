//! Bare building blocks below the supervisor: run a future, catch its panic, own its handle.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

/// A task that panicked.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("task {name} panicked: {message}")]
pub struct Panicked {
    /// The task's name.
    pub name: &'static str,
    /// The panic's text.
    pub message: String,
}

impl Panicked {
    fn new(name: &'static str, payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "not a text".to_owned());
        Self { name, message }
    }
}

/// Runs `fut` here, turning a panic into a value.
pub(crate) async fn caught<T>(name: &'static str, fut: impl Future<Output = T>) -> Result<T, Panicked> {
    // Unwind safety: the future is dropped after a panic and never polled again.
    AssertUnwindSafe(fut).catch_unwind().await.map_err(|payload| Panicked::new(name, &*payload))
}

/// A task owned by whoever holds this: dropping the handle aborts it.
#[derive(Debug)]
pub struct Task<T> {
    name: &'static str,
    handle: JoinHandle<Result<T, Panicked>>,
}

/// Starts a task whose life is bound to the returned handle. For tasks that belong to the program
/// rather than to one caller, use [`crate::Supervisor`].
pub fn spawn<F>(name: &'static str, fut: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Task { name, handle: tokio::spawn(caught(name, fut)) }
}

/// Runs blocking work off the async threads. A panic becomes an error; dropping the future lets the
/// work run on, as it cannot be interrupted.
pub async fn spawn_blocking<T, F>(name: &'static str, work: F) -> Result<T, Panicked>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) => Err(lost(name, error)),
    }
}

impl<T> Task<T> {
    /// The task's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Asks the runtime to drop it at its next suspension point.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Waits for its end; if this future is dropped meanwhile, the task is aborted.
    pub async fn join(mut self) -> Result<T, Panicked> {
        let name = self.name;
        (&mut self.handle).await.unwrap_or_else(|error| Err(lost(name, error)))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

fn lost(name: &'static str, error: tokio::task::JoinError) -> Panicked {
    match error.try_into_panic() {
        Ok(payload) => Panicked::new(name, &*payload),
        Err(error) => Panicked { name, message: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn joins_with_value_or_panic() {
        assert_eq!(spawn("ok", async { 7 }).join().await, Ok(7));
        let panicked = spawn("bad", async { panic!("boom {}", 1) }).join().await;
        assert_eq!(panicked, Err::<(), _>(Panicked { name: "bad", message: "boom 1".into() }));
        let panicked = spawn_blocking("bad", || panic!("thud")).await;
        assert_eq!(panicked, Err::<(), _>(Panicked { name: "bad", message: "thud".into() }));
    }

    #[tokio::test]
    async fn dropping_the_handle_aborts() {
        let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        let task = spawn("held", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(task);
        assert_eq!(gone.recv().await, None);
    }
}
