//! The reference of all configuration keys, from the one registry that also validates them: for programs at
//! `GET /1.0/metadata/configuration`, for people in `api/CONFIG.md` (a test compares; `WRITE_GOLDEN=1` rewrites it).

use std::collections::BTreeMap;

use basalt_model::config::{
    ACL, ADDRESS_SET, BALANCER, CLUSTER, FORWARD, INSTANCE, Key, MEMBER, NETWORK, NETWORK_OVN, NETWORK_PHYSICAL, NIC,
    POOL, PROJECT, ZONE, ZONE_RECORD,
};

use crate::dto::metadata as wire;
use crate::reply::{self, Reply};

/// What has keys: the name that programs know it by, a title and a sentence for people, its keys.
const OBJECTS: &[(&str, &str, &str, &[Key])] = &[
    ("instance", "Instances and profiles", "Set with `basalt config set INSTANCE` or in a profile.", INSTANCE),
    ("server", "The cluster", "Set with `basalt config set`; they hold for every member.", CLUSTER),
    ("cluster", "Members", "Set with `basalt cluster edit MEMBER`.", MEMBER),
    ("network_bridge", "Bridge networks", "Set with `basalt network set NETWORK`.", NETWORK),
    ("network_ovn", "Logical networks (OVN)", "Set with `basalt network set NETWORK`.", NETWORK_OVN),
    (
        "network_physical",
        "Uplinks",
        "Networks of type physical; set with `basalt network set NETWORK`.",
        NETWORK_PHYSICAL,
    ),
    ("device-nic", "Network interfaces", "Devices of type nic: `basalt config device set INSTANCE DEVICE`.", NIC),
    ("network_acl", "Access control lists", "Set with `basalt network acl set ACL`.", ACL),
    (
        "network_forward",
        "Forwards",
        "Set with `basalt network forward set NETWORK ADDRESS`. A forward of a logical network listens on an address of \
         its uplink. One of a bridge network takes effect on the member that has the address on one of its interfaces, \
         so its targets are instances there; a subnet that is routed to a member counts when the member has the address \
         on `lo`.",
        FORWARD,
    ),
    (
        "network_load_balancer",
        "Load balancers",
        "Set with `basalt network load-balancer set NETWORK ADDRESS`.",
        BALANCER,
    ),
    ("network_address_set", "Address sets", "Set with `basalt network address-set set SET`.", ADDRESS_SET),
    ("network_zone", "Network zones", "Set with `basalt network zone set ZONE`.", ZONE),
    (
        "network_zone_record",
        "Records of network zones",
        "Set with `basalt network zone record set ZONE RECORD`.",
        ZONE_RECORD,
    ),
    ("storage", "Storage pools", "Set when a pool is made.", POOL),
    ("project", "Projects", "Set with `basalt project set PROJECT`.", PROJECT),
];

/// Keys that each member may have otherwise.
fn local(key: &Key) -> bool {
    key.help.ends_with("per member.")
}

/// The group of an instance's keys, as the peers call it; other objects have one group.
fn group(object: &str, key: &Key) -> &'static str {
    let word = key.name.split('.').next().unwrap_or_default();
    match (object, word) {
        ("instance", "boot") => "boot",
        ("instance", "limits") => "resource-limits",
        ("instance", "cloud-init") => "cloud-init",
        ("instance", "raw") => "raw",
        ("instance", "security") => "security",
        ("instance", "snapshots") => "snapshots",
        ("instance", "volatile") => "volatile",
        ("instance", _) => "miscellaneous",
        ("project", "features") => "features",
        ("project", "limits") => "limits",
        ("project", "restricted") => "restricted",
        ("project", _) => "specific",
        _ => "common",
    }
}

fn configuration() -> wire::Configuration {
    let mut configs: BTreeMap<String, BTreeMap<String, wire::Group>> = BTreeMap::new();
    for (object, _, _, keys) in OBJECTS {
        let groups = configs.entry((*object).to_owned()).or_default();
        for key in *keys {
            let shown = wire::Key {
                shortdesc: key.help.into(),
                longdesc: format!("Takes {}.", key.check.describe()),
                kind: key.check.type_word().into(),
                defaultdesc: key.default.into(),
                liveupdate: if key.live { "yes" } else { "no" }.into(),
                scope: if local(key) { "local" } else { "global" }.into(),
            };
            let one = [(key.name.to_owned(), shown)].into_iter().collect();
            groups.entry(group(object, key).to_owned()).or_default().keys.push(one);
        }
    }
    wire::Configuration { configs }
}

/// `GET /1.0/metadata/configuration`: open to everybody, as with the peers.
pub(crate) async fn get() -> Reply {
    reply::sync(configuration())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn page() -> String {
        let mut page = String::from(
            "# Configuration keys\n\n\
             Rendered from the registry that validates them (`raft/model/src/config`): do not edit this page, run\n\
             `WRITE_GOLDEN=1 cargo test -p basalt-api --lib reference`. A name that ends in `*` is a family. An empty\n\
             value is the same as none. *Live* keys reach a running guest at once, others when it starts next.\n",
        );
        for (_, title, how, keys) in OBJECTS {
            write!(page, "\n## {title}\n\n{how}\n\n| Key | Takes | Default | Live | What it does |\n").unwrap();
            page.push_str("|---|---|---|---|---|\n");
            for key in *keys {
                let live = if key.live { "yes" } else { "no" };
                let default = if key.default.is_empty() { "none" } else { key.default };
                writeln!(page, "| `{}` | {} | {default} | {live} | {} |", key.name, key.check.describe(), key.help)
                    .unwrap();
            }
        }
        page
    }

    #[test]
    fn the_checked_in_page_is_what_the_registry_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFIG.md");
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            std::fs::write(path, page()).unwrap();
        } else {
            let present = std::fs::read_to_string(path).unwrap_or_default();
            assert!(present == page(), "api/CONFIG.md is out of date: run with WRITE_GOLDEN=1 and look at the diff");
        }
    }

    #[test]
    fn every_key_is_told_once() {
        let told: usize = configuration().configs.values().flat_map(BTreeMap::values).map(|g| g.keys.len()).sum();
        assert_eq!(told, OBJECTS.iter().map(|(.., keys)| keys.len()).sum::<usize>());
    }
}
