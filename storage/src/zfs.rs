//! Pools on ZFS: kernel OpenZFS, or zfs-fuse where the host has no module.
//!
//! ```text
//! <root>                       stamped: basalt:member, basalt:pool, basalt:state-dir; never mounted
//!   /images/<fingerprint>      unpacked once; complete when it has @readonly
//!   /instances/<id>            a clone of that snapshot (or empty); stamped: basalt:instance, basalt:epoch, basalt:ready
//!   /deleted/<fingerprint>     an image that was removed while clones of it live; goes with the last of them
//! ```
//!
//! `<root>` is a zpool of our own on a sparse file (the default) or on a given file or block device, or an existing
//! dataset. Volumes are `canmount=noauto` with their mount point below the pool's folder, mounted when asked for. Our
//! zpools are in no cache file: after a reboot, opening the pool imports them again, and nothing else does.
//!
//! Only commands and options are used that zfs-fuse 0.7 (of 2011) has too; what the two differ in is in [`Flavour`].
//! [`argv`] and [`parse`] are pure.

mod argv;
mod daemon;
mod names;
mod open;
mod parse;
mod run;
mod store;
mod vdev;

use daemon::Flavour;
pub(crate) use daemon::probe;
pub(crate) use open::{open, remove};
