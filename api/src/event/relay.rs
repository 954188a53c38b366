//! Keeps one subscription to every other online member's events, but only while somebody listens here (and a little
//! longer: command-line clients come and go).
//!
//! ```text
//!  listener count --+                        .--> up: events flow
//!  online members --+--> manager: one task each --> down: retried with backoff
//! ```
//! A listener is answered only after every subscription is up or has failed once, so that nothing that happens after
//! the answer is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::Utf8Bytes;
use basalt_model::{Cluster, NodeId, StateView};
use futures_util::StreamExt;
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::EventHub;
use crate::port::Peers;
use crate::task::Tasks;

/// How long a subscription outlives the last listener.
const LINGER: Duration = Duration::from_secs(15);
/// How long a listener waits for subscriptions to come up.
const READY_DEADLINE: Duration = Duration::from_secs(3);
/// How long one attempt may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A member that says nothing for so long, not even a ping, is asked anew.
const SILENCE: Duration = Duration::from_secs(30);

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upstream {
    Connecting,
    Up,
    Down,
}

type Standing = watch::Sender<BTreeMap<NodeId, Upstream>>;

/// Subscriptions to the other members' events.
#[derive(Clone)]
pub(crate) struct Relay(Arc<Inner>);

struct Inner {
    cluster: Arc<dyn Cluster>,
    peers: Arc<dyn Peers>,
    hub: EventHub,
    tasks: Tasks,
    listeners: watch::Sender<usize>,
    upstreams: Standing,
    started: AtomicBool,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("listeners", &*self.0.listeners.borrow()).finish_non_exhaustive()
    }
}

/// A listener: while it lives, other members' events come in.
#[derive(Debug)]
pub(crate) struct Listening(Relay);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.0.listeners.send_modify(|n| *n = n.saturating_sub(1));
    }
}

impl Relay {
    pub(crate) fn new(cluster: Arc<dyn Cluster>, peers: Arc<dyn Peers>, hub: EventHub, tasks: Tasks) -> Self {
        Relay(Arc::new(Inner {
            cluster,
            peers,
            hub,
            tasks,
            listeners: watch::Sender::new(0),
            upstreams: watch::Sender::new(BTreeMap::new()),
            started: AtomicBool::new(false),
        }))
    }

    /// Registers a listener and waits until the other members' events flow, as far as they can be reached.
    pub(crate) async fn listen(&self) -> Listening {
        self.0.listeners.send_modify(|n| *n += 1);
        let listening = Listening(self.clone());
        if !self.0.started.swap(true, Ordering::AcqRel) {
            let relay = self.clone();
            self.0.tasks.spawn("event relay", async move { relay.manage().await });
        }
        let mut upstreams = self.0.upstreams.subscribe();
        let relay = self.clone();
        let ready = upstreams.wait_for(|known| {
            let wanted = relay.others(&relay.0.cluster.view());
            wanted.iter().all(|node| matches!(known.get(node), Some(Upstream::Up | Upstream::Down)))
        });
        if tokio::time::timeout(READY_DEADLINE, ready).await.is_err() {
            tracing::warn!("events of some members are not flowing yet");
        }
        listening
    }

    fn others(&self, view: &StateView) -> Vec<NodeId> {
        let me = self.0.cluster.standing().me;
        view.members.keys().copied().filter(|id| *id != me && view.online(*id)).collect()
    }

    /// Starts and stops subscriptions, for ever.
    async fn manage(&self) {
        let mut running: BTreeMap<NodeId, CancellationToken> = BTreeMap::new();
        let mut listeners = self.0.listeners.subscribe();
        loop {
            let view = self.0.cluster.view();
            let wanted = self.others(&view);
            running.retain(|node, stop| {
                let keep = wanted.contains(node);
                if !keep {
                    stop.cancel();
                    self.0.upstreams.send_modify(|known| {
                        known.remove(node);
                    });
                }
                keep
            });
            for node in wanted {
                running.entry(node).or_insert_with(|| self.subscribe(node));
            }
            let idle = *listeners.borrow_and_update() == 0;
            tokio::select! {
                _ = self.0.cluster.changed_since(view.version) => {}
                changed = listeners.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LINGER), if idle => {
                    for (_, stop) in std::mem::take(&mut running) {
                        stop.cancel();
                    }
                    self.0.upstreams.send_replace(BTreeMap::new());
                    if listeners.wait_for(|n| *n > 0).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn subscribe(&self, node: NodeId) -> CancellationToken {
        let stop = CancellationToken::new();
        self.0.upstreams.send_modify(|known| {
            known.insert(node, Upstream::Connecting);
        });
        let (relay, stopped) = (self.clone(), stop.clone());
        self.0.tasks.spawn("event subscription", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = relay.keep(node, &stopped) => {}
            }
        });
        stop
    }

    async fn keep(&self, node: NodeId, stopped: &CancellationToken) {
        let mark = |upstream| {
            if !stopped.is_cancelled() {
                self.0.upstreams.send_modify(|known| {
                    known.insert(node, upstream);
                });
            }
        };
        let mut pause = RETRY_MIN;
        loop {
            let attempt = tokio::time::timeout(CONNECT_DEADLINE, self.connect(node)).await;
            match attempt.unwrap_or_else(|_| Err("no answer in time".into())) {
                Ok(socket) => {
                    pause = RETRY_MIN;
                    mark(Upstream::Up);
                    self.pump(socket).await;
                }
                Err(error) => tracing::debug!(%node, error, "cannot subscribe to a member's events"),
            }
            mark(Upstream::Down);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn connect(&self, node: NodeId) -> Result<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, String> {
        let request = Request::builder()
            .uri("/1.0/events?type=operation,lifecycle,logging,network-acl&all-projects=true")
            .header(HOST, "basalt")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, generate_key())
            .body(Body::empty())
            .map_err(|e| e.to_string())?;
        let mut response = self.0.peers.forward(node, request).await.map_err(|e| e.to_string())?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("answered {}", response.status()));
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|e| e.to_string())?;
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
    }

    async fn pump(&self, mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
        // Pings are answered by the stream itself while it is read.
        while let Ok(Some(Ok(message))) = tokio::time::timeout(SILENCE, socket.next()).await {
            if let Message::Text(text) = message {
                self.0.hub.pass_on(Utf8Bytes::from(text.as_str()));
            }
        }
    }
}
