//! Replication without waiting: the leader sends the next entries before the last ones are answered, on one stream per
//! member, and replies come in order.
//!
//! ```text
//!   leader:   engine's requests --> [at most WINDOW unanswered] --> stream
//!             engine's progress <-- a reply each ------------------ stream
//!   follower: stream --> check, decode --> engine (its log is synced behind its back) --> replies, in order
//! ```
//! Whoever drops the [`Pipeline`] drops the engine's requests with it: nothing is taken from them behind its back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::errors::Unreachable;
use openraft::raft::StreamAppendResult;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::convert::{decode, encode};
use super::proto::raft_client::RaftClient;
use super::proto::{Message, Reply};
use super::server::stopped;
use crate::handle::core::Core;
use crate::types::{AppendRequest, RpcError, TypeConfig};

type Progress = StreamAppendResult<TypeConfig>;
/// What a follower answers with.
pub(super) type Replies = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;

/// How many messages may be unanswered. The follower's engine holds as many.
const WINDOW: usize = 64;
/// No more is sent while this many bytes are unanswered.
const WINDOW_BYTES: usize = 8 << 20;

/// The leader's side of one stream.
pub(super) struct Pipeline<S> {
    /// What the engine wants to send; `None` when that has ended.
    requests: Option<S>,
    /// Holds a whole window, so sending never waits.
    messages: Option<mpsc::Sender<Message>>,
    replies: Streaming<Reply>,
    /// Sizes of the messages without a reply, oldest first, and their sum.
    unanswered: VecDeque<usize>,
    bytes: usize,
    /// When the oldest unanswered message is given up.
    deadline: Instant,
    patience: Duration,
    from: u64,
    to: u64,
}

/// How one stream is used.
pub(super) struct Terms {
    pub(super) from: u64,
    pub(super) to: u64,
    /// How long the next reply may take while one is due.
    pub(super) patience: Duration,
}

/// What happened next.
enum Event {
    Reply(Result<Option<Reply>, Status>),
    Request(Option<AppendRequest>),
    Late,
}

impl<S: Stream<Item = AppendRequest> + Unpin + Send> Pipeline<S> {
    /// Opens a stream to a member, and sends what comes before `requests`.
    pub(super) async fn open(
        mut client: RaftClient<Channel>,
        first: &AppendRequest,
        requests: S,
        terms: Terms,
    ) -> Result<Self, Status> {
        let (messages, outgoing) = mpsc::channel(WINDOW);
        let outgoing = stream::unfold(outgoing, |mut queue| async move { Some((queue.recv().await?, queue)) });
        let deadline = Instant::now() + terms.patience;
        let late = |_| Status::deadline_exceeded(format!("no stream within {:?}", terms.patience));
        let replies = timeout_at(deadline, client.append_stream(outgoing)).await.map_err(late)??.into_inner();
        let Terms { from, to, patience } = terms;
        let mut pipeline = Pipeline {
            requests: Some(requests),
            messages: Some(messages),
            replies,
            unanswered: VecDeque::new(),
            bytes: 0,
            deadline,
            patience,
            from,
            to,
        };
        pipeline.send(first)?;
        Ok(pipeline)
    }

    async fn next(&mut self) -> Result<Option<Progress>, Status> {
        while self.requests.is_some() || !self.unanswered.is_empty() {
            match self.event().await {
                Event::Late => {
                    return Err(Status::deadline_exceeded(format!("no reply within {:?}", self.patience)));
                }
                Event::Request(None) => (self.requests, self.messages) = (None, None),
                Event::Request(Some(request)) => self.send(&request)?,
                Event::Reply(Err(status)) => return Err(status),
                Event::Reply(Ok(None)) => return Err(Status::unavailable("the stream was closed")),
                Event::Reply(Ok(Some(reply))) => {
                    self.bytes -= self.unanswered.pop_front().unwrap_or(0);
                    self.deadline = Instant::now() + self.patience;
                    return decode(&reply.body).map(Some);
                }
            }
        }
        Ok(None)
    }

    async fn event(&mut self) -> Event {
        let due = !self.unanswered.is_empty();
        let room = self.unanswered.len() < WINDOW && self.bytes < WINDOW_BYTES;
        let (replies, requests, deadline) = (&mut self.replies, &mut self.requests, self.deadline);
        // Every arm may be dropped without loss: a stream keeps what it has not given out.
        tokio::select! {
            biased;
            reply = replies.message() => Event::Reply(reply),
            request = next_of(requests), if room => Event::Request(request),
            () = tokio::time::sleep_until(deadline), if due => Event::Late,
        }
    }

    fn send(&mut self, request: &AppendRequest) -> Result<(), Status> {
        let message = Message { from: self.from, to: self.to, body: encode(request)? };
        if self.unanswered.is_empty() {
            self.deadline = Instant::now() + self.patience;
        }
        self.unanswered.push_back(message.body.len());
        self.bytes += message.body.len();
        let sent = self.messages.as_ref().map(|queue| queue.try_send(message));
        match sent {
            Some(Ok(())) => Ok(()),
            // Nobody reads the queue any more.
            Some(Err(_)) | None => Err(Status::unavailable("the stream was closed")),
        }
    }
}

/// Progress as the member reports it; ends after the first failure, or when the engine has nothing more to send. Opens the
/// stream when it is first asked.
pub(super) fn progress<S: Stream<Item = AppendRequest> + Unpin + Send>(
    open: impl Future<Output = Result<Option<Pipeline<S>>, Status>> + Send,
    fail: impl Fn(&Status) + Send + Sync,
) -> impl Stream<Item = Result<Progress, RpcError>> + Send {
    stream::unfold((Stage::Closed(Box::pin(open)), fail), |(stage, fail)| async move {
        let failed = |status: Status| {
            fail(&status);
            let text = format!("{}: {}", status.code(), status.message());
            Err(RpcError::Unreachable(Unreachable::from_string(text)))
        };
        let mut pipeline = match stage {
            Stage::Closed(open) => match open.await {
                Ok(opened) => Box::new(opened?),
                Err(status) => return Some((failed(status), (Stage::Over, fail))),
            },
            Stage::Open(pipeline) => pipeline,
            Stage::Over => return None,
        };
        match pipeline.next().await {
            Ok(None) => None,
            Ok(Some(Ok(matching))) => Some((Ok(Ok(matching)), (Stage::Open(pipeline), fail))),
            // A conflict, or a higher vote: the engine begins anew.
            Ok(Some(Err(refused))) => Some((Ok(Err(refused)), (Stage::Over, fail))),
            Err(status) => Some((failed(status), (Stage::Over, fail))),
        }
    })
}

/// Where a stream of progress is.
enum Stage<F, S> {
    Closed(Pin<Box<F>>),
    Open(Box<Pipeline<S>>),
    Over,
}

/// Never ends when there is nothing to wait for.
async fn next_of<S: Stream + Unpin>(stream: &mut Option<S>) -> Option<S::Item> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// The follower's side: has the engine of `core` answer what `accept` lets in, until a message is refused.
pub(super) fn answer(
    core: Arc<Core>,
    messages: Streaming<Message>,
    accept: impl Fn(Message) -> Result<AppendRequest, Status> + Send + 'static,
) -> Replies {
    let refusal = Arc::new(Mutex::new(None));
    let refused = Arc::clone(&refusal);
    let accepted = stream::unfold((messages, accept, refused), |(mut messages, accept, refused)| async move {
        let next = messages.message().await.transpose()?.and_then(&accept);
        match next {
            Ok(request) => Some((request, (messages, accept, refused))),
            Err(status) => {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                None
            }
        }
    });
    let answers = core.raft.stream_append(accepted).map(move |answer| {
        let answer: Progress = answer.map_err(stopped)?;
        core.heard();
        Ok(Reply { body: encode(&answer)? })
    });
    // Why the last message was refused comes after the answers to those before it.
    let last = stream::once(async move { refusal.lock().unwrap_or_else(PoisonError::into_inner).take() });
    Box::pin(answers.chain(last.filter_map(|status| async move { status.map(Err) })))
}
