//! What an instance keeps of its image beside the root: `metadata.yaml`, and the templates that files in the guest are
//! made from.

use async_trait::async_trait;
use basalt_model::InstanceId;

use super::PortError;
use crate::dto::image_metadata::ImageMetadata;

/// A template may not be larger, in bytes.
pub const MAX_TEMPLATE: usize = 1 << 20;

/// Parts of images. The API only calls it on the member that is the instance's home.
#[async_trait]
pub trait ImageParts: Send + Sync {
    /// What the image says of itself; the empty value for an instance that was made from none.
    async fn metadata(&self, id: InstanceId) -> Result<ImageMetadata, PortError>;
    async fn set_metadata(&self, id: InstanceId, metadata: ImageMetadata) -> Result<(), PortError>;
    /// Names of the templates, in order.
    async fn templates(&self, id: InstanceId) -> Result<Vec<String>, PortError>;
    /// The content of one; [`PortError::NotFound`] when there is none of that name.
    async fn template(&self, id: InstanceId, name: &str) -> Result<Vec<u8>, PortError>;
    /// Makes or replaces one; at most [`MAX_TEMPLATE`] bytes.
    async fn set_template(&self, id: InstanceId, name: &str, content: Vec<u8>) -> Result<(), PortError>;
    async fn remove_template(&self, id: InstanceId, name: &str) -> Result<(), PortError>;
}

/// Whether a template may be called this: one component of a path, in plain characters.
pub fn is_template_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)
}
