//! Peerings of a network. Each side is made by itself; traffic flows once both are there.

use basalt_model::command::{Expect, NetworkCommand};
use basalt_model::network::Network;
use basalt_model::network::peer::{self, Peer};
use basalt_model::{Command, Generation, NetworkKey, NetworkName, PeerName, ProjectName};
use http::header::IF_MATCH;

use super::listen;
use crate::call::{Call, Json, Segment};
use crate::dto::network::Put;
use crate::dto::peer as wire;
use crate::error::Error;
use crate::etag;
use crate::reply::{self, Reply};
use crate::routes::spec;

fn show(call: &Call, network: &Network, peer: &Peer) -> wire::Peer {
    let joined = peer::joined(&call.view, network, peer).is_some();
    wire::Peer {
        name: peer.name.to_string(),
        description: peer.description.clone(),
        config: peer.config.clone(),
        target_project: peer.target.project.to_string(),
        target_network: peer.target.name.to_string(),
        status: if joined { "Created" } else { "Pending" }.into(),
        used_by: call.seen(call.view.acls_about(&network.id(), Some(&peer.name))),
        kind: "local".into(),
    }
}

fn find(call: &Call, name: &str, peer: &str) -> Result<(Network, Peer), Error> {
    let network = call.network(name)?;
    let missing = || Error::NotFound("Network peer".into());
    let peer = PeerName::new(peer).map_err(|_| missing())?;
    let peer = network.peers.get(&peer).cloned().ok_or_else(missing)?;
    Ok((network, peer))
}

fn path(network: &NetworkKey, peer: &PeerName) -> String {
    format!("/1.0/networks/{}/peers/{peer}", network.name)
}

fn url(network: &NetworkKey, peer: &PeerName) -> String {
    path(network, peer) + &network.project.suffix()
}

/// The network that a peer is to lead to, in the project that it is said to be in or beside the first.
fn target(call: &Call, network: &NetworkKey, body: &wire::Peer) -> Result<NetworkKey, Error> {
    let name = NetworkName::new(body.target_network.as_str()).map_err(|e| Error::invalid("target_network", e))?;
    if body.target_project.is_empty() {
        return Ok(network.beside(name));
    }
    let found = ProjectName::new(body.target_project.as_str()).ok();
    match found.filter(|project| call.view.projects.contains_key(project) && call.who.sees(project)) {
        Some(project) => Ok(call.view.meant(&project, &name)),
        None => Err(Error::invalid("target_project", format!("there is no project {:?}", body.target_project))),
    }
}

fn tag(peer: &Peer) -> String {
    etag::of(&(&peer.description, &peer.config))
}

pub(crate) async fn list(call: Call, Segment(name): Segment<String>) -> Reply {
    let network = call.network(&name)?;
    match call.recursion() {
        0 => reply::sync(network.peers.keys().map(|peer| url(&network.id(), peer)).collect::<Vec<_>>()),
        _ => reply::sync(network.peers.values().map(|peer| show(&call, &network, peer)).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment((name, peer)): Segment<(String, String)>) -> Reply {
    let (network, peer) = find(&call, &name, &peer)?;
    reply::sync_etag(show(&call, &network, &peer), &tag(&peer))
}

pub(crate) async fn create(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Peer>) -> Reply {
    let network = call.network(&name)?.id();
    if !matches!(body.kind.as_str(), "" | "local") {
        return Err(Error::invalid("type", format!("{:?} is not supported: use local", body.kind)));
    }
    let target = target(&call, &network, &body)?;
    let peer = Peer {
        name: PeerName::new(body.name).map_err(|e| Error::invalid("name", e))?,
        description: body.description,
        config: listen::config(body.config)?,
        target,
        generation: Generation(1),
    };
    let location = url(&network, &peer.name);
    let (source, project) = (path(&network, &peer.name), network.project.clone());
    let put = NetworkCommand::PutPeer { network, peer: Box::new(peer), expect: Expect::Absent };
    call.propose(Command::Network(put)).await?;
    call.happened_in("network-peer-created", source, &project);
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment((name, peer)): Segment<(String, String)>, Json(body): Json<Put>) -> Reply {
    let (network, present) = find(&call, &name, &peer)?;
    let config = listen::config(body.config.unwrap_or_default())?;
    let peer = Peer { description: body.description.unwrap_or_default(), config, ..present.clone() };
    update(&call, network.id(), &present, peer).await
}

pub(crate) async fn patch(
    call: Call,
    Segment((name, peer)): Segment<(String, String)>,
    Json(body): Json<Put>,
) -> Reply {
    let (network, present) = find(&call, &name, &peer)?;
    let config = listen::config(spec::merged(&present.config, body.config.unwrap_or_default()))?;
    let description = body.description.unwrap_or_else(|| present.description.clone());
    update(&call, network.id(), &present, Peer { description, config, ..present.clone() }).await
}

async fn update(call: &Call, network: NetworkKey, present: &Peer, peer: Peer) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let (source, project) = (path(&network, &present.name), network.project.clone());
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    call.propose(Command::Network(NetworkCommand::PutPeer { network, peer: Box::new(peer), expect })).await?;
    call.happened_in("network-peer-updated", source, &project);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment((name, peer)): Segment<(String, String)>) -> Reply {
    let (network, Peer { name, .. }) = find(&call, &name, &peer)?;
    let (source, network) = (path(&network.id(), &name), network.id());
    let project = network.project.clone();
    call.propose(Command::Network(NetworkCommand::RemovePeer { network, name })).await?;
    call.happened_in("network-peer-deleted", source, &project);
    reply::empty()
}
