//! Makes an image of a volume: a unified tarball of its root, its templates and new metadata, put into the image store as
//! it is written. Owner ids are the guest's own.
//!
//! Left out are sockets, which mean nothing without who listens on them, and device nodes, which no image may hold.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use basalt_model::Timestamp;
use basalt_model::image::Compression;
use basalt_runtime::spawn_blocking;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::archive::{Archive, Entry, Kind, Layout};
use super::rules::{METADATA, ROOTFS, TEMPLATES};
use super::unpack::is_kept;
use super::{ImageInfo, ImageStore};
use crate::beneath::{Node, NodeKind, Tree, Visit};
use crate::copy::next_data;
use crate::shift::Unshift;
use crate::{Error, Progress, TreeView};

/// Bytes between the two ends, at most eight times this.
const CHUNK: usize = 256 << 10;
/// The most pieces of a file that readers take; what has more is stored whole.
const MAX_RUNS: usize = 4096;
/// A template list that is longer is not one of ours.
const MAX_METADATA: u64 = 1 << 20;

/// What an image is to say of itself.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Kernel's word for the architecture.
    pub architecture: String,
    /// When it is made.
    pub created_at: Timestamp,
    /// When it is out of date; never if zero.
    pub expires_at: Timestamp,
    /// In place of those of the image that the volume came from; `None` keeps them.
    pub properties: Option<BTreeMap<String, String>>,
    /// How it is packed.
    pub compression: Compression,
}

impl ImageStore {
    /// Makes an image of what a view shows, which nobody must change meanwhile. `progress` counts bytes of the volume's
    /// files. An image that is there already is made again, and is the same.
    pub async fn publish(
        &self,
        view: TreeView,
        publication: Publication,
        progress: &Progress,
    ) -> Result<ImageInfo, Error> {
        let mut import = self.begin_import().await?;
        let (chunks, mut made) = mpsc::channel(8);
        let progress = progress.clone();
        let pack = spawn_blocking("pack image", move || pack(&view, &publication, &progress, chunks));
        let store = async {
            while let Some(chunk) = made.recv().await {
                import.write(&chunk).await?;
            }
            Ok::<_, Error>(())
        };
        let (packed, stored) = tokio::join!(pack, store);
        // A store that is full makes the packing fail too, and is the cause.
        stored?;
        packed?.map_err(|error| Error::io("volume", "pack image", error))?;
        import.finish(None).await
    }
}

fn pack(
    view: &TreeView,
    publication: &Publication,
    progress: &Progress,
    chunks: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let volume = Tree::open(view.volume())?;
    let out = Packed::new(publication.compression, Chunks { chunks, chunk: Vec::with_capacity(CHUNK) })?;
    let mut archive = Archive::new(out);
    let metadata = metadata(&volume, publication)?;
    let entry = Entry {
        path: METADATA.into(),
        kind: Kind::File,
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: (i64::try_from(publication.created_at.secs()).unwrap_or(0), 0),
        xattrs: Vec::new(),
    };
    let length = metadata.len() as u64;
    let layout = Layout { runs: vec![(0, length)], size: length };
    archive.file(&entry, &layout, &mut |out| out.write_all(&metadata))?;
    let ids = Unshift::of(view.shifted());
    let mut pack = Pack { archive: &mut archive, progress, ids, linked: HashMap::new() };
    pack.tree(&volume, ROOTFS)?;
    if volume.exists(TEMPLATES)? {
        pack.ids = Unshift::of(None);
        pack.tree(&volume, TEMPLATES)?;
    }
    archive.finish()?.finish()?.finish()
}

/// `metadata.yaml` in the part of YAML that is JSON. The list of templates is that of the volume's image.
fn metadata(volume: &Tree, publication: &Publication) -> io::Result<Vec<u8>> {
    let old = match volume.open_file(METADATA) {
        Ok(file) if file.metadata()?.len() <= MAX_METADATA => io::read_to_string(file)?,
        Ok(_) => String::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    // Broken or missing: then there is nothing to keep.
    let old: Value = serde_saphyr::from_str(&old).unwrap_or_default();
    let mut new = json!({
        "architecture": publication.architecture,
        "creation_date": publication.created_at.secs(),
        "properties": match &publication.properties {
            Some(properties) => json!(properties),
            None => old.get("properties").filter(|found| found.is_object()).cloned().unwrap_or_else(|| json!({})),
        },
    });
    if publication.expires_at != Timestamp::NEVER {
        new["expiry_date"] = json!(publication.expires_at.secs());
    }
    if let Some(templates) = old.get(TEMPLATES).filter(|found| found.is_object()) {
        new[TEMPLATES] = templates.clone();
    }
    Ok(serde_json::to_vec_pretty(&new)?)
}

struct Pack<'a> {
    archive: &'a mut Archive<Packed>,
    progress: &'a Progress,
    ids: Unshift,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl Pack<'_> {
    fn tree(&mut self, volume: &Tree, top: &str) -> io::Result<()> {
        volume.subtree(top)?.walk(&mut |path, node, visit| match visit {
            Visit::Enter => self.entry(&Path::new(top).join(path), node),
            Visit::Leave => Ok(()),
        })
    }

    fn entry(&mut self, path: &Path, node: &Node) -> io::Result<()> {
        let found = node.attributes();
        let kind = match found.kind {
            NodeKind::File => Kind::File,
            NodeKind::Dir => Kind::Dir,
            NodeKind::Symlink => Kind::Symlink,
            NodeKind::Fifo => Kind::Fifo,
            NodeKind::Socket | NodeKind::CharDevice | NodeKind::BlockDevice => return Ok(()),
        };
        let path: Vec<u8> = path.components().collect::<PathBuf>().into_os_string().into_encoded_bytes();
        let mut entry = Entry {
            path: path.clone(),
            kind,
            link: Vec::new(),
            mode: found.mode,
            uid: self.ids.id(found.uid),
            gid: self.ids.id(found.gid),
            modified: found.modified,
            xattrs: Vec::new(),
        };
        if found.links > 1 && kind != Kind::Dir {
            if let Some(first) = self.linked.get(&found.identity) {
                let link = first.clone();
                return self.archive.bare(&Entry { kind: Kind::HardLink, link, ..entry });
            }
            self.linked.insert(found.identity, path);
        }
        for name in node.xattrs()?.into_iter().filter(|name| is_kept(name.as_bytes())) {
            if let Some(value) = node.xattr(&name)? {
                let name = name.into_encoded_bytes();
                let value = self.ids.xattr(&name, value);
                entry.xattrs.push((name, value));
            }
        }
        match kind {
            Kind::File => self.file(&entry, node),
            Kind::Symlink => {
                entry.link = node.target()?.into_os_string().into_encoded_bytes();
                self.archive.bare(&entry)
            }
            Kind::Dir => {
                entry.path.push(b'/');
                self.archive.bare(&entry)
            }
            Kind::Fifo | Kind::HardLink => self.archive.bare(&entry),
        }
    }

    fn file(&mut self, entry: &Entry, node: &Node) -> io::Result<()> {
        let found = node.attributes();
        let file = node.reopen(true, false, false)?;
        let layout = layout(&file, found.size, found.allocated >= found.size)?;
        let progress = self.progress;
        self.archive.file(entry, &layout, &mut |out| {
            layout.runs.iter().try_for_each(|(start, end)| copy(&file, *start, *end, out))?;
            progress.add(layout.size);
            Ok(())
        })
    }
}

fn layout(file: &File, size: u64, dense: bool) -> io::Result<Layout> {
    let whole = Layout { runs: if size == 0 { Vec::new() } else { vec![(0, size)] }, size };
    if dense {
        return Ok(whole);
    }
    let (mut runs, mut at) = (Vec::new(), 0);
    while let Some((start, end)) = next_data(file, at, size)? {
        if runs.len() == MAX_RUNS {
            return Ok(whole);
        }
        runs.push((start, end));
        at = end;
    }
    Ok(Layout { runs, size })
}

fn copy(file: &File, mut at: u64, end: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0u8; 128 << 10];
    while at < end {
        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let got = file.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.write_all(&buffer[..got])?;
        at += got as u64;
    }
    Ok(())
}

/// The blocking end of the channel to the image store.
struct Chunks {
    chunks: mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() >= CHUNK {
            self.send()?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that packs what is written to it.
enum Packed {
    None(Chunks),
    Gzip(flate2::write::GzEncoder<Chunks>),
    Zstd(zstd::stream::write::Encoder<'static, Chunks>),
    Xz(liblzma::write::XzEncoder<Chunks>),
}

impl Packed {
    fn new(compression: Compression, out: Chunks) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Packed::None(out),
            Compression::Gzip => Packed::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::default())),
            Compression::Zstd => Packed::Zstd(zstd::stream::write::Encoder::new(out, 3)?),
            Compression::Xz => Packed::Xz(liblzma::write::XzEncoder::new(out, 6)),
        })
    }

    fn finish(self) -> io::Result<Chunks> {
        match self {
            Packed::None(out) => Ok(out),
            Packed::Gzip(encoder) => encoder.finish(),
            Packed::Zstd(encoder) => encoder.finish(),
            Packed::Xz(encoder) => encoder.finish(),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Packed::None(out) => out.write(bytes),
            Packed::Gzip(encoder) => encoder.write(bytes),
            Packed::Zstd(encoder) => encoder.write(bytes),
            Packed::Xz(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
