//! The accept loops: unix socket, public TLS, cluster port.
//!
//! ```text
//!  accept -> under the cap? -> [TLS handshake, deadline] -> hyper (header deadline, header size) -> router + Origin
//! ```
//! Public listeners speak HTTP/1.1 only (that is what the stock clients do, and websockets need it); the cluster port
//! also takes HTTP/2 for gRPC. At the cap the connection that is longest idle makes way for a new one; when none is idle
//! the new one is told 503: memory stays bounded. A head that comes too slowly is told 408. Cancelling `shutdown` stops
//! accepting, lets requests that run finish for [`Limits::drain`], and returns.

mod crowd;
mod tap;
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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::crowd::{Crowd, Place};
use self::tap::Tap;
use crate::auth::{Origin, PeerCertificate};
use crate::dto::envelope::Envelope;
use crate::task::Tasks;

/// Connections at a time that are told that there is no place for them; more are closed without a word.
const REFUSED: usize = 16;

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

impl Limits {
    /// The defaults, for a process that may have this many files open: connections are not to eat up all of them.
    pub fn within(files: u64) -> Self {
        let most = Limits::default();
        let connections = usize::try_from(files / 4).unwrap_or(most.connections).clamp(64, most.connections);
        Limits { connections, ..most }
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
    crowd: Arc<Crowd>,
    refused: Arc<Semaphore>,
    tasks: Tasks,
}

impl Listener {
    fn new(router: Router, limits: Limits, shutdown: CancellationToken) -> Arc<Self> {
        let (crowd, refused) = (Crowd::new(limits.connections), Arc::new(Semaphore::new(REFUSED)));
        Arc::new(Listener { router, limits, crowd, refused, tasks: Tasks::new(shutdown) })
    }

    /// Tells a connection for which there is no place so, if not too many are being told already.
    fn refuse<S>(&self, stream: impl Future<Output = Option<S>> + Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tracing::warn!(limit = self.crowd.places(), "connection refused: too many are busy");
        let Ok(place) = self.refused.clone().try_acquire_owned() else { return };
        let why = format!("too many connections: {} requests are running, which is the limit", self.crowd.places());
        self.tasks.spawn("api refusal", async move {
            let _place = place;
            if let Some(stream) = stream.await {
                Tap::new(stream).say(&last_word(503, "Service Unavailable", &why)).await;
            }
        });
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
        let Some(place) = shared.crowd.enter().await else {
            shared.refuse(std::future::ready(Some(stream)));
            continue;
        };
        let uid = stream.peer_cred().map_or(u32::MAX, |c| c.uid());
        let conn = shared.clone();
        shared.tasks.spawn_to_end("api unix connection", async move {
            speak(&conn, stream, (Origin::unix(uid), place), Speaks::Http1).await;
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
        let Some(config) = tls.load_full() else { continue };
        let shaken = handshake(stream, config, shared.limits.handshake, remote);
        let Some(place) = shared.crowd.enter().await else {
            shared.refuse(async move { shaken.await.map(|(stream, _)| stream) });
            continue;
        };
        let conn = shared.clone();
        shared.tasks.spawn_to_end("api tls connection", async move {
            let shaken = tokio::select! {
                shaken = shaken => shaken,
                () = place.makes_way() => None,
            };
            let Some((stream, certificate)) = shaken else { return };
            if let Some(origin) = origin(certificate, remote) {
                speak(&conn, stream, (origin, place), speaks).await;
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

/// A whole answer that ends a connection.
fn last_word(code: u16, phrase: &str, why: &str) -> Vec<u8> {
    let body = serde_json::to_string(&Envelope::<()>::error(code, why.to_owned())).unwrap_or_default();
    format!(
        "HTTP/1.1 {code} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Speaks HTTP on one connection until it ends, must make way, or shutdown has been asked for and the running request
/// is answered.
async fn speak<S>(shared: &Listener, stream: S, (origin, place): (Origin, Place), speaks: Speaks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (router, used) = (shared.router.clone(), place.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        let (router, busy) = (router.clone(), used.busy());
        async move {
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok::<Response<Body>, Infallible>(response.map(|body| busy.with(body)))
        }
    });
    let ended = match speaks {
        Speaks::Http1 => {
            let tap = Tap::new(stream);
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(shared.limits.header)
                .max_buf_size(shared.limits.header_bytes.max(8192))
                .pipeline_flush(true);
            let connection = http.serve_connection(TokioIo::new(tap.clone()), service).with_upgrades();
            let ended = {
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = place.makes_way() => return,
                    () = shared.tasks.shutdown().cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            };
            match ended {
                Err(error) if error.is_timeout() && tap.begun() => {
                    let why = format!("the head of the request took longer than {} s", shared.limits.header.as_secs());
                    let word = last_word(408, "Request Timeout", &why);
                    tokio::time::timeout(shared.limits.handshake, tap.say(&word)).await.map_err(|e| e.to_string())
                }
                other => other.map_err(|e| e.to_string()),
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
            let mut connection = std::pin::pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
            tokio::select! {
                ended = connection.as_mut() => ended.map_err(|e| e.to_string()),
                () = place.makes_way() => return,
                () = shared.tasks.shutdown().cancelled() => {
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
