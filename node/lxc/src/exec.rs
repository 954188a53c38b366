//! Processes inside a running guest: `lxc-attach` and `lxc-console` on pipes or a terminal of ours.
//!
//! ```text
//!   us --pipes----> lxc-attach --> process            same process group, so that one kill ends both
//!   us --terminal-> setsid -> lxc-attach --its own terminal in the guest--> process (session leader)
//! ```
//! With a terminal the engine copies between its controlling one, ours, and one of the guest's own. So ours is raw: what
//! is typed is understood once, in the guest. The kernel tells the engine of a new size, and that one the guest.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use basalt_driver::{Error, ExecRequest, GuestAccess, GuestIo, GuestProcess};
use basalt_model::InstanceId;
use basalt_runtime::{Invocation, Task, spawn};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{OutputFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr};
use rustix::process::Signal;
use tokio::sync::watch;

use crate::driver::{LxcDriver, step};
use crate::process::{Handle, Process};

/// How long the engine may take from its start to the process inside the guest.
const ENTER: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(2);
/// Errors of failed commands go here too; beyond this size the file starts anew.
const ATTACH_LOG: u64 = 256 * 1024;
/// Where root's commands begin when nobody says otherwise.
const HOME: &str = "/root";
/// Changes the folder, then becomes the command: the engine itself cannot.
const IN_FOLDER: &str = r#"cd -- "$1" && shift && exec "$@""#;

#[async_trait]
impl GuestAccess for LxcDriver {
    async fn exec(&self, id: InstanceId, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        self.awake(id).await?;
        let invocation = self.attach(id, &request)?;
        let (io, ends) = open(request.terminal).map_err(step(id, "make a terminal or pipes"))?;
        let mut process = self.process(id, invocation, &io, ends).await?;
        process.settle(true).await.map_err(step(id, "enter"))?;
        Ok((io, Box::new(process)))
    }

    async fn console(&self, id: InstanceId) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
        self.running(id).await?;
        let (io, ends) = open(Some((80, 24))).map_err(step(id, "make a terminal"))?;
        let invocation = Invocation::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(self.programs.console.to_string_lossy())
            .args(self.name(id))
            // The console's own; no key detaches: closing our end does.
            .args(["-t", "0", "-e", "-1", "-q"]);
        let mut process = self.process(id, invocation, &io, ends).await?;
        process.settle(false).await.map_err(step(id, "attach to the console"))?;
        Ok((io, Box::new(process)))
    }

    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, Error> {
        self.logs(id, &["console.log.1", "console.log"])
    }

    async fn clear_console_log(&self, id: InstanceId) -> Result<(), Error> {
        let folder = self.folder(id);
        if folder.stamp().map_err(step(id, "read the record"))?.is_none() {
            return Err(Error::NotFound { id });
        }
        // The older half first: what is printed meanwhile may be kept, what is cleared must not come back.
        for name in ["console.log.1", "console.log"] {
            // Emptied, not removed: the engine holds it open, and appends.
            match std::fs::OpenOptions::new().write(true).truncate(true).open(folder.file(name)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(step(id, "clear the log")(error)),
            }
        }
        Ok(())
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
        let engine = self.programs.attach.to_string_lossy();
        let mut invocation = match request.terminal {
            // The engine copies to and from its controlling terminal only.
            Some(_) => Invocation::new("setsid").args(["--ctty", "--wait"]).arg(engine),
            None => Invocation::new(engine),
        };
        // The engine keeps the working directory if the guest has one of that name.
        invocation = invocation.folder(match request.cwd {
            None if request.uid == 0 && Path::new(HOME).is_dir() => HOME,
            None | Some(_) => "/",
        });
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

    /// Starts a program of the engine's.
    async fn process(
        &self,
        id: InstanceId,
        invocation: Invocation,
        io: &GuestIo,
        ends: [OwnedFd; 3],
    ) -> Result<LxcProcess, Error> {
        let failed = |error: basalt_runtime::ExecError| Error::Step {
            id,
            doing: "attach",
            detail: error.to_string(),
            source: Some(Box::new(error)),
        };
        let terminal = match io {
            GuestIo::Terminal(master) => Some(master.try_clone().map_err(step(id, "keep the terminal"))?),
            GuestIo::Pipes { .. } => None,
        };
        let attached = self.runner.attach(invocation, ends).await.map_err(failed)?;
        let pid = attached.pid().unsigned_abs();
        let top = Process::find(pid);
        let (tell, code) = watch::channel(None);
        let end = spawn("lxc attach", async move {
            let code = match attached.wait().await {
                Ok(status) => Ok(code_of(status)),
                Err(error) => Err(error.to_string()),
            };
            tell.send_replace(Some(code));
        });
        Ok(LxcProcess { id, pid, top, engine: None, inner: None, terminal, code, _end: end })
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
    /// Our child, `None` when it ended at once.
    top: Option<Process>,
    pid: u32,
    /// The same, or with a terminal its child.
    engine: Option<(Process, Handle)>,
    inner: Option<(Process, Handle)>,
    terminal: Option<OwnedFd>,
    code: watch::Receiver<Option<Result<i32, String>>>,
    /// Dropped, it kills our child and its group.
    _end: Task<()>,
}

impl LxcProcess {
    /// Waits until the engine's program runs, and if asked for until its process is in the guest; or until the end.
    async fn settle(&mut self, inside: bool) -> io::Result<()> {
        let Some(top) = self.top else { return Ok(()) };
        let deadline = Instant::now() + ENTER;
        while self.code.borrow().is_none() {
            if self.engine.is_none() {
                let engine = if self.terminal.is_some() { child(top, |_| true) } else { Some(top) };
                self.engine = with_handle(engine)?;
            }
            if let Some((engine, _)) = &self.engine {
                let depth = engine.depth();
                if inside && self.inner.is_none() {
                    self.inner = with_handle(child(*engine, |child| child.depth() > depth))?;
                }
                if (self.inner.is_some() || !inside) && self.is_raw()? {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the engine did not start the process in time"));
            }
            // The sender lives in a task of ours; its end is an end as well.
            let _ = tokio::time::timeout(STEP, self.code.wait_for(Option::is_some)).await;
        }
        Ok(())
    }
}

impl LxcProcess {
    /// The engine makes our terminal almost raw, but lets it add a carriage return to each line. Waits for that to have
    /// happened, and takes it back.
    fn is_raw(&self) -> io::Result<bool> {
        let Some(terminal) = &self.terminal else { return Ok(true) };
        let mut settings = tcgetattr(terminal)?;
        if !settings.output_flags.contains(OutputFlags::OPOST) {
            return Ok(false);
        }
        cfmakeraw(&mut settings);
        tcsetattr(terminal, SetArg::TCSANOW, &settings)?;
        Ok(true)
    }
}

fn child(of: Process, which: impl Fn(&Process) -> bool) -> Option<Process> {
    of.children().into_iter().filter_map(Process::find).find(which)
}

fn with_handle(process: Option<Process>) -> io::Result<Option<(Process, Handle)>> {
    let Some(process) = process else { return Ok(None) };
    Ok(process.open()?.map(|handle| (process, handle)))
}

#[async_trait]
impl GuestProcess for LxcProcess {
    fn pid(&self) -> u32 {
        self.inner.as_ref().map_or(self.pid, |(inner, _)| inner.pid)
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        let known = Signal::from_named_raw(signal);
        let signal = known.ok_or_else(|| Error::Unsupported(format!("signal {signal} cannot be sent")))?;
        // Without one it has ended.
        self.inner.as_ref().map_or(Ok(()), |(_, handle)| handle.signal(signal)).map_err(step(self.id, "signal"))
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let resized = rustix::termios::tcsetwinsize(terminal.as_fd(), size);
        resized.map_err(io::Error::from).map_err(step(self.id, "resize"))
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
            && let Some(group) = inner.group().filter(|group| *group == inner.pid || *group == self.pid)
        {
            // With a terminal it leads a group of its own, with pipes it is in that of our child. Not left to the task's
            // end: once our child is dead, that one knows of no group.
            let group = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(Err(error)) = group.map(|group| rustix::process::kill_process_group(group, Signal::KILL)) {
                tracing::debug!(instance = %self.id, %error, "the process group was gone");
            }
        }
        for (_, handle) in self.inner.iter().chain(&self.engine) {
            if let Err(error) = handle.signal(Signal::KILL) {
                tracing::warn!(instance = %self.id, %error, "cannot kill a process that nobody waits for");
            }
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
