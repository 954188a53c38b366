//! Images and aliases.

use serde::{Deserialize, Serialize};

use super::Map;

/// One image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    pub update_source: Option<serde_json::Value>,
    pub created_at: String,
    pub expires_at: String,
    pub last_used_at: String,
    pub uploaded_at: String,
    pub project: String,
}

/// An alias as an image shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageAlias {
    pub name: String,
    pub description: String,
}

/// `PUT` of an image; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
#[serde(default)]
pub struct Post {
    pub source: Option<serde_json::Value>,
    pub public: bool,
    pub properties: Map,
    pub aliases: Vec<ImageAlias>,
    pub filename: String,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
#[serde(default)]
pub struct AliasPut {
    pub description: Option<String>,
    pub target: Option<String>,
}
