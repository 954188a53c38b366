//! Storage on one host: pools, instance volumes, images.
//!
//! ```text
//!  agent --ensure_image--> VolumeStore --unpack--> image tree / dataset@readonly
//!    |                        ^    \--ensure(id, epoch, origin)--> volume/rootfs   (zfs: a clone, dir: a copy)
//!    |                   dir  |  zfs  |  fake
//!    +--import--> ImageStore (archives by fingerprint)
//!    +--take, restore, view--> Snapshots
//!    +--copy, send, receive--> Transfers --tree stream--> Transfers of another member
//!    +--shift-->  owner ids of a tree, where the file system has no idmapped mounts
//!  every open under a tree that a guest or an image controls: beneath::Tree
//! ```
//!
//! **Invariants.** A volume is complete or it is not there: half-made ones are found by `list` and made anew. Each
//! volume carries the instance's id and epoch, and a call with another epoch touches nothing. Nothing that an image or a
//! guest controls can make the agent follow a link, leave the tree, or cross a mount. A refused image leaves no trace.
//!
//! **Failure.** Every call may be repeated after a crash or an error. A full disk is [`Error::NoSpace`] with the pool's
//! name. Host commands have deadlines; one that failed may still have done its work, so drivers look again.
//!
//! **Not here.** Which images, volumes and snapshots there should be, and the connection between members (the agent's).

pub mod beneath;
mod copy;
mod dir;
mod error;
mod filesystem;
pub mod image;
mod pool;
pub mod shift;
mod snapshot;
mod store;
mod transfer;
mod zfs;

pub mod fake;
pub mod testing;

pub use error::{Error, ErrorKind};
pub use pool::{StorageHost, open_pool, probe, remove_pool};
pub use snapshot::{NewVolume, Parcel, Point, Snapshots, Transfers, TreeView};
pub(crate) use store::ROOTFS;
pub use store::{FoundVolume, Origin, Progress, Root, Space, VolumeStore};
