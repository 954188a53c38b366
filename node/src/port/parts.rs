//! What an instance keeps of its image, in its volume's own folder beside the root: `metadata.yaml` and `templates/`.
//!
//! The folder is ours and closed to guests. Files are replaced whole, so that a crash leaves the old one or the new.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use basalt_api::dto::image_metadata::ImageMetadata;
use basalt_api::port::PortError;
use basalt_api::port::parts::{ImageParts, MAX_TEMPLATE, is_template_name};
use basalt_model::{Cluster, InstanceId};
use basalt_runtime::spawn_blocking;
use basalt_storage::beneath::Tree;

use crate::agent::Pools;

const METADATA: &str = "metadata.yaml";
const TEMPLATES: &str = "templates";
/// Larger metadata is not read.
const MAX_METADATA: u64 = 1 << 20;

/// Parts of images, in the pools.
#[derive(Debug)]
pub struct NodeParts {
    pub cluster: Arc<dyn Cluster>,
    pub pools: Arc<Pools>,
}

impl NodeParts {
    async fn folder(&self, id: InstanceId) -> Result<PathBuf, PortError> {
        let view = self.cluster.view();
        let instance = view.instances.get(&id).ok_or_else(|| PortError::NotFound("Instance".into()))?;
        let pool = view.root_pool(&instance.project, &instance.spec);
        let pool = pool.ok_or_else(|| PortError::Invalid("the instance has no root disk".into()))?;
        let store = self.pools.get(&pool).map_err(PortError::Unavailable)?;
        let root = store.root(id).await.map_err(|error| PortError::Internal(basalt_runtime::chain(&error)))?;
        let root = root.ok_or_else(|| PortError::Conflict("the instance's root volume is not there yet".into()))?;
        Ok(root.volume().to_owned())
    }

    /// Does `work` in the volume's folder.
    async fn act<T: Send + 'static>(
        &self,
        id: InstanceId,
        work: impl FnOnce(&Tree) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let folder = self.folder(id).await?;
        let done = spawn_blocking("parts of an image", move || work(&Tree::open(&folder)?)).await;
        done.map_err(|lost| PortError::Internal(lost.to_string()))?.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PortError::NotFound("Template".into()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortError::NoSpace(error.to_string()),
            _ => PortError::Internal(format!("parts of an image: {error}")),
        })
    }
}

impl NodeParts {
    /// A small file of the agent's own beside the root, if there is one.
    pub(crate) async fn note(&self, id: InstanceId, name: &'static str) -> Result<Option<Vec<u8>>, PortError> {
        let read = |tree: &Tree| match read(tree, Path::new(name), MAX_METADATA) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        self.act(id, read).await
    }

    /// Replaces a small file of the agent's own.
    pub(crate) async fn set_note(&self, id: InstanceId, name: &'static str, text: Vec<u8>) -> Result<(), PortError> {
        self.act(id, move |tree| tree.replace(name, &text, 0o600)).await
    }
}

fn read(tree: &Tree, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let count = tree.open_file(path)?.take(most + 1).read_to_end(&mut content)?;
    match count as u64 <= most {
        true => Ok(content),
        false => Err(io::Error::other(format!("{} is larger than {most} bytes", path.display()))),
    }
}

fn template(name: &str) -> Result<PathBuf, PortError> {
    match is_template_name(name) {
        true => Ok(Path::new(TEMPLATES).join(name)),
        false => Err(PortError::Invalid(format!("{name:?} is not the name of a template"))),
    }
}

#[async_trait]
impl ImageParts for NodeParts {
    async fn metadata(&self, id: InstanceId) -> Result<ImageMetadata, PortError> {
        let Some(text) = self.note(id, METADATA).await? else { return Ok(ImageMetadata::default()) };
        let bad = |why: String| PortError::Conflict(format!("metadata.yaml cannot be read: {why}"));
        let text = String::from_utf8(text).map_err(|error| bad(error.to_string()))?;
        serde_saphyr::from_str(&text).map_err(|error| bad(error.to_string()))
    }

    async fn set_metadata(&self, id: InstanceId, metadata: ImageMetadata) -> Result<(), PortError> {
        let text = serde_saphyr::to_string(&metadata).map_err(|error| PortError::Invalid(error.to_string()))?;
        // What is written is read again: better refused now than lost.
        let again: Result<ImageMetadata, _> = serde_saphyr::from_str(&text);
        if again.map_err(|error| PortError::Invalid(error.to_string()))? != metadata {
            return Err(PortError::Invalid("the metadata cannot be written as YAML".into()));
        }
        self.set_note(id, METADATA, text.into_bytes()).await
    }

    async fn templates(&self, id: InstanceId) -> Result<Vec<String>, PortError> {
        let names = self.act(id, |tree| match tree.exists(TEMPLATES)? {
            false => Ok(Vec::new()),
            true => tree.read_dir(TEMPLATES),
        });
        let entries = names.await?;
        let mut names: Vec<String> = entries.iter().filter_map(|e| Some(e.name.to_str()?.to_owned())).collect();
        names.retain(|name| is_template_name(name));
        names.sort();
        Ok(names)
    }

    async fn template(&self, id: InstanceId, name: &str) -> Result<Vec<u8>, PortError> {
        let path = template(name)?;
        self.act(id, move |tree| read(tree, &path, MAX_TEMPLATE as u64)).await
    }

    async fn set_template(&self, id: InstanceId, name: &str, content: Vec<u8>) -> Result<(), PortError> {
        let path = template(name)?;
        let write = move |tree: &Tree| {
            if !tree.exists(TEMPLATES)? {
                tree.mkdir(TEMPLATES, 0o700)?;
            }
            tree.replace(&path, &content, 0o600)
        };
        self.act(id, write).await
    }

    async fn remove_template(&self, id: InstanceId, name: &str) -> Result<(), PortError> {
        let path = template(name)?;
        self.act(id, move |tree| tree.remove(&path)).await
    }
}
