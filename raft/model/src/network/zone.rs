//! Network zones: names in the DNS for what is on networks. A zone is given as a whole (AXFR) to the name servers that
//! it names as its peers; those answer the world.
//!
//! A network names the zones that tell of it: `dns.zone.forward` (one a project at most: each shows the instances of its
//! own), `dns.zone.reverse.ipv4` and `dns.zone.reverse.ipv6` (addresses of all).

pub mod content;
pub mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use entry::{Data, Entry};

use super::Network;
use crate::device::InvalidDevice as InvalidKey;
use crate::{ClusterState, Generation, ProjectName, RecordName, ZoneName};

/// The key of projects that have zones of their own.
pub const FEATURE: &str = "features.networks.zones";
/// The keys of networks that name zones.
pub const FORWARD: &str = "dns.zone.forward";
pub const REVERSE4: &str = "dns.zone.reverse.ipv4";
pub const REVERSE6: &str = "dns.zone.reverse.ipv6";
/// The longest name that the DNS has (RFC 1035, 2.3.4), as text without its last dot.
const LONGEST: usize = 253;

/// What users add to a zone under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: RecordName,
    pub description: String,
    /// `user.*` only.
    pub config: BTreeMap<String, String>,
    pub entries: Vec<Entry>,
    pub generation: Generation,
}

/// One zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    pub name: ZoneName,
    /// Whose instances it tells of.
    pub project: ProjectName,
    pub description: String,
    /// Keys of [`crate::config::ZONE`].
    pub config: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub records: BTreeMap<RecordName, Record>,
    pub generation: Generation,
}

/// One that may have the zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZonePeer {
    /// Where it asks from; `None` for anywhere.
    pub address: Option<IpAddr>,
    /// The secret, decoded, that its questions are signed with (RFC 8945); the key is called `ZONE_PEER.`.
    pub key: Option<Vec<u8>>,
}

impl Zone {
    /// One that was not applied yet, without records.
    pub fn new(name: ZoneName, project: ProjectName) -> Self {
        let (description, config, records) = (String::new(), BTreeMap::new(), BTreeMap::new());
        Zone { name, project, description, config, records, generation: Generation(1) }
    }

    /// Who may have it, by name. One that says neither where it is nor what it signs with may not.
    pub fn peers(&self) -> BTreeMap<String, ZonePeer> {
        let mut peers: BTreeMap<String, ZonePeer> = BTreeMap::new();
        for (key, value) in self.config.iter().filter(|(_, value)| !value.is_empty()) {
            match peer_key(key) {
                Some((name, PeerField::Address)) => peers.entry(name.into()).or_default().address = value.parse().ok(),
                Some((name, PeerField::Key)) => peers.entry(name.into()).or_default().key = entry::base64(value),
                None => {}
            }
        }
        peers
    }

    /// The zone's name servers, without last dots.
    pub fn nameservers(&self) -> Vec<String> {
        let given = self.config.get("dns.nameservers").map(String::as_str).unwrap_or_default();
        let names = given.split(',').map(|name| name.trim().trim_end_matches('.')).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }

    /// Whether it tells of subnets whose addresses are translated on their way out.
    pub fn tells_of_nat(&self) -> bool {
        self.config.get("network.nat").is_none_or(|value| value.is_empty() || crate::config::is_true(value))
    }
}

/// What is said of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerField {
    Address,
    Key,
}

/// The peer that a key is about: `peers.NAME.address`, `peers.NAME.key`.
pub fn peer_key(key: &str) -> Option<(&str, PeerField)> {
    let (name, field) = key.strip_prefix("peers.")?.rsplit_once('.')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let field = match field {
        "address" => PeerField::Address,
        "key" => PeerField::Key,
        _ => return None,
    };
    (!name.is_empty() && name.len() <= 63 && name.bytes().all(plain)).then_some((name, field))
}

/// Whether a zone and its records may be as they are, by themselves.
///
/// # Errors
/// Names the key or field.
pub fn check(zone: &Zone) -> Result<(), InvalidKey> {
    let bad = |key: &str, why: String| InvalidKey { key: key.into(), why };
    if let Err(wrong) = crate::config::validate(crate::config::ZONE, &zone.config)
        && let Some(first) = wrong.into_iter().next()
    {
        return Err(bad(&format!("config.{}", first.key), first.why));
    }
    for (key, value) in zone.config.iter().filter(|(key, value)| key.starts_with("peers.") && !value.is_empty()) {
        let verdict = match peer_key(key) {
            None => Err("is neither peers.NAME.address nor peers.NAME.key".to_owned()),
            Some((_, PeerField::Address)) => {
                value.parse::<IpAddr>().map(drop).map_err(|_| format!("{value:?} is not an address"))
            }
            // The secret is not repeated in what is answered and logged.
            Some((name, PeerField::Key)) => match entry::base64(value) {
                Some(secret) if !secret.is_empty() => fits(zone, &format!("{}_{name}", zone.name)),
                Some(_) | None => Err("is not a secret in base64".to_owned()),
            },
        };
        verdict.map_err(|why| bad(&format!("config.{key}"), why))?;
    }
    zone.records.values().try_for_each(|record| check_record(zone, record))
}

fn fits(zone: &Zone, name: &str) -> Result<(), String> {
    match name.len() <= LONGEST && name.split('.').all(|label| label.len() <= 63) {
        true => Ok(()),
        false => Err(format!("{name:?} is too long for the DNS; the zone is {}", zone.name)),
    }
}

fn check_record(zone: &Zone, record: &Record) -> Result<(), InvalidKey> {
    let bad = |key: &str, why: String| InvalidKey { key: key.into(), why };
    fits(zone, &format!("{}.{}", record.name, zone.name)).map_err(|why| bad("name", why))?;
    if let Err(wrong) = crate::config::validate(crate::config::ZONE_RECORD, &record.config)
        && let Some(first) = wrong.into_iter().next()
    {
        return Err(bad(&format!("config.{}", first.key), first.why));
    }
    let mut seen = BTreeSet::new();
    for (at, entry) in record.entries.iter().enumerate() {
        let field = |name: &str| format!("entries[{at}].{name}");
        let data = entry.data().map_err(|e| bad(&field(&e.key), e.why))?;
        if !seen.insert((entry.kind.to_ascii_uppercase(), entry.value.clone())) {
            return Err(bad(&field("value"), format!("{} {:?} is there twice", entry.kind, entry.value)));
        }
        if let Some(host) = data.host().filter(|host| *host != "@" && !host.ends_with('.')) {
            fits(zone, &format!("{host}.{}", zone.name)).map_err(|why| bad(&field("value"), why))?;
        }
        // RFC 1034, 3.6.2: an alias is all that there is under its name.
        if matches!(data, Data::Cname(_)) && (record.entries.len() > 1 || record.name.as_str() == "@") {
            return Err(bad(
                &field("type"),
                "CNAME must be the only entry of a name, and not of the zone itself".into(),
            ));
        }
    }
    Ok(())
}

impl Network {
    /// The zones that tell of its names.
    pub fn forward_zones(&self) -> Vec<ZoneName> {
        let names = self.key(FORWARD).unwrap_or_default().split(',').map(str::trim);
        names.filter_map(|name| ZoneName::new(name).ok()).collect()
    }

    /// The zone that tells of its addresses of one family.
    pub fn reverse_zone(&self, v4: bool) -> Option<ZoneName> {
        ZoneName::new(self.key(if v4 { REVERSE4 } else { REVERSE6 })?.trim()).ok()
    }
}

impl ClusterState {
    /// The project whose zones count for one: itself, or the default project.
    pub fn zone_project(&self, project: &ProjectName) -> ProjectName {
        let own = |key: &str| self.projects.get(project)?.config.get(key).filter(|v| crate::config::is_true(v));
        match own(FEATURE) {
            Some(_) => project.clone(),
            None => ProjectName::default_project(),
        }
    }

    /// URLs of what uses a zone: networks.
    pub fn zone_users(&self, zone: &ZoneName) -> Vec<String> {
        let uses = |network: &&Network| {
            let reverse = [true, false].into_iter().filter_map(|v4| network.reverse_zone(v4));
            network.forward_zones().into_iter().chain(reverse).any(|used| used == *zone)
        };
        self.networks.values().filter(uses).map(|n| format!("/1.0/networks/{}{}", n.name, n.project.suffix())).collect()
    }
}

#[cfg(test)]
mod tests;
