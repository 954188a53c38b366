//! Which host ids a container's own ids map to: a range of its own for each instance of this node.
//!
//! The choice is kept with the instance as `volatile.idmap.base`, so that it stays the same as long as the instance
//! lives here; it is drawn again when another instance of this node holds it already (after a move).

use std::collections::BTreeMap;
use std::sync::Mutex;

use basalt_driver::IdMap;
use basalt_model::{InstanceId, NodeId, StateView};

/// Ids of one container.
const SIZE: u32 = 65_536;
/// Below lie the host's own users and the ranges that distributions hand out to theirs.
const FIRST: u32 = 1_000_000;

/// Ranges in use.
#[derive(Debug, Default)]
pub(super) struct IdMaps(Mutex<BTreeMap<InstanceId, u32>>);

impl IdMaps {
    /// The range of `id`: the one it has, or the lowest that no instance of this node holds.
    pub(super) fn range(&self, view: &StateView, me: NodeId, id: InstanceId) -> Option<IdMap> {
        let mut taken = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let recorded: BTreeMap<InstanceId, u32> = view
            .assigned_to(me)
            .filter_map(|i| Some((i.id, i.spec.config.get("volatile.idmap.base")?.parse().ok()?)))
            .collect();
        taken.retain(|held, _| *held == id || view.instances.contains_key(held));
        let free = |base: u32| !taken.iter().chain(&recorded).any(|(other, theirs)| *other != id && *theirs == base);
        let own = taken.get(&id).or_else(|| recorded.get(&id)).copied().filter(|base| free(*base));
        let base = own.or_else(|| (0..).map_while(nth).find(|base| free(*base)))?;
        taken.insert(id, base);
        Some(IdMap { base, size: SIZE })
    }
}

/// The n-th range, as long as it ends within 32 bits.
fn nth(n: u32) -> Option<u32> {
    let base = FIRST.checked_add(n.checked_mul(SIZE)?)?;
    base.checked_add(SIZE).map(|_| base)
}
