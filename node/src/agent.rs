//! The agent: drives this host toward its share of the replicated state, and reports only changes.
//!
//! ```text
//!  Cluster --view--> loop --wakes--> one task per instance (serial)  --plan--> steps --> drivers, pools, networks
//!     ^                ^                      |
//!     |                +-- driver events, timer
//!     +------------------- reports -----------+
//! ```
//!
//! **Invariants.** A wake-up carries no data: the task looks at the view and at the host each time. One task per
//! instance, so its steps never overlap; a semaphore bounds how many instances are worked on at once. What the local
//! view does not know is destroyed only after a linearizable read agrees. Nothing here touches a guest on shut-down.
//!
//! **Failure.** A step that fails ends the pass and is reported, which settles the user's request; what cannot be
//! reported (no quorum) is tried again with backoff. Killed at any instruction, the next start finds things as they are.

mod boot;
pub mod carry;
pub mod copies;
mod copy;
pub mod desired;
mod execute;
mod guest;
mod idmap;
mod images;
mod landing;
mod networks;
mod observe;
mod overlay;
pub mod plan;
mod pools;
mod ports;
mod rules;
pub mod sample;
mod snapshots;
mod task;
mod templates;
pub mod zones;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use basalt_driver::InstanceDriver;
use basalt_model::instance::Kind;
use basalt_model::{Cluster, Epoch, InstanceId, NodeId, StateView};
use basalt_runtime::{Backoff, OnExit, Supervisor};
use tokio::sync::{Notify, Semaphore, mpsc};

pub use images::{Fetch, ImageShelf};
pub use networks::Networks;
pub use overlay::Overlay;
pub use pools::Pools;
pub use sample::Samples;

use crate::fact::Clock;
use crate::metrics::AgentMetrics;

/// How often everything is looked at even if nothing was heard.
const FULL_PASS: Duration = Duration::from_secs(30);

/// What the agent works with.
#[derive(Debug)]
pub struct Parts {
    pub me: NodeId,
    pub cluster: Arc<dyn Cluster>,
    pub drivers: BTreeMap<Kind, Arc<dyn InstanceDriver>>,
    pub pools: Arc<Pools>,
    pub networks: Arc<Networks>,
    /// Where this host has a switch for logical networks.
    pub overlay: Option<Arc<Overlay>>,
    pub images: Arc<ImageShelf>,
    pub shipper: Arc<carry::Shipper>,
    pub carry: Arc<dyn carry::Carry>,
    pub samples: Arc<Samples>,
    pub supervisor: Supervisor,
    pub clock: Clock,
    pub metrics: AgentMetrics,
    /// The host's CPUs, for `limits.cpu` counts.
    pub cpus: u32,
    /// The host's memory, for `limits.memory` shares.
    pub memory: u64,
    /// Whether instance tasks may touch the network (false with the fake driver).
    pub host_network: bool,
}

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    parts: Parts,
    tasks: Mutex<BTreeMap<InstanceId, Arc<Notify>>>,
    idmaps: idmap::IdMaps,
    held: boot::Held,
    restarts: Mutex<BTreeMap<InstanceId, Vec<Instant>>>,
    working: Semaphore,
}

impl Agent {
    /// An agent that does nothing until [`Agent::run`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let at_once = (parts.cpus as usize * 4).clamp(4, 32);
        Arc::new(Agent {
            parts,
            tasks: Mutex::default(),
            idmaps: idmap::IdMaps::default(),
            held: boot::Held::default(),
            restarts: Mutex::default(),
            working: Semaphore::new(at_once),
        })
    }

    /// Runs until shutdown.
    pub async fn run(self: Arc<Self>) {
        let (wakes, mut woken) = mpsc::channel(1024);
        for driver in self.parts.drivers.values() {
            self.pump(driver, wakes.clone());
        }
        let shutdown = self.parts.supervisor.shutdown().clone();
        if let Some(overlay) = self.parts.overlay.clone().filter(|_| self.parts.host_network) {
            let (wakes, shutdown) = (wakes.clone(), shutdown.clone());
            let watching = async move { overlay.watch(wakes, shutdown).await };
            self.parts.supervisor.spawn("ports of the switch", OnExit::Log, watching);
        }
        let Some(mut view) = self.catch_up().await else { return };
        self.host_pass(&view).await;
        let turns = boot::hold(&self, &view).await;
        self.parts.supervisor.spawn("start after boot", OnExit::Log, boot::take(Arc::clone(&self), turns));
        self.full_pass(&view).await;
        let mut wishes = Wishes::of(&view, self.parts.me);
        let mut timer = tokio::time::interval(FULL_PASS);
        timer.tick().await;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.parts.cluster.changed_since(view.version) => {
                    if host_objects_changed(&view, &changed) {
                        self.host_pass(&changed).await;
                    }
                    self.parts.images.known(&changed);
                    let removed = view.images.keys().any(|image| !changed.images.contains_key(image));
                    view = changed;
                    if removed {
                        self.parts.images.sweep(&self.parts, &view).await;
                    }
                    let now = Wishes::of(&view, self.parts.me);
                    for id in wishes.differing(&now) {
                        self.wake(id);
                    }
                    wishes = now;
                }
                Some(id) = woken.recv() => self.wake(id),
                _ = timer.tick() => {
                    self.host_pass(&view).await;
                    self.full_pass(&view).await;
                }
            }
        }
    }

    /// A state that is no older than what this agent did in its last life: acting on an older one would start what was
    /// stopped since, or make what was deleted. `None` at shutdown.
    async fn catch_up(&self) -> Option<StateView> {
        let shutdown = self.parts.supervisor.shutdown();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match self.parts.cluster.linearizable().await {
                Ok(view) => return Some(view),
                Err(error) => tracing::warn!(%error, "waiting for a quorum before touching any guest"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// Forwards a driver's events as wake-ups.
    fn pump(&self, driver: &Arc<dyn InstanceDriver>, wakes: mpsc::Sender<InstanceId>) {
        let Some(mut events) = driver.events() else { return };
        let shutdown = self.parts.supervisor.shutdown().clone();
        self.parts.supervisor.spawn("driver events", OnExit::Log, async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.recv() => match event {
                        Some(event) => { let _ = wakes.send(event.id).await; }
                        None => return,
                    },
                }
            }
        });
    }

    /// Makes sure that `id` has a task, and tells it to look.
    pub(crate) fn wake(self: &Arc<Self>, id: InstanceId) {
        let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(task) = tasks.get(&id) {
            task.notify_one();
            return;
        }
        let notify = Arc::new(Notify::new());
        notify.notify_one();
        tasks.insert(id, Arc::clone(&notify));
        let agent = Arc::clone(self);
        self.parts.supervisor.spawn("instance", OnExit::Log, async move { task::run(agent, id, notify).await });
    }

    /// Ends the task's entry, unless somebody woke it meanwhile.
    fn retire(&self, id: InstanceId, notify: &Arc<Notify>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tasks.get(&id).is_some_and(|held| Arc::ptr_eq(held, notify)) {
            tasks.remove(&id);
        }
    }

    /// Pools and networks.
    async fn host_pass(&self, view: &StateView) {
        self.parts.pools.pass(&self.parts, view).await;
        if self.parts.host_network {
            self.parts.networks.pass(&self.parts, view).await;
            if let Some(overlay) = &self.parts.overlay {
                overlay.pass(&self.parts, view).await;
            }
        }
    }

    /// Wakes everything that is here or ought to be.
    async fn full_pass(self: &Arc<Self>, view: &StateView) {
        let started = Instant::now();
        let mut ids: std::collections::BTreeSet<InstanceId> =
            view.concerning(self.parts.me).map(|instance| instance.id).collect();
        ids.extend(observe::everything_here(&self.parts).await);
        for id in ids {
            self.wake(id);
        }
        self.parts.images.sweep(&self.parts, view).await;
        self.parts.metrics.passes.inc();
        self.parts.metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Whether `boot.autorestart` may start the guest once more: at most 10 times in a minute.
    fn restart_budget(&self, id: InstanceId) -> bool {
        let restarts = self.restarts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let recent = |at: &&Instant| at.elapsed() < Duration::from_secs(60);
        restarts.get(&id).is_none_or(|times| times.iter().filter(recent).count() < 10)
    }

    fn note_restart(&self, id: InstanceId) {
        let mut restarts = self.restarts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let times = restarts.entry(id).or_default();
        times.retain(|at| at.elapsed() < Duration::from_secs(60));
        times.push(Instant::now());
    }
}

/// Networks, what belongs to them, or pools differ: then the host's side of them is looked at.
fn host_objects_changed(old: &StateView, new: &StateView) -> bool {
    let generations = |view: &StateView| {
        let pools: Vec<_> = view.pools.values().map(|p| (p.name.clone(), p.generation)).collect();
        let networks: Vec<_> = view.networks.iter().map(|(id, n)| (id.clone(), n.generation)).collect();
        let acls: Vec<_> = view.acls.values().map(|acl| (acl.number, acl.generation)).collect();
        let sets: Vec<_> = view.address_sets.values().map(|set| (set.number, set.generation)).collect();
        let forwards = view.networks.values().flat_map(|n| &n.forwards);
        let forwards: Vec<_> = forwards.map(|(listen, forward)| (*listen, forward.generation)).collect();
        (pools, networks, acls, sets, forwards)
    };
    generations(old) != generations(new)
}

/// A digest of what is wanted of each instance here: an instance whose digest changed is looked at again.
#[derive(Debug, PartialEq, Eq)]
struct Wishes(BTreeMap<InstanceId, Wish>);

/// Epoch of the home, epoch of a move's end, configuration, request, deletion, snapshots.
type Wish = (Epoch, Option<Epoch>, basalt_model::Generation, u64, bool, Vec<plan::SnapshotWish>);

impl Wishes {
    fn of(view: &StateView, me: NodeId) -> Self {
        let wish = |i: &basalt_model::instance::Instance| {
            let epoch = i.placement.home().map_or(Epoch(0), |(_, epoch)| epoch);
            let landing = i.placement.moving().map(|m| m.landing);
            let deleted = i.run.intent == basalt_model::instance::Intent::Deleted;
            let (configuration, snapshots) = (desired::configuration(view, i), desired::snapshots(view, i.id));
            (epoch, landing, configuration, i.run.request, deleted, snapshots)
        };
        Wishes(view.concerning(me).map(|i| (i.id, wish(i))).collect())
    }

    /// Instances that are new, changed or gone.
    fn differing(&self, now: &Wishes) -> Vec<InstanceId> {
        let changed = now.0.iter().filter(|(id, wish)| self.0.get(*id) != Some(*wish)).map(|(id, _)| *id);
        let gone = self.0.keys().filter(|id| !now.0.contains_key(*id)).copied();
        changed.chain(gone).collect()
    }
}
