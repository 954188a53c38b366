//! Who calls, and what they may do.
//!
//! ```text
//!  listener --Origin--> identify(view) --Identity--> permits(method, path) --> handler --> project checks
//! ```
//! The unix socket is root. A TLS caller is who the SHA-256 of its certificate says, looked up in the replicated state.
//! A request that another member sends on carries the identity that member found, in [`FORWARDED`]; that header is
//! honoured on the cluster listener only, which takes nobody but members.

use std::net::SocketAddr;
use std::sync::Arc;

use basalt_model::identity::CertificateKind;
use basalt_model::{Fingerprint, ProjectName, StateView};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use crate::dto::event::Requestor;
use crate::error::Error;
use crate::token;

/// The header that carries the original caller between members.
pub const FORWARDED: &str = "x-basalt-forwarded";

/// The certificate that a TLS peer showed, its signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    pub fingerprint: Fingerprint,
    pub der: Vec<u8>,
}

impl PeerCertificate {
    /// Hashes a certificate.
    pub fn new(der: &[u8]) -> Self {
        PeerCertificate { fingerprint: token::sha256(der), der: der.to_vec() }
    }
}

/// Where a request came from: a request extension set by the listener.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The unix socket.
    Unix { user: Arc<str> },
    /// The public API.
    Tls { certificate: Option<Arc<PeerCertificate>>, remote: SocketAddr },
    /// Another member, on the cluster port; its certificate is one of the cluster's CA.
    Cluster { certificate: Arc<PeerCertificate>, remote: SocketAddr },
}

/// What the caller may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Full,
    /// Only these projects.
    Projects(std::collections::BTreeSet<ProjectName>),
    /// Only `/1.0/metrics`.
    Metrics,
    /// Only what §2.1 of the contract lists.
    Untrusted,
}

/// The caller of a request, as members tell each other (JSON in base64).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedIdentity {
    pub access: Access,
    /// `unix`, `tls` or `cluster`.
    pub protocol: String,
    /// User name or fingerprint.
    pub username: String,
    /// Address of the caller.
    pub address: String,
}

/// The caller.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) seen: ForwardedIdentity,
    /// Another member asks, of its own or for its caller: answer for this member alone.
    pub(crate) from_member: bool,
    /// The certificate of a TLS caller on this very connection.
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
}

impl Identity {
    /// Finds out who calls.
    ///
    /// # Errors
    /// A machine on the cluster port that is no member (any more), or a forwarded identity that cannot be read.
    pub(crate) fn of(origin: Option<&Origin>, headers: &HeaderMap, view: &StateView) -> Result<Self, Error> {
        match origin {
            None => Err(Error::NotTrusted),
            Some(Origin::Unix { user }) => Ok(Identity {
                seen: seen(Access::Full, "unix", user.to_string(), "@".into()),
                from_member: false,
                certificate: None,
            }),
            Some(Origin::Tls { certificate, remote }) => Ok(tls(certificate.as_ref(), *remote, view)),
            Some(Origin::Cluster { certificate, remote }) => {
                let known = view.members.values().any(|m| m.certificate == certificate.fingerprint);
                if !known {
                    return Err(Error::NotTrusted);
                }
                let seen = match headers.get(FORWARDED) {
                    None => seen(Access::Full, "cluster", certificate.fingerprint.to_string(), remote.to_string()),
                    Some(value) => {
                        let text = value.to_str().map_err(|_| Error::NotTrusted)?;
                        token::decode(text).ok_or(Error::NotTrusted)?
                    }
                };
                Ok(Identity { seen, from_member: true, certificate: None })
            }
        }
    }

    pub(crate) fn trusted(&self) -> bool {
        matches!(self.seen.access, Access::Full | Access::Projects(_))
    }

    pub(crate) fn full(&self) -> bool {
        self.seen.access == Access::Full
    }

    /// Whether the caller may see a project.
    pub(crate) fn sees(&self, project: &ProjectName) -> bool {
        match &self.seen.access {
            Access::Full => true,
            Access::Projects(projects) => projects.contains(project),
            // Public images are in the default project.
            Access::Metrics | Access::Untrusted => *project == ProjectName::default_project(),
        }
    }

    pub(crate) fn requestor(&self) -> Requestor {
        Requestor {
            username: self.seen.username.clone(),
            protocol: self.seen.protocol.clone(),
            address: self.seen.address.clone(),
        }
    }

    /// The header value that tells another member who this is.
    pub(crate) fn encode(&self) -> String {
        token::encode(&self.seen)
    }
}

fn seen(access: Access, protocol: &str, username: String, address: String) -> ForwardedIdentity {
    ForwardedIdentity { access, protocol: protocol.into(), username, address }
}

impl Origin {
    /// A caller on the unix socket. Asks the host for the user's name, which reads files: once a connection.
    pub(crate) fn unix(uid: u32) -> Self {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        Origin::Unix { user: user.map_or_else(|| uid.to_string(), |u| u.name).into() }
    }
}

fn tls(certificate: Option<&Arc<PeerCertificate>>, remote: SocketAddr, view: &StateView) -> Identity {
    let known = certificate.and_then(|c| view.certificates.get(&c.fingerprint));
    // A certificate outlives its trust when it expires: it is looked at with every request.
    let valid = certificate.is_some_and(|c| check_certificate(&c.der).is_ok());
    let access = match known.filter(|_| valid) {
        None => Access::Untrusted,
        Some(known) => match known.kind {
            CertificateKind::Metrics => Access::Metrics,
            CertificateKind::Client if known.restricted => Access::Projects(known.projects.clone()),
            CertificateKind::Client => Access::Full,
        },
    };
    let username = certificate.map(|c| c.fingerprint.to_string()).unwrap_or_default();
    Identity {
        seen: seen(access, "tls", username, remote.to_string()),
        from_member: false,
        certificate: certificate.cloned(),
    }
}

/// Whether a client certificate is good enough to be trusted: readable, in its time, and no short RSA key.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_certificate(der: &[u8]) -> Result<(), String> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    use x509_parser::public_key::PublicKey;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "is not an X.509 certificate".to_owned())?;
    if !certificate.validity().is_valid() {
        return Err("has expired or is not valid yet".into());
    }
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < 2048 => Err("has an RSA key of less than 2048 bits".into()),
        Ok(_) => Ok(()),
        Err(_) => Err("has a public key that cannot be read".into()),
    }
}

/// Whether the caller may use this method and path at all. Handlers look at projects.
///
/// # Errors
/// [`Error::NotTrusted`] for those who may not.
pub(crate) fn permits(who: &Identity, method: &Method, path: &str, open_metrics: bool) -> Result<(), Error> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let allowed = match &who.seen.access {
        Access::Full => true,
        Access::Projects(_) => restricted(reads, path),
        Access::Metrics => open(reads, method, path, open_metrics) || (reads && path == "/1.0/metrics"),
        Access::Untrusted => open(reads, method, path, open_metrics),
    };
    if allowed { Ok(()) } else { Err(Error::NotTrusted) }
}

/// What everybody may reach; handlers look at secrets and at what is public.
fn open(reads: bool, method: &Method, path: &str, open_metrics: bool) -> bool {
    let operation = path
        .strip_prefix("/1.0/operations/")
        .is_some_and(|rest| matches!(rest.split_once('/'), Some((_, "wait" | "websocket"))));
    match path {
        "/" | "/1.0" | "/1.0/" => reads,
        "/1.0/certificates" | "/1.0/images" if *method == Method::POST => true,
        "/1.0/metrics" => reads && open_metrics,
        "/1.0/metadata/configuration" | "/1.0/openapi.json" => reads,
        _ if operation => reads,
        _ => reads && (path == "/1.0/images" || path.starts_with("/1.0/images/")),
    }
}

/// What projects may have of their own with their networks.
const NETWORKS: [&str; 3] = ["networks", "network-acls", "network-address-sets"];

/// Whether a path is about networks, or what goes with them.
pub(crate) fn about_networks(path: &str) -> bool {
    path.split('/').nth(2).is_some_and(|area| NETWORKS.contains(&area))
}

/// Whether a path is about profiles.
pub(crate) fn about_profiles(path: &str) -> bool {
    path.split('/').nth(2) == Some("profiles")
}

const IMAGES: &str = "images";

/// Whether a path is about images or their aliases.
pub(crate) fn about_images(path: &str) -> bool {
    path.split('/').nth(2) == Some(IMAGES)
}

/// Whether what is posted to a path adds an image, or a secret for one.
pub(crate) fn adds_images(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    match parts[..] {
        [IMAGES] => true,
        // An alias may be called so, too.
        [IMAGES, of, "secret"] => of != "aliases",
        _ => false,
    }
}

/// What a restricted certificate may reach.
fn restricted(reads: bool, path: &str) -> bool {
    let area = path.strip_prefix("/1.0/").map(|rest| rest.split('/').next().unwrap_or_default());
    match area {
        None => reads && matches!(path, "/" | "/1.0"),
        Some("instances" | "containers" | "virtual-machines" | "profiles" | "operations" | "events" | "metrics") => {
            true
        }
        // Volumes are in projects.
        Some("storage-pools") => reads || path.split('/').nth(4) == Some("volumes"),
        // Which of them may be changed depends on the project.
        Some(area) if area == IMAGES || NETWORKS.contains(&area) => true,
        Some("projects" | "network-zones") => reads,
        Some("network-allocations" | "network-trace") => reads,
        Some("metadata" | "openapi.json") => reads,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
