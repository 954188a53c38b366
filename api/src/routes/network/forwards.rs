//! Forwards of a network: addresses of its uplink that lead inside.

use std::net::IpAddr;

use basalt_model::command::{Expect, NetworkCommand};
use basalt_model::network::balance::{Forward, ForwardPort};
use basalt_model::{Command, Generation, NetworkKey};
use http::header::IF_MATCH;

use super::listen;
use crate::call::{Call, Json, Segment};
use crate::dto::balance as wire;
use crate::error::Error;
use crate::etag;
use crate::reply::{self, Reply};
use crate::routes::spec;

fn show(forward: &Forward) -> wire::Forward {
    let port = |port: &ForwardPort| wire::ForwardPort {
        description: port.description.clone(),
        protocol: port.protocol.as_str().into(),
        listen_port: port.listen_port.clone(),
        target_port: port.target_port.clone(),
        target_address: port.target_address.to_string(),
    };
    wire::Forward {
        listen_address: forward.listen.to_string(),
        location: String::new(),
        description: forward.description.clone(),
        config: forward.config.clone(),
        ports: forward.ports.iter().map(port).collect(),
    }
}

fn ports(given: Vec<wire::ForwardPort>) -> Result<Vec<ForwardPort>, Error> {
    let port = |(at, port): (usize, wire::ForwardPort)| {
        let field = |name: &str| format!("ports[{at}].{name}");
        Ok(ForwardPort {
            description: port.description,
            protocol: port.protocol.parse().map_err(|why| Error::invalid(field("protocol"), why))?,
            listen_port: port.listen_port,
            target_port: port.target_port,
            target_address: listen::address(&field("target_address"), &port.target_address)?,
        })
    };
    given.into_iter().enumerate().map(port).collect()
}

fn find(call: &Call, name: &str, listen: &str) -> Result<(NetworkKey, Forward), Error> {
    let network = call.network(name)?;
    let missing = || Error::NotFound("Network forward".into());
    let listen: IpAddr = listen.parse().map_err(|_| missing())?;
    network.forwards.get(&listen).cloned().map(|forward| (network.id(), forward)).ok_or_else(missing)
}

fn path(network: &NetworkKey, listen: IpAddr) -> String {
    format!("/1.0/networks/{}/forwards/{listen}", network.name)
}

fn url(network: &NetworkKey, listen: IpAddr) -> String {
    path(network, listen) + &network.project.suffix()
}

fn tag(forward: &Forward) -> String {
    etag::of(&show(forward))
}

pub(crate) async fn list(call: Call, Segment(name): Segment<String>) -> Reply {
    let network = call.network(&name)?;
    let (forwards, id) = (&network.forwards, network.id());
    match call.recursion() {
        0 => reply::sync(forwards.keys().map(|listen| url(&id, *listen)).collect::<Vec<_>>()),
        _ => reply::sync(forwards.values().map(show).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment((name, listen)): Segment<(String, String)>) -> Reply {
    let (_, forward) = find(&call, &name, &listen)?;
    reply::sync_etag(show(&forward), &tag(&forward))
}

pub(crate) async fn create(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Forward>) -> Reply {
    let network = call.network(&name)?.id();
    let forward = Forward {
        listen: listen::address("listen_address", &body.listen_address)?,
        description: body.description,
        config: listen::config(body.config)?,
        ports: ports(body.ports)?,
        generation: Generation(1),
    };
    let location = url(&network, forward.listen);
    let (source, project) = (path(&network, forward.listen), network.project.clone());
    let put = NetworkCommand::PutForward { network, forward: Box::new(forward), expect: Expect::Absent };
    call.propose(Command::Network(put)).await?;
    call.happened_in("network-forward-created", source, &project);
    reply::created(&location)
}

pub(crate) async fn put(
    call: Call,
    Segment((name, listen)): Segment<(String, String)>,
    Json(body): Json<wire::ForwardPut>,
) -> Reply {
    let (network, present) = find(&call, &name, &listen)?;
    let forward = Forward {
        description: body.description.unwrap_or_default(),
        config: listen::config(body.config.unwrap_or_default())?,
        ports: ports(body.ports.unwrap_or_default())?,
        ..present.clone()
    };
    update(&call, network, &present, forward).await
}

pub(crate) async fn patch(
    call: Call,
    Segment((name, listen)): Segment<(String, String)>,
    Json(body): Json<wire::ForwardPut>,
) -> Reply {
    let (network, present) = find(&call, &name, &listen)?;
    let mut forward = present.clone();
    forward.description = body.description.unwrap_or(forward.description);
    forward.config = listen::config(spec::merged(&present.config, body.config.unwrap_or_default()))?;
    if let Some(given) = body.ports {
        forward.ports = ports(given)?;
    }
    update(&call, network, &present, forward).await
}

async fn update(call: &Call, network: NetworkKey, present: &Forward, forward: Forward) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let (source, project) = (path(&network, present.listen), network.project.clone());
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    let put = NetworkCommand::PutForward { network, forward: Box::new(forward), expect };
    call.propose(Command::Network(put)).await?;
    call.happened_in("network-forward-updated", source, &project);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment((name, listen)): Segment<(String, String)>) -> Reply {
    let (network, Forward { listen, .. }) = find(&call, &name, &listen)?;
    let (source, project) = (path(&network, listen), network.project.clone());
    call.propose(Command::Network(NetworkCommand::RemoveForward { network, listen })).await?;
    call.happened_in("network-forward-deleted", source, &project);
    reply::empty()
}
