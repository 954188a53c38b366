//! Images of other servers: looked up, pulled, pushed. Implemented by the node, which alone opens connections.

use std::collections::BTreeMap;

use async_trait::async_trait;
use basalt_model::image::{Image, UpdateSource};
use basalt_model::{Fingerprint, Timestamp};

use super::{ImageFacts, PortError};

/// Which image of which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteImage {
    pub source: UpdateSource,
    /// What it is asked for by now: the alias of the source, or a fingerprint; may be empty with a URL.
    pub name: String,
    /// Opens an image that is not public, once.
    pub secret: String,
}

/// One file of an offered image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedFile {
    pub url: String,
    /// What the server says of it; both are verified.
    pub sha256: Option<Fingerprint>,
    pub size: Option<u64>,
}

/// What a server has under the name that was asked for, now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// `None` when the server does not say: then only the download tells.
    pub fingerprint: Option<Fingerprint>,
    /// The whole, or metadata and root. One file may hold both parts as multipart.
    pub files: Vec<OfferedFile>,
    /// What the server says of the image beyond what the image says itself.
    pub properties: BTreeMap<String, String>,
    pub filename: String,
    pub public: bool,
    pub expires_at: Timestamp,
}

/// How far a transfer is, as clients show it: `rootfs: 42% (3.40MB/s)`.
pub type Tell<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Where an image is pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// `https://host:port`
    pub server: String,
    /// PEM of the one certificate that it may show.
    pub certificate: String,
    /// What it gave out for this image.
    pub secret: String,
    /// Its project that is to have the image; empty for the one that it takes.
    pub project: String,
}

/// Image servers. Every address is checked before it is connected to, after redirects too.
#[async_trait]
pub trait Remotes: Send + Sync {
    /// Whether `url` can be asked at all, as far as that can be said without asking.
    fn check(&self, url: &str) -> Result<(), PortError>;
    /// Looks an image up. Cancel-safe.
    async fn look(&self, wanted: &RemoteImage) -> Result<Offer, PortError>;
    /// Downloads what was offered into this member's store, verified; cancelling removes what was written.
    async fn pull(&self, wanted: &RemoteImage, offer: &Offer, tell: Tell<'_>) -> Result<ImageFacts, PortError>;
    /// Uploads an image to another server.
    async fn push(&self, image: &Image, target: &PushTarget, tell: Tell<'_>) -> Result<(), PortError>;
}
