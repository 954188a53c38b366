//! Devices of instances, parsed from the maps that users write.

mod nic;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) use nic::understood_from_level_2;
pub use nic::{BRIDGED_KEYS, Filter, LOGICAL_KEYS, Logical, Rates};

use crate::config::{self, is_true};
use crate::limit::parse_bytes;
use crate::{Mac, NetworkName, PoolName};

/// A device, ready to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The disk at `/`: the instance's own volume in a pool. `size` is in bytes.
    Root { pool: PoolName, size: Option<u64> },
    /// A host folder or file bound into the guest.
    Disk { source: String, path: String, readonly: bool },
    /// A network interface on a managed network or a bridge of the host.
    Nic {
        network: Option<NetworkName>,
        /// Bridge on the host, when there is no managed network.
        parent: Option<String>,
        /// Interface name in the guest; `None` takes the next free `ethN`.
        name: Option<String>,
        mac: Option<Mac>,
        mtu: Option<u32>,
        ipv4: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
        rates: Rates,
        filter: Filter,
        /// What only logical networks (type ovn) can do.
        logical: Box<Logical>,
    },
    /// Masks a device of the same name that a profile brings.
    None,
}

/// Why a device is not acceptable: the key at fault and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct InvalidDevice {
    pub key: String,
    pub why: String,
}

fn bad(key: &str, why: impl ToString) -> InvalidDevice {
    InvalidDevice { key: key.into(), why: why.to_string() }
}

/// Parses one device.
///
/// # Errors
/// Names the key that is unknown, missing or wrong.
pub fn parse(properties: &BTreeMap<String, String>) -> Result<Device, InvalidDevice> {
    match properties.get("type").map(String::as_str) {
        Some("disk") => disk(properties),
        Some("nic") => nic(properties),
        Some("none") => Ok(Device::None),
        Some(other) => Err(bad("type", format!("device type {other:?} is not supported"))),
        None => Err(bad("type", "is missing")),
    }
}

/// Refuses keys that are not in `known`; `user.*` is always free.
fn only(properties: &BTreeMap<String, String>, known: &[&str]) -> Result<(), InvalidDevice> {
    match properties.keys().find(|k| !known.contains(&k.as_str()) && !k.starts_with("user.")) {
        Some(key) => Err(bad(key, "is not a key of this kind of device")),
        None => Ok(()),
    }
}

fn get<'a>(properties: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    properties.get(key).map(String::as_str).filter(|v| !v.is_empty())
}

fn parsed<T>(properties: &BTreeMap<String, String>, key: &str) -> Result<Option<T>, InvalidDevice>
where
    T: std::str::FromStr,
    T::Err: ToString,
{
    get(properties, key).map(|text| text.parse().map_err(|e: T::Err| bad(key, e))).transpose()
}

fn disk(properties: &BTreeMap<String, String>) -> Result<Device, InvalidDevice> {
    only(properties, &["type", "path", "pool", "size", "source", "readonly"])?;
    let path = get(properties, "path").ok_or_else(|| bad("path", "is missing"))?;
    if path == "/" {
        let pool =
            parsed(properties, "pool")?.ok_or_else(|| bad("pool", "is missing: the root disk lies in a pool"))?;
        let size = get(properties, "size").map(parse_bytes).transpose().map_err(|e| bad("size", e))?;
        return match get(properties, "source") {
            Some(_) => Err(bad("source", "the root disk has none")),
            None => Ok(Device::Root { pool, size }),
        };
    }
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(bad("path", "must be absolute and free of .."));
    }
    let source = get(properties, "source").ok_or_else(|| bad("source", "is missing"))?;
    if !source.starts_with('/') || source.split('/').any(|part| part == "..") {
        return Err(bad("source", "must be an absolute path of the host, free of .."));
    }
    if get(properties, "pool").is_some() {
        return Err(bad("pool", "custom volumes are not supported; only the root disk lies in a pool"));
    }
    let readonly = get(properties, "readonly").is_some_and(is_true);
    Ok(Device::Disk { source: source.into(), path: path.into(), readonly })
}

fn nic(properties: &BTreeMap<String, String>) -> Result<Device, InvalidDevice> {
    let known: Vec<&str> = config::NIC.iter().map(|key| key.name).collect();
    only(properties, &known)?;
    let network: Option<NetworkName> = parsed(properties, "network")?;
    let parent = get(properties, "parent").map(str::to_owned);
    match (get(properties, "nictype"), &network, &parent) {
        (None, Some(_), None) => {}
        (Some("bridged"), None, Some(_)) => {}
        (Some("bridged"), None, None) => return Err(bad("parent", "is missing: nictype=bridged needs a bridge")),
        (Some(_), Some(_), _) => return Err(bad("nictype", "may not be given together with network")),
        (Some(other), None, _) => return Err(bad("nictype", format!("{other:?} is not supported; use bridged"))),
        (None, Some(_), Some(_)) => return Err(bad("parent", "may not be given together with network")),
        (None, None, _) => {
            return Err(bad("network", "is missing: name a managed network, or give nictype and parent"));
        }
    }
    // A parent becomes an interface name in an engine's config: hold it to what the kernel takes.
    if let Some(parent) = &parent {
        NetworkName::new(parent.clone()).map_err(|e| bad("parent", e.why))?;
    }
    let name = get(properties, "name").map(str::to_owned);
    if let Some(name) = &name {
        NetworkName::new(name.clone()).map_err(|e| bad("name", e.why))?;
    }
    let mtu: Option<u32> = parsed(properties, "mtu")?;
    if mtu.is_some_and(|mtu| !(576..=65535).contains(&mtu)) {
        return Err(bad("mtu", "must be between 576 and 65535"));
    }
    Ok(Device::Nic {
        network,
        parent,
        name,
        mac: parsed(properties, "hwaddr")?,
        mtu,
        ipv4: parsed(properties, "ipv4.address")?,
        ipv6: parsed(properties, "ipv6.address")?,
        rates: nic::rates(properties)?,
        filter: nic::filter(properties)?,
        logical: Box::new(nic::logical(properties)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn reads_root_and_nic() {
        let root = parse(&map(&[("type", "disk"), ("path", "/"), ("pool", "default"), ("size", "10GiB")])).unwrap();
        assert_eq!(root, Device::Root { pool: PoolName::new("default").unwrap(), size: Some(10 << 30) });
        assert!(matches!(parse(&map(&[("type", "nic"), ("network", "basaltbr0")])), Ok(Device::Nic { .. })));
    }

    #[test]
    fn names_the_key_at_fault() {
        let key = |pairs: &[(&str, &str)]| parse(&map(pairs)).unwrap_err().key;
        assert_eq!(key(&[("path", "/")]), "type");
        assert_eq!(key(&[("type", "disk"), ("path", "/")]), "pool");
        assert_eq!(key(&[("type", "disk"), ("path", "/a/../b"), ("source", "/x")]), "path");
        assert_eq!(key(&[("type", "disk"), ("path", "/"), ("pool", "p"), ("colour", "red")]), "colour");
        assert_eq!(key(&[("type", "nic"), ("nictype", "macvlan"), ("parent", "eth0")]), "nictype");
        assert_eq!(key(&[("type", "nic"), ("network", "br0"), ("hwaddr", "zz")]), "hwaddr");
    }
}
