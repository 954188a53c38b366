//! The accept loops: unix socket, public TLS, cluster port.
//!
//! ```text
//!  accept -> under the cap? -> [TLS handshake, deadline] -> hyper (header deadline, header size) -> router + Origin
//! ```
//! Public listeners speak HTTP/1.1 only (that is what the stock clients do, and websockets need it); the cluster port
//! also takes HTTP/2 for gRPC. Over the cap a connection is closed at once: memory stays bounded. Cancelling `shutdown`
//! stops accepting, lets requests that run finish for [`Limits::drain`], and returns.

pub mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::auth::{Origin, PeerCertificate};
use crate::task::Tasks;

/// How much a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a request's head may take, and how long a connection may be idle.
    pub header: Duration,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// How long requests may go on after shutdown was asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4096,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(60),
            header_bytes: 64 * 1024,
            drain: Duration::from_secs(5),
        }
    }
}

/// The TLS configuration of a listener: empty until there is a certificate, exchanged when it is renewed.
pub type TlsSlot = Arc<ArcSwapOption<ServerConfig>>;

/// Which protocols a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    /// HTTP/1.1 and, for gRPC, HTTP/2.
    Both,
}

/// What every connection of a listener shares.
struct Listener {
    router: Router,
    limits: Limits,
    free: Arc<Semaphore>,
    tasks: Tasks,
}

impl Listener {
    fn new(router: Router, limits: Limits, shutdown: CancellationToken) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(limits.connections));
        Arc::new(Listener { router, limits, free, tasks: Tasks::new(shutdown) })
    }

    /// A place under the cap; without one the connection is to be dropped.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.free.clone().try_acquire_owned().ok();
        if place.is_none() {
            tracing::warn!(limit = self.limits.connections, "connection refused: too many are open");
        }
        place
    }

    async fn drain(&self) {
        // Connections look at the token themselves; what still runs after the deadline is left behind.
        let _ = tokio::time::timeout(self.limits.drain, self.tasks.drained()).await;
    }
}

/// Serves the unix socket: every caller is root's equal.
pub async fn serve_unix(listener: UnixListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let shared = Listener::new(router, limits, shutdown.clone());
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => { pause_after(&error).await; continue }
            },
        };
        let Some(place) = shared.place() else { continue };
        let uid = stream.peer_cred().map_or(u32::MAX, |c| c.uid());
        let conn = shared.clone();
        shared.tasks.spawn_to_end("api unix connection", async move {
            let _place = place;
            speak(&conn, stream, Origin::Unix { uid }, Speaks::Http1).await;
        });
    }
    shared.drain().await;
}

/// Serves the public API. While `tls` is empty, connections are closed at once.
pub async fn serve_tls(
    listener: TcpListener,
    tls: TlsSlot,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let origin = |certificate, remote| Some(Origin::Tls { certificate, remote });
    serve_tcp(listener, tls, Listener::new(router, limits, shutdown), Speaks::Http1, origin).await;
}

/// Serves the cluster port: `router` holds the raft service, internal routes and [`crate::Api::router`]. `tls` must be
/// a configuration that demands certificates of the cluster's CA; a connection without one is closed.
pub async fn serve_cluster(
    listener: TcpListener,
    tls: TlsSlot,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let origin =
        |certificate: Option<_>, remote| certificate.map(|certificate| Origin::Cluster { certificate, remote });
    serve_tcp(listener, tls, Listener::new(router, limits, shutdown), Speaks::Both, origin).await;
}

async fn serve_tcp<F>(listener: TcpListener, tls: TlsSlot, shared: Arc<Listener>, speaks: Speaks, origin: F)
where
    F: Fn(Option<Arc<PeerCertificate>>, SocketAddr) -> Option<Origin> + Copy + Send + 'static,
{
    let shutdown = shared.tasks.shutdown().clone();
    loop {
        let (stream, remote) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => { pause_after(&error).await; continue }
            },
        };
        let (Some(place), Some(config)) = (shared.place(), tls.load_full()) else { continue };
        let conn = shared.clone();
        shared.tasks.spawn_to_end("api tls connection", async move {
            let _place = place;
            let Some((stream, certificate)) = handshake(stream, config, conn.limits.handshake, remote).await else {
                return;
            };
            if let Some(origin) = origin(certificate, remote) {
                speak(&conn, stream, origin, speaks).await;
            }
        });
    }
    shared.drain().await;
}

/// Out of file descriptors and the like: without a pause the loop would spin.
async fn pause_after(error: &std::io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    deadline: Duration,
    remote: SocketAddr,
) -> Option<(Tls, Option<Arc<PeerCertificate>>)> {
    let _ = stream.set_nodelay(true);
    let accepting = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    let stream = match tokio::time::timeout(deadline, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(%remote, "TLS handshake took too long");
            return None;
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|der| Arc::new(PeerCertificate::new(der)));
    Some((stream, certificate))
}

/// Speaks HTTP on one connection until it ends or shutdown has been asked for and the running request is answered.
async fn speak<S>(shared: &Listener, stream: S, origin: Origin, speaks: Speaks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = shared.router.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        let router = router.clone();
        async move { Ok::<Response<Body>, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let shutdown = shared.tasks.shutdown();
    let io = TokioIo::new(stream);
    let ended = match speaks {
        Speaks::Http1 => {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(shared.limits.header)
                .max_buf_size(shared.limits.header_bytes.max(8192))
                .pipeline_flush(true);
            let mut connection = std::pin::pin!(http.serve_connection(io, service).with_upgrades());
            tokio::select! {
                ended = connection.as_mut() => ended.map_err(|e| e.to_string()),
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await.map_err(|e| e.to_string())
                }
            }
        }
        Speaks::Both => {
            let mut http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            http.http1()
                .timer(TokioTimer::new())
                .header_read_timeout(shared.limits.header)
                .max_buf_size(shared.limits.header_bytes.max(8192));
            http.http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(Duration::from_secs(20)))
                .keep_alive_timeout(Duration::from_secs(20));
            let mut connection = std::pin::pin!(http.serve_connection_with_upgrades(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended.map_err(|e| e.to_string()),
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await.map_err(|e| e.to_string())
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended early");
    }
}
