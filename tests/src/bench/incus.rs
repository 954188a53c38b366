//! Debian's Incus beside ours: a daemon in the namespaces of each node of a testbed, on the same addresses and the same
//! disk, spoken to over its unix socket with the same client program.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::api::Api;
use crate::testbed::{Node, Testbed};
use crate::{host, wait};

const DAEMON: &str = "/usr/libexec/incus/incusd";
/// Of its HTTPS socket; ours has 8443 on the same address.
pub const PORT: u16 = 18443;

/// One daemon.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub address: Ipv4Addr,
    dir: PathBuf,
    process: Child,
}

/// The daemons of a testbed.
#[derive(Debug)]
pub struct Incus {
    pub members: Vec<Member>,
}

/// Why it cannot run here; `None` when it can.
pub fn lack() -> Option<String> {
    let missing = !Path::new(DAEMON).is_file() || host::which("incus").is_none();
    missing.then(|| "Incus is not installed (Debian: incus-base and incus-client, from backports on bookworm)".into())
}

/// Version of the package, for the headings of rows.
pub fn label() -> String {
    let version = host::try_run(&["incus", "--version"]).unwrap_or_default();
    format!("Incus {}", version.trim())
}

impl Incus {
    /// One daemon beside the first node, with a pool `default` of plain folders.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn alone(bed: &Testbed) -> Result<Self> {
        let incus = Self { members: vec![Member::start(bed, &bed.nodes[0])?] };
        incus.members[0].listen()?;
        let api = incus.members[0].api();
        api.run("POST", "/1.0/storage-pools", &json!({"name": "default", "driver": "dir"}))?;
        root_device(&api)?;
        Ok(incus)
    }

    /// A daemon beside each node, made one cluster, with a pool `default` of plain folders on each.
    ///
    /// # Errors
    /// When a step fails.
    pub fn cluster(bed: &Testbed) -> Result<Self> {
        let mut incus = Self { members: vec![Member::start(bed, &bed.nodes[0])?] };
        incus.members[0].listen()?;
        let api = incus.members[0].api();
        api.run("PUT", "/1.0/cluster", &json!({"server_name": incus.members[0].name, "enabled": true}))?;
        for node in &bed.nodes[1..] {
            let member = Member::start(bed, node)?;
            let said = incus.members[0].cli(bed, &["cluster", "add", &member.name], "")?;
            let token = said.split_whitespace().last().context("no token was printed")?;
            let address = format!("{}:{PORT}", member.address);
            let preseed =
                json!({"cluster": {"enabled": true, "server_address": address, "cluster_token": token}}).to_string();
            member.cli(bed, &["admin", "init", "--preseed"], &preseed)?;
            incus.members.push(member);
        }
        for member in &incus.members {
            let path = format!("/1.0/storage-pools?target={}", member.name);
            api.run("POST", &path, &json!({"name": "default", "driver": "dir"}))?;
        }
        api.run("POST", "/1.0/storage-pools", &json!({"name": "default", "driver": "dir"}))?;
        root_device(&api)?;
        let count = incus.members.len();
        wait::until_true("Incus's members vote", Duration::from_secs(90), || {
            let members = api.members()?;
            let votes = |m: &&Value| m["status"] == "Online" && crate::api::has_role(m, "database");
            Ok(members.iter().filter(votes).count() == count)
        })?;
        Ok(incus)
    }

    /// Index of the member whose database leads.
    ///
    /// # Errors
    /// When none does.
    pub fn leader(&self) -> Result<usize> {
        let name = self.members[0].api().leader()?.context("Incus has no leader")?;
        self.members.iter().position(|m| m.name == name).context("Incus's leader is not one of ours")
    }

    /// Stops the daemons in their tracks, or lets them run on.
    ///
    /// # Errors
    /// When one is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.members.iter().try_for_each(|m| m.signal(signal))
    }
}

impl Drop for Incus {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.signal(Signal::SIGCONT);
            member.end_guests();
        }
        for member in &mut self.members {
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

impl Member {
    fn start(bed: &Testbed, node: &Node) -> Result<Self> {
        let dir = bed.dir().join(format!("incus-{}", node.name));
        std::fs::create_dir_all(dir.join("conf")).context("Incus's folder")?;
        let log = std::fs::File::create(dir.join("out.log")).context("Incus's log")?;
        // None of the programs in this chain forks: the process is the daemon in the end.
        let process = node
            .inside(Path::new("env"))
            .arg(format!("INCUS_DIR={}", dir.display()))
            .args(["sh", "-c", "ulimit -n 65536; exec \"$@\"", "sh", DAEMON, "--group", "incus-admin", "--logfile"])
            .arg(dir.join("daemon.log"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .context("start incusd")?;
        let mut member = Self { name: format!("i{}", node.name), address: node.address, dir, process };
        wait::until_true("Incus answers", Duration::from_secs(60), || {
            if let Some(status) = member.process.try_wait()? {
                bail!("incusd ended with {status}, see {}", member.dir.join("out.log").display());
            }
            Ok(member.api().timeout(Duration::from_secs(2)).get("/1.0").is_ok())
        })?;
        Ok(member)
    }

    fn listen(&self) -> Result<()> {
        let address = format!("{}:{PORT}", self.address);
        self.api().run("PATCH", "/1.0", &json!({"config": {"core.https_address": address}})).map(drop)
    }

    /// The API over its unix socket.
    pub fn api(&self) -> Api {
        Api::new(self.dir.join("unix.socket"))
    }

    /// `host:port` of its HTTPS socket.
    pub fn https(&self) -> String {
        format!("{}:{PORT}", self.address)
    }

    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.process.id()).context("a process id")?;
        kill(Pid::from_raw(pid), signal).context("signal to Incus")
    }

    /// Its own client, in the node's namespaces; what it printed.
    fn cli(&self, bed: &Testbed, arguments: &[&str], input: &str) -> Result<String> {
        let node = bed.nodes.iter().find(|n| n.address == self.address).context("the member's node")?;
        let mut client: Command = node.inside(Path::new("env"));
        client
            .arg(format!("INCUS_DIR={}", self.dir.display()))
            .arg(format!("INCUS_CONF={}", self.dir.join("conf").display()))
            .arg("incus")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = client.spawn().context("run incus")?;
        running.stdin.take().context("incus's input")?.write_all(input.as_bytes()).context("write to incus")?;
        let done = running.wait_with_output().context("wait for incus")?;
        ensure!(done.status.success(), "incus {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Its containers are not of the testbed's cgroups: they are ended here, or nobody would.
    fn end_guests(&self) {
        let api = self.api().timeout(Duration::from_secs(60));
        let running = json!({"action": "stop", "force": true, "timeout": 30});
        for instance in api.instances().unwrap_or_default() {
            if instance["status"] == "Running"
                && let Some(name) = instance["name"].as_str()
            {
                // What is left is ended with the testbed's processes.
                let _ = api.run("PUT", &format!("/1.0/instances/{name}/state"), &running);
            }
        }
    }
}

/// Instances of the default profile get their root from the pool.
fn root_device(api: &Api) -> Result<()> {
    let device = json!({"devices": {"root": {"type": "disk", "path": "/", "pool": "default"}}});
    api.run("PATCH", "/1.0/profiles/default", &device).map(drop)
}
