//! The registry of configuration keys: one table a scope, with how each value is checked and what it means.
//!
//! The API validates against it, the agent reads defaults from it, and the reference page is rendered from it.

mod keys;

use std::collections::BTreeMap;

pub use keys::{CLUSTER, INSTANCE, MEMBER, NETWORK, POOL, PROJECT};

use crate::limit;

/// How a value is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Text,
    Bool,
    /// A whole number in this range.
    Number(u64, u64),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// `limits.cpu`.
    Cpu,
    /// `limits.cpu.allowance`.
    Allowance,
    /// `limits.memory`.
    Memory,
    /// A size in bytes.
    Size,
    /// An IPv4 or IPv6 address with prefix length, `auto` or `none`.
    Subnet4,
    Subnet6,
    /// Comma-separated `first-last` ranges of IPv4 addresses.
    Ranges4,
    /// A DNS domain.
    Domain,
    /// Minutes, hours or days: `30M`, `3H`, `1d`.
    Expiry,
}

/// One key, or a family of them when `name` ends in `*`.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub check: Check,
    /// What holds when the key is not set, for people.
    pub default: &'static str,
    /// Whether a change reaches a running guest at once.
    pub live: bool,
    pub help: &'static str,
}

/// A key that is not acceptable, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct InvalidKey {
    pub key: String,
    pub why: String,
}

/// The key that `name` belongs to.
pub fn find(scope: &'static [Key], name: &str) -> Option<&'static Key> {
    scope.iter().find(|key| match key.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix) && name.len() > prefix.len(),
        None => key.name == name,
    })
}

/// Checks every key of `config`; all mistakes are reported together. An empty value means "unset" and is fine.
///
/// # Errors
/// The keys that are unknown or hold a wrong value.
pub fn validate(scope: &'static [Key], config: &BTreeMap<String, String>) -> Result<(), Vec<InvalidKey>> {
    let mut wrong = Vec::new();
    for (name, value) in config {
        let verdict = match find(scope, name) {
            None => Err("Unknown configuration key".to_owned()),
            Some(_) if value.is_empty() => Ok(()),
            Some(key) => key.check.accepts(value),
        };
        if let Err(why) = verdict {
            wrong.push(InvalidKey { key: name.clone(), why });
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// What the configuration language takes for true.
pub fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")
}

/// What the configuration language takes for false.
pub fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off")
}

/// Seconds of an [`Check::Expiry`] value.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_expiry(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a time such as 30M (minutes), 3H (hours) or 1d (days)");
    let unit = text.chars().last().ok_or_else(bad)?;
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
    let factor = match unit {
        'S' | 's' => 1,
        'M' => 60,
        'H' | 'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(bad()),
    };
    count.checked_mul(factor).ok_or_else(bad)
}

impl Check {
    /// Whether `value` is one; the error says what would be.
    pub fn accepts(self, value: &str) -> Result<(), String> {
        match self {
            Check::Text => Ok(()),
            Check::Bool => match is_true(value) || is_false(value) {
                true => Ok(()),
                false => Err(format!("{value:?} is neither true nor false")),
            },
            Check::Number(min, max) => match value.parse::<i128>() {
                Ok(number) if number >= i128::from(min) && number <= i128::from(max) => Ok(()),
                Ok(_) | Err(_) => Err(format!("{value:?} is not a whole number between {min} and {max}")),
            },
            Check::OneOf(words) => match words.contains(&value) {
                true => Ok(()),
                false => Err(format!("{value:?} is not one of {}", words.join(", "))),
            },
            Check::Cpu => limit::parse_cpu(value).map(|_| ()),
            Check::Allowance => limit::parse_allowance(value).map(|_| ()),
            Check::Memory => limit::parse_memory(value).map(|_| ()),
            Check::Size => limit::parse_bytes(value).map(|_| ()),
            Check::Subnet4 => subnet::<ipnet::Ipv4Net>(value, "10.0.0.1/24"),
            Check::Subnet6 => subnet::<ipnet::Ipv6Net>(value, "fd42::1/64"),
            Check::Ranges4 => ranges4(value),
            Check::Domain => domain(value),
            Check::Expiry => parse_expiry(value).map(|_| ()),
        }
    }
}

fn subnet<T: std::str::FromStr>(value: &str, example: &str) -> Result<(), String> {
    match matches!(value, "auto" | "none") || value.parse::<T>().is_ok() {
        true => Ok(()),
        false => Err(format!("{value:?} is not an address with a prefix length such as {example}, auto or none")),
    }
}

fn ranges4(value: &str) -> Result<(), String> {
    use std::net::Ipv4Addr;
    for range in value.split(',') {
        let ends = range.trim().split_once('-');
        let parsed = ends.and_then(|(a, b)| Some((a.parse::<Ipv4Addr>().ok()?, b.parse::<Ipv4Addr>().ok()?)));
        match parsed {
            Some((first, last)) if first <= last => {}
            Some(_) | None => return Err(format!("{range:?} is not a range such as 10.0.0.10-10.0.0.99")),
        }
    }
    Ok(())
}

fn domain(value: &str) -> Result<(), String> {
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match value.len() < 254 && value.split('.').all(label) {
        true => Ok(()),
        false => Err(format!("{value:?} is not a DNS domain")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn reports_every_mistake() {
        let wrong = validate(
            INSTANCE,
            &map(&[("limits.cpu", "x"), ("limits.memory", "1GiB"), ("colour", "red"), ("user.colour", "red")]),
        )
        .unwrap_err();
        let keys: Vec<&str> = wrong.iter().map(|w| w.key.as_str()).collect();
        assert_eq!(keys, ["colour", "limits.cpu"]);
    }

    #[test]
    fn families_need_a_rest() {
        assert!(validate(INSTANCE, &map(&[("user.", "x")])).is_err());
        assert!(validate(INSTANCE, &map(&[("environment.A", "x")])).is_ok());
    }

    #[test]
    fn numbers_and_ranges() {
        assert!(Check::Number(3, 5).accepts("4").is_ok());
        for bad in ["2", "6", "-1", "x", "99999999999999999999999"] {
            assert!(Check::Number(3, 5).accepts(bad).is_err(), "{bad}");
        }
        assert!(Check::Ranges4.accepts("10.0.0.2-10.0.0.9,10.0.0.20-10.0.0.30").is_ok());
        assert!(Check::Ranges4.accepts("10.0.0.9-10.0.0.2").is_err());
        assert_eq!(parse_expiry("3H"), Ok(10_800));
    }
}
