//! The new home of an instance that is moved: pulls the volume, says so, and only then is the home.
//!
//! **Failure.** Killed anywhere, it begins again: a volume that is complete under the move's own epoch is what was asked
//! for, anything else is made anew. What cannot be pulled ends the move, and the old home stays the home.

use basalt_model::command::InstanceCommand;
use basalt_model::device::Device;
use basalt_model::instance::{Instance, Move};
use basalt_model::snapshot::Snapshot;
use basalt_model::{ClusterState, Command, InstanceId, PoolName, ProposeError, Rejected};
use basalt_runtime::chain;
use basalt_storage::NewVolume;

use super::carry::Ask;
use super::task::Pass;
use super::{Agent, Parts, copy};

/// One look at an instance that is to land here.
pub(super) async fn pass(agent: &Agent, view: &ClusterState, instance: &Instance, on_its_way: &Move) -> Pass {
    let parts = &agent.parts;
    let Ok(_permit) = agent.working.acquire().await else { return Pass::Done };
    let command = match land(parts, view, instance, on_its_way).await {
        Ok(()) => InstanceCommand::Landed { id: instance.id, landing: on_its_way.landing, at: parts.clock.now() },
        Err(reason) => {
            tracing::warn!(instance = %instance.name, %reason, "the move comes to nothing");
            parts.metrics.failures.inc();
            InstanceCommand::AbortMove { id: instance.id, landing: on_its_way.landing, reason }
        }
    };
    match parts.cluster.propose(Command::Instance(command)).await {
        Ok(_) | Err(ProposeError::Rejected(Rejected::Stale(_) | Rejected::NotFound { .. })) => Pass::Again,
        // What it would become is no longer allowed, such as by a limit of its new project.
        Err(ProposeError::Rejected(why)) => {
            let (id, landing) = (instance.id, on_its_way.landing);
            let abort = InstanceCommand::AbortMove { id, landing, reason: why.to_string() };
            match parts.cluster.propose(Command::Instance(abort)).await {
                Ok(_) | Err(ProposeError::Rejected(_)) => Pass::Again,
                Err(error) => Pass::Later(error.to_string()),
            }
        }
        Err(error) => Pass::Later(error.to_string()),
    }
}

async fn land(parts: &Parts, view: &ClusterState, instance: &Instance, on_its_way: &Move) -> Result<(), String> {
    let (pool, size) = root_disk(view, on_its_way).ok_or("the instance would have no root disk")?;
    let store = parts.pools.get(&pool)?;
    match store.find(instance.id).await.map_err(|e| chain(&e))? {
        Some(found) if found.complete && found.epoch == on_its_way.landing => return Ok(()),
        // Of an earlier try, or of an earlier stay: the home has what counts.
        Some(_) => {
            store.destroy(instance.id).await.map_err(|e| chain(&e))?;
        }
        None => {}
    }
    tracing::info!(instance = %instance.name, from = %on_its_way.from, "moving here");
    let ask = Ask {
        source: instance.id,
        epoch: on_its_way.epoch,
        point: None,
        snapshots: snapshots(view, instance.id),
        landing: Some(on_its_way.landing),
    };
    let to = NewVolume { id: instance.id, epoch: on_its_way.landing, size };
    copy::fetch(parts, on_its_way.from, ask, (&pool, to)).await
}

fn root_disk(view: &ClusterState, on_its_way: &Move) -> Option<(PoolName, Option<u64>)> {
    let devices = view.parsed_devices(&on_its_way.plan.project, &on_its_way.plan.spec);
    devices.into_iter().find_map(|(_, device)| match device {
        Device::Root { pool, size } => Some((pool, size)),
        Device::Disk { .. } | Device::Nic { .. } | Device::None => None,
    })
}

/// All that are there come along, under the ids that they have.
fn snapshots(view: &ClusterState, id: InstanceId) -> Vec<(basalt_model::SnapshotId, basalt_model::SnapshotId)> {
    view.snapshots_of(id).filter(|s: &&Snapshot| s.is_ready()).map(|s| (s.id, s.id)).collect()
}
