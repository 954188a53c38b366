//! Address sets: addresses under a name that rules of access control lists use (`$NAME`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::device::InvalidDevice as InvalidKey;
use crate::{Generation, InProject, ProjectName, SetKey, SetName};

/// One set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSet {
    pub name: SetName,
    /// Whose it is.
    #[serde(default = "ProjectName::default_project", skip_serializing_if = "ProjectName::is_default")]
    pub project: ProjectName,
    /// Given by apply and never again: what the set is called in northbound rows (`basalt_set{number}_...`).
    pub number: u32,
    pub description: String,
    /// `user.*` only.
    pub config: BTreeMap<String, String>,
    /// Addresses and networks of both families, as the user wrote them.
    pub addresses: Vec<String>,
    pub generation: Generation,
}

impl AddressSet {
    /// One of the default project that was not applied yet, without addresses.
    pub fn new(name: SetName) -> Self {
        let (description, config, addresses) = (String::new(), BTreeMap::new(), Vec::new());
        let project = ProjectName::default_project();
        AddressSet { name, project, number: 0, description, config, addresses, generation: Generation(1) }
    }

    /// What it is found by.
    pub fn id(&self) -> SetKey {
        InProject { project: self.project.clone(), name: self.name.clone() }
    }

    /// What is in it, in order.
    pub fn nets(&self) -> BTreeSet<IpNet> {
        self.addresses.iter().filter_map(|text| net(text)).collect()
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
}

/// Whether a set may be as it is.
///
/// # Errors
/// Names the key or field.
pub fn check(set: &AddressSet) -> Result<(), InvalidKey> {
    if let Err(wrong) = crate::config::validate(crate::config::ADDRESS_SET, &set.config)
        && let Some(first) = wrong.into_iter().next()
    {
        return Err(InvalidKey { key: format!("config.{}", first.key), why: first.why });
    }
    let mut seen = BTreeSet::new();
    for (at, text) in set.addresses.iter().enumerate() {
        let bad = |why: String| InvalidKey { key: format!("addresses[{at}]"), why };
        let net = net(text).ok_or_else(|| bad(format!("{text:?} is not an address or a network")))?;
        if !seen.insert(net) {
            return Err(bad(format!("{text} is there twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[&str]) -> AddressSet {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        AddressSet { addresses, ..AddressSet::new(SetName::new("office").unwrap()) }
    }

    #[test]
    fn addresses_and_networks_of_both_families() {
        let set = set(&["192.0.2.9", "198.51.100.7/24", "2001:db8::1", "2001:db8:1::/48"]);
        check(&set).unwrap();
        let shown: Vec<String> = set.nets().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.9/32", "198.51.100.0/24", "2001:db8::1/128", "2001:db8:1::/48"]);
    }

    #[test]
    fn what_is_no_address_is_named() {
        for (addresses, field) in [
            (&["192.0.2.300"][..], "addresses[0]"),
            (&["192.0.2.1", "192.0.2.1-192.0.2.9"], "addresses[1]"),
            (&["192.0.2.1", "192.0.2.1/32"], "addresses[1]"),
            (&["192.0.2.0/33"], "addresses[0]"),
            (&[""], "addresses[0]"),
        ] {
            assert_eq!(check(&set(addresses)).unwrap_err().key, field, "{addresses:?}");
        }
    }
}
