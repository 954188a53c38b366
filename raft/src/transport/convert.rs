//! Between the engine's messages and bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

/// Named MessagePack, so that members of different versions understand each other.
pub(super) fn encode(message: &impl Serialize) -> Result<Bytes, Status> {
    let bytes = rmp_serde::to_vec_named(message);
    bytes.map(Bytes::from).map_err(|e| Status::internal(format!("a message cannot be encoded: {e}")))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    rmp_serde::from_slice(bytes).map_err(|e| Status::invalid_argument(format!("a message cannot be read: {e}")))
}
