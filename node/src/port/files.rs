//! Files of this member's containers, reached from the host.
//!
//! ```text
//!   runs here ---> /proc/PID/root, all mounts of the guest     ids by /proc/PID/{uid,gid}_map
//!   does not ----> its root volume, mounted by the pool        ids as on disk, or shifted (volume's record)
//!                       |
//!                  Chroot (links stay inside) --> rule (what the guest's root may) --> act as the guest's root
//! ```
//!
//! **Invariants.** No call does what the guest's own root could not: files of owners that the guest does not know obey
//! their mode for others, and `/proc`, `/sys` and the like are listed but never opened or changed, as this program's
//! rights on them are the host's. New files belong to the guest's root. The process is held by its folder in `/proc` and
//! looked at again after that, so a number that was given to another process is noticed.
//!
//! **Failure.** A guest that starts or stops in the middle of a call is a conflict or an I/O error; the next call finds
//! it as it is. File systems that the guest itself serves (FUSE in a user namespace) refuse the host: permission denied.

mod identity;
mod owner;
mod root;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use basalt_api::port::PortError;
use basalt_api::port::files::{
    FileAttributes, FileEntry, FileError, FileKind, Files, OpenDir, OpenFile, OpenOptions, SetAttributes,
};
use basalt_driver::{Found, InstanceDriver, State};
use basalt_model::instance::{Instance, Kind};
use basalt_model::{Cluster, InstanceId};
use basalt_runtime::spawn_blocking;
use basalt_storage::beneath::{Attributes, Chroot, Listing, Node, NodeKind};
use basalt_storage::shift;
use bytes::Bytes;
use rustix::io::Errno;

use self::owner::{Ids, Owners};
use self::root::Root;
use crate::agent::Pools;

/// Files, through the guests' processes and the pools.
#[derive(Debug)]
pub struct NodeFiles {
    pub cluster: Arc<dyn Cluster>,
    pub drivers: BTreeMap<Kind, Arc<dyn InstanceDriver>>,
    pub pools: Arc<Pools>,
}

impl NodeFiles {
    /// Finds where the guest's files are now.
    async fn root(&self, id: InstanceId) -> Result<Root, FileError> {
        let view = self.cluster.view();
        let instance = view.instances.get(&id).ok_or_else(|| PortError::NotFound("Instance".into()))?;
        match instance.spec.kind {
            Kind::Container => {}
            Kind::VirtualMachine => {
                return Err(
                    PortError::Invalid("files of virtual machines cannot be reached from outside".into()).into()
                );
            }
        }
        if let Some((found, pid)) = self.running(id, instance).await? {
            let process = blocking("open a guest's process", move || root::process(pid)).await?;
            // The process was the guest's before and after its folder was opened, so the folder is the guest's.
            match (process, self.running(id, instance).await?) {
                (Some(process), Some((_, now))) if now == pid => {
                    return blocking("enter a guest", move || Root::of_process(&process)).await;
                }
                // The fake engine's guests are no processes of this host; there is only their volume.
                (None, Some((again, now))) if now == pid && again == found => {}
                (Some(_) | None, Some(_) | None) => {
                    return Err(PortError::Conflict("the instance is changing: try again".into()).into());
                }
            }
        }
        self.volume(id, instance).await
    }

    /// The guest and its init's pid while it runs.
    async fn running(&self, id: InstanceId, instance: &Instance) -> Result<Option<(Found, u32)>, FileError> {
        let Some(driver) = self.drivers.get(&instance.spec.kind) else { return Ok(None) };
        let found = driver.inspect(id).await.map_err(|e| PortError::Internal(basalt_runtime::chain(&e)))?;
        let Some(found) = found else { return Ok(None) };
        match (found.state, found.pid) {
            (State::Stopped, _) => Ok(None),
            (State::Running | State::Frozen, Some(pid)) => Ok(Some((found, pid))),
            (State::Running | State::Frozen, None) => {
                Err(PortError::Conflict("the instance is starting or stopping: try again".into()).into())
            }
        }
    }

    async fn volume(&self, id: InstanceId, instance: &Instance) -> Result<Root, FileError> {
        let view = self.cluster.view();
        let pool = view.root_pool(&instance.project, &instance.spec);
        let pool = pool.ok_or_else(|| PortError::Invalid("the instance has no root disk".into()))?;
        let store = self.pools.get(&pool).map_err(PortError::Unavailable)?;
        let storage = |error: basalt_storage::Error| PortError::Internal(basalt_runtime::chain(&error));
        let root = store.root(id).await.map_err(storage)?;
        let root = root.ok_or_else(|| PortError::Conflict("the instance's root volume is not there yet".into()))?;
        let map = shift::current(&root.path).await.map_err(storage)?;
        let map = map.ok_or_else(|| PortError::Conflict("the ids of its files are being changed: try again".into()))?;
        let ids = || if map.base == 0 { Ids::same() } else { Ids::range(map.base, map.size) };
        let owners = Owners { uids: ids(), gids: ids() };
        blocking("open a volume", move || Ok(Root::of_volume(Chroot::open(&root.path)?, owners))).await
    }

    /// Does `work` on the guest's files, as its root.
    async fn act<T: Send + 'static>(
        &self,
        id: InstanceId,
        work: impl FnOnce(&Root) -> io::Result<T> + Send + 'static,
    ) -> Result<(T, Arc<Owners>), FileError> {
        let root = self.root(id).await?;
        let owners = root.owners();
        let done = blocking("guest files", move || {
            let (uid, gid) = root.owners().root()?;
            identity::act_as(uid, gid, || work(&root))
        });
        Ok((done.await?, owners))
    }
}

async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let done = spawn_blocking(name, work).await.map_err(|lost| PortError::Internal(lost.to_string()))?;
    done.map_err(error)
}

fn error(error: io::Error) -> FileError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => FileError::NotFound,
        Some(Errno::ACCESS | Errno::PERM | Errno::XDEV) => FileError::Permission,
        Some(Errno::EXIST) => FileError::Exists,
        Some(Errno::NOTEMPTY) => FileError::NotEmpty,
        Some(Errno::ISDIR) => FileError::IsDir,
        Some(Errno::NOTDIR) => FileError::NotDir,
        Some(Errno::LOOP) => FileError::Loop,
        Some(Errno::NOSPC | Errno::DQUOT) => FileError::NoSpace,
        Some(Errno::ROFS) => FileError::ReadOnly,
        Some(Errno::INVAL | Errno::NAMETOOLONG | Errno::TXTBSY | Errno::BUSY | Errno::FBIG) => {
            FileError::Invalid(error.to_string())
        }
        Some(_) => FileError::Other(error.to_string()),
        None if error.kind() == io::ErrorKind::InvalidInput => FileError::Invalid(error.to_string()),
        None => FileError::Other(error.to_string()),
    }
}

fn attributes(found: &Attributes, owners: &Owners) -> FileAttributes {
    let kind = match found.kind {
        NodeKind::File => FileKind::File,
        NodeKind::Dir => FileKind::Dir,
        NodeKind::Symlink => FileKind::Symlink,
        NodeKind::Fifo => FileKind::Fifo,
        NodeKind::Socket => FileKind::Socket,
        NodeKind::CharDevice => FileKind::CharDevice,
        NodeKind::BlockDevice => FileKind::BlockDevice,
    };
    FileAttributes {
        kind,
        mode: found.mode,
        uid: owners.uids.shown(found.uid),
        gid: owners.gids.shown(found.gid),
        size: found.size,
        links: found.links,
        modified: found.modified.0,
    }
}

/// An open file. It is held whatever becomes of the guest.
struct Opened {
    file: Arc<File>,
    root: Arc<Root>,
}

#[async_trait]
impl OpenFile for Opened {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, FileError> {
        let file = Arc::clone(&self.file);
        let read = move || {
            let mut data = vec![0; length];
            let mut filled = 0;
            while filled < length {
                match file.read_at(&mut data[filled..], offset.saturating_add(filled as u64)) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            data.truncate(filled);
            Ok(Bytes::from(data))
        };
        blocking("read a guest's file", read).await
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), FileError> {
        let file = Arc::clone(&self.file);
        blocking("write a guest's file", move || file.write_all_at(&bytes, offset)).await
    }

    async fn attributes(&self) -> Result<FileAttributes, FileError> {
        let (file, root) = (Arc::clone(&self.file), Arc::clone(&self.root));
        let stat = move || Ok(attributes(Node::of_file(&file)?.attributes(), &root.owners()));
        blocking("look at a guest's file", stat).await
    }

    async fn set_attributes(&self, set: SetAttributes) -> Result<(), FileError> {
        let (file, root) = (Arc::clone(&self.file), Arc::clone(&self.root));
        let change = move || {
            let (uid, gid) = root.owners().root()?;
            identity::act_as(uid, gid, || root.set(&Node::of_file(&file)?, set))
        };
        blocking("change a guest's file", change).await
    }

    async fn sync(&self) -> Result<(), FileError> {
        let file = Arc::clone(&self.file);
        blocking("sync a guest's file", move || file.sync_all()).await
    }
}

/// A folder that is being listed.
struct Listed {
    listing: Arc<Mutex<Listing>>,
    owners: Arc<Owners>,
}

#[async_trait]
impl OpenDir for Listed {
    async fn next(&mut self, count: usize) -> Result<Vec<FileEntry>, FileError> {
        let (listing, owners) = (Arc::clone(&self.listing), Arc::clone(&self.owners));
        let list = move || {
            let found = listing.lock().unwrap_or_else(PoisonError::into_inner).next(count)?;
            let entry =
                |(name, found): (OsString, Attributes)| FileEntry { name, attributes: attributes(&found, &owners) };
            Ok(found.into_iter().map(entry).collect())
        };
        blocking("list a guest's folder", list).await
    }
}

#[async_trait]
impl Files for NodeFiles {
    async fn stat(&self, id: InstanceId, path: &Path, follow: bool) -> Result<FileAttributes, FileError> {
        let path = path.to_owned();
        let (found, owners) = self.act(id, move |root| root.node(&path, follow)).await?;
        Ok(attributes(found.attributes(), &owners))
    }

    async fn set_attributes(&self, id: InstanceId, path: &Path, set: SetAttributes) -> Result<(), FileError> {
        let path = path.to_owned();
        self.act(id, move |root| root.set(&root.node(&path, true)?, set)).await.map(|_| ())
    }

    async fn open(&self, id: InstanceId, path: &Path, how: OpenOptions) -> Result<Arc<dyn OpenFile>, FileError> {
        let path = path.to_owned();
        let root = self.root(id).await?;
        let open = move || {
            let (uid, gid) = root.owners().root()?;
            let file = identity::act_as(uid, gid, || root.open(&path, how))?;
            Ok(Opened { file: Arc::new(file), root: Arc::new(root) })
        };
        Ok(Arc::new(blocking("open a guest's file", open).await?))
    }

    async fn open_dir(&self, id: InstanceId, path: &Path) -> Result<Box<dyn OpenDir>, FileError> {
        let path = path.to_owned();
        let (listing, owners) = self.act(id, move |root| root.list(&path)).await?;
        Ok(Box::new(Listed { listing: Arc::new(Mutex::new(listing)), owners }))
    }

    async fn mkdir(&self, id: InstanceId, path: &Path, mode: u32) -> Result<(), FileError> {
        let path = path.to_owned();
        self.act(id, move |root| root.place(&path).and_then(|(folder, name)| folder.mkdir(&name, mode)))
            .await
            .map(|_| ())
    }

    async fn remove_file(&self, id: InstanceId, path: &Path) -> Result<(), FileError> {
        let path = path.to_owned();
        self.act(id, move |root| root.place(&path).and_then(|(folder, name)| folder.unlink(&name))).await.map(|_| ())
    }

    async fn remove_dir(&self, id: InstanceId, path: &Path) -> Result<(), FileError> {
        let path = path.to_owned();
        self.act(id, move |root| root.place(&path).and_then(|(folder, name)| folder.rmdir(&name))).await.map(|_| ())
    }

    async fn rename(&self, id: InstanceId, from: &Path, to: &Path, replace: bool) -> Result<(), FileError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let rename = move |root: &Root| {
            let ((old, name), (new, renamed)) = (root.place(&from)?, root.place(&to)?);
            old.rename(&name, &new, &renamed, replace)
        };
        self.act(id, rename).await.map(|_| ())
    }

    async fn symlink(&self, id: InstanceId, target: &Path, path: &Path) -> Result<(), FileError> {
        let (target, path) = (target.to_owned(), path.to_owned());
        let link = move |root: &Root| root.place(&path).and_then(|(folder, name)| folder.symlink(&name, &target));
        self.act(id, link).await.map(|_| ())
    }

    async fn hard_link(&self, id: InstanceId, existing: &Path, path: &Path) -> Result<(), FileError> {
        let (existing, path) = (existing.to_owned(), path.to_owned());
        let link = move |root: &Root| {
            let ((old, name), (new, linked)) = (root.place(&existing)?, root.place(&path)?);
            root.owned(&old.entry(&name)?)?;
            old.hard_link(&name, &new, &linked)
        };
        self.act(id, link).await.map(|_| ())
    }

    async fn readlink(&self, id: InstanceId, path: &Path) -> Result<PathBuf, FileError> {
        let path = path.to_owned();
        Ok(self.act(id, move |root| root.node(&path, false)?.target()).await?.0)
    }
}
