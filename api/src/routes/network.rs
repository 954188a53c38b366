//! Managed networks. What `auto` means is decided here, by the proposer: the record holds a concrete subnet.

pub(crate) mod balancers;
pub(crate) mod doctor;
pub(crate) mod forwards;
pub(crate) mod health;
mod listen;
pub(super) mod logical;
pub(crate) mod peers;
mod subnet;
pub(crate) mod trace;
pub(super) mod way;

use std::net::IpAddr;

use basalt_model::command::NetworkCommand;
use basalt_model::config;
use basalt_model::network::{Network, NetworkKind};
use basalt_model::{Command, NetworkKey, NetworkName, ProjectName};
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
        config: shown_config(network),
        managed: true,
        status: "Created".into(),
        locations: member_names(call),
        used_by: call.seen(call.view.network_users(&network.id())),
        project: network.project.to_string(),
    }
}

/// With what Basalt chose, as the peers show it.
fn shown_config(network: &Network) -> dto::Map {
    let mut config = network.config.clone();
    let router = [("ipv4", network.router.ipv4.map(IpAddr::V4)), ("ipv6", network.router.ipv6.map(IpAddr::V6))];
    for (family, address) in router {
        config.extend(address.map(|ip| (format!("volatile.network.{family}.address"), ip.to_string())));
    }
    config
}

fn show_pending(call: &Call, id: &NetworkKey, waiting: &Waiting) -> wire::Network {
    let members = waiting.members.keys().filter_map(|id| call.view.members.get(id));
    wire::Network {
        name: id.name.to_string(),
        kind: waiting.driver.clone(),
        managed: true,
        status: "Pending".into(),
        locations: members.map(|m| m.name.to_string()).collect(),
        project: id.project.to_string(),
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
    /// There is none, or the project may not use it.
    pub(crate) fn network(&self, name: &str) -> Result<Network, Error> {
        let missing = || Error::NotFound("Network".into());
        let id = self.network_id(name)?;
        let project = self.project()?;
        let found = self.view.networks.get(&id).filter(|n| self.view.may_use_network(&project, n));
        found.cloned().ok_or_else(missing)
    }

    /// What the name of a network stands for in this request.
    ///
    /// # Errors
    /// It is none of a network, or as [`Call::network_project`].
    fn network_id(&self, name: &str) -> Result<NetworkKey, Error> {
        let name = NetworkName::new(name).map_err(|_| Error::NotFound("Network".into()))?;
        Ok(NetworkKey { project: self.network_project()?, name })
    }

    /// Interfaces of this host that are no managed network; they concern those who run the host, and are shown beside
    /// the networks of the default project.
    pub(crate) fn unmanaged(&self) -> Vec<String> {
        if !self.who.full() || !self.network_projects().is_ok_and(|all| all.iter().any(ProjectName::is_default)) {
            return Vec::new();
        }
        let managed = |name: &str| {
            let known = self.view.networks.keys().any(|n| n.project.is_default() && n.name.as_str() == name);
            known || self.api.pending.get(What::Network, name).is_some()
        };
        super::network_state::host_interfaces().into_iter().filter(|name| !managed(name)).collect()
    }
}

fn path(id: &NetworkKey) -> String {
    format!("/1.0/networks/{}", id.name)
}

fn url(id: &NetworkKey) -> String {
    path(id) + &id.project.suffix()
}

fn shown_url(network: &wire::Network) -> String {
    let project = ProjectName::new(network.project.as_str()).unwrap_or_else(|_| ProjectName::default_project());
    format!("/1.0/networks/{}{}", network.name, project.suffix())
}

fn tag(network: &Network) -> String {
    etag::of(&(&network.description, &network.config))
}

pub(crate) async fn list(call: Call) -> Reply {
    let projects = call.projects()?;
    let open = |network: &&Network| projects.iter().any(|p| call.view.may_use_network(p, network));
    let owners = call.network_projects()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let mut networks: Vec<wire::Network> = call.view.networks.values().filter(open).map(|n| show(&call, n)).collect();
    let waiting = call.api.pending.list(What::Network);
    let waiting = waiting.into_iter().filter_map(|(id, waiting)| Some((NetworkKey::try_from(id).ok()?, waiting)));
    let waiting = waiting.filter(|(id, _)| owners.contains(&id.project));
    networks.extend(waiting.map(|(id, waiting)| show_pending(&call, &id, &waiting)));
    networks.extend(call.unmanaged().iter().map(|name| show_unmanaged(name)));
    let networks = networks.into_iter().filter(|n| filter.takes(n));
    match call.recursion() {
        0 => reply::sync(networks.map(|n| shown_url(&n)).collect::<Vec<_>>()),
        _ => reply::sync(networks.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    // `target=` asks for one member's view; a bridge is the same everywhere.
    call.other_target()?;
    // Interfaces of the host may be called what no network can be.
    if let Ok(id) = call.network_id(&name)
        && let Some(waiting) = call.api.pending.get(What::Network, &id.to_string())
    {
        return reply::sync(show_pending(&call, &id, &waiting));
    }
    match call.network(&name) {
        Ok(network) => reply::sync_etag(show(&call, &network), &tag(&network)),
        Err(_) if call.unmanaged().contains(&name) => reply::sync(show_unmanaged(&name)),
        Err(missing) => Err(missing),
    }
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Post>) -> Reply {
    let name = NetworkName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let kind = match body.kind.as_str() {
        "" => NetworkKind::Bridge,
        word => word.parse().map_err(|why| Error::invalid("type", why))?,
    };
    spec::plain_text("config", &body.config)?;
    config::validate(kind.keys(), &body.config).map_err(|wrong| Error::keys("config", &wrong))?;
    let id = NetworkKey { project: call.network_project()?, name };
    let location = url(&id);
    if let Some(member) = call.query("target") {
        if !id.project.is_default() {
            return Err(Error::invalid("target", "networks of projects are made for all members at once"));
        }
        let member = call.view.members.values().find(|m| m.name.as_str() == member);
        let node = member.ok_or_else(|| Error::NotFound("Cluster member".into()))?.id;
        if call.view.networks.contains_key(&id) {
            return Err(Error::Conflict("The network already exists".into()));
        }
        if let Some(key) = body.config.keys().find(|key| (kind, key.as_str()) != (NetworkKind::Physical, "parent")) {
            return Err(Error::invalid(
                format!("config.{key}"),
                "is not a key of one member: give it in the last call",
            ));
        }
        call.api.pending.add(What::Network, &id.to_string(), kind.as_str(), (node, body.config));
        return reply::created(&location);
    }
    let given = with_parent(&call, &id, kind, body.config)?;
    let config = subnet::concrete(&call.view, &id.project, kind, given, None)?;
    let (description, project) = (body.description, id.project.clone());
    let network = Network { description, project, config, ..Network::new(id.name.clone(), kind) };
    call.propose(Command::Network(NetworkCommand::Add(network))).await?;
    call.api.pending.remove(What::Network, &id.to_string());
    call.happened_in("network-created", path(&id), &id.project);
    reply::created(&location)
}

/// The interface of an uplink may have been named member by member; it is the same on all.
fn with_parent(call: &Call, id: &NetworkKey, kind: NetworkKind, mut config: dto::Map) -> Result<dto::Map, Error> {
    if kind != NetworkKind::Physical || config.contains_key("parent") {
        return Ok(config);
    }
    let waiting = call.api.pending.get(What::Network, &id.to_string()).unwrap_or_default();
    let mut parents: Vec<&String> = waiting.members.values().filter_map(|own| own.get("parent")).collect();
    parents.dedup();
    match parents.as_slice() {
        [] => {}
        [one] => {
            config.insert("parent".into(), (*one).clone());
        }
        _ => return Err(Error::invalid("config.parent", "must be the same on all members")),
    }
    Ok(config)
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
    config::validate(present.kind.keys(), &given).map_err(|wrong| Error::keys("config", &wrong))?;
    let update = NetworkCommand::Update {
        name: present.id(),
        expect: call.headers.contains_key(IF_MATCH).then_some(present.generation),
        description,
        config: subnet::concrete(&call.view, &present.project, present.kind, given, Some(present))?,
    };
    call.propose(Command::Network(update)).await?;
    call.happened_in("network-updated", path(&present.id()), &present.project);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Rename>) -> Reply {
    let network = call.network(&name)?;
    let to = NetworkName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let fresh = network.beside(to.clone());
    call.propose(Command::Network(NetworkCommand::Rename { name: network.id(), to })).await?;
    call.happened_in("network-renamed", path(&fresh), &fresh.project);
    reply::created(&url(&fresh))
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    if call.api.pending.remove(What::Network, &call.network_id(&name)?.to_string()) {
        return reply::empty();
    }
    let id = call.network(&name)?.id();
    call.propose(Command::Network(NetworkCommand::Remove(id.clone()))).await?;
    call.happened_in("network-deleted", path(&id), &id.project);
    reply::empty()
}
