//! Image files of this member.

use std::sync::Arc;

use async_trait::async_trait;
use basalt_api::port::{ImageFacts, ImageFiles, ImageUpload, Images, PortError, Publish};
use basalt_model::image::Image;
use basalt_model::{Cluster, Fingerprint};
use basalt_storage::ErrorKind;
use basalt_storage::image::{ImageInfo, Import};

use crate::agent::{ImageShelf, Pools};

/// Images, through the shelf.
#[derive(Debug)]
pub struct NodeImages {
    pub cluster: Arc<dyn Cluster>,
    pub shelf: Arc<ImageShelf>,
    pub pools: Arc<Pools>,
}

pub(super) fn error(error: basalt_storage::Error) -> PortError {
    let text = basalt_runtime::chain(&error);
    match error.kind() {
        ErrorKind::NotFound => PortError::NotFound(text),
        ErrorKind::NoSpace => PortError::NoSpace(text),
        ErrorKind::Invalid | ErrorKind::Unsupported => PortError::Invalid(text),
        ErrorKind::Busy => PortError::Conflict(text),
        ErrorKind::Host => PortError::Internal(text),
    }
}

/// In the API's words.
pub(crate) fn facts(info: ImageInfo) -> ImageFacts {
    ImageFacts {
        fingerprint: info.fingerprint,
        size: info.size,
        kind: info.kind,
        architecture: info.architecture,
        format: info.format,
        properties: info.properties,
        created_at: info.creation_date,
        expires_at: info.expiry,
    }
}

struct Upload {
    import: Import,
    in_rootfs: bool,
    shelf: Arc<ImageShelf>,
    cluster: Arc<dyn Cluster>,
}

#[async_trait]
impl ImageUpload for Upload {
    async fn metadata(&mut self, bytes: bytes::Bytes) -> Result<(), PortError> {
        match self.in_rootfs {
            true => Err(PortError::Invalid("the metadata part must come before the rootfs part".into())),
            false => self.import.write(&bytes).await.map_err(error),
        }
    }

    async fn rootfs(&mut self, bytes: bytes::Bytes) -> Result<(), PortError> {
        if !self.in_rootfs {
            self.import.start_rootfs().await.map_err(error)?;
            self.in_rootfs = true;
        }
        self.import.write(&bytes).await.map_err(error)
    }

    async fn finish(self: Box<Self>) -> Result<ImageFacts, PortError> {
        let (shelf, cluster) = (Arc::clone(&self.shelf), Arc::clone(&self.cluster));
        let info = self.import.finish(None).await.map_err(error)?;
        shelf.protect(info.fingerprint.clone(), &cluster.view());
        Ok(facts(info))
    }
}

#[async_trait]
impl Images for NodeImages {
    async fn publish(&self, wanted: Publish, say: &(dyn Fn(u64) + Send + Sync)) -> Result<ImageFacts, PortError> {
        self.make(wanted, say).await
    }

    async fn begin(&self) -> Result<Box<dyn ImageUpload>, PortError> {
        let import = self.shelf.store.begin_import().await.map_err(error)?;
        let (shelf, cluster) = (Arc::clone(&self.shelf), Arc::clone(&self.cluster));
        Ok(Box::new(Upload { import, in_rootfs: false, shelf, cluster }))
    }

    fn release(&self, fingerprint: &Fingerprint) {
        self.shelf.release(fingerprint);
    }

    async fn files(&self, image: &Image) -> Result<ImageFiles, PortError> {
        let view = self.cluster.view();
        let me = self.cluster.standing().me;
        let files = self.shelf.files(me, image, |node| view.online(node)).await.map_err(PortError::Unavailable)?;
        Ok(ImageFiles { metadata: files.metadata, rootfs: files.rootfs })
    }
}
