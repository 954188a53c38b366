//! Typed ids and validated names. The constructor is the only way in, so a path, a dataset name or an argument of a
//! host command can be built from these without another look.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not a valid name or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {given:?}: {why}")]
pub struct InvalidName {
    /// The kind of name, as users call it.
    pub what: &'static str,
    /// What was given.
    pub given: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// The id of a member in the Raft group. Drawn from a counter in the state and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(NodeId)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map($name)
            }
        }
    };
}

uuid_id!(
    /// An instance, for its whole life: survives renames and moves, names its dataset and its runtime folder.
    InstanceId
);
uuid_id!(
    /// A snapshot of an instance, for its whole life: survives renames, names its copy of the volume.
    SnapshotId
);
uuid_id!(
    /// A one-time token (to join the cluster or to be trusted by it).
    TokenId
);
uuid_id!(
    /// A warning, for as long as it is kept.
    WarningId
);

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Validates `text`; the error says which rule it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                match $rule(&text) {
                    Ok(()) => Ok($name(text)),
                    Err(why) => Err(InvalidName { what: $what, given: text, why }),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// RFC 1123 label: what an instance's host name may be.
fn host_label(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 63 {
        return Err("must be 1 to 63 characters long");
    }
    if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("may only hold letters, digits and hyphens");
    }
    if s.starts_with('-') || s.ends_with('-') {
        return Err("may not start or end with a hyphen");
    }
    if s.as_bytes()[0].is_ascii_digit() {
        return Err("may not start with a digit");
    }
    Ok(())
}

/// A host name of a machine: dots and leading digits are allowed.
fn machine_name(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 63 {
        return Err("must be 1 to 63 characters long");
    }
    if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
        return Err("may only hold letters, digits, hyphens and dots");
    }
    if s.starts_with(['-', '.']) || s.ends_with(['-', '.']) {
        return Err("may not start or end with a hyphen or a dot");
    }
    Ok(())
}

/// A name that becomes one path or URL segment.
fn segment(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 63 {
        return Err("must be 1 to 63 characters long");
    }
    if s == "." || s == ".." {
        return Err("may not be . or ..");
    }
    if !s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("may only hold letters, digits, hyphens, underscores and dots");
    }
    if s.starts_with('-') {
        return Err("may not start with a hyphen");
    }
    Ok(())
}

/// Snapshots are often named after a time of day.
fn moment(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 128 {
        return Err("must be 1 to 128 characters long");
    }
    if s == "." || s == ".." {
        return Err("may not be . or ..");
    }
    if !s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'+')) {
        return Err("may only hold letters, digits, hyphens, underscores, dots, colons and pluses");
    }
    if s.starts_with('-') {
        return Err("may not start with a hyphen");
    }
    Ok(())
}

/// A segment that begins with a letter.
fn worded(s: &str) -> Result<(), &'static str> {
    match s.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => segment(s),
        false => Err("must begin with a letter"),
    }
}

/// A DNS domain in lower case; names of instances must have room before it.
fn zone(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 189 {
        return Err("must be 1 to 189 characters long");
    }
    match s.split('.').all(dns_label) && !s.contains('_') {
        true => Ok(()),
        false => Err("must be a DNS domain in lower case, without a dot at its end"),
    }
}

fn dns_label(s: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    !s.is_empty() && s.len() < 64 && s.bytes().all(plain)
}

/// What stands before a zone's name; `@` for the zone itself, `*` for all that is not there.
fn in_zone(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 189 {
        return Err("must be 1 to 189 characters long");
    }
    let labels = s.strip_prefix("*.").unwrap_or(s);
    match matches!(s, "@" | "*") || labels.split('.').all(dns_label) {
        true => Ok(()),
        false => Err("must be @, or DNS labels in lower case with dots between, the first of which may be *"),
    }
}

/// The name of a kernel network interface (IFNAMSIZ is 16 with its zero byte).
fn interface(s: &str) -> Result<(), &'static str> {
    if s.len() < 2 || s.len() > 15 {
        return Err("must be 2 to 15 characters long, as it names an interface");
    }
    segment(s)
}

/// Image aliases may be paths such as `debian/12`.
fn alias(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > 255 {
        return Err("must be 1 to 255 characters long");
    }
    if s.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '%' | '"' | '\'')) {
        return Err("may not hold blanks, quotes, ?, # or %");
    }
    Ok(())
}

fn sha256_hex(s: &str) -> Result<(), &'static str> {
    if s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(())
    } else {
        Err("must be 64 lower-case hexadecimal digits (SHA-256)")
    }
}

text_name!(
    /// An instance's name: unique in its project, and the guest's host name.
    InstanceName, "instance name", host_label
);
text_name!(
    /// A snapshot's name: unique among those of its instance.
    SnapshotName, "snapshot name", moment
);
text_name!(
    /// A member's name: unique in the cluster.
    MemberName, "member name", machine_name
);
text_name!(
    /// A storage pool's name.
    PoolName, "storage pool name", segment
);
text_name!(
    /// A network's name; for a bridge also its interface on every member.
    NetworkName, "network name", interface
);
text_name!(
    /// An access control list's name; never to be taken for an address.
    AclName, "network ACL name", worded
);
text_name!(
    /// A peering's name: unique in its network.
    PeerName, "network peer name", segment
);
text_name!(
    /// An address set's name.
    SetName, "network address set name", worded
);
text_name!(
    /// A network zone's name: a DNS domain, unique in the cluster.
    ZoneName, "network zone name", zone
);
text_name!(
    /// The name of a record, relative to its zone.
    RecordName, "network zone record name", in_zone
);
text_name!(
    /// A profile's name.
    ProfileName, "profile name", segment
);
text_name!(
    /// A project's name.
    ProjectName, "project name", segment
);
text_name!(
    /// A member group's name.
    GroupName, "cluster group name", segment
);
text_name!(
    /// An image alias.
    AliasName, "image alias", alias
);
text_name!(
    /// A SHA-256, in lower-case hexadecimal: of an image, or of a certificate's DER form.
    Fingerprint, "fingerprint", sha256_hex
);

impl ProjectName {
    /// The project that always exists.
    pub fn default_project() -> Self {
        ProjectName("default".into())
    }

    /// Whether it is that one.
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }

    /// What follows the URL of an object of the project; nothing in the default one.
    pub fn suffix(&self) -> String {
        if self.is_default() { String::new() } else { format!("?project={self}") }
    }
}

impl ProfileName {
    /// The profile that always exists in a project.
    pub fn default_profile() -> Self {
        ProfileName("default".into())
    }
}

/// A MAC address, shown as `00:16:3e:aa:bb:cc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bad = |why| InvalidName { what: "MAC address", given: text.to_owned(), why };
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(|| bad("must be six pairs of digits"))?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad("must be hexadecimal"))?;
        }
        if parts.next().is_some() {
            return Err(bad("must be six pairs of digits"));
        }
        if bytes[0] & 1 == 1 {
            return Err(bad("is a multicast address"));
        }
        Ok(Mac(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_names_are_host_labels() {
        for good in ["a", "web-1", "C3PO"] {
            assert!(InstanceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "1a", "a_b", "a/b", "..", "a.b", &"x".repeat(64)] {
            assert!(InstanceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_never_hold_what_a_path_would_obey() {
        for bad in ["..", ".", "a/b", "-rf", "", "a b", "a\0"] {
            assert!(PoolName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn macs_round_trip_and_refuse_multicast() {
        let mac: Mac = "00:16:3e:0a:0b:0c".parse().unwrap();
        assert_eq!(mac.to_string(), "00:16:3e:0a:0b:0c");
        assert!("01:00:5e:00:00:01".parse::<Mac>().is_err());
        assert!("00:16:3e:0a:0b".parse::<Mac>().is_err());
    }
}
