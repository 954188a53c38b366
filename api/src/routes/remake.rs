//! A root file system that is made anew: `POST …/rebuild`, and `POST /1.0/instances` that brings a copy up to date
//! (`source.refresh`).

use basalt_model::command::InstanceCommand;
use basalt_model::image::Image;
use basalt_model::instance::{CopyOf, Instance, Origin, Phase, Spec};
use basalt_model::{Command, Epoch, InstanceName, ProjectName};
use serde_json::Map;

use super::{copy, instance_create, run};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::instance::{Post, Rebuild, Source};
use crate::error::Error;
use crate::operation::{Handle, New};
use crate::pull;
use crate::reply::{self, Reply};

/// `POST …/rebuild`: an empty root, or an image's.
pub(crate) async fn rebuild(call: Call, Segment(name): Segment<String>, Json(body): Json<Rebuild>) -> Reply {
    let instance = call.instance(&name)?;
    down(&call, &instance, "Instance must be stopped to be rebuilt")?;
    let mut source = body.source;
    if !matches!(source.kind.as_str(), "image" | "none") {
        return Err(Error::invalid("source.type", format!("{:?} is not one of image, none", source.kind)));
    }
    let afar = instance_create::afar(&call, &mut source, instance.spec.kind.as_str())?;
    let Some(wanted) = afar else {
        let spec = rebuilt(&call, &instance, &source)?;
        let epoch = begin(&call, &instance, spec, false).await?;
        return finish(&call, instance, "Rebuilding instance", epoch);
    };
    // All but the image is checked before the answer.
    if call.view.snapshots_of(instance.id).next().is_some() {
        return Err(Error::Refused(format!("Instance {name} has snapshots, which would be lost: delete them")));
    }
    let wishes = instance_create::wishes(&call, &wanted)?;
    let new = New { may_cancel: true, ..call.instance_operation("Rebuilding instance", &instance) };
    let api = call.api.clone();
    let started = api.operations.start(new, |handle| async move {
        let mut call = call;
        let fingerprint = pull::pull(&call.api, &wanted, &wishes, &handle).await?;
        handle.commit();
        call.view = call.api.view();
        let instance = call.instance(&name)?;
        let spec = rebuilt(&call, &instance, &instance_create::local(&fingerprint))?;
        let epoch = begin(&call, &instance, spec, false).await?;
        done(&call, &instance, epoch, &handle).await
    });
    reply::operation(&started)
}

/// The instance that is to be brought up to date, if there is one: else a copy is made.
pub(super) fn target(call: &Call, body: &Post) -> Result<Option<Instance>, Error> {
    let project = call.project()?;
    let name = InstanceName::new(body.name.as_str()).ok();
    Ok(name.and_then(|name| call.view.instance(&project, &name).cloned()))
}

/// Gives `target` the content of its source, and its snapshots. Its configuration and its place stay; clients change the
/// former by themselves.
pub(super) async fn refresh(call: Call, target: Instance, body: Post) -> Reply {
    down(&call, &target, "Cannot refresh a running instance")?;
    let project: ProjectName = call.project()?;
    let (source, point, from) = copy::source(&call, &project, &body)?;
    if source.id == target.id {
        return Err(Error::invalid("source.source", "an instance cannot be refreshed from itself"));
    }
    let alone = point.is_some() || body.source.instance_only || body.source.container_only;
    let snapshots = if alone { Vec::new() } else { copy::snapshots(&call, &source) };
    let mut spec = target.spec.clone();
    spec.origin = Origin::Copy(Box::new(CopyOf { source: source.id, point, snapshots }));
    about_image(&mut spec, |config| config.extend(of_image(&from)));
    let epoch = begin(&call, &target, spec, !alone).await?;
    finish(&call, target, "Refreshing instance", epoch)
}

/// Stopped, and at home on a member that can be reached.
fn down(call: &Call, instance: &Instance, why: &str) -> Result<(), Error> {
    if matches!(instance.phase(), Some(Phase::Running | Phase::Frozen)) {
        return Err(Error::Refused(why.into()));
    }
    run::lost_home(&call.view, instance).map_or(Ok(()), Err)
}

fn rebuilt(call: &Call, instance: &Instance, source: &Source) -> Result<Spec, Error> {
    let image = instance_create::source(call, source)?;
    let mut spec = instance.spec.clone();
    if let Some(image) = image.as_ref().filter(|image| image.kind != spec.kind) {
        return Err(Error::invalid("source", format!("the image is for a {}", image.kind.as_str())));
    }
    let fingerprint = image.as_ref().map(|image| image.fingerprint.clone());
    spec.origin = fingerprint.map_or(Origin::Empty, Origin::Image);
    about_image(&mut spec, |config| config.extend(image.iter().flat_map(said)));
    if let Some(image) = image {
        spec.architecture = image.architecture;
    }
    Ok(spec)
}

const BASE: &str = "volatile.base_image";

/// What a configuration says of the image that the root came from, as new.
fn about_image(spec: &mut Spec, say: impl FnOnce(&mut basalt_model::instance::Config)) {
    spec.config.retain(|key, _| key != BASE && !key.starts_with("image."));
    say(&mut spec.config);
}

/// What an image says of itself.
fn said(image: &Image) -> impl Iterator<Item = (String, String)> {
    let own = image.properties.iter().map(|(key, value)| (format!("image.{key}"), value.clone()));
    own.chain([(BASE.to_owned(), image.fingerprint.to_string())])
}

/// What another instance says of the image that it was made from.
fn of_image(from: &Spec) -> impl Iterator<Item = (String, String)> {
    let about = from.config.iter().filter(|(key, _)| *key == BASE || key.starts_with("image."));
    about.map(|(key, value)| (key.clone(), value.clone()))
}

/// The epoch under which it is made.
async fn begin(call: &Call, instance: &Instance, spec: Spec, snapshots_too: bool) -> Result<Epoch, Error> {
    let (id, expect) = (instance.id, Some(instance.generation));
    let remake = InstanceCommand::Remake { id, spec: Box::new(spec), snapshots_too, at: clock::now(), expect };
    call.propose(Command::Instance(remake)).await?;
    let found = call.api.view().instances.get(&id).and_then(|i| i.errands.remake);
    found.ok_or_else(|| Error::Refused("the instance was deleted meanwhile".into()))
}

fn finish(call: &Call, instance: Instance, description: &'static str, epoch: Epoch) -> Reply {
    let new = call.instance_operation(description, &instance);
    let (call, api) = (call.clone(), call.api.clone());
    let operation = api.operations.start(new, |handle| async move { done(&call, &instance, epoch, &handle).await });
    reply::operation(&operation)
}

async fn done(
    call: &Call,
    instance: &Instance,
    epoch: Epoch,
    handle: &Handle,
) -> Result<Map<String, serde_json::Value>, Error> {
    run::remade(&call.api, instance.id, epoch, handle).await?;
    call.happened("instance-updated", format!("/1.0/instances/{}", instance.name), Some(&instance.project));
    Ok(Map::new())
}
