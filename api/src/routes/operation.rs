//! Operations of all members, and the tokens that clients see as operations.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request};
use basalt_model::command::IdentityCommand;
use basalt_model::identity::{CertificateKind, Grant, Token};
use basalt_model::{Command, NodeId, TokenId};
use http::header::HOST;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::call::{Call, Segment};
use crate::clock;
use crate::dto::envelope::Envelope;
use crate::dto::operation::{Class, Operation, Status};
use crate::error::Error;
use crate::operation::{Handle, owner};
use crate::reply::{self, Reply};
use crate::token;

/// How long another member may take to list its operations.
const PEER_DEADLINE: Duration = Duration::from_secs(3);
/// A message on a stream may not be larger.
const MAX_MESSAGE: usize = 16 << 20;

/// Lists by status; `recursion=1` gives objects.
pub(crate) async fn list(call: Call) -> Reply {
    let projects = call.projects()?;
    let mut all: Vec<Operation> = call
        .api
        .operations
        .list()
        .into_iter()
        .filter(|(project, _)| match project {
            Some(project) => projects.contains(project),
            None => call.who.full(),
        })
        .map(|(_, operation)| operation)
        .collect();
    if !call.who.from_member {
        if call.who.full() {
            all.extend(
                call.view.tokens.values().filter(|t| !t.expired(clock::now())).map(|t| token_operation(&call, t, None)),
            );
        }
        all.extend(of_others(&call).await);
    }
    all.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    let mut by_status: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for operation in all {
        let value = match call.recursion() {
            0 => json!(format!("/1.0/operations/{}", operation.id)),
            _ => json!(operation),
        };
        by_status.entry(operation.status.to_ascii_lowercase()).or_default().push(value);
    }
    reply::sync(by_status)
}

/// Operations of the other members that can be reached.
async fn of_others(call: &Call) -> Vec<Operation> {
    let me = call.me();
    let others = call.view.members.keys().copied().filter(|id| *id != me && call.view.online(*id));
    let asked = others.map(|node| async move {
        match tokio::time::timeout(PEER_DEADLINE, of_member(call, node)).await {
            Ok(Ok(operations)) => operations,
            Ok(Err(error)) => {
                tracing::warn!(%node, %error, "operations of a member are not listed");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(%node, "operations of a member are not listed: no answer in time");
                Vec::new()
            }
        }
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn of_member(call: &Call, node: NodeId) -> Result<Vec<Operation>, Error> {
    let scope = match (call.flag("all-projects"), call.query("project")) {
        (true, _) => "&all-projects=true".to_owned(),
        (false, Some(_)) => format!("&project={}", call.project()?),
        (false, None) => String::new(),
    };
    let request = Request::get(format!("/1.0/operations?recursion=1{scope}"))
        .header(HOST, "basalt")
        .body(Body::empty())
        .map_err(|e| Error::Internal(e.to_string()))?;
    let response = call.forward(node, request).await?;
    let bytes =
        axum::body::to_bytes(response.into_body(), 16 << 20).await.map_err(|e| Error::Internal(e.to_string()))?;
    let answer: Envelope<BTreeMap<String, Vec<Operation>>> =
        serde_json::from_slice(&bytes).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(answer.metadata.unwrap_or_default().into_values().flatten().collect())
}

/// Where an operation is.
enum Found {
    Here(Handle),
    Token(Token),
    At(NodeId),
}

fn find(call: &Call, id: &str) -> Result<Found, Error> {
    let missing = || Error::NotFound("Operation".into());
    let id = Uuid::parse_str(id).map_err(|_| missing())?;
    if let Some(handle) = call.api.operations.get(id) {
        // Streams and waits with a secret are open to all who know it; other callers must see the project.
        let seen = match handle.project() {
            Some(project) => call.who.trusted() && call.who.sees(project),
            None => call.who.full(),
        };
        let secret = call.query("secret").is_some_and(|s| handle.knows(s));
        let bears_secret = call.query("secret").is_some() && !call.who.trusted();
        return match seen || secret || bears_secret {
            true => Ok(Found::Here(handle)),
            false => Err(missing()),
        };
    }
    if let Some(token) = call.view.tokens.get(&TokenId(id)).filter(|t| !t.expired(clock::now())) {
        return if call.who.full() { Ok(Found::Token(token.clone())) } else { Err(missing()) };
    }
    match owner(id).filter(|node| *node != call.me() && call.view.members.contains_key(node)) {
        Some(node) if !call.who.from_member => Ok(Found::At(node)),
        Some(_) | None => Err(missing()),
    }
}

pub(crate) async fn get(call: Call, Segment(id): Segment<String>, request: Request) -> Reply {
    match find(&call, &id)? {
        Found::Here(handle) => reply::sync(handle.snapshot()),
        Found::Token(token) => reply::sync(token_operation(&call, &token, None)),
        Found::At(node) => call.forward(node, request).await,
    }
}

/// Answers with the final object, whether the operation went well or not: that is what scripts read.
pub(crate) async fn wait(call: Call, Segment(id): Segment<String>, request: Request) -> Reply {
    if !call.who.trusted() && call.query("secret").is_none() {
        return Err(Error::NotTrusted);
    }
    let handle = match find(&call, &id)? {
        Found::Here(handle) => handle,
        Found::Token(token) => return reply::sync(token_operation(&call, &token, None)),
        Found::At(node) => return call.forward(node, request).await,
    };
    if !call.who.trusted() && !call.query("secret").is_some_and(|s| handle.knows(s)) {
        return Err(Error::NotTrusted);
    }
    let seconds = match call.query("timeout").map(str::parse::<i64>) {
        None => -1,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => return Err(Error::invalid("timeout", "must be a whole number of seconds")),
    };
    let ended = match u64::try_from(seconds) {
        Err(_) => Some(handle.over().await),
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), handle.over()).await.ok(),
    };
    reply::sync(ended.unwrap_or_else(|| handle.snapshot()))
}

pub(crate) async fn delete(call: Call, Segment(id): Segment<String>, request: Request) -> Reply {
    match find(&call, &id)? {
        Found::Here(handle) => {
            handle.cancel()?;
            call.happened("operation-cancelled", format!("/1.0/operations/{id}"), handle.project());
            reply::empty()
        }
        Found::Token(token) => {
            call.propose(Command::Identity(IdentityCommand::RevokeToken(token.id))).await?;
            reply::empty()
        }
        Found::At(node) => call.forward(node, request).await,
    }
}

/// Attaches to a stream; the secret says to which.
pub(crate) async fn websocket(call: Call, Segment(id): Segment<String>, request: Request) -> Reply {
    let secret = call.query("secret").ok_or_else(|| Error::invalid("secret", "is missing"))?;
    let handle = match find(&call, &id)? {
        Found::Here(handle) => handle,
        Found::Token(_) => return Err(Error::Refused("a token has no stream".into())),
        Found::At(node) => return call.forward(node, request).await,
    };
    if !handle.knows(secret) {
        return Err(Error::NotTrusted);
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|e| Error::invalid("websocket", e.body_text()))?;
    // Redeemed only now: a request that is no websocket must not burn it.
    let waiting = handle.attach(secret).ok_or(Error::NotTrusted)?;
    Ok(upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(|socket| async {
        // When the operation ended meanwhile, dropping the socket tells the client.
        let _ = waiting.send(socket);
    }))
}

/// A token as the operation that clients take it for. The secret is shown only to whoever asked for the token.
pub(super) fn token_operation(call: &Call, held: &Token, secret: Option<&str>) -> Operation {
    let secret = secret.map(|s| token::join_secret(held.id, s)).unwrap_or_default();
    let fingerprint = token::pem_fingerprint(&call.view.secrets.api_certificate).map(String::from).unwrap_or_default();
    let mut metadata: Map<String, Value> = Map::new();
    metadata.insert("secret".into(), json!(secret));
    metadata.insert("fingerprint".into(), json!(fingerprint));
    metadata.insert("addresses".into(), json!(token::addresses(&call.view)));
    metadata.insert("expiresAt".into(), json!(clock::text(held.expires_at)));
    let description = match &held.grant {
        Grant::Join(name) => {
            metadata.insert("serverName".into(), json!(name));
            "Executing cluster join token operation"
        }
        Grant::Trust { name, kind, restricted, projects } => {
            let request = json!({
                "name": name, "type": kind_word(*kind), "restricted": restricted, "projects": projects,
                "certificate": "", "password": "", "token": true,
            });
            metadata.insert("request".into(), request);
            "Executing operation"
        }
    };
    Operation {
        id: held.id.to_string(),
        class: Class::Token,
        description: description.into(),
        created_at: clock::text(held.created_at),
        updated_at: clock::text(held.created_at),
        status: Status::Running.as_str().into(),
        status_code: Status::Running.code(),
        resources: None,
        metadata: Some(metadata),
        may_cancel: true,
        err: String::new(),
        location: call.api.events.location(),
    }
}

/// The API's word for a kind of certificate.
pub(super) fn kind_word(kind: CertificateKind) -> &'static str {
    match kind {
        CertificateKind::Client => "client",
        CertificateKind::Metrics => "metrics",
    }
}
