//! What the words of [`crate::Transfers`] mean.

use std::path::Path;

use basalt_model::{Epoch, InstanceId, SnapshotId};

use super::snapshots::{new_snapshot, read, write};
use super::{Subject, id, kind, ok};
use crate::{Error, ErrorKind, NewVolume, Origin, Parcel, Point, Progress, Root, VolumeStore};

const NOW: &str = "now: only-a only-b only-now";

/// A volume with two snapshots, `a` and `b`, and something after them.
async fn origin(store: &dyn VolumeStore) -> (InstanceId, [SnapshotId; 2]) {
    let (id, taken) = (id(), [new_snapshot(), new_snapshot()]);
    let root = ok(store.ensure(id, Epoch(1), Origin::Empty, None).await);
    for (snapshot, text) in taken.iter().zip(["a", "b"]) {
        write(&root, text);
        ok(store.snapshots().take(id, *snapshot).await);
    }
    write(&root, "now");
    (id, taken)
}

fn new(epoch: u64) -> NewVolume {
    NewVolume { id: id(), epoch: Epoch(epoch), size: None }
}

pub(super) async fn suite(subject: &Subject) {
    copies(subject).await;
    with_snapshots(subject).await;
    copies_outlive(subject).await;
    refusals(subject).await;
    between(subject.store.as_ref(), subject.store.as_ref()).await;
    broken_streams(subject).await;
}

async fn copies(subject: &Subject) {
    let (store, transfers) = (&subject.store, subject.store.transfers());
    let (from, taken) = origin(store.as_ref()).await;
    for (point, expect) in
        [(Point::Now, NOW), (Point::Snapshot(taken[0]), "a: only-a"), (Point::Snapshot(taken[1]), "b: only-a only-b")]
    {
        let to = new(7);
        let root = ok(transfers.copy(from, &Parcel::of(point), to, &Progress::new()).await);
        assert_eq!(read(&root.path), expect);
        write(&root, "changed");
        // Repeated, even from something else: a complete volume is kept.
        let again = ok(transfers.copy(from, &Parcel::of(Point::Now), to, &Progress::new()).await);
        assert_eq!(again, root);
        assert!(read(&root.path).starts_with("changed"));
        let found = ok(store.find(to.id).await).expect("the copy is there");
        assert_eq!((found.epoch, found.complete), (Epoch(7), true));
        assert!(ok(store.snapshots().list(to.id).await).is_empty());
        let other = NewVolume { epoch: Epoch(8), ..to };
        assert!(matches!(
            transfers.copy(from, &Parcel::of(point), other, &Progress::new()).await,
            Err(Error::Epoch { found: Epoch(7), wanted: Epoch(8), .. })
        ));
        ok(store.destroy(to.id).await);
    }
    let root = ok(store.root(from).await).expect("the origin is there");
    assert_eq!(read(&root.path), NOW, "copies share no changes");
    ok(store.destroy(from).await);
}

async fn with_snapshots(subject: &Subject) {
    let (store, transfers) = (&subject.store, subject.store.transfers());
    let (from, taken) = origin(store.as_ref()).await;
    let (to, names) = (new(1), [new_snapshot(), new_snapshot()]);
    let parcel = Parcel { point: Point::Now, snapshots: taken.into_iter().zip(names).collect() };
    let root = ok(transfers.copy(from, &parcel, to, &Progress::new()).await);
    assert_eq!(read(&root.path), NOW);
    arrived(store.as_ref(), to.id, names).await;
    // A copy of the copy, and its end.
    let (third, only) = (new(1), new_snapshot());
    let parcel = Parcel { point: Point::Snapshot(names[0]), snapshots: vec![(names[1], only)] };
    let root = ok(transfers.copy(to.id, &parcel, third, &Progress::new()).await);
    assert_eq!(read(&root.path), "a: only-a");
    assert_eq!(ok(store.snapshots().list(third.id).await), [only]);
    ok(store.destroy(from).await);
    ok(store.destroy(to.id).await);
    let root = ok(store.snapshots().restore(third.id, only).await);
    assert_eq!(read(&root.path), "b: only-a only-b");
    ok(store.destroy(third.id).await);
}

/// The snapshots of [`origin`] are there under their new ids.
async fn arrived(store: &dyn VolumeStore, id: InstanceId, names: [SnapshotId; 2]) {
    assert_eq!(ok(store.snapshots().list(id).await), names);
    let root = ok(store.snapshots().restore(id, names[0]).await);
    assert_eq!(read(&root.path), "a: only-a");
    let root = ok(store.snapshots().restore(id, names[1]).await);
    assert_eq!(read(&root.path), "b: only-a only-b");
}

async fn copies_outlive(subject: &Subject) {
    let (store, transfers) = (&subject.store, subject.store.transfers());
    let (from, taken) = origin(store.as_ref()).await;
    let copies = [new(1), new(1), new(1)];
    for (to, point) in copies.iter().zip([Point::Now, Point::Snapshot(taken[0]), Point::Snapshot(taken[0])]) {
        ok(transfers.copy(from, &Parcel::of(point), *to, &Progress::new()).await);
    }
    // A snapshot that copies were made of can be removed, and so can their origin.
    ok(store.snapshots().remove(from, taken[0]).await);
    assert_eq!(ok(store.snapshots().list(from).await), [taken[1]]);
    ok(store.destroy(from).await);
    assert_eq!(ok(store.find(from).await), None);
    for (to, expect) in copies.iter().zip([NOW, "a: only-a", "a: only-a"]) {
        let root = ok(store.root(to.id).await).expect("the copy is there");
        assert_eq!(read(&root.path), expect);
    }
    // The name of what is gone is free.
    ok(store.ensure(from, Epoch(1), Origin::Empty, None).await);
    ok(store.destroy(from).await);
    for to in copies {
        ok(store.destroy(to.id).await);
    }
}

async fn refusals(subject: &Subject) {
    let (store, transfers) = (&subject.store, subject.store.transfers());
    let (from, taken) = origin(store.as_ref()).await;
    let (to, none) = (new(1), new_snapshot());
    let missing = Parcel { point: Point::Now, snapshots: vec![(taken[0], new_snapshot()), (none, new_snapshot())] };
    for (from, parcel) in [(id(), Parcel::of(Point::Now)), (from, Parcel::of(Point::Snapshot(none))), (from, missing)] {
        assert_eq!(kind(transfers.copy(from, &parcel, to, &Progress::new()).await), ErrorKind::NotFound);
        assert_eq!(kind(transfers.send(from, &parcel, &mut Vec::new(), &Progress::new()).await), ErrorKind::NotFound);
        assert!(ok(store.find(to.id).await).is_none_or(|found| !found.complete));
    }
    ok(store.ensure(to.id, to.epoch, Origin::Empty, None).await);
    assert!(ok(store.snapshots().list(to.id).await).is_empty(), "nothing of a refused copy is left");
    ok(store.destroy(to.id).await);
    if !subject.quotas {
        let sized = NewVolume { size: Some(1 << 20), ..to };
        let copied = transfers.copy(from, &Parcel::of(Point::Now), sized, &Progress::new()).await;
        assert_eq!(kind(copied), ErrorKind::Unsupported);
    }
    ok(store.destroy(from).await);
}

/// A volume with its snapshots goes from one pool to another, of whatever kinds they are. Both are as they were afterwards.
pub async fn between(near: &dyn VolumeStore, far: &dyn VolumeStore) {
    let (from, taken) = origin(near).await;
    let (to, names) = (new(9), [new_snapshot(), new_snapshot()]);
    let parcel = Parcel { point: Point::Now, snapshots: taken.into_iter().zip(names).collect() };
    let (sent, got) = (Progress::new(), Progress::new());
    let (mut out, mut input) = tokio::io::duplex(64 << 10);
    let (send, receive) = tokio::join!(
        near.transfers().send(from, &parcel, &mut out, &sent),
        far.transfers().receive(to, &mut input, &got),
    );
    ok(send);
    let root: Root = ok(receive);
    assert_eq!(read(&root.path), NOW);
    assert!(sent.get().0 > 0 && got.get().0 > 0, "bytes are counted");
    let found = ok(far.find(to.id).await).expect("the volume is there");
    assert_eq!((found.epoch, found.complete), (Epoch(9), true));
    // Repeated, it reads nothing.
    assert_eq!(ok(far.transfers().receive(to, &mut &b""[..], &Progress::new()).await), root);
    arrived(far, to.id, names).await;
    ok(far.destroy(to.id).await);
    ok(near.destroy(from).await);
}

async fn broken_streams(subject: &Subject) {
    let (store, transfers) = (&subject.store, subject.store.transfers());
    let (from, taken) = origin(store.as_ref()).await;
    let mut stream = Vec::new();
    let parcel = Parcel { point: Point::Now, snapshots: vec![(taken[0], new_snapshot())] };
    ok(transfers.send(from, &parcel, &mut stream, &Progress::new()).await);
    let to = new(1);
    for bad in [&stream[..stream.len() - 4], &stream[..stream.len() / 2], &stream[..3], &[0; 64]] {
        let mut input = bad;
        assert_eq!(kind(transfers.receive(to, &mut input, &Progress::new()).await), ErrorKind::Invalid);
        assert!(ok(store.find(to.id).await).is_none_or(|found| !found.complete), "all or nothing");
        assert!(ok(store.snapshots().list(to.id).await).is_empty());
    }
    // After all that, the whole stream is taken.
    let root = ok(transfers.receive(to, &mut stream.as_slice(), &Progress::new()).await);
    assert_eq!(read(&root.path), NOW);
    assert_eq!(ok(store.snapshots().list(to.id).await).len(), 1);
    ok(store.destroy(to.id).await);
    // A broken one, and then an empty volume of that id.
    assert_eq!(kind(transfers.receive(to, &mut &stream[..99], &Progress::new()).await), ErrorKind::Invalid);
    let root = ok(store.ensure(to.id, Epoch(2), Origin::Empty, None).await);
    assert!(is_empty(&root.path), "nothing is left of it");
    ok(store.destroy(to.id).await);
    ok(store.destroy(from).await);
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a root can be listed").next().is_none()
}
