//! Images: what roots are made from. The record is replicated; the files lie with the members that hold them.
//!
//! Each project that has [images of its own](own) has its own records, with their own aliases. The files are shared: they
//! are found by the fingerprint alone, and all records of one fingerprint name the same holders.

pub mod own;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::instance::Kind;
use crate::{AliasKey, AliasName, Fingerprint, ImageKey, NodeId, ProfileName, ProjectName, Timestamp};

/// How the image was uploaded, hence how it is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// One tarball with `metadata.yaml` and `rootfs/`.
    Unified,
    /// A metadata tarball and a root file system (tarball or squashfs).
    Split,
}

/// How an image server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A tree of static files with an index.
    Simplestreams,
    /// The public images of an LXD, Incus or Basalt server; the two words mean the same.
    Lxd,
    Incus,
    /// One URL.
    Direct,
}

impl Protocol {
    /// As clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Simplestreams => "simplestreams",
            Protocol::Lxd => "lxd",
            Protocol::Incus => "incus",
            Protocol::Direct => "direct",
        }
    }
}

/// Where an image was pulled from, hence where a newer one may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSource {
    /// `https://host[:port][/path]`; the image's own URL with [`Protocol::Direct`].
    pub server: String,
    pub protocol: Protocol,
    /// PEM of the one certificate that the server may show; empty for those that the host trusts.
    pub certificate: String,
    /// What it was asked for by: an alias, or a fingerprint (of which there is never a newer one).
    pub alias: String,
    /// The kind that was asked for; `None` when any would do.
    pub kind: Option<Kind>,
    /// The project of the other server whose image it is; empty for the one that it takes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// What users may change of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub public: bool,
    pub auto_update: bool,
    /// Came with an instance rather than by an import: goes again when it is not used any more.
    pub cached: bool,
    pub expires_at: Timestamp,
    pub properties: BTreeMap<String, String>,
    pub profiles: Option<Vec<ProfileName>>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Whose it is.
    #[serde(default = "ProjectName::default_project", skip_serializing_if = "ProjectName::is_default")]
    pub project: ProjectName,
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
    /// Members that hold its files: the same for all images of the fingerprint.
    pub holders: BTreeSet<NodeId>,
    /// Came with an instance rather than by an import: goes again when it is not used any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cached: bool,
    /// Whether newer ones of the same source replace it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub auto_update: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_source: Option<UpdateSource>,
    /// Profiles of instances that name none; `None` is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<ProfileName>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Image {
    /// What it is found by.
    pub fn id(&self) -> ImageKey {
        ImageKey { project: self.project.clone(), name: self.fingerprint.clone() }
    }

    /// Whether it says what members of feature level 1 do not know.
    pub(crate) fn beyond_level_1(&self) -> bool {
        self.cached || self.auto_update || self.update_source.is_some() || self.profiles.is_some()
    }

    /// When it was last of use: when an instance was made from it, else when it came. One that takes the place of an
    /// older one inherits its time: being kept current is no use.
    pub fn wanted_at(&self) -> Timestamp {
        if self.last_used_at == Timestamp::NEVER { self.uploaded_at } else { self.last_used_at }
    }
}

/// A name for an image of the same project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    #[serde(default = "ProjectName::default_project", skip_serializing_if = "ProjectName::is_default")]
    pub project: ProjectName,
    pub name: AliasName,
    pub target: Fingerprint,
    pub description: String,
}

impl Alias {
    /// What it is found by.
    pub fn id(&self) -> AliasKey {
        AliasKey { project: self.project.clone(), name: self.name.clone() }
    }

    /// What its image is found by.
    pub fn image(&self) -> ImageKey {
        ImageKey { project: self.project.clone(), name: self.target.clone() }
    }
}

/// How the tarball of an image that is made here is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// What every client reads.
    #[default]
    Gzip,
    /// Faster and smaller than gzip.
    Zstd,
    /// Smallest, and slow.
    Xz,
}

impl std::str::FromStr for Compression {
    type Err = &'static str;

    /// The clients' words; the error says which there are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Compression::None),
            "gzip" | "pigz" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            "xz" => Ok(Compression::Xz),
            _ => Err("is not one of none, gzip, zstd, xz"),
        }
    }
}
