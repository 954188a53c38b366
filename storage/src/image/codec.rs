//! Tells archive formats apart by their first bytes, and unpacks compressed streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::Error;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tar(Packing),
    Squashfs,
    Qcow2,
}

/// How a tarball is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// Memory that a decoder may take: a hostile header asks for gigabytes.
const XZ_MEMORY: u64 = 256 << 20;
const ZSTD_WINDOW_LOG: u32 = 27;

/// Looks at the first bytes of `file`.
pub(crate) fn sniff(file: &mut File) -> io::Result<Result<Format, &'static str>> {
    let mut head = Vec::with_capacity(512);
    file.seek(SeekFrom::Start(0))?;
    file.take(512).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(classify(&head))
}

fn classify(head: &[u8]) -> Result<Format, &'static str> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Format::Tar(Packing::Gzip)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Format::Tar(Packing::Xz)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Format::Tar(Packing::Zstd)),
        [b'h', b's', b'q', b's', ..] => Ok(Format::Squashfs),
        [b'Q', b'F', b'I', 0xfb, ..] => Ok(Format::Qcow2),
        [b'B', b'Z', b'h', ..] => Err("is packed with bzip2; gzip, xz and zstd are understood"),
        _ if head.len() == 512 && head[257..].starts_with(b"ustar") => Ok(Format::Tar(Packing::Plain)),
        [] => Err("is empty"),
        _ => Err("is neither a tarball (plain, gzip, xz, zstd) nor a squashfs"),
    }
}

/// Opens a file that must be a tarball. `seen` is called with the number of packed bytes read each time.
pub(crate) fn open_tarball(path: &Path, seen: impl Fn(u64) + Send + 'static) -> Result<Box<dyn Read + Send>, Error> {
    let failed = |source| Error::io(path.display().to_string(), "open archive", source);
    let mut file = File::open(path).map_err(failed)?;
    let format = sniff(&mut file).map_err(failed)?.map_err(|why| Error::invalid("image", why))?;
    let packing = match format {
        Format::Tar(packing) => packing,
        Format::Squashfs | Format::Qcow2 => return Err(Error::invalid("image", "is not a tarball where one must be")),
    };
    let input = BufReader::with_capacity(128 << 10, Counted { inner: file, seen });
    decoder(packing, input).map_err(failed)
}

fn decoder(packing: Packing, input: impl BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Packing::Plain => Box::new(input),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Packing::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

struct Counted<R, F> {
    inner: R,
    seen: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        (self.seen)(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_their_first_bytes() {
        let mut plain = vec![0u8; 512];
        plain[257..262].copy_from_slice(b"ustar");
        assert_eq!(classify(&plain), Ok(Format::Tar(Packing::Plain)));
        assert_eq!(classify(&[0x1f, 0x8b, 8]), Ok(Format::Tar(Packing::Gzip)));
        assert_eq!(classify(b"\xfd7zXZ\0"), Ok(Format::Tar(Packing::Xz)));
        assert_eq!(classify(&[0x28, 0xb5, 0x2f, 0xfd]), Ok(Format::Tar(Packing::Zstd)));
        assert_eq!(classify(b"hsqs"), Ok(Format::Squashfs));
        assert_eq!(classify(b"QFI\xfb"), Ok(Format::Qcow2));
        assert!(classify(b"BZh9").is_err());
        assert!(classify(b"").is_err());
        assert!(classify(&[0; 512]).is_err());
    }
}
