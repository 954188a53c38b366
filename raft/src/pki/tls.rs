//! TLS settings of the cluster port: both sides show a certificate of the cluster's CA, TLS 1.3 and nothing older.
//! Whom we refuse is logged, with the reason.

use std::sync::Arc;

use basalt_model::Fingerprint;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use tracing::warn;

use super::{Error, certificate, fingerprint_of};
use crate::identity::NodeIdentity;

const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The provider of this program, named explicitly so that nothing depends on a process-wide default.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings with which a member accepts other members.
pub fn server_config(identity: &NodeIdentity) -> Result<Arc<ServerConfig>, Error> {
    let bad = |what| move |e: &dyn std::fmt::Display| Error::Tls { what, why: e.to_string() };
    let inner = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider())
        .build()
        .map_err(|e| bad("the cluster's CA")(&e))?;
    let (chain, key) = own(identity)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad("TLS 1.3")(&e))?
        .with_client_cert_verifier(Arc::new(Logged(inner)))
        .with_single_cert(chain, key)
        .map_err(|e| bad("the node's certificate")(&e))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

/// Settings with which a member dials other members (dial with [`super::node_server_name`]). No ALPN is set: HTTP
/// clients that negotiate set their own in a clone.
pub fn client_config(identity: &NodeIdentity) -> Result<Arc<ClientConfig>, Error> {
    let bad = |what| move |e: &dyn std::fmt::Display| Error::Tls { what, why: e.to_string() };
    let (chain, key) = own(identity)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad("TLS 1.3")(&e))?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad("the node's certificate")(&e))?;
    Ok(Arc::new(config))
}

/// The fingerprint of the certificate that the other side showed, from `peer_certificates()` of a connection.
pub fn peer_fingerprint(chain: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    chain.and_then(<[_]>::first).map(|end| fingerprint_of(end))
}

fn roots(identity: &NodeIdentity) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate(&identity.ca_certificate, "the cluster's CA")?)
        .map_err(|e| Error::Tls { what: "the cluster's CA", why: e.to_string() })?;
    Ok(Arc::new(roots))
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own(identity: &NodeIdentity) -> Result<Own, Error> {
    let chain = vec![certificate(&identity.certificate, "the node's certificate")?];
    let key =
        PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|_| Error::Pem { what: "the node's key" })?;
    Ok((chain, key))
}

/// Says who was turned away, and why.
#[derive(Debug)]
struct Logged(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Logged {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(end, intermediates, now).inspect_err(|error| {
            warn!(fingerprint = %fingerprint_of(end), %error, "a certificate was refused on the cluster port");
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }
}
