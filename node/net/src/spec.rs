//! What a managed bridge should be on this host.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{DnsName, Error, Forward, Guard, HwAddr, IfName, NicGuard};

/// An address, and a name, that DHCP gives to one client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaticLease {
    /// Who it is for.
    pub mac: HwAddr,
    /// Its IPv4 address; without, it gets one from the ranges.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address; needs `ipv6_dhcp_stateful`.
    pub ipv6: Option<Ipv6Addr>,
    /// The name under which DNS answers for it while it holds a lease.
    pub hostname: Option<DnsName>,
}

/// One bridge. Start from [`BridgeSpec::new`] and set what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The interface.
    pub name: IfName,
    /// Its hardware address; without, one is drawn once and kept.
    pub mac: Option<HwAddr>,
    /// Its MTU; without, the kernel's choice.
    pub mtu: Option<u32>,
    /// The host's IPv4 address on the bridge, with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// Masquerade IPv4 that leaves the subnet by another interface.
    pub ipv4_nat: bool,
    /// Route IPv4 between the bridge and the rest (switches the host's forwarding on).
    pub ipv4_routing: bool,
    /// Accept DHCP, DNS and forwarded packets in our table.
    pub ipv4_firewall: bool,
    /// Serve DHCPv4.
    pub ipv4_dhcp: bool,
    /// First and last address of each range; without any, the whole subnet.
    pub ipv4_dhcp_ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// How long a lease lasts, at least two minutes.
    pub ipv4_dhcp_expiry: Duration,
    /// The router that DHCP announces; without, the bridge's own address.
    pub ipv4_dhcp_gateway: Option<Ipv4Addr>,
    /// The host's IPv6 address on the bridge, with the subnet's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// Masquerade IPv6 that leaves the subnet by another interface.
    pub ipv6_nat: bool,
    /// Route IPv6 between the bridge and the rest (switches the host's forwarding on).
    pub ipv6_routing: bool,
    /// Accept DHCP, DNS and forwarded packets in our table.
    pub ipv6_firewall: bool,
    /// Send router advertisements; clients choose their own address.
    pub ipv6_dhcp: bool,
    /// Hand addresses out by DHCPv6 as well.
    pub ipv6_dhcp_stateful: bool,
    /// The domain of the guests' names; DNS answers for it without asking upstream.
    pub dns_domain: Option<DnsName>,
    /// Fixed addresses and names.
    pub static_leases: Vec<StaticLease>,
    /// What may cross between the guests and the rest; without, everything.
    pub guard: Option<Guard>,
    /// Interfaces for which something else holds.
    pub nic_guards: Vec<NicGuard>,
    /// Addresses of this host whose traffic goes to guests.
    pub forwards: Vec<Forward>,
}

impl BridgeSpec {
    /// A bridge without addresses; once it gets some: routing, firewall and DHCP on, NAT off.
    pub fn new(name: IfName) -> Self {
        Self {
            name,
            mac: None,
            mtu: None,
            ipv4: None,
            ipv4_nat: false,
            ipv4_routing: true,
            ipv4_firewall: true,
            ipv4_dhcp: true,
            ipv4_dhcp_ranges: Vec::new(),
            ipv4_dhcp_expiry: Duration::from_secs(3600),
            ipv4_dhcp_gateway: None,
            ipv6: None,
            ipv6_nat: false,
            ipv6_routing: true,
            ipv6_firewall: true,
            ipv6_dhcp: true,
            ipv6_dhcp_stateful: false,
            dns_domain: None,
            static_leases: Vec::new(),
            guard: None,
            nic_guards: Vec::new(),
            forwards: Vec::new(),
        }
    }

    /// Checks what the types leave open. [`crate::Host::ensure_bridge`] does it too.
    pub fn validate(&self) -> Result<(), Error> {
        let checks = [self.check_link(), self.check_ipv4(), self.check_ipv6()];
        match checks.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(mistake) => Err(Error::Invalid { bridge: self.name.clone(), mistake }),
        }
    }

    fn check_link(&self) -> Result<(), String> {
        if let Some(mac) = self.mac {
            require(mac.is_unicast(), || format!("{mac} is no address of one interface"))?;
        }
        if let Some(mtu) = self.mtu {
            let least = if self.ipv6.is_some() { 1280 } else { 68 };
            let fits = (least..=65535).contains(&mtu);
            require(fits, || format!("MTU {mtu} is not between {least} and 65535"))?;
        }
        let bad = self.static_leases.iter().find(|lease| !lease.mac.is_unicast());
        require(bad.is_none(), || "a static lease has no address of one interface".to_owned())
    }

    fn check_ipv4(&self) -> Result<(), String> {
        let Some(net) = self.ipv4 else { return Ok(()) };
        let (own, subnet) = (net.addr(), net.trunc());
        require((8..=30).contains(&net.prefix_len()), || format!("{net}: the prefix length must be between 8 and 30"))?;
        require(own != net.network() && own != net.broadcast(), || {
            format!("{net} is not the address of a host in its subnet")
        })?;
        for (first, last) in &self.ipv4_dhcp_ranges {
            let good = first <= last && subnet.contains(first) && subnet.contains(last);
            require(good, || format!("range {first}-{last} is not inside {subnet}"))?;
        }
        if let Some(gateway) = self.ipv4_dhcp_gateway {
            require(subnet.contains(&gateway), || format!("gateway {gateway} is not in {subnet}"))?;
        }
        for ip in self.static_leases.iter().filter_map(|lease| lease.ipv4) {
            let free = subnet.contains(&ip) && ip != own && ip != net.network() && ip != net.broadcast();
            require(free, || format!("static address {ip} is not a free address of {subnet}"))?;
        }
        // dnsmasq raises anything shorter by itself, which would look like a lie.
        require(self.ipv4_dhcp_expiry >= Duration::from_secs(120), || {
            "leases must last at least two minutes".to_owned()
        })
    }

    fn check_ipv6(&self) -> Result<(), String> {
        let Some(net) = self.ipv6 else { return Ok(()) };
        let (own, subnet) = (net.addr(), net.trunc());
        let usable = !own.is_multicast() && !own.is_unicast_link_local() && !own.is_loopback();
        require(usable && own != net.network(), || format!("{net} is not the address of a host in its subnet"))?;
        let prefix = net.prefix_len();
        if self.ipv6_dhcp && !self.ipv6_dhcp_stateful {
            require(prefix == 64, || format!("{net}: clients choose addresses in a /64 only"))?;
        }
        require((16..=120).contains(&prefix), || format!("{net}: the prefix length must be between 16 and 120"))?;
        for ip in self.static_leases.iter().filter_map(|lease| lease.ipv6) {
            require(subnet.contains(&ip) && ip != own, || {
                format!("static address {ip} is not a free address of {subnet}")
            })?;
        }
        Ok(())
    }
}

fn require(good: bool, mistake: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(mistake()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> BridgeSpec {
        BridgeSpec {
            ipv4: Some("10.1.2.1/24".parse().unwrap()),
            ipv6: Some("fd00:1::1/64".parse().unwrap()),
            ..BridgeSpec::new(IfName::new("br0").unwrap())
        }
    }

    fn refused(change: impl FnOnce(&mut BridgeSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        spec.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn a_usual_one_is_fine() {
        spec().validate().unwrap();
        BridgeSpec::new(IfName::new("br0").unwrap()).validate().unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        let net = |text: &str| text.parse().ok();
        assert!(refused(|s| s.ipv4 = net("10.1.2.0/24")).contains("10.1.2.0/24"));
        assert!(refused(|s| s.ipv4 = net("10.1.2.255/24")).contains("not the address of a host"));
        assert!(refused(|s| s.ipv4 = net("10.1.2.1/31")).contains("prefix length"));
        let range = ("10.1.2.9".parse().unwrap(), "10.1.3.2".parse().unwrap());
        assert!(refused(|s| s.ipv4_dhcp_ranges = vec![range]).contains("10.1.2.9-10.1.3.2"));
        assert!(refused(|s| s.ipv4_dhcp_expiry = Duration::from_secs(1)).contains("two minutes"));
        assert!(refused(|s| s.mtu = Some(1000)).contains("1280"));
        assert!(refused(|s| s.mac = Some(HwAddr([1; 6]))).contains("01:01"));
        assert!(refused(|s| s.ipv6 = "fd00::1/80".parse().ok()).contains("/64"));
        assert!(refused(|s| s.ipv6 = "fe80::1/64".parse().ok()).contains("fe80::1"));
        let own = StaticLease { mac: HwAddr([2; 6]), ipv4: "10.1.2.1".parse().ok(), ipv6: None, hostname: None };
        assert!(refused(|s| s.static_leases.push(own)).contains("static address 10.1.2.1"));
    }
}
