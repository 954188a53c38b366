//! The state machine: applies committed commands and publishes a snapshot of the state once per batch.
//!
//! Nothing here waits for anything but memory; snapshots are written by [`Snapshots::prepare`], from a clone that
//! shares structure with the live state, and openraft is only told when the file is there.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use basalt_model::{Applied, ClusterState, StateView, Version, invariant};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;
use tracing::error;

use super::snapshot::{self, SnapshotFile};
use crate::Error;
use crate::metrics::Metrics;
use crate::types::{Entry, LogId, Outcome, Request, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// The state as of one applied entry.
#[derive(Debug, Clone, Default)]
struct Cut {
    applied: Option<LogId>,
    membership: StoredMembership,
    state: Arc<ClusterState>,
}

impl Cut {
    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}

/// What the machine shares with the rest of the program.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    view: watch::Sender<StateView>,
    metrics: Metrics,
    cut: Mutex<Cut>,
    /// Index of the last entry in the snapshot on disk.
    saved: Mutex<u64>,
    /// The snapshot on disk is the one that the engine is about to ask for.
    prepared: AtomicBool,
    /// One writer of the snapshot file at a time.
    writing: tokio::sync::Mutex<()>,
}

/// The state machine that openraft drives.
#[derive(Debug)]
pub(crate) struct Machine {
    shared: Arc<Shared>,
    applied: Option<LogId>,
    membership: StoredMembership,
    state: ClusterState,
}

/// Writes snapshots beside the machine.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots(Arc<Shared>);

impl Machine {
    /// The state of the snapshot in `dir`, or an empty one; published through `view`.
    pub(crate) fn open(dir: PathBuf, view: watch::Sender<StateView>, metrics: Metrics) -> Result<Self, Error> {
        snapshot::sweep(&dir)?;
        let (meta, state) = snapshot::load(&dir)?.unwrap_or_default();
        let saved = meta.last_log_id.as_ref().map_or(0, |id| id.index());
        let shared = Shared {
            dir,
            view,
            metrics,
            cut: Mutex::default(),
            saved: Mutex::new(saved),
            prepared: AtomicBool::new(false),
            writing: tokio::sync::Mutex::default(),
        };
        let mut machine =
            Machine { shared: Arc::new(shared), applied: meta.last_log_id, membership: meta.last_membership, state };
        machine.publish();
        Ok(machine)
    }

    pub(crate) fn snapshots(&self) -> Snapshots {
        Snapshots(Arc::clone(&self.shared))
    }

    pub(crate) fn applied(&self) -> Option<&LogId> {
        self.applied.as_ref()
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<Outcome> {
        let index = entry.log_id.index();
        let answer = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(request) => Some(self.apply_request(&request, index)?),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
        };
        self.applied = Some(entry.log_id);
        Ok(Outcome(answer))
    }

    fn apply_request(&mut self, request: &Request, index: u64) -> io::Result<Result<Applied, basalt_model::Rejected>> {
        // Skipping what cannot be read would make replicas differ: better none than a wrong one.
        let command = request.decode().map_err(io::Error::other)?;
        Ok(self.state.apply(&command).map(|()| Applied { version: Version(index) }))
    }

    fn publish(&mut self) {
        let index = self.applied.as_ref().map_or(0, |id| id.index());
        let state = Arc::new(self.state.clone());
        if cfg!(debug_assertions) {
            let broken = invariant::check(&state);
            if !broken.is_empty() {
                error!(index, ?broken, "THE REPLICATED STATE BREAKS ITS OWN RULES");
                if cfg!(test) {
                    panic!("invariants broken at {index}: {broken:?}");
                }
            }
        }
        let cut = Cut { applied: self.applied, membership: self.membership.clone(), state: Arc::clone(&state) };
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = cut;
        self.shared.metrics.applied_index.set(i64::try_from(index).unwrap_or(i64::MAX));
        self.shared.view.send_replace(StateView::new(Version(index), state));
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Snapshots;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.apply_entry(entry)?;
            answers.extend(responder.map(|r| (r, outcome)));
        }
        // First the view, then the answers: who was answered finds it in the view.
        self.publish();
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Snapshots {
        self.snapshots()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        let dir = self.shared.dir.clone();
        let installed = {
            let _one = self.shared.writing.lock().await;
            let work = basalt_runtime::spawn_blocking("raft-snapshot-install", move || snapshot::install(&dir, &file));
            work.await.map_err(io::Error::other)??
        };
        let (found, state) = installed;
        if found != *meta {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not the one that was announced"));
        }
        self.state = state;
        self.applied = found.last_log_id;
        self.membership = found.last_membership;
        *self.shared.saved.lock().unwrap_or_else(PoisonError::into_inner) =
            self.applied.as_ref().map_or(0, |id| id.index());
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(snapshot::open(&self.shared.dir)?.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Snapshots {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // Normally prepared already, so that a full disk is met there and harms nothing: for the engine, a snapshot that
        // cannot be built is the end.
        let prepared = self.0.prepared.swap(false, Ordering::AcqRel);
        if !prepared || snapshot::open(&self.0.dir)?.is_none() {
            self.write().await?;
        }
        let found = snapshot::open(&self.0.dir)?.ok_or_else(|| io::Error::other("the snapshot is gone"))?;
        Ok(Snapshot { meta: found.0, snapshot: found.1 })
    }
}

impl Snapshots {
    fn cut(&self) -> Cut {
        self.0.cut.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many entries were applied since the snapshot on disk.
    pub(crate) fn behind(&self) -> u64 {
        let applied = self.cut().applied.as_ref().map_or(0, |id| id.index());
        applied.saturating_sub(*self.0.saved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a snapshot that the engine will find when it asks for one next.
    pub(crate) async fn prepare(&self) -> io::Result<()> {
        self.write().await?;
        self.0.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes a snapshot of what is applied now.
    async fn write(&self) -> io::Result<()> {
        let _one = self.0.writing.lock().await;
        let cut = self.cut();
        let dir = self.0.dir.clone();
        let index = cut.applied.as_ref().map_or(0, |id| id.index());
        let written = basalt_runtime::spawn_blocking("raft-snapshot", move || {
            snapshot::write(&dir, &cut.meta(), &cut.state).map(drop)
        });
        let written = written.await.map_err(io::Error::other).and_then(|written| written);
        match &written {
            Ok(()) => {
                let mut saved = self.0.saved.lock().unwrap_or_else(PoisonError::into_inner);
                *saved = index.max(*saved);
                self.0.metrics.snapshots.inc();
            }
            Err(_) => self.0.metrics.snapshot_failures.inc(),
        }
        written
    }
}
