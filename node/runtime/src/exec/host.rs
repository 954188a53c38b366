//! Real processes.

use std::{
    io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use tracing::debug;

use super::{Attached, CommandRunner, ExecError, Finished, Invocation, Streaming};
use crate::task;

const STDERR_TAIL: usize = 4 * 1024;
/// Far above any listing that we parse; a runaway program must not take the agent down.
const STDOUT_LIMIT: usize = 64 * 1024 * 1024;
/// How long pipes may stay open after the child's end: a daemon it left behind may hold them.
const PIPE_GRACE: Duration = Duration::from_secs(1);
/// How long a killed child may take to be reaped.
const REAP: Duration = Duration::from_secs(5);

/// Runs commands on this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostRunner;

#[async_trait]
impl CommandRunner for HostRunner {
    async fn run(&self, mut invocation: Invocation) -> Result<Finished, ExecError> {
        let input = invocation.stdin.take();
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut running = Running::start(invocation, [stdin, Stdio::piped(), Stdio::piped()])?;
        let pipe = running.child.stdin.take().zip(input);
        let (stdout, status, stderr) = running.finish(pipe).await?;
        running.judge(status, &stderr)?;
        Ok(Finished { stdout, stderr_tail: stderr })
    }

    async fn stream(&self, mut invocation: Invocation) -> Result<Streaming, ExecError> {
        let input = invocation.stdin.take();
        let pipes = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        let mut running = Running::start(invocation, pipes)?;
        let mut stdin = running.child.stdin.take();
        let stdout = running.child.stdout.take();
        let pipe = input.and_then(|bytes| Some((stdin.take()?, bytes)));
        let end = task::spawn("command stream", async move {
            let (_, status, stderr) = running.finish(pipe).await?;
            running.judge(status, &stderr)
        });
        Ok(Streaming { stdin, stdout, end })
    }

    async fn attach(&self, invocation: Invocation, stdio: [OwnedFd; 3]) -> Result<Attached, ExecError> {
        let mut running = Running::start(invocation, stdio.map(Stdio::from))?;
        let pid = running.group.leader.as_raw();
        let end = task::spawn("command attach", async move {
            let status = running.child.wait().await.map_err(|source| running.io(source))?;
            running.group.release();
            Ok(status)
        });
        Ok(Attached { pid, end })
    }
}

/// A child, its group, and what it was called with.
struct Running {
    invocation: Invocation,
    child: Child,
    group: Group,
}

impl Running {
    fn start(invocation: Invocation, stdio: [Stdio; 3]) -> Result<Self, ExecError> {
        debug!(command = %invocation, "run");
        let [stdin, stdout, stderr] = stdio;
        let mut command = Command::new(&invocation.program);
        command
            .args(&invocation.args)
            // Output is parsed; it must not depend on the operator's language.
            .env("LC_ALL", "C.UTF-8")
            .envs(invocation.env.iter().map(|(key, value)| (key, value)))
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &invocation.folder {
            command.current_dir(folder);
        }
        let spawned = with_clean_mask(|| command.spawn());
        let child = spawned.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ExecError::NotFound { program: invocation.program.clone() },
            _ => ExecError::Spawn { program: invocation.program.clone(), source },
        })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = Group { leader: Pid::from_raw(pid.unwrap_or(0)), armed: pid.is_some() };
        Ok(Self { invocation, child, group })
    }

    /// Feeds, reads and waits, within the deadline.
    async fn finish(
        &mut self,
        input: Option<(ChildStdin, Vec<u8>)>,
    ) -> Result<(Vec<u8>, ExitStatus, String), ExecError> {
        let after = self.invocation.deadline;
        match timeout(after, self.drive(input)).await {
            Ok(Ok(done)) => {
                self.group.release();
                Ok(done)
            }
            Ok(Err(source)) => {
                self.end_group().await;
                Err(self.io(source))
            }
            Err(_) => {
                self.end_group().await;
                let Invocation { program, args, .. } = self.invocation.clone();
                Err(ExecError::Deadline { program, args, after })
            }
        }
    }

    async fn drive(&mut self, input: Option<(ChildStdin, Vec<u8>)>) -> io::Result<(Vec<u8>, ExitStatus, String)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let status = {
            let pump = async { tokio::try_join!(feed(input), read_all(out, &mut stdout), read_tail(err, &mut stderr)) };
            let mut pump = std::pin::pin!(pump);
            // Neither arm is polled again after it was dropped half-way.
            tokio::select! {
                pumped = &mut pump => {
                    pumped?;
                    self.child.wait().await?
                }
                status = self.child.wait() => {
                    if let Ok(pumped) = timeout(PIPE_GRACE, &mut pump).await {
                        pumped?;
                    }
                    status?
                }
            }
        };
        Ok((stdout, status, String::from_utf8_lossy(&stderr).into_owned()))
    }

    /// Kills the group and collects the child.
    async fn end_group(&mut self) {
        self.group.kill();
        // A child stuck in the kernel is left to the runtime's orphan queue.
        let _ = timeout(REAP, self.child.wait()).await;
    }

    fn judge(&self, status: ExitStatus, stderr: &str) -> Result<(), ExecError> {
        if status.success() {
            return Ok(());
        }
        let Invocation { program, args, .. } = self.invocation.clone();
        Err(ExecError::Failed { program, args, status, stderr: stderr.to_owned() })
    }

    fn io(&self, source: io::Error) -> ExecError {
        ExecError::Io { program: self.invocation.program.clone(), source }
    }
}

/// Kills a process group when dropped, unless its leader was seen to end: after that its number
/// may belong to someone else.
struct Group {
    leader: Pid,
    armed: bool,
}

impl Group {
    fn release(&mut self) {
        self.armed = false;
    }

    fn kill(&mut self) {
        if std::mem::take(&mut self.armed) {
            // It may have ended by itself just now.
            let _ = killpg(self.leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A child inherits the mask of the thread that makes it, so that one is emptied for the moment.
fn with_clean_mask<T>(spawn: impl FnOnce() -> T) -> T {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let out = spawn();
    if let Ok(before) = before {
        // Setting a mask that the kernel just gave us cannot fail.
        let _ = before.thread_set_mask();
    }
    out
}

async fn feed(input: Option<(ChildStdin, Vec<u8>)>) -> io::Result<()> {
    let Some((mut stdin, bytes)) = input else { return Ok(()) };
    match stdin.write_all(&bytes).await {
        // A program may end without reading everything; its status tells whether that was right.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    while pipe.read_buf(into).await? > 0 {
        if into.len() > STDOUT_LIMIT {
            return Err(io::Error::other(format!("more than {STDOUT_LIMIT} bytes of output")));
        }
    }
    Ok(())
}

async fn read_tail(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    while pipe.read_buf(into).await? > 0 {
        let excess = into.len().saturating_sub(STDERR_TAIL);
        into.drain(..excess);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
