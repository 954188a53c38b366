//! A DNS server that gives whole zones to the name servers that may have them, and answers nobody else.
//!
//! ```text
//!  state, seen --content--> Book --watch--> serve --+-- UDP  SOA
//!                                                   '-- TCP  SOA, AXFR, IXFR (answered in full)
//! ```
//!
//! **Invariants.** A zone goes only to its peers: whoever asks from an address that it names, or signs with a key that it
//! names (TSIG, RFC 8945), or both where a peer has both. To others a zone that is there and one that is not look the
//! same: REFUSED. A transfer (RFC 5936) is of one book from its first message to its last, whatever changes meanwhile.
//!
//! **Serials.** A zone's serial is the version of the replicated state at which its content last changed, as far as this
//! member saw: it grows with every change, members agree on it as soon as they have seen a change, and a member that was
//! started again is never behind. What changes without the state (addresses that guests on bridges get by DHCP) adds one.
//!
//! **Failure.** A packet that is no question is dropped, or refused where it has an id. Requests, connections, time and
//! memory are bounded; see [`serve()`].

mod answer;
mod book;
mod serve;
mod wire;

#[cfg(test)]
mod tests;

pub use book::{Book, Serials};
pub use serve::serve;
