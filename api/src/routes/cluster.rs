//! The cluster as a whole: begin one, join one, leave it.

use basalt_model::command::ClusterCommand;
use basalt_model::{Command, Fingerprint, MemberName};
use serde_json::Map;

use crate::call::{Call, Json};
use crate::dto::cluster::{Certificate, Cluster, JoinToken, Put};
use crate::dto::operation::Class;
use crate::error::Error;
use crate::etag;
use crate::operation::New;
use crate::port::{Bootstrap, JoinTicket};
use crate::reply::{self, Reply};
use crate::token;

pub(crate) async fn get(call: Call) -> Reply {
    let cluster = Cluster {
        server_name: if call.view.initialised() { call.my_name() } else { String::new() },
        enabled: call.view.initialised(),
        member_config: Vec::new(),
    };
    let etag = etag::of(&cluster);
    reply::sync_etag(cluster, &etag)
}

pub(crate) async fn put(call: Call, Json(body): Json<Put>) -> Reply {
    if !body.enabled {
        return leave(call).await;
    }
    let token = [&body.cluster_token, &body.cluster_password].into_iter().find(|t| !t.is_empty()).cloned();
    if call.view.initialised() {
        return match token {
            // A node alone is a cluster already: enabling clustering on it changes nothing.
            None => reply::operation(&call.api.operations.start(new("Creating cluster"), |_| async { Ok(Map::new()) })),
            Some(_) => Err(Error::Refused("This server is already part of a cluster".into())),
        };
    }
    let ticket = token.map(|text| ticket(&text)).transpose()?;
    let given = match (&ticket, body.server_name.is_empty()) {
        (Some(ticket), true) => ticket.name.to_string(),
        (Some(_) | None, _) => body.server_name,
    };
    let name = MemberName::new(given).map_err(|e| Error::invalid("server_name", e))?;
    if let Some(ticket) = &ticket
        && ticket.name != name
    {
        return Err(Error::invalid("server_name", format!("the token was made for {}", ticket.name)));
    }
    let wanted = Bootstrap { name, api_address: address(body.server_address, body.cluster_address) };
    let api = call.api.clone();
    let operation = match ticket {
        None => api.operations.start(new("Creating cluster"), |_| async move {
            call.api.ports.membership.bootstrap(wanted).await?;
            call.happened("cluster-enabled", "/1.0/cluster".into(), None);
            Ok(Map::new())
        }),
        Some(ticket) => api.operations.start(new("Joining cluster"), |_| async move {
            call.api.ports.membership.join(ticket, wanted).await?;
            Ok(Map::new())
        }),
    };
    reply::operation(&operation)
}

fn new(description: &'static str) -> New {
    New { class: Class::Task, description, ..New::default() }
}

/// The API's address as the caller wants it; empty when the node is to know by itself.
fn address(server: String, cluster: String) -> String {
    if server.is_empty() { cluster } else { server }
}

fn ticket(text: &str) -> Result<JoinTicket, Error> {
    let bad = || Error::invalid("cluster_token", "is not a join token");
    let token: JoinToken = token::decode(text).ok_or_else(bad)?;
    token::split_secret(&token.secret).ok_or_else(bad)?;
    if token.addresses.is_empty() || token.addresses.len() > 5 {
        return Err(Error::invalid("cluster_token", "names no member, or more than five"));
    }
    Ok(JoinTicket {
        name: MemberName::new(token.server_name).map_err(|e| Error::invalid("cluster_token", e))?,
        fingerprint: Fingerprint::new(token.fingerprint).map_err(|e| Error::invalid("cluster_token", e))?,
        addresses: token.addresses,
        secret: token.secret,
    })
}

async fn leave(call: Call) -> Reply {
    if !call.view.initialised() {
        return Err(Error::NotInitialised);
    }
    if call.view.members.len() == 1 {
        return Err(Error::Refused("the last member cannot leave its cluster".into()));
    }
    let api = call.api.clone();
    let operation = api.operations.start(new("Leaving cluster"), |_| async move {
        call.api.ports.membership.remove(call.me(), false).await?;
        Ok(Map::new())
    });
    reply::operation(&operation)
}

/// Exchanges the certificate that every member shows to clients. One entry of the log holds it whole: members show
/// either the old one or the new one, each with its key.
pub(crate) async fn certificate(call: Call, Json(body): Json<Certificate>) -> Reply {
    let (certificate, key) = (body.cluster_certificate, body.cluster_certificate_key);
    for (field, text) in [("cluster_certificate", &certificate), ("cluster_certificate_key", &key)] {
        if text.is_empty() {
            return Err(Error::invalid(field, "is missing"));
        }
    }
    let der = token::pem_der(&certificate).ok_or_else(|| Error::invalid("cluster_certificate", "is not PEM"))?;
    crate::auth::check_certificate(&der).map_err(|why| Error::invalid("cluster_certificate", why))?;
    crate::serve::tls::public(&certificate, &key).map_err(|why| Error::invalid("cluster_certificate_key", why))?;
    call.propose(Command::Cluster(ClusterCommand::SetApiCertificate { certificate, key })).await?;
    call.happened("cluster-certificate-updated", "/1.0/cluster/certificate".into(), None);
    reply::empty()
}
