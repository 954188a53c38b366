//! `metadata.yaml`: what an image says of itself.

use std::collections::BTreeMap;
use std::io::Read;

use basalt_model::Timestamp;
use serde::Deserialize;

use super::{ImageFiles, Limits, scan};
use crate::Error;

/// A larger file is refused unread.
const MAX_BYTES: u64 = 1 << 20;
const MAX_PROPERTIES: usize = 256;

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageMetadata {
    /// Kernel's word for the architecture, e.g. `x86_64`.
    pub architecture: String,
    /// When it was made.
    pub creation_date: Timestamp,
    /// When it is out of date; never if zero.
    pub expiry: Timestamp,
    /// `os`, `release`, `description` and the like.
    pub properties: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Raw {
    architecture: String,
    #[serde(default)]
    creation_date: i64,
    #[serde(default)]
    expiry_date: i64,
    #[serde(default)]
    properties: BTreeMap<String, Scalar>,
}

/// People write `release: 12` and mean the text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Nothing(()),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(value) => value,
            Scalar::Nothing(()) => String::new(),
        }
    }
}

/// Reads the metadata of an image. Blocks, and may have to read the whole archive.
pub fn inspect(files: &ImageFiles) -> Result<ImageMetadata, Error> {
    scan::metadata_only(files, &Limits::default())
}

/// Reads and parses `metadata.yaml` from a stream.
pub(super) fn read(stream: &mut dyn Read) -> Result<ImageMetadata, Error> {
    let mut text = Vec::new();
    let count = stream
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::invalid("image metadata.yaml", error.to_string()))?;
    if count as u64 > MAX_BYTES {
        return Err(Error::invalid("image metadata.yaml", format!("is larger than {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(text).map_err(|_| Error::invalid("image metadata.yaml", "is not UTF-8"))?;
    parse(&text)
}

/// Parses `metadata.yaml`. Keys that we do not know are left to those who do.
fn parse(text: &str) -> Result<ImageMetadata, Error> {
    let bad = |why: String| Error::invalid("image metadata.yaml", why);
    let raw: Raw = serde_saphyr::from_str(text).map_err(|error| bad(error.to_string()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if raw.architecture.is_empty() || raw.architecture.len() > 32 || !raw.architecture.chars().all(plain) {
        return Err(bad(format!("architecture {:?} is not one", raw.architecture)));
    }
    if raw.properties.len() > MAX_PROPERTIES {
        return Err(bad(format!("holds more than {MAX_PROPERTIES} properties")));
    }
    Ok(ImageMetadata {
        architecture: kernel_name(raw.architecture),
        creation_date: seconds(raw.creation_date),
        expiry: seconds(raw.expiry_date),
        properties: raw.properties.into_iter().map(|(key, value)| (key, value.text())).collect(),
    })
}

/// Debian's words for architectures are common in images.
fn kernel_name(architecture: String) -> String {
    let known = match architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "armhf" => "armv7l",
        "i386" => "i686",
        "ppc64el" => "ppc64le",
        _ => return architecture,
    };
    known.to_owned()
}

fn seconds(value: i64) -> Timestamp {
    Timestamp(u64::try_from(value).unwrap_or(0).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let text = "architecture: amd64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: 12\n  \
                    serial: '20231114'\n  nested: true\n  empty:\ntemplates:\n  /etc/hostname:\n    when: [create]\n";
        let found = parse(text).unwrap();
        assert_eq!(found.architecture, "x86_64");
        assert_eq!(found.creation_date, Timestamp(1_700_000_000_000_000));
        assert_eq!(found.expiry, Timestamp::NEVER);
        let expect = [("empty", ""), ("nested", "true"), ("os", "Debian"), ("release", "12"), ("serial", "20231114")];
        let found: Vec<_> = found.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn refuses_nonsense() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f]\narchitecture: x86_64\n";
        for bad in ["", "x", "[]", "architecture: [a]", "architecture: ../x", "creation_date: 3", bomb] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refuses_a_huge_file_unread() {
        assert!(read(&mut std::io::repeat(b'#')).is_err());
    }
}
