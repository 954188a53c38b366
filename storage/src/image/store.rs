//! The archives that this member holds, by fingerprint.
//!
//! ```text
//! <dir>/<fingerprint>           metadata tarball, or the whole of a unified image
//! <dir>/<fingerprint>.rootfs    root of a split image
//! <dir>/import-*                uploads under way; what a crash left is swept at the first use
//! ```
//!
//! An archive is renamed into place only after it is whole, hashed, read once by the rules and synced. The root goes
//! first: an image is there when its metadata is. The same bytes may come again, for another project, but not divided into
//! other files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use basalt_model::image::Format;
use basalt_model::instance::Kind;
use basalt_model::{Fingerprint, Timestamp};
use basalt_runtime::spawn_blocking;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use super::{ImageFiles, Limits, scan};
use crate::Error;

const IMPORT: &str = "import-";

/// What an import found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// SHA-256 of the metadata's bytes followed by the root's, or of the unified file.
    pub fingerprint: Fingerprint,
    /// Bytes of all its files.
    pub size: u64,
    /// Unified or split.
    pub format: Format,
    /// Kernel's word for the architecture.
    pub architecture: String,
    /// Container, or virtual machine when its root is a disk image.
    pub kind: Kind,
    /// What the image says of itself.
    pub properties: BTreeMap<String, String>,
    /// When it was made.
    pub creation_date: Timestamp,
    /// When it is out of date; never if zero.
    pub expiry: Timestamp,
}

/// The archives of one member. Clones are the same store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    ready: OnceCell<()>,
    imports: AtomicU64,
}

impl ImageStore {
    /// A store in `dir`, which is made when first used. One process at a time may use it.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let inner = Inner { dir: dir.into(), ready: OnceCell::new(), imports: AtomicU64::new(0) };
        ImageStore { inner: Arc::new(inner) }
    }

    /// Starts an upload: metadata (or the unified file) first, then, after [`Import::start_rootfs`], the root.
    pub async fn begin_import(&self) -> Result<Import, Error> {
        self.prepare().await?;
        let number = self.inner.imports.fetch_add(1, Ordering::Relaxed);
        let temp = self.inner.dir.join(format!("{IMPORT}{}-{number}", std::process::id()));
        let file = create(&temp).await?;
        Ok(Import { store: self.clone(), hash: Sha256::new(), size: 0, file, metadata: temp, rootfs: None })
    }

    /// The archives of an image, if this member holds it.
    pub async fn get(&self, fp: &Fingerprint) -> Result<Option<ImageFiles>, Error> {
        let files = self.files(fp);
        let exists = |path: PathBuf| async move {
            tokio::fs::try_exists(&path).await.map_err(|error| failed(&path, "look for archive", error))
        };
        if !exists(files.metadata.clone()).await? {
            return Ok(None);
        }
        let rootfs = match files.rootfs {
            Some(path) if exists(path.clone()).await? => Some(path),
            Some(_) | None => None,
        };
        Ok(Some(ImageFiles { metadata: files.metadata, rootfs }))
    }

    /// Removes an image's archives; what is gone already is a success.
    pub async fn remove(&self, fp: &Fingerprint) -> Result<(), Error> {
        let files = self.files(fp);
        for path in std::iter::once(files.metadata).chain(files.rootfs) {
            match tokio::fs::remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, "remove archive", error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Every image that this member holds.
    pub async fn list(&self) -> Result<Vec<Fingerprint>, Error> {
        self.prepare().await?;
        let dir = self.inner.dir.clone();
        let names = spawn_blocking("list images", move || names(&dir)).await??;
        Ok(names.into_iter().filter_map(|name| Fingerprint::new(name).ok()).collect())
    }

    fn files(&self, fp: &Fingerprint) -> ImageFiles {
        let metadata = self.inner.dir.join(fp.as_str());
        let rootfs = Some(self.inner.dir.join(format!("{fp}.rootfs")));
        ImageFiles { metadata, rootfs }
    }

    async fn prepare(&self) -> Result<(), Error> {
        let dir = self.inner.dir.clone();
        let sweep = || async { spawn_blocking("sweep images", move || sweep(&dir)).await? };
        self.inner.ready.get_or_try_init(sweep).await.copied()
    }
}

/// An upload under way. Dropping it removes what was written.
#[derive(Debug)]
pub struct Import {
    store: ImageStore,
    hash: Sha256,
    size: u64,
    file: tokio::fs::File,
    metadata: PathBuf,
    rootfs: Option<PathBuf>,
}

impl Import {
    /// Takes the next bytes of the current part.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).await.map_err(|error| failed(&self.store.inner.dir, "write upload", error))
    }

    /// Ends the metadata part; what follows is the root.
    pub async fn start_rootfs(&mut self) -> Result<(), Error> {
        if self.rootfs.is_some() {
            return Err(Error::invalid("image", "holds two roots"));
        }
        self.close_part().await?;
        let mut name = self.metadata.clone().into_os_string();
        name.push(".rootfs");
        let temp = PathBuf::from(name);
        self.file = create(&temp).await?;
        self.rootfs = Some(temp);
        Ok(())
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Checks the whole image and puts it into the store. With `expected`, another fingerprint is refused.
    pub async fn finish(mut self, expected: Option<&Fingerprint>) -> Result<ImageInfo, Error> {
        self.close_part().await?;
        let digest: String = self.hash.finalize_reset().iter().map(|byte| format!("{byte:02x}")).collect();
        let fingerprint = Fingerprint::new(digest).map_err(|error| Error::invalid("image", error.to_string()))?;
        if let Some(expected) = expected
            && *expected != fingerprint
        {
            return Err(Error::invalid("image", format!("has fingerprint {fingerprint}, not {expected}")));
        }
        let files = ImageFiles { metadata: self.metadata.clone(), rootfs: self.rootfs.clone() };
        let found = spawn_blocking("read image", move || scan::whole(&files, &Limits::default())).await??;
        self.fits(&fingerprint).await?;
        self.settle(&fingerprint).await?;
        Ok(ImageInfo {
            fingerprint,
            size: self.size,
            format: if self.rootfs.is_some() { Format::Split } else { Format::Unified },
            architecture: found.metadata.architecture,
            kind: found.kind,
            properties: found.metadata.properties,
            creation_date: found.metadata.creation_date,
            expiry: found.metadata.expiry,
        })
    }

    async fn close_part(&mut self) -> Result<(), Error> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced.await.map_err(|error| failed(&self.store.inner.dir, "sync upload", error))
    }

    /// The fingerprint is that of all bytes in a row: divided into files otherwise they would spoil the image that is there.
    async fn fits(&self, fp: &Fingerprint) -> Result<(), Error> {
        let Some(found) = self.store.get(fp).await? else { return Ok(()) };
        let size = |path: PathBuf| async move {
            let read = tokio::fs::metadata(&path).await;
            read.map(|found| found.len()).map_err(|error| failed(&path, "look at archive", error))
        };
        let alike = found.rootfs.is_some() == self.rootfs.is_some()
            && size(found.metadata).await? == size(self.metadata.clone()).await?;
        match alike {
            true => Ok(()),
            false => Err(Error::invalid("image", "is here already, divided into other files")),
        }
    }

    async fn settle(&self, fp: &Fingerprint) -> Result<(), Error> {
        let target = self.store.files(fp);
        let moves: Vec<_> = self.rootfs.iter().zip(target.rootfs).map(|(from, to)| (from.clone(), to)).collect();
        let moves: Vec<_> = moves.into_iter().chain([(self.metadata.clone(), target.metadata)]).collect();
        let dir = self.store.inner.dir.clone();
        let settle = move || {
            for (from, to) in &moves {
                std::fs::rename(from, to)?;
            }
            File::open(&dir)?.sync_all()
        };
        let done = spawn_blocking("store image", settle).await?;
        done.map_err(|error| failed(&self.store.inner.dir, "store image", error))
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // Renamed away after success; one unlink each is short enough to do here.
        for path in std::iter::once(&self.metadata).chain(&self.rootfs) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "upload not removed");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}

async fn create(path: &Path) -> Result<tokio::fs::File, Error> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).await.map_err(|error| failed(path, "create upload", error))
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let read = || -> io::Result<Vec<String>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    read().map_err(|error| failed(dir, "list images", error))
}

/// Removes uploads that a crash cut off, and roots whose metadata never came.
fn sweep(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| failed(dir, "create folder", error))?;
    let all = names(dir)?;
    let orphan = |name: &str| name.strip_suffix(".rootfs").is_some_and(|fp| !all.iter().any(|other| other == fp));
    for name in all.iter().filter(|name| name.starts_with(IMPORT) || orphan(name)) {
        let path = dir.join(name);
        tracing::info!(path = %path.display(), "removing an unfinished upload");
        std::fs::remove_file(&path).map_err(|error| failed(&path, "sweep upload", error))?;
    }
    Ok(())
}

fn failed(path: &Path, step: &str, source: io::Error) -> Error {
    Error::io(path.display().to_string(), step, source)
}
