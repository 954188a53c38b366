//! Images: what roots are made from. The record is replicated; the files lie with the members that hold them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::instance::Kind;
use crate::{AliasName, Fingerprint, NodeId, Timestamp};

/// How the image was uploaded, hence how it is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// One tarball with `metadata.yaml` and `rootfs/`.
    Unified,
    /// A metadata tarball and a root file system (tarball or squashfs).
    Split,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub fingerprint: Fingerprint,
    pub kind: Kind,
    pub architecture: String,
    pub format: Format,
    pub filename: String,
    /// Bytes of all its files.
    pub size: u64,
    pub public: bool,
    pub properties: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub uploaded_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_used_at: Timestamp,
    /// Members that hold its files.
    pub holders: BTreeSet<NodeId>,
}

/// A name for an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub name: AliasName,
    pub target: Fingerprint,
    pub description: String,
}
