//! Storage pools.

use super::{Outcome, exists, expect_generation, not_found};
use crate::command::PoolCommand;
use crate::pool::Pool;
use crate::{ClusterState, Generation, PoolName, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &PoolCommand) -> Outcome {
    match command {
        PoolCommand::Add(pool) => {
            if state.pools.contains_key(&pool.name) {
                return Err(exists("storage pool", &pool.name));
            }
            let mut named = pool.member_config.keys().chain(pool.status.keys());
            if let Some(stranger) = named.find(|node| !state.members.contains_key(*node)) {
                return Err(not_found("member", stranger));
            }
            state.pools.insert(pool.name.clone(), Pool { generation: Generation(1), ..pool.clone() });
            Ok(())
        }
        PoolCommand::Update { name, expect, description, config } => {
            let pool = pool(state, name)?;
            expect_generation("storage pool", *expect, pool.generation)?;
            pool.description = description.clone();
            pool.config = config.clone();
            pool.generation = pool.generation.next();
            Ok(())
        }
        PoolCommand::SetMemberConfig { name, node, config } => {
            if !state.members.contains_key(node) {
                return Err(not_found("member", node));
            }
            let pool = pool(state, name)?;
            pool.member_config.insert(*node, config.clone());
            pool.generation = pool.generation.next();
            Ok(())
        }
        PoolCommand::Status { name, node, status } => {
            if !state.members.contains_key(node) {
                return Err(not_found("member", node));
            }
            pool(state, name)?.status.insert(*node, status.clone());
            Ok(())
        }
        PoolCommand::Remove(name) => {
            pool(state, name)?;
            match state.pool_users(name).into_iter().next() {
                Some(user) => return Err(Rejected::Busy(format!("storage pool {name} is used by {user}"))),
                None => state.pools.remove(name),
            };
            Ok(())
        }
    }
}

fn pool<'a>(state: &'a mut ClusterState, name: &PoolName) -> Result<&'a mut Pool, Rejected> {
    state.pools.get_mut(name).ok_or_else(|| not_found("storage pool", name))
}
