//! The hand-shake of joining.
//!
//! ```text
//!  joiner                                   any member, public port, pinned by the token's fingerprint
//!  1 key + CSR, written to disk
//!  2 POST {secret, name, csr, ..} --------> 3 sign with the CA, propose Join { token, member with the next id }
//!  5 identity written to disk  <----------- 4 { node id, cluster id, certificate, CA certificate }
//!  6 Raft starts, empty; the leader finds the new member in the state and brings it up to date
//! ```
//!
//! **Failure.** Lost before 3: nothing happened, ask again. Lost after 3: the joiner asks again with the key and token it
//! has on disk, and is given the same certificate and id; nobody else can be, because the key is the joiner's alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::post};
use basalt_api::port::{JoinTicket, PortError};
use basalt_model::command::MemberCommand;
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::{Cluster, Command, Fingerprint, MemberName, NodeId, ProposeError, Rejected, TokenId};
use basalt_raft::{NodeIdentity, pki};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fact::Clock;

/// What a joiner asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    /// `<token id>:<secret>`.
    pub secret: String,
    pub name: MemberName,
    /// PEM.
    pub csr: String,
    pub announcement: Announcement,
}

/// What it is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Given {
    pub node_id: NodeId,
    pub cluster_id: uuid::Uuid,
    pub certificate: String,
    pub ca_certificate: String,
}

/// What the member that admits works with.
#[derive(Debug, Clone)]
pub struct Door {
    pub cluster: Arc<dyn Cluster>,
    pub clock: Clock,
}

/// The route of the public port. A refusal is plain text.
pub fn routes(door: Door) -> Router {
    async fn join(State(door): State<Door>, Json(ask): Json<Ask>) -> Response {
        let name = ask.name.clone();
        match door.admit(ask).await {
            Ok(given) => {
                tracing::info!(member = %name, id = %given.node_id, "admitted");
                Json(given).into_response()
            }
            Err((status, why)) => {
                tracing::warn!(member = %name, %why, "refused to join");
                (status, why).into_response()
            }
        }
    }
    Router::new().route(super::JOIN, post(join)).with_state(door)
}

type Refusal = (StatusCode, String);

fn refuse(why: impl ToString) -> Refusal {
    (StatusCode::FORBIDDEN, why.to_string())
}

fn unavailable(why: impl ToString) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, why.to_string())
}

/// Splits a token's secret, and hashes it as the state keeps it.
pub fn hash_secret(secret: &str) -> Option<(TokenId, Fingerprint)> {
    let (id, secret) = secret.split_once(':')?;
    let hex: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    Some((id.parse().ok()?, Fingerprint::new(hex).ok()?))
}

impl Door {
    async fn admit(&self, ask: Ask) -> Result<Given, Refusal> {
        let (token, secret_hash) = hash_secret(&ask.secret).ok_or_else(|| refuse("the token is not one of ours"))?;
        // A join changes the counter of ids, and so does any other that runs now: a few tries settle it.
        for _ in 0..8 {
            let view = self.cluster.linearizable().await.map_err(unavailable)?;
            if let Some(member) = view.members.values().find(|m| m.redeemed.as_ref() == Some(&secret_hash)) {
                return match member.name == ask.name && same_key(&member.certificate_pem, &ask.csr) {
                    true => Ok(given(&view, member)),
                    false => Err(refuse("the token is not valid: it was used already")),
                };
            }
            let member = self.member(&view, &ask, &secret_hash)?;
            let answer = given(&view, &member);
            let at = self.clock.now();
            let command = MemberCommand::Join { token, secret_hash: secret_hash.clone(), member: Box::new(member), at };
            match self.cluster.propose(Command::Member(command)).await {
                Ok(_) => return Ok(answer),
                Err(ProposeError::Rejected(Rejected::Stale(_)) | ProposeError::Unknown(_)) => {}
                Err(ProposeError::Rejected(why)) => return Err(refuse(why)),
                Err(error @ (ProposeError::NoLeader(_) | ProposeError::Storage(_))) => return Err(unavailable(error)),
            }
        }
        Err(unavailable("the cluster is too busy to admit a member: try again"))
    }

    fn member(&self, view: &basalt_model::StateView, ask: &Ask, hash: &Fingerprint) -> Result<Member, Refusal> {
        let id = NodeId(view.next_node);
        let certificate_pem = pki::sign_node(&view.secrets, &ask.csr, id, &ask.name).map_err(refuse)?;
        Ok(Member {
            id,
            name: ask.name.clone(),
            certificate: pki::fingerprint(&certificate_pem).map_err(refuse)?,
            certificate_pem,
            joined_at: self.clock.now(),
            redeemed: Some(hash.clone()),
            awaited: true,
            duty: Duty::Active,
            order: None,
            health: Health::Online,
            failure_domain: "default".into(),
            description: String::new(),
            groups: Default::default(),
            roles: Default::default(),
            config: Default::default(),
            announced: ask.announcement.clone(),
        })
    }
}

fn given(view: &basalt_model::StateView, member: &Member) -> Given {
    Given {
        node_id: member.id,
        cluster_id: view.cluster_id,
        certificate: member.certificate_pem.clone(),
        ca_certificate: view.secrets.ca_certificate.clone(),
    }
}

/// Whether a certificate and a signing request are for the same key.
fn same_key(certificate: &str, csr: &str) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};
    let der = |text: &str| x509_parser::pem::parse_x509_pem(text.as_bytes()).ok().map(|(_, pem)| pem.contents);
    let (Some(certificate), Some(csr)) = (der(certificate), der(csr)) else { return false };
    let (Ok((_, certificate)), Ok((_, csr))) =
        (X509Certificate::from_der(&certificate), X509CertificationRequest::from_der(&csr))
    else {
        return false;
    };
    certificate.public_key().raw == csr.certification_request_info.subject_pki.raw
}

/// What a joiner keeps on disk before it asks.
#[derive(Serialize, Deserialize)]
struct Attempt {
    secret: String,
    name: MemberName,
    key: String,
    csr: String,
}

/// Asks the members of the ticket, one after another, and returns the identity that was given.
pub async fn ask(
    identity_dir: &Path,
    ticket: &JoinTicket,
    name: MemberName,
    announcement: Announcement,
) -> Result<NodeIdentity, PortError> {
    let attempt = attempt(identity_dir, ticket, &name)?;
    let ask = Ask { secret: ticket.secret.clone(), name, csr: attempt.csr, announcement };
    let body = serde_json::to_vec(&ask).map_err(|e| PortError::Internal(e.to_string()))?;
    let mut reasons = Vec::new();
    for address in &ticket.addresses {
        match post_to(address, ticket, body.clone()).await {
            Ok(given) => {
                return Ok(NodeIdentity {
                    node_id: given.node_id,
                    cluster_id: given.cluster_id,
                    key: attempt.key,
                    certificate: given.certificate,
                    ca_certificate: given.ca_certificate,
                });
            }
            Err(error @ (PortError::Invalid(_) | PortError::Conflict(_))) => return Err(error),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    Err(PortError::Unavailable(format!("no member of the token could be asked: {}", reasons.join("; "))))
}

/// Forgets the attempt: the identity is on disk.
pub fn done(identity_dir: &Path) {
    let _ = std::fs::remove_file(attempt_file(identity_dir));
}

fn attempt_file(identity_dir: &Path) -> PathBuf {
    identity_dir.join("joining.json")
}

/// The attempt on disk, if it is for this ticket, or a new one.
fn attempt(identity_dir: &Path, ticket: &JoinTicket, name: &MemberName) -> Result<Attempt, PortError> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let io = |e: std::io::Error| PortError::Internal(format!("{}: {e}", identity_dir.display()));
    let path = attempt_file(identity_dir);
    let held = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Attempt>(&bytes).ok());
    if let Some(held) = held.filter(|held| held.secret == ticket.secret && held.name == *name) {
        return Ok(held);
    }
    let made = pki::node_request(name).map_err(|e| PortError::Internal(e.to_string()))?;
    let attempt = Attempt { secret: ticket.secret.clone(), name: name.clone(), key: made.key, csr: made.csr };
    let json = serde_json::to_vec(&attempt).map_err(|e| PortError::Internal(e.to_string()))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(identity_dir).map_err(io)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(io)?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(io)?;
    Ok(attempt)
}

async fn post_to(address: &str, ticket: &JoinTicket, body: Vec<u8>) -> Result<Given, PortError> {
    let unreachable = |e: basalt_client::Error| PortError::Unavailable(e.to_string());
    let client = basalt_client::Client::https(address, ticket.fingerprint.as_str(), None).map_err(unreachable)?;
    let answer = client.query(Method::POST, super::JOIN, Some(body)).await.map_err(unreachable)?;
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    match answer.status.as_u16() {
        200 => serde_json::from_slice(&answer.body).map_err(|e| PortError::Unavailable(e.to_string())),
        403 => Err(PortError::Conflict(text())),
        400..500 => Err(PortError::Invalid(text())),
        _ => Err(PortError::Unavailable(text())),
    }
}
