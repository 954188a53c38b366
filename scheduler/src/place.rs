//! The choice itself: for one request, or for all instances that wait for a home.

use basalt_model::instance::{Instance, Origin, Placement, Target};
use basalt_model::port::Liveness;
use basalt_model::{ClusterState, InstanceId, InstanceName, MemberName, NodeId};

use crate::capacity::Board;
use crate::explain::explain;
use crate::filter::{self, Reason};
use crate::layers::Profiles;
use crate::request::Request;
use crate::score::Score;

/// No member can take it: every one with its reason, in order of id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", explain(.name, .reasons))]
pub struct Unplaceable {
    pub name: InstanceName,
    pub reasons: Vec<(MemberName, Reason)>,
}

/// What is to be proposed for an instance without a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Place {
        id: InstanceId,
        node: NodeId,
    },
    /// `passing`: a reason may well be over in a few seconds, so whoever proposes may wait a little.
    Refuse {
        id: InstanceId,
        reason: String,
        passing: bool,
    },
}

/// The best member for `request`.
///
/// # Errors
/// Every member with why it cannot take it.
pub fn place(view: &ClusterState, liveness: &dyn Liveness, request: &Request) -> Result<NodeId, Unplaceable> {
    let board = Board::new(view, liveness, std::slice::from_ref(request));
    choose(&board, request).map(|at| board.seats[at].member.id)
}

/// Decisions for the instances that wait for a home, oldest first and at most `max` of them; each takes into account
/// those before it. One that was refused before is left alone: whoever asked for it has been told so.
pub fn next_placements(view: &ClusterState, liveness: &dyn Liveness, max: usize) -> Vec<Decision> {
    let mut waiting: Vec<&Instance> = view
        .instances
        .values()
        .filter(|i| match &i.placement {
            Placement::Unplaced { refused } => refused.is_none(),
            Placement::On { .. } | Placement::Moving(_) => false,
        })
        .collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    waiting.sort_by_key(|i| (i.created_at, i.id));
    waiting.truncate(max);
    let profiles = Profiles::of(view);
    let request = |i: &&Instance| Request { near: near(view, i), ..Request::from_layers(view, i, &profiles.layers(i)) };
    let requests: Vec<Request> = waiting.iter().map(request).collect();
    let mut board = Board::new(view, liveness, &requests);
    let decide = |(instance, request): (&&Instance, &Request)| match choose(&board, request) {
        Ok(at) => {
            board.book(at, request);
            Decision::Place { id: instance.id, node: board.seats[at].member.id }
        }
        Err(unplaceable) => Decision::Refuse {
            id: instance.id,
            passing: unplaceable.reasons.iter().any(|(_, reason)| reason.passing()),
            reason: unplaceable.to_string(),
        },
    };
    waiting.iter().zip(&requests).map(decide).collect()
}

/// Where a copy is made best: with its source, where no bytes have to travel.
fn near(view: &ClusterState, instance: &Instance) -> Option<NodeId> {
    match &instance.spec.origin {
        Origin::Copy(copy) => view.instances.get(&copy.source)?.placement.home().map(|(home, _)| home),
        Origin::Empty | Origin::Image(_) => None,
    }
}

/// The next home of an instance that moves and has been given none: another one than it has, unless the user names it.
/// `None` when it does not move.
pub fn next_home(view: &ClusterState, liveness: &dyn Liveness, instance: &Instance) -> Option<Result<NodeId, String>> {
    let on_its_way = instance.placement.moving().filter(|m| m.to.is_none())?;
    let plan = &on_its_way.plan;
    let planned = Instance {
        project: plan.project.clone(),
        name: plan.name.clone(),
        spec: plan.spec.clone(),
        target: plan.target.clone(),
        ..instance.clone()
    };
    let named = matches!(plan.target, Target::Member(_));
    let request = Request { not: Some(on_its_way.from).filter(|_| !named), ..Request::of(view, &planned) };
    Some(place(view, liveness, &request).map_err(|unplaceable| unplaceable.to_string()))
}

/// Index of the best seat.
fn choose(board: &Board<'_>, request: &Request) -> Result<usize, Unplaceable> {
    let fits = |at: &usize| filter::check(board.view, &board.seats[*at], request).is_ok();
    let best = (0..board.seats.len()).filter(fits).min_by_key(|at| Score::of(board, &board.seats[*at], request));
    best.ok_or_else(|| Unplaceable {
        name: request.name.clone(),
        reasons: board
            .seats
            .iter()
            .filter_map(|seat| {
                let reason = filter::check(board.view, seat, request).err()?;
                Some((seat.member.name.clone(), reason))
            })
            .collect(),
    })
}
