//! Which members can take a request at all, and why the others cannot.

use basalt_model::instance::{Kind, Target};
use basalt_model::limit::Cpu;
use basalt_model::member::{Duty, Health, Member};
use basalt_model::pool::PoolStatus;
use basalt_model::{ClusterState, GroupName, NetworkName, PoolName};

use crate::Request;
use crate::capacity::Seat;
use crate::explain::bytes;

/// Why a member cannot take a request: the first that was found, from the plainest to the finest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    #[error("not the target")]
    NotTarget,
    #[error("it is there already")]
    There,
    #[error("not in cluster group {0}")]
    NotInGroup(GroupName),
    #[error("in none of the cluster groups that the project may use (restricted.cluster.groups)")]
    ClosedToProject,
    #[error("offline")]
    Offline,
    /// Not yet offline for the health controller, but what is placed there would wait for it to come back.
    #[error("silent for {secs} s")]
    Silent { secs: u64 },
    #[error("evacuated")]
    Evacuated,
    #[error("scheduler.instance=manual: takes only instances that name it as target")]
    Manual,
    #[error("scheduler.instance=group: takes only instances that name it or one of its groups as target")]
    GroupOnly,
    #[error("architecture is {has}, not {wants}")]
    Architecture { has: String, wants: String },
    #[error("cannot run instances of type {}", .kind.as_str())]
    Kind { kind: Kind },
    #[error("storage pool {0} does not exist")]
    NoPool(PoolName),
    #[error("storage pool {0} is not ready: the member has not made it yet")]
    PoolPending(PoolName),
    #[error("storage pool {pool} is not ready: {why}")]
    PoolNotReady { pool: PoolName, why: String },
    #[error(
        "not enough room in storage pool {pool}: {} free of {}, {} needed", bytes(*.free), bytes(*.total), bytes(*.needed)
    )]
    Disk { pool: PoolName, free: u64, total: u64, needed: u64 },
    #[error("network {0} does not exist")]
    NoNetwork(NetworkName),
    #[error("has {has} CPUs, {needed} needed")]
    Cpus { has: u32, needed: u32 },
    #[error("has no CPU {cpu}: it has {has}")]
    NoSuchCpu { cpu: u32, has: u32 },
    #[error("not enough memory: {} free of {}, {} needed", bytes(*.free), bytes(*.total), bytes(*.needed))]
    Memory { free: u64, total: u64, needed: u64 },
}

impl Reason {
    /// Whether it may well be over in a few seconds: a member that has just joined, or has just fallen silent.
    pub fn passing(&self) -> bool {
        match self {
            Reason::Silent { .. } | Reason::PoolPending(_) => true,
            Reason::NotTarget
            | Reason::There
            | Reason::NotInGroup(_)
            | Reason::ClosedToProject
            | Reason::Offline
            | Reason::Evacuated
            | Reason::Manual
            | Reason::GroupOnly
            | Reason::Architecture { .. }
            | Reason::Kind { .. }
            | Reason::NoPool(_)
            | Reason::PoolNotReady { .. }
            | Reason::Disk { .. }
            | Reason::NoNetwork(_)
            | Reason::Cpus { .. }
            | Reason::NoSuchCpu { .. }
            | Reason::Memory { .. } => false,
        }
    }
}

/// Heartbeats come once a second: after this much silence a member is not chosen.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(4);

/// Whether the member can take `request`.
pub(crate) fn check(view: &ClusterState, seat: &Seat<'_>, request: &Request) -> Result<(), Reason> {
    target(seat.member, request)?;
    if let Some(groups) = &request.groups
        && groups.is_disjoint(&seat.member.groups)
    {
        return Err(Reason::ClosedToProject);
    }
    if let Some(load) = seat.load.as_ref().filter(|load| load.age > SILENCE) {
        return Err(Reason::Silent { secs: load.age.as_secs() });
    }
    machine(seat.member, request)?;
    pool(view, seat, request)?;
    if let Some(missing) = request.networks.iter().find(|n| !view.networks.contains_key(*n)) {
        return Err(Reason::NoNetwork(missing.name.clone()));
    }
    cpu(seat.member, request)?;
    memory(seat, request)
}

fn target(member: &Member, request: &Request) -> Result<(), Reason> {
    if request.not == Some(member.id) {
        return Err(Reason::There);
    }
    match &request.target {
        Target::Any => {}
        Target::Member(name) if *name == member.name => {}
        Target::Member(_) => return Err(Reason::NotTarget),
        Target::Group(group) if member.groups.contains(group) => {}
        Target::Group(group) => return Err(Reason::NotInGroup(group.clone())),
    }
    match member.health {
        Health::Online => {}
        Health::Offline { .. } => return Err(Reason::Offline),
    }
    match member.duty {
        Duty::Active => {}
        Duty::Evacuated => return Err(Reason::Evacuated),
    }
    // An unknown word is taken for the strictest: the operator meant to keep something away.
    match (member.config.get("scheduler.instance").map(String::as_str), &request.target) {
        (None | Some("" | "all"), _) | (Some(_), Target::Member(_)) | (Some("group"), Target::Group(_)) => Ok(()),
        (Some("group"), Target::Any) => Err(Reason::GroupOnly),
        (Some(_), Target::Any | Target::Group(_)) => Err(Reason::Manual),
    }
}

fn machine(member: &Member, request: &Request) -> Result<(), Reason> {
    let has = &member.announced.architecture;
    if !request.architecture.is_empty() && *has != request.architecture {
        return Err(Reason::Architecture { has: has.clone(), wants: request.architecture.clone() });
    }
    match member.announced.drivers.contains_key(request.kind.as_str()) {
        true => Ok(()),
        false => Err(Reason::Kind { kind: request.kind }),
    }
}

fn pool(view: &ClusterState, seat: &Seat<'_>, request: &Request) -> Result<(), Reason> {
    let Some(name) = &request.pool else { return Ok(()) };
    let Some(pool) = view.pools.get(name) else { return Err(Reason::NoPool(name.clone())) };
    let total = match pool.status.get(&seat.member.id) {
        Some(PoolStatus::Ready { total }) => *total,
        Some(PoolStatus::Failed { reason }) => {
            return Err(Reason::PoolNotReady { pool: name.clone(), why: reason.clone() });
        }
        None => return Err(Reason::PoolPending(name.clone())),
    };
    let needed = request.disk.unwrap_or(0);
    let promised = total.saturating_sub(seat.disk.get(name).copied().unwrap_or(0));
    let live = seat.load.as_ref().and_then(|load| load.pool_free.get(name.as_str()));
    let live = live.map(|free| free.saturating_sub(seat.fresh_disk.get(name).copied().unwrap_or(0)));
    let free = live.map_or(promised, |live| live.min(promised));
    match needed > free || live == Some(0) {
        true => Err(Reason::Disk { pool: name.clone(), free, total, needed }),
        false => Ok(()),
    }
}

fn cpu(member: &Member, request: &Request) -> Result<(), Reason> {
    let has = member.announced.cpus;
    match &request.cpu {
        None => Ok(()),
        Some(Cpu::Count(needed)) if *needed > has => Err(Reason::Cpus { has, needed: *needed }),
        Some(Cpu::Count(_)) => Ok(()),
        Some(Cpu::Set(set)) => match set.iter().find(|cpu| **cpu >= has) {
            Some(cpu) => Err(Reason::NoSuchCpu { cpu: *cpu, has }),
            None => Ok(()),
        },
    }
}

fn memory(seat: &Seat<'_>, request: &Request) -> Result<(), Reason> {
    let needed = seat.memory_of(request.memory);
    let total = seat.member.announced.memory;
    let promised = total.saturating_sub(seat.memory);
    let live = seat.load.as_ref().map(|load| load.memory_available.saturating_sub(seat.fresh_memory));
    let free = live.map_or(promised, |live| live.min(promised));
    match needed > free {
        true => Err(Reason::Memory { free, total, needed }),
        false => Ok(()),
    }
}
