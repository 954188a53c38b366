//! The member of the group that this program is.
//!
//! ```text
//!   open --(no identity on disk)--> fresh --bootstrap | start_member--> running --shutdown--> closed
//!     '---(identity on disk)---------------------------------^   |
//!                                                  ^             | no space for the log
//!                                                  '-- space ----'
//! ```
//! While there is no core (fresh, closed, broken), commands are refused with the reason, and the last state stays
//! readable.

pub(crate) mod core;
mod propose;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use basalt_model::command::{ClusterCommand, Init};
use basalt_model::port::Standing;
use basalt_model::{Applied, Cluster, Command, NodeId, ProposeError, ReadError, StateView, Version};
use basalt_runtime::{OnExit, Supervisor};
use openraft::impls::BasicNode;
use tokio::sync::watch;
use tracing::{error, info, warn};

use self::core::{Core, Published};
use crate::metrics::Metrics;
use crate::store::{Log, snapshot};
use crate::{Error, Leadership, NodeIdentity, Options, leadership};

pub(crate) const NOT_INITIALISED: &str = "not initialised: run `basalt init`";
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long the lock of a program that is gone may outlive it.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// This member's share in the replicated state; the real [`Cluster`].
#[derive(Debug)]
pub struct RaftCluster {
    options: Options,
    supervisor: Supervisor,
    metrics: Metrics,
    published: Published,
    /// Held while the folder is open.
    _lock: File,
    state: Mutex<State>,
    /// The core to watch over.
    running: watch::Sender<Option<Arc<Core>>>,
    /// One change of `state` at a time, where it takes a while.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum State {
    Fresh,
    Running(Arc<Core>),
    /// Not taking part; commands are refused like this.
    Stopped(Arc<NodeIdentity>, ProposeError),
}

impl RaftCluster {
    /// Opens what is on disk. A fresh machine gets a handle that is not initialised; a member starts to take part.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the log or the snapshot is not what was written: the text says how to rejoin.
    pub async fn open(
        options: Options,
        supervisor: &Supervisor,
        registry: &prometheus::Registry,
    ) -> Result<Arc<Self>, Error> {
        let dir = &options.raft_dir;
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))?;
        let lock = lock(dir)?;
        let identity = NodeIdentity::load(&options.identity_dir)?;
        let cluster = Arc::new(RaftCluster {
            metrics: Metrics::register(registry)?,
            supervisor: supervisor.child(),
            published: Published::default(),
            _lock: lock,
            state: Mutex::new(State::Fresh),
            running: watch::Sender::default(),
            changing: tokio::sync::Mutex::default(),
            options,
        });
        if let Some(identity) = identity {
            cluster.start(identity).await?;
        }
        let keeper = Arc::clone(&cluster);
        cluster.supervisor.spawn("raft-watch", OnExit::Fatal, async move { keeper.watch_over().await });
        Ok(cluster)
    }

    /// Begins a cluster with this member, whose id is 1. Returns when `Init` is applied and the identity is on disk; a
    /// crash or an error before that leaves a fresh machine.
    pub async fn bootstrap(self: &Arc<Self>, init: Init, identity: NodeIdentity) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        self.must_be_fresh()?;
        self.wipe()?;
        let address = init.member.announced.cluster_address.clone();
        let core = self.start(identity.clone()).await?;
        let begun = self.begin(&core, address, init).await;
        let stored = begun.and_then(|()| identity.store(&self.options.identity_dir));
        if stored.is_err() {
            self.stop(State::Fresh).await;
            self.published.view.send_replace(StateView::default());
        }
        stored
    }

    async fn begin(&self, core: &Core, address: String, init: Init) -> Result<(), Error> {
        let first = BTreeMap::from([(core.identity.node_id.0, BasicNode { addr: address })]);
        core.raft.initialize(first).await.map_err(|e| Error::Engine(e.to_string()))?;
        let begin = Command::Cluster(ClusterCommand::Init(Box::new(init)));
        self.propose(begin).await.map(drop).map_err(Error::Bootstrap)
    }

    /// Begins to take part as a member that the cluster has just admitted. Returns when the identity is on disk; the
    /// state arrives when the leader has found this member (see [`Cluster::changed_since`]).
    pub async fn start_member(self: &Arc<Self>, identity: NodeIdentity) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        self.must_be_fresh()?;
        self.wipe()?;
        identity.store(&self.options.identity_dir)?;
        self.start(identity).await.map(drop)
    }

    /// Who this member is; `None` on a fresh machine.
    pub fn identity(&self) -> Option<Arc<NodeIdentity>> {
        match &*self.state() {
            State::Fresh => None,
            State::Running(core) => Some(Arc::clone(&core.identity)),
            State::Stopped(identity, _) => Some(Arc::clone(identity)),
        }
    }

    /// The gRPC service of the group, for the listener of the cluster port. Each request must carry a
    /// [`crate::transport::PeerCertificate`] extension.
    pub fn service(self: &Arc<Self>) -> axum::Router {
        crate::transport::server::router(Arc::clone(self))
    }

    /// Changes when a leader is known, lost or another.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.published.leadership.subscribe()
    }

    /// Changes with every applied batch.
    pub fn watch(&self) -> watch::Receiver<StateView> {
        self.published.view.subscribe()
    }

    /// Becomes true when the cluster says that this member was removed.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.published.removed.subscribe()
    }

    /// If this member leads, hands over to another voter and waits (2 s at most) until it has: for a clean stop.
    pub async fn leave_leadership(&self) {
        let Ok(core) = self.core() else { return };
        let Some(to) = core.heir(&self.current()) else { return };
        if let Err(error) = core.raft.trigger().transfer_leader(to).await {
            warn!(%error, "leadership could not be handed over");
            return;
        }
        let mut leadership = self.leadership();
        let handed = leadership.wait_for(|l| l.leader.is_some_and(|id| id != core.identity.node_id));
        match tokio::time::timeout(HAND_OVER, handed).await {
            Ok(_) => info!(to, "leadership handed over"),
            Err(_) => warn!(to, "leadership was not taken over in time"),
        }
    }

    /// Stops taking part and closes the files. Idempotent.
    pub async fn shutdown(&self) {
        let _one = self.changing.lock().await;
        if let Some(identity) = self.identity() {
            let closed = ProposeError::NoLeader("this member is shutting down".into());
            self.stop(State::Stopped(identity, closed)).await;
        }
        self.supervisor.shutdown().cancel();
    }

    /// The core; without one, the refusal for whoever needs it.
    pub(crate) fn core(&self) -> Result<Arc<Core>, ProposeError> {
        match &*self.state() {
            State::Fresh => Err(ProposeError::NoLeader(NOT_INITIALISED.into())),
            State::Running(core) => Ok(Arc::clone(core)),
            State::Stopped(_, refusal) => Err(refusal.clone()),
        }
    }

    pub(crate) fn reconcile_every(&self) -> Duration {
        self.options.reconcile
    }

    pub(crate) fn current(&self) -> StateView {
        self.published.view.borrow().clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic cannot leave the enum half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn must_be_fresh(&self) -> Result<(), Error> {
        match self.identity() {
            Some(identity) => Err(Error::AlreadyMember(identity.cluster_id)),
            None => Ok(()),
        }
    }

    /// An empty log, and no snapshot: what is there without an identity is from an attempt that failed.
    fn wipe(&self) -> Result<(), Error> {
        snapshot::remove(&self.options.raft_dir)?;
        Log::create(&self.options.raft_dir, self.options.segment_bytes)
    }

    async fn start(self: &Arc<Self>, identity: NodeIdentity) -> Result<Arc<Core>, Error> {
        let core = Core::start(&self.options, identity, &self.published, &self.metrics).await?;
        *self.state() = State::Running(Arc::clone(&core));
        let tasks = &self.supervisor;
        let duties = leadership::Duties::new(Arc::clone(self), Arc::clone(&core));
        tasks.spawn_restarting("raft-leader", move || duties.clone().run());
        let keeper = Arc::clone(&core);
        tasks.spawn_restarting("raft-snapshots", move || Arc::clone(&keeper).keep_snapshots());
        self.running.send_replace(Some(Arc::clone(&core)));
        Ok(core)
    }

    /// Ends the core, if there is one; `next` is what remains.
    async fn stop(&self, next: State) {
        let before = std::mem::replace(&mut *self.state(), next);
        match before {
            State::Running(core) => core.stop().await,
            State::Fresh | State::Stopped(..) => {}
        }
        self.running.send_replace(None);
        self.published.leadership.send_replace(Leadership::default());
    }

    /// Publishes what the core sees, and deals with its end.
    async fn watch_over(self: Arc<Self>) {
        let stopping = self.supervisor.shutdown().token();
        let mut running = self.running.subscribe();
        loop {
            let core = running.borrow_and_update().clone();
            if let Some(core) = core
                && let Some(why) = core.watch().await
            {
                self.broken(&core, why).await;
                if core.log.out_of_space() {
                    self.revive().await;
                    continue;
                }
            }
            // Either arm may be dropped without loss; the sender lives in self.
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = running.changed() => {}
            }
        }
    }

    /// The engine of `core` has stopped by itself.
    async fn broken(&self, core: &Arc<Core>, why: String) {
        let _one = self.changing.lock().await;
        let still = matches!(&*self.state(), State::Running(running) if Arc::ptr_eq(running, core));
        if still {
            error!(why, "this member no longer takes part in the group");
            let refusal = match core.log.broken() {
                Some(why) => ProposeError::Storage(why),
                None => ProposeError::NoLeader(why),
            };
            self.stop(State::Stopped(Arc::clone(&core.identity), refusal)).await;
        }
    }

    /// Starts again when there is space. Only a full disk heals: after any other error the disk is not to be trusted.
    async fn revive(self: &Arc<Self>) {
        let stopping = self.supervisor.shutdown().token();
        loop {
            // Either arm may be dropped without loss.
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            let _one = self.changing.lock().await;
            let identity = match &*self.state() {
                State::Stopped(identity, _) => NodeIdentity::clone(identity),
                State::Fresh | State::Running(_) => return,
            };
            match self.start(identity).await {
                Ok(core) if core.log.admit().is_ok() => {
                    info!("this member takes part in the group again");
                    return;
                }
                Ok(core) => {
                    let refusal = ProposeError::Storage("no space for the next segment".into());
                    self.stop(State::Stopped(Arc::clone(&core.identity), refusal)).await;
                }
                Err(error) => warn!(%error, "this member cannot take part in the group yet"),
            }
        }
    }
}

#[async_trait]
impl Cluster for RaftCluster {
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        self.propose_command(command).await
    }

    fn view(&self) -> StateView {
        self.current()
    }

    async fn linearizable(&self) -> Result<StateView, ReadError> {
        self.read_linearizable().await
    }

    async fn changed_since(&self, version: Version) -> StateView {
        let mut views = self.published.view.subscribe();
        let changed = views.wait_for(|view| view.version > version).await;
        changed.expect("the sender lives as long as self").clone()
    }

    fn standing(&self) -> Standing {
        match self.core() {
            Ok(core) => core.standing(&self.options, self.current().version),
            Err(_) => Standing {
                me: self.identity().map_or(NodeId::default(), |identity| identity.node_id),
                leader: None,
                term: 0,
                voters: Vec::new(),
                learners: Vec::new(),
                last_contact: None,
                stale: true,
                last_log: self.current().version.0,
                applied: self.current().version,
            },
        }
    }
}

/// One program at a time: two writers of one log would destroy it.
fn lock(dir: &std::path::Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file =
        File::options().write(true).create(true).truncate(false).open(&path).map_err(Error::io("open", &path))?;
    let begun = std::time::Instant::now();
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A program that was killed while it started another leaves, for a moment, a child that holds its files.
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse(dir.to_owned())),
            Err(errno) => return Err(Error::io("lock", &path)(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests;
