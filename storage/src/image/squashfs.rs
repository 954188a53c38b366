//! Roots that come as squashfs, unpacked by `unsquashfs`.
//!
//! The listing is judged before anything is written. A hostile file name with line breaks can add lines to a listing,
//! which only makes the image look worse than it is; it cannot hide one. `unsquashfs` itself refuses names with slashes
//! and two entries of one name, and works in a folder that nobody else knows. Device nodes, which it makes, are taken
//! away again.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use basalt_runtime::{CommandRunner, ExecError, Invocation, spawn_blocking};

use super::rules::{ROOTFS, Refusal, Rules};
use super::scan::refused;
use super::unpack::Job;
use crate::Error;
use crate::beneath::{NodeKind, Tree, Visit};

const PROGRAM: &str = "unsquashfs";
const LIST_DEADLINE: Duration = Duration::from_secs(120);
const EXTRACT_DEADLINE: Duration = Duration::from_secs(1800);

/// Whether this host can unpack squashfs.
pub fn readable() -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"];
    folders.iter().any(|folder| Path::new(folder).join(PROGRAM).exists())
}

/// Reads the superblock: enough to tell a whole file from one that was cut off.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::io(path.display().to_string(), "read squashfs", error);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut block = [0u8; 96];
    let why = match file.read_exact(&mut block) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some("is cut off"),
        Err(error) => return Err(failed(error)),
        Ok(()) => fault(&block, length),
    };
    why.map_or(Ok(()), |why| Err(Error::invalid("image", format!("the squashfs {why}"))))
}

fn fault(block: &[u8; 96], length: u64) -> Option<&'static str> {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| block[at + i]));
    if u16::from_le_bytes([block[28], block[29]]) != 4 {
        return Some("is not of version 4");
    }
    if number(40) > length { Some("is cut off") } else { None }
}

/// Judges the listing, unpacks into `rootfs`, removes device nodes.
pub(super) async fn extract(runner: &dyn CommandRunner, job: Job<'_>, mut rules: Rules) -> Result<(), Error> {
    let source = job.files.rootfs.as_deref().unwrap_or(&job.files.metadata);
    let listing = runner.run(list(source)).await.map_err(|error| fault_of(job.place, "list squashfs", error))?;
    judge(&listing.stdout, &mut rules).map_err(refused)?;
    let into = job.into.to_owned();
    let attributes = spawn_blocking("probe attributes", move || Attributes::probe(&into)).await?;
    let attributes = attributes.map_err(|error| Error::io(job.place, "probe attributes", error))?;
    let command = unpack(source, &job.into.join(ROOTFS), attributes);
    runner.run(command).await.map_err(|error| fault_of(job.place, "unpack squashfs", error))?;
    job.progress.add(std::fs::metadata(source).map_or(0, |found| found.len()));
    let into = job.into.join(ROOTFS);
    spawn_blocking("remove devices", move || remove_devices(&into)).await?
}

/// What the file system keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attributes {
    All,
    User,
    None,
}

impl Attributes {
    fn probe(folder: &Path) -> io::Result<Self> {
        let tree = Tree::open(folder)?;
        drop(tree.create(".probe", 0o600)?);
        let node = tree.node(".probe")?;
        // cap_net_raw+ep, as `setcap` writes it.
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let found = if node.set_xattr("security.capability", &capability).is_ok() {
            Attributes::All
        } else if node.set_xattr("user.probe", b"1").is_ok() {
            Attributes::User
        } else {
            Attributes::None
        };
        tree.remove(".probe")?;
        Ok(found)
    }
}

fn list(source: &Path) -> Invocation {
    Invocation::new(PROGRAM).args(["-lln", "-d", ""]).arg(source.to_string_lossy()).deadline(LIST_DEADLINE)
}

fn unpack(source: &Path, target: &Path, attributes: Attributes) -> Invocation {
    let xattrs = match attributes {
        Attributes::All => "-xattrs",
        Attributes::User => "-user-xattrs",
        Attributes::None => "-no-xattrs",
    };
    Invocation::new(PROGRAM)
        .args(["-no-progress", xattrs, "-d"])
        .arg(target.to_string_lossy())
        .arg(source.to_string_lossy())
        .deadline(EXTRACT_DEADLINE)
}

/// One line of `unsquashfs -lln`.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    device: bool,
    size: u64,
    path: String,
}

/// `-rw-r--r-- 0/0   100000 2026-11-23 01:13 /etc/z`; devices have `1,  3` for a size.
fn line(text: &str) -> Option<Line> {
    let (mode, rest) = text.split_once(' ')?;
    let kind = mode.chars().next().filter(|kind| mode.len() == 10 && "-dlcbps".contains(*kind))?;
    let (owner, rest) = rest.trim_start().split_once(' ')?;
    owner.split_once('/')?;
    let device = matches!(kind, 'c' | 'b');
    let rest = rest.trim_start();
    let (size, rest) = if device {
        let (_, minor) = rest.split_once(',')?;
        (0, minor.trim_start().split_once(' ')?.1)
    } else {
        let (size, rest) = rest.split_once(' ')?;
        (size.parse().ok()?, rest)
    };
    let (_date, rest) = rest.trim_start().split_once(' ')?;
    let (_time, path) = rest.split_once(' ')?;
    Some(Line { device, size: if kind == '-' { size } else { 0 }, path: path.to_owned() })
}

fn judge(listing: &[u8], rules: &mut Rules) -> Result<(), Refusal> {
    let listing = String::from_utf8_lossy(listing);
    for found in listing.lines().filter_map(line) {
        rules.count(found.size)?;
        if found.device && !found.path.starts_with("/dev/") {
            return Err(Refusal::Member { path: found.path.into_bytes(), why: "is a device outside /dev" });
        }
    }
    Ok(())
}

fn remove_devices(root: &Path) -> Result<(), Error> {
    let failed = |error| Error::io(root.display().to_string(), "remove devices", error);
    let tree = Tree::open(root).map_err(failed)?;
    let mut devices: Vec<PathBuf> = Vec::new();
    let mut look = |path: &Path, node: &crate::beneath::Node, visit: Visit| {
        if visit == Visit::Enter && matches!(node.attributes().kind, NodeKind::CharDevice | NodeKind::BlockDevice) {
            devices.push(path.to_owned());
        }
        Ok::<_, io::Error>(())
    };
    tree.walk(&mut look).map_err(failed)?;
    for path in devices {
        if !path.starts_with("dev") {
            return Err(Error::invalid("image refused", format!("{} is a device outside /dev", path.display())));
        }
        tree.remove(&path).map_err(failed)?;
    }
    Ok(())
}

/// When it ran and failed, the image is bad, unless the disk is full.
fn fault_of(place: &str, step: &str, error: ExecError) -> Error {
    let ran = error.exit_code().is_some();
    let said = error.stderr().trim().to_owned();
    match Error::exec(place, step, error) {
        Error::Host { .. } if ran => Error::invalid("image", format!("the squashfs cannot be unpacked: {said}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    const LISTING: &str = "\
drwxr-xr-x 0/0                      37 2026-11-23 01:13 \n\
crw-r--r-- 0/0                   1,  3 2026-11-23 01:13 /dev/null\n\
-rw-r--r-- 0/0                       7 2026-11-23 01:13 /etc/a\nb\n\
lrwxrwxrwx 0/0                       4 2026-11-23 01:13 /etc/l -> ../x\n\
-rw-r--r-- 0/0                  100000 2026-11-23 01:13 /etc/z\n";

    #[test]
    fn lines() {
        let found: Vec<_> = LISTING.lines().filter_map(line).map(|l| (l.device, l.size, l.path)).collect();
        let expect = [
            (false, 0, ""),
            (true, 0, "/dev/null"),
            (false, 7, "/etc/a"),
            (false, 0, "/etc/l -> ../x"),
            (false, 100_000, "/etc/z"),
        ];
        assert_eq!(found, expect.map(|(device, size, path)| (device, size, path.to_owned())));
    }

    #[test]
    fn listings_are_judged() {
        let limits = Limits { bytes: 100_007, ..Limits::default() };
        assert_eq!(judge(LISTING.as_bytes(), &mut Rules::new(limits, 1)), Ok(()));
        let limits = Limits { bytes: 100_006, ..Limits::default() };
        assert_eq!(judge(LISTING.as_bytes(), &mut Rules::new(limits, 1)), Err(Refusal::NoSpace(100_006)));
        let outside = LISTING.replace("/dev/null", "/etc/null");
        assert!(judge(outside.as_bytes(), &mut Rules::new(Limits::default(), 1)).is_err());
    }

    #[test]
    fn superblocks() {
        let mut block = [0u8; 96];
        block[28] = 4;
        block[40] = 96;
        assert_eq!(fault(&block, 96), None);
        assert_eq!(fault(&block, 95), Some("is cut off"));
        block[28] = 3;
        assert!(fault(&block, 96).is_some());
    }

    #[test]
    fn argument_vectors() {
        assert_eq!(list(Path::new("/i/x.rootfs")).argv(), ["unsquashfs", "-lln", "-d", "", "/i/x.rootfs"]);
        let unpack = unpack(Path::new("/i/x"), Path::new("/p/rootfs"), Attributes::User);
        assert_eq!(unpack.argv(), ["unsquashfs", "-no-progress", "-user-xattrs", "-d", "/p/rootfs", "/i/x"]);
    }
}
