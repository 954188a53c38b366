//! Operations: calls that go on after their answer. Each lives in the memory of the member that runs it.
//!
//! ```text
//!  start -> Pending -> Running -> Success | Failure | Cancelled -> visible for KEEP, then forgotten
//! ```
//! The id is a UUIDv8 that carries the number of its member, so that any member knows whom to ask. Every change is an
//! event, published in order. What must survive a crash is in the replicated state, never here.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::WebSocket;
use basalt_model::{Cluster, NodeId, ProjectName};
use rand::RngCore;
use serde_json::{Map, Value};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::dto::event::Kind;
use crate::dto::operation::{Class, Operation, Status};
use crate::error::Error;
use crate::event::EventHub;
use crate::task::Tasks;
use crate::token;

/// How long an operation that is over stays visible.
const KEEP: Duration = Duration::from_secs(10);

/// A new operation id of member `owner`.
pub fn new_id(owner: NodeId) -> Uuid {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    // 48 bits for the number: ids are counted up from 1 and never reach that far.
    bytes[..6].copy_from_slice(&owner.0.to_be_bytes()[2..]);
    Uuid::new_v8(bytes)
}

/// The member that made an id, if it is one of ours.
pub fn owner(id: Uuid) -> Option<NodeId> {
    if id.get_version_num() != 8 {
        return None;
    }
    let mut number = [0u8; 8];
    number[2..].copy_from_slice(&id.as_bytes()[..6]);
    Some(NodeId(u64::from_be_bytes(number)))
}

/// What a new operation is.
#[derive(Debug, Default)]
pub struct New {
    pub class: Class,
    pub description: &'static str,
    pub project: Option<ProjectName>,
    /// Kind of object and its URL.
    pub resources: Vec<(&'static str, String)>,
    pub metadata: Map<String, Value>,
    pub may_cancel: bool,
    /// Whoever bears it may wait for the end, trusted or not.
    pub secret: Option<String>,
}

/// One operation, as its task and its watchers hold it.
#[derive(Debug)]
pub(crate) struct Entry {
    id: Uuid,
    project: Option<ProjectName>,
    state: watch::Sender<Operation>,
    cancel: CancellationToken,
    secret: Option<String>,
    sockets: Mutex<BTreeMap<String, oneshot::Sender<WebSocket>>>,
}

/// What an operation's task tells of itself.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    entry: Arc<Entry>,
    events: EventHub,
}

/// The operations of this member.
#[derive(Debug, Clone)]
pub struct Operations {
    known: Arc<Mutex<BTreeMap<Uuid, Arc<Entry>>>>,
    cluster: Arc<dyn Cluster>,
    events: EventHub,
    tasks: Tasks,
}

impl Operations {
    /// An empty registry.
    pub(crate) fn new(cluster: Arc<dyn Cluster>, events: EventHub, tasks: Tasks) -> Self {
        Operations { known: Arc::default(), cluster, events, tasks }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Arc<Entry>>> {
        // A panic while it was held leaves a map that is still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an operation: `run` is its work; what it returns is added to the metadata.
    pub(crate) fn start<F, Fut>(&self, new: New, run: F) -> Operation
    where
        F: FnOnce(Handle) -> Fut,
        Fut: Future<Output = Result<Map<String, Value>, Error>> + Send + 'static,
    {
        let handle = self.register(new);
        // What `run` says at once, such as the secrets of its streams, is part of the answer.
        let work = run(handle.clone());
        let begun = handle.snapshot();
        let known = self.known.clone();
        self.tasks.spawn("operation", async move {
            handle.change(|op| set_status(op, Status::Running));
            let cancel = handle.entry.cancel.clone();
            let guarded = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(work));
            let outcome = tokio::select! {
                () = cancel.cancelled() => None,
                outcome = guarded => Some(outcome.unwrap_or_else(|_| Err(Error::Internal("the operation crashed".into())))),
            };
            handle.finish(outcome);
            let id = handle.entry.id;
            drop(handle);
            tokio::time::sleep(KEEP).await;
            known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        begun
    }

    fn register(&self, new: New) -> Handle {
        let id = new_id(self.cluster.standing().me);
        let now = clock::now_text();
        let mut resources: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (kind, url) in new.resources {
            resources.entry(kind.to_owned()).or_default().push(url);
        }
        let mut operation = Operation {
            id: id.to_string(),
            class: new.class,
            description: new.description.to_owned(),
            created_at: now.clone(),
            updated_at: now,
            resources: (!resources.is_empty()).then_some(resources),
            metadata: (!new.metadata.is_empty()).then_some(new.metadata),
            may_cancel: new.may_cancel,
            location: self.events.location(),
            ..Operation::default()
        };
        set_status(&mut operation, Status::Pending);
        let entry = Arc::new(Entry {
            id,
            project: new.project,
            state: watch::Sender::new(operation),
            cancel: CancellationToken::new(),
            secret: new.secret,
            sockets: Mutex::default(),
        });
        self.known().insert(id, entry.clone());
        let handle = Handle { entry, events: self.events.clone() };
        handle.publish(&handle.snapshot());
        handle
    }

    /// An operation of this member.
    pub(crate) fn get(&self, id: Uuid) -> Option<Handle> {
        let entry = self.known().get(&id).cloned()?;
        Some(Handle { entry, events: self.events.clone() })
    }

    /// All of them, with their projects.
    pub(crate) fn list(&self) -> Vec<(Option<ProjectName>, Operation)> {
        self.known().values().map(|e| (e.project.clone(), e.state.borrow().clone())).collect()
    }
}

impl Handle {
    /// As it stands.
    pub(crate) fn snapshot(&self) -> Operation {
        self.entry.state.borrow().clone()
    }

    pub(crate) fn project(&self) -> Option<&ProjectName> {
        self.entry.project.as_ref()
    }

    /// Waits until it is over.
    pub(crate) async fn over(&self) -> Operation {
        let mut state = self.entry.state.subscribe();
        let ended = state.wait_for(Operation::is_final).await.map(|op| op.clone());
        ended.unwrap_or_else(|_| self.snapshot())
    }

    /// Shows how far it is. Keys end in `_progress` and values are text: clients show exactly those.
    pub(crate) fn progress(&self, key: &str, text: impl Into<String>) {
        self.metadata(key, Value::String(text.into()));
    }

    /// Sets a key of the metadata.
    pub(crate) fn metadata(&self, key: &str, value: Value) {
        let same = self.entry.state.borrow().metadata.as_ref().is_some_and(|m| m.get(key) == Some(&value));
        if same {
            return;
        }
        self.change(|op| {
            op.metadata.get_or_insert_default().insert(key.to_owned(), value);
        });
    }

    /// Takes a key of the metadata away.
    pub(crate) fn clear(&self, key: &str) {
        let there = self.entry.state.borrow().metadata.as_ref().is_some_and(|m| m.contains_key(key));
        if there {
            self.change(|op| {
                op.metadata.get_or_insert_default().remove(key);
            });
        }
    }

    /// From here on it goes to its end.
    pub(crate) fn commit(&self) {
        self.change(|op| op.may_cancel = false);
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// It cannot be cancelled.
    pub(crate) fn cancel(&self) -> Result<(), Error> {
        let snapshot = self.snapshot();
        if snapshot.is_final() || !snapshot.may_cancel {
            return Err(Error::Refused("This operation can't be cancelled".into()));
        }
        self.entry.cancel.cancel();
        Ok(())
    }

    /// Makes a secret for a stream of this operation, and says how to wait for the socket that brings it.
    pub(crate) fn socket(&self) -> (String, oneshot::Receiver<WebSocket>) {
        let secret = token::random_secret();
        let (sender, receiver) = oneshot::channel();
        self.sockets().insert(secret.clone(), sender);
        (secret, receiver)
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, oneshot::Sender<WebSocket>>> {
        self.entry.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redeems a secret; each works once.
    pub(crate) fn attach(&self, secret: &str) -> Option<oneshot::Sender<WebSocket>> {
        self.sockets().remove(secret)
    }

    /// Whether `secret` opens a stream of this operation, or is good for waiting.
    pub(crate) fn knows(&self, secret: &str) -> bool {
        self.entry.secret.as_deref() == Some(secret) || self.sockets().contains_key(secret)
    }

    fn change(&self, edit: impl FnOnce(&mut Operation)) {
        self.entry.state.send_modify(|operation| {
            if operation.is_final() {
                return;
            }
            edit(operation);
            operation.updated_at = clock::now_text();
            // Under the lock, so that events come in the order of the changes.
            self.publish(operation);
        });
    }

    fn finish(&self, outcome: Option<Result<Map<String, Value>, Error>>) {
        self.change(|op| {
            op.may_cancel = false;
            match outcome {
                Some(Ok(result)) => {
                    if !result.is_empty() {
                        op.metadata.get_or_insert_default().extend(result);
                    }
                    set_status(op, Status::Success);
                }
                Some(Err(error)) => {
                    op.err = error.to_string();
                    set_status(op, Status::Failure);
                }
                None => {
                    op.err = "cancelled".into();
                    set_status(op, Status::Cancelled);
                }
            }
        });
        // Sockets that never came are not waited for any more.
        self.sockets().clear();
    }

    fn publish(&self, operation: &Operation) {
        let project = self.entry.project.as_ref().map(ToString::to_string).unwrap_or_default();
        self.events.publish(Kind::Operation, serde_json::to_value(operation).unwrap_or_default(), project);
    }
}

fn set_status(operation: &mut Operation, status: Status) {
    operation.status = status.as_str().to_owned();
    operation.status_code = status.code();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_member() {
        for number in [0, 1, 3, 70_000, (1 << 48) - 1] {
            let id = new_id(NodeId(number));
            assert_eq!(owner(id), Some(NodeId(number)));
            assert_ne!(id, new_id(NodeId(number)));
        }
        assert_eq!(owner(Uuid::new_v4()), None);
    }
}
