//! The running engine with what belongs to it: made when a member starts to take part, dropped when it stops.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use basalt_model::port::Standing;
use basalt_model::{NodeId, StateView, Version};
use basalt_runtime::BoxError;
use openraft::Config;
use openraft::ReadPolicy;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::store::machine::Snapshots;
use crate::store::{Log, Machine};
use crate::transport::client::{Dialer, Links};
use crate::transport::proto::{ReadIndexReply, read_index_reply};
use crate::types::Raft;
use crate::{Error, Leadership, NodeIdentity, Options, pki, transport};

/// What outlives a core: the rest of the program watches these.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    pub(crate) view: watch::Sender<StateView>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) removed: watch::Sender<bool>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) identity: Arc<NodeIdentity>,
    pub(crate) raft: Raft,
    pub(crate) log: Log,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) raft_dir: PathBuf,
    pub(crate) stopping: CancellationToken,
    snapshots: Snapshots,
    snapshot_every: u64,
    election_max: Duration,
    published: Published,
    metrics: Metrics,
    /// When a leader was last heard, on a follower.
    heard: Mutex<Option<Instant>>,
}

const SNAPSHOT_CHECK: Duration = Duration::from_secs(1);
const SNAPSHOT_RETRY: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(2);

impl Core {
    pub(crate) async fn start(
        options: &Options,
        identity: NodeIdentity,
        published: &Published,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, Error> {
        let dir = &options.raft_dir;
        let machine = Machine::open(dir.clone(), published.view.clone(), metrics.clone())?;
        let log = Log::open(dir, options.segment_bytes, metrics.clone())?;
        if log.purged().as_ref() > machine.applied() {
            return Err(Error::damaged(dir, "the snapshot is missing or older than the log"));
        }
        let snapshots = machine.snapshots();
        let tls = pki::tls::client_config(&identity)?;
        let dialer = Dialer::new(identity.node_id, published.view.subscribe(), tls, published.removed.clone());
        let dialer = Arc::new(dialer);
        let config = config(options, &identity)?;
        let links = Links(Arc::clone(&dialer));
        let raft = Raft::new(identity.node_id.0, config, links, log.clone(), machine).await;
        Ok(Arc::new(Core {
            raft: raft.map_err(|e| Error::Engine(e.to_string()))?,
            identity: Arc::new(identity),
            log,
            dialer,
            raft_dir: dir.clone(),
            stopping: CancellationToken::new(),
            snapshots,
            snapshot_every: options.snapshot_every,
            election_max: options.election_max,
            published: published.clone(),
            metrics: metrics.clone(),
            heard: Mutex::default(),
        }))
    }

    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        if let Err(error) = self.raft.shutdown().await {
            warn!(%error, "the consensus engine did not stop cleanly");
        }
        if let Err(error) = self.log.close().await
            && self.log.broken().is_none()
        {
            warn!(%error, "the log was not closed cleanly");
        }
    }

    /// Publishes who leads and keeps the metrics; returns why the engine stopped, or nothing when it was asked to.
    pub(crate) async fn watch(&self) -> Option<String> {
        let mut changes = self.raft.metrics();
        let mut views = self.published.view.subscribe();
        loop {
            {
                // Looked at where it is: it changes several times with every command, and is not small.
                let seen = changes.borrow_and_update();
                if let Err(fatal) = &seen.running_state {
                    let why = self.log.broken().unwrap_or_else(|| fatal.to_string());
                    return (!self.stopping.is_cancelled()).then_some(why);
                }
                self.publish(&seen);
            }
            let view = views.borrow_and_update().clone();
            self.look_for_removal(&view);
            // All arms may be dropped without loss: they only say that something is new.
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                changed = changes.changed() => if changed.is_err() {
                    return Some("the consensus engine is gone".into());
                },
                changed = views.changed() => if changed.is_err() {
                    return None;
                },
                // That nobody answers any more changes nothing but the time.
                () = tokio::time::sleep(self.election_max / 2) => {}
            }
        }
    }

    fn publish(&self, seen: &crate::types::Metrics) {
        let leads = seen.state.is_leader();
        let own_term = seen.last_applied.as_ref().is_some_and(|id| id.committed_leader_id().term == seen.current_term);
        // A leader that came back, or was cut off, believes in itself until it is told otherwise; its quorum does not.
        let backed = quorum_age(seen).is_some_and(|age| age <= self.election_max);
        let now = Leadership {
            leader: seen.current_leader.map(NodeId),
            term: seen.current_term,
            mine: leads && own_term && backed,
        };
        let changed = self.published.leadership.send_if_modified(|before| {
            let changed = *before != now;
            if changed && before.leader != now.leader {
                self.metrics.leader_changes.inc();
                info!(leader = ?now.leader.map(|id| id.0), term = now.term, "the leader is");
            }
            *before = now;
            changed
        });
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        if changed {
            self.metrics.leader.set(number(seen.current_leader.unwrap_or(0)));
            self.metrics.is_leader.set(i64::from(leads));
        }
        self.metrics.term.set(number(seen.current_term));
        self.metrics.last_log_index.set(number(seen.last_log_index.unwrap_or(0)));
        let membership = seen.membership_config.membership();
        self.metrics.voters.set(number(membership.voter_ids().count() as u64));
        self.metrics.learners.set(number(membership.learner_ids().count() as u64));
    }

    /// A member that was removed must not disturb the others with elections.
    fn look_for_removal(&self, view: &StateView) {
        let me = self.identity.node_id;
        let gone = view.initialised() && me.0 < view.next_node && !view.members.contains_key(&me);
        if gone && !self.published.removed.send_replace(true) {
            warn!("this member was removed from the cluster: empty the state folder to join again");
        }
        if *self.published.removed.borrow() {
            self.raft.runtime_config().elect(false);
        }
    }

    /// Writes snapshots when enough was applied, and lets the engine drop what they cover.
    pub(crate) async fn keep_snapshots(self: Arc<Self>) -> Result<(), BoxError> {
        let mut wait = SNAPSHOT_CHECK;
        loop {
            // Either arm may be dropped without loss.
            tokio::select! {
                () = self.stopping.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = SNAPSHOT_CHECK;
            if self.snapshots.behind() < self.snapshot_every {
                continue;
            }
            match self.snapshots.prepare().await {
                Ok(()) => self.raft.trigger().snapshot().await?,
                Err(error) => {
                    warn!(%error, "a snapshot cannot be written; the log keeps growing");
                    wait = SNAPSHOT_RETRY;
                }
            }
        }
    }

    /// Notes that a leader spoke.
    pub(crate) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Who leads, as far as the engine knows.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().current_leader
    }

    /// The address that a member of the group had when it was added.
    pub(crate) fn address(&self, id: u64) -> String {
        let metrics = self.raft.metrics();
        let seen = metrics.borrow_watched();
        seen.membership_config.get_node(&id).map(|n| n.addr.clone()).unwrap_or_default()
    }

    /// The engine's own account of itself, whole.
    pub(crate) fn seen(&self) -> crate::types::Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Whether `id` is in the group, as this member knows it.
    pub(crate) fn in_group(&self, id: u64) -> bool {
        self.seen().membership_config.membership().get_node(&id).is_some()
    }

    /// Whether `id` has, but for a few entries, what this leader has.
    pub(crate) fn caught_up(&self, id: u64) -> bool {
        const NEAR: u64 = 50;
        let seen = self.seen();
        let last = seen.last_log_index.unwrap_or(0);
        let matched = seen.replication.as_ref().and_then(|r| r.get(&id)).and_then(|m| m.as_ref().map(|id| id.index()));
        id == self.identity.node_id.0 || matched.is_some_and(|m| m + NEAR >= last)
    }

    /// To whom leadership would best go, if this member has it.
    pub(crate) fn heir(&self, view: &StateView) -> Option<u64> {
        let seen = self.seen();
        if !seen.state.is_leader() {
            return None;
        }
        let me = self.identity.node_id.0;
        let membership = seen.membership_config.membership();
        let fit = |id: &u64| *id != me && view.online(NodeId(*id)) && self.caught_up(*id);
        membership.voter_ids().find(fit)
    }

    /// On a follower: connects to the other followers, so that an election need not wait for that.
    pub(crate) async fn warm(&self) {
        let seen = self.seen();
        if seen.state.is_leader() {
            return;
        }
        let membership = seen.membership_config.membership();
        let voters = membership.voter_ids().filter(|id| Some(*id) != seen.current_leader);
        let known = |id: u64| (id, membership.get_node(&id).map(|n| n.addr.clone()).unwrap_or_default());
        self.dialer.warm(voters.map(known)).await;
    }

    /// On the leader: the index that a linearizable read must have applied.
    pub(crate) async fn read_index(&self) -> Result<u64, String> {
        let asked = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        match tokio::time::timeout(READ, asked).await {
            Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no quorum answered within {READ:?}")),
        }
    }

    pub(crate) async fn read_index_reply(&self) -> ReadIndexReply {
        let outcome = match self.read_index().await {
            Ok(index) => read_index_reply::Outcome::Index(index),
            Err(why) => read_index_reply::Outcome::Refused(why),
        };
        ReadIndexReply { outcome: Some(outcome) }
    }

    pub(crate) fn standing(&self, options: &Options, applied: Version) -> Standing {
        let seen = self.seen();
        // While voters change, two sets must agree: who is not in both does not count yet, or no longer.
        let membership = seen.committed_membership_config.membership();
        let sets = membership.get_joint_config();
        let votes = |id: &u64| !sets.is_empty() && sets.iter().all(|set| set.contains(id));
        let (voters, learners): (Vec<u64>, Vec<u64>) = membership.nodes().map(|(id, _)| *id).partition(votes);
        let last_contact = match seen.state.is_leader() {
            true => quorum_age(&seen),
            false => self.heard.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed()),
        };
        let silent = last_contact.is_none_or(|age| age > options.election_max);
        Standing {
            me: self.identity.node_id,
            leader: seen.current_leader.map(NodeId),
            term: seen.current_term,
            voters: voters.into_iter().map(NodeId).collect(),
            learners: learners.into_iter().map(NodeId).collect(),
            last_contact,
            stale: seen.current_leader.is_none() || silent,
            last_log: seen.last_log_index.unwrap_or(0),
            applied,
        }
    }
}

/// On a leader: how long ago a quorum, itself included, answered.
fn quorum_age(seen: &crate::types::Metrics) -> Option<Duration> {
    let alone = seen.membership_config.membership().voter_ids().eq([seen.id]);
    match alone {
        true => Some(Duration::ZERO),
        false => seen.last_quorum_acked.map(|at| at.into_inner().elapsed()),
    }
}

fn config(options: &Options, identity: &NodeIdentity) -> Result<Arc<Config>, Error> {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: identity.cluster_id.to_string(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: millis(options.election_max),
        install_snapshot_timeout: 60_000,
        max_payload_entries: transport::MAX_ENTRIES,
        max_append_entries: Some(1024),
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: options.keep_entries,
        replication_lag_threshold: options.snapshot_every + options.keep_entries,
        enable_pre_vote: Some(true),
        broadcast_submitted_on_append: Some(true),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| Error::Engine(e.to_string()))
}
