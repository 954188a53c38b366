//! Images: archives by fingerprint, what their metadata says, and how they become a root.
//!
//! ```text
//! upload --bytes--> Import (hashes) --finish: scan, rename--> ImageStore  <fp>, <fp>.rootfs
//! ImageFiles --inspect--> ImageMetadata
//!            --unpack---> metadata.yaml, templates/, rootfs/   in a new folder of a pool
//! TreeView --publish--> Import              an image of a volume
//! ```
//!
//! Two shapes: *unified* (one tarball with `metadata.yaml` and `rootfs/`) and *split* (a metadata tarball, and a root as
//! tarball or squashfs). Tarballs may be plain or packed with gzip, xz or zstd; the first bytes decide, never a name.
//!
//! Images come from anybody. [`unpack`] says what is refused; `import` reads the whole archive with the same rules, so
//! that a bad image is refused when it is uploaded rather than when it is used.

mod archive;
mod codec;
mod limits;
mod metadata;
mod publish;
mod rules;
mod scan;
mod squashfs;
mod store;
mod tarball;
pub(crate) mod unpack;

use std::path::PathBuf;

pub use limits::Limits;
pub use metadata::{ImageMetadata, inspect};
pub use squashfs::readable as squashfs_readable;
pub use store::{ImageInfo, ImageStore, Import};

pub use publish::Publication;

/// Where an image's archives lie on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// The metadata tarball, or the whole of a unified image.
    pub metadata: PathBuf,
    /// The root of a split image.
    pub rootfs: Option<PathBuf>,
}
