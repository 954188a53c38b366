//! What each member has already promised, summed once over all instances.

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::instance::Intent;
use basalt_model::limit::Memory;
use basalt_model::member::{Duty, Health, Member};
use basalt_model::port::{Liveness, Load};
use basalt_model::{ClusterState, NodeId, PoolName, ProjectName};

use crate::Request;
use crate::layers::Profiles;
use crate::request::{memory, stem};

/// One member, and what it has promised.
pub(crate) struct Seat<'a> {
    pub(crate) member: &'a Member,
    /// What was last heard of it.
    pub(crate) load: Option<Load>,
    /// Index of its failure domain.
    pub(crate) domain: usize,
    pub(crate) instances: u64,
    /// `limits.memory` of those that have one, in bytes.
    pub(crate) memory: u64,
    /// How many have none.
    pub(crate) unlimited: u64,
    /// Sizes of root disks, by pool.
    pub(crate) disk: BTreeMap<PoolName, u64>,
    /// Of `memory` and `disk`, what was promised by this batch: live figures do not show it yet.
    pub(crate) fresh_memory: u64,
    pub(crate) fresh_disk: BTreeMap<PoolName, u64>,
}

impl Seat<'_> {
    /// The request's memory in bytes if it lived here.
    pub(crate) fn memory_of(&self, wanted: Option<Memory>) -> u64 {
        wanted.map_or(0, |m| m.on_host(self.member.announced.memory))
    }

    fn promise(&mut self, wanted: Option<Memory>) -> u64 {
        let bytes = self.memory_of(wanted);
        self.instances += 1;
        self.unlimited += u64::from(wanted.is_none());
        self.memory = self.memory.saturating_add(bytes);
        bytes
    }
}

/// One failure domain.
#[derive(Default)]
pub(crate) struct Domain {
    /// Members that may take instances at all.
    pub(crate) open: u64,
    /// Instances there of the families asked about.
    families: BTreeMap<ProjectName, BTreeMap<String, u64>>,
}

impl Domain {
    pub(crate) fn siblings(&self, request: &Request) -> u64 {
        self.families.get(&request.project).and_then(|stems| stems.get(request.stem())).copied().unwrap_or(0)
    }

    fn add(&mut self, project: &ProjectName, stem: &str) {
        let stems = self.families.entry(project.clone()).or_default();
        *stems.entry(stem.to_owned()).or_default() += 1;
    }
}

/// All members with their sums, in order of id.
pub(crate) struct Board<'a> {
    pub(crate) view: &'a ClusterState,
    pub(crate) seats: Vec<Seat<'a>>,
    pub(crate) domains: Vec<Domain>,
    index: BTreeMap<NodeId, usize>,
}

impl<'a> Board<'a> {
    /// Sums up `view` for `requests`.
    pub(crate) fn new(view: &'a ClusterState, liveness: &dyn Liveness, requests: &[Request]) -> Self {
        let mut board = Board { view, seats: Vec::new(), domains: Vec::new(), index: BTreeMap::new() };
        board.seat_members(liveness);
        board.sum_instances(requests);
        board
    }

    fn seat_members(&mut self, liveness: &dyn Liveness) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.view.members.values() {
            let next = names.len();
            let domain = *names.entry(member.failure_domain.as_str()).or_insert(next);
            if domain == self.domains.len() {
                self.domains.push(Domain::default());
            }
            let open = member.duty == Duty::Active && member.health == Health::Online;
            self.domains[domain].open += u64::from(open);
            self.index.insert(member.id, self.seats.len());
            self.seats.push(Seat {
                member,
                load: liveness.load(member.id),
                domain,
                instances: 0,
                memory: 0,
                unlimited: 0,
                disk: BTreeMap::new(),
                fresh_memory: 0,
                fresh_disk: BTreeMap::new(),
            });
        }
    }

    fn sum_instances(&mut self, requests: &[Request]) {
        let families: BTreeSet<(&ProjectName, &str)> = requests.iter().map(|r| (&r.project, r.stem())).collect();
        let profiles = Profiles::of(self.view);
        for instance in self.view.instances.values() {
            let layers = profiles.layers(instance);
            // One that moves takes its room at both ends until it has moved.
            let landing = instance.placement.moving().and_then(|m| m.to);
            let home = instance.placement.home().map(|(node, _)| node);
            for node in home.into_iter().chain(landing.filter(|to| home != Some(*to))) {
                let Some(at) = self.index.get(&node) else { continue };
                let seat = &mut self.seats[*at];
                // What is being deleted gives its memory back at once, its disk only when it is gone.
                if let Some((pool, Some(size))) = layers.root() {
                    let held = seat.disk.entry(pool).or_default();
                    *held = held.saturating_add(size);
                }
                if instance.run.intent == Intent::Deleted {
                    continue;
                }
                seat.promise(memory(&layers));
                if families.contains(&(&instance.project, stem(&instance.name))) {
                    self.domains[seat.domain].add(&instance.project, stem(&instance.name));
                }
            }
        }
    }

    /// Books `request` on the member at `seat`, for those that come after it in the batch.
    pub(crate) fn book(&mut self, at: usize, request: &Request) {
        let seat = &mut self.seats[at];
        let bytes = seat.promise(request.memory);
        seat.fresh_memory = seat.fresh_memory.saturating_add(bytes);
        if let (Some(pool), Some(size)) = (&request.pool, request.disk) {
            for sums in [&mut seat.disk, &mut seat.fresh_disk] {
                let held = sums.entry(pool.clone()).or_default();
                *held = held.saturating_add(size);
            }
        }
        self.domains[seat.domain].add(&request.project, request.stem());
    }
}
