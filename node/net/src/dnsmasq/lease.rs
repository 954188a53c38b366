//! The lease file: one line a lease, IPv6 after a line with the server's own DUID.
//!
//! ```text
//! 1700000000 00:16:3e:00:00:02 10.1.2.9 web 01:00:16:3e:00:00:02
//! duid 00:01:00:01:2c:...
//! 1700000000 1052688 fd00:1::9 web 00:01:00:01:2d:...
//! ```
//! The daemon rewrites it in place: a line that makes no sense was half-written, and is left out.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::HwAddr;

/// One address that DHCP gave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The client; IPv6 leases do not tell.
    pub mac: Option<HwAddr>,
    /// The name that the client gave, or was given.
    pub hostname: Option<String>,
    /// When it ends; `None`: never.
    pub expires: Option<SystemTime>,
}

pub(crate) fn parse(text: &str) -> Vec<Lease> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Lease> {
    let mut words = line.split(' ');
    let expires: u64 = words.next()?.parse().ok()?;
    let client = words.next()?;
    let address: IpAddr = words.next()?.parse().ok()?;
    let hostname = words.next()?;
    // The client id ends the line; without it the line is not whole.
    words.next()?;
    let mac = match address {
        IpAddr::V4(_) => client.parse().ok(),
        IpAddr::V6(_) => None,
    };
    Some(Lease {
        address,
        mac,
        hostname: (hostname != "*").then(|| hostname.to_owned()),
        expires: (expires != 0).then(|| UNIX_EPOCH + Duration::from_secs(expires)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_families_and_leaves_out_fragments() {
        let text = "\
1700000000 00:16:3e:00:00:02 10.1.2.9 web 01:00:16:3e:00:00:02
0 00:16:3e:00:00:03 10.1.2.10 * *
duid 00:01:00:01:2c:00:00:00:00:16:3e:00:00:01
1700000001 1052688 fd00:1::9 web 00:01:00:01:2d
1700000002 00:16:3e:00:00:04 10.1.";
        let leases = parse(text);
        assert_eq!(leases.len(), 3);
        assert_eq!(
            leases[0],
            Lease {
                address: "10.1.2.9".parse().unwrap(),
                mac: Some(HwAddr([0, 0x16, 0x3e, 0, 0, 2])),
                hostname: Some("web".into()),
                expires: Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            }
        );
        assert_eq!((leases[1].hostname.clone(), leases[1].expires), (None, None));
        assert_eq!((leases[2].address.is_ipv6(), leases[2].mac), (true, None));
    }
}
