use tempfile::TempDir;

use super::*;

fn state() -> ClusterState {
    ClusterState { next_node: 7, feature_level: 1, ..ClusterState::default() }
}

#[test]
fn comes_back_and_is_replaced_whole() {
    let dir = TempDir::new().unwrap();
    assert!(load(dir.path()).unwrap().is_none());
    write(dir.path(), &SnapshotMeta::default(), &state()).unwrap();
    let (meta, found) = load(dir.path()).unwrap().unwrap();
    assert_eq!((meta, found), (SnapshotMeta::default(), state()));
    let old = open(dir.path()).unwrap().unwrap().1;
    write(dir.path(), &SnapshotMeta::default(), &ClusterState::default()).unwrap();
    assert_eq!(decode(&old.read_all().unwrap()).unwrap().1, state(), "who reads the old one reads it to the end");
    assert_eq!(load(dir.path()).unwrap().unwrap().1, ClusterState::default());
    fs::write(dir.path().join("snapshot.new"), b"half").unwrap();
    sweep(dir.path()).unwrap();
    assert!(!dir.path().join("snapshot.new").exists());
}

#[test]
fn every_changed_or_missing_byte_is_damage() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &SnapshotMeta::default(), &state()).unwrap();
    let path = current(dir.path());
    let whole = fs::read(&path).unwrap();
    for at in (0..36).chain(HEAD..whole.len()) {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(load(dir.path()), Err(Error::Damaged { .. })), "byte {at}");
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(load(dir.path()), Err(Error::Damaged { .. })), "{length} bytes");
    }
}

#[test]
fn is_received_in_pieces_and_installed_only_if_whole() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let sent = write(from.path(), &SnapshotMeta::default(), &state()).unwrap();
    let receive = |upto: u64| {
        let mut receiver = Receiver::begin(to.path(), upto).unwrap();
        let mut offset = 0;
        while offset < upto {
            let piece = sent.piece(offset, 100).unwrap();
            receiver.write(&piece).unwrap();
            offset += piece.len() as u64;
        }
        receiver.finish()
    };
    receive(sent.length - 101).unwrap_err();
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "what is not whole leaves nothing");
    let received = receive(sent.length).unwrap();
    assert_eq!(install(to.path(), &received).unwrap().1, state());
    drop(received);
    assert_eq!(load(to.path()).unwrap().unwrap().1, state());
}
