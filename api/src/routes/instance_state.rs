//! What guests do: their live state, and starting, stopping, freezing them.

use axum::extract::Request;
use basalt_model::Command;
use basalt_model::command::InstanceCommand;
use basalt_model::instance::{Instance, Intent, Phase, StopMode};
use serde_json::Map;

use super::{render, run};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::instance::{BulkState, StatePut};
use crate::dto::operation::{Class, Operation};
use crate::dto::state::Action;
use crate::error::Error;
use crate::operation::New;
use crate::reply::{self, Reply};

pub(crate) async fn get(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let instance = call.instance(&name)?;
    let status = |runs| render::status(&call.view, &instance, runs);
    let home = instance.placement.home().map(|(node, _)| node);
    let telemetry = &call.api.ports.telemetry;
    if home == Some(call.me()) {
        let live = telemetry.measure(instance.id).await;
        return reply::sync(render::state(status(live.is_some()), live.as_ref()));
    }
    // Its home knows best; when it cannot be asked, what it last told is better than nothing.
    if let Some(node) = home.filter(|node| call.view.online(*node) && !call.who.from_member)
        && let Ok(response) = call.forward(node, request).await
    {
        return Ok(response);
    }
    let live = telemetry.live().await;
    let live = live.get(&instance.id);
    reply::sync(render::state(status(live.is_some()), live))
}

/// What a request for a change of state comes down to.
#[derive(Debug, Clone, Copy)]
struct Wish {
    intent: Intent,
    restart: bool,
    stop: StopMode,
    /// What the guest is to be in the end.
    phase: Phase,
    description: &'static str,
    event: &'static str,
}

fn wish(instance: &Instance, body: &StatePut) -> Result<Wish, Error> {
    let action =
        body.action.ok_or_else(|| Error::invalid("action", "is missing: start, stop, restart, freeze or unfreeze"))?;
    if body.stateful {
        return Err(Error::invalid("stateful", "is not supported"));
    }
    let phase = instance.phase();
    let (runs, frozen) = (matches!(phase, Some(Phase::Running | Phase::Frozen)), phase == Some(Phase::Frozen));
    let refuse = |why: &str| Err(Error::Refused(why.into()));
    let stop = stop_mode(body)?;
    let wish = |intent, phase, description, event| Wish { intent, restart: false, stop, phase, description, event };
    match action {
        Action::Start if runs => refuse("The instance is already running"),
        Action::Start => Ok(wish(Intent::Running, Phase::Running, "Starting instance", "instance-started")),
        // One that is being started may be stopped, too.
        Action::Stop if !runs && instance.settled() => refuse("The instance is already stopped"),
        Action::Stop if stop.force => {
            Ok(wish(Intent::Stopped, Phase::Stopped, "Stopping instance", "instance-stopped"))
        }
        Action::Stop => Ok(wish(Intent::Stopped, Phase::Stopped, "Stopping instance", "instance-shutdown")),
        Action::Restart if !runs => refuse("Instance is not running"),
        Action::Restart => Ok(Wish {
            restart: true,
            ..wish(Intent::Running, Phase::Running, "Restarting instance", "instance-restarted")
        }),
        Action::Freeze if frozen => refuse("The instance is already frozen"),
        Action::Freeze if !runs => refuse("Instance is not running"),
        Action::Freeze => Ok(wish(Intent::Frozen, Phase::Frozen, "Freezing instance", "instance-paused")),
        Action::Unfreeze if !frozen => refuse("The instance is not frozen"),
        Action::Unfreeze => Ok(wish(Intent::Running, Phase::Running, "Unfreezing instance", "instance-resumed")),
    }
}

/// A time of 0, or none, kills, as with the stock servers; a negative one waits for ever.
fn stop_mode(body: &StatePut) -> Result<StopMode, Error> {
    let timeout_secs = match body.timeout {
        ..0 => None,
        seconds => Some(u32::try_from(seconds).map_err(|_| Error::invalid("timeout", "is too long"))?),
    };
    Ok(StopMode { force: body.force || timeout_secs == Some(0), timeout_secs })
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<StatePut>) -> Reply {
    let instance = call.instance(&name)?;
    let wish = wish(&instance, &body)?;
    let request = ask(&call, &instance, wish).await?;
    reply::operation(&following(&call, instance, wish, request))
}

/// Makes the wish part of the replicated state; gives the number of the request.
async fn ask(call: &Call, instance: &Instance, wish: Wish) -> Result<u64, Error> {
    if let Some(lost) = run::lost_home(&call.view, instance) {
        return Err(lost);
    }
    let set = InstanceCommand::SetRun {
        id: instance.id,
        intent: wish.intent,
        restart: wish.restart,
        stop: wish.stop,
        at: clock::now(),
    };
    call.propose(Command::Instance(set)).await?;
    // The proposal is applied here by now; somebody else's later request would only be a higher number.
    Ok(call.api.view().instances.get(&instance.id).map_or(0, |i| i.run.request))
}

fn following(call: &Call, instance: Instance, wish: Wish, request: u64) -> Operation {
    let new = call.instance_operation(wish.description, &instance);
    let (api, call) = (call.api.clone(), call.clone());
    api.operations.start(new, |_| async move {
        run::settled(&call.api, instance.id, request, wish.phase).await?;
        call.happened(wish.event, format!("/1.0/instances/{}", instance.name), Some(&instance.project));
        Ok(Map::new())
    })
}

/// The same for all instances of a project; those that are in the wanted state already are left alone.
pub(crate) async fn bulk(call: Call, Json(body): Json<BulkState>) -> Reply {
    let project = call.project()?;
    let all = call.view.instances.values().filter(|i| i.project == project);
    let mine = all.filter(|i| call.kind().is_none_or(|k| k == i.spec.kind));
    if body.state.action.is_none() {
        return Err(Error::invalid("state.action", "is missing: start, stop, restart, freeze or unfreeze"));
    }
    stop_mode(&body.state)?;
    let chosen: Vec<(Instance, Wish)> =
        mine.filter_map(|i| wish(i, &body.state).ok().map(|w| (i.clone(), w))).collect();
    let resources = chosen.iter().flat_map(|(i, _)| super::instance::instance_resources(&i.name)).collect();
    let new = New {
        class: Class::Task,
        description: "Updating instances",
        project: Some(project),
        resources,
        ..New::default()
    };
    let api = call.api.clone();
    let operation = api.operations.start(new, |_| async move {
        let each = chosen.into_iter().map(|(instance, wish)| change(&call, instance, wish));
        let failed: Vec<String> = futures_util::future::join_all(each).await.into_iter().flatten().collect();
        match failed.is_empty() {
            true => Ok(Map::new()),
            false => Err(Error::Refused(failed.join("; "))),
        }
    });
    reply::operation(&operation)
}

/// One instance of many; says what went wrong.
async fn change(call: &Call, instance: Instance, wish: Wish) -> Option<String> {
    let done = async {
        let request = ask(call, &instance, wish).await?;
        run::settled(&call.api, instance.id, request, wish.phase).await
    };
    match done.await {
        Ok(()) => {
            call.happened(wish.event, format!("/1.0/instances/{}", instance.name), Some(&instance.project));
            None
        }
        Err(error) => Some(format!("{}: {error}", instance.name)),
    }
}
