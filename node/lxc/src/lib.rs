//! System containers by LXC: its programs as child processes, its monitors as daemons that outlive the agent.
//!
//! ```text
//!   agent --> LxcDriver --lxc-start-->  [lxc monitor] --> init of the guest        own session, own cgroup: not ours
//!                 |  \--lxc-attach, lxc-console: exec, console (end with us)
//!                 |--- STATE/lxc/<id>/   config, seccomp, runtime.json, run.json, logs    see `record`
//!                 |--- cgroup files: limits, use, freezer                                 see `cgroup`
//!                 '--- pidfd of the monitor: its end is the guest's end --> Event         see `watch`
//! ```
//!
//! **Invariants.** Nothing is known only to this process: a new driver finds every guest by its runtime folder, and its
//! processes by number and start time. A guest counts as stopped when its init is gone; it is started again only after
//! its old monitor, cgroups and network interfaces are gone too. Nothing is polled but short transitions of the kernel
//! that have no event, each with a deadline.
//!
//! **Failure.** A start that fails or is cut off leaves either a running guest or no trace but the folder; whichever it
//! is, is looked up. A monitor that is killed takes its guest along; what it should have removed is removed here.
//!
//! **Not here.** Root file systems and bridges: the agent makes them before `start`.

mod cgroup;
mod config;
mod driver;
mod exec;
mod init;
mod probe;
mod process;
mod record;
mod seccomp;
mod stop;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use basalt_runtime::{CommandRunner, Supervisor};

pub use driver::LxcDriver;

/// What a driver needs to know of its node.
#[derive(Debug, Clone)]
pub struct LxcOptions {
    /// Runtime folders are made in `lxc/` below it.
    pub state_dir: PathBuf,
    /// The node's own cgroup, e.g. `basalt/node1`: two nodes on one host must differ.
    pub cgroup_prefix: String,
    /// Runs the engine's programs.
    pub runner: Arc<dyn CommandRunner>,
    /// Owns the tasks that wait for guests to end.
    pub supervisor: Supervisor,
}
