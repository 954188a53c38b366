//! `POST /1.0/instances` with `source.type=copy`: a copy of an instance, or of one of its snapshots, of this cluster.

use basalt_model::instance::{CopyOf, Instance, Origin, Spec};
use basalt_model::{InstanceName, ProjectName, SnapshotId};

use super::{snapshot, spec};
use crate::call::Call;
use crate::dto::Map;
use crate::dto::instance::Post;
use crate::error::Error;

/// What is to be copied: the instance, and the snapshot if one is named.
pub(super) fn source(
    call: &Call,
    project: &ProjectName,
    body: &Post,
) -> Result<(Instance, Option<SnapshotId>, Spec), Error> {
    let wanted = &body.source;
    let project = match wanted.project.as_str() {
        "" => project.clone(),
        text => {
            let found = ProjectName::new(text).ok().filter(|p| call.view.projects.contains_key(p) && call.who.sees(p));
            found.ok_or_else(|| Error::NotFound(format!("Project {text:?}")))?
        }
    };
    let (name, point) = match wanted.source.split_once('/') {
        Some((name, point)) => (name, Some(point)),
        None => (wanted.source.as_str(), None),
    };
    if name.is_empty() {
        return Err(Error::invalid("source.source", "names no instance"));
    }
    let missing = || Error::NotFound(format!("Instance {name:?}"));
    let valid = InstanceName::new(name).map_err(|_| missing())?;
    let instance = call.view.instance(&project, &valid).cloned().ok_or_else(missing)?;
    match point {
        None => {
            let spec = instance.spec.clone();
            Ok((instance, None, spec))
        }
        Some(point) => {
            let found = snapshot::find(call, &instance, point)?;
            Ok((instance, Some(found.id), found.spec))
        }
    }
}

/// The copy's spec: the source's, with what the request says over it. What was drawn for the source is drawn anew.
pub(super) fn spec(call: &Call, project: &ProjectName, body: &Post) -> Result<Spec, Error> {
    let (instance, point, from) = source(call, project, body)?;
    if !body.kind.is_empty() && spec::kind(&body.kind)? != from.kind {
        return Err(Error::invalid("type", format!("the source is a {}", from.kind.as_str())));
    }
    let mut config = from.config.clone();
    config.extend(body.config.clone());
    let mut config = spec::config(config)?;
    config.retain(|key, _| stays(key, &body.config));
    config.insert("volatile.uuid".into(), uuid::Uuid::new_v4().to_string());
    let mut devices = from.devices.clone();
    devices.extend(body.devices.clone());
    let named: Vec<String> = match &body.profiles {
        Some(names) => names.clone(),
        None => from.profiles.iter().map(ToString::to_string).collect(),
    };
    let alone = point.is_some() || body.source.instance_only || body.source.container_only;
    let snapshots = if alone { Vec::new() } else { snapshots(call, &instance) };
    let mut spec = Spec {
        kind: from.kind,
        architecture: from.architecture.clone(),
        origin: Origin::Copy(Box::new(CopyOf { source: instance.id, point, snapshots })),
        description: if body.description.is_empty() { from.description.clone() } else { body.description.clone() },
        ephemeral: body.ephemeral,
        config,
        devices: spec::devices(devices)?,
        profiles: spec::profiles(&call.view, project, &named)?,
    };
    spec::with_macs(&call.view, project, &mut spec);
    Ok(spec)
}

/// All snapshots that come along, and what each is at the copy. Ids grow with time, so that the copy's lie in the order of the
/// source's.
pub(super) fn snapshots(call: &Call, source: &Instance) -> Vec<(SnapshotId, SnapshotId)> {
    let ready = call.view.snapshots_of(source.id).filter(|s| s.is_ready());
    ready.map(|s| (s.id, SnapshotId(uuid::Uuid::now_v7()))).collect()
}

/// Whether a key goes over to the copy. Of what is volatile, only where it came from; and addresses that are asked for.
fn stays(key: &str, asked: &Map) -> bool {
    !key.starts_with("volatile.") || key == "volatile.base_image" || key.ends_with(".hwaddr") && asked.contains_key(key)
}
