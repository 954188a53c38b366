//! The registry of configuration keys: one table a scope, with how each value is checked and what it means.
//!
//! The API validates against it, the agent reads defaults from it, and the reference page is rendered from it.

mod keys;

use std::collections::BTreeMap;

pub use keys::{
    ACL, ADDRESS_SET, BALANCER, CLUSTER, FORWARD, INSTANCE, MEMBER, NETWORK, NETWORK_OVN, NETWORK_PHYSICAL, NIC, POOL,
    PROJECT, ZONE, ZONE_RECORD,
};

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
    /// Bits a second.
    Rate,
    /// An IPv4 or IPv6 address with prefix length, `auto` or `none`.
    Subnet4,
    Subnet6,
    /// Comma-separated `first-last` ranges of IPv4 addresses.
    Ranges4,
    /// The same of IPv6.
    Ranges6,
    /// An address with a prefix length, of one family.
    Gateway4,
    Gateway6,
    /// Comma-separated IP addresses.
    Addresses,
    /// Comma-separated networks of one family.
    Networks4,
    Networks6,
    /// The name of a network, or `none`.
    NetworkName,
    /// The name of a network interface of the host.
    Interface,
    /// Where a database of OVN listens: `unix:/path`, `tcp:address:port` or `ssl:address:port`, with commas between them.
    Remotes,
    /// Comma-separated networks with their prefix lengths.
    Networks,
    /// A DNS domain.
    Domain,
    /// DNS domains with commas between them; each may end in a dot.
    Domains,
    /// Where to listen: an address, a port, or both.
    Listen,
    /// Absolute paths, free of `..`, with commas between them.
    Paths,
    /// Minutes, hours or days: `30M`, `3H`, `1d`.
    Expiry,
    /// A time by the calendar: `1M 2H 3d 4w 5m 6y`.
    Span,
    /// Five fields of cron, or aliases such as `@daily`.
    Schedule,
    /// A resource limit of the kernel: a number or `unlimited`, or two of them, the soft and the hard one.
    Rlimit,
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
        Some(prefix) => name.starts_with(prefix) && name.len() > prefix.len() && !name.contains(char::is_control),
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

/// A time by the calendar, as `snapshots.expiry` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub minutes: u32,
    pub hours: u32,
    pub days: u32,
    pub weeks: u32,
    pub months: u32,
    pub years: u32,
}

/// Reads `1M 2H 3d 4w 5m 6y`: minutes, hours, days, weeks, months, years; each at most once and up to 10000.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let bad =
        || format!("{text:?} is not a time such as 1M 2H 3d 4w 5m 6y (minutes, hours, days, weeks, months, years)");
    let mut span = Span::default();
    let mut any = false;
    for word in text.split_whitespace() {
        let unit = word.chars().last().ok_or_else(bad)?;
        let count: u32 = word[..word.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
        let field = match unit {
            'M' => &mut span.minutes,
            'H' => &mut span.hours,
            'd' => &mut span.days,
            'w' => &mut span.weeks,
            'm' => &mut span.months,
            'y' => &mut span.years,
            _ => return Err(bad()),
        };
        if *field != 0 || count > 10_000 {
            return Err(bad());
        }
        *field = count;
        any = true;
    }
    if any { Ok(span) } else { Err(bad()) }
}

/// The networks of a [`Check::Networks`] value.
///
/// # Errors
/// Names the part that is none.
pub fn parse_networks(text: &str) -> Result<Vec<ipnet::IpNet>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "none");
    let network = |part: &str| part.parse().map_err(|_| format!("{part:?} is not a network such as 127.0.0.0/8"));
    parts.map(network).collect()
}

/// The ranges of a [`Check::Ranges4`] or [`Check::Ranges6`] value; a single address is a range of one.
///
/// # Errors
/// Names the part that is none.
pub fn parse_ranges<T: std::str::FromStr + PartialOrd + Copy>(text: &str) -> Result<Vec<(T, T)>, String> {
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let ends = first.trim().parse::<T>().ok().zip(last.trim().parse::<T>().ok());
        ends.filter(|(a, b)| a <= b).ok_or_else(|| format!("{part:?} is not a range such as 10.0.0.10-10.0.0.99"))
    };
    text.split(',').map(range).collect()
}

/// Where a [`Check::Listen`] value says to listen: on all addresses when it names none, on `port` when it names none.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_listen(text: &str, port: u16) -> Result<std::net::SocketAddr, String> {
    use std::net::{IpAddr, Ipv6Addr, SocketAddr};
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    let bracketed = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let bare = ip(text).or_else(|| bracketed(text)).map(|ip| SocketAddr::new(ip, port));
    let any = || text.strip_prefix(':')?.parse().ok().map(|port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    let whole = bare.or_else(any).or_else(|| text.parse().ok());
    whole.filter(|address| address.port() > 0).ok_or_else(|| {
        format!("{text:?} is not an address, a port or both, such as 192.0.2.1, :5353 or [2001:db8::1]:53")
    })
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
            Check::Rate => limit::parse_rate(value).map(|_| ()),
            Check::Subnet4 => subnet::<ipnet::Ipv4Net>(value, "10.0.0.1/24"),
            Check::Subnet6 => subnet::<ipnet::Ipv6Net>(value, "fd42::1/64"),
            Check::Ranges4 => ranges4(value),
            Check::Ranges6 => parse_ranges::<std::net::Ipv6Addr>(value).map(|_| ()),
            Check::Gateway4 => gateway::<ipnet::Ipv4Net>(value, "192.0.2.1/24"),
            Check::Gateway6 => gateway::<ipnet::Ipv6Net>(value, "2001:db8::1/64"),
            Check::Addresses => addresses(value),
            Check::Networks => parse_networks(value).map(|_| ()),
            Check::Networks4 => family(value, true),
            Check::Networks6 => family(value, false),
            Check::NetworkName | Check::Interface => {
                crate::NetworkName::new(value).map(|_| ()).map_err(|e| format!("{value:?} {}", e.why))
            }
            Check::Remotes => remotes(value),
            Check::Domain => domain(value),
            Check::Domains => {
                value.split(',').map(str::trim).try_for_each(|d| domain(d.strip_suffix('.').unwrap_or(d)))
            }
            Check::Listen => parse_listen(value, 1).map(|_| ()),
            Check::Paths => paths(value),
            Check::Expiry => parse_expiry(value).map(|_| ()),
            Check::Span => parse_span(value).map(|_| ()),
            Check::Schedule => crate::schedule::Schedule::parse(value).map(|_| ()),
            Check::Rlimit => rlimit(value),
        }
    }
}

impl Check {
    /// What is accepted, for people.
    pub fn describe(self) -> String {
        match self {
            Check::Text => "any text".into(),
            Check::Bool => "`true` or `false`".into(),
            Check::Number(min, max) => format!("a whole number from {min} to {max}"),
            Check::OneOf(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
            Check::Cpu => "a count (`2`) or a set (`0-3`, `0,2`)".into(),
            Check::Allowance => "a share (`50%`) or a quota (`25ms/100ms`)".into(),
            Check::Memory => "a size (`512MiB`) or a share (`50%`)".into(),
            Check::Size => "a size (`10GiB`)".into(),
            Check::Rate => "bits a second (`100Mbit`)".into(),
            Check::Subnet4 => "an address with prefix length (`10.0.0.1/24`), `auto` or `none`".into(),
            Check::Subnet6 => "an address with prefix length (`fd42::1/64`), `auto` or `none`".into(),
            Check::Ranges4 => "ranges of addresses (`10.0.0.10-10.0.0.99`), with commas between".into(),
            Check::Ranges6 => "ranges of addresses (`fd42::10-fd42::99`), with commas between".into(),
            Check::Gateway4 => "an address with prefix length (`192.0.2.1/24`), or `none`".into(),
            Check::Gateway6 => "an address with prefix length (`2001:db8::1/64`), or `none`".into(),
            Check::Addresses => "addresses (`192.0.2.1,2001:db8::1`)".into(),
            Check::Networks => "networks (`127.0.0.0/8,fe80::/10`)".into(),
            Check::Networks4 => "networks (`198.51.100.0/24`), with commas between".into(),
            Check::Networks6 => "networks (`2001:db8:1::/48`), with commas between".into(),
            Check::NetworkName => "the name of a network, or `none`".into(),
            Check::Interface => "the name of a network interface".into(),
            Check::Remotes => "`unix:/path`, `tcp:address:port`, `ssl:address:port`, with commas between".into(),
            Check::Domain => "a DNS domain".into(),
            Check::Domains => "DNS domains, with commas between".into(),
            Check::Listen => "an address, a port or both (`192.0.2.1`, `:5353`, `[2001:db8::1]:53`)".into(),
            Check::Paths => "absolute paths (`/srv/a`), with commas between".into(),
            Check::Rlimit => "a number, `unlimited`, or a soft and a hard limit (`1024:4096`)".into(),
            Check::Expiry => "a time: `30M` (minutes), `3H` (hours), `1d` (days), `2w` (weeks)".into(),
            Check::Schedule => {
                "when, in UTC: `minute hour day month weekday` as in cron, or `@hourly`, `@daily`".into()
            }
            Check::Span => "a time by the calendar: `1M 2H 3d 4w 5m 6y`".into(),
        }
    }

    /// The type of value, in the words of the peers' option tables.
    pub fn type_word(self) -> &'static str {
        match self {
            Check::Bool => "bool",
            Check::Number(..) => "integer",
            Check::Text
            | Check::OneOf(_)
            | Check::Cpu
            | Check::Allowance
            | Check::Memory
            | Check::Size
            | Check::Rate
            | Check::Subnet4
            | Check::Subnet6
            | Check::Ranges4
            | Check::Ranges6
            | Check::Gateway4
            | Check::Gateway6
            | Check::Addresses
            | Check::Networks
            | Check::Networks4
            | Check::Networks6
            | Check::NetworkName
            | Check::Interface
            | Check::Remotes
            | Check::Domain
            | Check::Domains
            | Check::Listen
            | Check::Paths
            | Check::Expiry
            | Check::Span
            | Check::Schedule
            | Check::Rlimit => "string",
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

fn gateway<T: std::str::FromStr>(value: &str, example: &str) -> Result<(), String> {
    match value == "none" || value.parse::<T>().is_ok() {
        true => Ok(()),
        false => Err(format!("{value:?} is not an address with a prefix length such as {example}, or none")),
    }
}

fn addresses(value: &str) -> Result<(), String> {
    match value.split(',').map(str::trim).find(|part| part.parse::<std::net::IpAddr>().is_err()) {
        Some(part) => Err(format!("{part:?} is not an address")),
        None => Ok(()),
    }
}

fn family(value: &str, v4: bool) -> Result<(), String> {
    match parse_networks(value)?.into_iter().find(|net| net.addr().is_ipv4() != v4) {
        Some(net) => Err(format!("{net} is not of IPv{}", if v4 { 4 } else { 6 })),
        None => Ok(()),
    }
}

fn remotes(value: &str) -> Result<(), String> {
    let one = |remote: &str| match remote.split_once(':') {
        Some(("unix", path)) => path.starts_with('/'),
        Some(("tcp" | "ssl", host)) => host.rsplit_once(':').is_some_and(|(address, port)| {
            let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            !address.is_empty() && !address.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|p| p > 0)
        }),
        Some(_) | None => false,
    };
    match value.split(',').map(str::trim).find(|remote| !one(remote)) {
        Some(remote) => Err(format!("{remote:?} is not unix:/path, tcp:address:port or ssl:address:port")),
        None => Ok(()),
    }
}

fn rlimit(value: &str) -> Result<(), String> {
    let bad = || format!("{value:?} is not a number, unlimited, or a soft and a hard limit such as 1024:4096");
    let number = |text: &str| match text {
        "unlimited" => Ok(u64::MAX),
        digits => digits.parse::<u64>().map_err(|_| bad()),
    };
    match value.split_once(':') {
        None => number(value).map(|_| ()),
        Some((soft, hard)) if number(soft)? <= number(hard)? => Ok(()),
        Some(_) => Err(format!("{value:?}: the soft limit is above the hard one")),
    }
}

fn domain(value: &str) -> Result<(), String> {
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match value.len() < 254 && value.split('.').all(label) {
        true => Ok(()),
        false => Err(format!("{value:?} is not a DNS domain")),
    }
}

fn paths(value: &str) -> Result<(), String> {
    let plain = |path: &str| path.starts_with('/') && path.split('/').all(|part| part != "..");
    match value.split(',').map(str::trim).all(plain) {
        true => Ok(()),
        false => Err(format!("{value:?} is not a list of absolute paths such as /srv/a,/srv/b")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn patience_is_seconds() {
        let timeout = |text: &str| validate(INSTANCE, &map(&[("boot.host_shutdown_timeout", text)]));
        assert!(["", "0", "30", "86400"].iter().all(|text| timeout(text).is_ok()));
        for text in ["-1", "86401", "1m", "soon"] {
            let wrong = timeout(text).unwrap_err();
            assert_eq!(wrong[0].key, "boot.host_shutdown_timeout", "{text}");
        }
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
        assert!(validate(INSTANCE, &map(&[("linux.sysctl.net.a\nb", "1")])).is_err());
    }

    #[test]
    fn limits_of_the_kernel() {
        for good in ["0", "1024", "unlimited", "1024:4096", "0:unlimited", "unlimited:unlimited"] {
            assert!(Check::Rlimit.accepts(good).is_ok(), "{good}");
        }
        for bad in ["", "-1", "a", "1:", ":1", "2:1", "unlimited:1", "1:2:3", "1 "] {
            assert!(Check::Rlimit.accepts(bad).is_err(), "{bad}");
        }
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
        assert_eq!(parse_span("3d 2m"), Ok(Span { days: 3, months: 2, ..Span::default() }));
        for bad in ["", "3", "d", "3d 2d", "3x", "-1d", "10001y"] {
            assert!(Check::Span.accepts(bad).is_err(), "{bad}");
        }
        for (text, address) in [
            (":5353", "[::]:5353"),
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
        ] {
            assert_eq!(parse_listen(text, 53).map(|a| a.to_string()).as_deref(), Ok(address));
        }
        for bad in ["", ":", ":0", "192.0.2.1:0", "192.0.2.1:65536", "ns.example.org:53", "[192.0.2.1]"] {
            assert!(Check::Listen.accepts(bad).is_err(), "{bad}");
        }
        assert!(Check::Domains.accepts("ns1.example.org., ns2.example.org").is_ok());
        assert!(Check::Domains.accepts("ns1.example.org,,ns2.example.org").is_err());
        assert_eq!(parse_networks("127.0.0.0/8, fe80::/10").map(|n| n.len()), Ok(2));
        assert!(parse_networks("127.0.0.1-127.0.0.9").is_err());
    }
}
