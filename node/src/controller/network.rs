//! Logical networks: on the leader, every interface and router gets its addresses, and OVN's northbound database is made
//! to hold what the replicated state calls for.
//!
//! ```text
//!  version | northbound change, reconnect | timer
//!        v
//!  addresses that are lacking --propose--> state         chosen here, checked by apply
//!        v
//!  topology of the state --reconcile--> database         one transaction for each network that differs
//!        v
//!  what is wrong --> warnings                             the database is away, or will not have a network
//! ```
//! **Failure.** While the database is away nothing is lost: the state goes on, and the first pass after writes what has
//! gathered. Two leaders at once cannot both write: see `basalt_ovn::marker`.

mod connection;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::network::address;
use basalt_model::warning::Cause;
use basalt_model::{Cluster, Command, ProposeError, StateView};
use basalt_runtime::Shutdown;
use tokio::sync::watch;

pub use connection::{Connect, Connection};
use work::Work;

use crate::metrics::NetworkMetrics;

/// How often it is looked though nothing seems to have changed.
const PERIOD: Duration = Duration::from_secs(10);
/// How often a member that does not lead looks whether it does.
const IDLE: Duration = Duration::from_secs(1);
/// Members below this level do not know logical networks.
const LEVEL: u32 = 2;

/// What is wrong, for the warnings.
pub type Findings = BTreeMap<Cause, String>;

/// What the controller is built from.
#[derive(Debug)]
pub struct Parts {
    pub cluster: Arc<dyn Cluster>,
    pub connect: Connect,
    pub metrics: NetworkMetrics,
    pub findings: watch::Sender<Findings>,
}

/// Keeps networks until shutdown.
pub async fn run(parts: Parts, shutdown: Shutdown) {
    let mut work: Option<Work> = None;
    loop {
        let standing = parts.cluster.standing();
        let mut view = parts.cluster.view();
        let leads = standing.leader == Some(standing.me) && view.initialised() && view.feature_level >= LEVEL;
        if !leads {
            work = None;
            parts.findings.send_if_modified(|found| !std::mem::take(found).is_empty());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(IDLE) => continue,
            }
        }
        let work = work.get_or_insert_with(|| Work::new(view.cluster_id));
        if allocate(&*parts.cluster, &view).await {
            view = parts.cluster.view();
        }
        let rest = work.look(&parts, &view, standing.term).await;
        // Changes that come together are written together: northd works for a while on each transaction.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = parts.cluster.changed_since(view.version) => {}
            () = work.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Proposes the addresses that are lacking; says whether there were any.
async fn allocate(cluster: &dyn Cluster, view: &StateView) -> bool {
    let commands = address::wanted(view);
    let any = !commands.is_empty();
    for command in commands {
        match cluster.propose(Command::Network(command)).await {
            Ok(_) => {}
            // Lost a race: the next pass sees the state as it is.
            Err(ProposeError::Rejected(why)) => tracing::debug!(%why, "a choice of addresses was refused"),
            Err(error) => {
                tracing::warn!(%error, "addresses could not be proposed; trying again");
                break;
            }
        }
    }
    any
}
