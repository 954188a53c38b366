//! Exec and console: a process inside a running guest, with its ends of pipes or of a terminal as plain descriptors.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use basalt_model::InstanceId;

use crate::Error;

/// A program to run inside a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    /// The whole environment; nothing is inherited from the agent.
    pub environment: BTreeMap<String, String>,
    /// Without one, root begins in `/root` if guest and host have that, everybody else in `/`.
    pub cwd: Option<String>,
    pub uid: u32,
    pub gid: u32,
    /// A terminal of this many columns and rows, or pipes.
    pub terminal: Option<(u16, u16)>,
}

/// Our ends of the process's standard streams.
#[derive(Debug)]
pub enum GuestIo {
    /// Master of a pseudo-terminal.
    Terminal(OwnedFd),
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
}

/// A process inside a guest. Dropping it kills the process.
#[async_trait]
pub trait GuestProcess: Send + Sync + std::fmt::Debug {
    /// Host pid of the process.
    fn pid(&self) -> u32;
    /// Sends it a signal (number as in signal(7)).
    fn signal(&self, signal: i32) -> Result<(), Error>;
    /// Changes the size of its terminal; ignored with pipes.
    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error>;
    /// Waits for its end: the exit code, or 128+n for signal n; 127 not found, 126 not executable. Cancel-safe.
    async fn wait(&mut self) -> Result<i32, Error>;
}

/// Exec and console inside running guests.
#[async_trait]
pub trait GuestAccess: Send + Sync {
    /// Runs a program. `Error::NotRunning` when the guest does not run.
    async fn exec(&self, id: InstanceId, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), Error>;

    /// Attaches to the guest's console: the master end of a terminal whose closing detaches.
    async fn console(&self, id: InstanceId) -> Result<(GuestIo, Box<dyn GuestProcess>), Error>;

    /// What the console printed lately (a ring buffer).
    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, Error>;

    /// Forgets what the console printed until now. A running guest goes on printing.
    async fn clear_console_log(&self, id: InstanceId) -> Result<(), Error>;

    /// The engine's own log of the instance, for `lxc info --show-log`.
    async fn engine_log(&self, id: InstanceId) -> Result<Vec<u8>, Error>;
}
