//! The answering side.
//!
//! Every call is checked first: the certificate of the connection must be the one of the member that the message names,
//! and that member must not have been removed. A member that the local replica has not heard of yet (its id is one that
//! the counter has not given out as far as we know) is believed, since its certificate is of the cluster's CA.

use std::sync::Arc;

use basalt_model::{NodeId, StateView};
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use super::convert::{decode, encode};
use super::proto::raft_server::{Raft, RaftServer};
use super::proto::{
    Message, ProposeReply, ProposeRequest, ReadIndexReply, ReadIndexRequest, Reply, SnapshotChunk, snapshot_chunk::Part,
};
use super::{MAX_MESSAGE, PeerCertificate, REMOVED, pipeline};
use crate::handle::RaftCluster;
use crate::handle::core::Core;
use crate::store::snapshot::Receiver;
use crate::types::{AppendRequest, Fatal, Snapshot, SnapshotMeta, TransferRequest, Vote, VoteRequest};

/// The gRPC service as a router that a listener can mount.
pub(crate) fn router(cluster: Arc<RaftCluster>) -> axum::Router {
    let service =
        RaftServer::new(Service(cluster)).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    tonic::service::Routes::new(service).prepare().into_axum_router()
}

#[derive(Debug)]
struct Service(Arc<RaftCluster>);

/// What the state says of a caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Trusted,
    Removed,
    /// It holds the certificate of somebody else.
    Impostor,
}

pub(crate) fn judge(view: &StateView, from: NodeId, certificate: &PeerCertificate) -> Caller {
    match view.members.get(&from) {
        Some(member) if member.certificate == certificate.0 => Caller::Trusted,
        Some(_) => Caller::Impostor,
        None if view.initialised() && from.0 < view.next_node => Caller::Removed,
        None => Caller::Trusted,
    }
}

impl Service {
    fn admit(&self, certificate: Option<&PeerCertificate>, from: u64) -> Result<Arc<Core>, Status> {
        let core = self.0.core().map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        let Some(certificate) = certificate else {
            return Err(Status::unauthenticated("no certificate on this connection"));
        };
        match judge(&self.0.current(), NodeId(from), certificate) {
            Caller::Trusted => Ok(core),
            // Until it has left the group, it is needed to agree on its leaving.
            Caller::Removed if core.in_group(from) => Ok(core),
            Caller::Removed => {
                let mut status = Status::permission_denied(format!("member {from} was removed from the cluster"));
                status.metadata_mut().insert(REMOVED, tonic::metadata::MetadataValue::from_static("1"));
                Err(status)
            }
            Caller::Impostor => {
                warn!(from, fingerprint = %certificate.0, "a call came with the certificate of somebody else");
                Err(Status::permission_denied(format!("the certificate is not the one of member {from}")))
            }
        }
    }

    fn message(&self, request: Request<Message>) -> Result<(Arc<Core>, Message), Status> {
        let certificate = certificate(&request).cloned();
        self.checked(certificate.as_ref(), request.into_inner())
    }

    fn checked(&self, certificate: Option<&PeerCertificate>, message: Message) -> Result<(Arc<Core>, Message), Status> {
        let core = self.admit(certificate, message.from)?;
        if message.to != core.identity.node_id.0 {
            return Err(Status::failed_precondition(format!(
                "this is member {}, not {}",
                core.identity.node_id, message.to
            )));
        }
        Ok((core, message))
    }
}

fn certificate<T>(request: &Request<T>) -> Option<&PeerCertificate> {
    request.extensions().get()
}

fn reply(body: &impl serde::Serialize) -> Result<Response<Reply>, Status> {
    Ok(Response::new(Reply { body: encode(body)? }))
}

/// What the engine is asked to append, if there is room for it.
fn append_request(core: &Core, message: &Message) -> Result<AppendRequest, Status> {
    let rpc: AppendRequest = decode(&message.body)?;
    if !rpc.entries.is_empty() {
        // Refused here, before the engine: for it, a failed write is the end.
        core.log.admit_replicated().map_err(Status::resource_exhausted)?;
    }
    Ok(rpc)
}

pub(super) fn stopped(error: impl Into<EngineError>) -> Status {
    Status::unavailable(error.into().0)
}

/// Any way in which the engine says that it does not run.
pub(super) struct EngineError(String);

impl From<Fatal> for EngineError {
    fn from(error: Fatal) -> Self {
        EngineError(format!("the consensus engine stopped: {error}"))
    }
}

impl From<openraft::errors::RaftError<crate::types::TypeConfig>> for EngineError {
    fn from(error: openraft::errors::RaftError<crate::types::TypeConfig>) -> Self {
        EngineError(format!("the consensus engine stopped: {error}"))
    }
}

#[tonic::async_trait]
impl Raft for Service {
    async fn append(&self, request: Request<Message>) -> Result<Response<Reply>, Status> {
        let (core, message) = self.message(request)?;
        let rpc = append_request(&core, &message)?;
        let answer = core.raft.append_entries(rpc).await.map_err(stopped)?;
        core.heard();
        reply(&answer)
    }

    type AppendStreamStream = pipeline::Replies;

    async fn append_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<pipeline::Replies>, Status> {
        let certificate = certificate(&request).cloned();
        // The engine of now answers all of them: when it is replaced, the stream ends.
        let core = self.0.core().map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        let (service, asked) = (Service(Arc::clone(&self.0)), Arc::clone(&core));
        let accept = move |message| {
            let (_, message) = service.checked(certificate.as_ref(), message)?;
            append_request(&asked, &message)
        };
        Ok(Response::new(pipeline::answer(core, request.into_inner(), accept)))
    }

    async fn vote(&self, request: Request<Message>) -> Result<Response<Reply>, Status> {
        let (core, message) = self.message(request)?;
        let rpc: VoteRequest = decode(&message.body)?;
        reply(&core.raft.vote(rpc).await.map_err(stopped)?)
    }

    async fn pre_vote(&self, request: Request<Message>) -> Result<Response<Reply>, Status> {
        let (core, message) = self.message(request)?;
        let rpc: VoteRequest = decode(&message.body)?;
        reply(&core.raft.pre_vote(rpc).await.map_err(stopped)?)
    }

    async fn transfer_leader(&self, request: Request<Message>) -> Result<Response<Reply>, Status> {
        let (core, message) = self.message(request)?;
        let rpc: TransferRequest = decode(&message.body)?;
        reply(&core.raft.handle_transfer_leader(rpc).await.map_err(stopped)?)
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<Reply>, Status> {
        let certificate = certificate(&request).cloned();
        let mut stream = request.into_inner();
        let Some(Part::Head(head)) = stream.message().await?.and_then(|chunk| chunk.part) else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        let core = self.admit(certificate.as_ref(), head.from)?;
        let (vote, meta): (Vote, SnapshotMeta) = (decode(&head.vote)?, decode(&head.meta)?);
        let full = |e: std::io::Error| Status::resource_exhausted(format!("the snapshot cannot be stored: {e}"));
        let mut receiver = Receiver::begin(&core.raft_dir, rand::random()).map_err(full)?;
        let mut received = 0u64;
        while let Some(chunk) = stream.message().await? {
            let Some(Part::Data(data)) = chunk.part else {
                return Err(Status::invalid_argument("a snapshot has one head"));
            };
            received += data.len() as u64;
            receiver.write(&data).map_err(full)?;
        }
        if received != head.length {
            return Err(Status::data_loss("the snapshot was cut short"));
        }
        let finished = basalt_runtime::spawn_blocking("raft-snapshot-receive", move || receiver.finish()).await;
        let snapshot = finished.map_err(|e| Status::internal(e.to_string()))?.map_err(full)?;
        reply(&core.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await.map_err(stopped)?)
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeReply>, Status> {
        let core = self.admit(certificate(&request), request.get_ref().from)?;
        Ok(Response::new(self.0.propose_for(&core, request.into_inner()).await?))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        let core = self.admit(certificate(&request), request.get_ref().from)?;
        Ok(Response::new(core.read_index_reply().await))
    }
}
