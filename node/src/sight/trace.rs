//! Asks `ovn-trace`, on this host.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use basalt_api::dto::diagnosis as wire;
use basalt_api::port::PortError;
use basalt_api::port::sight::{Payload, Question};
use basalt_model::network;
use basalt_ovn::southbound::Bindings;
use basalt_ovn::topology;
use basalt_ovn::trace::{self, End, Names, PROGRAM, Step, Way};
use basalt_runtime::{ExecError, Invocation, chain};

use super::NodeSight;

/// How long the program may take: it reads the whole database first.
const DEADLINE: Duration = Duration::from_secs(30);

impl NodeSight {
    pub(super) async fn follow(&self, question: Question) -> Result<wire::Trace, PortError> {
        let view = self.cluster.view();
        let lacking = || PortError::Unavailable("this member knows no southbound database".into());
        let remotes = self.remotes().await.ok_or_else(lacking)?;
        let facts = topology::read(&view);
        let rows = topology::rows(view.cluster_id, &facts);
        let mut names = Names::new(&facts, &rows);
        names.ports = question.names;
        let payload = match question.payload {
            Payload::Echo => trace::Payload::Echo,
            Payload::Tcp(port) => trace::Payload::Tcp(port),
            Payload::Udp(port) => trace::Payload::Udp(port),
        };
        let packet = match trace::packet(&facts, &question.port, question.to, payload) {
            Ok(packet) => packet,
            Err(trace::Stuck::Unfit(why)) => return Err(PortError::Invalid(why)),
            Err(trace::Stuck::Nobody(by)) => {
                return Ok(told(Way { steps: Vec::new(), end: End::Dropped { by } }, &names, String::new()));
            }
        };
        let southbound = self.links.southbound(&view, &remotes).map_err(|e| PortError::Unavailable(chain(&e)))?;
        let prefix = network::prefix(question.network);
        let bindings = southbound.bindings(&prefix).await.map_err(|e| PortError::Unavailable(chain(&e)))?;
        let credentials = self.credentials(&view, &remotes)?;
        let asked = Invocation::new(PROGRAM).arg(format!("--db={remotes}")).args(credentials);
        let asked = asked.args(trace::arguments(&packet)).deadline(DEADLINE);
        let raw = match self.runner.run(asked).await {
            Ok(done) => done.text(),
            Err(ExecError::NotFound { .. }) => {
                let me = view.members.get(&self.cluster.standing().me).map_or("this member", |m| m.name.as_str());
                let why = format!("ovn-trace is not installed on {me}: apt-get install ovn-common");
                return Err(PortError::Unavailable(why));
            }
            Err(error) => return Err(PortError::Unavailable(chain(&error))),
        };
        if let Some(gateway) = bindings.gateway(&prefix) {
            let uplink =
                facts.networks.iter().find(|net| net.number == question.network).and_then(|n| n.outside.as_ref());
            let uplink = uplink.map(|outside| outside.uplink.as_str()).unwrap_or_default();
            let member = view.members.values().find(|m| m.announced.chassis.as_deref() == Some(gateway));
            let member = member.map_or(gateway, |m| m.name.as_str());
            names.ports.insert(format!("{prefix}-ls-ext-lsp-provider"), format!("{uplink}, through {member}"));
        }
        let way = sober(trace::read(&raw, &names), &bindings, &packet.port, &prefix, &names);
        Ok(told(way, &names, raw))
    }

    /// Files with what an `ssl:` remote wants to see, as the program takes it.
    fn credentials(&self, view: &basalt_model::ClusterState, remotes: &str) -> Result<Vec<String>, PortError> {
        if !remotes.split(',').any(|remote| remote.trim().starts_with("ssl:")) {
            return Ok(Vec::new());
        }
        let internal = |error: std::io::Error| PortError::Internal(format!("certificates for ovn-trace: {error}"));
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder).map_err(internal)?;
        let mut arguments = Vec::new();
        for (key, option, name) in [
            ("network.ovn.client_key", "--private-key", "key.pem"),
            ("network.ovn.client_cert", "--certificate", "certificate.pem"),
            ("network.ovn.ca_cert", "--ca-cert", "ca.pem"),
        ] {
            let text = view.config.get(key).filter(|text| !text.is_empty());
            let text =
                text.ok_or_else(|| PortError::Unavailable(format!("{key} is not set, and {remotes} needs it")))?;
            let file = self.folder.join(name);
            write(&file, text).map_err(internal)?;
            arguments.push(format!("{option}={}", file.display()));
        }
        Ok(arguments)
    }
}

/// For our eyes only.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}

/// The program takes it that every port is somewhere: what nobody has is the end of the way all the same.
fn sober(way: Way, bindings: &Bindings, from: &str, prefix: &str, names: &Names) -> Way {
    let nowhere = |port: &str| bindings.ports.get(port).is_some_and(|binding| binding.chassis.is_none());
    let dropped = |by: String, steps: Vec<Step>| Way { steps, end: End::Dropped { by } };
    if nowhere(from) {
        return dropped(format!("{} is not plugged in: nothing leaves it", names.port(from)), Vec::new());
    }
    match &way.end {
        End::Delivered { port } if nowhere(port) => {
            dropped(format!("{} is not plugged in anywhere", names.port(port)), way.steps)
        }
        End::Left { .. } | End::Asks { .. } if bindings.gateway(prefix).is_none() => {
            dropped("no member is the gateway now, so nothing leaves".into(), way.steps)
        }
        End::Delivered { .. }
        | End::Left { .. }
        | End::Asks { .. }
        | End::Answered
        | End::Dropped { .. }
        | End::Rejected { .. } => way,
    }
}

fn told(way: Way, names: &Names, raw: String) -> wire::Trace {
    let (outcome, end) = match way.end {
        End::Delivered { port } => ("delivered", format!("delivered to {}", names.port(&port))),
        End::Left { port } => ("left", format!("leaves by {}", names.port(&port))),
        End::Asks { neighbour } => ("asks", format!("leaves once {neighbour} has said what its hardware address is")),
        End::Answered => ("answered", "answered by the router".to_owned()),
        End::Dropped { by } => ("dropped", format!("dropped: {by}")),
        End::Rejected { by } => ("rejected", format!("rejected: {by}")),
    };
    let steps = way.steps.into_iter().map(|step| wire::Step { at: step.at, what: step.what }).collect();
    wire::Trace { outcome: outcome.into(), end, steps, location: String::new(), raw }
}
