//! The host as seen by the agent: bridges, their ports, their leases.
//!
//! Order of `ensure_bridge`: folder (the mark), link, switches, addresses, firewall, daemon. Order
//! of `remove_bridge`: daemon, firewall, link, folder. One change at a time.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use basalt_runtime::CommandRunner;
use ipnet::IpNet;
use tokio::sync::Mutex;
use tracing::info;

use crate::{
    BridgeSpec, Error, HwAddr, IfName, Lease, Link, PortRules, Scope, dnsmasq, firewall,
    netlink::{self, Change},
    ports,
    state::{self, State},
    sysctl,
};

const MAC: &str = "mac";
/// The kernel takes 255 bytes.
const ALIAS_MAX: usize = 255;

/// See the module's head.
#[derive(Debug)]
pub struct Host {
    runner: Arc<dyn CommandRunner>,
    state_dir: PathBuf,
    alias: String,
    changes: Mutex<()>,
}

impl Host {
    /// `state_dir` is ours alone: one folder a bridge, made as needed. It should be reachable for
    /// other users (mode `x` on the way), or dnsmasq runs as root.
    pub fn new(runner: Arc<dyn CommandRunner>, state_dir: PathBuf) -> Self {
        // The daemon leaves our working directory.
        let state_dir = std::path::absolute(&state_dir).unwrap_or(state_dir);
        let alias = alias(&state_dir);
        Self { runner, state_dir, alias, changes: Mutex::new(()) }
    }

    /// Makes the bridge what the specification says, touching only what differs.
    pub async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), Error> {
        spec.validate()?;
        let _one = self.changes.lock().await;
        let state = State::new(&self.state_dir, &spec.name);
        let link = self.ensure_link(&state, spec).await?;
        sysctl::apply(spec)?;
        ensure_addresses(&link, spec).await?;
        firewall::ensure(&*self.runner, &state, spec).await?;
        dnsmasq::ensure(&*self.runner, &state, spec, link.index).await
    }

    /// Brings the static leases of an existing bridge up to date, and only those: cheap enough for
    /// every new guest. The specification is otherwise that of the last [`Host::ensure_bridge`].
    pub async fn ensure_leases(&self, spec: &BridgeSpec) -> Result<(), Error> {
        spec.validate()?;
        let _one = self.changes.lock().await;
        let state = State::new(&self.state_dir, &spec.name);
        let Some(link) = find(&spec.name).await? else {
            return Err(Error::NotFound { name: spec.name.clone() });
        };
        if !self.owns(&state, &link) {
            return Err(Error::Foreign { name: spec.name.clone() });
        }
        dnsmasq::ensure(&*self.runner, &state, spec, link.index).await
    }

    /// Removes the bridge and all that belongs to it. What is gone already is fine; ports are
    /// detached, not removed.
    pub async fn remove_bridge(&self, name: &IfName) -> Result<(), Error> {
        let _one = self.changes.lock().await;
        let state = State::new(&self.state_dir, name);
        let link = find(name).await?;
        if let Some(link) = &link
            && !self.owns(&state, link)
        {
            return Err(Error::Foreign { name: name.clone() });
        }
        dnsmasq::stop(&state, name).await?;
        firewall::remove(&*self.runner, &state, name).await?;
        if let Some(link) = link {
            info!(bridge = %name, "removing");
            netlink::delete(link.index).await.map_err(failed(name, "delete it"))?;
        }
        state.remove()
    }

    /// The bridges that we made here, whole or in part, by name.
    pub async fn list_bridges(&self) -> Result<Vec<IfName>, Error> {
        let mut names: BTreeSet<IfName> = state::bridges(&self.state_dir)?.into_iter().collect();
        let links = self.list_links().await?;
        let ours = links.iter().filter(|link| link.alias.as_deref() == Some(&self.alias));
        names.extend(ours.filter_map(|link| IfName::new(link.name.as_str()).ok()));
        Ok(names.into_iter().collect())
    }

    /// Attaches an existing interface (the host's end of a veth pair, a tap) to a bridge, and
    /// switches it on.
    pub async fn ensure_port(&self, bridge: &IfName, port: &IfName, mtu: Option<u32>) -> Result<(), Error> {
        let _one = self.changes.lock().await;
        let missing = |name: &IfName| Error::NotFound { name: name.clone() };
        let master = find(bridge).await?.ok_or_else(|| missing(bridge))?;
        let link = find(port).await?.ok_or_else(|| missing(port))?;
        let change = Change {
            mtu: mtu.filter(|mtu| *mtu != link.mtu),
            master: (link.master != Some(master.index)).then_some(master.index),
            up: !link.up,
            ..Change::default()
        };
        if change.mtu.is_none() && change.master.is_none() && !change.up {
            return Ok(());
        }
        netlink::change(link.index, change).await.map_err(failed(port, "attach it to its bridge"))
    }

    /// Holds the guests' ends of bridges to these rules, and to none that are not among them. Rules go by the name of the
    /// host's end: they hold before there is such an interface, and when there is another of that name.
    pub async fn ensure_ports(&self, ports: &[PortRules]) -> Result<(), Error> {
        let _one = self.changes.lock().await;
        ports::ensure(&*self.runner, &State::of_ports(&self.state_dir), ports).await
    }

    /// Makes a veth pair with both ends on this host, and switches both on. [`Host::remove_port`] of one end removes it.
    pub async fn ensure_pair(&self, one: &IfName, other: &IfName) -> Result<(), Error> {
        let _one = self.changes.lock().await;
        if find(one).await?.is_none() {
            info!(%one, %other, "creating a pair");
            netlink::create_pair(one, other).await.map_err(failed(one, "create it"))?;
        }
        for name in [one, other] {
            let link = find(name).await?.ok_or_else(|| Error::NotFound { name: name.clone() })?;
            if !link.is_kind("veth") {
                return Err(Error::Foreign { name: name.clone() });
            }
            switch_on(name, &link).await?;
        }
        Ok(())
    }

    /// Switches an interface on that exists, ours or not.
    pub async fn ensure_up(&self, name: &IfName) -> Result<(), Error> {
        let _one = self.changes.lock().await;
        let link = find(name).await?.ok_or_else(|| Error::NotFound { name: name.clone() })?;
        switch_on(name, &link).await
    }

    /// Deletes a leaked veth or tap; it may be gone already. Other kinds are refused.
    pub async fn remove_port(&self, port: &IfName) -> Result<(), Error> {
        let _one = self.changes.lock().await;
        let Some(link) = find(port).await? else { return Ok(()) };
        if !["veth", "tun", "netkit"].iter().any(|kind| link.is_kind(kind)) {
            return Err(Error::Foreign { name: port.clone() });
        }
        netlink::delete(link.index).await.map_err(failed(port, "delete it"))
    }

    /// The interfaces attached to a bridge; none when it does not exist.
    pub async fn list_ports(&self, bridge: &IfName) -> Result<Vec<Link>, Error> {
        let links = self.list_links().await?;
        let Some(master) = links.iter().find(|link| link.name == bridge.as_str()) else {
            return Ok(Vec::new());
        };
        let index = Some(master.index);
        Ok(links.into_iter().filter(|link| link.master == index).collect())
    }

    /// All interfaces of the host, ours or not.
    pub async fn list_links(&self) -> Result<Vec<Link>, Error> {
        netlink::links().await.map_err(|source| Error::Netlink {
            name: "all".to_owned(),
            step: "list interfaces",
            source,
        })
    }

    /// What DHCP gave out on a bridge, expired or not yet.
    pub async fn leases(&self, bridge: &IfName) -> Result<Vec<Lease>, Error> {
        dnsmasq::leases(&State::new(&self.state_dir, bridge))
    }

    fn owns(&self, state: &State, link: &Link) -> bool {
        link.is_kind("bridge") && (link.alias.as_deref() == Some(&self.alias) || state.exists())
    }

    async fn ensure_link(&self, state: &State, spec: &BridgeSpec) -> Result<Link, Error> {
        let name = &spec.name;
        let found = find(name).await?;
        if let Some(link) = &found
            && !self.owns(state, link)
        {
            return Err(Error::Foreign { name: name.clone() });
        }
        // The mark comes first: a bridge without alias is ours only when it is there.
        state.create()?;
        let mac = hardware_address(state, spec)?;
        let link = match found {
            Some(link) => link,
            None => {
                info!(bridge = %name, "creating");
                netlink::create_bridge(name, mac).await.map_err(failed(name, "create it"))?;
                find(name).await?.ok_or_else(|| Error::NotFound { name: name.clone() })?
            }
        };
        let change = Change {
            mac: (link.mac != Some(mac)).then_some(mac),
            mtu: spec.mtu.filter(|mtu| *mtu != link.mtu),
            alias: (link.alias.as_deref() != Some(&self.alias)).then(|| self.alias.clone()),
            master: None,
            up: !link.up,
        };
        if change.mac.is_some() || change.mtu.is_some() || change.alias.is_some() || change.up {
            netlink::change(link.index, change).await.map_err(failed(name, "change it"))?;
        }
        Ok(link)
    }
}

async fn switch_on(name: &IfName, link: &Link) -> Result<(), Error> {
    match link.up {
        true => Ok(()),
        false => netlink::change(link.index, Change { up: true, ..Change::default() })
            .await
            .map_err(failed(name, "switch it on")),
    }
}

/// Leaves link-local addresses, which are the kernel's, alone.
async fn ensure_addresses(link: &Link, spec: &BridgeSpec) -> Result<(), Error> {
    let mut wanted: Vec<IpNet> = spec.ipv4.map(IpNet::V4).into_iter().chain(spec.ipv6.map(IpNet::V6)).collect();
    for address in link.addresses.iter().filter(|address| address.scope != Scope::Link) {
        let same = |net: &IpNet| net.addr() == address.ip && net.prefix_len() == address.prefix;
        match wanted.iter().position(same) {
            Some(at) => {
                wanted.swap_remove(at);
            }
            // Removing comes first: with the first address of a subnet go its others.
            None => {
                netlink::remove_address(link.index, *address).await.map_err(failed(&spec.name, "remove an address"))?
            }
        }
    }
    for net in wanted {
        let added = netlink::add_address(link.index, net).await;
        added.map_err(failed(&spec.name, "add an address"))?;
    }
    Ok(())
}

/// The address asked for, or one drawn when the bridge was first made: it must not change with its
/// ports, or guests lose their gateway for a while.
fn hardware_address(state: &State, spec: &BridgeSpec) -> Result<HwAddr, Error> {
    if let Some(mac) = spec.mac {
        return Ok(mac);
    }
    if let Some(kept) = state.read(MAC)?.and_then(|text| text.trim().parse().ok()) {
        return Ok(kept);
    }
    let random = Path::new("/proc/sys/kernel/random/uuid");
    let drawn = fs::read_to_string(random).and_then(|uuid| {
        let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(6).collect();
        let number = u32::from_str_radix(&digits, 16).map_err(io::Error::other)?;
        let [_, a, b, c] = number.to_be_bytes();
        Ok(HwAddr([0x00, 0x16, 0x3e, a, b, c]))
    });
    let mac = drawn.map_err(|source| Error::File { step: "read", path: random.to_owned(), source })?;
    state.write(MAC, &mac.to_string())?;
    Ok(mac)
}

async fn find(name: &IfName) -> Result<Option<Link>, Error> {
    netlink::link(name).await.map_err(failed(name, "look it up"))
}

fn failed(name: &IfName, step: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Netlink { name: name.to_string(), step, source }
}

/// Tells two agents with folders of their own apart. The end of a long path tells more.
fn alias(state_dir: &Path) -> String {
    let path = state_dir.to_string_lossy();
    let prefix = "basalt:";
    let mut from = path.len().saturating_sub(ALIAS_MAX - prefix.len());
    while !path.is_char_boundary(from) {
        from += 1;
    }
    format!("{prefix}{}", &path[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_fit() {
        assert_eq!(alias(Path::new("/var/lib/x")), "basalt:/var/lib/x");
        let long = alias(Path::new(&"ü/".repeat(200)));
        assert!(long.len() <= ALIAS_MAX && long.ends_with("ü/"), "{long}");
    }
}
