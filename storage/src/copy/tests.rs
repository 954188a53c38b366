use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;

#[test]
fn copies_everything() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: owners can only be set by root");
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir_all(from.join("d/e")).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(from.join("d/su"), b"su").unwrap();
    std::fs::hard_link(from.join("d/su"), from.join("d/e/again")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
    std::os::unix::fs::lchown(from.join("link"), Some(5), Some(6)).unwrap();
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 10 << 20).unwrap();
    sparse.set_len(20 << 20).unwrap();
    let source = Tree::open(&from).unwrap();
    source.mkfifo("pipe", 0o620).unwrap();
    let su = source.node("d/su").unwrap();
    su.chown(1000, 1001).unwrap();
    su.chmod(0o4711).unwrap();
    su.set_xattr("user.note", b"x").unwrap();
    source.node("d").unwrap().set_modified((1_000, 7)).unwrap();
    tree(&source, &Tree::open(&to).unwrap()).unwrap();

    let stat = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap();
    let su = stat("d/su");
    assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.nlink()), (1000, 1001, 0o4711, 2));
    assert_eq!(su.ino(), stat("d/e/again").ino());
    assert_ne!(su.ino(), std::fs::metadata(from.join("d/su")).unwrap().ino());
    assert_eq!(xattr::get(to.join("d/su"), "user.note").unwrap().unwrap(), b"x");
    assert_eq!((stat("link").uid(), stat("link").gid()), (5, 6));
    assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!((stat("d").mtime(), stat("d").mtime_nsec()), (1_000, 7));
    assert_eq!(stat("pipe").mode() & 0o7777, 0o620);
    let sparse = std::fs::read(to.join("sparse")).unwrap();
    assert_eq!((sparse.len(), &sparse[10 << 20..(10 << 20) + 3]), (20 << 20, &b"end"[..]));
    assert!(stat("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
}
