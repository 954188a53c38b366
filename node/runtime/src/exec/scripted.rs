//! A runner for tests: it knows which commands may come and what they answer.
//!
//! Commands are told apart by their argument vector. Answers given for one vector are used in
//! order; the last one stays. A command that was not announced fails with a text that says so.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::process::{ChildStdin, ChildStdout};

use super::{Attached, CommandRunner, ExecError, Finished, Invocation, Streaming};
use crate::task;

/// What a scripted command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Succeeds with this stdout.
    Ok(Vec<u8>),
    /// Ends with this exit code and stderr.
    Fail(i32, String),
    /// The program is not installed.
    Missing,
    /// Never ends; its deadline passes at once.
    Hang,
}

impl Answer {
    /// Success with a text on stdout.
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Self::Ok(stdout.into())
    }

    /// An exit code other than zero, with a text on stderr.
    pub fn fail(code: i32, stderr: impl Into<String>) -> Self {
        Self::Fail(code, stderr.into())
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct ScriptedRunner {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Invocation>,
}

#[derive(Debug)]
struct Rule {
    argv: Vec<String>,
    prefix: bool,
    answers: VecDeque<Answer>,
    used: bool,
}

impl Rule {
    fn matches(&self, argv: &[String]) -> bool {
        if self.prefix { argv.starts_with(&self.argv) } else { argv == self.argv }
    }
}

impl ScriptedRunner {
    /// Knows no command yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces exactly this argument vector (program first).
    pub fn on(&self, argv: &[&str], answer: Answer) -> &Self {
        self.announce(argv, false, answer)
    }

    /// Announces every command that starts so. Exact announcements win.
    pub fn on_prefix(&self, argv: &[&str], answer: Answer) -> &Self {
        self.announce(argv, true, answer)
    }

    fn announce(&self, argv: &[&str], prefix: bool, answer: Answer) -> &Self {
        let argv: Vec<String> = argv.iter().map(|&arg| arg.to_owned()).collect();
        let mut state = self.lock();
        match state.rules.iter_mut().find(|rule| rule.argv == argv && rule.prefix == prefix) {
            Some(rule) => rule.answers.push_back(answer),
            None => {
                let answers = VecDeque::from([answer]);
                state.rules.push(Rule { argv, prefix, answers, used: false });
                // Exact before prefix, long prefixes before short ones.
                state.rules.sort_by_key(|rule| (rule.prefix, usize::MAX - rule.argv.len()));
            }
        }
        drop(state);
        self
    }

    /// Every command so far, in order.
    pub fn calls(&self) -> Vec<Invocation> {
        self.lock().calls.clone()
    }

    /// The argument vectors of every command so far, in order.
    pub fn argvs(&self) -> Vec<Vec<String>> {
        self.lock().calls.iter().map(Invocation::argv).collect()
    }

    /// Announced commands that never came.
    pub fn unused(&self) -> Vec<Vec<String>> {
        let state = self.lock();
        state.rules.iter().filter(|rule| !rule.used).map(|rule| rule.argv.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, invocation: &Invocation) -> Answer {
        let mut state = self.lock();
        state.calls.push(invocation.clone());
        let argv = invocation.argv();
        let Some(rule) = state.rules.iter_mut().find(|rule| rule.matches(&argv)) else {
            return Answer::fail(127, format!("not in the script: {argv:?}"));
        };
        rule.used = true;
        match rule.answers.len() {
            0 | 1 => rule.answers.front().cloned(),
            _ => rule.answers.pop_front(),
        }
        .unwrap_or(Answer::Missing)
    }
}

fn outcome(invocation: &Invocation, answer: Answer) -> Result<Vec<u8>, ExecError> {
    let (program, args) = (invocation.program.clone(), invocation.args.clone());
    match answer {
        Answer::Ok(stdout) => Ok(stdout),
        Answer::Fail(code, stderr) => Err(ExecError::Failed { program, args, status: exit(code), stderr }),
        Answer::Missing => Err(ExecError::NotFound { program }),
        Answer::Hang => Err(ExecError::Deadline { program, args, after: invocation.deadline }),
    }
}

fn exit(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

#[async_trait]
impl CommandRunner for ScriptedRunner {
    async fn run(&self, invocation: Invocation) -> Result<Finished, ExecError> {
        let stdout = outcome(&invocation, self.answer(&invocation))?;
        Ok(Finished { stdout, stderr_tail: String::new() })
    }

    /// What is written to the stream's stdin is read and discarded; its end comes when both sides
    /// are through.
    async fn stream(&self, invocation: Invocation) -> Result<Streaming, ExecError> {
        let result = match outcome(&invocation, self.answer(&invocation)) {
            Err(error @ ExecError::NotFound { .. }) => return Err(error),
            other => other,
        };
        let io = |source| ExecError::Io { program: invocation.program.clone(), source };
        let (sink, stdin) = io::pipe().map_err(io)?;
        let (stdout, source) = io::pipe().map_err(io)?;
        let stdin = invocation.stdin.is_none().then(|| child_stdin(stdin)).transpose();
        let (stdin, stdout) = (stdin.map_err(io)?, Some(child_stdout(stdout).map_err(io)?));
        let end = task::spawn("scripted stream", async move {
            let (bytes, verdict) = match result {
                Ok(bytes) => (bytes, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            };
            let reader = task::spawn_blocking("scripted stdin", move || {
                let mut sink = sink;
                io::copy(&mut sink, &mut io::sink())
            });
            let writer = task::spawn_blocking("scripted stdout", move || {
                let mut source = source;
                source.write_all(&bytes)
            });
            // A caller that closes a pipe early is no error of the command's.
            let _ = tokio::join!(reader, writer);
            verdict
        });
        Ok(Streaming { stdin, stdout, end })
    }

    /// Ends at once, with its answer's stdout written to the given descriptor.
    async fn attach(&self, invocation: Invocation, stdio: [OwnedFd; 3]) -> Result<Attached, ExecError> {
        let status = match outcome(&invocation, self.answer(&invocation)) {
            Ok(bytes) => {
                let [_, stdout, _] = stdio;
                let written = std::fs::File::from(stdout).write_all(&bytes);
                written.map_err(|source| ExecError::Io { program: invocation.program.clone(), source })?;
                exit(0)
            }
            Err(ExecError::Failed { status, .. }) => status,
            Err(error) => return Err(error),
        };
        Ok(Attached { pid: 0, end: task::spawn("scripted attach", async move { Ok(status) }) })
    }
}

fn child_stdin(pipe: io::PipeWriter) -> io::Result<ChildStdin> {
    ChildStdin::from_std(std::process::ChildStdin::from(OwnedFd::from(pipe)))
}

fn child_stdout(pipe: io::PipeReader) -> io::Result<ChildStdout> {
    ChildStdout::from_std(std::process::ChildStdout::from(OwnedFd::from(pipe)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn answers_in_order_and_records() {
        let runner = ScriptedRunner::new();
        runner.on(&["zfs", "list"], Answer::ok("a")).on(&["zfs", "list"], Answer::fail(1, "gone"));
        runner.on_prefix(&["zfs"], Answer::Missing).on(&["never"], Answer::Hang);
        let list = || runner.run(Invocation::new("zfs").arg("list"));
        assert_eq!(list().await.unwrap().stdout, b"a");
        assert_eq!(list().await.unwrap_err().stderr(), "gone");
        assert_eq!(list().await.unwrap_err().exit_code(), Some(1));
        let other = runner.run(Invocation::new("zfs").arg("get")).await;
        assert!(matches!(other, Err(ExecError::NotFound { .. })));
        let unknown = runner.run(Invocation::new("rm").arg("x")).await.unwrap_err();
        assert!(unknown.to_string().contains("not in the script"), "{unknown}");
        assert_eq!(runner.argvs().len(), 5);
        assert_eq!(runner.unused(), [["never"]]);
    }

    #[tokio::test]
    async fn streams() {
        let runner = ScriptedRunner::new();
        runner.on(&["send"], Answer::ok("bytes")).on(&["recv"], Answer::fail(2, "no space"));
        let mut send = runner.stream(Invocation::new("send")).await.unwrap();
        let mut text = String::new();
        send.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bytes");
        send.wait().await.unwrap();
        let mut recv = runner.stream(Invocation::new("recv")).await.unwrap();
        recv.stdin.as_mut().unwrap().write_all(b"data").await.unwrap();
        assert_eq!(recv.wait().await.unwrap_err().stderr(), "no space");
    }
}
