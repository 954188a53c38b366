//! Images and aliases.

use serde::{Deserialize, Serialize};

use super::Map;

/// One image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Image {
    pub fingerprint: String,
    pub filename: String,
    pub size: i64,
    #[serde(rename = "type")]
    pub kind: String,
    pub architecture: String,
    pub cached: bool,
    pub public: bool,
    pub auto_update: bool,
    pub properties: Map,
    pub profiles: Vec<String>,
    pub aliases: Vec<ImageAlias>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_source: Option<UpdateSource>,
    pub created_at: String,
    pub expires_at: String,
    pub last_used_at: String,
    pub uploaded_at: String,
    pub project: String,
}

/// Where an image came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ImageUpdateSource"))]
#[serde(default)]
pub struct UpdateSource {
    pub alias: String,
    pub certificate: String,
    pub protocol: String,
    pub server: String,
    pub image_type: String,
}

/// An alias as an image shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ImageAlias {
    pub name: String,
    pub description: String,
}

/// `PUT` of an image; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ImagePut"))]
#[serde(default)]
pub struct Put {
    pub auto_update: Option<bool>,
    pub properties: Option<Map>,
    pub public: Option<bool>,
    pub expires_at: Option<String>,
    pub profiles: Option<Vec<String>>,
}

/// `POST /1.0/images` as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ImagePost"))]
#[serde(default)]
pub struct Post {
    pub source: Option<PostSource>,
    pub public: bool,
    pub auto_update: bool,
    pub properties: Map,
    pub aliases: Vec<ImageAlias>,
    pub filename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// How an image of an instance is packed: `none`, `gzip` (the default), `zstd` or `xz`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression_algorithm: String,
}

/// Where a new image is to come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ImagePostSource"))]
#[serde(default)]
pub struct PostSource {
    /// `image`, `url`, `instance`, `container`, `virtual-machine` or `snapshot`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pull`, or `push` for an image that the other server will send.
    pub mode: String,
    pub server: String,
    /// `simplestreams`, `lxd` or `incus`.
    pub protocol: String,
    pub alias: String,
    pub fingerprint: String,
    pub url: String,
    pub certificate: String,
    pub secret: String,
    pub image_type: String,
    /// An instance, or `instance/snapshot`.
    pub name: String,
    /// The project of the other server whose image it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// `POST` of an image's export: where it is to be sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ImageExportPost"))]
#[serde(default)]
pub struct ExportPost {
    /// `https://host:port`
    pub target: String,
    /// What the target gave out for this image.
    pub secret: String,
    /// PEM of the one certificate that the target may show.
    pub certificate: String,
    /// The target's project that is to have the image.
    pub project: String,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Alias {
    pub name: String,
    pub description: String,
    /// Fingerprint.
    pub target: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// `PUT` or `PATCH` of an alias.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct AliasPut {
    pub description: Option<String>,
    pub target: Option<String>,
}
