//! What ovn-controller writes of packets that a logged rule was about, read out of its log.
//!
//! ```text
//! 2026-01-02T03:04:05.678Z|00012|acl_log(ovn_pinctrl0)|INFO|name="basalt_acl1-egress-0", verdict=drop, severity=info,
//!     direction=to-lport: icmp,vlan_tci=0x0000,...,nw_src=10.1.0.2,nw_dst=10.1.0.1,...,icmp_type=8,icmp_code=0
//! ```
//!
//! The log belongs to another program, which may rotate it or leave a line half written: what is not understood is no line.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the log's end is looked at, in bytes.
const TAIL: u64 = 4 << 20;

/// A packet that was logged. What the protocol does not have is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packet {
    /// RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// As the switch calls it: `tcp`, `udp`, `icmp`, `icmp6`, `ip`, `tcp6`.
    pub protocol: String,
    pub source: String,
    pub destination: String,
    pub source_port: String,
    pub destination_port: String,
    pub icmp_type: String,
    pub icmp_code: String,
    /// `allow`, `drop` or `reject`.
    pub verdict: String,
}

/// Packets that rules of one access control list were about, the oldest first. A host without such a log has none.
///
/// # Errors
/// When the log is there and cannot be read.
pub fn read(file: &Path, list: u32) -> std::io::Result<Vec<Packet>> {
    let mut log = match std::fs::File::open(file) {
        Ok(log) => log,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    log.take(TAIL).read_to_end(&mut tail)?;
    let prefix = format!("basalt_acl{list}-");
    Ok(String::from_utf8_lossy(&tail).lines().filter_map(|line| packet(line, &prefix)).collect())
}

fn packet(line: &str, prefix: &str) -> Option<Packet> {
    let [time, _, module, _, message] = line.splitn(5, '|').collect::<Vec<_>>().try_into().ok()?;
    if !module.starts_with("acl_log") {
        return None;
    }
    let plain = |text: &str| text.trim().trim_matches('"').to_owned();
    let said: BTreeMap<String, String> = message
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (plain(key), plain(value)))
        .collect();
    if !said.get("name")?.starts_with(prefix) {
        return None;
    }
    let word = |keys: &[&str]| keys.iter().find_map(|key| said.get(*key)).cloned();
    let other = |key: &str| said.get(key).cloned().unwrap_or_default();
    Some(Packet {
        time: time.to_owned(),
        // `direction=to-lport: icmp`
        protocol: said.get("direction")?.split_once(": ")?.1.to_owned(),
        source: word(&["nw_src", "ipv6_src"])?,
        destination: word(&["nw_dst", "ipv6_dst"])?,
        source_port: other("tp_src"),
        destination_port: other("tp_dst"),
        icmp_type: other("icmp_type"),
        icmp_code: other("icmp_code"),
        verdict: said.get("verdict")?.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "2026-01-02T03:04:05.678Z|00012|acl_log(ovn_pinctrl0)|INFO|";

    fn line(name: &str, rest: &str) -> String {
        format!("{HEAD}name=\"{name}\", verdict=drop, severity=info, direction=to-lport: {rest}")
    }

    const ICMP: &str = "icmp,vlan_tci=0x0000,dl_src=00:16:3e:00:00:01,dl_dst=00:16:3e:00:00:02,nw_src=10.1.0.2,\
                        nw_dst=10.1.0.1,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,icmp_type=8,icmp_code=0";
    const TCP6: &str = "tcp6,vlan_tci=0x0000,dl_src=00:16:3e:00:00:01,dl_dst=00:16:3e:00:00:02,ipv6_src=fd42::2,\
                        ipv6_dst=fd42::1,ipv6_label=0x0,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=40000,\
                        tp_dst=80,tcp_flags=syn";

    #[test]
    fn packets_are_read() {
        let ping = packet(&line("basalt_acl1-egress-0", ICMP), "basalt_acl1-").unwrap();
        let (time, verdict) = ("2026-01-02T03:04:05.678Z".to_owned(), "drop".to_owned());
        let wanted = Packet {
            time: time.clone(),
            protocol: "icmp".into(),
            source: "10.1.0.2".into(),
            destination: "10.1.0.1".into(),
            icmp_type: "8".into(),
            icmp_code: "0".into(),
            verdict: verdict.clone(),
            ..Packet::default()
        };
        assert_eq!(ping, wanted);
        let web = packet(&line("basalt_acl1-ingress-3", TCP6), "basalt_acl1-").unwrap();
        assert_eq!((web.source.as_str(), web.destination_port.as_str()), ("fd42::2", "80"));
        assert_eq!((web.protocol.as_str(), web.icmp_type.as_str()), ("tcp6", ""));
    }

    #[test]
    fn what_is_another_lists_or_nobodys_is_left_out() {
        let whole = line("basalt_acl1-egress-0", ICMP);
        assert!(packet(&whole, "basalt_acl12-").is_none());
        assert!(packet(&line("basalt_acl12-egress-0", ICMP), "basalt_acl1-").is_none());
        assert!(packet(&line("<unnamed>", ICMP), "basalt_acl1-").is_none());
        assert!(packet(&whole.replace("acl_log", "binding"), "basalt_acl1-").is_none());
        // Half written, at any place.
        for end in 0..whole.len() {
            let half = packet(&whole[..end], "basalt_acl1-");
            assert!(half.is_none_or(|p| p.source == "10.1.0.2"), "{end}");
        }
    }

    #[test]
    fn a_missing_log_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ovn-controller.log");
        assert_eq!(read(&file, 1).unwrap(), []);
        let lines = [line("basalt_acl1-egress-0", ICMP), line("basalt_acl2-egress-0", ICMP)];
        std::fs::write(&file, lines.join("\n")).unwrap();
        assert_eq!(read(&file, 1).unwrap().len(), 1);
        assert!(read(dir.path(), 1).is_err(), "a folder is no log");
    }
}
