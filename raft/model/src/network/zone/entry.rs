//! What a record of a zone says: the types of data that users may give, and how each is written.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::device::InvalidDevice as InvalidKey;

/// The time to live of an entry that says none, in seconds.
pub const TTL: u32 = 300;
/// RFC 2181, 8.
const LONGEST_TTL: u32 = i32::MAX as u32;

/// One value, as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `A`, `AAAA`, `CAA` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// In seconds; 0 for [`TTL`].
    pub ttl: u32,
    pub value: String,
}

/// A value, understood. Names are lower-case labels; relative to the zone unless they end in a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    /// Flags, tag, value (RFC 8659).
    Caa(u8, String, Vec<u8>),
    Cname(String),
    /// Preference and host.
    Mx(u16, String),
    Ns(String),
    Ptr(String),
    /// Priority, weight, port and host (RFC 2782).
    Srv(u16, u16, u16, String),
    /// Algorithm, kind of fingerprint, fingerprint (RFC 4255).
    Sshfp(u8, u8, Vec<u8>),
    /// Usage, selector, matching type, data (RFC 6698).
    Tlsa(u8, u8, u8, Vec<u8>),
    Txt(Vec<Vec<u8>>),
}

/// The types that there are.
const KINDS: &str = "A, AAAA, CAA, CNAME, MX, NS, PTR, SRV, SSHFP, TLSA, TXT";

impl Data {
    /// The type's number in the DNS.
    pub fn number(&self) -> u16 {
        match self {
            Data::A(_) => 1,
            Data::Ns(_) => 2,
            Data::Cname(_) => 5,
            Data::Ptr(_) => 12,
            Data::Mx(..) => 15,
            Data::Txt(_) => 16,
            Data::Aaaa(_) => 28,
            Data::Srv(..) => 33,
            Data::Sshfp(..) => 44,
            Data::Tlsa(..) => 52,
            Data::Caa(..) => 257,
        }
    }

    /// The name that it leads to.
    pub fn host(&self) -> Option<&str> {
        match self {
            Data::Cname(host) | Data::Ns(host) | Data::Ptr(host) | Data::Mx(_, host) | Data::Srv(.., host) => {
                Some(host)
            }
            Data::A(_) | Data::Aaaa(_) | Data::Caa(..) | Data::Sshfp(..) | Data::Tlsa(..) | Data::Txt(_) => None,
        }
    }
}

impl Entry {
    /// How long it may be kept, in seconds.
    pub fn lifetime(&self) -> u32 {
        if self.ttl == 0 { TTL } else { self.ttl }
    }

    /// What the value means.
    ///
    /// # Errors
    /// Names the field: `type`, `ttl` or `value`.
    pub fn data(&self) -> Result<Data, InvalidKey> {
        let bad = |key: &str, why: String| InvalidKey { key: key.into(), why };
        if self.ttl > LONGEST_TTL {
            return Err(bad("ttl", format!("{} is more than {LONGEST_TTL}", self.ttl)));
        }
        match data(&self.kind.to_ascii_uppercase(), &self.value) {
            None => Err(bad("type", format!("{:?} is not one of {KINDS}", self.kind))),
            Some(Err(why)) => Err(bad("value", format!("{:?} {why}", self.value))),
            Some(Ok(data)) => Ok(data),
        }
    }
}

/// `None` for a type that is not known.
fn data(kind: &str, value: &str) -> Option<Result<Data, String>> {
    let words = |count: usize, shape: &str| -> Result<Vec<&str>, String> {
        let words: Vec<&str> = value.split_whitespace().collect();
        match words.len() == count {
            true => Ok(words),
            false => Err(format!("is not `{shape}`")),
        }
    };
    Some(match kind {
        "A" => value.parse().map(Data::A).map_err(|_| "is not an IPv4 address".into()),
        "AAAA" => value.parse().map(Data::Aaaa).map_err(|_| "is not an IPv6 address".into()),
        "CAA" => caa(value),
        "CNAME" => host(value).map(Data::Cname),
        "NS" => host(value).map(Data::Ns),
        "PTR" => host(value).map(Data::Ptr),
        "MX" => words(2, "preference host").and_then(|w| Ok(Data::Mx(number(w[0])?, host(w[1])?))),
        "SRV" => words(4, "priority weight port host")
            .and_then(|w| Ok(Data::Srv(number(w[0])?, number(w[1])?, number(w[2])?, host(w[3])?))),
        "SSHFP" => words(3, "algorithm type fingerprint")
            .and_then(|w| Ok(Data::Sshfp(number(w[0])?, number(w[1])?, hex(w[2])?))),
        "TLSA" => words(4, "usage selector type data")
            .and_then(|w| Ok(Data::Tlsa(number(w[0])?, number(w[1])?, number(w[2])?, hex(w[3])?))),
        "TXT" => strings(value).map(Data::Txt),
        _ => return None,
    })
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("holds {word:?}, which is not a number in its range"))
}

fn hex(word: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("holds {word:?}, which is not hexadecimal");
    if word.is_empty() || word.len() % 2 == 1 || word.len() > 2048 || !word.is_ascii() {
        return Err(bad());
    }
    let pairs = (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16));
    pairs.collect::<Result<_, _>>().map_err(|_| bad())
}

/// A name: `@` for the zone, `www` in the zone, `www.example.org.` anywhere.
fn host(word: &str) -> Result<String, String> {
    let labels = word.strip_suffix('.').unwrap_or(word);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.bytes().all(plain);
    match word == "@" || word == "." || (labels.len() < 254 && labels.split('.').all(label)) {
        true => Ok(word.to_ascii_lowercase()),
        false => Err(format!("holds {word:?}, which is not the name of a host")),
    }
}

fn caa(value: &str) -> Result<Data, String> {
    let shape = || "is not `flags tag \"value\"`".to_owned();
    let (flags, rest) = value.trim().split_once(char::is_whitespace).ok_or_else(shape)?;
    let (tag, rest) = rest.trim_start().split_once(char::is_whitespace).ok_or_else(shape)?;
    if tag.is_empty() || tag.len() > 15 || !tag.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(shape());
    }
    match strings(rest)?.as_slice() {
        [one] => Ok(Data::Caa(number(flags)?, tag.to_ascii_lowercase(), one.clone())),
        _ => Err(shape()),
    }
}

/// Texts of up to 255 bytes, as zone files have them: words, or quoted; `\"`, `\\` and `\123` stand for bytes. One that
/// is not quoted at all and longer is cut, as people paste keys.
fn strings(value: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut bytes = value.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(&first) = bytes.peek() else { break };
        let quoted = first == b'"';
        if quoted {
            bytes.next();
        }
        let (text, closed) = string(&mut bytes, quoted)?;
        if quoted && !closed {
            return Err("has a quote that does not end".into());
        }
        match text.is_empty() {
            true => all.push(text),
            false => all.extend(text.chunks(255).map(<[u8]>::to_vec)),
        }
    }
    match (all.len(), all.iter().map(|text| text.len() + 1).sum::<usize>()) {
        (0, _) => Err("holds no text".into()),
        (_, ..=8192) => Ok(all),
        (_, _) => Err("is longer than 8 KiB".into()),
    }
}

fn string(bytes: &mut impl Iterator<Item = u8>, quoted: bool) -> Result<(Vec<u8>, bool), String> {
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if quoted => return Ok((text, true)),
            b'"' => return Err("has a quote inside a word".into()),
            b if !quoted && b.is_ascii_whitespace() => return Ok((text, true)),
            b'\\' => text.push(escaped(bytes)?),
            b if b.is_ascii_control() => return Err("holds a control character".into()),
            b => text.push(b),
        }
    }
    Ok((text, false))
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, String> {
    let bad = || "ends in the middle of an escape, or escapes more than a byte".to_owned();
    let first = bytes.next().ok_or_else(bad)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or_else(bad)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| bad())
}

/// Decodes base64 (RFC 4648, with padding).
pub fn base64(text: &str) -> Option<Vec<u8>> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text.trim()).ok()
}
