use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A volume with all that a shift has to care for.
fn volume() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("volume/rootfs");
    std::fs::create_dir_all(root.join("d")).unwrap();
    let tree = Tree::open(&root).unwrap();
    for name in ["plain", "d/suid", "ping", "acl"] {
        drop(tree.create(name, 0o644).unwrap());
    }
    tree.hard_link("plain", "d/hard").unwrap();
    tree.symlink("/etc/passwd", "link").unwrap();
    tree.chown("plain", 1000, 1001).unwrap();
    tree.chown("link", 33, 34).unwrap();
    tree.chown("d", 65_534, 200_000).unwrap();
    tree.chmod("d/suid", 0o6755).unwrap();
    tree.node("ping").unwrap().set_xattr(capability::NAME, &CAPABILITY).unwrap();
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    tree.node("acl").unwrap().set_xattr(acl::NAMES[0], &acl).unwrap();
    (dir, root)
}

type Shown = BTreeMap<PathBuf, (u32, u32, u32, Option<Vec<u8>>, Option<Vec<u8>>)>;

fn show(root: &Path) -> Shown {
    let mut shown = Shown::new();
    let tree = Tree::open(root).unwrap();
    tree.walk::<io::Error>(&mut |path, node, _| {
        let found = node.attributes();
        let attributes = (node.xattr(capability::NAME)?, node.xattr(acl::NAMES[0])?);
        shown.insert(path.to_owned(), (found.uid, found.gid, found.mode, attributes.0, attributes.1));
        Ok(())
    })
    .unwrap();
    shown
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: owners can only be set by root");
    }
    root
}

fn map(base: u32) -> IdMap {
    IdMap { base, size: 65_536 }
}

#[test]
fn there_and_back() {
    if !is_root() {
        return;
    }
    let (_dir, root) = volume();
    let before = show(&root);
    run(&root, map(1_000_000), &mut || Ok(())).unwrap();
    let shifted = show(&root);
    let at = |path: &str| &shifted[Path::new(path)];
    assert_eq!((at("plain").0, at("plain").1), (1_001_000, 1_001_001));
    assert_eq!((at("d/hard").0, at("d/hard").1), (1_001_000, 1_001_001));
    assert_eq!((at("link").0, at("link").1), (1_000_033, 1_000_034));
    assert_eq!((at("d").0, at("d").1), (1_065_534, 200_000), "ids outside of the map stay");
    assert_eq!((at("").0, at("d/suid").2), (1_000_000, 0o6755));
    assert_eq!(at("ping").3.as_ref().unwrap()[20..], 1_000_000u32.to_le_bytes());
    assert_eq!(at("acl").4.as_ref().unwrap()[16..20], 1_001_000u32.to_le_bytes());
    // Repeated, and to an overlapping map, which goes through guest ids.
    run(&root, map(1_000_000), &mut || panic!("nothing is to be done")).unwrap();
    run(&root, map(1_010_000), &mut || Ok(())).unwrap();
    assert_eq!(show(&root)[Path::new("plain")].0, 1_011_000);
    run(&root, map(0), &mut || Ok(())).unwrap();
    assert_eq!(show(&root), before);
}

/// Ends the run before each of its steps in turn, and then lets it run through.
#[test]
fn resumes_after_a_crash_anywhere() {
    if !is_root() {
        return;
    }
    let (_dir, root) = volume();
    run(&root, map(1_000_000), &mut || Ok(())).unwrap();
    let (from, to) = (show(&root), map(2_000_000));
    let (_other, straight) = volume();
    run(&straight, map(1_000_000), &mut || Ok(())).unwrap();
    run(&straight, to, &mut || Ok(())).unwrap();
    let expect = show(&straight);
    let mut crashes = 0;
    for at in 0.. {
        let mut left = at;
        let crashed = run(&root, to, &mut || {
            left -= 1;
            if left < 0 { Err(io::Error::other("crash")) } else { Ok(()) }
        });
        if crashed.is_ok() {
            break;
        }
        crashes += 1;
        // Another target after the crash first finishes what was begun.
        run(&root, to, &mut || Ok(())).unwrap();
        assert_eq!(show(&root), expect, "after a crash at step {at}");
        run(&root, map(1_000_000), &mut || Ok(())).unwrap();
        assert_eq!(show(&root), from, "back after a crash at step {at}");
    }
    assert!(crashes > 8, "{crashes}");
}

#[test]
fn bad_maps_are_refused() {
    let (_dir, root) = volume();
    for (base, size) in [(0, 0), (1000, 65_536), (u32::MAX - 5, 10)] {
        assert!(run(&root, IdMap { base, size }, &mut || Ok(())).is_err());
    }
}
