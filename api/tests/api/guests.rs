//! Guests that are processes of this machine: real pipes, real terminals, real signals.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Mutex;

use async_trait::async_trait;
use basalt_api::port::{ExecRequest, GuestIo, GuestProcess, Guests, PortError};
use basalt_model::InstanceId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

#[derive(Debug, Default)]
pub(crate) struct ProcessGuests {
    /// Whose consoles were cleared.
    cleared: Mutex<BTreeSet<InstanceId>>,
}

pub(crate) struct Process {
    child: Child,
    /// Kept so that its size can be set.
    terminal: Option<OwnedFd>,
}

fn internal(error: impl ToString) -> PortError {
    PortError::Internal(error.to_string())
}

#[async_trait]
impl GuestProcess for Process {
    fn signal(&self, signal: i32) -> Result<(), PortError> {
        let Some(pid) = self.child.id() else { return Ok(()) };
        let signal = Signal::try_from(signal).map_err(internal)?;
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).map_err(internal)
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<(), PortError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix_size(columns, rows);
        set_size(terminal, size)
    }

    async fn wait(&mut self) -> Result<i32, PortError> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().await.map_err(internal)?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}

fn rustix_size(columns: u16, rows: u16) -> nix::pty::Winsize {
    nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Sets a terminal's size with the program made for it: the call itself would need unsafe code.
fn set_size(terminal: &OwnedFd, size: nix::pty::Winsize) -> Result<(), PortError> {
    let done = std::process::Command::new("stty")
        .args(["rows", &size.ws_row.to_string(), "cols", &size.ws_col.to_string()])
        .stdin(Stdio::from(terminal.try_clone().map_err(internal)?))
        .status()
        .map_err(internal)?;
    if done.success() { Ok(()) } else { Err(internal("stty failed")) }
}

#[async_trait]
impl Guests for ProcessGuests {
    async fn exec(&self, _id: InstanceId, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), PortError> {
        let mut command = Command::new(&request.command[0]);
        command.args(&request.command[1..]).envs(&request.environment).kill_on_drop(true);
        if let Some((columns, rows)) = request.terminal {
            let pty = nix::pty::openpty(Some(&rustix_size(columns, rows)), None).map_err(internal)?;
            let slave = || Ok::<_, PortError>(Stdio::from(pty.slave.try_clone().map_err(internal)?));
            command.stdin(slave()?).stdout(slave()?).stderr(slave()?);
            let child = command.spawn().map_err(internal)?;
            drop(command);
            let terminal = Some(pty.slave.try_clone().map_err(internal)?);
            return Ok((GuestIo::Terminal(pty.master), Box::new(Process { child, terminal })));
        }
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(internal);
        let ((stdin_read, stdin), (stdout, stdout_write), (stderr, stderr_write)) = (pipe()?, pipe()?, pipe()?);
        command.stdin(stdin_read).stdout(stdout_write).stderr(stderr_write);
        let spawned = command.spawn();
        // Our copies of the child's ends must go, or nobody ever sees the end.
        drop(command);
        match spawned {
            Ok(child) => Ok((GuestIo::Pipes { stdin, stdout, stderr }, Box::new(Process { child, terminal: None }))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok((GuestIo::Pipes { stdin, stdout, stderr }, Box::new(NotFound)))
            }
            Err(error) => Err(internal(error)),
        }
    }

    async fn console(&self, id: InstanceId) -> Result<(GuestIo, Box<dyn GuestProcess>), PortError> {
        let request = ExecRequest { command: vec!["cat".into()], terminal: Some((80, 25)), ..ExecRequest::default() };
        self.exec(id, request).await
    }

    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, PortError> {
        Ok(if self.cleared.lock().unwrap().contains(&id) { Vec::new() } else { b"boot messages".to_vec() })
    }

    async fn clear_console_log(&self, id: InstanceId) -> Result<(), PortError> {
        self.cleared.lock().unwrap().insert(id);
        Ok(())
    }

    async fn engine_log(&self, _id: InstanceId) -> Result<Vec<u8>, PortError> {
        Ok(b"engine messages".to_vec())
    }
}

/// A program that is not there: ends at once with the shell's code for it.
struct NotFound;

#[async_trait]
impl GuestProcess for NotFound {
    fn signal(&self, _signal: i32) -> Result<(), PortError> {
        Ok(())
    }

    fn resize(&self, _columns: u16, _rows: u16) -> Result<(), PortError> {
        Ok(())
    }

    async fn wait(&mut self) -> Result<i32, PortError> {
        Ok(127)
    }
}
