use std::os::unix::fs::MetadataExt;

use basalt_runtime::HostRunner;
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

/// Builds tar streams that the `tar` crate's builder would refuse to make.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn header(&mut self, path: &[u8], kind: u8, link: &[u8], (mode, size): (u32, u64)) {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        let cut = |bytes: &[u8]| bytes[..bytes.len().min(100)].to_vec();
        let (path, link) = (cut(path), cut(link));
        old.name[..path.len()].copy_from_slice(&path);
        old.linkname[..link.len()].copy_from_slice(&link);
        old.linkflag = [kind];
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a member")]
    fn add(&mut self, path: &[u8], kind: u8, link: &[u8], mode: u32, content: &[u8]) -> &mut Self {
        self.header(path, kind, link, (mode, content.len() as u64));
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.add(b"pax", b'x', b"", 0o644, &body)
    }

    fn metadata(&mut self) -> &mut Self {
        self.add(b"metadata.yaml", b'0', b"", 0o644, b"architecture: x86_64\n")
    }

    fn end(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }
}

/// A folder to unpack into, between things that must not change.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("into")).unwrap();
        std::fs::write(dir.path().join("victim"), b"untouched").unwrap();
        Place { dir }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("into")
    }

    async fn unpack(&self, metadata: &[u8], rootfs: Option<&[u8]>) -> Result<(), Error> {
        let files = ImageFiles {
            metadata: self.dir.path().join("metadata"),
            rootfs: rootfs.map(|_| self.dir.path().join("metadata.rootfs")),
        };
        std::fs::write(&files.metadata, metadata).unwrap();
        if let (Some(path), Some(bytes)) = (&files.rootfs, rootfs) {
            std::fs::write(path, bytes).unwrap();
        }
        let limits = Limits { bytes: 64 << 20, ..Limits::default() };
        let (into, progress) = (self.folder(), Progress::new());
        let job = Job { place: "pool test", files: &files, into: &into, limits, progress: &progress };
        unpack(&HostRunner, job).await
    }

    /// Everything beside the folder is as it was.
    fn check(&self) {
        assert_eq!(std::fs::read(self.dir.path().join("victim")).unwrap(), b"untouched");
        let names = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        for name in names {
            let known = ["into", "victim", "metadata", "metadata.rootfs"].iter().any(|known| name == *known);
            assert!(known, "{name:?} appeared outside");
        }
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: owners can only be set by root");
    }
    root
}

#[tokio::test]
async fn keeps_what_a_root_needs() {
    if !is_root() {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = "n".repeat(200);
    let mut tar = Raw::default();
    tar.metadata().add(b"rootfs", b'5', b"", 0o755, b"").add(b"rootfs/tmp", b'5', b"", 0o1777, b"");
    tar.add(b"rootfs/bin/su", b'0', b"", 0o4755, b"suid").add(b"rootfs/bin/su2", b'1', b"rootfs/bin/su", 0o4755, b"");
    tar.pax(&[
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"a=\0b"),
        ("SCHILY.xattr.trusted.evil", b"x"),
        ("uid", b"3000000"),
        ("mtime", b"123.5"),
    ]);
    tar.add(b"rootfs/bin/ping", b'0', b"", 0o755, b"ping");
    tar.pax(&[("path", format!("rootfs/{long}").as_bytes())]).add(b"short", b'0', b"", 0o600, &[0; 70_000]);
    tar.add(b"././@LongLink", b'L', b"", 0, format!("rootfs/g{long}\0").as_bytes()).add(b"cut", b'0', b"", 0o600, b"g");
    tar.add(b"rootfs/etc", b'2', b"../../../etc", 0o777, b"").add(b"rootfs/dev/null", b'3', b"", 0o666, b"");
    tar.add(b"rootfs/run/pipe", b'6', b"", 0o640, b"");
    let place = Place::new();
    place.unpack(&tar.end(), None).await.unwrap();
    place.check();
    let root = place.folder().join("rootfs");
    let stat = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    let su = stat("bin/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.nlink(), su.mtime()), (0o4755, 7, 8, 2, 1_000_000));
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(stat("tmp").mtime(), 1_000_000);
    assert_eq!(
        (stat("bin/ping").uid(), stat("bin/ping").mtime(), stat("bin/ping").mtime_nsec()),
        (3_000_000, 123, 500_000_000)
    );
    assert_eq!(xattr::get(root.join("bin/ping"), "security.capability").unwrap().unwrap(), capability);
    assert_eq!(xattr::get(root.join("bin/ping"), "user.note").unwrap().unwrap(), b"a=\0b");
    assert_eq!(xattr::get(root.join("bin/ping"), "trusted.evil").unwrap(), None);
    assert_eq!(stat(&long).size(), 70_000);
    assert!(stat(&format!("g{long}")).is_file());
    assert!(stat("etc").is_symlink() && !root.join("dev/null").exists());
    assert_eq!(stat("run/pipe").mode() & 0o7777, 0o640);
}

#[tokio::test]
async fn all_packings_and_shapes() {
    if !is_root() {
        return;
    }
    use std::io::Write;
    let mut unified = Raw::default();
    unified.metadata().add(b"rootfs/x", b'0', b"", 0o644, b"x");
    let plain = unified.end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for packed in [plain.clone(), gzip.finish().unwrap(), xz.finish().unwrap(), zstd] {
        let place = Place::new();
        place.unpack(&packed, None).await.unwrap();
        assert_eq!(std::fs::read(place.folder().join("rootfs/x")).unwrap(), b"x");
        for cut in [packed.len() / 2, packed.len() - 3] {
            let place = Place::new();
            let refused = place.unpack(&packed[..cut], None).await;
            // The end mark of a plain archive is longer than what this cuts off.
            if packed != plain || cut < plain.len() - 512 {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
            }
        }
    }
    let (mut metadata, mut root) = (Raw::default(), Raw::default());
    root.add(b"./", b'5', b"", 0o755, b"").add(b"./y", b'0', b"", 0o644, b"y");
    let place = Place::new();
    place.unpack(&metadata.metadata().end(), Some(&root.end())).await.unwrap();
    assert_eq!(std::fs::read(place.folder().join("rootfs/y")).unwrap(), b"y");
}

#[tokio::test]
async fn squashfs_roots() {
    let (dir, place) = (tempfile::tempdir().unwrap(), Place::new());
    let (tree, packed) = (dir.path().join("tree"), dir.path().join("packed"));
    std::fs::create_dir_all(tree.join("dev")).unwrap();
    std::fs::write(tree.join("z"), b"z").unwrap();
    let pack = |device: &str| {
        let pseudo = format!("{device} c 666 0 0 1 3");
        let args = [tree.to_str().unwrap(), packed.to_str().unwrap(), "-noappend", "-quiet", "-p", &pseudo];
        basalt_runtime::Invocation::new("mksquashfs").args(args)
    };
    if !is_root() {
        return;
    }
    match HostRunner.run(pack("dev/null")).await {
        Err(basalt_runtime::ExecError::NotFound { program }) => return println!("skipped: no {program}"),
        other => drop(other.unwrap()),
    }
    let metadata = Raw::default().metadata().end();
    let bytes = std::fs::read(&packed).unwrap();
    place.unpack(&metadata, Some(&bytes)).await.unwrap();
    place.check();
    assert_eq!(std::fs::read(place.folder().join("rootfs/z")).unwrap(), b"z");
    assert!(place.folder().join("rootfs/dev").is_dir() && !place.folder().join("rootfs/dev/null").exists());
    // The file is padded; what counts is the length in the superblock.
    let length = usize::from(bytes[40]) + 256 * usize::from(bytes[41]);
    for broken in [&bytes[..50], &bytes[..length - 1]] {
        assert_eq!(Place::new().unpack(&metadata, Some(broken)).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    HostRunner.run(pack("disk")).await.unwrap();
    let place = Place::new();
    let refused = place.unpack(&metadata, Some(&std::fs::read(&packed).unwrap())).await.unwrap_err();
    assert!(refused.to_string().contains("device outside"), "{refused}");
    assert!(!place.folder().join("rootfs").exists(), "refused before anything is written");
}

#[tokio::test]
async fn bombs_and_nonsense() {
    if !is_root() {
        return;
    }
    let mut endless = Raw::default();
    endless.metadata().header(b"rootfs/bomb", b'0', b"", (0o644, 1 << 40));
    let mut long_record = Raw::default();
    long_record.metadata().header(b"pax", b'x', b"", (0o644, 1 << 33));
    let mut no_root = Raw::default();
    no_root.metadata();
    let mut no_metadata = Raw::default();
    no_metadata.add(b"rootfs/x", b'0', b"", 0o644, b"");
    let mut overlapping = Raw::default();
    overlapping.metadata();
    overlapping.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10"), ("GNU.sparse.name", b"rootfs/s")]);
    let mut map = b"2\n0\n9\n5\n5\n".to_vec();
    map.resize(512, b'\n');
    overlapping.add(b"s", b'0', b"", 0o644, &[map.as_slice(), &[1; 14]].concat());
    for (tar, kind) in [
        (endless.end(), ErrorKind::NoSpace),
        (long_record.end(), ErrorKind::Invalid),
        (no_root.end(), ErrorKind::Invalid),
        (no_metadata.end(), ErrorKind::Invalid),
        (overlapping.end(), ErrorKind::Invalid),
        (no_root.0.clone(), ErrorKind::Invalid),
        (b"hello".to_vec(), ErrorKind::Invalid),
        (vec![], ErrorKind::Invalid),
    ] {
        let place = Place::new();
        let refused = place.unpack(&tar, None).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
        place.check();
    }
    // Zeros pack well: the floor lets 100 MiB of them through the ratio, but not through what is free.
    let zeros = zstd::encode_all([endless.0.as_slice(), &vec![0; 100 << 20]].concat().as_slice(), 1).unwrap();
    assert_eq!(Place::new().unpack(&zeros, None).await.unwrap_err().kind(), ErrorKind::NoSpace);
}

#[tokio::test]
async fn sparse_files() {
    if !is_root() {
        return;
    }
    let mut tar = Raw::default();
    tar.metadata();
    tar.pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"1000000"),
        ("GNU.sparse.name", b"rootfs/s"),
    ]);
    let mut map = b"2\n4096\n4\n1000000\n0\n".to_vec();
    map.resize(512, 0);
    tar.add(b"GNUSparseFile.0/s", b'0', b"", 0o644, &[map.as_slice(), b"data"].concat());
    tar.add(b"rootfs/after", b'0', b"", 0o644, b"after");
    let place = Place::new();
    place.unpack(&tar.end(), None).await.unwrap();
    let found = std::fs::read(place.folder().join("rootfs/s")).unwrap();
    assert_eq!((found.len(), &found[4096..4100]), (1_000_000, &b"data"[..]));
    assert!(found[..4096].iter().chain(&found[4100..]).all(|byte| *byte == 0));
    assert_eq!(std::fs::read(place.folder().join("rootfs/after")).unwrap(), b"after");
}

fn name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "c", "..", ".", "", "dev", "etc", "victim", "proc", "self"]);
    let prefix = prop::sample::select(vec![
        "rootfs/",
        "rootfs/",
        "rootfs/",
        "./rootfs/",
        "templates/",
        "/",
        "../",
        "../../",
        "",
    ]);
    (prefix, prop::collection::vec(part, 0..4)).prop_map(|(prefix, parts)| format!("{prefix}{}", parts.join("/")))
}

fn target() -> impl Strategy<Value = String> {
    let known = [
        "/",
        "..",
        "../..",
        "../victim",
        "../../victim",
        "/etc",
        "a",
        "rootfs/a",
        "rootfs/a/b",
        "/proc/self/root",
        ".",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), name()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an archive says: nothing outside of the folder is made, changed or removed.
    #[test]
    fn hostile_archives_stay_inside(
        members in prop::collection::vec(
            (name(), prop::sample::select(b"0000112222345556Lx".to_vec()), target(), any::<u16>()), 1..12,
        ),
        noise in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let mut tar = Raw::default();
        tar.metadata();
        for (path, kind, link, mode) in &members {
            let content: &[u8] = if matches!(kind, b'0' | b'L' | b'x') { b"changed" } else { b"" };
            tar.add(path.as_bytes(), *kind, link.as_bytes(), u32::from(*mode) & 0o7777, content);
        }
        let mut bytes = tar.end();
        if let Some((at, byte)) = noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // The folder sits two levels deep so that `../..` would still be seen.
        let place = Place::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _refused_or_not = runtime.block_on(place.unpack(&bytes, None));
        place.check();
    }

    /// Bytes alone never make the reader panic or hang.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut reader = super::super::tarball::TarReader::new(bytes.as_slice());
        while let Ok(Some(member)) = reader.next() {
            let _ = reader.data(&member, &mut |_, _| Ok(()));
        }
    }
}
