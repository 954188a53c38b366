//! Managed networks. What `auto` means is decided here, by the proposer: the record holds a concrete subnet.

mod subnet;

use basalt_model::command::NetworkCommand;
use basalt_model::config::{self, NETWORK};
use basalt_model::network::{Network, NetworkKind};
use basalt_model::{Command, Generation, NetworkName};
use http::header::IF_MATCH;

use super::pending::{Waiting, What};
use super::spec;
use crate::call::{Call, Json, Segment};
use crate::dto;
use crate::dto::network as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn member_names(call: &Call) -> Vec<String> {
    match call.view.members.len() {
        0 | 1 => vec!["none".into()],
        _ => call.view.members.values().map(|m| m.name.to_string()).collect(),
    }
}

fn show(call: &Call, network: &Network) -> wire::Network {
    wire::Network {
        name: network.name.to_string(),
        description: network.description.clone(),
        kind: network.kind.as_str().into(),
        config: network.config.clone(),
        managed: true,
        status: "Created".into(),
        locations: member_names(call),
        used_by: call.view.network_users(&network.name),
        project: "default".into(),
    }
}

fn show_pending(call: &Call, name: &str, waiting: &Waiting) -> wire::Network {
    let members = waiting.members.keys().filter_map(|id| call.view.members.get(id));
    wire::Network {
        name: name.to_owned(),
        kind: waiting.driver.clone(),
        managed: true,
        status: "Pending".into(),
        locations: members.map(|m| m.name.to_string()).collect(),
        project: "default".into(),
        ..wire::Network::default()
    }
}

/// An interface of this host that no managed network made: shown for reference only.
fn show_unmanaged(name: &str) -> wire::Network {
    let bridge = std::path::Path::new("/sys/class/net").join(name).join("bridge").exists();
    wire::Network {
        name: name.to_owned(),
        kind: match (name, bridge) {
            ("lo", _) => "loopback".into(),
            (_, true) => "bridge".into(),
            (_, false) => "physical".into(),
        },
        managed: false,
        project: "default".into(),
        ..wire::Network::default()
    }
}

impl Call {
    /// The managed network of that name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn network(&self, name: &str) -> Result<Network, Error> {
        let missing = || Error::NotFound("Network".into());
        let name = NetworkName::new(name).map_err(|_| missing())?;
        self.view.networks.get(&name).cloned().ok_or_else(missing)
    }
}

fn tag(network: &Network) -> String {
    etag::of(&(&network.description, &network.config))
}

pub(crate) async fn list(call: Call) -> Reply {
    call.projects()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let mut networks: Vec<wire::Network> = call.view.networks.values().map(|n| show(&call, n)).collect();
    let waiting = call.api.pending.list(What::Network);
    networks.extend(waiting.iter().map(|(name, waiting)| show_pending(&call, name, waiting)));
    for name in super::network_state::host_interfaces() {
        if !networks.iter().any(|n| n.name == name) {
            networks.push(show_unmanaged(&name));
        }
    }
    let networks = networks.into_iter().filter(|n| filter.takes(n));
    match call.recursion() {
        0 => reply::sync(networks.map(|n| format!("/1.0/networks/{}", n.name)).collect::<Vec<_>>()),
        _ => reply::sync(networks.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    // `target=` asks for one member's view; a bridge is the same everywhere.
    call.other_target()?;
    if let Some(waiting) = call.api.pending.get(What::Network, &name) {
        return reply::sync(show_pending(&call, &name, &waiting));
    }
    match call.network(&name) {
        Ok(network) => reply::sync_etag(show(&call, &network), &tag(&network)),
        Err(_) if super::network_state::host_interfaces().contains(&name) => reply::sync(show_unmanaged(&name)),
        Err(missing) => Err(missing),
    }
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Post>) -> Reply {
    let name = NetworkName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let kind = match body.kind.as_str() {
        "" | "bridge" => NetworkKind::Bridge,
        other => return Err(Error::invalid("type", format!("{other:?} is not supported: use bridge"))),
    };
    spec::plain_text("config", &body.config)?;
    config::validate(NETWORK, &body.config).map_err(|wrong| Error::keys("config", &wrong))?;
    let location = format!("/1.0/networks/{name}");
    if let Some(member) = call.query("target") {
        let member = call.view.members.values().find(|m| m.name.as_str() == member);
        let node = member.ok_or_else(|| Error::NotFound("Cluster member".into()))?.id;
        if call.view.networks.contains_key(&name) {
            return Err(Error::Conflict("The network already exists".into()));
        }
        if !body.config.is_empty() {
            return Err(Error::invalid("config", "a bridge has no keys of one member: give them in the last call"));
        }
        call.api.pending.add(What::Network, name.as_str(), kind.as_str(), (node, body.config));
        return reply::created(&location);
    }
    let config = subnet::concrete(&call.view, body.config, None)?;
    let network =
        Network { name: name.clone(), kind, description: body.description, config, generation: Generation(1) };
    call.propose(Command::Network(NetworkCommand::Add(network))).await?;
    call.api.pending.remove(What::Network, name.as_str());
    call.happened("network-created", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let network = call.network(&name)?;
    let description = body.description.unwrap_or_default();
    update(&call, &network, description, body.config.unwrap_or_default()).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let network = call.network(&name)?;
    let description = body.description.unwrap_or_else(|| network.description.clone());
    let config = spec::merged(&network.config, body.config.unwrap_or_default());
    update(&call, &network, description, config).await
}

async fn update(call: &Call, present: &Network, description: String, given: dto::Map) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    spec::plain_text("config", &given)?;
    config::validate(NETWORK, &given).map_err(|wrong| Error::keys("config", &wrong))?;
    let update = NetworkCommand::Update {
        name: present.name.clone(),
        expect: call.headers.contains_key(IF_MATCH).then_some(present.generation),
        description,
        config: subnet::concrete(&call.view, given, Some(present))?,
    };
    call.propose(Command::Network(update)).await?;
    call.happened("network-updated", format!("/1.0/networks/{}", present.name), None);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Rename>) -> Reply {
    let network = call.network(&name)?;
    let to = NetworkName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let location = format!("/1.0/networks/{to}");
    call.propose(Command::Network(NetworkCommand::Rename { name: network.name, to })).await?;
    call.happened("network-renamed", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    if call.api.pending.remove(What::Network, &name) {
        return reply::empty();
    }
    let network = call.network(&name)?;
    let source = format!("/1.0/networks/{}", network.name);
    call.propose(Command::Network(NetworkCommand::Remove(network.name))).await?;
    call.happened("network-deleted", source, None);
    reply::empty()
}
