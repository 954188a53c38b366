use super::*;

fn tree() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(dir.path().join("outside"), b"secret").unwrap();
    let tree = Tree::open(&root).unwrap();
    (dir, tree)
}

#[test]
fn never_leaves_the_tree() {
    let (dir, tree) = tree();
    let outside = dir.path().join("outside");
    tree.symlink(&outside, "link").unwrap();
    tree.symlink("..", "up").unwrap();
    tree.symlink("/proc/self/root", "magic").unwrap();
    for path in ["/etc/passwd", "../outside", "a/../../outside", "link", "up/outside", "magic/etc/passwd"] {
        assert!(tree.open_file(path).is_err(), "{path} was read");
        assert!(tree.open_for_write(path).is_err(), "{path} was opened");
        assert!(tree.create(path, 0o600).is_err(), "{path} was made");
    }
    assert!(tree.mkdir("up/new", 0o700).is_err());
    assert!(tree.remove("up/outside").is_err());
    assert!(tree.hard_link("up/outside", "stolen").is_err());
    assert!(tree.rename("up/outside", "stolen").is_err());
    tree.replace("link", b"mine", 0o600).unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
    assert_eq!(tree.stat("link").unwrap().kind, NodeKind::File);
    tree.clear().unwrap();
    assert!(outside.exists());
    assert_eq!(tree.read_dir("").unwrap(), vec![]);
}

#[test]
fn a_link_is_handled_as_itself() {
    let (dir, tree) = tree();
    let outside = dir.path().join("outside");
    tree.symlink(&outside, "link").unwrap();
    let node = tree.node("link").unwrap();
    assert_eq!(node.attributes().kind, NodeKind::Symlink);
    assert!(node.chmod(0o777).is_err());
    node.set_modified((1_000, 5)).unwrap();
    assert_eq!(tree.stat("link").unwrap().modified, (1_000, 5));
    assert_ne!(std::fs::metadata(&outside).unwrap().modified().unwrap(), std::time::UNIX_EPOCH);
    if nix::unistd::geteuid().is_root() {
        node.chown(12, 13).unwrap();
        assert_eq!((tree.stat("link").unwrap().uid, tree.stat("link").unwrap().gid), (12, 13));
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&outside).unwrap()), 0);
        node.set_xattr("trusted.test", b"v").unwrap();
        assert_eq!(node.xattr("trusted.test").unwrap().unwrap(), b"v");
        assert_eq!(xattr::get(&outside, "trusted.test").unwrap(), None);
    }
    assert_eq!(tree.readlink("link").unwrap(), outside);
}

#[test]
fn only_regular_files_are_opened() {
    let (_dir, tree) = tree();
    tree.mkfifo("pipe", 0o600).unwrap();
    tree.mkdir("dir", 0o751).unwrap();
    assert!(tree.open_file("pipe").is_err());
    assert!(tree.open_file("dir").is_err());
    assert_eq!(tree.stat("dir").unwrap().mode, 0o751);
}

#[test]
fn removes_any_depth_without_following() {
    let (dir, tree) = tree();
    let mut at = tree.subtree("").unwrap();
    for _ in 0..700 {
        at.mkdir("d", 0o700).unwrap();
        at.symlink(dir.path(), "l").unwrap();
        at = at.subtree("d").unwrap();
    }
    tree.remove_all("d").unwrap();
    tree.remove_all("d").unwrap();
    tree.clear().unwrap();
    assert!(dir.path().join("outside").exists());
}

#[test]
fn walks_in_order_and_shows_folders_twice() {
    let (_dir, tree) = tree();
    tree.mkdir("b", 0o700).unwrap();
    drop(tree.create("b/x", 0o644).unwrap());
    drop(tree.create("a", 0o644).unwrap());
    let mut seen = Vec::new();
    tree.walk::<io::Error>(&mut |path, _, visit| {
        seen.push((path.display().to_string(), visit));
        Ok(())
    })
    .unwrap();
    let expect = [
        ("", Visit::Enter),
        ("a", Visit::Enter),
        ("b", Visit::Enter),
        ("b/x", Visit::Enter),
        ("b", Visit::Leave),
        ("", Visit::Leave),
    ];
    assert_eq!(seen, expect.map(|(path, visit)| (path.to_owned(), visit)));
}
