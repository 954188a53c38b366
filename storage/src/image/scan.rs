//! Reads the archives of an image member by member, by the rules; alone this is the check of an upload.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use basalt_model::instance::Kind;

use super::codec::{self, Format};
use super::rules::{Action, Part, Rules};
use super::tarball::{Member, TarReader};
use super::{ImageFiles, ImageMetadata, Limits, metadata, squashfs};
use crate::{Error, Progress};

/// What a whole image holds.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) metadata: ImageMetadata,
    pub(super) kind: Kind,
}

/// The bytes of the member that is being visited.
pub(super) struct Data<'a> {
    reader: &'a mut TarReader<Box<dyn Read + Send>>,
    member: &'a Member,
}

impl Data<'_> {
    /// Hands out runs of bytes with their offsets.
    pub(super) fn copy(&mut self, take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        self.reader.data(self.member, take)
    }

    /// The bytes of a small file.
    pub(super) fn metadata(&mut self) -> Result<ImageMetadata, Error> {
        let mut bytes = Vec::new();
        // One byte more than is allowed, so that the reader below sees that it is too long.
        let copied = self.copy(&mut |_, run| {
            if bytes.len() <= 2 << 20 {
                bytes.extend_from_slice(run);
            }
            Ok(())
        });
        copied.map_err(|error| broken(&error))?;
        metadata::read(&mut bytes.as_slice())
    }
}

/// Called with what the rules decided on each member.
pub(super) type Visit<'a> = dyn FnMut(&Action, &Member, &mut Data<'_>) -> Result<ControlFlow<()>, Error> + 'a;

/// Reads one tarball to its end, or until `visit` breaks off.
pub(super) fn read(
    path: &Path,
    part: Part,
    rules: &mut Rules,
    progress: &Progress,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let progress = progress.clone();
    let stream = codec::open_tarball(path, move |bytes| progress.add(bytes))?;
    // Headers count too, so a stream may be somewhat longer than what its files hold.
    let most = rules.allowed().saturating_mul(2).saturating_add(64 << 20);
    let stream: Box<dyn Read + Send> = Box::new(Bounded { inner: stream, left: most });
    let mut reader = TarReader::new(stream);
    while let Some(member) = reader.next().map_err(|error| broken(&error))? {
        let action = rules.admit(part, &member).map_err(refused)?;
        let mut data = Data { reader: &mut reader, member: &member };
        if visit(&action, &member, &mut data)?.is_break() {
            return Ok(());
        }
    }
    reader.finish().map_err(|error| broken(&error))
}

/// Only what the image says of itself.
pub(super) fn metadata_only(files: &ImageFiles, limits: &Limits) -> Result<ImageMetadata, Error> {
    let part = if files.rootfs.is_some() { Part::Metadata } else { Part::Unified };
    let mut rules = Rules::new(*limits, packed(files)?);
    let mut found = None;
    read(&files.metadata, part, &mut rules, &Progress::new(), &mut |action, _, data| {
        if *action != Action::Metadata {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(data.metadata()?);
        Ok(ControlFlow::Break(()))
    })?;
    found.ok_or_else(no_metadata)
}

/// Reads everything that can be read without unpacking, and says what the image is.
pub(super) fn whole(files: &ImageFiles, limits: &Limits) -> Result<Found, Error> {
    let part = if files.rootfs.is_some() { Part::Metadata } else { Part::Unified };
    let mut rules = Rules::new(*limits, packed(files)?);
    let (mut found, mut kind) = (None, None);
    read(&files.metadata, part, &mut rules, &Progress::new(), &mut |action, _, data| {
        match action {
            Action::Metadata => found = Some(data.metadata()?),
            Action::Disk => kind = Some(Kind::VirtualMachine),
            Action::Dir(path) | Action::File(path) if path.starts_with(super::rules::ROOTFS) => {
                kind = kind.or(Some(Kind::Container));
            }
            Action::Dir(_) | Action::File(_) | Action::Symlink(_) | Action::HardLink { .. } | Action::Fifo(_) => {}
            Action::Skip => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let metadata = found.ok_or_else(no_metadata)?;
    if let Some(rootfs) = &files.rootfs {
        kind = Some(root_kind(rootfs, &mut rules)?);
    }
    let kind = kind.ok_or_else(|| Error::invalid("image", "holds neither rootfs/ nor a disk image"))?;
    Ok(Found { metadata, kind })
}

fn root_kind(rootfs: &Path, rules: &mut Rules) -> Result<Kind, Error> {
    match format(rootfs)? {
        Format::Qcow2 => Ok(Kind::VirtualMachine),
        Format::Squashfs => squashfs::check(rootfs).map(|()| Kind::Container),
        Format::Tar(_) => {
            let mut members = 0u64;
            read(rootfs, Part::Root, rules, &Progress::new(), &mut |_, _, _| {
                members += 1;
                Ok(ControlFlow::Continue(()))
            })?;
            if members == 0 { Err(Error::invalid("image", "has an empty root")) } else { Ok(Kind::Container) }
        }
    }
}

/// What a file holds, by its first bytes.
pub(super) fn format(path: &Path) -> Result<Format, Error> {
    let failed = |source| Error::io(path.display().to_string(), "open archive", source);
    let mut file = File::open(path).map_err(failed)?;
    codec::sniff(&mut file).map_err(failed)?.map_err(|why| Error::invalid("image", why))
}

/// Bytes of all the image's archives.
pub(super) fn packed(files: &ImageFiles) -> Result<u64, Error> {
    let mut sum = 0;
    for path in std::iter::once(&files.metadata).chain(&files.rootfs) {
        let found = std::fs::metadata(path);
        sum += found.map_err(|error| Error::io(path.display().to_string(), "open archive", error))?.len();
    }
    Ok(sum)
}

pub(super) fn refused(refusal: super::rules::Refusal) -> Error {
    match refusal {
        super::rules::Refusal::NoSpace(_) => Error::NoSpace {
            place: "image".into(),
            step: refusal.to_string(),
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        },
        super::rules::Refusal::Member { .. }
        | super::rules::Refusal::TooMany(_)
        | super::rules::Refusal::TooLarge(_) => Error::invalid("image refused", refusal.to_string()),
    }
}

/// An error while reading an archive: the archive's fault, unless the system says otherwise.
pub(super) fn broken(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(code) => Error::io("image", "read archive", io::Error::from_raw_os_error(code)),
        None => Error::invalid("image", format!("is corrupt, cut off or not understood: {error}")),
    }
}

fn no_metadata() -> Error {
    Error::invalid("image", "holds no metadata.yaml")
}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(got as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it unpacks to far more bytes than an honest image would")
        })?;
        Ok(got)
    }
}
