//! Reading `multipart/form-data` as it streams in: what a split image comes back as.
//!
//! The boundary may fall across two chunks, so as many bytes as it is long are always held back.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::error::{Error, Result};

/// Part headers longer than this are refused.
const HEAD_LIMIT: usize = 8 << 10;

/// The head of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
}

/// A reader of parts over a stream of chunks.
pub(crate) struct Reader<S> {
    chunks: S,
    /// `\r\n--boundary`
    mark: Vec<u8>,
    held: BytesMut,
    doing: String,
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Reader<S> {
    pub(crate) fn new(chunks: S, boundary: &str, doing: &str) -> Self {
        // The first boundary has no line break before it; giving it one makes all of them alike.
        let held = BytesMut::from(&b"\r\n"[..]);
        Self { chunks, mark: format!("\r\n--{boundary}").into_bytes(), held, doing: doing.to_owned() }
    }

    /// The next part, `None` after the last. The body of the one before must have been read.
    pub(crate) async fn part(&mut self) -> Result<Option<Part>> {
        while self.chunk().await?.is_some() {}
        self.held.advance(self.mark.len());
        self.fill(2).await?;
        if self.held.starts_with(b"--") {
            return Ok(None);
        }
        loop {
            if let Some(end) = find(&self.held, b"\r\n\r\n") {
                let head = self.held.split_to(end + 4);
                return parse(&String::from_utf8_lossy(&head))
                    .map(Some)
                    .ok_or_else(|| self.broken("part without name"));
            }
            if self.held.len() > HEAD_LIMIT {
                return Err(self.broken("part header too long"));
            }
            self.more().await?;
        }
    }

    /// The next bytes of the current part, `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(at) = find(&self.held, &self.mark) {
                return Ok((at > 0).then(|| self.held.split_to(at).freeze()));
            }
            let safe = self.held.len().saturating_sub(self.mark.len() - 1);
            if safe > 0 {
                return Ok(Some(self.held.split_to(safe).freeze()));
            }
            self.more().await?;
        }
    }

    async fn fill(&mut self, length: usize) -> Result<()> {
        while self.held.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<()> {
        match self.chunks.next().await {
            Some(chunk) => {
                self.held.extend_from_slice(&chunk?);
                Ok(())
            }
            None => Err(self.broken("multipart body ended early")),
        }
    }

    fn broken(&self, detail: &str) -> Error {
        Error::protocol(self.doing.clone(), detail)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|b| *b == first).map(|at| at + from) {
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn parse(head: &str) -> Option<Part> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    Some(Part { name: parameter(line, "name")?, filename: parameter(line, "filename") })
}

/// The value of `key=value` or `key="value"` in a header.
pub(crate) fn parameter(line: &str, key: &str) -> Option<String> {
    line.split(';').skip(1).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case(key).then(|| value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_however_they_are_cut() {
        let body: &[u8] =
            b"--xx\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m.tar\"\r\n\r\nAB\r\n-C\r\n\
            --xx\r\nContent-Disposition: form-data; name=rootfs\r\n\r\n\r\n--xx--\r\n";
        for size in 1..body.len() {
            let chunks: Vec<Result<Bytes>> = body.chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let mut reader = Reader::new(futures_util::stream::iter(chunks), "xx", "test");
            let part = reader.part().await.unwrap().unwrap();
            assert_eq!((part.name.as_str(), part.filename.as_deref()), ("metadata", Some("m.tar")));
            let mut content = Vec::new();
            while let Some(bytes) = reader.chunk().await.unwrap() {
                content.extend_from_slice(&bytes);
            }
            assert_eq!(content, b"AB\r\n-C");
            assert_eq!(reader.part().await.unwrap().unwrap().name, "rootfs");
            assert_eq!(reader.chunk().await.unwrap(), None);
            assert_eq!(reader.part().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_an_error() {
        let chunks: Vec<Result<Bytes>> =
            vec![Ok(Bytes::from_static(b"--xx\r\nContent-Disposition: x; name=a\r\n\r\nAB"))];
        let mut reader = Reader::new(futures_util::stream::iter(chunks), "xx", "test");
        reader.part().await.unwrap();
        let mut result = reader.chunk().await;
        while matches!(result, Ok(Some(_))) {
            result = reader.chunk().await;
        }
        assert!(result.is_err());
    }
}
