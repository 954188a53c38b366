//! OVN under a testbed, from Debian's packages: the databases in the fabric's namespace, a switch in each node's.
//!
//! ```text
//!   PREFIX-fab   northbound :6641  southbound :6642  northd      br1 (underlay)      br2 10.X.2.254/24, fd00:X:2::fe/64
//!                        | by eth0                               |                   | (the world outside)
//!   PREFIX-nN    ovsdb-server  ovs-vswitchd  ovn-controller     eth1 in br-phy      eth2, without an address
//!                                                               10.X.1.N
//! ```
//!
//! The datapath is the userspace one, as the kernel may have none; it does its own tunnelling, so the tunnel's address is
//! on a bridge of its own. What says which chassis a node is, is left to its agent (see [`Switch::config`]).
//!
//! **Clean-up** is that of the testbed: all processes are in its namespaces, all files in its folder.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fabric::Fabric;
use crate::{host, wait};

const SCHEMAS: [(&str, &str); 3] = [
    ("nb", "/usr/share/ovn/ovn-nb.ovsschema"),
    ("sb", "/usr/share/ovn/ovn-sb.ovsschema"),
    ("conf", "/usr/share/openvswitch/vswitch.ovsschema"),
];

/// The databases of OVN, and what translates one into the other.
#[derive(Debug)]
pub struct Central {
    seat: Seat,
    address: Ipv4Addr,
}

impl Central {
    pub(super) fn start(dir: &Path, fabric: &Fabric) -> Result<Self> {
        let seat = Seat::new(dir.join("ovn-central"), vec![format!("--net=/run/netns/{}", fabric.netns())])?;
        let central = Self { seat, address: fabric.gateway() };
        central.start_northbound()?;
        central.start_southbound()?;
        central.start_northd()?;
        Ok(central)
    }

    /// What `network.ovn.northbound_connection` is to be.
    pub fn northbound(&self) -> String {
        format!("tcp:{}:6641", self.address)
    }

    /// What the switches' `ovn-remote` is to be.
    pub fn southbound(&self) -> String {
        format!("tcp:{}:6642", self.address)
    }

    /// Starts the northbound database, with what it held.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_northbound(&self) -> Result<()> {
        self.database("nb", 6641)
    }

    /// Ends the northbound database at once: what a lost controller host looks like.
    pub fn stop_northbound(&self) {
        self.seat.end("nb");
    }

    /// Starts the southbound database, with what it held.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_southbound(&self) -> Result<()> {
        self.database("sb", 6642)
    }

    /// Ends the southbound database at once.
    pub fn stop_southbound(&self) {
        self.seat.end("sb");
    }

    /// Starts what translates.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_northd(&self) -> Result<()> {
        let db = |name: &str| format!("unix:{}", self.seat.file(&format!("{name}.sock")));
        self.seat.daemon(
            "ovn-northd",
            "northd",
            &[&format!("--ovnnb-db={}", db("nb")), &format!("--ovnsb-db={}", db("sb"))],
        )
    }

    fn database(&self, name: &str, port: u16) -> Result<()> {
        self.seat.database(name, &[&format!("--remote=ptcp:{port}:{}", self.address)])
    }

    /// `ovn-nbctl`, as an operator would use it.
    ///
    /// # Errors
    /// When it fails.
    pub fn nbctl(&self, arguments: &[&str]) -> Result<String> {
        self.seat.client("ovn-nbctl", "nb", arguments)
    }

    /// `ovn-sbctl`.
    ///
    /// # Errors
    /// When it fails.
    pub fn sbctl(&self, arguments: &[&str]) -> Result<String> {
        self.seat.client("ovn-sbctl", "sb", arguments)
    }
}

/// The switch of one node, with its controller.
#[derive(Debug)]
pub struct Switch {
    seat: Seat,
    netns: String,
    chassis: String,
    tunnel: Ipv4Addr,
    southbound: String,
}

impl Switch {
    /// Starts the programs of a node whose namespaces are kept by `holder`; it is no chassis yet.
    pub(super) fn start(dir: &Path, node: &super::Node, tunnel: Ipv4Addr, central: &Central) -> Result<Self> {
        let holder = ["--target".to_owned(), node.holder().to_string(), "--net".into(), "--mount".into()];
        let seat = Seat::new(dir.join(format!("ovs-{}", node.name)), holder.into())?;
        let (netns, chassis) = (node.netns.clone(), node.name.clone());
        let switch = Self { seat, netns, chassis, tunnel, southbound: central.southbound() };
        switch.seat.database("conf", &[])?;
        switch.vsctl(&["--no-wait", "init"])?;
        switch.vsctl(&["--no-wait", "set", "open", ".", "external-ids:ovn-bridge-datapath-type=netdev"])?;
        switch.up()?;
        Ok(switch)
    }

    /// Starts the datapath and the controller: after [`Switch::kill`], they find all as it was.
    ///
    /// # Errors
    /// When they do not come up.
    pub fn up(&self) -> Result<()> {
        self.seat.daemon("ovs-vswitchd", "vswitchd", &[&self.connection()])?;
        // Of a former life: the link is in it already.
        self.vsctl(&["--may-exist", "add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"])?;
        self.vsctl(&["--may-exist", "add-port", "br-phy", "eth1"])?;
        let address = format!("{}/24", self.tunnel);
        host::run(&["ip", "-n", &self.netns, "addr", "replace", &address, "dev", "br-phy"])?;
        host::run(&["ip", "-n", &self.netns, "link", "set", "br-phy", "up"])?;
        self.seat.daemon("ovn-controller", "controller", &[&self.connection()])
    }

    /// The datapath and the controller die: no packet of this node's guests moves, no tunnel answers.
    pub fn kill(&self) {
        self.seat.end("controller");
        self.seat.end("vswitchd");
    }

    /// Where its database listens.
    pub fn connection(&self) -> String {
        format!("unix:{}", self.seat.file("conf.sock"))
    }

    /// The section of the agent's file that makes this node a chassis.
    pub fn config(&self) -> String {
        format!(
            "[ovn]\nswitch = \"{}\"\nchassis = \"{}\"\nencap_address = \"{}\"\nsouthbound = \"{}\"\ndatapath = \
             \"netdev\"\nlog = \"{}\"\n",
            self.connection(),
            self.chassis,
            self.tunnel,
            self.southbound,
            self.seat.file("controller.log")
        )
    }

    /// The same without an agent.
    ///
    /// # Errors
    /// When the switch refuses.
    pub fn identify(&self) -> Result<()> {
        let ids = [
            ("system-id", self.chassis.clone()),
            ("ovn-remote", self.southbound.clone()),
            ("ovn-encap-type", "geneve".into()),
            ("ovn-encap-ip", self.tunnel.to_string()),
        ];
        let words: Vec<String> = ids.iter().map(|(k, v)| format!("external-ids:{k}=\"{v}\"")).collect();
        let mut argv = vec!["set", "open", "."];
        argv.extend(words.iter().map(String::as_str));
        self.vsctl(&argv).map(drop)
    }

    /// `ovs-vsctl` on this node's switch.
    ///
    /// # Errors
    /// When it fails.
    pub fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        self.seat.client("ovs-vsctl", "conf", arguments)
    }

    /// Has ovn-controller work out all flows anew from what the databases say. What works after this, and did not before,
    /// had been lost in following changes one by one; nobody has seen yet that it was (OVN 23.03, Debian 12).
    ///
    /// # Errors
    /// When it does not run.
    pub fn recompute(&self) -> Result<()> {
        let pid = self.seat.file("controller.pid");
        let pid = std::fs::read_to_string(&pid).with_context(|| format!("read {pid}"))?;
        let socket = self.seat.file(&format!("ovn-controller.{}.ctl", pid.trim()));
        self.seat.run("ovn-appctl", &["-t", &socket, "inc-engine/recompute"]).map(drop)
    }

    /// What ovn-controller has logged so far.
    ///
    /// # Errors
    /// When there is no log.
    pub fn controller_log(&self) -> Result<String> {
        let file = self.seat.file("controller.log");
        std::fs::read_to_string(&file).with_context(|| format!("read {file}"))
    }

    /// Interfaces of the integration bridge that are bound to a logical port, with that port.
    ///
    /// # Errors
    /// When the switch does not answer.
    pub fn bound(&self) -> Result<Vec<(String, String)>> {
        let text = self.vsctl(&["--format=json", "--columns=name,external_ids", "list", "interface"])?;
        let ports = self.vsctl(&["list-ports", "br-int"])?;
        let table: serde_json::Value = serde_json::from_str(&text).context("the list of interfaces")?;
        let rows = table["data"].as_array().context("no rows")?;
        let bound = rows.iter().filter_map(|row| {
            let name = row[0].as_str().filter(|name| ports.lines().any(|port| port == *name))?;
            let ids = row[1][1].as_array()?;
            let port = ids.iter().find(|pair| pair[0] == "iface-id")?[1].as_str()?;
            Some((name.to_owned(), port.to_owned()))
        });
        Ok(bound.collect())
    }
}

/// Programs in one place: their namespaces, their folder.
#[derive(Debug)]
struct Seat {
    dir: PathBuf,
    /// Arguments of `nsenter`.
    enter: Vec<String>,
}

impl Seat {
    fn new(dir: PathBuf, enter: Vec<String>) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir, enter })
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.args(&self.enter).arg("--").arg(program).args(arguments);
        for variable in ["OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR", "OVS_DBDIR", "OVN_DBDIR"] {
            command.env(variable, &self.dir);
        }
        let done = command.output().with_context(|| format!("start {program}"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("{program} {}: {}: {}", arguments.join(" "), done.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Starts a program that puts itself into the background once it serves.
    fn daemon(&self, program: &str, name: &str, arguments: &[&str]) -> Result<()> {
        let file = |kind: &str| self.file(&format!("{name}.{kind}"));
        let own = ["--detach".to_owned(), "--no-chdir".into(), "-vconsole:off".into(), "-vsyslog:off".into()];
        let mut files = vec![format!("--pidfile={}", file("pid")), format!("--log-file={}", file("log"))];
        // The controller of OVN 23.03 has no such option: it names its socket after its process.
        files.extend((program != "ovn-controller").then(|| format!("--unixctl={}", file("ctl"))));
        let argv: Vec<&str> = own.iter().chain(&files).map(String::as_str).chain(arguments.iter().copied()).collect();
        self.run(program, &argv).map(drop)
    }

    fn database(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let (file, socket) = (self.file(&format!("{name}.db")), self.file(&format!("{name}.sock")));
        if !Path::new(&file).exists() {
            let schema = SCHEMAS.iter().find(|(of, _)| *of == name).context("no such database")?.1;
            self.run("ovsdb-tool", &["create", &file, schema])?;
        }
        let remote = format!("--remote=punix:{socket}");
        let argv: Vec<&str> = std::iter::once(remote.as_str()).chain(arguments.iter().copied()).collect();
        self.daemon("ovsdb-server", name, &[&argv[..], &[file.as_str()]].concat())
    }

    fn client(&self, program: &str, database: &str, arguments: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}", self.file(&format!("{database}.sock")));
        self.run(program, &[&[db.as_str(), "--timeout=20"], arguments].concat())
    }

    /// `kill -9`, and waits for the end.
    fn end(&self, name: &str) {
        let file = self.dir.join(format!("{name}.pid"));
        let Some(pid) = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) else { return };
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let ended = wait::until_true(name, Duration::from_secs(10), || Ok(!host::alive(pid)));
        if let Err(error) = ended {
            eprintln!("{error:#}");
        }
        // A number that another process may get.
        let _ = std::fs::remove_file(file);
    }
}
