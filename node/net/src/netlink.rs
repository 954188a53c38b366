//! Links and addresses of the current network namespace, through rtnetlink.
//!
//! A socket lives for one request only, and is driven by the future that asks: nothing runs in the
//! background, and the namespace is always that of the calling thread. Listing and changing a link
//! that vanishes meanwhile is an ordinary end, not an error.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
};
use rtnetlink::{AddressMessageBuilder, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::time::timeout;

use crate::{HwAddr, IfName};

/// The kernel answers at once, or something is badly wrong.
const DEADLINE: Duration = Duration::from_secs(10);

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// One link.
    Link,
    /// This host.
    Host,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Link => "link",
            Self::Host => "local",
        })
    }
}

/// One address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Its subnet's prefix length.
    pub prefix: u8,
    /// Its reach.
    pub scope: Scope,
}

/// Traffic since the link was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// A network interface, ours or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name; not always one that we would give.
    pub name: String,
    /// Its number in this namespace.
    pub index: u32,
    /// `bridge`, `veth`, `tun`, ...; nothing for hardware and loopback.
    pub kind: Option<String>,
    /// Whether it is a loopback.
    pub loopback: bool,
    /// Its hardware address.
    pub mac: Option<HwAddr>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it has a carrier.
    pub running: bool,
    /// The bridge or bond it is a port of.
    pub master: Option<u32>,
    /// A veth's other end, by its number in the namespace it is in.
    pub peer: Option<u32>,
    /// Its alias.
    pub alias: Option<String>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its traffic.
    pub counters: Counters,
}

impl Link {
    pub(crate) fn is_kind(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }
}

/// What to change of a link; `None` leaves as is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) mac: Option<HwAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) alias: Option<String>,
    pub(crate) master: Option<u32>,
    pub(crate) up: bool,
}

/// All links with their addresses.
pub(crate) async fn links() -> io::Result<Vec<Link>> {
    with(async |handle| {
        let messages: Vec<_> = handle.link().get().execute().try_collect().await?;
        let mut links: Vec<Link> = messages.into_iter().map(link_from).collect();
        let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
        for message in addresses {
            let link = links.iter_mut().find(|link| link.index == message.header.index);
            if let (Some(link), Some(address)) = (link, address_from(&message)) {
                link.addresses.push(address);
            }
        }
        Ok(links)
    })
    .await
}

/// One link, if it is there.
pub(crate) async fn link(name: &IfName) -> io::Result<Option<Link>> {
    let found = with(async |handle| {
        let get = handle.link().get().match_name(name.as_str());
        let Some(message) = std::pin::pin!(get.execute()).try_next().await? else {
            return Ok(None);
        };
        let mut link = link_from(message);
        let addresses = handle.address().get().set_link_index_filter(link.index);
        let addresses: Vec<_> = addresses.execute().try_collect().await?;
        let own = addresses.iter().filter(|message| message.header.index == link.index);
        link.addresses = own.filter_map(address_from).collect();
        Ok(Some(link))
    })
    .await;
    match found {
        Err(error) if is_no_device(&error) => Ok(None),
        other => other,
    }
}

pub(crate) async fn create_bridge(name: &IfName, mac: HwAddr) -> io::Result<()> {
    with(async |handle| {
        // With an address given, the bridge keeps it instead of borrowing the lowest of its ports.
        let message = LinkBridge::new(name.as_str()).address(mac.0.to_vec()).build();
        handle.link().add(message).execute().await
    })
    .await
}

pub(crate) async fn create_pair(one: &IfName, other: &IfName) -> io::Result<()> {
    let message = LinkVeth::new(one.as_str(), other.as_str()).build();
    with(async |handle| handle.link().add(message).execute().await).await
}

pub(crate) async fn change(index: u32, change: Change) -> io::Result<()> {
    with(async |handle| {
        let mut message = LinkUnspec::new_with_index(index);
        if let Some(mac) = change.mac {
            message = message.address(mac.0.to_vec());
        }
        if let Some(mtu) = change.mtu {
            message = message.mtu(mtu);
        }
        if let Some(alias) = change.alias {
            message = message.alias(alias);
        }
        if let Some(master) = change.master {
            message = message.controller(master);
        }
        if change.up {
            message = message.up();
        }
        handle.link().change(LinkMessageBuilder::build(message)).execute().await
    })
    .await
}

/// Deletes a link; it may be gone already.
pub(crate) async fn delete(index: u32) -> io::Result<()> {
    match with(async |handle| handle.link().del(index).execute().await).await {
        Err(error) if is_no_device(&error) => Ok(()),
        other => other,
    }
}

/// Adds an address; it may be there already.
pub(crate) async fn add_address(index: u32, net: IpNet) -> io::Result<()> {
    let added = with(async |handle| {
        let mut request = handle.address().add(index, net.addr(), net.prefix_len());
        if net.addr().is_ipv6() {
            // We give each address once: no waiting for a duplicate to speak up.
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        request.execute().await
    });
    match added.await {
        Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// Removes an address; it may be gone already.
pub(crate) async fn remove_address(index: u32, address: Address) -> io::Result<()> {
    let message = match address.ip {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, address.prefix).build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(ip, address.prefix).build(),
    };
    match with(async |handle| handle.address().del(message).execute().await).await {
        Err(error) if error.raw_os_error() == Some(nix::libc::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// Opens a socket in the current namespace and drives it while `ask` uses it.
async fn with<T, F>(ask: impl FnOnce(Handle) -> F) -> io::Result<T>
where
    F: Future<Output = Result<T, rtnetlink::Error>>,
{
    let (connection, handle, _events) = rtnetlink::new_connection()?;
    let asked = async {
        // The connection ends by itself only when its socket breaks.
        tokio::select! {
            answer = ask(handle) => answer.map_err(to_io),
            () = connection => Err(io::Error::other("the netlink socket was closed")),
        }
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer");
    timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(late()))
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ENODEV)
}

fn link_from(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        kind: None,
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::LowerUp),
        master: None,
        peer: None,
        alias: None,
        addresses: Vec::new(),
        counters: Counters::default(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes).ok().map(HwAddr);
            }
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Stats64(stats) => {
                link.counters = Counters {
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_errors: stats.rx_errors,
                    tx_errors: stats.tx_errors,
                    rx_dropped: stats.rx_dropped,
                    tx_dropped: stats.tx_dropped,
                };
            }
            _ => {}
        }
    }
    link
}

fn address_from(message: &AddressMessage) -> Option<Address> {
    // On a point-to-point link `Address` is the other side's.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    let scope = match message.header.scope {
        AddressScope::Link => Scope::Link,
        AddressScope::Host => Scope::Host,
        _ => Scope::Global,
    };
    Some(Address { ip: local.or(any)?, prefix: message.header.prefix_len, scope })
}
