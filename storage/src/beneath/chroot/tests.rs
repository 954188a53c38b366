use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn chroot() -> (tempfile::TempDir, Chroot) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/passwd"), "the guest's").unwrap();
    std::fs::write(dir.path().join("outside"), "secret").unwrap();
    let chroot = Chroot::open(&root).unwrap();
    (dir, chroot)
}

fn read(chroot: &Chroot, path: &str) -> io::Result<String> {
    io::read_to_string(chroot.node(Path::new(path), true)?.reopen(true, false, false)?)
}

#[test]
fn links_lead_where_they_lead_in_the_guest() {
    let (dir, chroot) = chroot();
    let root = dir.path().join("root");
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../../../etc/passwd", root.join("up")).unwrap();
    symlink("/etc", root.join("folder")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink(dir.path().join("outside"), root.join("out")).unwrap();
    symlink("../outside", root.join("beside")).unwrap();
    for path in ["/etc/passwd", "etc/passwd", "absolute", "up", "folder/passwd", "/../../etc/./passwd"] {
        assert_eq!(read(&chroot, path).unwrap(), "the guest's", "{path}");
    }
    for path in ["out", "beside", "../outside", "/../outside", "loop"] {
        assert!(read(&chroot, path).is_err(), "{path} was read");
    }
    let link = chroot.node(Path::new("absolute"), false).unwrap();
    assert_eq!(link.attributes().kind, NodeKind::Symlink);
    assert_eq!(link.target().unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn magic_links_are_not_followed() {
    let chroot = Chroot { root: fs::open("/", OFlags::PATH, Mode::empty()).unwrap(), ..chroot().1 };
    let chroot = Chroot { resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS, ..chroot };
    assert!(chroot.node(Path::new("/proc/1/root/etc"), true).is_err());
    assert!(chroot.node(Path::new("/proc/self/fd/0"), true).is_err());
}

#[test]
fn places_are_in_the_guest() {
    let (dir, chroot) = chroot();
    symlink(dir.path(), dir.path().join("root/out")).unwrap();
    symlink("..", dir.path().join("root/etc/up")).unwrap();
    for path in ["/", "", "..", "etc/..", "a/b/.."] {
        assert!(chroot.place(Path::new(path)).is_err(), "{path}");
    }
    assert!(chroot.place(Path::new("out/outside")).is_err());
    let (folder, name) = chroot.place(Path::new("etc/up/etc/up/outside/")).unwrap();
    assert_eq!(name, "outside");
    folder.create(&name, 0o640, false).unwrap();
    assert!(dir.path().join("root/outside").exists());
    assert!(folder.create(&name, 0o640, false).is_err());
    folder.mkdir(OsStr::new("d"), 0o1777).unwrap();
    assert_eq!(folder.entry(OsStr::new("d")).unwrap().attributes().mode, 0o1777);
    assert!(folder.rename(&name, &folder, OsStr::new("d"), false).is_err());
    folder.hard_link(&name, &folder, OsStr::new("second")).unwrap();
    assert_eq!(folder.entry(OsStr::new("second")).unwrap().attributes().links, 2);
    folder.rename(&name, &folder, OsStr::new("second"), true).unwrap();
    folder.rmdir(OsStr::new("d")).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("outside")).unwrap(), "secret");
}

#[test]
fn listings_go_on_and_end() {
    let (dir, chroot) = chroot();
    for n in 0..300 {
        std::fs::write(dir.path().join(format!("root/etc/{n}")), "").unwrap();
    }
    let mut listing = chroot.node(Path::new("etc"), true).unwrap().list().unwrap();
    let (mut names, mut rounds) = (std::collections::BTreeSet::new(), 0);
    loop {
        let found = listing.next(7).unwrap();
        assert!(found.len() <= 7);
        if found.is_empty() {
            break;
        }
        names.extend(found.into_iter().map(|(name, _)| name));
        rounds += 1;
    }
    assert_eq!((names.len(), rounds), (301, 43));
    assert!(listing.next(7).unwrap().is_empty());
    assert!(chroot.node(Path::new("etc/passwd"), true).unwrap().list().is_err());
}

/// A guest that swaps a folder for a link to the host while we open files in it.
#[test]
fn swaps_do_not_help() {
    let (dir, chroot) = chroot();
    let root = dir.path().join("root");
    std::fs::create_dir(root.join("a")).unwrap();
    std::fs::write(root.join("a/outside"), "the guest's").unwrap();
    symlink("..", root.join("b")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::rename(root.join("a"), root.join("c")).unwrap();
                std::fs::rename(root.join("b"), root.join("a")).unwrap();
                std::fs::rename(root.join("a"), root.join("b")).unwrap();
                std::fs::rename(root.join("c"), root.join("a")).unwrap();
            }
        });
        for _ in 0..20_000 {
            if let Ok(text) = read(&chroot, "a/outside") {
                assert_eq!(text, "the guest's");
            }
            if let Ok((folder, _)) = chroot.place(Path::new("a/x")) {
                let here = folder.node().attributes().identity;
                assert_ne!(here, chroot_parent(dir.path()), "it left the guest");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn chroot_parent(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(dir).unwrap();
    (found.dev(), found.ino())
}
