//! Host commands: argument vectors, a deadline, and an error that tells what was run.
//!
//! Every child is the leader of its own process group, so that a deadline, or a caller that went
//! away, ends its helpers too; a daemon that made its own session is not reached by that, on
//! purpose. Children start with an empty signal mask. Of stderr the last 4 KiB are kept.
//!
//! A command that failed, hung or was cut off may all the same have done its work: callers look at
//! the host again rather than believe an error.

mod host;
pub(crate) mod scripted;

use std::{fmt, io, os::fd::OwnedFd, path::PathBuf, process::ExitStatus, time::Duration};

use async_trait::async_trait;
use tokio::process::{ChildStdin, ChildStdout};

use crate::Task;
pub use host::HostRunner;

const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// One command to run. Never a shell string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Program name (looked up in `PATH`) or path.
    pub program: String,
    /// Arguments without the program's name.
    pub args: Vec<String>,
    /// Variables added to the inherited environment.
    pub env: Vec<(String, String)>,
    /// Working directory; without, the agent's own.
    pub folder: Option<PathBuf>,
    /// The child and its group are killed this long after the start.
    pub deadline: Duration,
    /// Bytes for its stdin, which is closed after them; without, stdin is empty.
    pub stdin: Option<Vec<u8>>,
}

impl Invocation {
    /// A command without arguments and a deadline of 60 s.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            deadline: DEFAULT_DEADLINE,
            stdin: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Replaces the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What the program reads from its stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Program and arguments, as recorded and compared by tests.
    pub fn argv(&self) -> Vec<String> {
        std::iter::once(self.program.clone()).chain(self.args.iter().cloned()).collect()
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&self.program, &self.args))
    }
}

/// What a command that succeeded left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// The end of stderr.
    pub stderr_tail: String,
}

impl Finished {
    /// Stdout as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Why a command gave no result.
#[derive(thiserror::Error, Debug)]
pub enum ExecError {
    /// The program is not installed.
    #[error("program {program} not found")]
    NotFound {
        /// The program.
        program: String,
    },
    /// The program could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ran and did not succeed.
    #[error("`{}` failed ({status}): {}", line(.program, .args), .stderr.trim())]
    Failed {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// How it ended.
        status: ExitStatus,
        /// The end of its stderr.
        stderr: String,
    },
    /// It did not end in time and was killed.
    #[error("`{}` did not end within {after:?}", line(.program, .args))]
    Deadline {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// The deadline.
        after: Duration,
    },
    /// Talking to it failed.
    #[error("cannot talk to {program}")]
    Io {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl ExecError {
    /// Exit code of a command that ran and failed; `None` for signals and all other errors.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => status.code(),
            Self::NotFound { .. } | Self::Spawn { .. } | Self::Deadline { .. } | Self::Io { .. } => None,
        }
    }

    /// The end of stderr of a command that ran and failed; empty for all other errors.
    pub fn stderr(&self) -> &str {
        match self {
            Self::Failed { stderr, .. } => stderr,
            Self::NotFound { .. } | Self::Spawn { .. } | Self::Deadline { .. } | Self::Io { .. } => "",
        }
    }
}

/// For people: spaces inside an argument are shown quoted. Never parsed, never run.
fn line(program: &str, args: &[String]) -> String {
    let mut text = program.to_owned();
    for arg in args {
        text.push(' ');
        if arg.is_empty() || arg.contains(char::is_whitespace) {
            text.push_str(&format!("{arg:?}"));
        } else {
            text.push_str(arg);
        }
    }
    text
}

/// The only way to run a program on the host.
#[async_trait]
pub trait CommandRunner: Send + Sync + fmt::Debug {
    /// Runs to completion. Dropping the future kills the child's process group.
    async fn run(&self, invocation: Invocation) -> Result<Finished, ExecError>;

    /// Starts it with stdin (unless the invocation carries it) and stdout as pipes. The deadline
    /// counts from here to its end: set it to what the whole stream may take.
    async fn stream(&self, invocation: Invocation) -> Result<Streaming, ExecError>;

    /// Starts it on given stdin, stdout and stderr: terminals and interactive programs. No deadline
    /// applies; it lives until it ends, is signalled, or the handle is dropped.
    async fn attach(&self, invocation: Invocation, stdio: [OwnedFd; 3]) -> Result<Attached, ExecError>;
}

/// A running command with piped ends. Dropping it kills the child's group.
#[derive(Debug)]
pub struct Streaming {
    /// Write end; absent when the invocation carried its stdin, or when taken.
    pub stdin: Option<ChildStdin>,
    /// Read end; absent when taken.
    pub stdout: Option<ChildStdout>,
    end: Task<Result<(), ExecError>>,
}

impl Streaming {
    /// Closes the pipe ends that were not taken and waits for the end. Non-zero is an error.
    pub async fn wait(self) -> Result<(), ExecError> {
        let Self { stdin, stdout, end } = self;
        drop((stdin, stdout));
        ended(end).await
    }
}

/// A running command on descriptors of the caller's. Dropping it kills the child's group.
#[derive(Debug)]
pub struct Attached {
    pid: i32,
    end: Task<Result<ExitStatus, ExecError>>,
}

impl Attached {
    /// The child's process id; meaningful until its end.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal, by its number, to the child's process group while it runs.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = nix::sys::signal::Signal::try_from(signal)?;
        // Number 0 would be our own group.
        if self.pid <= 0 || self.end.is_finished() {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        Ok(nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid), signal)?)
    }

    /// Waits for the end, whatever it is. Dropping this future kills the child's group.
    pub async fn wait(self) -> Result<ExitStatus, ExecError> {
        ended(self.end).await
    }
}

async fn ended<T>(task: Task<Result<T, ExecError>>) -> Result<T, ExecError> {
    task.join().await.unwrap_or_else(|panicked| {
        Err(ExecError::Io { program: panicked.name.to_owned(), source: io::Error::other(panicked) })
    })
}
