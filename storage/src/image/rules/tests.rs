use super::super::tarball::TarReader;
use super::*;

/// A member made the way archives make them.
fn member(path: &[u8], kind: u8, link: &[u8], size: u64) -> Member {
    let mut header = tar::Header::new_ustar();
    {
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        old.linkflag = [kind];
    }
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    TarReader::new(&header.as_bytes()[..]).next().unwrap().unwrap()
}

fn admit(rules: &mut Rules, path: &str, kind: u8, link: &str) -> Result<Action, Refusal> {
    rules.admit(Part::Root, &member(path.as_bytes(), kind, link.as_bytes(), 0))
}

fn rules() -> Rules {
    Rules::new(Limits::default(), 1000)
}

#[test]
fn where_members_go() {
    let mut unified = rules();
    let mut at = |path: &str, kind| unified.admit(Part::Unified, &member(path.as_bytes(), kind, b"x", 0)).unwrap();
    assert_eq!(at("./metadata.yaml", b'0'), Action::Metadata);
    assert_eq!(at("rootfs/", b'5'), Action::Dir("rootfs".into()));
    assert_eq!(at("./rootfs//etc/./x", b'0'), Action::File("rootfs/etc/x".into()));
    assert_eq!(at("rootfs/l", b'2'), Action::Symlink("rootfs/l".into()));
    assert_eq!(at("rootfs/p", b'6'), Action::Fifo("rootfs/p".into()));
    assert_eq!(at("rootfs/dev/null", b'3'), Action::Skip);
    assert_eq!(at("templates/t", b'0'), Action::File("templates/t".into()));
    assert_eq!(at("README", b'0'), Action::Skip);
    assert_eq!(at("rootfs.img", b'0'), Action::Disk);
    let mut split = rules();
    assert_eq!(admit(&mut split, "./", b'5', ""), Ok(Action::Dir("rootfs".into())));
    assert_eq!(admit(&mut split, "metadata.yaml", b'0', ""), Ok(Action::File("rootfs/metadata.yaml".into())));
    let expect = Action::HardLink { path: "rootfs/h".into(), existing: "rootfs/metadata.yaml".into() };
    assert_eq!(admit(&mut split, "h", b'1', "./metadata.yaml"), Ok(expect));
}

#[test]
fn what_is_refused() {
    let long = "a/".repeat(49);
    for (path, kind, link) in [
        ("/etc/passwd", b'0', ""),
        ("../x", b'0', ""),
        ("a/../../x", b'0', ""),
        ("sda", b'4', ""),
        ("devices/sda", b'4', ""),
        ("h", b'1', "/etc/shadow"),
        ("h", b'1', "../../etc/shadow"),
        ("h", b'1', "missing"),
        ("h", b'1', ""),
        ("l", b'2', ""),
    ] {
        assert!(admit(&mut rules(), path, kind, link).is_err(), "{path} -> {link}");
    }
    let mut deep = Rules::new(Limits { depth: 20, ..Limits::default() }, 1);
    assert!(admit(&mut deep, &long, b'5', "").is_err());
}

#[test]
fn one_path_one_member() {
    let mut rules = rules();
    admit(&mut rules, "a", b'2', "/etc").unwrap();
    for (path, kind) in [("a", b'0'), ("a", b'5'), ("a/passwd", b'0'), ("a/b/c", b'5'), ("./a//", b'2')] {
        assert!(admit(&mut rules, path, kind, "x").is_err(), "{path}");
    }
    admit(&mut rules, "d", b'5', "").unwrap();
    admit(&mut rules, "d", b'5', "").unwrap();
    assert!(admit(&mut rules, "d", b'2', "/").is_err());
    assert!(admit(&mut rules, "h", b'1', "d").is_err());
    // A folder that was only implied is one all the same.
    admit(&mut rules, "e/f", b'0', "").unwrap();
    assert!(admit(&mut rules, "e", b'2', "/etc").is_err());
}

#[test]
fn hard_links_stay_in_their_tree() {
    let mut rules = rules();
    rules.admit(Part::Unified, &member(b"metadata.yaml", b'0', b"", 0)).unwrap();
    rules.admit(Part::Unified, &member(b"templates/t", b'0', b"", 0)).unwrap();
    for link in [&b"metadata.yaml"[..], b"templates/t"] {
        assert!(rules.admit(Part::Unified, &member(b"rootfs/h", b'1', link, 0)).is_err());
    }
    assert!(rules.admit(Part::Unified, &member(b"templates/l", b'2', b"/etc/shadow", 0)).is_err());
}

#[test]
fn bombs() {
    let limits = Limits { entries: 2, ..Limits::default() };
    let mut few = Rules::new(limits, 1);
    admit(&mut few, "a", b'0', "").unwrap();
    admit(&mut few, "b", b'0', "").unwrap();
    assert_eq!(admit(&mut few, "c", b'0', ""), Err(Refusal::TooMany(2)));
    let limits = Limits { ratio: 10, ratio_floor: 50, bytes: 500, ..Limits::default() };
    let mut dense = Rules::new(limits, 10);
    dense.admit(Part::Root, &member(b"a", b'0', b"", 60)).unwrap();
    assert_eq!(dense.admit(Part::Root, &member(b"b", b'0', b"", 41)), Err(Refusal::TooLarge(100)));
    let mut full = Rules::new(limits, 1000);
    assert_eq!(full.admit(Part::Root, &member(b"b", b'0', b"", 501)), Err(Refusal::NoSpace(500)));
}
