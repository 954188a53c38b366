//! Several nodes on one machine: each a real `basaltd` in its own network namespace, with its own state folder, on one
//! bridge.
//!
//! ```text
//!   namespace PREFIX-fab      bridge br0  10.X.0.254/24
//!                              | p1        | p2        | p3        ( | veth to the host: 10.X.0.250, on request )
//!   namespace PREFIX-n1 ... : eth0        eth0        eth0
//!                             10.X.0.1    10.X.0.2    10.X.0.3     basaltd: API :8443, cluster :8444
//! ```
//!
//! Each node has a mount namespace too, a slave of the host's in which only `/sys` differs: it shows the node's links
//! (LXC looks there), with the host's cgroups in their place. Mounts that appear in the testbed's folder on the host
//! (zfs-fuse mounts there) appear in the nodes as well. A process of its own, the *holder*, keeps both namespaces, so
//! that an agent that is started again finds what the former one mounted.
//!
//! **Names.** A [`Slot`] is a number that one living process holds by a file lock; prefix, addresses and folder follow
//! from it, so any number of testbeds run side by side with a demo. **Clean-up** needs nothing but the slot's record
//! (see [`sweep`]): dropping a testbed and sweeping after a killed process are the same code.

mod fabric;
mod holder;
mod node;
pub mod ovn;
mod programs;
mod slot;
pub mod sweep;

use std::time::Duration;

use anyhow::{Context, Result};

pub use fabric::{Cut, Fabric};
pub use node::Node;
pub use ovn::{Central, Switch};
pub use programs::{basalt, basaltd};
pub use slot::{Record, Slot};

use crate::{host, wait};

/// What a testbed is made of.
#[derive(Debug, Clone)]
pub struct Options {
    pub nodes: usize,
    /// The fake driver instead of LXC.
    pub fake: bool,
    /// A veth to the host's own namespace, so that its clients reach the API.
    pub host_link: bool,
    /// Driver of the default pool: `dir` or `zfs`.
    pub storage: String,
    /// OVN as well: its databases, and a switch on each node.
    pub ovn: bool,
    /// More arguments for `basaltd`.
    pub arguments: Vec<String>,
}

impl Options {
    /// Nodes with the fake driver.
    pub fn fake(nodes: usize) -> Self {
        Self { nodes, fake: true, host_link: false, storage: "dir".into(), ovn: false, arguments: Vec::new() }
    }

    /// Nodes with real containers.
    pub fn real(nodes: usize) -> Self {
        Self { fake: false, ..Self::fake(nodes) }
    }

    /// The same, each a chassis of an OVN.
    pub fn ovn(nodes: usize) -> Self {
        Self { ovn: true, ..Self::real(nodes) }
    }
}

/// Nodes, and the network between them.
#[derive(Debug)]
pub struct Testbed {
    slot: Slot,
    pub fabric: Fabric,
    pub central: Option<Central>,
    pub nodes: Vec<Node>,
    /// Nodes that stay after the program's end (the demo).
    keep: bool,
}

impl Testbed {
    /// Takes a slot and starts the nodes; none is part of a cluster yet.
    ///
    /// # Errors
    /// When the host refuses, or a node does not come up.
    pub fn start(options: &Options) -> Result<Self> {
        sweep::leftovers().context("sweep what killed runs left")?;
        let bed = Self::in_slot(Slot::take()?, options)?;
        bed.start_nodes()?;
        Ok(bed)
    }

    /// Takes a slot and makes everything but starts no agent.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn unstarted(options: &Options) -> Result<Self> {
        sweep::leftovers().context("sweep what killed runs left")?;
        Self::in_slot(Slot::take()?, options)
    }

    fn start_nodes(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Node::start)?;
        self.nodes.iter().try_for_each(Node::wait_ready)
    }

    /// The same in the slot of the demo, and the nodes outlive this process.
    ///
    /// # Errors
    /// When the host refuses, or a node does not come up.
    pub fn start_demo(options: &Options) -> Result<Self> {
        let mut bed = Self::in_slot(Slot::demo()?, options)?;
        bed.start_nodes()?;
        bed.keep = true;
        Ok(bed)
    }

    fn in_slot(slot: Slot, options: &Options) -> Result<Self> {
        // From here on a drop cleans up, whatever fails.
        let fabric = Fabric::new(&slot);
        let mut bed = Self { slot, fabric, central: None, nodes: Vec::new(), keep: false };
        let dir = bed.slot.dir();
        std::fs::create_dir_all(dir).context("the testbed's folder")?;
        host::run(&["mount", "--bind", path(dir), path(dir)])?;
        host::run(&["mount", "--make-shared", path(dir)])?;
        bed.fabric.up(options.host_link).context("the fabric")?;
        if options.ovn {
            bed.fabric.up_for_ovn().context("the fabric of OVN")?;
            bed.central = Some(Central::start(bed.slot.dir(), &bed.fabric).context("the databases of OVN")?);
        }
        for number in 1..=options.nodes {
            bed.add_node(number, options)?;
        }
        Ok(bed)
    }

    fn add_node(&mut self, number: usize, options: &Options) -> Result<()> {
        let (netns, address) = self.fabric.plug(number).with_context(|| format!("plug in node {number}"))?;
        let mut node = Node::new(&self.slot, number, netns, address, options)?;
        if let Some(central) = &self.central {
            self.fabric.plug_for_ovn(number)?;
            let switch = Switch::start(self.slot.dir(), &node, self.fabric.tunnel(number), central);
            node.switch_by(switch.with_context(|| format!("the switch of node {number}"))?)?;
        }
        self.nodes.push(node);
        Ok(())
    }

    /// A cluster: started and formed.
    ///
    /// # Errors
    /// When a step fails.
    pub fn cluster(options: &Options) -> Result<Self> {
        let bed = Self::start(options)?;
        bed.form()?;
        Ok(bed)
    }

    /// Makes one cluster of all nodes: the first is initialised, the others join by token.
    ///
    /// # Errors
    /// When a step fails or the members do not all come online.
    pub fn form(&self) -> Result<()> {
        let (first, others) = self.nodes.split_first().context("no nodes")?;
        first.init()?;
        for node in others {
            first.admit(node)?;
        }
        self.wait_online(self.nodes.len())
    }

    /// Waits until the first node sees that many members online, and min(3, that many) of them vote.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn wait_online(&self, count: usize) -> Result<()> {
        wait::until_true(&format!("{count} members online"), Duration::from_secs(60), || {
            let members = self.nodes[0].api().members()?;
            let online = members.iter().filter(|m| m["status"] == "Online").count();
            let voters = members.iter().filter(|m| votes(m)).count();
            let wanted = if count >= 3 { 3 } else { 1 };
            Ok(online == count && voters >= wanted)
        })
    }

    /// The databases of OVN.
    ///
    /// # Errors
    /// When the testbed has none.
    pub fn central(&self) -> Result<&Central> {
        self.central.as_ref().context("this testbed has no OVN")
    }

    /// The node that leads, as told by a majority-side member: the first running node that knows one.
    ///
    /// # Errors
    /// When no running node knows a running leader in time.
    pub fn leader(&self) -> Result<&Node> {
        wait::until("a leader", Duration::from_secs(30), || {
            for node in self.nodes.iter().filter(|n| n.answers()) {
                let named = node.api().timeout(Duration::from_secs(3)).leader().ok().flatten();
                let found = named.and_then(|name| self.nodes.iter().find(|n| n.name == name));
                if let Some(leader) = found.filter(|l| l.answers()) {
                    return Ok(Some(leader));
                }
            }
            Ok(None)
        })
    }

    /// A node that does not lead.
    ///
    /// # Errors
    /// When there is no leader.
    pub fn follower(&self) -> Result<&Node> {
        let leader = self.leader()?;
        self.nodes.iter().find(|n| n.answers() && n.name != leader.name).context("no follower")
    }

    /// The node with that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|n| n.name == name).with_context(|| format!("no node {name}"))
    }

    /// The folder of this testbed, for scratch files.
    pub fn dir(&self) -> &std::path::Path {
        self.slot.dir()
    }

    /// Prefix of every name of this testbed.
    pub fn prefix(&self) -> &str {
        self.slot.prefix()
    }
}

/// As an argument. The folder is ours, and plain ASCII.
fn path(dir: &std::path::Path) -> &str {
    dir.to_str().expect("the testbed's folder has a plain name")
}

/// Whether a member object is a voter.
fn votes(member: &serde_json::Value) -> bool {
    crate::api::has_role(member, "database") || crate::api::has_role(member, "database-leader")
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("---- log of {} ({}) ----\n{}", node.name, node.log().display(), node.log_tail(60));
            }
            if std::env::var_os("BASALT_TESTBED_KEEP").is_some() {
                eprintln!("kept for inspection: {}", self.slot.dir().display());
                self.slot.keep();
                return;
            }
        }
        if self.keep {
            return;
        }
        if let Err(error) = sweep::remove(self.slot.record()) {
            eprintln!("clean-up of {}: {error:#}", self.slot.prefix());
        }
    }
}
