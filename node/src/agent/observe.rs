//! What there is on this host, asked each time.

use std::collections::BTreeSet;

use basalt_model::instance::Instance;
use basalt_model::{Epoch, InstanceId};

use super::Parts;
use super::plan::{Actual, FoundVolume};

/// Every instance of which there is any trace here. What cannot be listed now is looked at in the next pass.
pub(super) async fn everything_here(parts: &Parts) -> BTreeSet<InstanceId> {
    let mut ids = BTreeSet::new();
    for driver in parts.drivers.values() {
        match driver.list().await {
            Ok(found) => ids.extend(found.into_iter().map(|guest| guest.id)),
            Err(error) => tracing::warn!(%error, "guests of this host cannot be listed"),
        }
    }
    for (name, store) in parts.pools.open() {
        match store.list().await {
            Ok(found) => ids.extend(found.into_iter().map(|volume| volume.id)),
            Err(error) => tracing::warn!(pool = %name, %error, "volumes cannot be listed"),
        }
    }
    ids
}

/// What there is of one instance: its guest in any driver, its volume in its own pool, or in any for a stranger.
pub(super) async fn actual(parts: &Parts, id: InstanceId, instance: Option<&Instance>) -> Result<Actual, String> {
    let mut actual = Actual::default();
    for driver in parts.drivers.values() {
        match driver.inspect(id).await {
            Ok(Some(guest)) => actual.guest = Some(guest),
            Ok(None) => {}
            Err(error) => return Err(format!("its guest cannot be inspected: {error}")),
        }
    }
    let view = parts.cluster.view();
    let own_pool = instance.and_then(|i| view.root_pool(&i.project, &i.spec));
    for (name, store) in parts.pools.open() {
        if own_pool.as_ref().is_some_and(|own| *own != name) {
            // Only moves ever leave anything elsewhere.
            if instance.is_some_and(|i| i.errands.landings > Epoch(0)) {
                let found = store.find(id).await.map_err(|e| format!("pool {name} cannot be looked through: {e}"))?;
                actual.strays |= found.is_some();
            }
            continue;
        }
        match store.find(id).await {
            Ok(Some(found)) => {
                actual.volume = Some(FoundVolume { epoch: found.epoch, complete: found.complete });
            }
            Ok(None) => {}
            Err(error) => return Err(format!("its volume cannot be inspected: {error}")),
        }
    }
    Ok(actual)
}
