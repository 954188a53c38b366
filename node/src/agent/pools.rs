//! Storage pools on this host: opened from the replicated definition, their state reported when it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use basalt_model::command::PoolCommand;
use basalt_model::pool::{Pool, PoolStatus};
use basalt_model::{Command, InstanceId, NodeId, PoolName, StateView};
use basalt_storage::{StorageHost, VolumeStore};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::Parts;

/// How a pool stands here.
#[derive(Debug, Clone)]
enum Slot {
    Open(Arc<dyn VolumeStore>, Pool),
    Failed(String),
}

/// The pools of this host.
#[derive(Debug)]
pub struct Pools {
    host: StorageHost,
    slots: Mutex<BTreeMap<PoolName, Slot>>,
    locks: Mutex<BTreeMap<InstanceId, Weak<RwLock<()>>>>,
}

/// Who may touch an instance's volume: many read it, one changes it.
#[derive(Debug)]
pub struct Lock(Arc<RwLock<()>>);

/// A lock that is held as long as this lives.
#[derive(Debug)]
pub enum Held {
    Read(OwnedRwLockReadGuard<()>),
    Write(OwnedRwLockWriteGuard<()>),
}

impl Lock {
    /// To read it, or to run the guest on it.
    pub async fn read(self) -> Held {
        Held::Read(self.0.read_owned().await)
    }

    /// To change it as a whole, or to be sure that nobody does anything with it.
    pub async fn write(self) -> Held {
        Held::Write(self.0.write_owned().await)
    }
}

impl Pools {
    /// No pool is open yet.
    pub fn new(host: StorageHost) -> Self {
        Pools { host, slots: Mutex::default(), locks: Mutex::default() }
    }

    /// The lock of an instance's volume.
    pub fn lock(&self, id: InstanceId) -> Lock {
        let mut locks = self.locks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(held) = locks.get(&id).and_then(Weak::upgrade) {
            return Lock(held);
        }
        locks.retain(|_, held| held.strong_count() > 0);
        let lock = Arc::new(RwLock::new(()));
        locks.insert(id, Arc::downgrade(&lock));
        Lock(lock)
    }

    /// The store of a pool that is ready here; the error says why it is not.
    pub fn get(&self, name: &PoolName) -> Result<Arc<dyn VolumeStore>, String> {
        match self.slots().get(name) {
            Some(Slot::Open(store, _)) => Ok(Arc::clone(store)),
            Some(Slot::Failed(why)) => Err(format!("storage pool {name} is not available on this member: {why}")),
            None => Err(format!("storage pool {name} is not known on this member")),
        }
    }

    /// Every pool that is ready here.
    pub fn open(&self) -> Vec<(PoolName, Arc<dyn VolumeStore>)> {
        let open = |(name, slot): (&PoolName, &Slot)| match slot {
            Slot::Open(store, _) => Some((name.clone(), Arc::clone(store))),
            Slot::Failed(_) => None,
        };
        self.slots().iter().filter_map(open).collect()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<PoolName, Slot>> {
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Opens what is defined, closes and removes what no longer is, and reports what changed.
    pub(super) async fn pass(&self, parts: &Parts, view: &StateView) {
        for pool in view.pools.values() {
            let ready = matches!(self.slots().get(&pool.name), Some(Slot::Open(_, made)) if *made == comparable(pool));
            if !ready {
                self.open_one(parts.me, pool).await;
            }
            self.report(parts, pool).await;
        }
        let known: Vec<PoolName> = self.slots().keys().cloned().collect();
        for name in known.into_iter().filter(|name| !view.pools.contains_key(name)) {
            self.close(parts, &name).await;
        }
    }

    async fn open_one(&self, me: NodeId, pool: &Pool) {
        let config = config_of(pool, me);
        let slot = match basalt_storage::open_pool(&self.host, &pool.name, pool.kind, &config).await {
            Ok(store) => Slot::Open(store, comparable(pool)),
            Err(error) => {
                tracing::warn!(pool = %pool.name, %error, "the storage pool cannot be opened");
                Slot::Failed(basalt_runtime::chain(&error))
            }
        };
        self.slots().insert(pool.name.clone(), slot);
    }

    /// Tells the cluster how the pool stands here, if that is news. Free space is telemetry and does not count.
    async fn report(&self, parts: &Parts, pool: &Pool) {
        let slot = self.slots().get(&pool.name).cloned();
        let status = match slot {
            Some(Slot::Open(store, _)) => match store.space().await {
                Ok(space) => PoolStatus::Ready { total: space.total },
                Err(error) => PoolStatus::Failed { reason: basalt_runtime::chain(&error) },
            },
            Some(Slot::Failed(reason)) => PoolStatus::Failed { reason },
            None => return,
        };
        if pool.status.get(&parts.me).is_some_and(|held| alike(held, &status)) {
            return;
        }
        let command = PoolCommand::Status { name: pool.name.clone(), node: parts.me, status };
        if let Err(error) = parts.cluster.propose(Command::Pool(command)).await {
            tracing::warn!(pool = %pool.name, %error, "the pool's state could not be reported; trying again");
        }
    }

    /// Removes a pool that is no longer defined: only what is empty, and only once the quorum has confirmed it.
    async fn close(&self, parts: &Parts, name: &PoolName) {
        let Ok(fresh) = parts.cluster.linearizable().await else { return };
        if fresh.pools.contains_key(name) {
            return;
        }
        let slot = self.slots().get(name).cloned();
        if let Some(Slot::Open(_, pool)) = slot {
            let config = config_of(&pool, parts.me);
            if let Err(error) = basalt_storage::remove_pool(&self.host, name, pool.kind, &config).await {
                tracing::warn!(pool = %name, %error, "the removed storage pool could not be cleaned up; trying again");
                return;
            }
        }
        self.slots().remove(name);
    }
}

fn config_of(pool: &Pool, me: NodeId) -> BTreeMap<String, String> {
    let mut config = pool.config.clone();
    config.extend(pool.member_config.get(&me).cloned().unwrap_or_default());
    config
}

/// What of a definition means opening the pool anew.
fn comparable(pool: &Pool) -> Pool {
    Pool { status: BTreeMap::new(), description: String::new(), ..pool.clone() }
}

/// Whether two reports say the same; a pool that shares its disk with others changes its total all the time.
fn alike(held: &PoolStatus, now: &PoolStatus) -> bool {
    match (held, now) {
        (PoolStatus::Ready { total: a }, PoolStatus::Ready { total: b }) => a.abs_diff(*b) <= a / 20,
        (PoolStatus::Failed { reason: a }, PoolStatus::Failed { reason: b }) => a == b,
        (PoolStatus::Ready { .. }, PoolStatus::Failed { .. })
        | (PoolStatus::Failed { .. }, PoolStatus::Ready { .. }) => false,
    }
}
