//! One node: its process, its faults, its client.

use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fabric::{self, Cut};
use super::slot::Slot;
use super::{Options, Switch, holder, programs};
use crate::api::Api;
use crate::{host, wait};

/// A machine of the testbed.
#[derive(Debug)]
pub struct Node {
    /// The member's name.
    pub name: String,
    pub netns: String,
    pub address: Ipv4Addr,
    /// The state folder.
    pub dir: PathBuf,
    /// Below each cgroup hierarchy: this node's own part.
    pub cgroup: String,
    log: PathBuf,
    fake: bool,
    storage: String,
    arguments: Vec<String>,
    /// Where the testbed has OVN.
    switch: Option<Switch>,
    /// Keeps the node's namespaces.
    holder: i32,
    process: Mutex<Option<Child>>,
}

impl Node {
    pub(super) fn new(slot: &Slot, number: usize, netns: String, address: Ipv4Addr, options: &Options) -> Result<Self> {
        // A zpool's name holds its member's name, and one machine has one set of zpools: members of different testbeds
        // must not share names.
        let name =
            if slot.record().number == 0 { format!("node{number}") } else { format!("{}n{number}", slot.prefix()) };
        let dir = slot.dir().join(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let cgroup = format!("basalt/{name}");
        let log = slot.dir().join(format!("{name}.log"));
        let (fake, storage, arguments) = (options.fake, options.storage.clone(), options.arguments.clone());
        let holder = holder::start(&netns)?;
        let (switch, process) = (None, Mutex::new(None));
        Ok(Self { name, netns, address, dir, cgroup, log, fake, storage, arguments, switch, holder, process })
    }

    /// Gives it a switch, and the agent the file that says so.
    pub(super) fn switch_by(&mut self, switch: Switch) -> Result<()> {
        let file = self.log.with_extension("toml");
        std::fs::write(&file, switch.config()).with_context(|| format!("write {}", file.display()))?;
        self.arguments.extend(["--config".into(), file.display().to_string()]);
        self.switch = Some(switch);
        Ok(())
    }

    /// Its switch.
    ///
    /// # Errors
    /// When the testbed has no OVN.
    pub fn switch(&self) -> Result<&Switch> {
        self.switch.as_ref().context("this testbed has no OVN")
    }

    /// Starts the agent; does not wait for it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("open the log")?;
        let [program, arguments @ ..] = &self.command_line()[..] else { bail!("no program") };
        let mut command = self.inside(Path::new(program));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            // A ^C at the terminal is for the harness, which cleans up.
            .process_group(0);
        let child = command.spawn().with_context(|| format!("start {}", self.name))?;
        *self.process() = Some(child);
        Ok(())
    }

    /// Program and arguments of the agent, to be run in the node's namespaces.
    pub fn command_line(&self) -> Vec<String> {
        let mut line = vec![
            programs::basaltd().display().to_string(),
            "--state-dir".into(),
            self.dir.display().to_string(),
            "--listen".into(),
            format!("{}:8443", self.address),
            "--cluster-listen".into(),
            format!("{}:8444", self.address),
            "--cgroup-prefix".into(),
            self.cgroup.clone(),
            "--log".into(),
            std::env::var("BASALT_TESTBED_LOG").unwrap_or_else(|_| "info,openraft=warn".into()),
        ];
        if self.fake {
            line.extend(["--driver".into(), "fake".into()]);
        }
        line.extend(self.arguments.iter().cloned());
        line
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A program in the node's namespaces. Not `ip netns exec`, whose `/sys` has no cgroups.
    pub fn inside(&self, program: &Path) -> Command {
        // By its path: the caller may give the program another PATH.
        let mut command = Command::new(host::which("nsenter").unwrap_or_else(|| "nsenter".into()));
        command.args(["--target", &self.holder.to_string(), "--net", "--mount", "--"]).arg(program);
        command
    }

    /// Process id of the process that keeps the node's namespaces, for `nsenter --target`.
    pub fn holder(&self) -> i32 {
        self.holder
    }

    /// Waits until the agent serves its socket.
    ///
    /// # Errors
    /// When it ends or does not serve in time; the error holds the end of its log.
    pub fn wait_ready(&self) -> Result<()> {
        let ready = wait::until(&format!("{} serves", self.name), Duration::from_secs(60), || {
            if !self.running() {
                return Ok(Some(false));
            }
            Ok(self.answers().then_some(true))
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} ended:\n{}", self.name, self.log_tail(30)),
            Err(error) => Err(error.context(self.log_tail(30))),
        }
    }

    /// Whether the agent answers now.
    pub fn answers(&self) -> bool {
        self.running() && self.api().timeout(Duration::from_secs(2)).get("/1.0").is_ok()
    }

    /// Process id of the agent.
    pub fn pid(&self) -> Option<i32> {
        self.process().as_ref().and_then(|c| i32::try_from(c.id()).ok())
    }

    /// Whether the agent's process lives.
    pub fn running(&self) -> bool {
        match self.process().as_mut() {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// `kill -9`, and waits for the end of the process.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The clean stop of the agent; guests run on.
    ///
    /// # Errors
    /// When it does not end in time or not well.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status =
            wait::until(&format!("{} stops", self.name), Duration::from_secs(60), || match self.process().as_mut() {
                Some(child) => Ok(child.try_wait()?),
                None => bail!("it was not running"),
            })?;
        *self.process() = None;
        if !status.success() {
            bail!("{} stopped with {status}:\n{}", self.name, self.log_tail(30));
        }
        Ok(())
    }

    /// Stops the agent in its tracks (SIGSTOP): it holds its sockets, and says nothing.
    ///
    /// # Errors
    /// When it is not running.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Undoes [`Node::freeze`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} is not running", self.name))?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// `kill -9` and start, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&self) -> Result<()> {
        self.kill();
        self.start()?;
        self.wait_ready()
    }

    /// Cuts the node off the fabric.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn cut(&self, how: Cut) -> Result<()> {
        fabric::cut(&self.netns, how)
    }

    /// Undoes [`Node::cut`].
    pub fn heal(&self) {
        fabric::heal(&self.netns);
    }

    /// The API over the node's unix socket.
    pub fn api(&self) -> Api {
        Api::new(self.dir.join("unix.socket"))
    }

    /// The public API's URL.
    pub fn url(&self) -> String {
        format!("https://{}:8443", self.address)
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of the agent's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Runs `basalt` against this node, whatever it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn basalt_raw(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(programs::basalt())
            .env("BASALT_DIR", &self.dir)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("run basalt")
    }

    /// Runs `basalt` against this node and gives back what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds what it said.
    pub fn basalt(&self, arguments: &[&str]) -> Result<String> {
        let done = self.basalt_raw(arguments)?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("basalt {} on {}: {}: {}{text}", arguments.join(" "), self.name, done.status, said.trim());
        }
        Ok(text)
    }

    /// Makes a cluster of this node alone.
    ///
    /// # Errors
    /// When it is refused.
    pub fn init(&self) -> Result<()> {
        let address = self.api_address();
        self.basalt(&["init", "--auto", "--name", &self.name, "--address", &address, "--storage-driver", &self.storage])
            .map(drop)
    }

    /// A join token for a member with that name.
    ///
    /// # Errors
    /// When it is refused.
    pub fn join_token(&self, name: &str) -> Result<String> {
        let text = self.basalt(&["cluster", "token", name])?;
        text.split_whitespace().last().map(str::to_owned).context("no token was printed")
    }

    /// Lets `other` join this node's cluster.
    ///
    /// # Errors
    /// When it is refused.
    pub fn admit(&self, other: &Node) -> Result<()> {
        other.join(&self.join_token(&other.name)?)
    }

    /// Joins by a token, under the name that the token is for.
    ///
    /// # Errors
    /// When it is refused.
    pub fn join(&self, token: &str) -> Result<()> {
        self.basalt(&["cluster", "join", token, "--address", &self.api_address()]).map(drop)
    }

    /// `address:port` of the public API.
    pub fn api_address(&self) -> String {
        format!("{}:8443", self.address)
    }

    /// The agent's memory, in MiB.
    pub fn rss_mib(&self) -> Option<f64> {
        let kib = host::status_field(self.pid()?, "VmRSS:")?;
        Some(f64::from(u32::try_from(kib).ok()?) / 1024.0)
    }
}
