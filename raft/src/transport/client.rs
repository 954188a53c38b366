//! The calling side: one connection per member and purpose, made when needed, each call with a deadline.
//!
//! A peer that hangs costs only its own calls: connections are separate, connecting has a deadline, and HTTP/2 pings
//! find a dead one. Addresses come from the replicated state, so a member that moved is found again.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use basalt_model::{NodeId, StateView};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::StreamAppendResult;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tracing::{debug, warn};

use super::convert::{decode, encode};
use super::pipeline::{self, Pipeline, Terms};
use super::proto::raft_client::RaftClient;
use super::proto::{Message, ReadIndexRequest, Reply, SnapshotChunk, SnapshotHead, snapshot_chunk::Part};
use super::{MAX_MESSAGE, REMOVED};
use crate::pki;
use crate::store::SnapshotFile;
use crate::types::{
    AppendRequest, AppendResponse, RpcError, Snapshot, SnapshotResponse, TransferRequest, TransferResponse, TypeConfig,
    Vote, VoteRequest, VoteResponse,
};

const CONNECT: Duration = Duration::from_secs(1);
const PING: Duration = Duration::from_secs(2);
const PIECE: usize = 256 << 10;
/// Entries may be many, and the other side's disk slow: engine's own deadline is for small messages.
const APPEND: Duration = Duration::from_secs(1);
const SNAPSHOT: Duration = Duration::from_secs(120);

/// What a connection is for; those that could hold each other up are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Replication,
    Heartbeat,
    Snapshot,
    Proposal,
}

/// Dials members.
#[derive(Debug)]
pub(crate) struct Dialer {
    me: NodeId,
    view: watch::Receiver<StateView>,
    tls: Arc<ClientConfig>,
    channels: Mutex<BTreeMap<(u64, Lane), (String, Channel)>>,
    removed: watch::Sender<bool>,
}

impl Dialer {
    pub(crate) fn new(
        me: NodeId,
        view: watch::Receiver<StateView>,
        tls: Arc<ClientConfig>,
        removed: watch::Sender<bool>,
    ) -> Self {
        let mut tls = ClientConfig::clone(&tls);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Dialer { me, view, tls: Arc::new(tls), channels: Mutex::default(), removed }
    }

    /// A client for member `id`; `known` is its address if the state does not have it yet.
    pub(crate) fn client(&self, id: u64, known: &str, lane: Lane) -> Result<RaftClient<Channel>, Status> {
        let announced = self.view.borrow().members.get(&NodeId(id)).map(|m| m.announced.cluster_address.clone());
        let address = announced.filter(|a| !a.is_empty()).unwrap_or_else(|| known.to_owned());
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&(id, lane)) {
            Some((at, channel)) if *at == address => channel.clone(),
            Some(_) | None => {
                let channel = self.connect(id, address.clone())?;
                channels.insert((id, lane), (address, channel.clone()));
                channel
            }
        };
        Ok(RaftClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    /// A channel that connects when it is used, and again when it was cut.
    fn connect(&self, id: u64, address: String) -> Result<Channel, Status> {
        let name = pki::node_server_name(NodeId(id));
        let host = name.to_str().into_owned();
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let connector = tower::service_fn(move |_: Uri| {
            let (address, name, tls) = (address.clone(), name.clone(), tls.clone());
            async move {
                // A task of its own: the call that asked for the connection may give up before it stands, and the next
                // one must find it further on, or on a slow machine it would never stand.
                let connecting = basalt_runtime::spawn("raft-connect", async move {
                    let connected = timeout(CONNECT, async {
                        let tcp = TcpStream::connect(&address).await?;
                        tcp.set_nodelay(true)?;
                        tls.connect(name, tcp).await
                    });
                    let late = || format!("no connection to {address} within {CONNECT:?}");
                    connected.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, late()))?
                });
                let stream = connecting.join().await.map_err(io::Error::other)??;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // The scheme is what tonic wants to see of a connector that does TLS itself.
        let endpoint = Endpoint::from_shared(format!("http://{host}"))
            .map_err(|e| Status::internal(e.to_string()))?
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    /// Makes the connections over which votes would be asked for, before they are needed.
    pub(crate) async fn warm(&self, voters: impl Iterator<Item = (u64, String)>) {
        let calls = voters.filter(|(id, _)| *id != self.me.0).map(|(id, address)| async move {
            let mut client = self.client(id, &address, Lane::Heartbeat)?;
            // Any call would do; who does not lead refuses this one at once.
            client.read_index(ReadIndexRequest { from: self.me.0 }).await.map(drop)
        });
        // Who cannot be reached now is tried again in the next round, and by the vote itself.
        let _ = timeout(CONNECT, futures_util::future::join_all(calls)).await;
    }

    fn message(&self, to: u64, body: Bytes) -> Message {
        Message { from: self.me.0, to, body }
    }

    /// Looks at a refusal: one of them concerns more than the call.
    pub(crate) fn note(&self, target: u64, status: &Status) {
        if status.code() == Code::PermissionDenied && status.metadata().contains_key(REMOVED) {
            let first = !self.removed.send_replace(true);
            if first {
                warn!(by = target, "this member was removed from the cluster: empty the state folder to join again");
            }
        }
        debug!(target, code = ?status.code(), message = status.message(), "a call failed");
    }
}

/// Makes links for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Links(pub(crate) Arc<Dialer>);

impl Links {
    fn link(&self, target: u64, node: &BasicNode, lane: Lane) -> Link {
        Link { dialer: Arc::clone(&self.0), target, address: node.addr.clone(), lane, old: Arc::default() }
    }
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        self.link(target, node, Lane::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Link {
        self.link(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Link {
        self.link(target, node, Lane::Snapshot)
    }
}

/// The engine's way to one member.
#[derive(Debug)]
pub(crate) struct Link {
    dialer: Arc<Dialer>,
    target: u64,
    address: String,
    lane: Lane,
    /// The member is of a version that answers one message at a time.
    old: Arc<AtomicBool>,
}

impl Link {
    fn client(&self, lane: Lane) -> Result<RaftClient<Channel>, Status> {
        self.dialer.client(self.target, &self.address, lane)
    }

    /// Runs a call to its end or deadline.
    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Unreachable<TypeConfig>> {
        let ended = timeout(limit, call).await;
        let failed = match ended {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(status)) => {
                self.dialer.note(self.target, &status);
                format!("{}: {}", status.code(), status.message())
            }
            Err(_) => format!("no answer within {limit:?}"),
        };
        Err(Unreachable::from_string(failed))
    }
}

macro_rules! unary {
    ($link:expr, $limit:expr, $lane:expr, $method:ident, $rpc:expr) => {{
        let link: &Link = $link;
        let call = async {
            let message = link.dialer.message(link.target, encode(&$rpc)?);
            let reply: Reply = link.client($lane)?.$method(message).await?.into_inner();
            decode(&reply.body)
        };
        link.within($limit, call).await.map_err(RPCError::Unreachable)
    }};
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(&mut self, rpc: AppendRequest, option: RPCOption) -> Result<AppendResponse, RpcError> {
        let limit = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND.max(option.soft_ttl()) };
        unary!(self, limit, self.lane, append, rpc)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        // A heartbeat is a single message.
        if self.lane != Lane::Replication || self.old.load(Ordering::Relaxed) {
            return stream_append_sequential(self, input, option);
        }
        let (dialer, target, old) = (Arc::clone(&self.dialer), self.target, Arc::clone(&self.old));
        let failed = move |status: &Status| {
            old.fetch_or(status.code() == Code::Unimplemented, Ordering::Relaxed);
            dialer.note(target, status);
        };
        let terms = Terms { from: self.dialer.me.0, to: target, patience: APPEND.max(option.soft_ttl()) };
        let open = async move {
            // The engine waits out a failure in its requests: until it has one, nobody is dialled again.
            let Some(first) = input.next().await else { return Ok(None) };
            Pipeline::open(self.client(self.lane)?, &first, input, terms).await.map(Some)
        };
        let progress: BoxStream<'s, _> = Box::pin(pipeline::progress(open, failed));
        Box::pin(std::future::ready(Ok(progress)))
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        unary!(self, option.soft_ttl(), Lane::Heartbeat, vote, rpc)
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        unary!(self, option.soft_ttl(), Lane::Heartbeat, pre_vote, rpc)
    }

    async fn transfer_leader(&mut self, rpc: TransferRequest, option: RPCOption) -> Result<TransferResponse, RpcError> {
        unary!(self, option.soft_ttl(), Lane::Heartbeat, transfer_leader, rpc)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<TypeConfig>> {
        let link = &*self;
        let call = async {
            let head = SnapshotHead {
                from: link.dialer.me.0,
                to: link.target,
                vote: encode(&vote)?,
                meta: encode(&snapshot.meta)?,
                length: snapshot.snapshot.length,
            };
            let reply = link.client(Lane::Snapshot)?.snapshot(pieces(head, snapshot.snapshot)).await?.into_inner();
            decode(&reply.body)
        };
        // Either arm may be dropped: a snapshot that was cut short is thrown away by the receiver.
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = link.within(SNAPSHOT.max(option.soft_ttl()), call) => sent.map_err(StreamingError::Unreachable),
        }
    }
}

fn pieces(head: SnapshotHead, file: SnapshotFile) -> impl Stream<Item = SnapshotChunk> + Send + 'static {
    use futures_util::stream;
    let head = SnapshotChunk { part: Some(Part::Head(head)) };
    let data = stream::unfold((file, 0u64), |(file, offset)| async move {
        let reader = file.clone();
        let read = basalt_runtime::spawn_blocking("raft-snapshot-send", move || reader.piece(offset, PIECE)).await;
        match read {
            Ok(Ok(piece)) if piece.is_empty() => None,
            Ok(Ok(piece)) => {
                let next = offset + piece.len() as u64;
                Some((SnapshotChunk { part: Some(Part::Data(piece.into())) }, (file, next)))
            }
            // The stream ends short of the announced length, and the receiver refuses it.
            Ok(Err(error)) => {
                warn!(%error, "a snapshot could not be read to be sent");
                None
            }
            Err(error) => {
                warn!(%error, "a snapshot could not be read to be sent");
                None
            }
        }
    });
    stream::once(async { head }).chain(data)
}
