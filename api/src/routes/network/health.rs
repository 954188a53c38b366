//! What is thought of a load balancer's backends.

use axum::extract::Request;
use basalt_model::network::balance::{Backend, Balancer};

use super::{balancers, way};
use crate::call::{Call, Segment};
use crate::dto::balance::{BackendHealth, BalancerState, CheckedPort};
use crate::port::sight::Checked;
use crate::reply::{self, Reply};

/// `GET /1.0/networks/{name}/load-balancers/{listen}/state`. A member that knows no southbound database asks one that does.
pub(crate) async fn get(call: Call, Segment((name, listen)): Segment<(String, String)>, request: Request) -> Reply {
    let (network, balancer) = balancers::find(&call, &name, &listen)?;
    // OVN 23.03 checks none that is reached by IPv6: its monitors are asked by ARP.
    if balancer.health_check().is_none() || balancer.listen.is_ipv6() {
        return reply::sync(BalancerState::default());
    }
    if let Some(node) = way::better_placed(&call).await {
        return call.forward(node, request).await;
    }
    let network = call.network(network.name.as_str())?;
    let addresses: Vec<_> = balancer.backends.iter().map(|backend| backend.target_address).collect();
    let checked = call.api.ports.sight.checked(&call.view, &network, &addresses).await?;
    let health = |backend: &Backend| (backend.name.clone(), health(&balancer, backend, &checked));
    reply::sync(BalancerState { backend_health: balancer.backends.iter().map(health).collect() })
}

fn health(balancer: &Balancer, backend: &Backend, checked: &[Checked]) -> BackendHealth {
    let ports = balancer.reached(backend).into_iter().map(|(transport, port)| {
        let protocol = transport.as_str();
        let is = |c: &&Checked| c.address == backend.target_address && c.protocol == protocol && c.port == port;
        let status = checked.iter().find(is).and_then(|found| found.status.clone());
        CheckedPort { protocol: protocol.into(), port, status: status.unwrap_or_else(|| "unknown".into()) }
    });
    BackendHealth { address: backend.target_address.to_string(), ports: ports.collect() }
}
