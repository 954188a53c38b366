//! Basalt's words for openraft's type parameters: the only file that knows them, so that an upgrade of the library
//! touches one place and no generic leaks out of this crate.

use std::fmt;

use basalt_model::{Applied, Command, Rejected};
use bytes::Bytes;
use openraft::impls::BasicNode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

openraft::declare_raft_types!(
    /// Ids are the model's node ids as numbers; a node carries the address it had when it was added.
    pub(crate) TypeConfig:
        D = Request,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, crate::store::Machine>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, crate::store::SnapshotFile>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub(crate) type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;
pub(crate) type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
pub(crate) type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;
pub(crate) type RpcError = openraft::errors::RPCError<TypeConfig>;
pub(crate) type Fatal = openraft::errors::Fatal<TypeConfig>;
pub(crate) type IoFlushed = openraft::storage::IOFlushed<TypeConfig>;

/// What apply answered; `None` for entries that carry no command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome(pub(crate) Option<Result<Applied, Rejected>>);

/// The version of the encoding of commands.
const ENCODING: u8 = 1;

/// A command as it lies in the log: one byte that names the encoding, then named MessagePack.
///
/// It stays encoded on its way through the log and the network, and is decoded once per replica, by apply.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Request(Bytes);

/// A command that this program cannot read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("a log entry has encoding {0}, which this version does not know: it was written by a newer one")]
    Encoding(u8),
    #[error("a log entry cannot be decoded by this version")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("a log entry is empty")]
    Empty,
}

impl Request {
    /// Encodes `command`.
    pub(crate) fn encode(command: &Command) -> Result<Self, rmp_serde::encode::Error> {
        let mut bytes = vec![ENCODING];
        rmp_serde::encode::write_named(&mut bytes, command)?;
        Ok(Request(bytes.into()))
    }

    /// Takes bytes that another member encoded; they are looked at when they are applied.
    pub(crate) fn from_wire(bytes: Bytes) -> Self {
        Request(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn decode(&self) -> Result<Command, RequestError> {
        match self.0.split_first() {
            None => Err(RequestError::Empty),
            Some((&ENCODING, rest)) => Ok(rmp_serde::from_slice(rest)?),
            Some((&other, _)) => Err(RequestError::Encoding(other)),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content: it may hold keys.
        write!(f, "Request({} bytes)", self.0.len())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("nothing"),
            Some(Ok(applied)) => write!(f, "applied at {}", applied.version),
            Some(Err(rejected)) => write!(f, "rejected: {rejected}"),
        }
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Request;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Request, E> {
                Ok(Request(Bytes::copy_from_slice(v)))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, v: Vec<u8>) -> Result<Request, E> {
                Ok(Request(v.into()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}
