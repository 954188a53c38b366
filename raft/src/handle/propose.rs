//! Proposals and linearizable reads, from any member.
//!
//! What matters is to know what a failure means. As long as a proposal surely did not enter a log (no leader, no
//! connection, refused) it is tried again until `leader_wait`; from the moment that it may have entered one, it is never
//! sent twice: it ends in an answer or in `Unknown`.

use std::error::Error as _;
use std::future::Future;
use std::time::{Duration, Instant};

use basalt_model::{Applied, Command, ProposeError, ReadError, Rejected, StateView, Version};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::RaftCluster;
use super::core::Core;
use crate::store::log::MAX_COMMAND;
use crate::transport::client::Lane;
use crate::transport::proto::{
    NotLeader, ProposeReply, ProposeRequest, ReadIndexRequest, propose_reply, read_index_reply,
};
use crate::types::{Outcome, Request};

/// How one attempt ended.
enum Attempt {
    /// It is in the log at this index, and this is what apply said.
    Answered(u64, Result<(), Rejected>),
    /// It surely did not happen.
    NotDone(String),
    Storage(String),
    Unknown(String),
}

/// Between attempts, when nothing says that the leader changed.
const PAUSE: Duration = Duration::from_millis(50);
/// How much longer than the leader itself a caller waits for the leader's answer.
const GRACE: Duration = Duration::from_millis(200);

impl RaftCluster {
    pub(super) async fn propose_command(&self, command: Command) -> Result<Applied, ProposeError> {
        let began = Instant::now();
        let answer = self.try_until_answered(&command, began + self.options.leader_wait).await;
        match &answer {
            Ok(_) => self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64()),
            Err(ProposeError::Rejected(_)) => {}
            Err(ProposeError::NoLeader(_) | ProposeError::Unknown(_) | ProposeError::Storage(_)) => {
                self.metrics.proposals_failed.inc();
            }
        }
        answer
    }

    async fn try_until_answered(&self, command: &Command, deadline: Instant) -> Result<Applied, ProposeError> {
        let level = command.feature_level();
        let request = Request::encode(command).map_err(|e| ProposeError::Storage(e.to_string()))?;
        if request.as_bytes().len() > MAX_COMMAND {
            let size = request.as_bytes().len();
            return Err(ProposeError::Storage(format!("a command of {size} bytes is larger than {MAX_COMMAND}")));
        }
        let mut leadership = self.leadership();
        loop {
            leadership.mark_unchanged();
            let core = self.core()?;
            too_new(&self.current(), level)?;
            let why = match self.attempt(&core, &request, level).await {
                Attempt::Answered(index, answer) => {
                    self.applied(Version(index)).await.map_err(ProposeError::Unknown)?;
                    return answer.map(|()| Applied { version: Version(index) }).map_err(ProposeError::Rejected);
                }
                Attempt::Storage(why) => return Err(ProposeError::Storage(why)),
                Attempt::Unknown(why) => return Err(ProposeError::Unknown(why)),
                Attempt::NotDone(why) => why,
            };
            if Instant::now() + PAUSE > deadline {
                return Err(ProposeError::NoLeader(why));
            }
            // A timeout is the usual end; the sender lives in self.
            let _ = timeout(PAUSE, leadership.changed()).await;
        }
    }

    async fn attempt(&self, core: &Core, request: &Request, level: u32) -> Attempt {
        match core.leader() {
            None => Attempt::NotDone("no leader is known".into()),
            Some(leader) if leader == core.identity.node_id.0 => self.write(core, request.clone()).await,
            Some(leader) => self.forward(core, leader, request, level).await,
        }
    }

    /// Writes on this member, which believes that it leads.
    async fn write(&self, core: &Core, request: Request) -> Attempt {
        if let Err(why) = core.log.admit() {
            return Attempt::Storage(why);
        }
        let limit = self.options.commit_wait;
        let Ok(written) = timeout(limit, core.raft.client_write(request)).await else {
            return Attempt::Unknown(format!("no quorum confirmed it within {limit:?}"));
        };
        match written {
            Ok(written) => match written.data {
                Outcome(Some(answer)) => Attempt::Answered(written.log_id.index(), answer.map(drop)),
                Outcome(None) => Attempt::Unknown("the engine answered for another kind of entry".into()),
            },
            Err(RaftError::APIError(error)) => match error {
                ClientWriteError::ForwardToLeader(to) => Attempt::NotDone(format!("{:?}: {to}", to.reason)),
                ClientWriteError::LogEntryDiscarded(_) => Attempt::Unknown("the leader changed meanwhile".into()),
                ClientWriteError::ChangeMembershipError(e) => Attempt::NotDone(e.to_string()),
                ClientWriteError::PreconditionFailed(e) => Attempt::NotDone(e.to_string()),
            },
            Err(RaftError::Fatal(fatal)) => Attempt::Unknown(core.log.broken().unwrap_or_else(|| fatal.to_string())),
        }
    }

    async fn forward(&self, core: &Core, leader: u64, request: &Request, level: u32) -> Attempt {
        let address = core.address(leader);
        let mut client = match core.dialer.client(leader, &address, Lane::Proposal) {
            Ok(client) => client,
            Err(status) => return Attempt::NotDone(status.message().to_owned()),
        };
        let message =
            ProposeRequest { from: core.identity.node_id.0, command: request.as_bytes().clone(), feature_level: level };
        let call = async move { client.propose(message).await };
        match while_leads(core, leader, self.options.commit_wait + GRACE, call).await {
            Ok(Ok(reply)) => from_reply(reply.into_inner()),
            Ok(Err(status)) => {
                core.dialer.note(leader, &status);
                from_status(leader, &status)
            }
            Err(why) => Attempt::Unknown(why),
        }
    }

    /// Waits until this member has applied `version`.
    async fn applied(&self, version: Version) -> Result<StateView, String> {
        let mut views = self.watch();
        let limit = self.options.commit_wait;
        let reached = timeout(limit, views.wait_for(|view| view.version >= version)).await;
        match reached {
            Ok(Ok(view)) => Ok(view.clone()),
            Ok(Err(_)) => Err("this member has stopped".into()),
            Err(_) => Err(format!("it is in the log at {version}, but was not applied here within {limit:?}")),
        }
    }

    /// Answers a proposal that another member forwarded.
    pub(crate) async fn propose_for(&self, core: &Core, asked: ProposeRequest) -> Result<ProposeReply, Status> {
        use propose_reply::Outcome as Said;
        let leader = core.leader();
        let attempt = match too_new(&self.current(), asked.feature_level) {
            Err(rejected) => Attempt::Answered(0, Err(rejected)),
            // One hop only: who is not the leader says so, and the caller looks again.
            Ok(()) if leader != Some(core.identity.node_id.0) => Attempt::NotDone("this member does not lead".into()),
            Ok(()) => self.write(core, Request::from_wire(asked.command)).await,
        };
        let (index, outcome) = match attempt {
            Attempt::Answered(index, Ok(())) => (index, Said::Applied(true)),
            Attempt::Answered(index, Err(rejected)) => {
                let rejected = rmp_serde::to_vec_named(&rejected).map_err(|e| Status::internal(e.to_string()))?;
                (index, Said::Rejected(rejected.into()))
            }
            Attempt::NotDone(reason) => (0, Said::NotLeader(NotLeader { leader: leader.unwrap_or(0), reason })),
            Attempt::Storage(why) => (0, Said::Storage(why)),
            Attempt::Unknown(why) => (0, Said::Unknown(why)),
        };
        Ok(ProposeReply { index, outcome: Some(outcome) })
    }

    pub(super) async fn read_linearizable(&self) -> Result<StateView, ReadError> {
        let deadline = Instant::now() + self.options.leader_wait;
        let mut leadership = self.leadership();
        loop {
            leadership.mark_unchanged();
            let core = self.core().map_err(|refusal| ReadError(refusal.to_string()))?;
            match self.read_index(&core).await {
                Ok(index) => return self.applied(Version(index)).await.map_err(ReadError),
                Err(why) if Instant::now() + PAUSE > deadline => return Err(ReadError(why)),
                // A timeout is the usual end; the sender lives in self.
                Err(_) => drop(timeout(PAUSE, leadership.changed()).await),
            }
        }
    }

    async fn read_index(&self, core: &Core) -> Result<u64, String> {
        let leader = core.leader().ok_or("no leader is known")?;
        if leader == core.identity.node_id.0 {
            return core.read_index().await;
        }
        let address = core.address(leader);
        let asked = ReadIndexRequest { from: core.identity.node_id.0 };
        let call = async {
            let mut client = core.dialer.client(leader, &address, Lane::Proposal)?;
            client.read_index(asked).await
        };
        let reply = while_leads(core, leader, self.options.commit_wait, call).await?;
        match reply.map_err(|status| status.message().to_owned())?.into_inner().outcome {
            Some(read_index_reply::Outcome::Index(index)) => Ok(index),
            Some(read_index_reply::Outcome::Refused(why)) => Err(why),
            None => Err("the leader's answer is empty".into()),
        }
    }
}

/// Waits for `call` as long as `leader` leads: a frozen leader would never answer.
async fn while_leads<T>(core: &Core, leader: u64, limit: Duration, call: impl Future<Output = T>) -> Result<T, String> {
    let mut seen = core.raft.metrics();
    let replaced = async {
        while seen.borrow_and_update().current_leader.is_none_or(|now| now == leader) {
            if seen.changed().await.is_err() {
                return;
            }
        }
    };
    // The call may be dropped: its outcome is then unknown, and said to be.
    tokio::select! {
        answered = timeout(limit, call) => {
            answered.map_err(|_| format!("the leader, member {leader}, gave no answer within {limit:?}"))
        }
        () = replaced => Err(format!("the leader, member {leader}, was replaced before it answered")),
    }
}

/// A command that some member would not understand must not enter the log.
fn too_new(view: &StateView, level: u32) -> Result<(), Rejected> {
    match view.initialised() && level > view.feature_level {
        true => Err(Rejected::FeatureLevel { needs: level, at: view.feature_level }),
        false => Ok(()),
    }
}

fn from_reply(reply: ProposeReply) -> Attempt {
    use propose_reply::Outcome as Said;
    match reply.outcome {
        Some(Said::Applied(_)) => Attempt::Answered(reply.index, Ok(())),
        Some(Said::Rejected(rejected)) => match rmp_serde::from_slice(&rejected) {
            Ok(rejected) => Attempt::Answered(reply.index, Err(rejected)),
            Err(error) => Attempt::Unknown(format!("the refusal cannot be read: {error}")),
        },
        Some(Said::NotLeader(not)) => Attempt::NotDone(not.reason),
        Some(Said::Storage(why)) => Attempt::Storage(why),
        Some(Said::Unknown(why)) => Attempt::Unknown(why),
        None => Attempt::Unknown("the leader's answer is empty".into()),
    }
}

/// A call that failed did not happen if it was turned away at the door, or never left.
fn from_status(leader: u64, status: &Status) -> Attempt {
    let text = format!("member {leader}: {}", status.message());
    let turned_away =
        matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition);
    match turned_away || never_left(status) {
        true => Attempt::NotDone(text),
        false => Attempt::Unknown(text),
    }
}

fn never_left(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
