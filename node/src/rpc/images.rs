//! Image files between members: streamed, hashed on arrival, kept only if the hash is right.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use basalt_model::image::Image;
use basalt_model::{Fingerprint, NodeId};
use basalt_storage::image::{ImageStore, Import};
use futures_util::StreamExt;
use http::{Request, StatusCode};
use tokio_util::io::ReaderStream;

use super::peers::PeerClient;
use crate::agent::Fetch;

/// How long one chunk may take: a stalled holder is given up, the next one is tried.
const CHUNK: Duration = Duration::from_secs(20);

/// Serves this member's image files.
pub fn routes(store: ImageStore) -> Router {
    async fn part(State(store): State<ImageStore>, Path((fingerprint, part)): Path<(String, String)>) -> Response {
        let Ok(fingerprint) = Fingerprint::new(fingerprint) else { return StatusCode::BAD_REQUEST.into_response() };
        let files = match store.get(&fingerprint).await {
            Ok(Some(files)) => files,
            Ok(None) => return StatusCode::NOT_FOUND.into_response(),
            Err(error) => {
                tracing::warn!(%error, "an image file cannot be served");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        let path = match part.as_str() {
            "metadata" => Some(files.metadata),
            "rootfs" => files.rootfs,
            _ => None,
        };
        let Some(path) = path else { return StatusCode::NOT_FOUND.into_response() };
        match tokio::fs::File::open(&path).await {
            Ok(file) => Body::from_stream(ReaderStream::with_capacity(file, 256 << 10)).into_response(),
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        }
    }
    Router::new().route(&format!("{}/{{fingerprint}}/{{part}}", super::IMAGES), get(part)).with_state(store)
}

/// Fetches image files from other members.
#[derive(Debug)]
pub struct PeerFetch(pub Arc<PeerClient>);

#[async_trait]
impl Fetch for PeerFetch {
    async fn fetch(&self, image: &Image, from: NodeId, store: &ImageStore) -> Result<(), String> {
        let mut import = store.begin_import().await.map_err(|e| basalt_runtime::chain(&e))?;
        self.copy(image, from, "metadata", &mut import).await?;
        if image.format == basalt_model::image::Format::Split {
            import.start_rootfs().await.map_err(|e| basalt_runtime::chain(&e))?;
            self.copy(image, from, "rootfs", &mut import).await?;
        }
        import.finish(Some(&image.fingerprint)).await.map(|_| ()).map_err(|e| basalt_runtime::chain(&e))
    }
}

impl PeerFetch {
    async fn copy(&self, image: &Image, from: NodeId, part: &str, import: &mut Import) -> Result<(), String> {
        let path = format!("{}/{}/{part}", super::IMAGES, image.fingerprint);
        let request =
            Request::get(path).header("host", "member").body(Body::empty()).map_err(|e| basalt_runtime::chain(&e))?;
        let answer = self.0.send(from, request).await.map_err(|e| basalt_runtime::chain(&e))?;
        if answer.status() != StatusCode::OK {
            return Err(format!(
                "member {from} answered {} for {part} of image {}",
                answer.status(),
                image.fingerprint
            ));
        }
        let mut chunks = Body::new(answer.into_body()).into_data_stream();
        loop {
            match tokio::time::timeout(CHUNK, chunks.next()).await {
                Err(_) => return Err(format!("member {from} stalled while sending image {}", image.fingerprint)),
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(format!("member {from}: {error}")),
                Ok(Some(Ok(bytes))) => import.write(&bytes).await.map_err(|e| basalt_runtime::chain(&e))?,
            }
        }
    }
}
