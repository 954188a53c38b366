//! Host networking that is not OVN: managed bridges with their addresses, NAT, DHCP and DNS.
//!
//! ```text
//! BridgeSpec --ensure_bridge--> bridge link, addresses   (rtnetlink)
//!                               forwarding switches      (/proc/sys/net)
//!                               table inet basalt_NAME   (nft -f -, one transaction: NAT, lists, forwards)
//!                               dnsmasq                  (a daemon that outlives the agent)
//! PortRules  --ensure_ports--->  table bridge basalt_ports (what guests may send and receive)
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

pub mod dns;
mod dnsmasq;
mod error;
mod firewall;
mod forward;
mod guard;
mod host;
mod name;
mod netlink;
mod netns;
mod ports;
mod spec;
mod state;
mod sysctl;
mod table;

pub use dnsmasq::lease::Lease;
pub use error::Error;
pub use forward::Forward;
pub use guard::{Guard, GuardRule, NicGuard, Verdict};
pub use host::Host;
pub use name::{DnsName, HwAddr, IfName, InvalidName};
pub use netlink::{Address, Counters, Link, Scope};
pub use netns::netns_addresses;
pub use ports::{PortRules, Source};
pub use spec::{BridgeSpec, StaticLease};
