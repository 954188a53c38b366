//! Who leads, and what the leader does for the group: it keeps the group's membership in step with the state
//! ([`crate::membership`]), raises the feature level when all members can follow, and hands over when its disk is full.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_model::command::{ClusterCommand, FEATURE_LEVEL};
use basalt_model::{Cluster, Command, NodeId, StateView};
use basalt_runtime::BoxError;
use tracing::{info, warn};

use crate::handle::RaftCluster;
use crate::handle::core::Core;
use crate::membership;

/// Who leads, as this member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    pub leader: Option<NodeId>,
    pub term: u64,
    /// This member leads, a quorum answered it within an election timeout, and it has applied everything that was
    /// committed before its term.
    pub mine: bool,
}

/// A disk that stays full must not make leadership travel in circles.
const HAND_OVER_EVERY: Duration = Duration::from_secs(10);

/// How often the connections between followers are looked at.
const WARM_EVERY: Duration = Duration::from_secs(5);

/// The leader's work; it runs on every member and rests while it does not lead.
#[derive(Debug, Clone)]
pub(crate) struct Duties {
    cluster: Arc<RaftCluster>,
    core: Arc<Core>,
}

impl Duties {
    pub(crate) fn new(cluster: Arc<RaftCluster>, core: Arc<Core>) -> Self {
        Duties { cluster, core }
    }

    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let mut leadership = self.cluster.leadership();
        let mut views = self.cluster.watch();
        let (mut handed_over, mut warmed) = (None, None::<Instant>);
        loop {
            if warmed.is_none_or(|at| at.elapsed() > WARM_EVERY) {
                warmed = Some(Instant::now());
                self.core.warm().await;
            }
            if leadership.borrow_and_update().mine {
                let view = views.borrow_and_update().clone();
                // Errors are told where they happen; the next round looks at what is then.
                self.round(&view, &mut handed_over).await;
            }
            // All arms may be dropped without loss: they only say that it is time to look again.
            tokio::select! {
                () = self.core.stopping.cancelled() => return Ok(()),
                changed = leadership.changed() => changed?,
                changed = views.changed() => changed?,
                () = tokio::time::sleep(self.cluster.reconcile_every()) => {}
            }
        }
    }

    async fn round(&self, view: &StateView, handed_over: &mut Option<Instant>) {
        membership::reconcile(&self.core, view).await;
        self.raise_feature_level(view).await;
        if let Err(why) = self.core.log.admit()
            && handed_over.is_none_or(|at| at.elapsed() > HAND_OVER_EVERY)
            && let Some(heir) = self.core.heir(view)
        {
            *handed_over = Some(Instant::now());
            warn!(why, heir, "this leader cannot write its log; another is asked to lead");
            if let Err(error) = self.core.raft.trigger().transfer_leader(heir).await {
                warn!(%error, "leadership could not be handed over");
            }
        }
    }

    async fn raise_feature_level(&self, view: &StateView) {
        let Some(level) = reachable_level(view) else { return };
        info!(level, "all members understand a higher feature level");
        let raise = Command::Cluster(ClusterCommand::RaiseFeatureLevel { level });
        if let Err(error) = self.cluster.propose(raise).await {
            warn!(%error, "the feature level was not raised");
        }
    }
}

/// A level above the present one that all members, and this program, understand.
fn reachable_level(view: &StateView) -> Option<u32> {
    let announced = view.members.values().map(|m| m.announced.feature_level).min()?;
    Some(announced.min(FEATURE_LEVEL)).filter(|level| *level > view.feature_level)
}
