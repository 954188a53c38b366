//! Heartbeats, in the leader's memory, and what follows from their absence.
//!
//! A silent member is not a dead one: it is marked offline, nothing is placed on it, and that is all. Its guests may
//! well run on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use basalt_model::command::{IdentityCommand, MemberCommand};
use basalt_model::member::{Health, Member};
use basalt_model::port::{Liveness, Load};
use basalt_model::{Cluster, Command, NodeId, StateView};
use basalt_runtime::Shutdown;

use crate::fact::Clock;

/// How often the leader looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Silence after which a member counts as offline, when `cluster.offline_threshold` is not set.
const THRESHOLD: u64 = 20;

/// Last heartbeats, by member.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    beats: BTreeMap<NodeId, (Instant, Load)>,
    /// Since when each member is listened for: since this leadership began, or since it joined.
    expected: BTreeMap<NodeId, Instant>,
    leading_since: Option<Instant>,
}

impl Heartbeats {
    /// A member was heard.
    pub fn record(&self, node: NodeId, load: Load) {
        self.lock().beats.insert(node, (Instant::now(), load));
    }

    /// Whether the member was heard since this leadership began.
    pub fn heard(&self, node: NodeId) -> bool {
        self.lock().beats.contains_key(&node)
    }

    /// How long this member has led; `None` while it does not.
    pub fn leading_for(&self) -> Option<Duration> {
        self.lock().leading_since.map(|since| since.elapsed())
    }

    /// This member leads, or not. What an earlier leadership heard says nothing now.
    fn leads(&self, yes: bool) {
        let mut heard = self.lock();
        if yes && heard.leading_since.is_none() {
            *heard = Heard { leading_since: Some(Instant::now()), ..Heard::default() };
        } else if !yes {
            heard.leading_since = None;
        }
    }

    /// Time since the member was heard, or since it is listened for, which begins with the first call.
    fn silence(&self, node: NodeId) -> Duration {
        let mut heard = self.lock();
        let since = *heard.expected.entry(node).or_insert_with(Instant::now);
        heard.beats.get(&node).map_or(since, |(at, _)| *at).elapsed()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A member that was never heard since this leadership began is unknown at first, and silent after this.
const UNKNOWN: Duration = Duration::from_secs(2);

impl Liveness for Heartbeats {
    fn load(&self, node: NodeId) -> Option<Load> {
        let heard = self.lock();
        match heard.beats.get(&node) {
            Some((at, load)) => Some(Load { age: at.elapsed(), ..load.clone() }),
            None => {
                let silence = heard.expected.get(&node)?.elapsed();
                (silence > UNKNOWN).then(|| Load { age: silence * 2, ..Load::default() })
            }
        }
    }
}

/// Watches members until shutdown.
pub async fn run(cluster: Arc<dyn Cluster>, heartbeats: Arc<Heartbeats>, clock: Clock, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let standing = cluster.standing();
        let leads = standing.leader == Some(standing.me);
        heartbeats.leads(leads);
        if leads {
            look(&*cluster, &heartbeats, &clock).await;
        }
    }
}

async fn look(cluster: &dyn Cluster, heartbeats: &Heartbeats, clock: &Clock) {
    let view = cluster.view();
    let threshold = threshold(&view);
    for member in view.members.values() {
        let silence = heartbeats.silence(member.id);
        let heard = heartbeats.heard(member.id);
        if let Some(health) = verdict(member, silence, heard, threshold, clock) {
            tracing::info!(member = %member.name, ?health, ?silence, "health changed");
            let command = MemberCommand::SetHealth { id: member.id, health };
            if let Err(error) = cluster.propose(Command::Member(command)).await {
                tracing::warn!(%error, "a change of health could not be recorded; trying again");
            }
        }
    }
    let now = clock.now();
    if view.tokens.values().any(|token| token.expired(now)) {
        let command = Command::Identity(IdentityCommand::DropExpired { at: now });
        if let Err(error) = cluster.propose(command).await {
            tracing::debug!(%error, "expired tokens stay for now");
        }
    }
}

fn threshold(view: &StateView) -> Duration {
    let configured = view.config.get("cluster.offline_threshold").and_then(|text| text.parse().ok());
    Duration::from_secs(configured.unwrap_or(THRESHOLD))
}

/// The change of health that silence, or its end, calls for.
fn verdict(member: &Member, silence: Duration, heard: bool, threshold: Duration, clock: &Clock) -> Option<Health> {
    match member.health {
        Health::Online if silence > threshold => Some(Health::Offline { since: clock.now() }),
        Health::Offline { .. } if heard && silence < threshold / 2 => Some(Health::Online),
        Health::Online | Health::Offline { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    #[test]
    fn a_member_that_has_just_joined_is_not_silent() {
        let heartbeats = Heartbeats::default();
        heartbeats.leads(true);
        std::thread::sleep(Duration::from_millis(30));
        assert!(heartbeats.silence(NODE) < Duration::from_millis(20), "listening began just now");
        assert!(heartbeats.load(NODE).is_none(), "unknown, which is neither there nor gone");
    }

    #[test]
    fn a_new_leadership_knows_nothing_of_the_old_one() {
        let heartbeats = Heartbeats::default();
        heartbeats.leads(true);
        heartbeats.record(NODE, Load::default());
        assert!(heartbeats.heard(NODE));
        heartbeats.leads(false);
        heartbeats.leads(true);
        assert!(!heartbeats.heard(NODE));
    }
}
