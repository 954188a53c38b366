//! Emptying a member for maintenance, and its return.
//!
//! The order lies in the replicated state, and the leader carries it out (see `basalt_model::evacuation`). The operation
//! here only looks on: when its member dies, or the leader does, the order is carried out all the same.

use axum::response::Response;
use basalt_model::command::MemberCommand;
use basalt_model::evacuation::{Leg, Mode, Order, Task};
use basalt_model::instance::Instance;
use basalt_model::member::{Health, Member};
use basalt_model::{Command, StateView, Timestamp};
use serde_json::Map;

use super::run;
use crate::call::Call;
use crate::clock;
use crate::dto::cluster::MemberStatePost;
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::New;
use crate::reply;

/// Where clients look for how far it is.
pub(super) const PROGRESS: &str = "evacuation_progress";

/// Does what was asked for as an operation.
///
/// # Errors
/// The action or the mode is unknown or not possible, or the member is offline.
pub(super) async fn act(call: Call, member: Member, body: &MemberStatePost) -> Result<Response, Error> {
    let mode = mode(&body.mode)?;
    let (task, description, event) = match body.action.as_str() {
        "evacuate" => (Task::Empty(mode), "Evacuating cluster member", "cluster-member-evacuated"),
        "restore" => (Task::Fill, "Restoring cluster member", "cluster-member-restored"),
        "" => return Err(Error::invalid("action", "is missing: evacuate or restore")),
        other => return Err(Error::invalid("action", format!("{other:?} is neither evacuate nor restore"))),
    };
    if let Health::Offline { .. } = member.health {
        return Err(Error::Refused(format!(
            "member {} is offline: nothing on it can be stopped or started",
            member.name
        )));
    }
    let order = Order { task, at: clock::now() };
    call.propose(Command::Member(MemberCommand::Order { id: member.id, order })).await?;
    let resources = vec![("cluster-members", format!("/1.0/cluster/members/{}", member.name))];
    let new = New { class: Class::Task, description, resources, ..New::default() };
    let api = call.api.clone();
    let operation = api.operations.start(new, move |handle| async move {
        run::carried_out(&call.api, member.id, order.at, &handle).await?;
        call.happened(event, format!("/1.0/cluster/members/{}", member.name), None);
        Ok(Map::new())
    });
    reply::operation(&operation)
}

fn mode(text: &str) -> Result<Mode, Error> {
    Ok(match text {
        "" | "auto" => Mode::Own,
        "migrate" => Mode::Migrate,
        "stop" => Mode::Stop,
        "force-stop" => Mode::Force,
        "live-migrate" | "stateful-stop" => {
            return Err(Error::invalid(
                "mode",
                format!("{text} needs a guest's memory to be kept, which is not possible"),
            ));
        }
        other => {
            let why = format!("{other:?} is not one of auto, migrate, stop, force-stop");
            return Err(Error::invalid("mode", why));
        }
    })
}

/// How far the order of that moment is, for people.
pub(super) fn progress(view: &StateView, order: Timestamp) -> Option<String> {
    let under_way = |i: &Instance| i.errands.trip.as_ref().filter(|t| t.order == order && t.leg != Leg::Rest).cloned();
    let (instance, trip) = view.instances.values().find_map(|i| Some((i, under_way(i)?)))?;
    let name = format!("{:?} in project {:?}", instance.name.as_str(), instance.project.as_str());
    Some(match (instance.placement.moving(), trip.leg) {
        (Some(on_its_way), _) => match on_its_way.to.and_then(|node| view.members.get(&node)) {
            Some(member) => format!("Migrating {name} to {}", member.name),
            None => format!("Migrating {name}"),
        },
        (None, Leg::Arrived) => format!("Starting {name}"),
        (None, Leg::Out { .. } | Leg::Back | Leg::Rest) => format!("Stopping {name}"),
    })
}

/// Instances that are not where the order of that moment wanted them.
pub(super) fn failures(view: &StateView, order: Timestamp) -> Option<String> {
    let failed = |i: &Instance| {
        let trip = i.errands.trip.as_ref().filter(|trip| trip.order == order)?;
        Some(format!("{}: {}", i.name, trip.failed.as_ref()?))
    };
    let mut all: Vec<String> = view.instances.values().filter_map(failed).collect();
    all.sort();
    (!all.is_empty()).then(|| all.join("; "))
}
