//! Images that must be refused, each for its own reason, without a trace outside the place they were unpacked in.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::EntryType;

use super::Archive;

/// A bad image.
#[derive(Debug)]
pub struct Hostile {
    /// What is wrong with it.
    pub name: &'static str,
    pub file: PathBuf,
    /// A file that must not exist after the attempt.
    pub canary: PathBuf,
}

/// What an attack writes into an image: the archive, and the path that it is after.
type Attack = fn(&mut Archive, &str) -> Result<()>;

const ATTACKS: &[(&str, Attack)] = &[
    ("absolute-path", |a, canary| a.raw(EntryType::Regular, canary, "", b"pwned")),
    ("dot-dot", |a, canary| {
        a.raw(EntryType::Regular, &format!("rootfs/../../../../../../../..{canary}"), "", b"pwned")
    }),
    ("symlink-parent", |a, canary| {
        let (folder, name) = canary.rsplit_once('/').context("a canary has a folder")?;
        a.raw(EntryType::Symlink, "rootfs/out", folder, b"")?;
        a.raw(EntryType::Regular, &format!("rootfs/out/{name}"), "", b"pwned")
    }),
    ("symlink-up", |a, canary| {
        a.raw(EntryType::Symlink, "rootfs/up", "../../../../../../../..", b"")?;
        a.raw(EntryType::Regular, &format!("rootfs/up{canary}"), "", b"pwned")
    }),
    ("symlink-root", |a, canary| {
        let (folder, name) = canary.rsplit_once('/').context("a canary has a folder")?;
        a.raw(EntryType::Symlink, "rootfs", folder, b"")?;
        a.raw(EntryType::Regular, &format!("rootfs/{name}"), "", b"pwned")
    }),
    ("hardlink-out", |a, canary| {
        a.raw(EntryType::Link, "rootfs/shadow", "/etc/hostname", b"")?;
        a.raw(EntryType::Link, "rootfs/shadow2", &format!("../../../../../../../..{canary}"), b"")
    }),
    ("hardlink-through-symlink", |a, canary| {
        let (folder, _) = canary.rsplit_once('/').context("a canary has a folder")?;
        a.raw(EntryType::Symlink, "rootfs/out", folder, b"")?;
        a.raw(EntryType::Regular, "rootfs/file", "", b"pwned")?;
        a.raw(EntryType::Link, &format!("rootfs/out{}", &canary[folder.len()..]), "rootfs/file", b"")
    }),
    // Below /dev they are skipped, as stock images have some there; anywhere else one is a way to the disk.
    ("device-node", |a, _| a.raw(EntryType::Block, "rootfs/disk", "", b"")),
    ("metadata-symlink", |a, _| a.raw(EntryType::Symlink, "metadata.yaml", "/etc/passwd", b"")),
];

/// Makes all of them in a folder. Canaries lie in `folder/canaries`, which exists and stays empty unless one escapes.
///
/// # Errors
/// When they cannot be written.
pub fn all(folder: &Path) -> Result<Vec<Hostile>> {
    let canaries = folder.join("canaries");
    std::fs::create_dir_all(&canaries).context("folder of the canaries")?;
    let mut made = Vec::new();
    for (name, attack) in ATTACKS {
        let (file, canary) = (folder.join(format!("{name}.tar.gz")), canaries.join(name));
        let mut archive = Archive::create(&file)?;
        if *name != "metadata-symlink" {
            archive.metadata(name)?;
        }
        if *name != "symlink-root" {
            archive.folder("rootfs", 0o755)?;
            archive.folder("rootfs/dev", 0o755)?;
        }
        attack(&mut archive, &canary.to_string_lossy())?;
        archive.finish()?;
        made.push(Hostile { name, file, canary });
    }
    for (name, make) in [("truncated", truncated as fn(&Path) -> Result<()>), ("garbage", garbage), ("bomb", bomb)] {
        let file = folder.join(format!("{name}.tar.gz"));
        make(&file)?;
        made.push(Hostile { name, file, canary: canaries.join(name) });
    }
    Ok(made)
}

/// The busybox image, cut in the middle.
fn truncated(file: &Path) -> Result<()> {
    super::busybox(file)?;
    let whole = std::fs::metadata(file).context("size of the image")?.len();
    let out = std::fs::OpenOptions::new().write(true).open(file).context("open the image")?;
    out.set_len(whole / 2).context("cut the image")
}

fn garbage(file: &Path) -> Result<()> {
    std::fs::write(file, [0x5a_u8; 4096]).context("write garbage")
}

/// 64 GiB of zeros, in some megabytes: gzip packs a run of zeros a thousandfold, and a member repeated is a member more.
fn bomb(file: &Path) -> Result<()> {
    const GIB: u64 = 1 << 30;
    let mut builder = tar::Builder::new(Vec::new());
    let text = super::metadata("bomb");
    let mut header = Archive::header(EntryType::Regular, 0o644, text.len() as u64);
    builder.append_data(&mut header, "metadata.yaml", text.as_bytes())?;
    let mut header = Archive::header(EntryType::Directory, 0o755, 0);
    builder.append_data(&mut header, "rootfs", std::io::empty())?;
    let mut head = builder.into_inner()?;
    // Without the two empty blocks that end an archive: the big file follows.
    head.truncate(head.len() - 1024);
    let mut header = Archive::header(EntryType::Regular, 0o644, 64 * GIB);
    header.set_path("rootfs/zeros")?;
    header.set_cksum();
    head.extend_from_slice(header.as_bytes());
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).context("make the bomb")?);
    let mut first = GzEncoder::new(Vec::new(), Compression::best());
    first.write_all(&head)?;
    out.write_all(&first.finish()?)?;
    // One compressed member of 64 MiB, again and again: concatenated members are one stream.
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..64 {
        member.write_all(&zeros)?;
    }
    let member = member.finish()?;
    for _ in 0..(64 * GIB / (64 << 20)) {
        out.write_all(&member)?;
    }
    out.flush().context("write the bomb")
}
