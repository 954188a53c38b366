//! What the words of [`crate::Snapshots`] mean.

use std::path::Path;

use basalt_model::{Epoch, InstanceId, SnapshotId};
use uuid::Uuid;

use super::{Subject, id, kind, ok};
use crate::{ErrorKind, Origin, Point, Root};

pub(super) fn new_snapshot() -> SnapshotId {
    SnapshotId(Uuid::new_v4())
}

/// What a test can tell one moment of a volume from another by.
pub(super) fn write(root: &Root, text: &str) {
    let folder = root.path.join("d");
    std::fs::create_dir_all(&folder).expect("a root can be written");
    std::fs::write(folder.join("moment"), text).expect("a root can be written");
    std::fs::write(root.path.join(format!("only-{text}")), b"x").expect("a root can be written");
}

pub(super) fn read(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("d/moment")).expect("what was written is there");
    let mut only: Vec<_> = std::fs::read_dir(root)
        .expect("a root can be listed")
        .map(|entry| entry.expect("a root can be listed").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("only-"))
        .collect();
    only.sort();
    format!("{text}: {}", only.join(" "))
}

pub(super) async fn suite(subject: &Subject) {
    nothing(subject).await;
    back_and_forth(subject).await;
    of_an_image(subject).await;
}

async fn nothing(subject: &Subject) {
    let (snapshots, id, snapshot) = (subject.store.snapshots(), id(), new_snapshot());
    assert_eq!(kind(snapshots.take(id, snapshot).await), ErrorKind::NotFound);
    assert!(ok(snapshots.list(id).await).is_empty());
    assert_eq!(kind(snapshots.view(id, Point::Now).await), ErrorKind::NotFound);
    ok(snapshots.remove(id, snapshot).await);
    ok(subject.store.ensure(id, Epoch(1), Origin::Empty, None).await);
    assert!(ok(snapshots.list(id).await).is_empty());
    for missing in [
        kind(snapshots.restore(id, snapshot).await),
        kind(snapshots.usage(id, snapshot).await),
        kind(snapshots.view(id, Point::Snapshot(snapshot)).await),
    ] {
        assert_eq!(missing, ErrorKind::NotFound);
    }
    ok(snapshots.remove(id, snapshot).await);
    ok(subject.store.destroy(id).await);
}

async fn back_and_forth(subject: &Subject) {
    let (store, snapshots, id) = (&subject.store, subject.store.snapshots(), id());
    let size = subject.quotas.then_some(64 << 20);
    let root = ok(store.ensure(id, Epoch(3), Origin::Empty, size).await);
    let taken = [new_snapshot(), new_snapshot(), new_snapshot()];
    for (snapshot, text) in taken.iter().zip(["a", "b", "c"]) {
        write(&root, text);
        ok(snapshots.take(id, *snapshot).await);
        write(&root, "later");
        ok(snapshots.take(id, *snapshot).await);
        std::fs::remove_file(root.path.join("only-later")).expect("a root can be written");
    }
    write(&root, "now");
    assert_eq!(ok(snapshots.list(id).await), taken, "oldest first");
    ok(snapshots.usage(id, taken[1]).await);
    views(subject, id, taken[0]).await;

    let moments = ["a: only-a", "b: only-a only-b", "c: only-a only-b only-c"];
    // The newest, back, an older one again, forward, and each of them twice.
    for (at, turn) in [2, 0, 0, 1, 2, 2, 0].into_iter().enumerate() {
        let root = ok(snapshots.restore(id, taken[turn]).await);
        assert_eq!(read(&root.path), moments[turn], "restore {at}");
        assert_eq!(ok(snapshots.list(id).await), taken, "all snapshots stay (restore {at})");
        let found = ok(store.list().await);
        assert_eq!((found.len(), found[0].epoch, found[0].complete), (1, Epoch(3), true), "and so does the stamp");
        assert_eq!(ok(store.ensure(id, Epoch(3), Origin::Empty, size).await), root);
        write(&root, "after");
    }
    // Taken after going back: the newest, wherever its volume came from.
    let last = new_snapshot();
    ok(snapshots.take(id, last).await);
    assert_eq!(ok(snapshots.list(id).await), [taken[0], taken[1], taken[2], last]);
    // A snapshot that the volume came from can go, and one in the middle too.
    for gone in [taken[0], taken[1]] {
        ok(snapshots.remove(id, gone).await);
        ok(snapshots.remove(id, gone).await);
        assert_eq!(kind(snapshots.restore(id, gone).await), ErrorKind::NotFound);
    }
    assert_eq!(ok(snapshots.list(id).await), [taken[2], last]);
    for (snapshot, moment) in [(taken[2], moments[2]), (last, "after: only-a only-after")] {
        let root = ok(snapshots.restore(id, snapshot).await);
        assert_eq!(read(&root.path), moment);
    }
    if subject.quotas {
        let root = ok(store.root(id).await).expect("the volume is there");
        let full = std::fs::write(root.path.join("big"), noise(96 << 20))
            .and_then(|()| std::fs::File::open(root.path.join("big"))?.sync_all());
        assert!(full.is_err() || !subject.contents, "the limit outlives a restore");
    }
    ok(store.destroy(id).await);
    assert!(ok(snapshots.list(id).await).is_empty());
    // Nothing of it is left for another volume of that id.
    ok(store.ensure(id, Epoch(4), Origin::Empty, None).await);
    assert!(ok(snapshots.list(id).await).is_empty());
    assert_eq!(kind(snapshots.restore(id, last).await), ErrorKind::NotFound);
    ok(store.destroy(id).await);
}

async fn views(subject: &Subject, id: InstanceId, first: SnapshotId) {
    let snapshots = subject.store.snapshots();
    let now = ok(snapshots.view(id, Point::Now).await);
    assert_eq!(read(&now.root()), "now: only-a only-b only-c only-now");
    let (one, two) =
        (ok(snapshots.view(id, Point::Snapshot(first)).await), ok(snapshots.view(id, Point::Snapshot(first)).await));
    assert_eq!(read(&one.root()), "a: only-a");
    assert!(one.root().starts_with(one.volume()));
    drop(one);
    ok(snapshots.view(id, Point::Now).await);
    assert_eq!(read(&two.root()), "a: only-a", "one view's end is not another's");
    assert_eq!(two.shifted(), None);
}

async fn of_an_image(subject: &Subject) {
    let (store, snapshots, (fp, files), id) = (&subject.store, subject.store.snapshots(), &subject.image, id());
    ok(store.ensure_image(fp, files, &crate::Progress::new()).await);
    let root = ok(store.ensure(id, Epoch(1), Origin::Image(fp), None).await);
    let taken = [new_snapshot(), new_snapshot()];
    for (snapshot, text) in taken.iter().zip(["a", "b"]) {
        write(&root, text);
        ok(snapshots.take(id, *snapshot).await);
    }
    ok(snapshots.restore(id, taken[0]).await);
    ok(store.destroy_image(fp).await);
    assert!(!ok(store.has_image(fp).await));
    let root = ok(snapshots.restore(id, taken[1]).await);
    assert_eq!(read(&root.path), "b: only-a only-b", "snapshots outlive the image");
    if subject.contents {
        assert!(root.path.join(super::CONTENT.0).exists());
    }
    ok(store.destroy(id).await);
    assert!(ok(store.images().await).is_empty());
}

/// Bytes that do not compress.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length / 8).flat_map(|_| next().to_le_bytes()).collect()
}
