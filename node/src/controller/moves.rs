//! Chooses where instances move to, and ends moves that cannot come to an end.

use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::InstanceCommand;
use basalt_model::instance::Instance;
use basalt_model::{Cluster, Command, ProposeError, StateView};
use basalt_runtime::Shutdown;

use super::health::Heartbeats;

/// Looks until shutdown.
pub async fn run(cluster: Arc<dyn Cluster>, heartbeats: Arc<Heartbeats>, shutdown: Shutdown) {
    let mut view = cluster.view();
    loop {
        let standing = cluster.standing();
        if standing.leader == Some(standing.me) {
            for command in commands(&view, &heartbeats) {
                propose(&*cluster, command).await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = cluster.changed_since(view.version) => view = changed,
            () = tokio::time::sleep(Duration::from_secs(2)) => view = cluster.view(),
        }
    }
}

fn commands(view: &StateView, heartbeats: &Heartbeats) -> Vec<InstanceCommand> {
    let under_way = view.instances.values().filter(|i| i.placement.moving().is_some());
    under_way.filter_map(|instance| next(view, heartbeats, instance)).collect()
}

/// What is to be done about one move.
fn next(view: &StateView, heartbeats: &Heartbeats, instance: &Instance) -> Option<InstanceCommand> {
    let on_its_way = instance.placement.moving()?;
    let (id, landing) = (instance.id, on_its_way.landing);
    match on_its_way.to {
        None => Some(match basalt_scheduler::next_home(view, heartbeats, instance)? {
            Ok(node) => InstanceCommand::AssignMove { id, landing, node },
            Err(reason) => InstanceCommand::AbortMove { id, landing, reason },
        }),
        // It may have everything already; if so, what it says of it comes too late, and it removes it again.
        Some(node) if !view.online(node) => {
            let name = view.members.get(&node).map(|m| m.name.to_string()).unwrap_or_default();
            let reason = format!("member {name}, which it was on its way to, is offline");
            Some(InstanceCommand::AbortMove { id, landing, reason })
        }
        Some(_) => None,
    }
}

async fn propose(cluster: &dyn Cluster, command: InstanceCommand) {
    match cluster.propose(Command::Instance(command)).await {
        Ok(_) => {}
        // Lost a race: the next pass sees the state as it is.
        Err(ProposeError::Rejected(why)) => tracing::debug!(%why, "a choice for a move was refused"),
        Err(error) => tracing::warn!(%error, "a choice for a move could not be proposed; trying again"),
    }
}
