//! What running guests use, in memory: sampled on a fixed period, more often just after a start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use basalt_api::port::{LiveDisk, LiveInterface, LiveState};
use basalt_driver::{DiskUse, Found, State};
use basalt_model::{InstanceId, Mac, Timestamp};

use super::{Agent, guest};

/// How often a guest is sampled, and how often in its first seconds, while it still gets its addresses.
const PERIOD: Duration = Duration::from_secs(10);
const EARLY: Duration = Duration::from_millis(500);
const EARLY_FOR: Duration = Duration::from_secs(15);
/// How often the volumes' use is asked for: that walks a tree with the dir driver.
const DISK_PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Sample {
    pid: u32,
    started_at: Timestamp,
    first_seen: Instant,
    taken: Option<Instant>,
    disk_taken: Option<Instant>,
    live: LiveState,
}

/// Samples of this node's running guests.
#[derive(Debug, Default)]
pub struct Samples(Mutex<BTreeMap<InstanceId, Sample>>);

impl Samples {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Sample>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The agent looked at a guest: it runs, or there is nothing to sample.
    pub(super) fn guest(&self, id: InstanceId, found: Option<&Found>) {
        let running = found.filter(|g| g.state != State::Stopped);
        match running.and_then(|g| g.pid.map(|pid| (pid, g.started_at.unwrap_or_default()))) {
            None => {
                self.lock().remove(&id);
            }
            Some((pid, started_at)) => {
                let mut samples = self.lock();
                if samples.get(&id).is_none_or(|s| s.pid != pid) {
                    let live = LiveState { pid, started_at, ..LiveState::default() };
                    let first_seen = Instant::now();
                    samples.insert(id, Sample { pid, started_at, first_seen, taken: None, disk_taken: None, live });
                }
            }
        }
    }

    /// A guest was started: its old figures mean nothing any more.
    pub(super) fn started(&self, id: InstanceId) {
        self.lock().remove(&id);
    }

    fn pid(&self, id: InstanceId) -> Option<u32> {
        self.lock().get(&id).map(|sample| sample.pid)
    }

    /// There is no such guest.
    pub(super) fn forget(&self, id: InstanceId) {
        self.lock().remove(&id);
    }

    /// All that is known, from memory.
    pub fn all(&self) -> BTreeMap<InstanceId, LiveState> {
        self.lock().iter().map(|(id, sample)| (*id, sample.live.clone())).collect()
    }

    fn due(&self) -> Vec<(InstanceId, bool)> {
        let now = Instant::now();
        let due = |sample: &Sample| {
            let period = if now.duration_since(sample.first_seen) < EARLY_FOR { EARLY } else { PERIOD };
            sample.taken.is_none_or(|taken| now.duration_since(taken) >= period)
        };
        let disk = |sample: &Sample| sample.disk_taken.is_none_or(|taken| now.duration_since(taken) >= DISK_PERIOD);
        self.lock().iter().filter(|(_, s)| due(s)).map(|(id, s)| (*id, disk(s))).collect()
    }

    fn keep(&self, id: InstanceId, measured: LiveState, with_disk: bool) -> Option<LiveState> {
        let mut samples = self.lock();
        let sample = samples.get_mut(&id)?;
        let (disk_used, disk_total) = match with_disk {
            true => (measured.disk_used, measured.disk_total),
            false => (sample.live.disk_used, sample.live.disk_total),
        };
        sample.live = LiveState { pid: sample.pid, started_at: sample.started_at, disk_used, disk_total, ..measured };
        sample.taken = Some(Instant::now());
        if with_disk {
            sample.disk_taken = sample.taken;
        }
        Some(sample.live.clone())
    }
}

/// Samples until shutdown.
pub async fn run(agent: Arc<Agent>) {
    let shutdown = agent.parts.supervisor.shutdown().clone();
    let mut tick = tokio::time::interval(EARLY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        for (id, with_disk) in agent.parts.samples.due() {
            agent.measure(id, with_disk).await;
        }
    }
}

impl Agent {
    /// Measures one running guest now; `None` when it does not run.
    pub async fn measure(&self, id: InstanceId, with_disk: bool) -> Option<LiveState> {
        let parts = &self.parts;
        let view = parts.cluster.view();
        let instance = view.instances.get(&id)?;
        let driver = parts.drivers.get(&instance.spec.kind)?;
        if parts.samples.pid(id).is_none() {
            // Started a moment ago: the agent has not looked since.
            parts.samples.guest(id, driver.inspect(id).await.ok()?.as_ref());
        }
        let pid = parts.samples.pid(id)?;
        let usage = match driver.usage(id).await {
            Ok(usage) => usage,
            Err(error) => {
                tracing::debug!(instance = %id, %error, "no figures");
                self.parts.samples.forget(id);
                return None;
            }
        };
        let (disk_used, disk_total) = match with_disk {
            true => self.disk(&view, instance).await,
            false => (0, 0),
        };
        let live = LiveState {
            pid,
            cpu_ns: usage.cpu_ns,
            cpu_user_ns: usage.cpu_user_ns,
            cpu_system_ns: usage.cpu_system_ns,
            memory: usage.memory,
            memory_peak: usage.memory_peak,
            memory_total: usage.memory_total,
            swap: usage.swap,
            memory_parts: usage.memory_parts,
            processes: usage.processes,
            oom_kills: usage.oom_kills,
            cpus: usage.cpus,
            disk_used,
            disk_total,
            disks: usage.disks.into_iter().map(|(name, used)| (name, disk(used))).collect(),
            interfaces: self.interfaces(id, &view, pid).await,
            ..LiveState::default()
        };
        parts.samples.keep(id, live, with_disk)
    }

    async fn disk(&self, view: &basalt_model::StateView, instance: &basalt_model::instance::Instance) -> (u64, u64) {
        let Some((pool, size)) = guest::root_disk(view, instance) else { return (0, 0) };
        let Ok(store) = self.parts.pools.get(&pool) else { return (0, 0) };
        (store.usage(instance.id).await.unwrap_or(0), size.unwrap_or(0))
    }

    async fn interfaces(&self, id: InstanceId, view: &basalt_model::StateView, pid: u32) -> Vec<LiveInterface> {
        if !self.parts.host_network {
            return Vec::new();
        }
        let links = match basalt_net::netns_addresses(pid).await {
            Ok(links) => links,
            Err(error) => {
                tracing::debug!(pid, %error, "the guest's interfaces cannot be read");
                return Vec::new();
            }
        };
        let host_names: BTreeMap<Mac, String> = host_names(id, view);
        let live = |link: basalt_net::Link| {
            let mac = link.mac.map(|m| Mac(m.0));
            LiveInterface {
                name: link.name.to_string(),
                host_name: mac.and_then(|m| host_names.get(&m).cloned()).unwrap_or_default(),
                mac,
                mtu: link.mtu,
                up: link.up,
                addresses: link.addresses.iter().map(|a| (a.ip, a.prefix)).collect(),
                bytes_received: link.counters.rx_bytes,
                bytes_sent: link.counters.tx_bytes,
                packets_received: link.counters.rx_packets,
                packets_sent: link.counters.tx_packets,
                errors_received: link.counters.rx_errors,
                errors_sent: link.counters.tx_errors,
                dropped_received: link.counters.rx_dropped,
                dropped_sent: link.counters.tx_dropped,
            }
        };
        links.into_iter().map(live).collect()
    }
}

fn disk(used: DiskUse) -> LiveDisk {
    let DiskUse { read_bytes, reads, written_bytes, writes } = used;
    LiveDisk { read_bytes, reads, written_bytes, writes }
}

/// Hardware address to the host's end of the pair.
fn host_names(id: InstanceId, view: &basalt_model::StateView) -> BTreeMap<Mac, String> {
    let Some(instance) = view.instances.get(&id) else { return BTreeMap::new() };
    let config = &instance.spec.config;
    let pair = |device: &String| {
        let mac = config.get(&format!("volatile.{device}.hwaddr"))?.parse().ok()?;
        Some((mac, guest::host_interface(id, device)))
    };
    view.expanded_devices(&instance.project, &instance.spec).keys().filter_map(pair).collect()
}
