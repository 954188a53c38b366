use std::fs::File;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use proptest::prelude::*;

use super::block::{Reader, Writer, channel};
use super::record::{Meta, Record, Run};
use super::*;
use crate::ErrorKind;
use crate::beneath::{NodeKind, Tree};
use crate::shift::IdMap;

/// Lets all trees of a stream come to lie beside each other.
struct Beside {
    base: PathBuf,
    labels: Vec<Label>,
}

#[async_trait]
impl Sink for Beside {
    async fn begin(&mut self, _label: Label) -> Result<PathBuf, Error> {
        let folder = self.base.join(self.labels.len().to_string());
        std::fs::create_dir(&folder).unwrap();
        Ok(folder)
    }

    async fn finish(&mut self, label: Label) -> Result<(), Error> {
        self.labels.push(label);
        Ok(())
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: owners can only be set by root");
    }
    root
}

fn source(label: Label, volume: &Path, map: Option<IdMap>) -> Source {
    Source { label, view: TreeView::new(volume.to_owned(), map, None), live: false }
}

async fn packed(sources: Vec<Source>) -> Vec<u8> {
    let mut stream = Vec::new();
    send("test", sources, &mut stream, &Progress::new()).await.unwrap();
    stream
}

async fn unpacked(stream: &[u8], base: &Path) -> Result<Vec<Label>, Error> {
    std::fs::create_dir(base).unwrap();
    let mut sink = Beside { base: base.to_owned(), labels: Vec::new() };
    let mut input = stream;
    receive("test", &mut sink, &mut input, &Progress::new()).await?;
    assert!(input.is_empty(), "a stream is read to its end");
    Ok(sink.labels)
}

/// A stream of records that a hostile member made.
async fn forged(records: impl FnOnce(&mut Writer) -> io::Result<()> + Send + 'static) -> Vec<u8> {
    let (blocks, made) = channel();
    let write = spawn_blocking("forge", move || {
        let mut out = Writer::new(blocks);
        records(&mut out).and_then(|()| out.end())
    });
    let mut stream = Vec::new();
    let progress = Progress::new();
    let (wrote, sent) = tokio::join!(write, block::write(made, &mut stream, &progress));
    wrote.unwrap().unwrap();
    sent.unwrap();
    stream
}

/// A volume with one of everything.
fn volume(base: &Path) {
    let root = base.join("rootfs");
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    std::fs::write(base.join("metadata.yaml"), b"architecture: x86_64\n").unwrap();
    std::fs::write(base.join("volume.json"), b"{}").unwrap();
    let tree = Tree::open(&root).unwrap();
    std::fs::write(root.join("d/su"), b"su").unwrap();
    tree.hard_link("d/su", "d/e/again").unwrap();
    tree.symlink("/etc/passwd", "link").unwrap();
    tree.chown("link", 5, 6).unwrap();
    for (name, kind) in [("pipe", NodeKind::Fifo), ("socket", NodeKind::Socket), ("null", NodeKind::CharDevice)] {
        tree.mknod(name, kind, 0o620, if kind == NodeKind::CharDevice { 0x103 } else { 0 }).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 10 << 20).unwrap();
    sparse.set_len(20 << 20).unwrap();
    let zeros = [&[1u8][..], &vec![0; 1 << 20], &[2]].concat();
    std::fs::write(root.join("zeros"), zeros).unwrap();
    std::fs::write(root.join("empty"), b"").unwrap();
    let su = tree.node("d/su").unwrap();
    su.chown(1000, 1001).unwrap();
    su.set_xattr("user.note", b"x").unwrap();
    su.set_xattr("security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    su.chmod(0o4711).unwrap();
    tree.node("empty").unwrap().set_modified((-5, 7)).unwrap();
    tree.chmod("d/e", 0o2555).unwrap();
    tree.node("d/e").unwrap().set_modified((1_000, 8)).unwrap();
}

/// Everything that must be the same in a tree that travelled.
fn shown(base: &Path) -> Vec<String> {
    let mut shown = Vec::new();
    let tree = Tree::open(base).unwrap();
    tree.walk::<io::Error>(&mut |path, node, visit| {
        let found = node.attributes();
        if visit == crate::beneath::Visit::Leave || path.as_os_str().is_empty() || path == Path::new("volume.json") {
            return Ok(());
        }
        let content = match found.kind {
            NodeKind::File => format!("{:?}", crc32fast::hash(&std::fs::read(base.join(path)).unwrap())),
            NodeKind::Symlink => format!("{:?}", node.target()?),
            _ => String::new(),
        };
        let mut xattrs: Vec<_> = node.xattrs()?.into_iter().map(|name| (node.xattr(&name).unwrap(), name)).collect();
        xattrs.sort();
        let size = if found.kind == NodeKind::File { found.size } else { 0 };
        let links = if found.kind == NodeKind::Dir { 0 } else { found.links };
        shown.push(format!(
            "{path:?} {:?} {:o} {}:{} {:?} {size} {links} {} {content} {xattrs:?}",
            found.kind, found.mode, found.uid, found.gid, found.modified, found.device
        ));
        Ok(())
    })
    .unwrap();
    shown
}

#[tokio::test]
async fn all_that_a_volume_holds_travels() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    volume(&from);
    std::fs::write(from.join("rootfs/large"), (0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
        .unwrap();
    let id = SnapshotId(uuid::Uuid::new_v4());
    let sources = vec![source(Label::Snapshot(id), &from, None), source(Label::Point, &from, None)];
    let stream = packed(sources).await;
    assert_eq!(unpacked(&stream, &to).await.unwrap(), [Label::Snapshot(id), Label::Point]);
    for tree in ["0", "1"] {
        assert_eq!(shown(&to.join(tree)), shown(&from));
        assert!(!to.join(tree).join("volume.json").exists(), "stamps stay");
    }
    let stat = |path: &str| std::fs::symlink_metadata(to.join("1/rootfs").join(path)).unwrap();
    assert!(stat("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
    assert!(stat("zeros").blocks() * 512 < 512 << 10, "and zeros become holes");
    assert_eq!(stat("d/su").ino(), stat("d/e/again").ino());
    assert!(stat("socket").file_type().is_socket() && stat("null").rdev() == 0x103);
}

#[tokio::test]
async fn ids_travel_as_the_guests_own() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    volume(&from);
    let before = shown(&from);
    let root = from.join("rootfs");
    crate::shift::shift(&root, 1_000_000, 65_536).await.unwrap();
    assert_ne!(shown(&from), before);
    let map = crate::shift::settle(&root).unwrap();
    let stream = packed(vec![source(Label::Point, &from, map)]).await;
    unpacked(&stream, &to).await.unwrap();
    assert_eq!(shown(&to.join("0")), before);
}

#[tokio::test]
async fn every_cut_is_seen() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    volume(&from);
    let stream = packed(vec![source(Label::Point, &from, None)]).await;
    let cuts = (0..64).chain((64..stream.len()).step_by(997)).chain(stream.len() - 9..stream.len());
    for at in cuts {
        let to = dir.path().join(at.to_string());
        let error = unpacked(&stream[..at], &to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "cut at {at}: {error}");
        std::fs::remove_dir_all(to).unwrap();
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn meta(name: &[u8]) -> Meta {
    Meta { name: name.to_vec(), mode: 0o755, ..Meta::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_flipped_bit_is_seen(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        if nix::unistd::geteuid().is_root() {
            run(async {
                let dir = tempfile::tempdir().unwrap();
                let from = dir.path().join("from");
                volume(&from);
                let mut stream = packed(vec![source(Label::Point, &from, None)]).await;
                let at = at.index(stream.len());
                stream[at] ^= 1 << bit;
                let error = unpacked(&stream, &dir.path().join("to")).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Invalid, "bit {bit} of {at}: {error}");
            });
        }
    }

    /// Bytes that pass all check sums and mean nothing.
    #[test]
    fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), tags in "[TDFLSHUEZ]{0,30}") {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let stream = forged(move |out| {
                Record::Tree(Label::Point).write(out)?;
                out.put(tags.as_bytes())?;
                out.put(&bytes)
            })
            .await;
            let result = unpacked(&stream, &dir.path().join("to")).await;
            prop_assert!(result.is_err_and(|error| error.kind() == ErrorKind::Invalid));
            Ok(())
        })?;
    }
}

type Forge = fn(&mut Writer) -> io::Result<()>;
type Attack = (&'static str, Forge);

fn hostile_names() -> Vec<Attack> {
    vec![
        ("absolute name", |out| Record::Dir(meta(b"/etc")).write(out)),
        ("upwards", |out| Record::Dir(meta(b"..")).write(out)),
        ("here", |out| Record::File(meta(b"."), 0).write(out)),
        ("a path as a name", |out| Record::File(meta(b"a/b"), 0).write(out)),
        ("no name", |out| Record::File(meta(b""), 0).write(out)),
        ("zero byte", |out| Record::File(meta(b"a\0b"), 0).write(out)),
        ("our stamp", |out| {
            Record::File(meta(b"volume.json"), 0).write(out)?;
            Run::END.write(out)
        }),
        ("our id map", |out| Record::Symlink(meta(b"idmap.json"), b"/etc/passwd".to_vec()).write(out)),
        ("our stamp as a link", |out| {
            Record::HardLink { name: b"volume.json".to_vec(), existing: b"file".to_vec() }.write(out)
        }),
        ("hard link out", |out| Record::HardLink { name: b"x".to_vec(), existing: b"../outside".to_vec() }.write(out)),
        ("hard link to the root", |out| {
            Record::HardLink { name: b"x".to_vec(), existing: b"/etc/passwd".to_vec() }.write(out)
        }),
        ("hard link through a link", |out| {
            Record::Symlink(meta(b"up"), b"..".to_vec()).write(out)?;
            Record::HardLink { name: b"x".to_vec(), existing: b"up/outside".to_vec() }.write(out)
        }),
        ("hard link to nothing", |out| Record::HardLink { name: b"x".to_vec(), existing: b"none".to_vec() }.write(out)),
        ("hard link to a folder", |out| Record::HardLink { name: b"x".to_vec(), existing: b"dir".to_vec() }.write(out)),
        ("a folder that is a link", |out| {
            Record::Symlink(meta(b"down"), b"..".to_vec()).write(out)?;
            Record::Dir(meta(b"down")).write(out)
        }),
        ("a file that is a link", |out| {
            Record::Symlink(meta(b"l"), b"../outside".to_vec()).write(out)?;
            Record::File(meta(b"l"), 1).write(out)?;
            Run { offset: 0, length: 1 }.write(out)?;
            out.put(b"x")?;
            Run::END.write(out)
        }),
        ("a name twice", |out| Record::File(meta(b"file"), 0).write(out)),
    ]
}

fn hostile_contents() -> Vec<Attack> {
    vec![
        ("up and out", |out| Record::Up.write(out)),
        ("an open folder", |out| Record::Dir(meta(b"open")).write(out)),
        ("data beyond the file", |out| {
            Record::File(meta(b"f"), 4).write(out)?;
            Run { offset: 2, length: 3 }.write(out)?;
            out.put(b"xxx")
        }),
        ("data that wraps", |out| {
            Record::File(meta(b"f"), u64::MAX).write(out)?;
            Run { offset: u64::MAX, length: 2 }.write(out)
        }),
        ("a huge file", |out| {
            Record::File(meta(b"f"), u64::MAX).write(out)?;
            Run::END.write(out)
        }),
        ("runs that go back", |out| {
            Record::File(meta(b"f"), 9).write(out)?;
            for offset in [4, 0] {
                Run { offset, length: 1 }.write(out)?;
                out.put(b"x")?;
            }
            Run::END.write(out)
        }),
        ("a huge text", |out| {
            out.put(b"D")?;
            out.put(&u32::MAX.to_le_bytes())
        }),
        ("many attributes", |out| {
            out.put(b"D")?;
            out.put(&[1, 0, 0, 0, b'a'])?;
            out.put(&[0; 24])?;
            out.put(&u32::MAX.to_le_bytes())?;
            out.put(&[0; 4096])
        }),
        ("a mode beyond modes", |out| Record::Dir(Meta { mode: 0o17777, ..meta(b"d") }).write(out)),
        ("nobody's owner", |out| Record::Dir(Meta { uid: u32::MAX, ..meta(b"d") }).write(out)),
        ("no time", |out| Record::Dir(Meta { modified: (0, 1_000_000_000), ..meta(b"d") }).write(out)),
        ("a broken ACL", |out| {
            let xattrs = vec![(b"system.posix_acl_access".to_vec(), b"x".to_vec())];
            Record::Dir(Meta { xattrs, ..meta(b"d") }).write(out)?;
            Record::Up.write(out)
        }),
        ("deep folders", |out| (0..600).try_for_each(|_| Record::Dir(meta(b"d")).write(out))),
        ("a second tree inside", |out| Record::Tree(Label::Point).write(out)),
        ("the end inside", |out| Record::Last.write(out)),
    ]
}

/// One hostile record each, in an otherwise good tree.
#[tokio::test]
async fn hostile_records_are_refused() {
    for (what, attack) in hostile_names().into_iter().chain(hostile_contents()) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("outside"), b"secret").unwrap();
        let stream = forged(move |out| {
            Record::Tree(Label::Point).write(out)?;
            Record::Dir(meta(b"dir")).write(out)?;
            Record::Up.write(out)?;
            Record::File(meta(b"file"), 0).write(out)?;
            Run::END.write(out)?;
            attack(out)?;
            Record::End { entries: 3 }.write(out)?;
            Record::Last.write(out)
        })
        .await;
        let error = unpacked(&stream, &dir.path().join("to")).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert_eq!(std::fs::read(dir.path().join("outside")).unwrap(), b"secret", "{what}");
        let links = std::fs::metadata(dir.path().join("outside")).unwrap().nlink();
        assert_eq!((std::fs::read_dir(dir.path()).unwrap().count(), links), (2, 1), "{what}");
    }
}

/// Trees and counts that do not fit.
#[tokio::test]
async fn hostile_streams_are_refused() {
    let attacks: &[Attack] = &[
        ("nothing", |_| Ok(())),
        ("no tree", |out| Record::Last.write(out)),
        ("a snapshot alone", |out| {
            Record::Tree(Label::Snapshot(SnapshotId(uuid::Uuid::nil()))).write(out)?;
            Record::End { entries: 0 }.write(out)?;
            Record::Last.write(out)
        }),
        ("a snapshot twice", |out| {
            for _ in 0..2 {
                Record::Tree(Label::Snapshot(SnapshotId(uuid::Uuid::nil()))).write(out)?;
                Record::End { entries: 0 }.write(out)?;
            }
            Record::Tree(Label::Point).write(out)?;
            Record::End { entries: 0 }.write(out)?;
            Record::Last.write(out)
        }),
        ("two points", |out| {
            for _ in 0..2 {
                Record::Tree(Label::Point).write(out)?;
                Record::End { entries: 0 }.write(out)?;
            }
            Record::Last.write(out)
        }),
        ("a wrong count", |out| {
            Record::Tree(Label::Point).write(out)?;
            Record::End { entries: 1 }.write(out)?;
            Record::Last.write(out)
        }),
        ("more behind the end", |out| {
            Record::Tree(Label::Point).write(out)?;
            Record::End { entries: 0 }.write(out)?;
            Record::Last.write(out)?;
            out.put(b"more")
        }),
    ];
    for (what, attack) in attacks {
        let dir = tempfile::tempdir().unwrap();
        let stream = forged(*attack).await;
        let error = unpacked(&stream, &dir.path().join("to")).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
    }
    // Not a stream at all, and one of a version to come.
    let dir = tempfile::tempdir().unwrap();
    let garbage = [7u8; 4096];
    let error = unpacked(&garbage, &dir.path().join("a")).await.unwrap_err();
    assert!(error.to_string().contains("not a volume's stream"), "{error}");
    let mut later = forged(|_| Ok(())).await;
    later[6] = 2;
    let error = unpacked(&later, &dir.path().join("b")).await.unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
}

/// A peer that goes away is an error on the other side, and no thread waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_peer_is_an_error() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    volume(&from);
    std::fs::write(from.join("rootfs/large"), vec![7; 8 << 20]).unwrap();
    let (mut near, far) = tokio::io::duplex(4096);
    drop(far);
    let error = send("test", vec![source(Label::Point, &from, None)], &mut near, &Progress::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host, "{error}");
    let reader = Reader::new(channel().1);
    assert!(spawn_blocking("read", move || reader.end()).await.unwrap().is_err());
}
