//! Listeners: the unix socket, the public API, the cluster port.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use basalt_api::serve::{Limits, TlsSlot};
use basalt_api::{Api, Origin};
use basalt_model::{Cluster, StateView};
use basalt_raft::RaftCluster;
use basalt_runtime::{OnExit, Shutdown};
use tokio::net::{TcpListener, UnixListener};

use super::member::Parts;
use crate::config::Config;
use crate::rpc::heartbeat::Caller;
use crate::rpc::join::Door;
use crate::rpc::{heartbeat, images, join, live, volumes};

pub(super) struct Listeners {
    /// Filled once this node has an identity.
    pub(super) cluster_tls: TlsSlot,
    socket: PathBuf,
}

impl Listeners {
    /// A socket without a server makes clients wait for nothing.
    pub(super) fn remove_socket(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Opens all listeners; each serves from now on.
pub(super) async fn open(
    config: &Config,
    api: &Arc<Api>,
    raft: &Arc<RaftCluster>,
    parts: &Parts,
) -> anyhow::Result<Listeners> {
    let supervisor = &parts.supervisor;
    let stop = supervisor.shutdown().token();
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let limits = Limits::within(files.map_or(1024, |(soft, _)| soft));

    let socket = config.state_dir.join("unix.socket");
    let _ = std::fs::remove_file(&socket);
    let unix = UnixListener::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660))?;
    let router = api.router();
    supervisor.spawn("api unix", OnExit::Fatal, {
        let stop = stop.clone();
        async move { basalt_api::serve_unix(unix, router, limits, stop).await }
    });

    let public = bind(config.listen).await?;
    let public_tls: TlsSlot = Arc::new(ArcSwapOption::empty());
    let door = Door { cluster: parts.cluster.clone(), clock: parts.clock.clone() };
    let router = api.router().merge(join::routes(door));
    supervisor.spawn("api tls", OnExit::Fatal, {
        let (stop, tls) = (stop.clone(), public_tls.clone());
        async move { basalt_api::serve_tls(public, tls, router, limits, stop).await }
    });
    supervisor.spawn(
        "api certificate",
        OnExit::Fatal,
        follow_certificate(parts.cluster.clone(), public_tls, supervisor.shutdown().clone()),
    );

    let cluster_port = bind(config.cluster_listen).await?;
    let cluster_tls: TlsSlot = Arc::new(ArcSwapOption::empty());
    let router = cluster_router(api, raft, parts);
    supervisor.spawn("cluster port", OnExit::Fatal, {
        let tls = cluster_tls.clone();
        async move { basalt_api::serve_cluster(cluster_port, tls, router, limits, stop).await }
    });
    Ok(Listeners { cluster_tls, socket })
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves the certificate that the replicated state holds, whenever it changes.
async fn follow_certificate(cluster: Arc<dyn Cluster>, slot: TlsSlot, shutdown: Shutdown) {
    let mut view = cluster.view();
    let mut served = String::new();
    loop {
        let secrets = &view.secrets;
        if !secrets.api_certificate.is_empty() && secrets.api_certificate != served {
            match basalt_api::serve::tls::public(&secrets.api_certificate, &secrets.api_key) {
                Ok(config) => slot.store(Some(config)),
                Err(error) => tracing::error!(%error, "the API certificate of the cluster cannot be served"),
            }
            served = secrets.api_certificate.clone();
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = cluster.changed_since(view.version) => view = changed,
        }
    }
}

/// Everything that members say to each other. Mutual TLS has shown that the caller holds a certificate of the CA; here
/// it is looked up who it is.
fn cluster_router(api: &Arc<Api>, raft: &Arc<RaftCluster>, parts: &Parts) -> Router {
    let internal = Router::new()
        .merge(heartbeat::routes(parts.heartbeats.clone()))
        .merge(images::routes(parts.shelf.store.clone()))
        .merge(live::routes(parts.samples.clone()))
        .merge(volumes::routes(parts.shipper.clone()))
        .layer(middleware::from_fn_with_state(parts.cluster.clone(), only_members));
    let raft = raft.service().layer(middleware::from_fn(show_certificate));
    let api = api.router().layer(middleware::from_fn_with_state(parts.cluster.clone(), only_members));
    // tonic's router answers what it does not know with its own "unimplemented"; one fallback is enough.
    api.merge(internal).merge(raft.reset_fallback())
}

/// Passes the certificate on to Raft, which judges it itself: a fresh joiner has no state to judge it by.
async fn show_certificate(mut request: Request, next: Next) -> Response {
    if let Some(Origin::Cluster { certificate, .. }) = request.extensions().get::<Origin>() {
        let shown = basalt_raft::transport::PeerCertificate(certificate.fingerprint.clone());
        request.extensions_mut().insert(shown);
    }
    next.run(request).await
}

/// Lets members of the present state through, and says which one it is.
async fn only_members(
    axum::extract::State(cluster): axum::extract::State<Arc<dyn Cluster>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(caller) = caller(&cluster.view(), request.extensions().get::<Origin>()) else {
        tracing::warn!("a certificate of the cluster's CA that belongs to no member was refused");
        return (http::StatusCode::FORBIDDEN, "not a member of this cluster").into_response();
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn caller(view: &StateView, origin: Option<&Origin>) -> Option<Caller> {
    let Some(Origin::Cluster { certificate, .. }) = origin else { return None };
    view.members.values().find(|m| m.certificate == certificate.fingerprint).map(|m| Caller(m.id))
}
