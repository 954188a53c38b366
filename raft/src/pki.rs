//! Keys and certificates: the cluster's CA, the API certificate that all members share, and one certificate per node.
//!
//! ```text
//!   CA (one per cluster, P-256) --signs--> node certificates: SAN node-<id>.basalt.internal, client and server
//!   API certificate: self-signed, the same on every member, trusted by clients through its fingerprint
//! ```
//! Node-to-node traffic accepts certificates of this CA only, over TLS 1.3 only ([`tls`]). What a signing request says
//! of its owner is ignored: the signer decides the names, the request only brings the public key.

pub mod tls;

use basalt_model::secrets::Secrets;
use basalt_model::{Fingerprint, MemberName, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// Why a key or certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make {what}")]
    Make { what: &'static str, source: rcgen::Error },
    #[error("the signing request is not acceptable")]
    Request(#[source] rcgen::Error),
    #[error("{what} is not a PEM text of one certificate or key")]
    Pem { what: &'static str },
    #[error("TLS cannot be set up with {what}: {why}")]
    Tls { what: &'static str, why: String },
}

/// A key and its certificate, as PEM. `Debug` never shows the key.
#[derive(Clone)]
pub struct KeyAndCertificate {
    pub key: String,
    pub certificate: String,
}

impl std::fmt::Debug for KeyAndCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyAndCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// How long certificates are valid. Their end is no lever here: members are removed by id, clients by fingerprint.
const YEARS: i64 = 20;
/// Clocks of fresh machines may be behind.
const BACKDATE: Duration = Duration::days(2);

/// Makes all keys of a new cluster. `api_names` are DNS names and addresses for the API certificate.
pub fn make_secrets(cluster: uuid::Uuid, api_names: &[String]) -> Result<Secrets, Error> {
    let ca = make_ca(cluster)?;
    let api = make_api_certificate(api_names)?;
    Ok(Secrets { ca_certificate: ca.certificate, ca_key: ca.key, api_certificate: api.certificate, api_key: api.key })
}

/// Makes the CA of a cluster.
pub fn make_ca(cluster: uuid::Uuid) -> Result<KeyAndCertificate, Error> {
    let failed = |source| Error::Make { what: "the cluster's CA", source };
    let key = new_key("the cluster's CA")?;
    let mut params = params(Vec::new(), &format!("Basalt cluster {cluster}")).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(KeyAndCertificate { key: key.serialize_pem(), certificate: certificate.pem() })
}

/// Makes the API certificate: self-signed, with at least one DNS name, since clients in Go look at nothing else.
pub fn make_api_certificate(names: &[String]) -> Result<KeyAndCertificate, Error> {
    let failed = |source| Error::Make { what: "the API certificate", source };
    let key = new_key("the API certificate")?;
    let mut names = names.to_vec();
    if !names.iter().any(|n| n.parse::<std::net::IpAddr>().is_err()) {
        names.push("basalt.internal".to_owned());
    }
    let mut params = params(names, "Basalt API").map_err(failed)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(KeyAndCertificate { key: key.serialize_pem(), certificate: certificate.pem() })
}

/// A node's key, which never leaves it, and the request that goes to whoever signs.
#[derive(Clone)]
pub struct NodeRequest {
    pub key: String,
    pub csr: String,
}

impl std::fmt::Debug for NodeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeRequest").field("csr", &self.csr).finish_non_exhaustive()
    }
}

/// Makes a node's key and its signing request.
pub fn node_request(name: &MemberName) -> Result<NodeRequest, Error> {
    let failed = |source| Error::Make { what: "the node's signing request", source };
    let key = new_key("the node's key")?;
    let params = params(Vec::new(), name.as_str()).map_err(failed)?;
    let csr = params.serialize_request(&key).and_then(|r| r.pem()).map_err(failed)?;
    Ok(NodeRequest { key: key.serialize_pem(), csr })
}

/// Signs a node's request with the cluster's CA; returns the certificate. Only the request's public key is used.
pub fn sign_node(secrets: &Secrets, csr: &str, id: NodeId, name: &MemberName) -> Result<String, Error> {
    let now = OffsetDateTime::now_utc();
    sign_node_for(secrets, csr, (id, name), (now - BACKDATE, now + Duration::days(365 * YEARS)))
}

pub(crate) fn sign_node_for(
    secrets: &Secrets,
    csr: &str,
    (id, name): (NodeId, &MemberName),
    (from, until): (OffsetDateTime, OffsetDateTime),
) -> Result<String, Error> {
    let failed = |source| Error::Make { what: "the node's certificate", source };
    let request = CertificateSigningRequestParams::from_pem(csr).map_err(Error::Request)?;
    let ca_key = KeyPair::from_pem(&secrets.ca_key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&secrets.ca_certificate, ca_key).map_err(failed)?;
    let mut params = params(vec![node_dns(id)], name.as_str()).map_err(failed)?;
    params.not_before = from;
    params.not_after = until;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(&request.public_key, &issuer).map_err(failed)?.pem())
}

/// SHA-256 over the DER form of a certificate.
pub fn fingerprint_of(der: &[u8]) -> Fingerprint {
    use std::fmt::Write;
    let hex = Sha256::digest(der).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    });
    Fingerprint::new(hex).expect("64 lower-case hexadecimal digits are a fingerprint")
}

/// SHA-256 over the DER form of a certificate that is given as PEM.
pub fn fingerprint(pem: &str) -> Result<Fingerprint, Error> {
    Ok(fingerprint_of(&certificate(pem, "the certificate")?))
}

fn node_dns(id: NodeId) -> String {
    format!("node-{id}.basalt.internal")
}

/// The name under which a node's certificate is checked: whoever dials says which node it means.
pub fn node_server_name(id: NodeId) -> ServerName<'static> {
    ServerName::try_from(node_dns(id)).expect("a DNS name of letters, digits and dots")
}

fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::Pem { what })
}

fn new_key(what: &'static str) -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| Error::Make { what, source })
}

fn params(names: Vec<String>, common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Basalt");
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::days(365 * YEARS);
    Ok(params)
}

#[cfg(test)]
mod tests;
