//! Supervised tasks, shutdown, backoff, and the one place that starts host commands.
//!
//! ```text
//! Shutdown --- token: "please stop" ---> tasks, loops, accept queues
//!     \------- gate:  "who is still here?" <--- one named guard per running task
//! Supervisor = Shutdown + what a task's panic or error means (OnExit)
//! CommandRunner: HostRunner (real processes) | ScriptedRunner (tests)
//! ```
//!
//! Invariants: `tokio::spawn` and process creation appear in this crate only; a panic in a task is
//! always caught, logged once with the task's name, and turned into what its [`OnExit`] says; a
//! child process never outlives its deadline or the future that runs it (unless it made itself a
//! daemon in a session of its own).
//!
//! On failure: a fatal task cancels the whole [`Shutdown`]; the program then drains and exits, and
//! guests, which are not our children, keep running.
//!
//! It knows nothing of the domain, and keeps no global state.
// The ban on spawning elsewhere (`.clippy.toml`) ends at this crate: this is where it happens.
#![allow(clippy::disallowed_methods)]

mod backoff;
mod exec;
mod gate;
mod shutdown;
mod supervisor;
mod task;

pub use backoff::Backoff;
pub use exec::{
    Attached, CommandRunner, ExecError, Finished, HostRunner, Invocation, Streaming,
    scripted::{Answer, ScriptedRunner},
};
pub use gate::{Gate, Guard};
pub use shutdown::Shutdown;
pub use supervisor::{OnExit, Supervisor};
pub use task::{Panicked, Task, spawn, spawn_blocking};

/// Any error that a supervised task may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error with all its causes, for the log: `outer: inner: innermost`.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
