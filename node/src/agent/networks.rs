//! Managed bridges on this host: made from the replicated definition, with the static leases of the instances here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use basalt_model::config::{is_false, is_true, parse_expiry};
use basalt_model::device::Device;
use basalt_model::instance::Instance;
use basalt_model::network::Network;
use basalt_model::{Mac, NetworkName, NodeId, StateView};
use basalt_net::{BridgeSpec, DnsName, Host, HwAddr, IfName, StaticLease};

use super::{Parts, guest};

/// The bridges of this host.
#[derive(Debug)]
pub struct Networks {
    host: Host,
    /// What each was last made from, and the error if that failed.
    made: Mutex<BTreeMap<NetworkName, (BridgeSpec, Option<String>)>>,
}

impl Networks {
    /// Nothing is made yet.
    pub fn new(host: Host) -> Self {
        Networks { host, made: Mutex::default() }
    }

    /// Leases that DHCP gave out here: MAC, address, host name.
    pub async fn leases(&self, network: &NetworkName) -> Vec<(Mac, IpAddr, String)> {
        let Ok(name) = IfName::new(network.as_str()) else { return Vec::new() };
        match self.host.leases(&name).await {
            Ok(leases) => leases
                .into_iter()
                .filter_map(|l| Some((Mac(l.mac?.0), l.address, l.hostname.unwrap_or_default())))
                .collect(),
            Err(error) => {
                tracing::warn!(%network, %error, "leases cannot be read");
                Vec::new()
            }
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, BTreeMap<NetworkName, (BridgeSpec, Option<String>)>> {
        self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes what is defined, removes what no longer is.
    pub(super) async fn pass(&self, parts: &Parts, view: &StateView) {
        for network in view.networks.values() {
            match spec(network, view, parts.me) {
                Ok(wanted) => self.ensure(network, wanted).await,
                Err(why) => tracing::error!(network = %network.name, why, "the network cannot be realised"),
            }
        }
        self.remove_strays(parts, view).await;
        self.remove_leaked_ports(parts, view).await;
    }

    /// Makes sure that the networks of an instance are as they are to be, its static leases included, before it starts.
    pub(super) async fn ready_for(&self, parts: &Parts, view: &StateView, instance: &Instance) -> Result<(), String> {
        for (_, device) in view.parsed_devices(&instance.project, &instance.spec) {
            let Device::Nic { network: Some(name), .. } = device else { continue };
            let network = view.networks.get(&name).ok_or_else(|| format!("network {name} does not exist"))?;
            let wanted = spec(network, view, parts.me)?;
            let done = self.made().get(&name).is_some_and(|(made, error)| *made == wanted && error.is_none());
            if !done {
                self.ensure(network, wanted).await;
            }
            if let Some((_, Some(error))) = self.made().get(&name) {
                return Err(format!("network {name} is not available on this member: {error}"));
            }
        }
        Ok(())
    }

    async fn ensure(&self, network: &Network, wanted: BridgeSpec) {
        let error = self.host.ensure_bridge(&wanted).await.err().map(|e| basalt_runtime::chain(&e));
        if let Some(error) = &error {
            tracing::warn!(network = %network.name, %error, "the network could not be made; trying again");
        }
        self.made().insert(network.name.clone(), (wanted, error));
    }

    /// Bridges of ours that the cluster does not define; the quorum must confirm it.
    async fn remove_strays(&self, parts: &Parts, view: &StateView) {
        let Ok(bridges) = self.host.list_bridges().await else { return };
        let defined = |view: &StateView, name: &IfName| view.networks.keys().any(|n| n.as_str() == name.as_str());
        let strays: Vec<IfName> = bridges.into_iter().filter(|name| !defined(view, name)).collect();
        if strays.is_empty() {
            return;
        }
        let Ok(fresh) = parts.cluster.linearizable().await else { return };
        for name in strays.into_iter().filter(|name| !defined(&fresh, name)) {
            match self.host.remove_bridge(&name).await {
                Ok(()) => self.made().retain(|network, _| network.as_str() != name.as_str()),
                Err(error) => tracing::warn!(bridge = %name, %error, "the bridge could not be removed; trying again"),
            }
        }
    }

    /// Host ends of veth pairs whose instance has no such device here any more.
    async fn remove_leaked_ports(&self, parts: &Parts, view: &StateView) {
        let Ok(links) = self.host.list_links().await else { return };
        let wanted: Vec<String> = view
            .assigned_to(parts.me)
            .flat_map(|i| {
                view.expanded_devices(&i.project, &i.spec).into_keys().map(|d| guest::host_interface(i.id, &d))
            })
            .collect();
        let ours = |name: &str| name.starts_with(guest::HOST_PREFIX) && name.len() == guest::HOST_PREFIX.len() + 10;
        for link in links {
            let name = link.name.as_str();
            let Ok(interface) = IfName::new(name) else { continue };
            if ours(name) && !wanted.iter().any(|w| w == name) {
                tracing::warn!(interface = name, "removing a leaked interface");
                if let Err(error) = self.host.remove_port(&interface).await {
                    tracing::warn!(%error, "the leaked interface could not be removed");
                }
            }
        }
    }
}

/// The bridge that a network means on this node.
fn spec(network: &Network, view: &StateView, me: NodeId) -> Result<BridgeSpec, String> {
    let key = |name: &str| network.config.get(name).map(String::as_str).filter(|v| !v.is_empty() && *v != "none");
    let name = IfName::new(network.name.as_str()).map_err(|e| basalt_runtime::chain(&e))?;
    let mut spec = BridgeSpec::new(name);
    spec.mtu = key("bridge.mtu").map(str::parse).transpose().map_err(|_| "bridge.mtu: not a number")?;
    spec.ipv4 = key("ipv4.address").map(str::parse).transpose().map_err(|_| "ipv4.address: not a subnet")?;
    spec.ipv6 = key("ipv6.address").map(str::parse).transpose().map_err(|_| "ipv6.address: not a subnet")?;
    spec.ipv4_nat = key("ipv4.nat").is_some_and(is_true);
    spec.ipv6_nat = key("ipv6.nat").is_some_and(is_true);
    spec.ipv4_dhcp = !key("ipv4.dhcp").is_some_and(is_false);
    if let Some(ranges) = key("ipv4.dhcp.ranges") {
        let range = |r: &str| {
            let (first, last) = r.trim().split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        spec.ipv4_dhcp_ranges =
            ranges.split(',').map(range).collect::<Option<_>>().ok_or("ipv4.dhcp.ranges: not ranges")?;
    }
    if let Some(expiry) = key("ipv4.dhcp.expiry") {
        let secs = parse_expiry(expiry).or_else(|_| parse_expiry(&expiry.replace('m', "M")))?;
        spec.ipv4_dhcp_expiry = Duration::from_secs(secs.max(120));
    }
    let domain = key("dns.domain").unwrap_or("basalt");
    spec.dns_domain = Some(DnsName::new(domain).map_err(|e| basalt_runtime::chain(&e))?);
    spec.static_leases = static_leases(network, view, me);
    Ok(spec)
}

/// Fixed addresses of the instances here on this network.
fn static_leases(network: &Network, view: &StateView, me: NodeId) -> Vec<StaticLease> {
    let mut leases = Vec::new();
    for instance in view.living_on(me) {
        for (name, device) in view.parsed_devices(&instance.project, &instance.spec) {
            let Device::Nic { network: Some(on), mac, ipv4, ipv6, .. } = device else { continue };
            let drawn =
                instance.spec.config.get(&format!("volatile.{name}.hwaddr")).and_then(|m| m.parse::<Mac>().ok());
            let Some(mac) = mac.or(drawn).filter(|_| on == network.name && (ipv4.is_some() || ipv6.is_some())) else {
                continue;
            };
            let hostname = DnsName::new(instance.name.as_str()).ok();
            leases.push(StaticLease { mac: HwAddr(mac.0), ipv4, ipv6, hostname });
        }
    }
    leases.sort();
    leases
}
