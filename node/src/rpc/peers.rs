//! The client side of the cluster port: one HTTP/1.1 connection a request, over mutual TLS, sessions resumed.
//!
//! A request is sent on as it is: its body streams, and a connection that both ends upgrade is joined byte by byte.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use axum::body::Body;
use basalt_api::port::{Peers, PortError};
use basalt_model::{Cluster, NodeId};
use basalt_runtime::{OnExit, Supervisor};
use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long connecting to another member may take, hand-shake included.
const CONNECT: Duration = Duration::from_secs(3);

/// Sends requests to other members.
#[derive(Debug)]
pub struct PeerClient {
    cluster: Arc<dyn Cluster>,
    supervisor: Supervisor,
    /// `None` until this node has an identity.
    tls: ArcSwapOption<rustls::ClientConfig>,
}

impl PeerClient {
    /// A client that can reach nobody until [`PeerClient::identify`].
    pub fn new(cluster: Arc<dyn Cluster>, supervisor: Supervisor) -> Self {
        PeerClient { cluster, supervisor, tls: ArcSwapOption::empty() }
    }

    /// From now on this node speaks with this identity.
    pub fn identify(&self, tls: Arc<rustls::ClientConfig>) {
        self.tls.store(Some(tls));
    }

    /// Sends `request`, whose URI is a path, and returns the head of the answer; the body streams.
    pub async fn send(
        &self,
        node: NodeId,
        request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, PortError> {
        let view = self.cluster.view();
        let member = view.members.get(&node).ok_or_else(|| PortError::Unavailable(format!("member {node} is gone")))?;
        let address = member.announced.cluster_address.clone();
        let gone = |why: String| PortError::Unavailable(format!("member {} cannot be reached: {why}", member.name));
        let tls = self.tls.load_full().ok_or_else(|| gone("this node is not part of a cluster".into()))?;
        let connect = async {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(tls).connect(basalt_raft::pki::node_server_name(node), tcp).await
        };
        let stream = tokio::time::timeout(CONNECT, connect)
            .await
            .map_err(|_| gone("no answer in time".into()))?
            .map_err(|e| gone(e.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| gone(e.to_string()))?;
        self.supervisor.spawn("peer connection", OnExit::Log, async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to another member ended");
            }
        });
        sender.send_request(request).await.map_err(|e| gone(e.to_string()))
    }

    /// A GET of JSON with a deadline.
    pub async fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        node: NodeId,
        path: &str,
        deadline: Duration,
    ) -> Result<T, PortError> {
        let exchange = async {
            let request = Request::get(path).body(Body::empty()).map_err(|e| PortError::Internal(e.to_string()))?;
            let answer = self.send(node, local(request)).await?;
            let status = answer.status();
            let body = axum::body::to_bytes(Body::new(answer.into_body()), 64 << 20)
                .await
                .map_err(|e| PortError::Unavailable(e.to_string()))?;
            match status {
                StatusCode::OK => serde_json::from_slice(&body).map_err(|e| PortError::Internal(e.to_string())),
                other => Err(PortError::Unavailable(format!("member {node} answered {other}"))),
            }
        };
        tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| PortError::Unavailable(format!("member {node} did not answer in time")))?
    }

    /// A POST of JSON with a deadline; the answer's body does not matter.
    pub async fn post_json<T: serde::Serialize + Sync>(
        &self,
        node: NodeId,
        path: &str,
        body: &T,
        deadline: Duration,
    ) -> Result<(), PortError> {
        let json = serde_json::to_vec(body).map_err(|e| PortError::Internal(e.to_string()))?;
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(json))
            .map_err(|e| PortError::Internal(e.to_string()))?;
        let answer = tokio::time::timeout(deadline, self.send(node, local(request)))
            .await
            .map_err(|_| PortError::Unavailable(format!("member {node} did not answer in time")))??;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(PortError::Unavailable(format!("member {node} answered {}", answer.status()))),
        }
    }
}

/// HTTP/1.1 needs a host; what it says does not matter between members.
fn local<B>(mut request: Request<B>) -> Request<B> {
    request.headers_mut().insert(HOST, http::HeaderValue::from_static("member"));
    request
}

/// Headers that belong to one connection and are not passed on; `Upgrade` and its `Connection` are, if asked for.
fn strip(headers: &mut http::HeaderMap, upgrading: bool) {
    let keep_alive = HeaderName::from_static("keep-alive");
    for name in [&TRANSFER_ENCODING, &keep_alive] {
        headers.remove(name);
    }
    if !upgrading {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
}

#[async_trait]
impl Peers for PeerClient {
    async fn forward(&self, node: NodeId, request: Request<Body>) -> Result<Response<Body>, PortError> {
        let upgrading = request.headers().contains_key(UPGRADE);
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        head.uri = path.parse().map_err(|_| PortError::Invalid("the path cannot be sent on".into()))?;
        head.version = http::Version::HTTP_11;
        strip(&mut head.headers, upgrading);
        let answer = self.send(node, local(Request::from_parts(head, body))).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // The API holds the client's side and joins the two: the member's side travels in the extensions.
            let (head, _) = answer.into_parts();
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let (mut head, body) = answer.into_parts();
        strip(&mut head.headers, false);
        Ok(Response::from_parts(head, Body::new(body)))
    }
}
