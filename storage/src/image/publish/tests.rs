use basalt_runtime::HostRunner;

use super::super::{ImageFiles, Limits, inspect, unpack};
use super::*;
use crate::ErrorKind;
use crate::shift::{self, IdMap};

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: owners can only be set by root");
    }
    root
}

const LONG: &str =
    "a-folder-whose-name-alone-is-longer-than-what-the-header-of-a-member-has-room-for-in-its-hundred-bytes/x";
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A volume with all that an image can hold, and some that it cannot.
fn volume(base: &Path) {
    let root = base.join("rootfs");
    std::fs::create_dir_all(root.join(LONG)).unwrap();
    std::fs::create_dir_all(base.join("templates")).unwrap();
    std::fs::write(base.join("templates/hostname.tpl"), b"{{ name }}").unwrap();
    let metadata = "architecture: amd64\ncreation_date: 7\nproperties: {os: Old}\ntemplates:\n  /etc/hostname:\n    \
                    when: [create]\n    template: hostname.tpl\n";
    std::fs::write(base.join("metadata.yaml"), metadata).unwrap();
    std::fs::write(base.join("volume.json"), b"{}").unwrap();
    let tree = Tree::open(&root).unwrap();
    let inner = Path::new(LONG);
    std::fs::write(root.join("su"), b"su").unwrap();
    tree.hard_link("su", inner.join("again")).unwrap();
    tree.symlink(format!("/{LONG}/{LONG}"), "link").unwrap();
    tree.chown("link", 5, 6).unwrap();
    for kind in [NodeKind::Fifo, NodeKind::Socket, NodeKind::CharDevice] {
        tree.mknod(format!("{kind:?}"), kind, 0o620, 0x103).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 10 << 20).unwrap();
    sparse.set_len(20 << 20).unwrap();
    File::create(root.join("hollow")).unwrap().set_len(1 << 20).unwrap();
    std::fs::write(root.join("odd"), vec![7; 70_001]).unwrap();
    let su = tree.node("su").unwrap();
    su.chown(60_000, 3_000_000).unwrap();
    su.set_xattr("user.note", b"x=\n\0y").unwrap();
    su.set_xattr("security.capability", &CAPABILITY).unwrap();
    su.chmod(0o4711).unwrap();
    tree.node("odd").unwrap().set_modified((1_000_000, 25)).unwrap();
    tree.node("hollow").unwrap().set_modified((-5, 0)).unwrap();
    tree.chmod(inner, 0o2555).unwrap();
    tree.node(inner).unwrap().set_modified((1_000, 8)).unwrap();
}

fn shown(root: &Path) -> Vec<String> {
    let mut shown = Vec::new();
    let walk = |path: &Path, node: &Node, visit: Visit| {
        let found = node.attributes();
        let left_out = matches!(found.kind, NodeKind::Socket | NodeKind::CharDevice);
        // What was made in a root folder that nobody gave times changes its own.
        if visit == Visit::Leave || left_out || path.as_os_str().is_empty() {
            return Ok(());
        }
        let content = match found.kind {
            NodeKind::File => crc32fast::hash(&std::fs::read(root.join(path)).unwrap()).to_string(),
            NodeKind::Symlink => format!("{:?}", node.target()?),
            _ => String::new(),
        };
        let mut xattrs: Vec<_> = node.xattrs()?.into_iter().map(|name| (node.xattr(&name).unwrap(), name)).collect();
        xattrs.sort();
        let size = if found.kind == NodeKind::File { found.size } else { 0 };
        let owner = (found.uid, found.gid);
        shown.push(format!(
            "{path:?} {:?} {:o} {owner:?} {:?} {size} {content} {xattrs:?}",
            found.kind, found.mode, found.modified
        ));
        Ok::<_, io::Error>(())
    };
    Tree::open(root).unwrap().walk(&mut { walk }).unwrap();
    shown
}

fn publication(compression: Compression) -> Publication {
    Publication {
        architecture: "x86_64".into(),
        created_at: Timestamp(1_700_000_000_000_000),
        properties: Some(BTreeMap::from([("os".to_owned(), "New: \"x\"".to_owned())])),
        compression,
        ..Publication::default()
    }
}

async fn unpacked(store: &ImageStore, info: &ImageInfo, into: &Path) -> ImageFiles {
    let files = store.get(&info.fingerprint).await.unwrap().unwrap();
    std::fs::create_dir(into).unwrap();
    let (limits, progress) = (Limits::default(), Progress::new());
    let job = unpack::Job { place: "test", files: &files, into, limits, progress: &progress };
    unpack::unpack(&HostRunner, job).await.unwrap();
    files
}

#[tokio::test]
async fn an_image_is_what_the_volume_was() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    volume(&from);
    let store = ImageStore::new(dir.path().join("images"));
    for (at, packing) in
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz].into_iter().enumerate()
    {
        let progress = Progress::new();
        let view = TreeView::new(from.clone(), None, None);
        let info = store.publish(view, publication(packing), &progress).await.unwrap();
        assert!(progress.get().0 > 70_001);
        assert_eq!((info.architecture.as_str(), info.creation_date.secs()), ("x86_64", 1_700_000_000));
        assert_eq!(info.properties, publication(packing).properties.unwrap());
        let to = dir.path().join(at.to_string());
        let files = unpacked(&store, &info, &to).await;
        assert_eq!(std::fs::metadata(&files.metadata).unwrap().len(), info.size);
        assert!(info.size < 300_000, "holes are not stored: {}", info.size);
        assert_eq!(shown(&to.join("rootfs")), shown(&from.join("rootfs")), "{packing:?}");
        assert_eq!(shown(&to.join("templates")), shown(&from.join("templates")));
        assert!(!to.join("volume.json").exists());
        let text = std::fs::read_to_string(to.join("metadata.yaml")).unwrap();
        assert!(text.contains("hostname.tpl"), "the list of templates stays: {text}");
        assert_eq!(inspect(&files).unwrap().properties["os"], "New: \"x\"");
    }
    let kept = Publication { properties: None, expires_at: Timestamp(5_000_000), ..publication(Compression::Gzip) };
    let info = store.publish(TreeView::new(from, None, None), kept, &Progress::new()).await.unwrap();
    assert_eq!((info.properties["os"].as_str(), info.expiry.secs()), ("Old", 5));
}

#[tokio::test]
async fn ids_are_the_guests_own() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    volume(&from);
    let store = ImageStore::new(dir.path().join("images"));
    let publish = async |map: Option<IdMap>| {
        let view = TreeView::new(from.clone(), map, None);
        store.publish(view, publication(Compression::None), &Progress::new()).await.unwrap()
    };
    let plain = publish(None).await;
    shift::shift(&from.join("rootfs"), 1_000_000, 65_536).await.unwrap();
    let map = shift::settle(&from.join("rootfs")).unwrap();
    assert_eq!(map.unwrap().base, 1_000_000);
    let shifted = publish(map).await;
    assert_eq!(shifted.fingerprint, plain.fingerprint, "the same bytes");
}

#[tokio::test]
async fn what_cannot_be_an_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::new(dir.path().join("images"));
    let view = TreeView::new(dir.path().join("none"), None, None);
    let error = store.publish(view, publication(Compression::None), &Progress::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host, "{error}");
    assert!(store.list().await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("images")).unwrap().count(), 0, "no upload is left");
}
