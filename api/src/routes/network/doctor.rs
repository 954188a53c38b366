//! What is wrong with a logical network: every member is asked for its switch, and one looks at OVN.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use basalt_model::NodeId;
use basalt_model::network::{Network, NetworkKind};
use http::header::HOST;

use crate::call::{Call, Segment};
use crate::dto::diagnosis::{Diagnosis, Host};
use crate::dto::envelope::Envelope;
use crate::error::Error;
use crate::reply::{self, Reply};

/// How long another member may take to say what its switch does.
const PEER_DEADLINE: Duration = Duration::from_secs(5);

/// `GET /1.0/networks/{name}/doctor`. Asked by another member, it tells of this host's switch alone.
pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    if !call.who.full() {
        // It tells of hosts, and of instances of all projects.
        return Err(Error::Forbidden("a network is examined by those who may see all projects".into()));
    }
    let network = call.network(&name)?;
    if network.kind != NetworkKind::Ovn {
        let kind = network.kind.as_str();
        return Err(Error::Refused(format!("only networks of type ovn can be examined: {name} is of type {kind}")));
    }
    let me = call.me();
    let mut hosts = BTreeMap::new();
    // A host that is no chassis has no part in it.
    if call.who.from_member || call.view.members.get(&me).is_some_and(|m| m.announced.chassis.is_some()) {
        hosts.insert(call.my_name(), call.api.ports.sight.host().await);
    }
    if call.who.from_member {
        return reply::sync(Diagnosis { hosts, ..Diagnosis::default() });
    }
    let others = call.view.members.values().filter(|m| m.id != me && m.announced.chassis.is_some());
    let (asking, of) = (&call, &network);
    let asked = others.map(|m| async move { (m.name.to_string(), of_member(asking, of, m.id).await) });
    hosts.extend(futures_util::future::join_all(asked).await);
    let findings = call.api.ports.sight.diagnose(&network, &hosts).await;
    let healthy = findings.iter().all(|finding| finding.severity != "error");
    reply::sync(Diagnosis { healthy, findings, hosts })
}

async fn of_member(call: &Call, network: &Network, node: NodeId) -> Host {
    let lacking = |why: String| Host { lacking: why, ..Host::default() };
    if !call.view.online(node) {
        return lacking("the member is offline".into());
    }
    match tokio::time::timeout(PEER_DEADLINE, ask(call, network, node)).await {
        Ok(Ok(host)) => host,
        Ok(Err(error)) => lacking(error.to_string()),
        Err(_) => lacking(format!("no answer within {} s", PEER_DEADLINE.as_secs())),
    }
}

async fn ask(call: &Call, network: &Network, node: NodeId) -> Result<Host, Error> {
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let request = Request::get(format!("/1.0/networks/{}/doctor{}", network.name, network.project.suffix()))
        .header(HOST, "basalt");
    let request = request.body(Body::empty()).map_err(|e| internal(&e))?;
    let response = call.forward(node, request).await?;
    let bytes = axum::body::to_bytes(response.into_body(), 4 << 20).await.map_err(|e| internal(&e))?;
    let answer: Envelope<Diagnosis> = serde_json::from_slice(&bytes).map_err(|e| internal(&e))?;
    let host = answer.metadata.and_then(|found| found.hosts.into_values().next());
    host.ok_or_else(|| Error::Internal("the member said nothing of its switch".into()))
}
