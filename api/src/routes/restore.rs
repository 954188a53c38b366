//! Going back to a snapshot: content, configuration, devices and profiles, as they were.

use basalt_model::command::InstanceCommand;
use basalt_model::device::{self, Device};
use basalt_model::instance::{Devices, Instance, Intent, Phase, Spec, StopMode};
use basalt_model::snapshot::Snapshot;
use basalt_model::{Command, ProjectName, StateView};
use serde_json::Map;

use super::{run, snapshot};
use crate::call::Call;
use crate::error::Error;
use crate::operation::New;
use crate::reply::{self, Reply};

/// A guest that runs is killed: what it has done since is given up in any case.
const KILL: StopMode = StopMode { force: true, timeout_secs: None };

/// `PUT` with `restore`: the name of a snapshot, with or without that of the instance before it.
pub(super) async fn restore(call: &Call, instance: &Instance, given: &str, stateful: bool) -> Reply {
    if stateful {
        return Err(Error::invalid("stateful", "is not supported: snapshots hold no memory"));
    }
    let short = given.strip_prefix(&format!("{}/", instance.name)).unwrap_or(given);
    let wanted = snapshot::find(call, instance, short)?;
    if let Some(lost) = run::lost_home(&call.view, instance) {
        return Err(lost);
    }
    let command = InstanceCommand::Restore {
        id: instance.id,
        snapshot: wanted.id,
        spec: Box::new(spec(&call.view, instance, &wanted)),
        stop: KILL,
    };
    call.propose(Command::Instance(command)).await?;
    let new = New { ..call.instance_operation("Restoring snapshot", instance) };
    let (id, name, project) = (instance.id, instance.name.clone(), instance.project.clone());
    let asked = call.api.view().instances.get(&id).map(|i| (i.errands.restore.map_or(0, |r| r.request), i.run.intent));
    let (call, api) = (call.clone(), call.api.clone());
    let operation = api.operations.start(new, |handle| async move {
        handle.progress("restore_progress", format!("Going back to {}", wanted.name));
        // One that ran is started again by the request after the restore's own.
        let (request, phase) = match asked {
            Some((restored, Intent::Running)) => (restored + 1, Phase::Running),
            Some((restored, Intent::Stopped | Intent::Frozen | Intent::Deleted)) => (restored, Phase::Stopped),
            None => return Err(Error::Refused("the instance was deleted meanwhile".into())),
        };
        run::settled(&call.api, id, request, phase).await?;
        call.happened("instance-restored", format!("/1.0/instances/{name}"), Some(&project));
        Ok(Map::new())
    });
    reply::operation(&operation)
}

/// What the instance was then, but for what must not change: its kind, its origin, and the pool that it lies in now.
fn spec(view: &StateView, instance: &Instance, wanted: &Snapshot) -> Spec {
    let present = &instance.spec;
    let mut spec = Spec { kind: present.kind, origin: present.origin.clone(), ..wanted.spec.clone() };
    if view.root_pool(&instance.project, &spec) != view.root_pool(&instance.project, present) {
        keep_root(view, &instance.project, present, &mut spec);
    }
    spec
}

/// Gives `spec` the root disk that `present` has: the instance was moved to another pool since.
fn keep_root(view: &StateView, project: &ProjectName, present: &Spec, spec: &mut Spec) {
    let root = |devices: Devices| {
        devices.into_iter().find(|(_, properties)| matches!(device::parse(properties), Ok(Device::Root { .. })))
    };
    if let Some((old, _)) = root(view.expanded_devices(project, spec)) {
        spec.devices.remove(&old);
    }
    if let Some((name, properties)) = root(view.expanded_devices(project, present)) {
        spec.devices.insert(name, properties);
    }
}
