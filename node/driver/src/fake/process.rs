//! "Processes" of fake guests: five built-in programs on a thread, over real pipes or a real terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use basalt_model::InstanceId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use tokio::sync::watch;

use crate::{Error, ExecRequest, GuestIo, GuestProcess};

/// Starts `request`'s program: `true`, `false`, `echo`, `cat`, `sleep`, by any path; others end with 127.
pub(super) fn run(id: InstanceId, pid: u32, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), Error> {
    let failed =
        |error: io::Error| Error::Step { id, doing: "exec", detail: error.to_string(), source: Some(Box::new(error)) };
    let (io, ends) = open(request.terminal).map_err(failed)?;
    let (kill_read, kill) = io::pipe().map_err(failed)?;
    let (done, code) = watch::channel(None);
    std::thread::spawn(move || {
        let mut program = Program { ends, kill: OwnedFd::from(kill_read).into() };
        let code = program.run(&request.command).unwrap_or_else(|Signalled(signal)| 128 + signal);
        // Our ends close before the end is told: whoever waits may then read to the end of file.
        drop(program);
        done.send_replace(Some(code));
    });
    Ok((io, Box::new(FakeProcess { id, pid, kill: OwnedFd::from(kill).into(), code })))
}

/// Dropping it closes the write end of `kill`, which ends the program.
#[derive(Debug)]
struct FakeProcess {
    id: InstanceId,
    pid: u32,
    kill: File,
    code: watch::Receiver<Option<i32>>,
}

#[async_trait]
impl GuestProcess for FakeProcess {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        let byte = u8::try_from(signal).ok().filter(|signal| *signal < 65);
        let byte = byte.ok_or_else(|| Error::Unsupported(format!("signal {signal}")))?;
        match (&self.kill).write_all(&[byte]) {
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| Error::Step {
                id: self.id,
                doing: "signal",
                detail: error.to_string(),
                source: Some(Box::new(error)),
            }),
        }
    }

    fn resize(&self, _columns: u16, _rows: u16) -> Result<(), Error> {
        // No built-in program asks for the size.
        Ok(())
    }

    async fn wait(&mut self) -> Result<i32, Error> {
        let code = self.code.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        code.ok_or(Error::Step { id: self.id, doing: "exec", detail: "its thread panicked".into(), source: None })
    }
}

/// What the program has as its standard streams.
struct Ends {
    stdin: File,
    stdout: File,
    stderr: File,
}

fn open(terminal: Option<(u16, u16)>) -> io::Result<(GuestIo, Ends)> {
    if let Some((columns, rows)) = terminal {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        let ends = Ends { stdin: slave.try_clone()?.into(), stdout: slave.try_clone()?.into(), stderr: slave.into() };
        return Ok((GuestIo::Terminal(master), ends));
    }
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    let io = GuestIo::Pipes { stdin: our_stdin.into(), stdout: our_stdout.into(), stderr: our_stderr.into() };
    let file = |end: OwnedFd| File::from(end);
    Ok((io, Ends { stdin: file(stdin.into()), stdout: file(stdout.into()), stderr: file(stderr.into()) }))
}

/// Ended by this signal.
struct Signalled(i32);

struct Program {
    ends: Ends,
    kill: File,
}

impl Program {
    fn run(&mut self, command: &[String]) -> Result<i32, Signalled> {
        let name = command.first().map_or("", |program| program.rsplit('/').next().unwrap_or(""));
        let args = command.get(1..).unwrap_or_default();
        match name {
            "true" => Ok(0),
            "false" => Ok(1),
            "echo" => Ok(code(writeln!(self.ends.stdout, "{}", args.join(" ")))),
            "cat" => self.cat(),
            "sleep" => match args.first().and_then(|secs| secs.parse().ok()).and_then(seconds) {
                Some(time) => self.sleep(time),
                None => Ok(code(writeln!(self.ends.stderr, "sleep: invalid time")) | 1),
            },
            other => {
                // A reader that is gone does not change the exit code.
                let _ = writeln!(self.ends.stderr, "{other}: not found");
                Ok(127)
            }
        }
    }

    fn cat(&mut self) -> Result<i32, Signalled> {
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            self.wait(true, None)?;
            match self.ends.stdin.read(&mut buffer) {
                Ok(0) => return Ok(0),
                Ok(n) => {
                    if self.ends.stdout.write_all(&buffer[..n]).is_err() {
                        return Err(Signalled(nix::libc::SIGPIPE));
                    }
                }
                // The master of our terminal was closed.
                Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => return Err(Signalled(nix::libc::SIGHUP)),
                Err(_) => return Ok(1),
            }
        }
    }

    fn sleep(&mut self, time: Duration) -> Result<i32, Signalled> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.wait(false, Some(end))?;
        }
        Ok(0)
    }

    /// Until stdin can be read (if asked for), the time is over, or a deadly signal came.
    fn wait(&mut self, stdin: bool, until: Option<Instant>) -> Result<(), Signalled> {
        loop {
            let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => PollTimeout::NONE,
                Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            };
            let mut fds = vec![PollFd::new(self.kill.as_fd(), PollFlags::POLLIN)];
            if stdin {
                fds.push(PollFd::new(self.ends.stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return Err(Signalled(nix::libc::SIGKILL)),
                Ok(_) => {}
            }
            if !fds[0].any().unwrap_or(false) {
                return Ok(());
            }
            self.take_signal()?;
        }
    }

    fn take_signal(&mut self) -> Result<(), Signalled> {
        let mut byte = [0u8];
        match self.kill.read(&mut byte) {
            Ok(1) => match i32::from(byte[0]) {
                0 | nix::libc::SIGCHLD | nix::libc::SIGCONT | nix::libc::SIGWINCH | nix::libc::SIGURG => Ok(()),
                deadly => Err(Signalled(deadly)),
            },
            // The handle was dropped.
            Ok(_) | Err(_) => Err(Signalled(nix::libc::SIGKILL)),
        }
    }
}

fn seconds(secs: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(secs).ok()
}

fn code(written: io::Result<()>) -> i32 {
    i32::from(written.is_err())
}
