//! Tasks of the program: named, counted, their panics caught, their end waited for.
//!
//! ```text
//!  spawn ------------> running --> done                     (guard dropped)
//!                         | panic --> Log: logged | Fatal, Restart: shutdown cancelled
//!  spawn_restarting -> running --> Ok: done
//!                         ^  | panic, Err --> wait (backoff) --.
//!                         '-------------------- unless stopping '
//! ```
//! A task is asked to stop through the token; nothing is aborted. [`Supervisor::drain`] waits, and
//! names what did not stop.

use std::{future::Future, time::Duration};

use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::{
    Backoff, BoxError, Shutdown, chain,
    task::{Panicked, caught},
};

const RESTART_MIN: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(30);

/// What a panic of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The program cannot go on without it: everything is asked to stop.
    Fatal,
    /// It must be running. A one-shot future cannot be made again, so for [`Supervisor::spawn`]
    /// this is `Fatal` (whoever restarts the program restarts it); see
    /// [`Supervisor::spawn_restarting`].
    Restart,
    /// It is logged, and that is all.
    Log,
}

/// Starts tasks and waits for them. Cheap to clone; all clones are one supervisor.
#[derive(Clone, Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
}

impl Supervisor {
    /// A supervisor whose tasks hold `shutdown` open and whose fatal tasks cancel it.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown }
    }

    /// A supervisor for one part that is stopped, and waited for, alone. Its fatal tasks stop that
    /// part only.
    pub fn child(&self) -> Self {
        Self::new(self.shutdown.child())
    }

    /// Runs a task to its end. A panic is caught, logged, and means what `on_exit` says; returning
    /// is always fine.
    pub fn spawn<F>(&self, name: &'static str, on_exit: OnExit, fut: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.shutdown.guard(name);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let _guard = guard;
            let Err(panicked) = caught(name, fut).await else {
                debug!(task = name, "task ended");
                return;
            };
            match on_exit {
                OnExit::Fatal | OnExit::Restart => {
                    error!(task = name, error = %panicked, "fatal; shutting down");
                    shutdown.cancel();
                }
                OnExit::Log => error!(task = name, error = %panicked, "task lost"),
            }
        });
    }

    /// Runs a long-lived task that `make` makes anew, with backoff, after each panic or error while
    /// nobody asked to stop. It ends when the future returns `Ok`.
    pub fn spawn_restarting<M, F>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let guard = self.shutdown.guard(name);
        let token = self.shutdown.token();
        tokio::spawn(async move {
            let _guard = guard;
            let mut backoff = Backoff::new(RESTART_MIN, RESTART_MAX);
            while !token.is_cancelled() {
                let started = Instant::now();
                // `make` runs inside, so that its own panic is caught as well.
                let ended = caught(name, async { make().await }).await;
                let reason = match ended {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => chain(&*error),
                    Err(Panicked { message, .. }) => format!("panicked: {message}"),
                };
                if started.elapsed() > RESTART_MAX {
                    backoff.reset();
                }
                let delay = backoff.next_delay();
                warn!(task = name, reason, ?delay, "task failed; it will be started again");
                // Either arm may be dropped without loss.
                tokio::select! {
                    () = token.cancelled() => {}
                    () = tokio::time::sleep(delay) => {}
                }
            }
            debug!(task = name, "task ended");
        });
    }

    /// What asks these tasks to stop.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Waits until every task and guard is gone. It does not ask them to: cancel the shutdown
    /// first. The error names what is still there at the deadline.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Vec<&'static str>> {
        self.shutdown.finished(deadline).await
    }

    /// How many tasks and guards there are.
    pub fn running(&self) -> usize {
        self.shutdown.gate().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn supervisor() -> Supervisor {
        Supervisor::new(Shutdown::new())
    }

    #[tokio::test]
    async fn a_fatal_panic_cancels_everything() {
        let s = supervisor();
        let waiting = s.shutdown().clone();
        s.spawn("waits", OnExit::Log, async move { waiting.cancelled().await });
        s.spawn("dies", OnExit::Fatal, async { panic!("boom") });
        s.shutdown().cancelled().await;
        s.drain(Duration::from_secs(5)).await.unwrap();
        assert_eq!(s.running(), 0);
    }

    #[tokio::test]
    async fn a_logged_panic_harms_nobody() {
        let s = supervisor();
        s.spawn("dies", OnExit::Log, async { panic!("boom") });
        s.drain(Duration::from_secs(5)).await.unwrap();
        assert!(!s.shutdown().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_after_error_and_panic_until_ok() {
        let s = supervisor();
        let tries = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&tries);
        s.spawn_restarting("flaky", move || {
            let n = seen.fetch_add(1, Ordering::SeqCst);
            async move {
                match n {
                    0 => Err("no".into()),
                    1 => panic!("boom"),
                    _ => Ok(()),
                }
            }
        });
        s.drain(Duration::from_secs(5)).await.unwrap();
        assert_eq!(tries.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_restart_while_stopping_and_the_stuck_are_named() {
        let s = supervisor();
        s.spawn_restarting("flaky", || async { Err("always".into()) });
        s.spawn("stuck", OnExit::Log, std::future::pending());
        tokio::time::sleep(Duration::from_secs(1)).await;
        s.shutdown().cancel();
        assert_eq!(s.drain(Duration::from_secs(60)).await, Err(vec!["stuck"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_drains_alone() {
        let s = supervisor();
        let child = s.child();
        let token = child.shutdown().token();
        child.spawn("inner", OnExit::Log, async move { token.cancelled().await });
        s.spawn("outer", OnExit::Log, std::future::pending());
        assert_eq!((s.running(), child.running()), (2, 1));
        child.shutdown().cancel();
        child.drain(Duration::from_secs(1)).await.unwrap();
        assert!(!s.shutdown().is_cancelled());
        assert_eq!(s.running(), 1);
    }
}
