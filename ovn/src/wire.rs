//! Framing: JSON texts stand one after the other in the stream, with nothing between them (RFC 7047, section 4).
//!
//! ```text
//! bytes --read_into--> buffer --scan once, resumable--> whole objects --parse--> Message
//! ```
//! The scan knows brackets, strings and escapes only, so a text of many reads is looked at once; whether it is JSON is for
//! the parser to say. A text that does not begin as an object, or grows over the limit, ends the stream: there is no
//! way to find its end.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How much is asked of the system at once.
const READ: usize = 64 << 10;
/// With less room than this left, there is made more.
const ROOM: usize = 4 << 10;
/// A message up to this size is copied out of the buffer, which then is used again; a larger one takes the buffer along.
const COPIED: usize = 16 << 10;
/// An empty buffer above this is given back.
const KEEP: usize = 1 << 20;

/// Why a stream cannot be read on.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// Where an object should begin, there is something else.
    #[error("not a JSON object: it begins with byte 0x{0:02x}")]
    Garbage(u8),
    /// One message is larger than we take.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// The text is no JSON, or no message of JSON-RPC.
    #[error("not a message: {0}")]
    Malformed(String),
}

/// Cuts a stream of bytes into messages. Never keeps more than the limit and one read.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
    /// How far the buffer was looked at.
    at: usize,
    depth: usize,
    text: Text,
}

/// Where in a text the scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    AfterBackslash,
}

impl Decoder {
    /// For messages of at most that many bytes.
    pub fn new(limit: usize) -> Self {
        Decoder { buffer: BytesMut::new(), limit, at: 0, depth: 0, text: Text::Outside }
    }

    /// Room to read more bytes into.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < ROOM {
            self.buffer.reserve(READ);
        }
        &mut self.buffer
    }

    /// The next whole object's text; `None` when more has to be read.
    ///
    /// # Errors
    /// The stream is of no use any more.
    pub fn frame(&mut self) -> Result<Option<Bytes>, WireError> {
        if self.depth == 0 {
            let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            bytes::Buf::advance(&mut self.buffer, blank);
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(other) => return Err(WireError::Garbage(*other)),
            }
        }
        self.scan();
        match (self.at > self.limit, self.depth) {
            (true, _) => Err(WireError::TooLarge(self.limit)),
            (false, 0) => {
                let end = std::mem::take(&mut self.at);
                let Some(text) = self.buffer.get(..end).filter(|text| text.len() <= COPIED) else {
                    return Ok(Some(self.buffer.split_to(end).freeze()));
                };
                let text = Bytes::copy_from_slice(text);
                bytes::Buf::advance(&mut self.buffer, end);
                Ok(Some(text))
            }
            (false, _) => Ok(None),
        }
    }

    /// Looks on, to the end of the object or of what is there.
    fn scan(&mut self) {
        // In locals: this loop sees each byte that is received.
        let (mut depth, mut text, mut at) = (self.depth, self.text, self.at);
        for byte in &self.buffer[at..] {
            at += 1;
            match (text, byte) {
                (Text::Outside, b'{' | b'[') => depth += 1,
                (Text::Outside, b'}' | b']') => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                (Text::Outside, b'"') | (Text::AfterBackslash, _) => text = Text::Inside,
                (Text::Inside, b'"') => text = Text::Outside,
                (Text::Inside, b'\\') => text = Text::AfterBackslash,
                (Text::Outside | Text::Inside, _) => {}
            }
        }
        (self.depth, self.text, self.at) = (depth, text, at);
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }
}

/// A message of JSON-RPC 1.0. Its parts are texts of the frame, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The answer to a request of ours: what came of it, or the error.
    Reply {
        /// The request's number.
        id: u64,
        /// `result`, or `error` when that is not null.
        outcome: Result<Bytes, Bytes>,
    },
    /// Something happened.
    Notification {
        /// What.
        method: String,
        /// With what.
        params: Bytes,
    },
    /// The other side asks.
    Request {
        /// To be repeated in the answer.
        id: Bytes,
        /// What.
        method: String,
        /// With what.
        params: Bytes,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Message {
    /// What a frame says.
    ///
    /// # Errors
    /// It is no JSON, or no message.
    pub fn parse(frame: &Bytes) -> Result<Self, WireError> {
        let said: Envelope<'_> = serde_json::from_slice(frame).map_err(|e| WireError::Malformed(e.to_string()))?;
        let part = |raw: Option<&RawValue>| match raw {
            Some(raw) => frame.slice_ref(raw.get().as_bytes()),
            None => Bytes::from_static(b"null"),
        };
        match (said.method, said.id) {
            (Some(method), None) => {
                Ok(Message::Notification { method: method.into_owned(), params: part(said.params) })
            }
            (Some(method), id) => {
                Ok(Message::Request { id: part(id), method: method.into_owned(), params: part(said.params) })
            }
            (None, Some(id)) => {
                let id = id.get().parse().map_err(|_| WireError::Malformed(format!("no request has id {id}")))?;
                let outcome = match said.error {
                    None => Ok(part(said.result)),
                    error => Err(part(error)),
                };
                Ok(Message::Reply { id, outcome })
            }
            (None, None) => Err(WireError::Malformed("neither a request nor an answer".into())),
        }
    }
}

#[cfg(test)]
mod tests;
