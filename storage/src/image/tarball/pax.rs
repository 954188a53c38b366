//! Pax records: `<length> <key>=<value>\n`.

use std::io;

use super::bad;

const XATTR: &str = "SCHILY.xattr.";

/// The records of one extension header; a later one wins.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn parse(mut bytes: &[u8]) -> io::Result<Self> {
        let broken = || bad("a pax record is broken");
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length = number(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(broken)?;
            let record = bytes.get(space + 1..length).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = &bytes[length..];
        }
        Ok(Records(records))
    }

    /// An empty value means the key was taken back.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(name, _)| name == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.0.iter().any(|(name, _)| name.starts_with(prefix.as_bytes()))
    }

    pub(super) fn number(&self, key: &str) -> io::Result<Option<u64>> {
        let parse = |value| number(value).ok_or_else(|| bad(&format!("the pax record {key} is no number")));
        self.get(key).map(parse).transpose()
    }

    /// Seconds with an optional sign and fraction.
    pub(super) fn time(&self, key: &str) -> io::Result<Option<(i64, u32)>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let broken = || bad(&format!("the pax record {key} is no time"));
        let text = std::str::from_utf8(value).map_err(|_| broken())?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().map_err(|_| broken())?;
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(broken());
        }
        let nanos: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| broken())?;
        // A fraction counts away from zero; before 1970 the second is enough.
        Ok(Some((seconds, if whole.starts_with('-') { 0 } else { nanos })))
    }

    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let named = self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(XATTR.as_bytes())?, value)));
        named.map(|(name, value)| (name.to_vec(), value.clone())).collect()
    }
}

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let found = Records::parse(b"11 path=a\n\n20 SCHILY.xattr.u=\0\n20 mtime=1700000.25\n").unwrap();
        assert_eq!(found.get("path"), Some(&b"a\n"[..]));
        assert_eq!(found.xattrs(), vec![(b"u".to_vec(), vec![0])]);
        assert_eq!(found.time("mtime").unwrap(), Some((1_700_000, 250_000_000)));
        for bad in [&b"x"[..], b"5 a=b", b"99 a=b\n", b"0 a=b\n", b"3 a=b\n", b"6 abc\n", b"18446744073709551616 a=b\n"]
        {
            assert!(Records::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Records::parse(b"11 size=-1\n").unwrap().number("size").is_err());
    }
}
