//! Address sets.

use super::{Outcome, exists, invalid, next_generation, not_found};
use crate::command::AddressSetCommand;
use crate::network::address_set::{AddressSet, check};
use crate::network::own;
use crate::{ClusterState, Rejected, SetKey};

const WHAT: &str = "network address set";

pub(super) fn apply(state: &mut ClusterState, command: &AddressSetCommand) -> Outcome {
    match command {
        AddressSetCommand::Put { set, expect } => {
            let id = set.id();
            own::check(state, &set.project, "network address sets")?;
            let found = state.address_sets.get(&id);
            let generation = next_generation(WHAT, &set.name, found.map(|s| s.generation), *expect)?;
            let number = found.map_or(state.address_sets_numbered + 1, |found| found.number);
            check(set).map_err(|e| invalid(&e.key, e.why))?;
            state.address_sets_numbered = state.address_sets_numbered.max(number);
            let set = AddressSet { number, generation, ..set.as_ref().clone() };
            state.address_sets.insert(id, set);
            Ok(())
        }
        AddressSetCommand::Rename { name, to } => {
            let set = unused(state, name)?;
            let fresh = name.beside(to.clone());
            if state.address_sets.contains_key(&fresh) {
                return Err(exists(WHAT, to));
            }
            state.address_sets.remove(name);
            let renamed = AddressSet { name: to.clone(), generation: set.generation.next(), ..set };
            state.address_sets.insert(fresh, renamed);
            Ok(())
        }
        AddressSetCommand::Remove(name) => {
            unused(state, name)?;
            state.address_sets.remove(name);
            Ok(())
        }
    }
}

/// The set, if no rule names it.
fn unused(state: &ClusterState, id: &SetKey) -> Result<AddressSet, Rejected> {
    let set = state.address_sets.get(id).cloned().ok_or_else(|| not_found(WHAT, &id.name))?;
    match state.address_set_users(id).into_iter().next() {
        Some(user) => Err(Rejected::Taken(format!("{WHAT} {} is used by {user}", id.name))),
        None => Ok(set),
    }
}
