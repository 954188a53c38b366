//! TLS towards a member. A member is known by the SHA-256 of its API certificate (all members of a cluster serve the
//! same one), not by its name or a certificate authority: the pin comes from a token, or from the user's confirmation.
//!
//! Invariant: possession of the key is always proven; only the question *which* certificate is ours to answer.

use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::identity::Identity;

/// Lower-case hex SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fingerprint of the first certificate of a PEM text.
pub fn pem_fingerprint(pem: &str) -> Result<String> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|certificate| fingerprint(&certificate))
        .map_err(|e| Error::Invalid(format!("server certificate: {e}")))
}

/// A client configuration that accepts exactly the certificate with this fingerprint.
pub fn pinned(pin: &str, identity: Option<&Identity>) -> Result<ClientConfig> {
    let pin = pin.to_ascii_lowercase();
    if pin.len() != 64 || !pin.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Invalid(format!("{pin:?} is not a certificate fingerprint (64 hex digits)")));
    }
    config(Expect::Pin(pin), identity)
}

/// A client configuration that accepts any certificate and remembers it: only to show it to the user.
pub(crate) fn observing(seen: Arc<Mutex<Option<CertificateDer<'static>>>>) -> Result<ClientConfig> {
    config(Expect::Any(seen), None)
}

fn config(expect: Expect, identity: Option<&Identity>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier { expect, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| Error::Invalid(format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain(), identity.key())
            .map_err(|e| Error::Invalid(format!("client certificate: {e}"))),
    }
}

#[derive(Debug)]
enum Expect {
    Pin(String),
    Any(Arc<Mutex<Option<CertificateDer<'static>>>>),
}

#[derive(Debug)]
struct Verifier {
    expect: Expect,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.expect {
            Expect::Pin(pin) if fingerprint(end_entity) == *pin => Ok(ServerCertVerified::assertion()),
            Expect::Pin(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Expect::Any(seen) => {
                *seen.lock().expect("nothing panics while it is held") = Some(end_entity.clone().into_owned());
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
