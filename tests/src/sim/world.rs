//! Everything there is, and the few questions that all parts ask of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use basalt_model::command::{ClusterCommand, Init, PoolCommand, ProfileCommand};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::pool::{Pool, PoolKind};
use basalt_model::port::{Liveness, Load};
use basalt_model::secrets::Secrets;
use basalt_model::{
    Command, Epoch, Fingerprint, Generation, InstanceId, MemberName, NodeId, PoolName, ProfileName, ProjectName,
    SnapshotId, Timestamp,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Counts;
use super::client::Client;
use super::log::{Answer, Log, Owner, Proposal, Stage};
use super::node::{Life, Node};

/// How many lines of the trace are kept.
const TRACE: usize = 600;

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: SmallRng,
    pub(super) now: u64,
    pub(super) log: Log,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) client: Client,
    /// Every home that was ever committed.
    pub(super) homes: BTreeSet<(InstanceId, NodeId, Epoch)>,
    /// Leftovers of earlier stays that the simulation has put on hosts.
    pub(super) planted: BTreeSet<(InstanceId, NodeId)>,
    /// Instances of which some guest has run: their volume is never made anew.
    pub(super) ran: BTreeSet<InstanceId>,
    /// What each snapshot held when it was said to be there.
    pub(super) shots: BTreeMap<SnapshotId, u64>,
    /// Starts that were meant to replace a guest, by instance and number.
    pub(super) restarts: BTreeSet<(InstanceId, u64)>,
    /// Off while all comes to rest.
    pub(super) faults: bool,
    pub(super) counts: Counts,
    pub(super) trace: Option<VecDeque<String>>,
}

/// Nobody is busy: loads do not enter the simulation.
pub(super) struct Idle;

impl Liveness for Idle {
    fn load(&self, _: NodeId) -> Option<Load> {
        None
    }
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut world = World {
            rng: SmallRng::seed_from_u64(seed),
            now: 0,
            log: Log::new(),
            nodes: BTreeMap::new(),
            client: Client::default(),
            homes: BTreeSet::new(),
            planted: BTreeSet::new(),
            ran: BTreeSet::new(),
            shots: BTreeMap::new(),
            restarts: BTreeSet::new(),
            faults: true,
            counts: Counts::new(),
            trace: trace.then(VecDeque::new),
        };
        world.begin();
        world
    }

    /// One member, a pool, and a default profile with a root disk; the others join.
    fn begin(&mut self) {
        let init = Init {
            cluster_id: uuid::Uuid::from_u128(1),
            secrets: Secrets::default(),
            member: member(NodeId(1)),
            at: Timestamp(1),
        };
        let pool = Pool {
            name: pool(),
            kind: PoolKind::Dir,
            description: String::new(),
            config: BTreeMap::new(),
            member_config: BTreeMap::new(),
            status: BTreeMap::new(),
            generation: Generation(1),
        };
        let root = [("type", "disk"), ("path", "/"), ("pool", "default")];
        let root: BTreeMap<String, String> = root.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let profile = ProfileCommand::Update {
            project: ProjectName::default_project(),
            name: ProfileName::default_profile(),
            expect: None,
            description: String::new(),
            config: BTreeMap::new(),
            devices: [("root".to_owned(), root)].into(),
        };
        self.log.commit(Command::Cluster(ClusterCommand::Init(Box::new(init))));
        self.log.commit(Command::Pool(PoolCommand::Add(pool)));
        self.log.commit(Command::Profile(profile));
        self.nodes.insert(NodeId(1), Node::new(NodeId(1)));
        self.log.leader = Some(NodeId(1));
        for _ in 0..self.rng.random_range(2..=4) {
            super::act::join(self);
        }
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push_back(format!("{now:>5} {}", text()));
            if trace.len() > TRACE {
                trace.pop_front();
            }
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// A fault of this likelihood, while there are faults.
    pub(super) fn mishap(&mut self, percent: u32) -> bool {
        self.faults && self.chance(percent)
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        match from.is_empty() {
            true => None,
            false => Some(from[self.rng.random_range(0..from.len())].clone()),
        }
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes are never forgotten")
    }

    /// Agents that run.
    pub(super) fn up(&self) -> Vec<NodeId> {
        self.nodes.values().filter(|n| n.up()).map(|n| n.id).collect()
    }

    /// Whether `of` and a majority of the members can talk to each other.
    pub(super) fn quorum(&self, of: NodeId) -> bool {
        let Some(side) = self.nodes.get(&of).filter(|n| n.up()).map(|n| n.side) else { return false };
        let members = &self.log.head().members;
        let with = |id: &&NodeId| self.nodes.get(id).is_some_and(|n| n.up() && n.side == side);
        members.contains_key(&of) && members.keys().filter(with).count() * 2 > members.len()
    }

    /// Whether `from` reaches a leader that can commit.
    pub(super) fn connected(&self, from: NodeId) -> bool {
        let Some(leader) = self.log.leader else { return false };
        let side = |id: NodeId| self.nodes.get(&id).filter(|n| n.up()).map(|n| n.side);
        side(from).is_some() && side(from) == side(leader) && self.quorum(leader)
    }

    pub(super) fn clock(&self, node: NodeId) -> Timestamp {
        let skew = self.nodes.get(&node).map_or(0, |n| n.skew);
        Timestamp(1_000_000 + self.now + skew)
    }

    pub(super) fn propose(&mut self, owner: Owner, from: NodeId, command: Command) {
        self.note(|| format!("{owner:?} proposes at {from}: {command:?}"));
        self.log.propose(owner, from, command);
    }

    /// Commits, with everything that the oracle has to say about it.
    pub(super) fn commit(&mut self, command: Command) -> Result<usize, String> {
        let at = self.log.commit(command);
        self.count("committed");
        let (command, verdict) = self.log.entries[at - 1].clone();
        self.note(|| format!("entry {at}: {command:?} -> {verdict:?}"));
        super::oracle::after_commit(self, &command, &verdict)?;
        // Whoever has become a member gets a machine; whoever is none any more, no longer takes part.
        let members: BTreeSet<NodeId> = self.log.head().members.keys().copied().collect();
        for id in &members {
            self.nodes.entry(*id).or_insert_with(|| Node::new(*id));
        }
        let removed: Vec<NodeId> = self.nodes.keys().filter(|id| !members.contains(id)).copied().collect();
        for id in removed {
            if self.node(id).life != Life::Gone {
                self.count("members removed");
                self.kill(id, Life::Gone);
            }
        }
        Ok(at)
    }

    /// The agent ends, here and now. What it has proposed may get through yet.
    pub(super) fn kill(&mut self, id: NodeId, life: Life) {
        let node = self.node(id);
        node.life = life;
        node.tasks.clear();
        node.caught_up = false;
        node.believes = None;
        if self.log.leader == Some(id) {
            self.log.leader = None;
        }
        let here = |(key, p): (&u64, &Proposal)| (p.from == id).then_some((*key, p.owner));
        let orphaned: Vec<(u64, Owner)> = self.log.proposals.iter().filter_map(here).collect();
        for (key, owner) in orphaned {
            match owner {
                Owner::Task(..) | Owner::Background(_) => self.give_up(key),
                // The user's connection breaks.
                Owner::Client(_) => self.answer(key, Answer::Unknown),
            }
        }
    }

    /// Nobody waits for this proposal any more.
    pub(super) fn give_up(&mut self, key: u64) {
        let stays = self.chance(50);
        if let Some(proposal) = self.log.proposals.remove(&key)
            && proposal.stage == Stage::Sent
            && stays
        {
            self.log.late.push(proposal.command);
        }
    }

    /// Tells the proposer.
    pub(super) fn answer(&mut self, key: u64, answer: Answer) {
        let Some(proposal) = self.log.proposals.get(&key).cloned() else { return };
        match answer {
            Answer::Unknown => {
                self.count("unknown outcomes");
                self.give_up(key);
            }
            Answer::Applied | Answer::Rejected(_) | Answer::Failed => {
                self.log.proposals.remove(&key);
            }
        }
        self.note(|| format!("{:?} hears {answer:?}", proposal.owner));
        match proposal.owner {
            Owner::Task(node, id) => super::agent::answered(self.node(node), id, &answer),
            Owner::Background(_) => {}
            Owner::Client(op) => super::client::answered(self, op, &proposal.command, &answer),
        }
    }
}

pub(super) fn pool() -> PoolName {
    PoolName::new("default").expect("a valid name")
}

/// A machine as it joins: 4 CPUs, 4 GiB, in one of two failure domains.
pub(super) fn member(id: NodeId) -> Member {
    Member {
        id,
        name: MemberName::new(format!("node{id}")).expect("a valid name"),
        certificate: Fingerprint::new("c".repeat(64)).expect("a valid fingerprint"),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: format!("d{}", id.0 % 2),
        description: String::new(),
        groups: BTreeSet::new(),
        roles: BTreeSet::new(),
        config: BTreeMap::new(),
        announced: Announcement {
            api_address: format!("10.0.0.{id}:8443"),
            cluster_address: format!("10.0.0.{id}:8444"),
            feature_level: basalt_model::command::FEATURE_LEVEL,
            architecture: "x86_64".into(),
            cpus: 4,
            memory: 4 << 30,
            drivers: [("container".to_owned(), "sim".to_owned())].into(),
            ..Announcement::default()
        },
    }
}
