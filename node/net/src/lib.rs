//! Host networking that is not OVN: managed bridges with their addresses, NAT, DHCP and DNS.
//!
//! ```text
//! BridgeSpec --ensure_bridge--> bridge link, addresses   (rtnetlink)
//!                               forwarding switches      (/proc/sys/net)
//!                               table inet basalt_NAME   (nft -f -, one transaction)
//!                               dnsmasq                  (a daemon that outlives the agent)
//! state_dir/NAME/               marker, leases, static hosts, what was loaded last
//! ```
//!
//! Invariants: everything is reconciled from what the host shows, so `ensure_*` and `remove_*` may
//! be repeated, and repair what a kill at any instant left; an unchanged host is not touched. A
//! bridge is ours when it carries our alias (with our state folder in it) or has a folder there;
//! any other interface is refused. The folder is made first and removed last.
//!
//! On failure the error names the bridge and the step; the rest of the work is left for the next
//! attempt. Names that reach a command line or a file are validated newtypes.
//!
//! It works in the network namespace of the calling thread's process, keeps no connection open, and
//! does not make the veth pairs of containers (LXC does) or remember who should have one.

mod dnsmasq;
mod error;
mod firewall;
mod host;
mod name;
mod netlink;
mod netns;
mod spec;
mod state;
mod sysctl;

pub use dnsmasq::lease::Lease;
pub use error::Error;
pub use host::Host;
pub use name::{DnsName, HwAddr, IfName, InvalidName};
pub use netlink::{Address, Counters, Link, Scope};
pub use netns::netns_addresses;
pub use spec::{BridgeSpec, StaticLease};
