//! The stream's outer layer: blocks with check sums, so that a cut or a flipped bit is seen before its content is used.
//!
//! ```text
//! "basalt" version(2)  then blocks:  length u32 | crc32 u32 | payload      an empty block is the end
//! ```
//!
//! The sum covers the block's number, its length and its payload: a block that is missing or out of place is seen too.
//! Blocking ends ([`Writer`], [`Reader`]) meet the async ones ([`write`], [`read`]) in a channel of a few blocks, which is
//! all the memory that a stream takes.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::Progress;

const MAGIC: &[u8; 6] = b"basalt";
/// Raised when a stream cannot be read by what knows the one before.
const VERSION: u16 = 1;
const PAYLOAD: usize = 256 << 10;
const HEADER: usize = 8;
/// Blocks between the two ends.
const DEPTH: usize = 8;

/// A block as it travels, header first.
type Block = Vec<u8>;

/// The ends of a channel between a blocking thread and a connection.
pub(super) fn channel() -> (mpsc::Sender<io::Result<Block>>, mpsc::Receiver<io::Result<Block>>) {
    mpsc::channel(DEPTH)
}

/// Writes all blocks that come, behind the stream's head.
pub(super) async fn write(
    mut blocks: mpsc::Receiver<io::Result<Block>>,
    out: &mut (dyn AsyncWrite + Send + Unpin),
    progress: &Progress,
) -> io::Result<()> {
    out.write_all(MAGIC).await?;
    out.write_all(&VERSION.to_le_bytes()).await?;
    while let Some(block) = blocks.recv().await {
        let block = block?;
        out.write_all(&block).await?;
        progress.add(block.len() as u64);
    }
    out.flush().await
}

/// Reads blocks until the empty one, and no byte more. Never ends: what goes wrong is told through the channel, and the
/// other end decides when all is done.
pub(super) async fn read(
    blocks: mpsc::Sender<io::Result<Block>>,
    input: &mut (dyn AsyncRead + Send + Unpin),
    progress: &Progress,
) -> Infallible {
    if let Err(error) = forward(&blocks, input, progress).await {
        // Nobody listens any more: the other end has failed by itself.
        let _ = blocks.send(Err(error)).await;
    }
    std::future::pending().await
}

async fn forward(
    blocks: &mpsc::Sender<io::Result<Block>>,
    input: &mut (dyn AsyncRead + Send + Unpin),
    progress: &Progress,
) -> io::Result<()> {
    let mut head = [0; MAGIC.len() + 2];
    input.read_exact(&mut head).await.map_err(short)?;
    let (magic, version) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(bad("is not a volume's stream"));
    }
    if version != VERSION.to_le_bytes() {
        return Err(bad("is of a version that is not understood here"));
    }
    loop {
        let mut block = vec![0; HEADER];
        input.read_exact(&mut block).await.map_err(short)?;
        let length = usize::try_from(length(&block)).unwrap_or(usize::MAX);
        if length > PAYLOAD {
            return Err(bad("holds a block that is too long"));
        }
        block.resize(HEADER + length, 0);
        input.read_exact(&mut block[HEADER..]).await.map_err(short)?;
        progress.add(block.len() as u64);
        if blocks.send(Ok(block)).await.is_err() || length == 0 {
            return Ok(());
        }
    }
}

fn length(block: &[u8]) -> u32 {
    u32::from_le_bytes([block[0], block[1], block[2], block[3]])
}

fn sum(number: u64, block: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&block[..4]);
    hasher.update(&block[HEADER..]);
    hasher.finalize().to_le_bytes()
}

/// The blocking end that makes blocks.
pub(super) struct Writer {
    out: mpsc::Sender<io::Result<Block>>,
    block: Block,
    number: u64,
}

impl Writer {
    pub(super) fn new(out: mpsc::Sender<io::Result<Block>>) -> Self {
        Writer { out, block: empty(), number: 0 }
    }

    /// Appends bytes.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Appends `length` bytes of a file. A file that is shorter by now is filled up with zeros, or with `whole` an error.
    pub(super) fn put_file(&mut self, file: &File, mut at: u64, length: u64, whole: bool) -> io::Result<()> {
        let end = at.saturating_add(length);
        while at < end {
            let room = self.room()?.min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let start = self.block.len();
            self.block.resize(start + room, 0);
            let mut filled = 0;
            while filled < room {
                match file.read_at(&mut self.block[start + filled..], at + filled as u64) {
                    Ok(0) if whole => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(0) => break,
                    Ok(got) => filled += got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            at += room as u64;
        }
        Ok(())
    }

    /// Sends what is there and the end.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.block.len() > HEADER {
            self.send()?;
        }
        self.send()
    }

    fn room(&mut self) -> io::Result<usize> {
        if self.block.len() == HEADER + PAYLOAD {
            self.send()?;
        }
        Ok(HEADER + PAYLOAD - self.block.len())
    }

    fn send(&mut self) -> io::Result<()> {
        let mut block = std::mem::replace(&mut self.block, empty());
        let length = u32::try_from(block.len() - HEADER).unwrap_or(u32::MAX);
        block[..4].copy_from_slice(&length.to_le_bytes());
        let sum = sum(self.number, &block);
        block[4..HEADER].copy_from_slice(&sum);
        self.number += 1;
        self.out.blocking_send(Ok(block)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn empty() -> Block {
    let mut block = Vec::with_capacity(HEADER + PAYLOAD);
    block.resize(HEADER, 0);
    block
}

/// The blocking end that reads blocks.
pub(super) struct Reader {
    input: mpsc::Receiver<io::Result<Block>>,
    block: Block,
    at: usize,
    number: u64,
    ended: bool,
}

impl Reader {
    pub(super) fn new(input: mpsc::Receiver<io::Result<Block>>) -> Self {
        Reader { input, block: Vec::new(), at: 0, number: 0, ended: false }
    }

    /// The next bytes, exactly as many as `bytes` takes.
    pub(super) fn exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        let length = bytes.len() as u64;
        self.run(length, &mut |part| {
            bytes[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
            Ok::<_, io::Error>(())
        })
    }

    /// The next bytes. The caller bounds `length`.
    pub(super) fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Hands out the next `length` bytes in parts, without a copy.
    pub(super) fn run<E: From<io::Error>>(
        &mut self,
        length: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = length;
        while left > 0 {
            if self.at == self.block.len() && !self.next()? {
                return Err(bad("ends before it is whole").into());
            }
            let part = (self.block.len() - self.at).min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&self.block[self.at..self.at + part])?;
            self.at += part;
            left -= part as u64;
        }
        Ok(())
    }

    /// Makes sure that nothing follows but the end.
    pub(super) fn end(mut self) -> io::Result<()> {
        match self.at == self.block.len() && !self.next()? {
            true => Ok(()),
            false => Err(bad("goes on behind its end")),
        }
    }

    /// Goes to the next block; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let block = self.input.blocking_recv().ok_or_else(|| bad("was given up"))??;
        if block[4..HEADER] != sum(self.number, &block) {
            return Err(bad("is damaged: a check sum is wrong"));
        }
        self.number += 1;
        self.at = HEADER;
        self.block = block;
        self.ended = self.block.len() == HEADER;
        Ok(!self.ended)
    }
}

fn short(error: io::Error) -> io::Error {
    match error.kind() == io::ErrorKind::UnexpectedEof && error.raw_os_error().is_none() {
        true => bad("is cut off"),
        false => error,
    }
}

pub(super) fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the stream {why}"))
}
