//! Managed bridges on this host: made from the replicated definition, with the static leases of the instances here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use basalt_model::config::{is_false, is_true, parse_expiry};
use basalt_model::device::Device;
use basalt_model::instance::Instance;
use basalt_model::network::{Network, NetworkKind};
use basalt_model::{ClusterState, InstanceId, Mac, NetworkName, NodeId, StateView};
use basalt_net::{BridgeSpec, DnsName, Host, HwAddr, IfName, NicGuard, PortRules, StaticLease};

use super::{Parts, guest, ports, rules};

/// The bridges of this host.
#[derive(Debug)]
pub struct Networks {
    host: Arc<Host>,
    /// What each was last made from, and the error if that failed.
    made: Mutex<BTreeMap<NetworkName, (BridgeSpec, Option<String>)>>,
    /// Locked while it is put in force, so that the latest stands.
    held: tokio::sync::Mutex<Held>,
    /// Interfaces with lists of their own, by instance, as their bridges were last told.
    guards: Mutex<BTreeMap<InstanceId, Vec<(NetworkName, NicGuard)>>>,
}

/// What the interfaces of each instance here are held to.
#[derive(Debug, Default)]
struct Held {
    rules: BTreeMap<InstanceId, Vec<PortRules>>,
    /// Whether the host has taken all of it.
    in_force: bool,
}

impl Networks {
    /// Nothing is made yet.
    pub fn new(host: Arc<Host>) -> Self {
        Networks { host, made: Mutex::default(), held: tokio::sync::Mutex::default(), guards: Mutex::default() }
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
        for network in defined_bridges(view) {
            match spec(network, view, parts.me) {
                Ok(wanted) => self.ensure(network, wanted).await,
                Err(why) => tracing::error!(network = %network.name, why, "the network cannot be realised"),
            }
        }
        self.hold_all(parts, view).await;
        self.remove_strays(parts, view).await;
        self.remove_leaked_ports(parts, view).await;
    }

    /// Makes sure that the networks of an instance are as they are to be, its static leases included, before it starts.
    pub(super) async fn ready_for(&self, parts: &Parts, view: &StateView, instance: &Instance) -> Result<(), String> {
        for (_, device) in view.parsed_devices(&instance.project, &instance.spec) {
            let Device::Nic { network: Some(name), .. } = device else { continue };
            let network = view.network_of(&instance.project, &name);
            let network = network.ok_or_else(|| format!("network {name} does not exist"))?;
            if network.kind != NetworkKind::Bridge {
                continue;
            }
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

    /// Puts in force what the interfaces of all instances here are held to.
    async fn hold_all(&self, parts: &Parts, view: &StateView) {
        let mut held = self.held.lock().await;
        let all = view.living_on(parts.me).map(|instance| (instance.id, ports::of(view, instance)));
        held.rules = all.filter(|(_, rules)| !rules.is_empty()).collect();
        if let Err(why) = self.put_in_force(&mut held).await {
            tracing::warn!(why, "limits and filters of interfaces are not as they are to be; trying again");
        }
    }

    /// The same for one instance whose home is here, if anything of it has changed.
    pub(super) async fn hold(&self, view: &ClusterState, instance: &Instance) -> Result<(), String> {
        let rules = ports::of(view, instance);
        let mut held = self.held.lock().await;
        let same = held.rules.get(&instance.id).map(Vec::as_slice).unwrap_or_default() == rules;
        if held.in_force && same {
            return Ok(());
        }
        match rules.is_empty() {
            true => held.rules.remove(&instance.id),
            false => held.rules.insert(instance.id, rules),
        };
        self.put_in_force(&mut held).await
    }

    /// Tells bridges of the lists that an instance's interfaces have, if those have changed.
    pub(super) async fn guard(&self, parts: &Parts, view: &StateView, instance: &Instance) -> Result<(), String> {
        let now = ports::guards(view, instance);
        let lock = || self.guards.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = lock().get(&instance.id).cloned().unwrap_or_default();
        if now == before {
            return Ok(());
        }
        let named: BTreeSet<&NetworkName> = before.iter().chain(&now).map(|(name, _)| name).collect();
        let bridges = defined_bridges(view).filter(|network| named.contains(&network.name));
        for network in bridges {
            self.ensure(network, spec(network, view, parts.me)?).await;
            if let Some((_, Some(error))) = self.made().get(&network.name) {
                return Err(format!("network {}: {error}", network.name));
            }
        }
        match now.is_empty() {
            true => lock().remove(&instance.id),
            false => lock().insert(instance.id, now),
        };
        Ok(())
    }

    /// An instance is gone from here.
    pub(super) async fn release(&self, id: InstanceId) -> Result<(), String> {
        self.guards.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&id);
        let mut held = self.held.lock().await;
        match held.rules.remove(&id) {
            Some(_) => self.put_in_force(&mut held).await,
            None => Ok(()),
        }
    }

    async fn put_in_force(&self, held: &mut Held) -> Result<(), String> {
        let all: Vec<PortRules> = held.rules.values().flatten().cloned().collect();
        let done = self.host.ensure_ports(&all).await.map_err(|e| basalt_runtime::chain(&e));
        held.in_force = done.is_ok();
        done
    }

    /// Bridges of ours that the cluster does not define; the quorum must confirm it.
    async fn remove_strays(&self, parts: &Parts, view: &StateView) {
        let Ok(bridges) = self.host.list_bridges().await else { return };
        let defined = |view: &StateView, name: &IfName| defined_bridges(view).any(|n| n.name.as_str() == name.as_str());
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

/// Networks that are a bridge of this host.
fn defined_bridges(view: &StateView) -> impl Iterator<Item = &Network> {
    view.networks.values().filter(|n| n.kind == NetworkKind::Bridge)
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
    spec.guard = rules::guard(view, network);
    let guards = view.living_on(me).flat_map(|instance| ports::guards(view, instance));
    spec.nic_guards = guards.filter(|(on, _)| *on == network.name).map(|(_, guard)| guard).collect();
    spec.forwards = rules::forwards(network);
    Ok(spec)
}

/// Fixed addresses of the instances here on this network.
fn static_leases(network: &Network, view: &StateView, me: NodeId) -> Vec<StaticLease> {
    let mut leases = Vec::new();
    for instance in view.living_on(me) {
        for (name, device) in view.parsed_devices(&instance.project, &instance.spec) {
            let Device::Nic { network: Some(on), mac, ipv4, ipv6, .. } = device else { continue };
            let here = network.goes_by(&view.meant(&instance.project, &on));
            let drawn =
                instance.spec.config.get(&format!("volatile.{name}.hwaddr")).and_then(|m| m.parse::<Mac>().ok());
            let Some(mac) = mac.or(drawn).filter(|_| here && (ipv4.is_some() || ipv6.is_some())) else {
                continue;
            };
            let hostname = DnsName::new(instance.name.as_str()).ok();
            leases.push(StaticLease { mac: HwAddr(mac.0), ipv4, ipv6, hostname });
        }
    }
    leases.sort();
    leases
}
