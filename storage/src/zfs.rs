//! Pools on ZFS: kernel OpenZFS, or zfs-fuse where the host has no module.
//!
//! ```text
//! <root>                       stamped: basalt:member, basalt:pool, basalt:state-dir; never mounted
//!   /images/<fingerprint>      unpacked once; complete when it has @readonly
//!   /instances/<id>            a clone of that snapshot (or empty); stamped: basalt:instance, basalt:epoch, basalt:ready
//!   /instances/<id>@snap-<snapshot>      a snapshot
//!   /branches/<id>.<n>         what the volume was before it went back to a snapshot that is not its newest: holds the
//!                              snapshots taken until then; `.next` is about to become the volume
//!   /deleted/<...>             an image or volume that was removed while clones of it live; goes with the last of them
//!   /views/<...>               a clone of a snapshot that somebody reads
//! ```
//!
//! Nothing is ever copied here. A volume goes back to its newest snapshot by `rollback`, and to another one by becoming a
//! clone of it, while the old dataset stays as a branch with all its snapshots. A copy is a clone, and so is each snapshot
//! that a copy brings along (a branch of the new volume). A snapshot that was removed while clones need it is renamed to
//! `@kept-*`, and goes with the last of them. zfs-fuse has no `.zfs` folder, so snapshots are looked at as clones too.
//!
//! `<root>` is a zpool of our own on a sparse file (the default) or on a given file or block device, or an existing
//! dataset. Volumes are `canmount=noauto` with their mount point below the pool's folder, mounted when asked for. Our
//! zpools are in no cache file: after a reboot, opening the pool imports them again, and nothing else does.
//!
//! Only commands and options are used that zfs-fuse 0.7 (of 2011) has too; what the two differ in is in [`Flavour`].
//! [`argv`] and [`parse`] are pure.

mod argv;
mod branches;
mod daemon;
mod names;
mod open;
mod parse;
mod run;
mod snapshots;
mod store;
mod transfers;
mod vdev;

use daemon::Flavour;
pub(crate) use daemon::probe;
pub(crate) use open::{open, remove};
