//! HTTP/1.1 over TLS to a server that nobody vouches for: one connection a request, every step with a deadline.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use basalt_runtime::{Task, spawn_blocking};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Error;
use super::guard;
use super::url::Url;

/// Resolving a name; connecting to one address, hand-shake included.
const CONNECT: Duration = Duration::from_secs(10);
/// From the request to the head of the answer.
const ANSWER: Duration = Duration::from_secs(30);
/// One chunk of a body.
const CHUNK: Duration = Duration::from_secs(30);
/// A body that is read whole.
const WHOLE: Duration = Duration::from_secs(120);
const REDIRECTS: usize = 5;
/// Stock servers choose answers by the client's name.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("basalt/", env!("CARGO_PKG_VERSION"), " (Linux; image pull)"));

/// How one server may be reached.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) tls: Arc<ClientConfig>,
    /// Networks that are allowed though they are near.
    pub(super) allowed: Vec<IpNet>,
}

/// Asks image servers.
#[derive(Debug)]
pub(super) struct Fetcher {
    ca_file: Option<PathBuf>,
    /// Read when first needed: there are hosts that never pull an image.
    trusted: OnceCell<Arc<ClientConfig>>,
}

/// An answer whose body is still to be read. Dropping it closes the connection.
pub(super) struct Answer {
    /// After redirects.
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    body: Incoming,
    _driver: Task<()>,
}

impl Fetcher {
    pub(super) fn new(ca_file: Option<PathBuf>) -> Self {
        Fetcher { ca_file, trusted: OnceCell::new() }
    }

    /// TLS towards a server that shows exactly `certificate` (PEM), or one of a trusted authority if that is empty.
    pub(super) async fn tls(&self, certificate: &str) -> Result<Arc<ClientConfig>, Error> {
        if certificate.is_empty() {
            return self.trusted.get_or_try_init(|| trusted(self.ca_file.clone())).await.cloned();
        }
        let pin = basalt_client::pem_fingerprint(certificate).and_then(|pin| basalt_client::pinned(&pin, None));
        pin.map(Arc::new).map_err(|error| Error::Refused { url: "certificate".into(), why: error.to_string() })
    }

    /// Asks for `url`, after redirects; anything but success is an error, not found one of its own.
    pub(super) async fn get(&self, way: &Way, url: &Url, headers: &HeaderMap) -> Result<Answer, Error> {
        self.ask(way, Method::GET, url, headers).await
    }

    /// The same for the headers alone.
    pub(super) async fn head(&self, way: &Way, url: &Url, headers: &HeaderMap) -> Result<Answer, Error> {
        self.ask(way, Method::HEAD, url, headers).await
    }

    /// A GET whose answer may take as long as the caller lets it.
    pub(super) async fn wait(&self, way: &Way, url: &Url) -> Result<Answer, Error> {
        let request = Request::get("/").body(Body::empty()).map_err(|e| Error::refused(url, e))?;
        let (status, answer) = self.send(way, url, request, None).await?;
        if status.is_success() { Ok(answer) } else { Err(failure(status, answer).await) }
    }

    async fn ask(&self, way: &Way, method: Method, url: &Url, headers: &HeaderMap) -> Result<Answer, Error> {
        let mut now = url.clone();
        for _ in 0..=REDIRECTS {
            let request = Request::builder().method(method.clone()).body(Body::empty());
            let mut request = request.map_err(|e| Error::refused(&now, e))?;
            request.headers_mut().extend(headers.clone());
            let (status, answer) = self.once(way, &now, request).await?;
            if status.is_success() {
                return Ok(answer);
            }
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Err(failure(status, answer).await);
            }
            let location = answer.headers.get(LOCATION).and_then(|v| v.to_str().ok());
            now = now.redirected(location.ok_or_else(|| Error::broken(&now, "redirects to nowhere"))?)?;
        }
        Err(Error::broken(url, format!("more than {REDIRECTS} redirects")))
    }

    /// Sends one request with its body, and gives the answer of whatever status; redirects are not followed.
    pub(super) async fn once(
        &self,
        way: &Way,
        url: &Url,
        request: Request<Body>,
    ) -> Result<(StatusCode, Answer), Error> {
        // An upload lasts as long as it does.
        let deadline = (!request.headers().contains_key(CONTENT_TYPE)).then_some(ANSWER);
        self.send(way, url, request, deadline).await
    }

    async fn send(
        &self,
        way: &Way,
        url: &Url,
        mut request: Request<Body>,
        deadline: Option<Duration>,
    ) -> Result<(StatusCode, Answer), Error> {
        let stream = connect(way, url).await?;
        let late = |_| Error::unreachable(url, "no answer in time");
        let (mut sender, connection) =
            tokio::time::timeout(CONNECT, hyper::client::conn::http1::handshake(TokioIo::new(stream)))
                .await
                .map_err(late)?
                .map_err(|e| Error::unreachable(url, basalt_runtime::chain(&e)))?;
        let driver = basalt_runtime::spawn("image server connection", async move {
            // Its error is also what the request gets; nobody else waits for it.
            let _ = connection.await;
        });
        *request.uri_mut() = url.path().parse().map_err(|_| Error::refused(url, "is not a path"))?;
        let host = HeaderValue::from_str(&url.authority()).map_err(|e| Error::refused(url, e))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        let sent = sender.send_request(request);
        let response = match deadline {
            None => sent.await,
            Some(deadline) => tokio::time::timeout(deadline, sent).await.map_err(late)?,
        };
        let (head, body) = response.map_err(|e| Error::unreachable(url, basalt_runtime::chain(&e)))?.into_parts();
        Ok((head.status, Answer { url: url.clone(), headers: head.headers, body, _driver: driver }))
    }
}

/// Resolves, judges and connects: to an address that was judged, never to the name again.
async fn connect(way: &Way, url: &Url) -> Result<TlsStream<TcpStream>, Error> {
    let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((url.host(), url.port())))
        .await
        .map_err(|_| Error::unreachable(url, "its name was not resolved in time"))?
        .map_err(|e| Error::unreachable(url, e))?;
    let addresses: Vec<SocketAddr> = found.collect();
    // One bad address condemns the name: which of them is taken would be the server's choice.
    for address in &addresses {
        guard::judge(address.ip(), &way.allowed).map_err(|why| Error::refused(url, why))?;
    }
    let name = ServerName::try_from(url.host().to_owned()).map_err(|e| Error::refused(url, e))?;
    let mut last = Error::unreachable(url, "its name has no address");
    for address in addresses {
        let open = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(way.tls.clone()).connect(name.clone(), tcp).await
        };
        match tokio::time::timeout(CONNECT, open).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Error::unreachable(url, basalt_runtime::chain(&error)),
            Err(_) => last = Error::unreachable(url, "no connection in time"),
        }
    }
    Err(last)
}

async fn failure(status: StatusCode, answer: Answer) -> Error {
    let url = answer.url.clone();
    if status == StatusCode::NOT_FOUND {
        return Error::Missing(url.to_string());
    }
    // API servers say why; nothing of other servers is repeated.
    let said = answer.json::<basalt_api::dto::envelope::Envelope<()>>(64 << 10).await.ok().map(|e| e.error);
    let said =
        said.filter(|text| !text.is_empty() && text.len() < 500).map(|text| format!(": {text}")).unwrap_or_default();
    Error::broken(&url, format!("answered {status}{said}"))
}

async fn trusted(ca_file: Option<PathBuf>) -> Result<Arc<ClientConfig>, Error> {
    let read = move || {
        let mut roots = RootCertStore::empty();
        let host = rustls_native_certs::load_native_certs();
        for error in &host.errors {
            tracing::warn!(%error, "certificate authorities of this host are left out");
        }
        roots.add_parsable_certificates(host.certs);
        if let Some(file) = &ca_file {
            let bad = |e: &dyn std::fmt::Display| Error::Host(format!("image_ca_file {}: {e}", file.display()));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(&e))? {
                roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
            }
        }
        if roots.is_empty() {
            return Err(Error::Host("this host trusts no certificate authority: install ca-certificates".into()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Host(e.to_string()))?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    };
    spawn_blocking("read certificate authorities", read).await.map_err(|e| Error::Host(e.to_string()))?
}

impl Answer {
    /// A header as text.
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Length of the body, if it is said.
    pub(super) fn length(&self) -> Option<u64> {
        self.text(&CONTENT_LENGTH)?.parse().ok()
    }

    /// The next bytes of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = tokio::time::timeout(CHUNK, self.body.frame());
            match frame.await.map_err(|_| Error::unreachable(&self.url, "it stalled"))? {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Error::broken(&self.url, format!("ended early: {}", basalt_runtime::chain(&error))));
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole body, at most `limit` bytes.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let url = self.url.clone();
        let read = async {
            let mut all = Vec::new();
            while let Some(bytes) = self.chunk().await? {
                if all.len() + bytes.len() > limit {
                    return Err(Error::broken(&self.url, format!("is larger than {limit} bytes")));
                }
                all.extend_from_slice(&bytes);
            }
            Ok(all)
        };
        tokio::time::timeout(WHOLE, read).await.map_err(|_| Error::unreachable(&url, "it is too slow"))?
    }

    /// The whole body as JSON, at most `limit` bytes.
    pub(super) async fn json<T: DeserializeOwned>(self, limit: usize) -> Result<T, Error> {
        let url = self.url.clone();
        serde_json::from_slice(&self.whole(limit).await?).map_err(|e| Error::broken(&url, format!("bad JSON: {e}")))
    }

    /// Hands the body to a reader of multipart forms; its chunks have their deadline.
    pub(super) fn into_request(self) -> Request<Body> {
        let kind = self.headers.get(CONTENT_TYPE).cloned();
        let chunks = futures_util::stream::unfold(self, |mut answer| async move {
            match answer.chunk().await {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), answer)),
                Err(error) => Some((Err(std::io::Error::other(basalt_runtime::chain(&error))), answer)),
            }
        });
        let mut request = Request::new(Body::from_stream(chunks));
        if let Some(kind) = kind {
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        request
    }
}
