//! `/1.0/events`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::api::Api;
use crate::call::Call;
use crate::dto::event::Kind;
use crate::error::Error;
use crate::event::relay::Listening;
use crate::event::{Interest, Published};
use crate::reply::Reply;
use crate::stream::socket::PING;

/// A listener that has left so many pings unanswered is gone.
const MAX_SILENT_PINGS: u32 = 2;

pub(crate) async fn listen(call: Call, request: Request) -> Reply {
    let interest = interest(&call)?;
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|e| Error::invalid("websocket", e.body_text()))?;
    // A member asks for what happens here; a client for what happens anywhere, and it is answered only once that flows.
    let everywhere = !call.who.from_member;
    let events = call.api.events.subscribe(everywhere);
    let listening = if everywhere { Some(call.api.relay.listen().await) } else { None };
    let api = call.api.clone();
    Ok(upgrade.on_upgrade(move |socket| stream(api, socket, events, interest, listening)))
}

fn interest(call: &Call) -> Result<Interest, Error> {
    let kinds = match call.query("type") {
        None => [Kind::Operation, Kind::Lifecycle, Kind::Logging, Kind::NetworkAcl].into_iter().collect(),
        Some(words) => words.split(',').map(kind).collect::<Result<BTreeSet<_>, _>>()?,
    };
    // What the log says is not for those who see a part only.
    let kinds =
        kinds.into_iter().filter(|k| call.who.full() || !matches!(k, Kind::Logging | Kind::NetworkAcl)).collect();
    let all = call.flag("all-projects") && call.who.full();
    let projects = match all {
        true => None,
        false => Some(call.projects()?.iter().map(ToString::to_string).collect()),
    };
    Ok(Interest { kinds, projects })
}

fn kind(word: &str) -> Result<Kind, Error> {
    match word.trim() {
        "operation" => Ok(Kind::Operation),
        "lifecycle" => Ok(Kind::Lifecycle),
        "logging" => Ok(Kind::Logging),
        "network-acl" => Ok(Kind::NetworkAcl),
        other => Err(Error::invalid("type", format!("{other:?} is not operation, lifecycle, logging or network-acl"))),
    }
}

async fn stream(
    api: Arc<Api>,
    mut socket: WebSocket,
    mut events: Receiver<Arc<Published>>,
    interest: Interest,
    _listening: Option<Listening>,
) {
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    let mut silent = 0;
    let shutdown = api.tasks.shutdown();
    loop {
        // Every arm is cancel-safe: a channel, an interval, and a stream of whole messages.
        let sent = tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.recv() => match event {
                Ok(event) if interest.covers(&event) => socket.send(Message::Text(event.text.clone())).await,
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "an event listener is too slow and is cut off");
                    break;
                }
                Err(RecvError::Closed) => break,
            },
            _ = ping.tick() => {
                silent += 1;
                if silent > MAX_SILENT_PINGS {
                    break;
                }
                socket.send(Message::Ping(bytes::Bytes::new())).await
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {
                    silent = 0;
                    continue;
                }
            },
        };
        if sent.is_err() {
            break;
        }
    }
}
