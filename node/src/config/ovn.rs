//! `[ovn]`: this machine as a chassis of OVN.
//!
//! Everything has a default. What is not set here is left as the machine's own set-up has it: Debian's packages give a
//! switch its `system-id`, and an administrator may have set the rest with `ovs-vsctl`.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// As it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOvn {
    /// The switch's database, `unix:/path`.
    pub switch: Option<String>,
    /// The bridge that guests' interfaces are ports of.
    pub integration_bridge: Option<String>,
    /// This machine's name among the chassis (`system-id`).
    pub chassis: Option<String>,
    /// How packets travel between chassis: `geneve`, or `vxlan` with its limits.
    pub encap_type: Option<String>,
    /// This machine's address for that.
    pub encap_address: Option<String>,
    /// The southbound database, `tcp:` or `ssl:` remotes separated by commas.
    pub southbound: Option<String>,
    /// `system` for the kernel's datapath, `netdev` where the kernel has none.
    pub datapath: Option<String>,
    /// The file that ovn-controller logs to, packets of logged rules among the rest.
    pub log: Option<String>,
}

/// As it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ovn {
    /// Whether there is such a section: without one, a host that has no switch is none to complain about.
    pub asked: bool,
    /// The socket of the switch's database.
    pub switch: PathBuf,
    pub integration_bridge: String,
    pub chassis: Option<String>,
    pub encap_type: Option<String>,
    pub encap_address: Option<IpAddr>,
    pub southbound: Option<String>,
    pub datapath: Option<String>,
    pub log: PathBuf,
}

impl Ovn {
    /// Every mistake is noted.
    pub(super) fn resolve(raw: Option<RawOvn>, mistakes: &mut Vec<String>) -> Self {
        let asked = raw.is_some();
        let raw = raw.unwrap_or_default();
        let mut wrong = |key: &str, value: &str, what: &str| mistakes.push(format!("ovn.{key}: {value:?} is {what}"));
        let switch = raw.switch.unwrap_or_else(|| "unix:/run/openvswitch/db.sock".into());
        let socket = switch.strip_prefix("unix:").map(PathBuf::from).filter(|path| path.is_absolute());
        if socket.is_none() {
            wrong("switch", &switch, "not unix: and an absolute path");
        }
        let integration_bridge = raw.integration_bridge.unwrap_or_else(|| "br-int".into());
        if !interface(&integration_bridge) {
            wrong("integration_bridge", &integration_bridge, "not the name of an interface");
        }
        if let Some(chassis) = raw.chassis.as_ref().filter(|name| !plain(name)) {
            wrong("chassis", chassis, "not a name of letters, digits, '-', '_', '.' and ':'");
        }
        if let Some(kind) = raw.encap_type.as_ref().filter(|kind| !matches!(kind.as_str(), "geneve" | "vxlan")) {
            wrong("encap_type", kind, "neither geneve nor vxlan");
        }
        let encap_address = raw.encap_address.as_ref().and_then(|text| match text.parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() && !address.is_multicast() => Some(address),
            Ok(_) | Err(_) => {
                wrong("encap_address", text, "not an address of this machine");
                None
            }
        });
        if let Some(remotes) = raw.southbound.as_ref().filter(|text| !text.split(',').all(remote)) {
            wrong("southbound", remotes, "not a list of remotes such as tcp:10.0.0.1:6642");
        }
        if let Some(datapath) = raw.datapath.as_ref().filter(|kind| !matches!(kind.as_str(), "system" | "netdev")) {
            wrong("datapath", datapath, "neither system nor netdev");
        }
        let log = raw.log.map_or_else(|| PathBuf::from("/var/log/ovn/ovn-controller.log"), PathBuf::from);
        if !log.is_absolute() {
            wrong("log", &log.display().to_string(), "not an absolute path");
        }
        Ovn {
            asked,
            switch: socket.unwrap_or_default(),
            integration_bridge,
            chassis: raw.chassis,
            // A chassis that has an address must have a type as well.
            encap_type: raw.encap_type.or_else(|| encap_address.map(|_| "geneve".into())),
            encap_address,
            southbound: raw.southbound,
            datapath: raw.datapath,
            log,
        }
    }
}

fn interface(name: &str) -> bool {
    !name.is_empty() && name.len() <= 15 && !name.contains(['/', ' ', '\t', '\n']) && name != "." && name != ".."
}

fn plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    !name.is_empty() && name.len() <= 64 && name.chars().all(fits)
}

/// `tcp:host:port`, `ssl:host:port` or `unix:/path`; a v6 host is in brackets.
fn remote(text: &str) -> bool {
    let text = text.trim();
    let Some((kind, rest)) = text.split_once(':') else { return false };
    match kind {
        "unix" => rest.starts_with('/'),
        "tcp" | "ssl" => rest
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && !host.contains(' ') && port.parse::<u16>().is_ok()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Ovn, Vec<String>> {
        let mut mistakes = Vec::new();
        let ovn = Ovn::resolve(Some(toml::from_str(text).unwrap()), &mut mistakes);
        if mistakes.is_empty() { Ok(ovn) } else { Err(mistakes) }
    }

    #[test]
    fn a_host_without_the_section_asks_for_nothing() {
        let mut mistakes = Vec::new();
        let ovn = Ovn::resolve(None, &mut mistakes);
        assert!(mistakes.is_empty() && !ovn.asked && ovn.encap_type.is_none());
        assert_eq!(ovn.switch, PathBuf::from("/run/openvswitch/db.sock"));
        assert_eq!(ovn.integration_bridge, "br-int");
    }

    #[test]
    fn an_address_has_a_type() {
        let ovn =
            resolve("encap_address = \"fd00::1\"\nsouthbound = \"tcp:10.0.0.1:6642,ssl:[fd00::2]:6642\"").unwrap();
        assert_eq!(ovn.encap_type.as_deref(), Some("geneve"));
        assert_eq!(ovn.encap_address, "fd00::1".parse().ok());
        assert!(ovn.asked);
    }

    #[test]
    fn mistakes_are_named_together() {
        let text = "switch = \"tcp:1.2.3.4:5\"\nintegration_bridge = \"a b\"\nchassis = \"x y\"\nencap_type = \"gre\"\n\
                    encap_address = \"0.0.0.0\"\nsouthbound = \"10.0.0.1\"\ndatapath = \"dpdk\"";
        let mistakes = resolve(text).unwrap_err();
        assert_eq!(mistakes.len(), 7, "{mistakes:?}");
        for (mistake, key) in mistakes.iter().zip(["switch", "integration_bridge", "chassis"]) {
            assert!(mistake.starts_with(&format!("ovn.{key}: ")), "{mistake}");
        }
        assert!(toml::from_str::<RawOvn>("bridge = \"br-int\"").is_err());
    }
}
