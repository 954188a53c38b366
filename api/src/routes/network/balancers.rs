//! Load balancers of a network: addresses of its uplink whose traffic is spread over addresses inside.

use std::net::IpAddr;

use basalt_model::command::{Expect, NetworkCommand};
use basalt_model::network::balance::{Backend, Balancer, BalancerPort};
use basalt_model::{Command, Generation, NetworkKey};
use http::header::IF_MATCH;

use super::listen;
use crate::call::{Call, Json, Segment};
use crate::dto::balance as wire;
use crate::error::Error;
use crate::etag;
use crate::reply::{self, Reply};
use crate::routes::spec;

fn show(balancer: &Balancer) -> wire::Balancer {
    let port = |port: &BalancerPort| wire::BalancerPort {
        description: port.description.clone(),
        protocol: port.protocol.as_str().into(),
        listen_port: port.listen_port.clone(),
        target_backend: port.target_backend.clone(),
    };
    let backend = |backend: &Backend| wire::Backend {
        name: backend.name.clone(),
        description: backend.description.clone(),
        target_port: backend.target_port.clone(),
        target_address: backend.target_address.to_string(),
    };
    wire::Balancer {
        listen_address: balancer.listen.to_string(),
        location: String::new(),
        description: balancer.description.clone(),
        config: balancer.config.clone(),
        backends: balancer.backends.iter().map(backend).collect(),
        ports: balancer.ports.iter().map(port).collect(),
    }
}

fn ports(given: Vec<wire::BalancerPort>) -> Result<Vec<BalancerPort>, Error> {
    let port = |(at, port): (usize, wire::BalancerPort)| {
        let protocol = port.protocol.parse().map_err(|why| Error::invalid(format!("ports[{at}].protocol"), why))?;
        let (description, listen_port) = (port.description, port.listen_port);
        Ok(BalancerPort { description, protocol, listen_port, target_backend: port.target_backend })
    };
    given.into_iter().enumerate().map(port).collect()
}

fn backends(given: Vec<wire::Backend>) -> Result<Vec<Backend>, Error> {
    let backend = |(at, backend): (usize, wire::Backend)| {
        let field = format!("backends[{at}].target_address");
        Ok(Backend {
            name: backend.name,
            description: backend.description,
            target_port: backend.target_port,
            target_address: listen::address(&field, &backend.target_address)?,
        })
    };
    given.into_iter().enumerate().map(backend).collect()
}

pub(super) fn find(call: &Call, name: &str, listen: &str) -> Result<(NetworkKey, Balancer), Error> {
    let network = call.network(name)?;
    let missing = || Error::NotFound("Network load balancer".into());
    let listen: IpAddr = listen.parse().map_err(|_| missing())?;
    network.balancers.get(&listen).cloned().map(|balancer| (network.id(), balancer)).ok_or_else(missing)
}

fn path(network: &NetworkKey, listen: IpAddr) -> String {
    format!("/1.0/networks/{}/load-balancers/{listen}", network.name)
}

fn url(network: &NetworkKey, listen: IpAddr) -> String {
    path(network, listen) + &network.project.suffix()
}

fn tag(balancer: &Balancer) -> String {
    etag::of(&show(balancer))
}

pub(crate) async fn list(call: Call, Segment(name): Segment<String>) -> Reply {
    let network = call.network(&name)?;
    let (balancers, id) = (&network.balancers, network.id());
    match call.recursion() {
        0 => reply::sync(balancers.keys().map(|listen| url(&id, *listen)).collect::<Vec<_>>()),
        _ => reply::sync(balancers.values().map(show).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment((name, listen)): Segment<(String, String)>) -> Reply {
    let (_, balancer) = find(&call, &name, &listen)?;
    reply::sync_etag(show(&balancer), &tag(&balancer))
}

pub(crate) async fn create(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Balancer>) -> Reply {
    let network = call.network(&name)?.id();
    let balancer = Balancer {
        listen: listen::address("listen_address", &body.listen_address)?,
        description: body.description,
        config: listen::config(body.config)?,
        backends: backends(body.backends)?,
        ports: ports(body.ports)?,
        generation: Generation(1),
    };
    let location = url(&network, balancer.listen);
    let (source, project) = (path(&network, balancer.listen), network.project.clone());
    let put = NetworkCommand::PutBalancer { network, balancer: Box::new(balancer), expect: Expect::Absent };
    call.propose(Command::Network(put)).await?;
    call.happened_in("network-load-balancer-created", source, &project);
    reply::created(&location)
}

pub(crate) async fn put(
    call: Call,
    Segment((name, listen)): Segment<(String, String)>,
    Json(body): Json<wire::BalancerPut>,
) -> Reply {
    let (network, present) = find(&call, &name, &listen)?;
    let balancer = Balancer {
        description: body.description.unwrap_or_default(),
        config: listen::config(body.config.unwrap_or_default())?,
        backends: backends(body.backends.unwrap_or_default())?,
        ports: ports(body.ports.unwrap_or_default())?,
        ..present.clone()
    };
    update(&call, network, &present, balancer).await
}

pub(crate) async fn patch(
    call: Call,
    Segment((name, listen)): Segment<(String, String)>,
    Json(body): Json<wire::BalancerPut>,
) -> Reply {
    let (network, present) = find(&call, &name, &listen)?;
    let mut balancer = present.clone();
    balancer.description = body.description.unwrap_or(balancer.description);
    balancer.config = listen::config(spec::merged(&present.config, body.config.unwrap_or_default()))?;
    if let Some(given) = body.backends {
        balancer.backends = backends(given)?;
    }
    if let Some(given) = body.ports {
        balancer.ports = ports(given)?;
    }
    update(&call, network, &present, balancer).await
}

async fn update(call: &Call, network: NetworkKey, present: &Balancer, balancer: Balancer) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let (source, project) = (path(&network, present.listen), network.project.clone());
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    let put = NetworkCommand::PutBalancer { network, balancer: Box::new(balancer), expect };
    call.propose(Command::Network(put)).await?;
    call.happened_in("network-load-balancer-updated", source, &project);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment((name, listen)): Segment<(String, String)>) -> Reply {
    let (network, Balancer { listen, .. }) = find(&call, &name, &listen)?;
    let (source, project) = (path(&network, listen), network.project.clone());
    call.propose(Command::Network(NetworkCommand::RemoveBalancer { network, listen })).await?;
    call.happened_in("network-load-balancer-deleted", source, &project);
    reply::empty()
}
