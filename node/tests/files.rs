//! Files of guests on the real host: a stopped one in a folder pool, hostile links and all, and running ones under the
//! real engine, seen through their own mounts.
#![allow(clippy::unwrap_used)]

#[path = "files/bed.rs"]
mod bed;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use basalt_api::port::files::{FileAttributes, FileError, FileKind, Files, OpenOptions, SetAttributes};
use bytes::Bytes;

use crate::bed::{Bed, Sort};

const READ: OpenOptions =
    OpenOptions { read: true, write: false, append: false, truncate: false, create: None, exclusive: false };
const WRITE: OpenOptions =
    OpenOptions { read: false, write: true, append: false, truncate: true, create: Some(0o644), exclusive: false };

fn path(text: &str) -> &Path {
    Path::new(text)
}

async fn read(bed: &Bed, at: &str) -> Result<String, FileError> {
    let file = bed.files.open(bed.id, path(at), READ).await?;
    let bytes = file.read_at(0, 1 << 16).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn write(bed: &Bed, at: &str, text: &str) -> Result<(), FileError> {
    let file = bed.files.open(bed.id, path(at), WRITE).await?;
    file.write_at(0, Bytes::copy_from_slice(text.as_bytes())).await
}

async fn stat(bed: &Bed, at: &str) -> FileAttributes {
    bed.files.stat(bed.id, path(at), false).await.unwrap()
}

async fn names(bed: &Bed, at: &str) -> Vec<String> {
    let mut dir = bed.files.open_dir(bed.id, path(at)).await.unwrap();
    let mut names = Vec::new();
    loop {
        let found = dir.next(2).await.unwrap();
        if found.is_empty() {
            names.sort();
            return names;
        }
        names.extend(found.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()));
    }
}

/// What every guest's files must do, wherever they are: `dir` is a folder of the guest's root.
async fn suite(bed: &Bed, dir: &str) {
    let at = |name: &str| format!("{dir}/{name}");
    let files = &bed.files;
    let go = |name: &str| std::path::PathBuf::from(at(name));
    assert!(matches!(read(bed, &at("a")).await, Err(FileError::NotFound)));
    write(bed, &at("a"), "hello").await.unwrap();
    assert_eq!(read(bed, &at("a")).await.unwrap(), "hello");
    let made = stat(bed, &at("a")).await;
    assert_eq!((made.kind, made.mode, made.uid, made.gid, made.size), (FileKind::File, 0o644, 0, 0, 5));
    let exclusive = OpenOptions { exclusive: true, ..WRITE };
    assert!(matches!(files.open(bed.id, &go("a"), exclusive).await.err(), Some(FileError::Exists)));
    let append = OpenOptions { append: true, truncate: false, ..WRITE };
    let file = files.open(bed.id, &go("a"), append).await.unwrap();
    file.write_at(0, Bytes::from_static(b" world")).await.unwrap();
    let set = SetAttributes { uid: Some(5), gid: Some(6), mode: Some(0o4755), times: Some((1, 2)), size: Some(8) };
    file.set_attributes(set).await.unwrap();
    file.sync().await.unwrap();
    let seen = file.attributes().await.unwrap();
    assert_eq!((seen.mode, seen.uid, seen.gid, seen.size, seen.modified), (0o4755, 5, 6, 8, 2));
    assert_eq!(stat(bed, &at("a")).await, seen);
    assert_eq!(read(bed, &at("a")).await.unwrap(), "hello wo");
    // A folder of another user of the guest, which only its root may write to.
    files.mkdir(bed.id, &go("d"), 0o700).await.unwrap();
    let set = SetAttributes { uid: Some(1000), gid: Some(1000), ..SetAttributes::default() };
    files.set_attributes(bed.id, &go("d"), set).await.unwrap();
    write(bed, &at("d/in"), "x").await.unwrap();
    assert_eq!(stat(bed, &at("d/in")).await.uid, 0);
    assert!(matches!(files.remove_dir(bed.id, &go("d")).await, Err(FileError::NotEmpty)));
    assert!(matches!(files.remove_file(bed.id, &go("d")).await, Err(FileError::IsDir | FileError::Permission)));
    assert!(matches!(write(bed, &at("d"), "x").await, Err(FileError::IsDir)));
    let wrong = SetAttributes { uid: Some(u32::MAX), ..SetAttributes::default() };
    assert!(matches!(files.set_attributes(bed.id, &go("d"), wrong).await, Err(FileError::Invalid(_))));
    // Links: within the guest, also to what is not there yet.
    files.symlink(bed.id, &go("new"), &go("l")).await.unwrap();
    assert_eq!(files.readlink(bed.id, &go("l")).await.unwrap(), go("new"));
    write(bed, &at("l"), "through").await.unwrap();
    assert_eq!(read(bed, &at("new")).await.unwrap(), "through");
    assert_eq!(stat(bed, &at("l")).await.kind, FileKind::Symlink);
    files.hard_link(bed.id, &go("new"), &go("h")).await.unwrap();
    assert_eq!(stat(bed, &at("h")).await.links, 2);
    assert!(matches!(files.rename(bed.id, &go("a"), &go("h"), false).await, Err(FileError::Exists)));
    files.rename(bed.id, &go("a"), &go("h"), true).await.unwrap();
    assert_eq!(names(bed, dir).await, ["d", "h", "l", "new"]);
    for name in ["h", "l", "new", "d/in"] {
        files.remove_file(bed.id, &go(name)).await.unwrap();
    }
    files.remove_dir(bed.id, &go("d")).await.unwrap();
    assert!(names(bed, dir).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_guest_by_its_volume() {
    let Some(bed) = Bed::fake().await else { return };
    std::fs::create_dir(bed.root.join("work")).unwrap();
    suite(&bed, "/work").await;
    write(&bed, "/work/f", "x").await.unwrap();
    assert_eq!(std::fs::metadata(bed.root.join("work/f")).unwrap().uid(), 0);
    // And one whose volume was shifted on disk.
    basalt_storage::shift::shift(&bed.root, 1_000_000, 65_536).await.unwrap();
    assert_eq!(stat(&bed, "/work/f").await.uid, 0);
    bed.files.remove_file(bed.id, path("/work/f")).await.unwrap();
    suite(&bed, "/work").await;
    write(&bed, "/work/f", "x").await.unwrap();
    let found = std::fs::metadata(bed.root.join("work/f")).unwrap();
    assert_eq!((found.uid(), found.gid()), (1_000_000, 1_000_000));
    // What the guest does not know obeys its mode for others.
    std::fs::write(bed.root.join("work/host"), "secret").unwrap();
    std::fs::set_permissions(bed.root.join("work/host"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(stat(&bed, "/work/host").await.uid, 65_534);
    assert!(matches!(read(&bed, "/work/host").await, Err(FileError::Permission)));
    assert!(matches!(write(&bed, "/work/host", "x").await, Err(FileError::Permission)));
    let mine = SetAttributes { uid: Some(0), ..SetAttributes::default() };
    assert!(matches!(bed.files.set_attributes(bed.id, path("/work/host"), mine).await, Err(FileError::Permission)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leads_out_of_a_guest() {
    let Some(bed) = Bed::fake().await else { return };
    let outside = bed.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let inside = |name: &str| bed.root.join(name);
    symlink(outside.join("secret"), inside("file")).unwrap();
    symlink(&outside, inside("folder")).unwrap();
    symlink("../../../../../../../../../../../../../../../../../../../", inside("up")).unwrap();
    symlink("/proc/self/root", inside("magic")).unwrap();
    symlink("loop", inside("loop")).unwrap();
    let beyond = format!("up{}", outside.display());
    nix::unistd::mkfifo(&inside("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let secrets =
        ["file", "folder/secret", "magic/etc/passwd", "loop", "/..", &format!("{beyond}/secret"), "pipe", "a\0b"];
    for at in secrets {
        assert!(read(&bed, at).await.is_err(), "{at} was read");
    }
    for at in ["folder/new", &format!("{beyond}/new"), "magic/tmp/new", "loop", "/", "..", "pipe"] {
        assert!(write(&bed, at, "x").await.is_err(), "{at} was written");
        assert!(bed.files.mkdir(bed.id, path(at), 0o755).await.is_err(), "{at} was made");
    }
    assert!(bed.files.remove_file(bed.id, path("folder/secret")).await.is_err());
    assert!(bed.files.rename(bed.id, path("folder/secret"), path("mine"), true).await.is_err());
    assert!(bed.files.hard_link(bed.id, path("folder/secret"), path("mine")).await.is_err());
    let set = SetAttributes { mode: Some(0o777), ..SetAttributes::default() };
    assert!(bed.files.set_attributes(bed.id, path("folder/secret"), set).await.is_err());
    assert!(bed.files.open_dir(bed.id, path("folder")).await.is_err());
    // Writing through a link to nothing makes the file where the guest would: in the guest.
    std::fs::create_dir_all(bed.root.join(outside.strip_prefix("/").unwrap())).unwrap();
    write(&bed, "file", "the guest's").await.unwrap();
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(read(&bed, &outside.join("secret").to_string_lossy()).await.unwrap(), "the guest's");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

async fn running(sort: Sort) {
    let Some(bed) = Bed::lxc(sort).await else { return };
    // The root volume, and a tmpfs that the guest mounted by itself.
    assert_eq!(stat(&bed, "/etc/inittab").await.uid, 0);
    for dir in ["/work", "/mnt/work"] {
        bed.files.mkdir(bed.id, path(dir), 0o755).await.unwrap();
        suite(&bed, dir).await;
    }
    write(&bed, "/work/f", "x").await.unwrap();
    let on_disk = std::fs::metadata(bed.root.join("work/f")).unwrap();
    assert_eq!((on_disk.uid(), on_disk.gid()), (0, 0), "an id map of the mount keeps the guest's ids on disk");
    assert_eq!(bed.sh("/bin/cat /work/f; /bin/ls -n /work/f | /bin/busybox awk '{print $3, $4}'").await, "x0 0");
    assert!(!bed.root.join("mnt/work").exists(), "it is in the guest's mount");
    bed.sh("/bin/busybox ln -s /mnt/work /to; /bin/busybox chown 7:8 /work/f; echo in > /mnt/work/g").await;
    assert_eq!(read(&bed, "/to/g").await.unwrap(), "in\n");
    assert_eq!(stat(&bed, "/work/f").await.uid, 7);
    // Windows on the kernel are listed and left alone.
    assert!(!names(&bed, "/proc").await.is_empty());
    for at in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/environ", "/proc/1/root/etc/inittab"] {
        assert!(read(&bed, at).await.is_err(), "{at} was read");
        assert!(write(&bed, at, "x").await.is_err(), "{at} was written");
    }
    assert!(write(&bed, "/dev/null", "x").await.is_err());
    bed.stop().await;
    assert_eq!(read(&bed, "/work/f").await.unwrap(), "x");
    assert!(bed.files.stat(bed.id, path("/mnt/work"), true).await.is_err(), "its mounts are gone");
    bed.destroy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_guest_with_an_id_map() {
    running(Sort::Mapped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_privileged_guest() {
    running(Sort::Privileged).await;
}
