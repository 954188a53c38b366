//! Which addresses may be asked for images. A caller who may pull an image must not be able to make this host talk to
//! itself, or to what trusts whoever is on its link (the metadata services of clouds).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The address of a cloud's metadata service outside of the link-local ranges.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Says why `address` may not be connected to; `allowed` are the exceptions of the operator.
///
/// # Errors
/// The reason, with the key that would allow it.
pub(super) fn judge(address: IpAddr, allowed: &[IpNet]) -> Result<(), String> {
    let what = match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    };
    match what {
        Some(_) if allowed.iter().any(|net| net.contains(&address)) => Ok(()),
        Some(what) => Err(format!("{address} is {what}; images.remote_allowed_addresses can allow it")),
        None => Ok(()),
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_link_local() {
        Some("a link-local address")
    } else if address.octets()[0] == 0 {
        Some("no address of a machine")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("an address of many machines")
    } else {
        None
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_unspecified() {
        Some("no address of a machine")
    } else if address.is_multicast() {
        Some("an address of many machines")
    } else if address == METADATA_V6 {
        Some("the address of a metadata service")
    } else {
        inner(address).and_then(kind_v4)
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (NAT64) or 6to4.
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |a: u16, b: u16| Some(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b)));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => v4(a, b),
        [0x64, 0xff9b, 0 | 1, _, _, _, a, b] => v4(a, b),
        [0x2002, a, b, ..] => v4(a, b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_refused_however_it_is_written() {
        for bad in [
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(judge(bad.parse().unwrap(), &[]).is_err(), "{bad}");
        }
        for good in
            ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "64:ff9b::808:808", "2002:808:808::1"]
        {
            assert_eq!(judge(good.parse().unwrap(), &[]), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_operator_may_allow_networks() {
        let allowed = ["127.0.0.0/8".parse().unwrap(), "fe80::/10".parse().unwrap()];
        assert_eq!(judge("127.0.0.1".parse().unwrap(), &allowed), Ok(()));
        assert_eq!(judge("fe80::5".parse().unwrap(), &allowed), Ok(()));
        assert!(judge("169.254.169.254".parse().unwrap(), &allowed).is_err());
        assert!(judge("::ffff:127.0.0.1".parse().unwrap(), &allowed).is_err(), "only as it is written");
    }
}
