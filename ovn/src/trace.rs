//! Where a packet would go: `ovn-trace` asked, and its answer told in plain words.
//!
//! ```text
//!  question: port, addresses, protocol --argv--> ovn-trace --detailed --> text --read--> steps, and the end
//!                                                            rules of ours by their match and priority --'
//! ```
//! The program walks through the logical flows of the southbound database as it is now; nothing is sent anywhere. It is
//! asked about a packet that begins a conversation. The same text always gives the same steps: what is not understood is
//! left out of them, and is in the text.

mod names;
mod packet;
mod read;

use std::net::IpAddr;

use basalt_model::Mac;

pub use names::Names;
pub use packet::{Stuck, packet};
pub use read::read;

/// The program's name.
pub const PROGRAM: &str = "ovn-trace";
/// How many times the packet may meet the connection tracker, and be new to it.
const NEW: usize = 8;
/// Where conversations of clients begin.
const FROM_PORT: u16 = 40_000;

/// What the packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A request for an echo.
    Echo,
    /// The begin of a connection to a port.
    Tcp(u16),
    /// To a port.
    Udp(u16),
}

/// A packet that an interface sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The logical port.
    pub port: String,
    /// The switch that it is on.
    pub switch: String,
    pub mac: Mac,
    /// The hardware address that the guest would send it to.
    pub next: Mac,
    pub from: IpAddr,
    /// Of the same family.
    pub to: IpAddr,
    pub payload: Payload,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It comes to an interface.
    Delivered { port: String },
    /// It leaves by an uplink, through what is mapped to this name on the gateway.
    Left { port: String },
    /// The same once the next router has said where it is.
    Asks { neighbour: String },
    /// The router it is meant for answers it.
    Answered,
    /// It is dropped, and by what.
    Dropped { by: String },
    /// It is dropped, and the sender is told.
    Rejected { by: String },
}

/// One station of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where: a switch, a router.
    pub at: String,
    /// What happens there.
    pub what: String,
}

/// The whole way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub steps: Vec<Step>,
    pub end: End,
}

/// The program's arguments for a packet, but for those that say which database.
pub fn arguments(packet: &Packet) -> Vec<String> {
    let Packet { port, mac, next, from, to, .. } = packet;
    let (family, icmp) = if from.is_ipv4() { ("ip4", "icmp4.type == 8") } else { ("ip6", "icmp6.type == 128") };
    let payload = match packet.payload {
        Payload::Echo => icmp.to_owned(),
        // The first of a connection: SYN.
        Payload::Tcp(to) => format!("tcp.src == {FROM_PORT} && tcp.dst == {to} && tcp.flags == 2"),
        Payload::Udp(to) => format!("udp.src == {FROM_PORT} && udp.dst == {to}"),
    };
    let flow = format!(
        "inport == \"{port}\" && eth.src == {mac} && eth.dst == {next} && {family}.src == {from} && {family}.dst == {to} \
         && ip.ttl == 64 && {payload}"
    );
    let new = std::iter::repeat_n("--ct=new".to_owned(), NEW);
    std::iter::once("--detailed".to_owned()).chain(new).chain([packet.switch.clone(), flow]).collect()
}
