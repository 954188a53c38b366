//! Which of the members that can take a request is the best.

use basalt_model::NodeId;

use crate::Request;
use crate::capacity::{Board, Seat};

/// What an instance without `limits.memory` counts as when members are compared; never when they are filtered.
const UNLIMITED: u64 = 256 << 20;

/// A rank: the smallest is the best. Fields are compared in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Not the member that the request prefers.
    pub far: bool,
    /// Instances of the same family (`web-1`, `web-2`) in the failure domain, per thousand of its open members; 0
    /// where there is one domain only.
    pub siblings: u64,
    /// How busy the CPUs are, in coarse steps: a heartbeat is too old and too noisy to tell small differences, and a
    /// fine one would send a whole burst of requests to one member.
    pub busy: u8,
    /// Promised memory with this request, per million of what the member has.
    pub memory: u64,
    pub instances: u64,
    /// So that there is never a tie.
    pub node: NodeId,
}

impl Score {
    pub(crate) fn of(board: &Board<'_>, seat: &Seat<'_>, request: &Request) -> Score {
        let domain = &board.domains[seat.domain];
        let siblings = match board.domains.len() > 1 {
            true => domain.siblings(request) * 1000 / domain.open.max(1),
            false => 0,
        };
        let unlimited = seat.unlimited + u64::from(request.memory.is_none());
        let promised = u128::from(seat.memory)
            + u128::from(seat.memory_of(request.memory))
            + u128::from(unlimited) * u128::from(UNLIMITED);
        let per_million = promised * 1_000_000 / u128::from(seat.member.announced.memory.max(1));
        Score {
            far: request.near.is_some_and(|near| near != seat.member.id),
            siblings,
            busy: busy(seat),
            memory: u64::try_from(per_million).unwrap_or(u64::MAX),
            instances: seat.instances,
            node: seat.member.id,
        }
    }
}

fn busy(seat: &Seat<'_>) -> u8 {
    let Some(load) = &seat.load else { return 0 };
    let each = load.load1 / f64::from(seat.member.announced.cpus.max(1));
    match each {
        each if each < 0.75 => 0,
        each if each < 1.5 => 1,
        _ => 2,
    }
}
