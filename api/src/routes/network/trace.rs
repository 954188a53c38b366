//! Where a packet of an instance would go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::Request;
use basalt_model::network::port;
use basalt_model::{InstanceName, ProjectName};

use crate::call::Call;
use crate::error::Error;
use crate::port::sight::{Payload, Question};
use crate::reply::{self, Reply};
use crate::routes::render;

/// `GET /1.0/network-trace`. Answered here if this member can, else by the instance's home.
pub(crate) async fn get(call: Call, request: Request) -> Reply {
    let project = call.project()?;
    let payload = payload(&call)?;
    let to: IpAddr = match call.query("address") {
        None => return Err(Error::invalid("address", "is missing")),
        Some(text) => text.parse().map_err(|_| Error::invalid("address", format!("{text:?} is not an IP address")))?,
    };
    if to.is_multicast() || to.is_unspecified() || to.is_loopback() {
        return Err(Error::invalid("address", format!("{to} is not the address of one host")));
    }
    let name = call.query("instance").ok_or_else(|| Error::invalid("instance", "is missing"))?;
    let missing = || Error::NotFound(format!("Instance {name:?}"));
    let name = InstanceName::new(name).map_err(|_| missing())?;
    let found = call.view.instances.values().find(|i| i.project == project && i.name == name);
    let instance = found.ok_or_else(missing)?;
    let ports = port::of(&call.view, instance);
    let device = call.query("device");
    let port = ports.iter().find(|p| device.is_none_or(|wanted| wanted == p.device)).ok_or_else(|| match device {
        Some(device) => {
            Error::invalid("device", format!("{name} has no interface {device:?} on a network of type ovn"))
        }
        None => Error::invalid("instance", format!("{name} has no interface on a network of type ovn")),
    })?;
    let home = instance.placement.home().map(|(node, _)| node).filter(|node| *node != call.me());
    if let Some(node) = home.filter(|_| !call.who.from_member)
        && !call.api.ports.sight.traces().await
    {
        return call.forward(node, request).await;
    }
    let question = Question { port: port.name(), network: port.network.number, to, payload, names: names(&call) };
    let mut trace = call.api.ports.sight.trace(question).await?;
    trace.location = call.my_name();
    if !call.who.full() {
        // It names interfaces of other projects.
        trace.raw = String::new();
    }
    reply::sync(trace)
}

fn payload(call: &Call) -> Result<Payload, Error> {
    let port = match call.query("port") {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            Ok(_) | Err(_) => return Err(Error::invalid("port", format!("{text:?} is not between 1 and 65535"))),
        },
    };
    match (call.query("protocol").unwrap_or("icmp"), port) {
        ("icmp", None) => Ok(Payload::Echo),
        ("icmp", Some(_)) => Err(Error::invalid("port", "icmp has none")),
        ("tcp", Some(port)) => Ok(Payload::Tcp(port)),
        ("udp", Some(port)) => Ok(Payload::Udp(port)),
        ("tcp" | "udp", None) => Err(Error::invalid("port", "is missing")),
        (other, _) => Err(Error::invalid("protocol", format!("{other:?} is not icmp, tcp or udp"))),
    }
}

/// What logical ports are called before this caller: those of projects that he may not see have no names.
fn names(call: &Call) -> BTreeMap<String, String> {
    let all = port::all(&call.view).into_iter().map(|port| {
        let instance = port.instance;
        let label = match call.who.sees(&instance.project) {
            false => "an interface of another project".into(),
            true => {
                let named = match instance.project == ProjectName::default_project() {
                    true => instance.name.to_string(),
                    false => format!("{}/{}", instance.project, instance.name),
                };
                let at = render::location(&call.view, instance);
                match at.as_str() {
                    "" | "none" => format!("{} of {named}", port.device),
                    at => format!("{} of {named} on {at}", port.device),
                }
            }
        };
        (port.name(), label)
    });
    all.collect()
}
