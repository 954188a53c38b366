//! Processes inside a running guest: `lxc-attach` and `lxc-console` on pipes or a terminal of ours.
//!
//! ```text
//!   us --pipes----> lxc-attach --> process            same process group, so that one kill ends both
//!   us --terminal-> lxc-attach --its own terminal in the guest--> process (session leader)
//! ```
//! With a terminal the engine copies between ours and one of the guest's own, so ours is raw: what is typed is
//! understood once, in the guest. It sets the guest's size when told by SIGWINCH.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use basalt_driver::{Error, ExecRequest, GuestAccess, GuestIo, GuestProcess};
use basalt_model::InstanceId;
use basalt_runtime::{Invocation, Task, spawn};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use rustix::process::Signal;
use tokio::sync::watch;

use crate::driver::{LxcDriver, step};
use crate::process::{Handle, Process};

/// How long the engine may take from its start to the process inside the guest.
const ENTER: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(2);
/// Errors of failed commands go here too; beyond this size the file starts anew.
const ATTACH_LOG: u64 = 256 * 1024;
/// Changes the folder, then becomes the command: the engine itself cannot.
const IN_FOLDER: &str = r#"cd -- "$1" && shift && exec "$@""#;

#[async_trait]
impl GuestAccess for LxcDriver {
    async fn exec(&self, id: InstanceId, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        self.running(id).await?;
        let invocation = self.attach(id, &request)?;
        let (io, ends) = open(request.terminal).map_err(step(id, "make a terminal or pipes"))?;
        self.enter(id, invocation, io, ends).await
    }

    async fn console(&self, id: InstanceId) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        self.running(id).await?;
        let (io, ends) = open(Some((80, 24))).map_err(step(id, "make a terminal"))?;
        let invocation = Invocation::new(self.programs.console.to_string_lossy())
            .args(self.name(id))
            // The console's own; no key detaches: closing our end does.
            .args(["-t", "0", "-e", "-1", "-q"]);
        let process = self.process(id, invocation, &io, ends).await?;
        Ok((io, Box::new(process)))
    }

    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, Error> {
        self.logs(id, &["console.log.1", "console.log"])
    }

    async fn engine_log(&self, id: InstanceId) -> Result<Vec<u8>, Error> {
        self.logs(id, &["lxc.log", "attach.log"])
    }
}

impl LxcDriver {
    fn name(&self, id: InstanceId) -> [String; 4] {
        ["-P".to_owned(), self.lxc_path.to_string_lossy().into_owned(), "-n".to_owned(), id.to_string()]
    }

    fn logs(&self, id: InstanceId, names: &[&str]) -> Result<Vec<u8>, Error> {
        let folder = self.folder(id);
        if folder.stamp().map_err(step(id, "read the record"))?.is_none() {
            return Err(Error::NotFound { id });
        }
        let mut all = Vec::new();
        for name in names {
            match std::fs::read(folder.file(name)) {
                Ok(bytes) => all.extend(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(step(id, "read the log")(error)),
            }
        }
        Ok(all)
    }

    fn attach(&self, id: InstanceId, request: &ExecRequest) -> Result<Invocation, Error> {
        if request.command.first().is_none_or(String::is_empty) {
            return Err(Error::Unsupported("the command is empty".into()));
        }
        let log = self.folder(id).file("attach.log");
        if std::fs::metadata(&log).is_ok_and(|meta| meta.len() > ATTACH_LOG) {
            std::fs::File::create(&log).map_err(step(id, "empty the log"))?;
        }
        // The engine keeps the working directory if the guest has one of that name.
        let mut invocation = Invocation::new("env").args(["-C", "/"]).arg(self.programs.attach.to_string_lossy());
        invocation = invocation.args(self.name(id)).args(["-q", "-o"]).arg(log.to_string_lossy());
        invocation = invocation.args(["-l", "ERROR", "--clear-env"]);
        invocation =
            invocation.args(["-u".to_owned(), request.uid.to_string(), "-g".to_owned(), request.gid.to_string()]);
        for (key, value) in &request.environment {
            if key.is_empty() || key.contains('=') {
                return Err(Error::Unsupported(format!("{key:?} is not a name of a variable")));
            }
            invocation = invocation.args(["-v".to_owned(), format!("{key}={value}")]);
        }
        invocation = invocation.arg("--");
        if let Some(cwd) = request.cwd.as_deref().filter(|cwd| !matches!(*cwd, "" | "/")) {
            invocation = invocation.args(["/bin/sh", "-c", IN_FOLDER, "sh", cwd]);
        }
        Ok(invocation.args(request.command.iter().cloned()))
    }

    /// Starts the engine's program and waits until its process is inside the guest.
    async fn enter(
        &self,
        id: InstanceId,
        invocation: Invocation,
        io: GuestIo,
        ends: [OwnedFd; 3],
    ) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        let mut process = self.process(id, invocation, &io, ends).await?;
        process.find_inner().await.map_err(step(id, "enter"))?;
        Ok((io, Box::new(process)))
    }

    async fn process(
        &self,
        id: InstanceId,
        invocation: Invocation,
        io: &GuestIo,
        ends: [OwnedFd; 3],
    ) -> Result<LxcProcess, Error> {
        let failed = |error: basalt_runtime::ExecError| Error::Step {
            id,
            doing: "enter",
            detail: error.to_string(),
            source: Some(Box::new(error)),
        };
        let terminal = match io {
            GuestIo::Terminal(master) => Some(master.try_clone().map_err(step(id, "keep the terminal"))?),
            GuestIo::Pipes { .. } => None,
        };
        let attached = self.runner.attach(invocation, ends).await.map_err(failed)?;
        let engine = u32::try_from(attached.pid()).ok().and_then(Process::find);
        let pid = attached.pid();
        let (tell, code) = watch::channel(None);
        let end = spawn("lxc attach", async move {
            let code = match attached.wait().await {
                Ok(status) => Ok(code_of(status)),
                Err(error) => Err(error.to_string()),
            };
            tell.send_replace(Some(code));
        });
        Ok(LxcProcess { id, pid, engine, inner: None, terminal, code, _end: end })
    }
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// A process of the guest, and the engine's program that it is a child of.
#[derive(Debug)]
struct LxcProcess {
    id: InstanceId,
    pid: i32,
    /// `None` when it ended at once.
    engine: Option<Process>,
    inner: Option<(Process, Handle)>,
    terminal: Option<OwnedFd>,
    code: watch::Receiver<Option<Result<i32, String>>>,
    /// Dropped, it kills the engine's program and its group.
    _end: Task<()>,
}

impl LxcProcess {
    /// Waits until the process is in the guest, or everything has ended.
    async fn find_inner(&mut self) -> io::Result<()> {
        let Some(engine) = self.engine else { return Ok(()) };
        let deadline = Instant::now() + ENTER;
        while self.code.borrow().is_none() {
            for child in engine.children().into_iter().filter_map(Process::find) {
                if child.depth() > engine.depth()
                    && let Some(handle) = child.open()?
                {
                    self.inner = Some((child, handle));
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the engine did not start the process in time"));
            }
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }

    fn send(&self, signal: Signal) -> io::Result<()> {
        match &self.inner {
            Some((_, handle)) => handle.signal(signal),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl GuestProcess for LxcProcess {
    fn pid(&self) -> u32 {
        self.inner.as_ref().map_or(self.pid.unsigned_abs(), |(inner, _)| inner.pid)
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        let known = Signal::from_named_raw(signal);
        let signal = known.ok_or_else(|| Error::Unsupported(format!("signal {signal} cannot be sent")))?;
        self.send(signal).map_err(step(self.id, "signal"))
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let resize = || -> io::Result<()> {
            rustix::termios::tcsetwinsize(terminal.as_fd(), size)?;
            // Our terminal is not the one it belongs to, so the kernel does not tell it.
            let engine = self.engine.map(Process::open).transpose()?.flatten();
            engine.map_or(Ok(()), |engine| engine.signal(Signal::WINCH))
        };
        resize().map_err(step(self.id, "resize"))
    }

    async fn wait(&mut self) -> Result<i32, Error> {
        let lost = || "its task was lost".to_owned();
        let code = self.code.wait_for(Option::is_some).await.ok().and_then(|code| code.clone());
        code.unwrap_or_else(|| Err(lost())).map_err(|detail| Error::Step {
            id: self.id,
            doing: "wait for a process",
            detail,
            source: None,
        })
    }
}

impl Drop for LxcProcess {
    fn drop(&mut self) {
        if self.code.borrow().is_some() {
            return;
        }
        if let Some((inner, _)) = &self.inner
            && inner.alive()
            && let Some(group) = inner.group().filter(|group| *group == inner.pid)
        {
            // With a terminal it leads a group of its own.
            let group = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(Err(error)) = group.map(|group| rustix::process::kill_process_group(group, Signal::KILL)) {
                tracing::debug!(instance = %self.id, %error, "the process group was gone");
            }
        }
        if let Err(error) = self.send(Signal::KILL) {
            tracing::warn!(instance = %self.id, %error, "cannot kill a process that nobody waits for");
        }
    }
}

/// Ends for us, and standard streams for the process.
fn open(terminal: Option<(u16, u16)>) -> io::Result<(GuestIo, [OwnedFd; 3])> {
    if let Some((columns, rows)) = terminal {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        let mut raw = tcgetattr(&slave)?;
        cfmakeraw(&mut raw);
        tcsetattr(&slave, SetArg::TCSANOW, &raw)?;
        close_on_exec(&master)?;
        close_on_exec(&slave)?;
        let ends = [slave.try_clone()?, slave.try_clone()?, slave];
        return Ok((GuestIo::Terminal(master), ends));
    }
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    let io = GuestIo::Pipes { stdin: our_stdin.into(), stdout: our_stdout.into(), stderr: our_stderr.into() };
    Ok((io, [stdin.into(), stdout.into(), stderr.into()]))
}

/// Children of other threads must not hold it open. A child made between the call that opened it and this one may:
/// then a terminal's end is seen a little late.
fn close_on_exec(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    Ok(fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop)?)
}
