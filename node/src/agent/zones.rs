//! Gives network zones to their peers, where this member is told to (`core.dns_address`).
//!
//! ```text
//!  state, live states --book--> watch --+--> basalt_net::dns::serve
//!  core.dns_address ---------> watch --'
//! ```
//!
//! The address is this member's own; what is given is the same wherever it is asked for. An address that cannot be had
//! is tried again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use basalt_api::port::Telemetry;
use basalt_model::network::NetworkKind;
use basalt_model::network::zone::content::Seen;
use basalt_model::{Cluster, ClusterState, NodeId, config};
use basalt_net::dns::{Book, Serials, serve};
use basalt_runtime::Shutdown;
use tokio::sync::watch;

/// The key that says where to listen.
const KEY: &str = "core.dns_address";
const PORT: u16 = 53;
/// No book is written more often than this, and none is older than that.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(10);
/// How soon an address that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Where this member is to give zones.
fn address(state: &ClusterState, me: NodeId) -> Option<SocketAddr> {
    let text = state.members.get(&me)?.config.get(KEY)?;
    config::parse_listen(text, PORT).ok()
}

/// Keeps the book current and the server running, until shutdown.
pub async fn run(me: NodeId, cluster: Arc<dyn Cluster>, telemetry: Arc<dyn Telemetry>, shutdown: Shutdown) {
    let (books, book) = watch::channel(Arc::new(Book::default()));
    let (addresses, address) = watch::channel(None);
    let writing = write(me, cluster, telemetry, (books, addresses));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async { tokio::join!(writing, listen(address, book, shutdown.clone())); } => {}
    }
}

type Outlets = (watch::Sender<Arc<Book>>, watch::Sender<Option<SocketAddr>>);

async fn write(me: NodeId, cluster: Arc<dyn Cluster>, telemetry: Arc<dyn Telemetry>, (books, addresses): Outlets) {
    let mut serials = Serials::default();
    let mut view = cluster.view();
    loop {
        let wanted = address(&view, me);
        if wanted.is_some() {
            let seen = seen(&view, telemetry.as_ref()).await;
            books.send_replace(Arc::new(Book::of(&view, &seen, &mut serials)));
        }
        // After the book: nobody is to find the zones missing because nobody has written them down yet.
        addresses.send_if_modified(|held| std::mem::replace(held, wanted) != wanted);
        tokio::time::sleep(PAUSE).await;
        // Guests get addresses without the state's doing.
        view = tokio::select! {
            changed = cluster.changed_since(view.version) => changed,
            () = tokio::time::sleep(LOOK), if wanted.is_some() => cluster.view(),
        };
    }
}

/// Addresses that running guests on bridges have, anywhere in the cluster.
async fn seen(state: &ClusterState, telemetry: &dyn Telemetry) -> Seen {
    let mut seen = Seen::new();
    let mut bridges = state.networks.values().filter(|network| network.kind == NetworkKind::Bridge);
    if !bridges.any(|bridge| bridge.config.keys().any(|key| key.starts_with("dns.zone."))) {
        return seen;
    }
    for interface in telemetry.live().await.into_values().flat_map(|live| live.interfaces) {
        if let Some(mac) = interface.mac {
            let addresses = interface.addresses.into_iter().map(|(ip, _)| ip);
            seen.entry(mac).or_default().extend(addresses);
        }
    }
    seen
}

async fn listen(
    mut address: watch::Receiver<Option<SocketAddr>>,
    book: watch::Receiver<Arc<Book>>,
    shutdown: Shutdown,
) {
    loop {
        let wanted = *address.borrow_and_update();
        let serving = async {
            let Some(wanted) = wanted else { return std::future::pending().await };
            if let Err(error) = serve(wanted, book.clone(), shutdown.clone()).await {
                tracing::warn!(address = %wanted, %error, "network zones cannot be given to their peers; trying again");
            }
            tokio::time::sleep(RETRY).await;
        };
        // What was served before has ended, with its sockets, when the next round begins.
        tokio::select! {
            changed = address.changed() => if changed.is_err() { return },
            () = serving => {}
        }
    }
}
