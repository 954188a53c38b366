//! Events: what happens anywhere in the cluster, told to every listener in order.
//!
//! ```text
//!  operations, handlers, node --> local --+----------------------------> listeners that are members (their relay)
//!                                         '--> everywhere <-- relay <--- /1.0/events of each other member
//!                                                  '--------------------> listeners that are clients
//! ```
//! Events of one member reach every listener in the order in which that member published them. A listener that reads
//! too slowly to keep up with [`BACKLOG`] events is cut off rather than served with a gap.

pub(crate) mod relay;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use basalt_model::{Cluster, ProjectName};
use tokio::sync::broadcast;

use crate::clock;
use crate::dto::event::{Event, Kind, Lifecycle, Requestor};

/// How many events a slow listener may be behind.
const BACKLOG: usize = 8192;

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub struct Happening {
    /// `instance-started` and the like (§2.13 of the contract).
    pub action: String,
    /// URL of the object.
    pub source: String,
    /// Name of the object.
    pub name: String,
    pub project: Option<ProjectName>,
    pub requestor: Option<Requestor>,
    pub context: serde_json::Map<String, serde_json::Value>,
}

/// An event with its text, made once for all listeners.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) kind: Kind,
    /// Empty for what belongs to no project.
    pub(crate) project: String,
    pub(crate) text: Utf8Bytes,
}

/// Where events are published and heard. Cheap to clone; all clones are one hub.
#[derive(Debug, Clone)]
pub struct EventHub {
    cluster: Arc<dyn Cluster>,
    local: broadcast::Sender<Arc<Published>>,
    everywhere: broadcast::Sender<Arc<Published>>,
}

impl EventHub {
    /// A hub that signs events with this member's name.
    pub fn new(cluster: Arc<dyn Cluster>) -> Self {
        EventHub { cluster, local: broadcast::Sender::new(BACKLOG), everywhere: broadcast::Sender::new(BACKLOG) }
    }

    /// Publishes a lifecycle event.
    pub fn lifecycle(&self, happening: Happening) {
        let project = happening.project.as_ref().map(ToString::to_string).unwrap_or_default();
        let metadata = Lifecycle {
            action: happening.action,
            source: happening.source,
            context: happening.context,
            requestor: happening.requestor,
            name: happening.name,
            project: project.clone(),
        };
        self.publish(Kind::Lifecycle, serde_json::to_value(metadata).unwrap_or_default(), project);
    }

    /// Publishes an event of this member.
    pub fn publish(&self, kind: Kind, metadata: serde_json::Value, project: String) {
        let event = Event { kind, timestamp: clock::now_text(), metadata, location: self.location(), project };
        let Ok(text) = serde_json::to_string(&event) else { return };
        let published = Arc::new(Published { kind, project: event.project, text: text.into() });
        // Nobody listening is fine.
        let _ = self.local.send(published.clone());
        let _ = self.everywhere.send(published);
    }

    /// The name of this member, or `none` when it is alone.
    pub(crate) fn location(&self) -> String {
        location(self.cluster.as_ref())
    }

    /// Passes on what another member published.
    fn pass_on(&self, text: Utf8Bytes) {
        let Ok(event) = serde_json::from_str::<Event>(&text) else { return };
        let _ = self.everywhere.send(Arc::new(Published { kind: event.kind, project: event.project, text }));
    }

    /// Events of this member alone, or of all.
    pub(crate) fn subscribe(&self, everywhere: bool) -> broadcast::Receiver<Arc<Published>> {
        if everywhere { self.everywhere.subscribe() } else { self.local.subscribe() }
    }
}

/// The name of this member, or `none` when it is alone.
pub(crate) fn location(cluster: &dyn Cluster) -> String {
    let view = cluster.view();
    let me = view.members.get(&cluster.standing().me);
    me.filter(|_| view.members.len() > 1).map_or_else(|| "none".to_owned(), |m| m.name.to_string())
}

/// Which events a listener wants and may see.
#[derive(Debug, Clone)]
pub(crate) struct Interest {
    pub(crate) kinds: BTreeSet<Kind>,
    /// `None` for all projects.
    pub(crate) projects: Option<BTreeSet<String>>,
}

impl Interest {
    pub(crate) fn covers(&self, event: &Published) -> bool {
        let project = event.project.is_empty() || self.projects.as_ref().is_none_or(|p| p.contains(&event.project));
        project && self.kinds.contains(&event.kind)
    }
}
