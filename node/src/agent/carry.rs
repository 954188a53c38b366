//! Volumes on their way: what the home of one sends, to another member or into another pool of its own.
//!
//! ```text
//!   new home: Ask --POST--> home of the source: is it mine, under this epoch? may it be read? --> send --bytes--> receive
//! ```
//! **Invariants.** A volume that is sent is not restored, resized or destroyed meanwhile: see [`Pools::lock`]. For a
//! move the guest is down and stays down, because the home's view shows the move before the first byte leaves.
//!
//! **Failure.** A stream that breaks off is noticed by who receives it; what is half-made is made anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use basalt_driver::{InstanceDriver, State};
use basalt_model::instance::{Instance, Kind};
use basalt_model::{Cluster, Epoch, InstanceId, NodeId, SnapshotId};
use basalt_runtime::{OnExit, Supervisor, chain};
use basalt_storage::{Parcel, Point, Progress, VolumeStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, DuplexStream};

use super::pools::{Held, Pools};

/// Bytes under way between who sends and who takes them on.
const BUFFER: usize = 1 << 20;
/// How often it is looked whether a stream still moves; one that has not since the last look is given up.
const LOOK: Duration = Duration::from_secs(60);

/// What is asked of the home of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub source: InstanceId,
    /// Under which the source is at home there.
    pub epoch: Epoch,
    /// As it was in this snapshot; else as it is.
    pub point: Option<SnapshotId>,
    /// Snapshots that come along, and what each is called at its new place.
    pub snapshots: Vec<(SnapshotId, SnapshotId)>,
    /// For a move: the epoch of the new home.
    pub landing: Option<Epoch>,
}

impl Ask {
    /// In the words of the storage port.
    pub(super) fn parcel(&self) -> Parcel {
        Parcel { point: self.point.map_or(Point::Now, Point::Snapshot), snapshots: self.snapshots.clone() }
    }
}

/// The way to volumes of other members.
#[async_trait]
pub trait Carry: Send + Sync + std::fmt::Debug {
    /// The stream that the home of the volume sends; the error names the member and the reason.
    async fn open(&self, home: NodeId, ask: &Ask) -> Result<Box<dyn AsyncRead + Send + Unpin>, String>;
}

/// Sends volumes of this host.
#[derive(Debug)]
pub struct Shipper {
    pub cluster: Arc<dyn Cluster>,
    pub pools: Arc<Pools>,
    pub drivers: BTreeMap<Kind, Arc<dyn InstanceDriver>>,
    pub supervisor: Supervisor,
}

impl Shipper {
    /// Begins to send; the error says why it cannot.
    pub async fn ship(&self, ask: Ask) -> Result<DuplexStream, String> {
        // Who asks has seen the source at home here; this replica may not have come so far.
        let view = self.cluster.linearizable().await.map_err(|e| e.to_string())?;
        let me = self.cluster.standing().me;
        let source = view.instances.get(&ask.source).ok_or("the instance no longer exists")?;
        if source.placement.home() != Some((me, ask.epoch)) {
            return Err(format!("instance {} is not at home here under epoch {}", source.name, ask.epoch));
        }
        let pool = view.root_pool(&source.project, &source.spec).ok_or("the instance has no root disk")?;
        let store = self.pools.get(&pool)?;
        let held = match ask.landing {
            None => self.pools.lock(ask.source).read().await,
            Some(landing) => {
                let held = self.pools.lock(ask.source).write().await;
                self.down_for_good(source, landing).await?;
                held
            }
        };
        let (out, stream) = tokio::io::duplex(BUFFER);
        let name = source.name.clone();
        self.supervisor.spawn("send volume", OnExit::Log, async move {
            if let Err(why) = send(&*store, &ask, out, held).await {
                tracing::warn!(instance = %name, %why, "the volume was not sent to its end");
            }
        });
        Ok(stream)
    }

    /// The guest does not run, and nobody here will start it: the view says that it is being moved.
    async fn down_for_good(&self, source: &Instance, landing: Epoch) -> Result<(), String> {
        let view = self.cluster.view();
        let moving = view.instances.get(&source.id).and_then(|i| i.placement.moving());
        if moving.is_none_or(|m| m.landing != landing) {
            return Err(format!("instance {} is not on its way to epoch {landing}", source.name));
        }
        for driver in self.drivers.values() {
            let guest = driver.inspect(source.id).await.map_err(|e| chain(&e))?;
            if guest.is_some_and(|g| g.state != State::Stopped) {
                return Err(format!("instance {} runs", source.name));
            }
        }
        Ok(())
    }
}

async fn send(store: &dyn VolumeStore, ask: &Ask, mut out: DuplexStream, _held: Held) -> Result<(), String> {
    let (parcel, progress) = (ask.parcel(), Progress::new());
    let sending = store.transfers().send(ask.source, &parcel, &mut out, &progress);
    tokio::pin!(sending);
    let mut before = None;
    loop {
        tokio::select! {
            done = &mut sending => return done.map_err(|e| chain(&e)),
            () = tokio::time::sleep(LOOK) => {
                let now = progress.get().0;
                if before == Some(now) {
                    return Err("nobody takes it on".into());
                }
                before = Some(now);
            }
        }
    }
}
