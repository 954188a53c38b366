//! The conformance suite of [`VolumeStore`], [`crate::Snapshots`] and [`crate::Transfers`]: what each word of the ports
//! means, as assertions. It panics on the first that does not hold. The fake passes it in every run, the real drivers
//! wherever the host can.

mod snapshots;
mod transfers;

use std::path::Path;
use std::sync::Arc;

use basalt_model::{Epoch, Fingerprint, InstanceId};
use uuid::Uuid;

use crate::image::{ImageFiles, ImageStore};
use crate::{Error, ErrorKind, Origin, Progress, VolumeStore};

pub use transfers::between;

/// A store under test and what it is expected to be able to do.
#[derive(Debug)]
pub struct Subject {
    /// An empty pool.
    pub store: Arc<dyn VolumeStore>,
    /// An image made by [`image`].
    pub image: (Fingerprint, ImageFiles),
    /// Whether roots hold what the image holds (not so in the fake).
    pub contents: bool,
    /// Whether sizes are taken.
    pub quotas: bool,
}

/// What [`image`] puts into the root: a path and its content.
pub const CONTENT: (&str, &[u8]) = ("etc/greeting", b"hello from the image\n");

/// Makes a small unified image and imports it into a store in `dir`.
pub async fn image(dir: &Path) -> Result<(Fingerprint, ImageFiles), Error> {
    let store = ImageStore::new(dir);
    let mut import = store.begin_import().await?;
    import.write(&archive()).await?;
    let info = import.finish(None).await?;
    let files = store.get(&info.fingerprint).await?.ok_or_else(|| Error::not_found("the image just imported"))?;
    Ok((info.fingerprint, files))
}

/// A unified image as a plain tarball.
pub fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let metadata = b"architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Test\n  description: Test\n";
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).expect("memory takes all that is written");
    };
    add("metadata.yaml", tar::EntryType::Regular, 0o644, metadata);
    add("rootfs", tar::EntryType::Directory, 0o755, b"");
    add("rootfs/etc", tar::EntryType::Directory, 0o755, b"");
    add(&format!("rootfs/{}", CONTENT.0), tar::EntryType::Regular, 0o640, CONTENT.1);
    tar.into_inner().expect("memory takes all that is written")
}

/// Runs the whole suite. The store is empty again afterwards.
pub async fn conformance(subject: &Subject) {
    empty_volumes(subject).await;
    epochs(subject).await;
    images(subject).await;
    sizes(subject).await;
    many(subject).await;
    snapshots::suite(subject).await;
    transfers::suite(subject).await;
    assert!(ok(subject.store.list().await).is_empty(), "the suite leaves no volume");
}

fn ok<T>(result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Ok(value) => panic!("{value:?} where an error must be"),
        Err(error) => error.kind(),
    }
}

fn id() -> InstanceId {
    InstanceId(Uuid::new_v4())
}

async fn empty_volumes(subject: &Subject) {
    let (store, id) = (&subject.store, id());
    assert_eq!(ok(store.root(id).await), None);
    assert_eq!(kind(store.usage(id).await), ErrorKind::NotFound);
    assert_eq!(kind(store.resize(id, None).await), ErrorKind::NotFound);
    ok(store.destroy(id).await);
    let root = ok(store.ensure(id, Epoch(1), Origin::Empty, None).await);
    assert!(root.path.is_dir(), "the root is there");
    assert!(root.path.is_absolute());
    assert_eq!(std::fs::read_dir(&root.path).expect("a root can be listed").count(), 0);
    std::fs::write(root.path.join("kept"), b"x").expect("a root can be written");
    assert_eq!(ok(store.ensure(id, Epoch(1), Origin::Empty, None).await), root, "ensure can be repeated");
    assert!(root.path.join("kept").exists(), "and keeps what is there");
    assert_eq!(ok(store.root(id).await), Some(root.clone()));
    let found = ok(store.list().await);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, found[0].epoch, found[0].complete), (id, Epoch(1), true));
    ok(store.usage(id).await);
    let space = ok(store.space().await);
    assert!(space.total > 0 && space.used <= space.total, "{space:?}");
    ok(store.destroy(id).await);
    ok(store.destroy(id).await);
    assert!(!root.path.exists(), "destroy removes the root");
    assert_eq!(ok(store.root(id).await), None);
}

async fn epochs(subject: &Subject) {
    let (store, id) = (&subject.store, id());
    let root = ok(store.ensure(id, Epoch(5), Origin::Empty, None).await);
    std::fs::write(root.path.join("kept"), b"x").expect("a root can be written");
    for wrong in [4, 6] {
        match store.ensure(id, Epoch(wrong), Origin::Empty, None).await {
            Err(Error::Epoch { found, wanted, .. }) => assert_eq!((found, wanted), (Epoch(5), Epoch(wrong))),
            other => panic!("epoch {wrong} was not refused: {other:?}"),
        }
    }
    assert!(root.path.join("kept").exists(), "a refused epoch changes nothing");
    ok(store.destroy(id).await);
}

async fn images(subject: &Subject) {
    let (store, (fp, files)) = (&subject.store, &subject.image);
    let (first, second) = (id(), id());
    assert!(!ok(store.has_image(fp).await));
    assert_eq!(kind(store.ensure(first, Epoch(1), Origin::Image(fp), None).await), ErrorKind::NotFound);
    assert!(ok(store.list().await).iter().all(|volume| !volume.complete), "a failed ensure leaves no complete volume");
    ok(store.destroy(first).await);
    for _ in 0..2 {
        ok(store.ensure_image(fp, files, &Progress::new()).await);
    }
    assert!(ok(store.has_image(fp).await));
    assert_eq!(ok(store.images().await), vec![fp.clone()]);
    let one = ok(store.ensure(first, Epoch(1), Origin::Image(fp), None).await);
    let two = ok(store.ensure(second, Epoch(1), Origin::Image(fp), None).await);
    if subject.contents {
        let read = |root: &Path| std::fs::read(root.join(CONTENT.0)).expect("the image's file is there");
        assert_eq!(read(&one.path), CONTENT.1);
        std::fs::write(one.path.join(CONTENT.0), b"changed").expect("a root can be written");
        assert_eq!(read(&two.path), CONTENT.1, "volumes do not share changes");
    }
    ok(store.destroy(first).await);
    // Volumes outlive their image, and the image can come back while they live.
    ok(store.destroy_image(fp).await);
    ok(store.destroy_image(fp).await);
    assert!(!ok(store.has_image(fp).await));
    assert!(ok(store.images().await).is_empty());
    assert_eq!(ok(store.root(second).await), Some(two.clone()));
    if subject.contents {
        assert!(two.path.join(CONTENT.0).exists());
    }
    ok(store.ensure_image(fp, files, &Progress::new()).await);
    ok(store.ensure(first, Epoch(2), Origin::Image(fp), None).await);
    ok(store.destroy_image(fp).await);
    ok(store.destroy(first).await);
    ok(store.destroy(second).await);
    assert!(!ok(store.has_image(fp).await));
}

async fn sizes(subject: &Subject) {
    let (store, id) = (&subject.store, id());
    if !subject.quotas {
        assert_eq!(kind(store.ensure(id, Epoch(1), Origin::Empty, Some(1 << 20)).await), ErrorKind::Unsupported);
        ok(store.destroy(id).await);
        ok(store.ensure(id, Epoch(1), Origin::Empty, None).await);
        assert_eq!(kind(store.resize(id, Some(1 << 20)).await), ErrorKind::Unsupported);
        ok(store.resize(id, None).await);
        return ok(store.destroy(id).await);
    }
    let root = ok(store.ensure(id, Epoch(1), Origin::Empty, Some(16 << 20)).await);
    ok(store.resize(id, Some(32 << 20)).await);
    ok(store.resize(id, None).await);
    ok(store.resize(id, Some(8 << 20)).await);
    if subject.contents {
        let full = std::fs::write(root.path.join("big"), vec![7u8; 24 << 20])
            .and_then(|()| std::fs::File::open(root.path.join("big"))?.sync_all());
        assert!(full.is_err(), "the limit holds");
    }
    ok(store.destroy(id).await);
}

async fn many(subject: &Subject) {
    let ids: Vec<_> = (0..8).map(|_| id()).collect();
    let made =
        futures_util::future::join_all(ids.iter().map(|id| subject.store.ensure(*id, Epoch(3), Origin::Empty, None)));
    let mut paths: Vec<_> = made.await.into_iter().map(|root| ok(root).path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), ids.len(), "each volume has a root of its own");
    let gone = futures_util::future::join_all(ids.iter().map(|id| subject.store.destroy(*id))).await;
    gone.into_iter().for_each(ok);
}
