//! Uploads: fingerprints, refusals, and that nothing is left of what did not end well.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use basalt_model::image::Format;
use basalt_model::instance::Kind;
use basalt_model::pool::PoolKind;
use basalt_model::{Fingerprint, MemberName, PoolName};
use basalt_runtime::HostRunner;
use basalt_storage::image::{ImageStore, inspect};
use basalt_storage::{ErrorKind, Progress, StorageHost, open_pool, testing};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn tarball(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

const METADATA: (&str, &[u8]) = ("metadata.yaml", b"architecture: aarch64\nexpiry_date: 2\nproperties: {os: X}\n");

#[tokio::test]
async fn unified_and_split() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::new(dir.path().join("images"));
    let mut import = store.begin_import().await.unwrap();
    for chunk in testing::archive().chunks(1000) {
        import.write(chunk).await.unwrap();
    }
    let unified = import.finish(None).await.unwrap();
    assert_eq!((unified.format, unified.kind), (Format::Unified, Kind::Container));
    assert_eq!(unified.size, testing::archive().len() as u64);
    assert_eq!(unified.architecture, "x86_64");

    let (metadata, root) = (tarball(&[METADATA]), tarball(&[("etc/x", b"x")]));
    let mut import = store.begin_import().await.unwrap();
    import.write(&metadata).await.unwrap();
    import.start_rootfs().await.unwrap();
    import.write(&root).await.unwrap();
    let split = import.finish(None).await.unwrap();
    assert_eq!((split.format, split.architecture.as_str()), (Format::Split, "aarch64"));
    assert_eq!((split.expiry.secs(), split.properties["os"].as_str()), (2, "X"));

    // The fingerprint is that of both files in a row, so the same bytes as one upload must be told apart by content.
    let mut both = store.begin_import().await.unwrap();
    both.write(&[metadata.clone(), root.clone()].concat()).await.unwrap();
    assert_eq!(both.finish(Some(&split.fingerprint)).await.unwrap_err().kind(), ErrorKind::Invalid);

    // The same in the same files may come again, but not with another end of the first: zeros there mean nothing to tar.
    for (end, good) in [(0, true), (512, false)] {
        let mut import = store.begin_import().await.unwrap();
        import.write(&metadata[..metadata.len() - end]).await.unwrap();
        import.start_rootfs().await.unwrap();
        import.write(&metadata[metadata.len() - end..]).await.unwrap();
        import.write(&root).await.unwrap();
        let done = import.finish(Some(&split.fingerprint)).await;
        assert_eq!(done.as_ref().is_ok(), good, "{done:?}");
    }

    let mut all = store.list().await.unwrap();
    all.sort();
    let mut expect = vec![unified.fingerprint.clone(), split.fingerprint.clone()];
    expect.sort();
    assert_eq!(all, expect);
    let files = store.get(&split.fingerprint).await.unwrap().unwrap();
    assert_eq!(inspect(&files).unwrap().architecture, "aarch64");
    assert!(store.get(&unified.fingerprint).await.unwrap().unwrap().rootfs.is_none());
    for _ in 0..2 {
        store.remove(&split.fingerprint).await.unwrap();
    }
    assert_eq!(store.get(&split.fingerprint).await.unwrap(), None);
    assert_eq!(names(&dir.path().join("images")), [unified.fingerprint.to_string()]);
}

#[tokio::test]
async fn refused_and_unfinished_uploads_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    let orphan = format!("{}.rootfs", "a".repeat(64));
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("import-1-2"), b"of a crash").unwrap();
    std::fs::write(images.join(&orphan), b"of a crash").unwrap();
    let store = ImageStore::new(&images);
    let good = testing::archive();
    let hostile = {
        let mut tar = good[..good.len() - 1024].to_vec();
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..16].copy_from_slice(b"rootfs/../../etc");
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(&[0; 1024]);
        tar
    };
    let mut short = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut short, &good).unwrap();
    let mut short = short.finish().unwrap();
    short.truncate(short.len() - 4);
    for bad in [hostile, short, good[..1500].to_vec(), tarball(&[METADATA]), tarball(&[("rootfs/x", b"")]), vec![]] {
        let mut import = store.begin_import().await.unwrap();
        import.write(&bad).await.unwrap();
        let refused = import.finish(None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    let mut wrong = store.begin_import().await.unwrap();
    wrong.write(&good).await.unwrap();
    let other = Fingerprint::new("0".repeat(64)).unwrap();
    assert_eq!(wrong.finish(Some(&other)).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut dropped = store.begin_import().await.unwrap();
    dropped.write(&good).await.unwrap();
    dropped.start_rootfs().await.unwrap();
    drop(dropped);
    assert!(names(&images).is_empty(), "{:?}", names(&images));
}

/// A full disk comes out as such, with the pool's name, and passes when there is space again.
#[tokio::test]
async fn a_full_pool_says_so() {
    use nix::mount::{MsFlags, mount, umount};
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    if let Err(error) = mount(Some("none"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=711")) {
        println!("skipped: no tmpfs can be mounted: {error}");
        return;
    }
    let filler = small.join("pool-filler");
    let outcome = async {
        let host = StorageHost {
            state_dir: dir.path().to_owned(),
            runner: Arc::new(HostRunner),
            member: MemberName::new("n1").unwrap(),
        };
        let config = BTreeMap::from([("source".to_owned(), small.to_str().unwrap().to_owned())]);
        let store = open_pool(&host, &PoolName::new("small").unwrap(), PoolKind::Dir, &config).await?;
        let (fp, files) = testing::image(&dir.path().join("images")).await?;
        std::fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
        let full = store.ensure_image(&fp, &files, &Progress::new()).await.unwrap_err();
        let images = store.images().await?;
        std::fs::remove_file(&filler).unwrap();
        store.ensure_image(&fp, &files, &Progress::new()).await?;
        Ok::<_, basalt_storage::Error>((full, images, store.has_image(&fp).await?))
    };
    let outcome = outcome.await;
    umount(&small).unwrap();
    let (full, images, recovered) = outcome.unwrap();
    assert_eq!(full.kind(), ErrorKind::NoSpace, "{full}");
    assert!(full.to_string().contains("pool small"), "{full}");
    assert!(images.is_empty() && recovered);
}
