//! Validated names: the only things from outside that may reach argument lists, rule texts, file
//! names and configuration lines.

use std::{fmt, str::FromStr};

/// A text that is not a name of the wanted sort.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("invalid {what} {given:?}: {why}")]
pub struct InvalidName {
    what: &'static str,
    given: String,
    why: &'static str,
}

/// A name of a network interface that we make or change: 1 to 15 of `a-z A-Z 0-9 . _ -`, starting
/// with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

impl IfName {
    /// Longest name that the kernel takes.
    pub const MAX: usize = 15;

    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let why = if name.is_empty() || name.len() > Self::MAX {
            "must have 1 to 15 characters"
        } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            "must start with a letter or digit"
        } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            "may hold letters, digits, '.', '_' and '-'"
        } else if ["lo", "all", "default"].contains(&name.as_str()) {
            // `all` and `default` are not interfaces but folders of /proc/sys/net/ipv4/conf.
            "is reserved"
        } else {
            return Ok(Self(name));
        };
        Err(InvalidName { what: "interface name", given: name, why })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A DNS name: dot-separated labels of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

impl DnsName {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        if name.len() <= 253 && name.split('.').all(label) {
            return Ok(Self(name));
        }
        let why = "must be labels of 1 to 63 letters, digits and '-', joined by dots";
        Err(InvalidName { what: "DNS name", given: name, why })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A hardware (MAC) address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HwAddr(pub [u8; 6]);

impl HwAddr {
    /// Whether one interface may have it: not multicast, not all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for HwAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for HwAddr {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parse = || {
            let mut bytes = [0; 6];
            let mut parts = text.split(':');
            for byte in &mut bytes {
                let part = parts.next().filter(|part| part.len() == 2)?;
                *byte = u8::from_str_radix(part, 16).ok()?;
            }
            parts.next().is_none().then_some(Self(bytes))
        };
        parse().ok_or_else(|| InvalidName {
            what: "hardware address",
            given: text.to_owned(),
            why: "must be six pairs of hexadecimal digits",
        })
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
    };
}

text!(IfName);
text!(DnsName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["br0", "basalt-br.1", "a", "123456789012345"] {
            assert!(IfName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "1234567890123456", "..", ".", "a/b", "-x", "a b", "a\nb", "lo", "all", "ü"] {
            assert!(IfName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dns_names() {
        for good in ["lab", "a.b-c.d", "x_1"] {
            assert!(DnsName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "a,b", "a\nb", "a/b", &"x".repeat(64)] {
            assert!(DnsName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hardware_addresses() {
        let mac: HwAddr = "00:16:3e:0A:bb:cc".parse().unwrap();
        assert_eq!(mac.to_string(), "00:16:3e:0a:bb:cc");
        assert!(mac.is_unicast());
        assert!(!HwAddr([1, 0, 0x5e, 0, 0, 1]).is_unicast());
        for bad in ["", "00:16:3e:0a:bb", "00:16:3e:0a:bb:cc:dd", "0:16:3e:a:bb:cc", "zz:00:00:00:00:00"] {
            assert!(bad.parse::<HwAddr>().is_err(), "{bad}");
        }
    }
}
