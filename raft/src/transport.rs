//! Node-to-node traffic of the group: gRPC over mutual TLS on the cluster port.
//!
//! The consensus engine's messages travel as named MessagePack in a gRPC message ([`convert`]), a snapshot as a stream
//! of pieces. Who calls is known twice: by the certificate of the connection ([`PeerCertificate`]) and by the node id in
//! the message; both must name one member that was not removed.

pub(crate) mod client;
mod convert;
mod pipeline;
pub(crate) mod server;

use basalt_model::Fingerprint;

/// The certificate that the other side of a connection proved to hold. The listener puts it into each request's
/// extensions; without it, a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(pub Fingerprint);

/// Generated from `proto/raft.proto`.
#[allow(unreachable_pub, missing_debug_implementations, unused_qualifications, clippy::all, clippy::too_many_lines)]
pub(crate) mod proto {
    tonic::include_proto!("basalt.raft.v1");
}

/// Header of a refusal that means: this member was removed from the cluster.
pub(crate) const REMOVED: &str = "x-basalt-removed";
/// Largest gRPC message: a full batch of entries of the largest size fits.
pub(crate) const MAX_MESSAGE: usize = 80 << 20;
/// How many entries go into one message; see `MAX_MESSAGE`.
pub(crate) const MAX_ENTRIES: u64 = 64;
