//! Configuration as it is written.

use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;

use super::RawOvn;

/// The file. Unknown keys are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub state_dir: Option<PathBuf>,
    /// Public API, `address:port`.
    pub listen: Option<String>,
    /// Node-to-node traffic, `address:port`.
    pub cluster_listen: Option<String>,
    /// `lxc`, or `fake` for a node that runs nothing.
    pub engine: Option<String>,
    /// A filter in the syntax of `tracing`, e.g. `info,basalt_raft=debug`.
    pub log: Option<String>,
    /// Prefix of our cgroups; nodes that share a machine need different ones.
    pub cgroup_prefix: Option<String>,
    /// Certificate authorities (PEM) that image servers may be of, beside those that the host trusts.
    pub image_ca_file: Option<PathBuf>,
    /// Raft's clock, in milliseconds.
    pub heartbeat_ms: Option<u64>,
    pub election_min_ms: Option<u64>,
    pub election_max_ms: Option<u64>,
    pub ovn: Option<RawOvn>,
}

/// The Basalt agent: one on every machine of the cluster.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "basaltd", version, about)]
pub struct Flags {
    /// Configuration file (TOML). Without it, /etc/basalt/basaltd.toml is read if it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for everything this node keeps [default: /var/lib/basalt]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address and port of the public API (default: all addresses, port 8443)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address and port of node-to-node traffic (default: the address of the API, port 8444)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub cluster_listen: Option<String>,
    /// What runs guests: lxc, or fake for a node that runs nothing (tests) [default: lxc]
    #[arg(long, alias = "driver", value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Log filter, e.g. info or info,basalt_raft=debug [default: info,openraft=warn]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Prefix of our cgroups [default: basalt]
    #[arg(long, value_name = "PREFIX")]
    pub cgroup_prefix: Option<String>,
    /// Certificate authorities (PEM) that image servers may be of, beside those that the host trusts
    #[arg(long, value_name = "FILE")]
    pub image_ca_file: Option<PathBuf>,
    /// Check the configuration, print every mistake, and exit.
    #[arg(long)]
    pub check_config: bool,
}

impl Flags {
    /// The file's settings with those of the flags over them.
    pub fn over(&self, file: Raw) -> Raw {
        Raw {
            state_dir: self.state_dir.clone().or(file.state_dir),
            listen: self.listen.clone().or(file.listen),
            cluster_listen: self.cluster_listen.clone().or(file.cluster_listen),
            engine: self.engine.clone().or(file.engine),
            log: self.log.clone().or(file.log),
            cgroup_prefix: self.cgroup_prefix.clone().or(file.cgroup_prefix),
            image_ca_file: self.image_ca_file.clone().or(file.image_ca_file),
            ..file
        }
    }
}
