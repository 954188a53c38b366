//! Making a volume out of another instance's: in its own pool, out of another pool, or from another member.

use basalt_model::instance::{CopyOf, Instance};
use basalt_model::{ClusterState, NodeId, PoolName};
use basalt_runtime::chain;
use basalt_storage::{NewVolume, Progress};

use super::carry::Ask;
use super::plan::Desired;
use super::{Parts, execute, guest};

/// Makes the volume of a copy.
pub(super) async fn make(
    parts: &Parts,
    view: &ClusterState,
    instance: &Instance,
    wanted: &Desired,
    copy: &CopyOf,
) -> Result<(), String> {
    let gone = "the instance that it is a copy of no longer exists";
    let source = view.instances.get(&copy.source).ok_or(gone)?;
    let (home, epoch) = source.placement.home().ok_or(gone)?;
    let (pool, size) = guest::root_disk(view, instance).ok_or("the instance has no root disk")?;
    let to = NewVolume { id: wanted.id, epoch: wanted.epoch, size };
    let ask = Ask { source: source.id, epoch, point: copy.point, snapshots: copy.snapshots.clone(), landing: None };
    let from_pool = view.root_pool(&source.project, &source.spec);
    tracing::info!(source = %source.name, copy = %instance.name, %home, "copying");
    if home == parts.me && from_pool.as_ref() == Some(&pool) {
        let store = parts.pools.get(&pool)?;
        let _held = parts.pools.lock(source.id).read().await;
        execute::give_way(parts, &*store, wanted).await?;
        let made = store.transfers().copy(source.id, &ask.parcel(), to, &Progress::new()).await;
        return made.map(|_| ()).map_err(|e| chain(&e));
    }
    let stream = open(parts, home, ask).await?;
    execute::give_way(parts, &*parts.pools.get(&pool)?, wanted).await?;
    take(parts, stream, (&pool, to)).await
}

/// What the home of a volume sends.
type Stream = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

/// Asks the home of a volume for it.
async fn open(parts: &Parts, home: NodeId, ask: Ask) -> Result<Stream, String> {
    match home == parts.me {
        true => Ok(Box::new(parts.shipper.ship(ask).await?)),
        false => parts.carry.open(home, &ask).await,
    }
}

/// Makes the volume `to` in `pool` out of what the home of another sends.
pub(super) async fn fetch(parts: &Parts, home: NodeId, ask: Ask, target: (&PoolName, NewVolume)) -> Result<(), String> {
    let stream = open(parts, home, ask).await?;
    take(parts, stream, target).await
}

async fn take(parts: &Parts, mut stream: Stream, (pool, to): (&PoolName, NewVolume)) -> Result<(), String> {
    let store = parts.pools.get(pool)?;
    let made = store.transfers().receive(to, &mut *stream, &Progress::new()).await;
    made.map(|_| ()).map_err(|e| chain(&e))
}
