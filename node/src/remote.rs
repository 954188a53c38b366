//! Image servers: the only connections that a node opens to machines that are not its own.
//!
//! ```text
//!   look  --> streams (simplestreams) | server (LXD, Incus, Basalt) | direct (one URL)  --> Offer
//!   pull  --> fetch --bytes--> size and hash of each file --> Import --fingerprint--> rules --> the store
//!   push  --> the store --multipart--> another server
//! ```
//!
//! **Invariants.** Only `https`. A name is resolved here, each of its addresses is judged ([`guard`]), and the connection
//! goes to the very address that was judged; a redirect is a new URL and is judged as one. Nothing of an image is read by
//! the rules before the hash of its file, where one is known, is right; nothing is kept unless the fingerprint is.
//!
//! **Failure.** Whatever goes wrong, what was written is gone with the [`Import`](basalt_storage::image::Import), and the
//! same call may be made again.

mod direct;
mod download;
mod error;
mod fetch;
mod guard;
mod meter;
mod push;
mod server;
mod streams;
mod url;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use basalt_api::port::remote::{Offer, PushTarget, RemoteImage, Remotes, Tell};
use basalt_api::port::{ImageFacts, PortError};
use basalt_model::Cluster;
use basalt_model::config::parse_networks;
use basalt_model::image::{Image, Protocol};
use basalt_model::limit::parse_bytes;

use crate::agent::ImageShelf;
use error::Error;
use fetch::{Fetcher, Way};
use url::Url;

/// Largest image that is pulled when `images.remote_size_limit` is not set.
const SIZE_LIMIT: u64 = 20 << 30;

/// Image servers, as this node reaches them.
#[derive(Debug)]
pub struct NodeRemotes {
    cluster: Arc<dyn Cluster>,
    shelf: Arc<ImageShelf>,
    fetcher: Fetcher,
}

impl NodeRemotes {
    /// Servers are trusted by the host's certificate authorities, and by those in `ca_file`.
    pub fn new(cluster: Arc<dyn Cluster>, shelf: Arc<ImageShelf>, ca_file: Option<PathBuf>) -> Self {
        NodeRemotes { cluster, shelf, fetcher: Fetcher::new(ca_file) }
    }

    /// How a server that shows `certificate` may be reached; no certificate means one of a known authority.
    async fn way(&self, certificate: &str) -> Result<Way, Error> {
        let view = self.cluster.view();
        let allowed = view.config.get("images.remote_allowed_addresses").map(String::as_str).unwrap_or_default();
        let allowed =
            parse_networks(allowed).map_err(|why| Error::Host(format!("images.remote_allowed_addresses: {why}")))?;
        Ok(Way { tls: self.fetcher.tls(certificate).await?, allowed })
    }

    fn size_limit(&self) -> u64 {
        let view = self.cluster.view();
        let text = view.config.get("images.remote_size_limit").filter(|text| !text.is_empty());
        text.and_then(|text| parse_bytes(text).ok()).unwrap_or(SIZE_LIMIT)
    }

    /// The kernel's words for what the members can run.
    fn architectures(&self) -> Vec<String> {
        let view = self.cluster.view();
        let me = self.cluster.standing().me;
        // This member's own first: with a name that fits several, it decides.
        let mine = view.members.get(&me).map(|m| m.announced.architecture.clone());
        let mut all: Vec<String> = mine.into_iter().collect();
        for member in view.members.values() {
            if !all.contains(&member.announced.architecture) {
                all.push(member.announced.architecture.clone());
            }
        }
        all
    }

    async fn found(&self, wanted: &RemoteImage) -> Result<Offer, Error> {
        let way = self.way(&wanted.source.certificate).await?;
        let base = Url::parse(&wanted.source.server)?;
        match wanted.source.protocol {
            Protocol::Simplestreams => {
                let query = streams::Query {
                    name: &wanted.name,
                    kind: wanted.source.kind.unwrap_or(basalt_model::instance::Kind::Container),
                    architectures: &self.architectures(),
                    squashfs: basalt_storage::image::squashfs_readable(),
                };
                streams::look(&self.fetcher, &way, &base, &query).await
            }
            Protocol::Lxd | Protocol::Incus => server::look(&self.fetcher, &way, &base, wanted).await,
            Protocol::Direct => direct::look(&self.fetcher, &way, &base, wanted, &self.architectures()).await,
        }
    }
}

#[async_trait]
impl Remotes for NodeRemotes {
    fn check(&self, url: &str) -> Result<(), PortError> {
        let view = self.cluster.view();
        let allowed = view.config.get("images.remote_allowed_addresses").map(String::as_str).unwrap_or_default();
        let url = Url::parse(url)?;
        match url.host().parse() {
            Ok(address) => Ok(guard::judge(address, &parse_networks(allowed).unwrap_or_default())
                .map_err(|why| Error::refused(&url, why))?),
            // A name: it is judged when it is resolved.
            Err(_) => Ok(()),
        }
    }

    async fn look(&self, wanted: &RemoteImage) -> Result<Offer, PortError> {
        Ok(self.found(wanted).await?)
    }

    async fn pull(&self, wanted: &RemoteImage, offer: &Offer, tell: Tell<'_>) -> Result<ImageFacts, PortError> {
        let way = self.way(&wanted.source.certificate).await?;
        let import = self.shelf.store.begin_import().await.map_err(Error::Store)?;
        let mut download = download::Download::new(import, self.size_limit(), tell);
        download.files(&self.fetcher, &way, offer).await?;
        if let Some(fingerprint) = &offer.fingerprint {
            self.shelf.protect(fingerprint.clone(), &self.cluster.view());
        }
        tell("Checking the image".into());
        let info = download.finish(offer.fingerprint.as_ref()).await?;
        self.shelf.protect(info.fingerprint.clone(), &self.cluster.view());
        Ok(crate::port::images::facts(info))
    }

    async fn push(&self, image: &Image, target: &PushTarget, tell: Tell<'_>) -> Result<(), PortError> {
        let way = self.way(&target.certificate).await?;
        let view = self.cluster.view();
        let files = self
            .shelf
            .files(self.cluster.standing().me, image, |node| view.online(node))
            .await
            .map_err(PortError::Unavailable)?;
        Ok(push::send(&self.fetcher, &way, (image, &files), target, tell).await?)
    }
}
