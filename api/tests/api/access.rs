//! Who may do what: strangers, tokens, restricted and metrics certificates, over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::body::Body;
use basalt_api::dto::certificate::AddToken;
use basalt_api::serve::tls;
use basalt_api::{Limits, serve_tls, token};
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::client::Answer;
use crate::world::World;

/// Takes the server as it is: what is tested is how the server takes the client.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client with a certificate of its own making, or none.
pub(crate) struct Remote {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    der: Vec<u8>,
}

impl Remote {
    pub(crate) fn new(address: SocketAddr, certified: bool) -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        let der = key.cert.der().to_vec();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let config = match certified {
            true => builder.with_client_auth_cert(vec![key.cert.der().clone()], private).unwrap(),
            false => builder.with_no_client_auth(),
        };
        Remote { address, config: Arc::new(config), der }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.request(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn request(&self, mut request: Request<Body>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("basalt").unwrap();
        let stream = tokio_rustls::TlsConnector::from(self.config.clone()).connect(name, stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        // A forwarded identity from outside must count for nothing.
        let forged = token::encode(&json!({"access": "full", "protocol": "unix", "username": "root", "address": ""}));
        request.headers_mut().insert("host", "x".parse().unwrap());
        request.headers_mut().insert("x-basalt-forwarded", forged.parse().unwrap());
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        Answer { code: parts.status, headers: parts.headers, bytes: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, json!(null)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }
}

/// Serves a member's API over TLS.
pub(crate) async fn listen(world: &World, node: usize) -> SocketAddr {
    let secrets = &world.state().secrets;
    let config = tls::public(&secrets.api_certificate, &secrets.api_key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slot = Arc::new(ArcSwapOption::from(Some(config)));
    let router = world.nodes[node].api.router();
    tokio::spawn(serve_tls(listener, slot, router, Limits::default(), CancellationToken::new()));
    address
}

pub(crate) async fn add_token(world: &World, body: Value) -> String {
    let answer = world.client().post("/1.0/certificates", body).await;
    assert_eq!(answer.code, 202, "{}", answer.json());
    let metadata = answer.json()["metadata"]["metadata"].clone();
    token::encode(&AddToken {
        client_name: metadata["request"]["name"].as_str().unwrap().into(),
        fingerprint: metadata["fingerprint"].as_str().unwrap().into(),
        secret: metadata["secret"].as_str().unwrap().into(),
        addresses: serde_json::from_value(metadata["addresses"].clone()).unwrap(),
        expires_at: metadata["expiresAt"].as_str().unwrap().into(),
    })
}

#[tokio::test]
async fn strangers() {
    let world = World::of(1).await;
    let address = listen(&world, 0).await;
    for certified in [false, true] {
        let stranger = Remote::new(address, certified);
        let server = stranger.get("/1.0").await.ok();
        assert_eq!(server["auth"], "untrusted");
        assert_eq!(server["config"], json!({}));
        assert_eq!(server.get("environment"), None);
        stranger.get("/").await.ok();
        assert_eq!(stranger.get("/1.0/images").await.ok(), json!([]));
        for (method, path) in [
            (Method::GET, "/1.0/instances"),
            (Method::GET, "/1.0/instances/c1"),
            (Method::POST, "/1.0/instances"),
            (Method::GET, "/1.0/certificates"),
            (Method::GET, "/1.0/cluster"),
            (Method::PUT, "/1.0/cluster"),
            (Method::GET, "/1.0/events"),
            (Method::GET, "/1.0/metrics"),
            (Method::GET, "/1.0/operations"),
            (Method::POST, "/1.0/images"),
            (Method::PUT, "/1.0"),
            (Method::DELETE, "/1.0/profiles/default"),
            (Method::POST, "/1.0/certificates"),
        ] {
            let answer = stranger.send(method.clone(), path, json!({})).await;
            assert_eq!(answer.error(403), "not authorized", "{method} {path}");
        }
    }
    world.client().patch("/1.0", json!({"config": {"core.metrics_authentication": "false"}})).await.ok();
    assert_eq!(Remote::new(address, false).get("/1.0/metrics").await.code, 200);
}

#[tokio::test]
async fn trust_tokens_work_once_and_on_any_member() {
    let world = World::of(2).await;
    let token = add_token(&world, json!({"name": "laptop", "type": "client", "token": true})).await;
    let address = listen(&world, 1).await;
    let (first, second) = (Remote::new(address, true), Remote::new(address, true));
    first.post("/1.0/certificates", json!({"type": "client", "trust_token": "nonsense"})).await.error(403);
    let added = first.post("/1.0/certificates", json!({"type": "client", "trust_token": token})).await;
    let fingerprint = token::sha256(&first.der);
    assert_eq!((added.code.as_u16(), added.header("location")), (201, &*format!("/1.0/certificates/{fingerprint}")));
    assert_eq!(first.get("/1.0").await.ok()["auth"], "trusted");
    assert_eq!(first.get("/1.0/instances").await.ok(), json!([]));
    second.post("/1.0/certificates", json!({"type": "client", "password": token})).await.error(403);
    second.get("/1.0/instances").await.error(403);
    let again = first.post("/1.0/certificates", json!({"type": "client"})).await;
    assert_eq!(again.error(400), "Client is already trusted");

    // The older word for it, and a certificate in the body, with line breaks in its base64.
    use base64::Engine;
    let token = add_token(&world, json!({"name": "script", "token": true})).await;
    let text = base64::engine::general_purpose::STANDARD.encode(&second.der);
    let folded: Vec<&str> = text.as_bytes().chunks(60).map(|c| std::str::from_utf8(c).unwrap()).collect();
    let body = json!({"type": "client", "password": token, "certificate": folded.join("\n")});
    assert_eq!(Remote::new(address, false).post("/1.0/certificates", body.clone()).await.code, 201);
    assert_eq!(second.get("/1.0/certificates").await.ok().as_array().unwrap().len(), 2);
    let body = json!({"type": "client", "certificate": folded.join("")});
    assert_eq!(first.post("/1.0/certificates", body).await.error(409), "Certificate already in trust store");

    let removed = first.send(Method::DELETE, &format!("/1.0/certificates/{fingerprint}"), json!(null)).await;
    removed.ok();
    first.get("/1.0/instances").await.error(403);
}

#[tokio::test]
async fn restricted_certificates_see_their_projects_only() {
    let world = World::of(1).await;
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "p1"})).await.ok();
    client.post("/1.0/projects", json!({"name": "p2"})).await.ok();
    world.create("c1", false).await;
    let token =
        add_token(&world, json!({"name": "guest", "token": true, "restricted": true, "projects": ["p1"]})).await;
    let remote = Remote::new(listen(&world, 0).await, true);
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();
    assert_eq!(remote.get("/1.0/projects").await.ok(), json!(["/1.0/projects/p1"]));
    assert_eq!(remote.get("/1.0/instances?project=p1").await.ok(), json!([]));
    // Others' projects, instances in them, and what does not exist look the same.
    let shape = |text: String, name: &str| text.replace(name, "X");
    let hidden = remote.get("/1.0/instances/c1?project=p2").await.error(404);
    let missing = remote.get("/1.0/instances/c1?project=p3").await.error(404);
    assert_eq!(shape(hidden, "p2"), shape(missing, "p3"));
    remote.get("/1.0/instances/c1").await.error(404);
    assert_eq!(remote.get("/1.0/instances?all-projects=true").await.ok(), json!([]));
    assert_eq!(remote.get("/1.0").await.ok()["config"], json!({}));
    let access = client.get("/1.0/projects/p1/access").await.ok();
    assert_eq!((&access[0]["role"], &access[0]["provider"]), (&json!("operator"), &json!("tls")));
    assert_eq!(client.get("/1.0/instances/c1/access").await.ok(), json!([]));
    remote.get("/1.0/projects/p2/access").await.error(404);
    for (method, path) in [
        (Method::GET, "/1.0/cluster"),
        (Method::GET, "/1.0/certificates"),
        (Method::PUT, "/1.0"),
        (Method::POST, "/1.0/storage-pools"),
        (Method::POST, "/1.0/networks"),
        (Method::POST, "/1.0/projects"),
        (Method::DELETE, "/1.0/images/x"),
        (Method::GET, "/1.0/warnings"),
    ] {
        remote.send(method, path, json!({})).await.error(403);
    }
}

#[tokio::test]
async fn metrics_certificates_scrape_only() {
    let world = World::of(1).await;
    let token = add_token(&world, json!({"name": "prometheus", "type": "metrics", "token": true})).await;
    let remote = Remote::new(listen(&world, 0).await, true);
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();
    assert_eq!(remote.get("/1.0/metrics").await.code, 200);
    assert_eq!(remote.get("/1.0").await.ok()["auth"], "untrusted");
    remote.get("/1.0/instances").await.error(403);
}
