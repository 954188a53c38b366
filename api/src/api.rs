//! The API of one member: its ports, its operations, its events.

use std::sync::Arc;

use axum::Router;
use basalt_model::{Cluster, ImageKey, StateView};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::event::EventHub;
use crate::event::relay::Relay;
use crate::metrics::ApiMetrics;
use crate::operation::Operations;
use crate::port::files::Files;
use crate::port::parts::ImageParts;
use crate::port::remote::Remotes;
use crate::port::sight::Sight;
use crate::port::{Guests, Images, Membership, Peers, Telemetry};
use crate::pull::Pulls;
use crate::secret::Secrets;
use crate::stream::console::Consoles;
use crate::stream::exec::Recordings;
use crate::task::Tasks;

/// What the API is built on.
pub struct Context {
    pub cluster: Arc<dyn Cluster>,
    pub guests: Arc<dyn Guests>,
    pub files: Arc<dyn Files>,
    pub peers: Arc<dyn Peers>,
    pub telemetry: Arc<dyn Telemetry>,
    pub images: Arc<dyn Images>,
    pub parts: Arc<dyn ImageParts>,
    pub remotes: Arc<dyn Remotes>,
    pub sight: Arc<dyn Sight>,
    pub membership: Arc<dyn Membership>,
    /// Its metrics are part of `/1.0/metrics`; the API's own are registered in it.
    pub registry: prometheus::Registry,
    /// Basalt's version.
    pub version: String,
    pub shutdown: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The API of one member.
#[derive(Debug)]
pub struct Api {
    pub(crate) ports: Context,
    pub(crate) tasks: Tasks,
    pub(crate) events: EventHub,
    pub(crate) relay: Relay,
    pub(crate) operations: Operations,
    pub(crate) consoles: Consoles,
    pub(crate) recordings: Recordings,
    pub(crate) pending: crate::routes::pending::Pending,
    pub(crate) pulls: Pulls,
    pub(crate) secrets: Secrets,
    pub(crate) metrics: ApiMetrics,
    pub(crate) started: std::time::Instant,
}

impl Api {
    /// Builds the API over its ports. Nothing runs until requests come.
    pub fn new(ports: Context) -> Arc<Self> {
        let tasks = Tasks::new(ports.shutdown.clone());
        let events = EventHub::new(ports.cluster.clone());
        let relay = Relay::new(ports.cluster.clone(), ports.peers.clone(), events.clone(), tasks.clone());
        let operations = Operations::new(ports.cluster.clone(), events.clone(), tasks.clone());
        let metrics = ApiMetrics::register(&ports.registry);
        Arc::new(Api {
            tasks,
            events,
            relay,
            operations,
            consoles: Consoles::default(),
            recordings: Recordings::default(),
            pending: crate::routes::pending::Pending::default(),
            pulls: Pulls::default(),
            secrets: Secrets::default(),
            metrics,
            started: std::time::Instant::now(),
            ports,
        })
    }

    /// Every route of `/` and `/1.0`. Requests need an [`crate::Origin`] among their extensions.
    pub fn router(self: &Arc<Self>) -> Router {
        crate::router::router(self)
    }

    /// Where the node publishes lifecycle events of its own.
    pub fn events(&self) -> EventHub {
        self.events.clone()
    }

    /// Looks for a newer image where this one came from, as an operation that users see. Says whether there was one.
    ///
    /// # Errors
    /// The source cannot be asked.
    pub async fn refresh_image(self: &Arc<Self>, image: &ImageKey) -> Result<bool, Error> {
        crate::routes::image::refresh_now(self, image).await
    }

    /// Waits until operations and streams have ended; call it after shutdown.
    pub async fn drained(&self) {
        self.tasks.drained().await;
    }

    pub(crate) fn view(&self) -> StateView {
        self.ports.cluster.view()
    }
}
