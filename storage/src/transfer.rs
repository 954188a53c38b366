//! Volumes as streams: what [`crate::Transfers::send`] writes and [`crate::Transfers::receive`] reads, the same for every
//! driver.
//!
//! ```text
//!  TreeView --pack (thread)--> blocks --channel--> connection ... connection --channel--> unpack (thread) --> new folder
//! ```
//!
//! A stream holds whole trees: each snapshot, oldest first, and then the point that the new volume starts at. All that a
//! tree holds travels: owners (the guest's own ids), modes with set-uid bits, times, hard links, holes, special files,
//! ACLs, `user.*` attributes, file capabilities, and the marks of overlay file systems. Labels of the host's own security
//! modules do not. What lies beside the root travels too, but for the stamps of the old place.
//!
//! **Invariants.** A stream comes from another member but holds what a guest wrote, so reading it trusts nothing: [`block`]
//! sees damage, [`record`] bounds every length and name, and [`unpack`] makes entries through [`crate::beneath`], in a new
//! folder that nobody else knows. **Failure.** What was made of a bad stream is the caller's to throw away. A sender whose
//! receiver went away ends with its next block, and the other way round.
//!
//! **Not here.** Sending only what changed between two trees: a stream of a volume with many snapshots holds each file as
//! often as it was in one.

mod block;
mod pack;
mod record;
mod unpack;

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use basalt_model::SnapshotId;
use basalt_runtime::spawn_blocking;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Error, Progress, TreeView};

/// Names beside the root that say whose a volume is and how its ids stand: they belong to one place and never travel.
pub(crate) const STAMPS: [&str; 4] = ["volume.json", "snapshot.json", crate::shift::FILES[0], crate::shift::FILES[1]];

/// What a tree is in its parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// A snapshot, by its id at the new place.
    Snapshot(SnapshotId),
    /// What the volume starts as.
    Point,
}

/// One tree to send.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) label: Label,
    pub(crate) view: TreeView,
    /// Whether it may change while it is read.
    pub(crate) live: bool,
}

/// Where trees come to lie.
#[async_trait]
pub(crate) trait Sink: Send {
    /// An empty folder for the next tree. The point comes last.
    async fn begin(&mut self, label: Label) -> Result<PathBuf, Error>;

    /// The tree is whole, but nothing is on disk yet.
    async fn finish(&mut self, label: Label) -> Result<(), Error>;
}

/// Writes the sources, the point last, as one stream.
pub(crate) async fn send(
    place: &str,
    sources: Vec<Source>,
    out: &mut (dyn AsyncWrite + Send + Unpin),
    progress: &Progress,
) -> Result<(), Error> {
    let (blocks, made) = block::channel();
    let pack = spawn_blocking("pack volume", move || pack::stream(&sources, block::Writer::new(blocks)));
    let (packed, written) = tokio::join!(pack, block::write(made, out, progress));
    let packed = packed?;
    // A connection that broke makes the packing fail too, and is the cause.
    written.map_err(|error| Error::io(place, "write volume to stream", error))?;
    packed.map_err(|error| Error::io(place, "read volume for stream", error))
}

/// Reads one stream to its end.
pub(crate) async fn receive(
    place: &str,
    sink: &mut dyn Sink,
    input: &mut (dyn AsyncRead + Send + Unpin),
    progress: &Progress,
) -> Result<(), Error> {
    let (blocks, read) = block::channel();
    let mut reader = block::Reader::new(read);
    let mut seen: Vec<SnapshotId> = Vec::new();
    let work = async {
        loop {
            let (label, next) = spawn_blocking("read stream", move || (unpack::begin(&mut reader), reader)).await?;
            reader = next;
            let label = label.map_err(|error| broken(place, error))?;
            if let Label::Snapshot(id) = label {
                if seen.contains(&id) {
                    return Err(Error::invalid("stream", format!("holds snapshot {id} twice")));
                }
                seen.push(id);
            }
            let (into, pool) = (sink.begin(label).await?, place.to_owned());
            reader = spawn_blocking("unpack volume", move || unpack::tree(&pool, &into, reader)).await??;
            sink.finish(label).await?;
            if label == Label::Point {
                let ended = spawn_blocking("read stream", move || unpack::end(reader)).await?;
                return ended.map_err(|error| broken(place, error));
            }
        }
    };
    // The reading arm never ends: what goes wrong there comes out of the working one.
    tokio::select! {
        done = work => done,
        never = block::read(blocks, input, progress) => match never {},
    }
}

/// Extended attributes that travel: those that speak to the guest, and to overlay file systems that a guest mounts.
fn is_kept(name: &[u8]) -> bool {
    crate::image::unpack::is_kept(name) || name.starts_with(b"trusted.overlay.")
}

/// An error of the stream: its own fault, unless the system says otherwise.
fn broken(place: &str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::io(place, "read stream", error),
        None => Error::invalid("volume refused", error.to_string()),
    }
}

#[cfg(test)]
mod tests;
