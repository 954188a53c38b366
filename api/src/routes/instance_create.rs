//! `POST /1.0/instances`.

use std::str::FromStr;

use basalt_model::command::InstanceCommand;
use basalt_model::image::{Alias, Image};
use basalt_model::instance::{Instance, Intent, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::restriction;
use basalt_model::{
    AliasKey, AliasName, Command, Fingerprint, Generation, GroupName, ImageKey, InstanceId, InstanceName, MemberName,
    ProjectName, Timestamp,
};
use serde_json::Map;

use super::{copy, image_source, petname, remake, run, spec};
use crate::call::{Call, Json};
use crate::clock;
use crate::dto::instance::{Post, Source};
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::New;
use crate::port::remote::RemoteImage;
use crate::pull::{self, Wishes};
use crate::reply::{self, Reply};

pub(crate) async fn post(call: Call, Json(mut body): Json<Post>) -> Reply {
    if body.source.kind == "copy"
        && body.source.refresh
        && let Some(target) = remake::target(&call, &body)?
    {
        return remake::refresh(call, target, body).await;
    }
    if let Some(wanted) = afar(&call, &mut body.source, &body.kind)? {
        return from_afar(call, body, wanted);
    }
    let instance = instance(&call, body)?;
    let (id, name, project) = (instance.id, instance.name.clone(), instance.project.clone());
    // The record is made before the answer, so that a refusal is the answer.
    call.propose(Command::Instance(InstanceCommand::Create(Box::new(instance)))).await?;
    let url = format!("/1.0/instances/{name}");
    let new = operation(&name, &project);
    let api = call.api.clone();
    let operation = api.operations.start(new, |handle| async move {
        run::created(&call.api, id, &handle).await?;
        call.happened("instance-created", url, Some(&project));
        Ok(Map::new())
    });
    reply::operation(&operation)
}

fn operation(name: &InstanceName, project: &ProjectName) -> New {
    New {
        class: Class::Task,
        description: "Creating instance",
        project: Some(project.clone()),
        // Without `?project=`: lxc takes everything after the last slash for the name.
        resources: vec![
            ("instances", format!("/1.0/instances/{name}")),
            ("containers", format!("/1.0/containers/{name}")),
        ],
        ..New::default()
    }
}

/// The image of another server that a source names; nothing when it is here already, and then the source names that.
pub(super) fn afar(call: &Call, source: &mut Source, kind: &str) -> Result<Option<RemoteImage>, Error> {
    let Some(wanted) = image_source::of_instance(call, source, kind)? else { return Ok(None) };
    let project = call.image_project()?;
    let here = pull::kept(&call.view, &project, &wanted).or_else(|| {
        let named = Fingerprint::new(source.fingerprint.as_str()).ok();
        named.filter(|fingerprint| call.view.images.contains_key(&call.view.image_key(&project, fingerprint)))
    });
    match here {
        None => Ok(Some(wanted)),
        Some(fingerprint) => {
            *source = local(&fingerprint);
            Ok(None)
        }
    }
}

/// An image that comes with an instance.
pub(super) fn wishes(call: &Call, wanted: &RemoteImage) -> Result<Wishes, Error> {
    let keep = call.view.config.get("images.auto_update_cached").is_none_or(|v| !basalt_model::config::is_false(v));
    Ok(Wishes {
        cached: true,
        // What a fingerprint names never changes.
        auto_update: keep && wanted.name == wanted.source.alias && Fingerprint::new(wanted.name.as_str()).is_err(),
        source: Some(wanted.source.clone()),
        ..Wishes::of(call.image_project()?)
    })
}

/// An image of our own, by its fingerprint.
pub(super) fn local(fingerprint: &Fingerprint) -> Source {
    Source { kind: "image".into(), fingerprint: fingerprint.to_string(), ..Source::default() }
}

/// From an image that has to be downloaded first. All but the image is checked before the answer.
fn from_afar(call: Call, mut body: Post, wanted: RemoteImage) -> Reply {
    let without = Source { kind: "none".into(), ..Source::default() };
    let probe = instance(&call, Post { source: without, ..body.clone() })?;
    let (name, project) = (probe.name, probe.project);
    if call.view.instance(&project, &name).is_some() {
        return Err(Error::Conflict(format!("Instance {:?} already exists", name.as_str())));
    }
    body.name = name.to_string();
    let new = New { may_cancel: true, ..operation(&name, &project) };
    let wishes = wishes(&call, &wanted)?;
    let api = call.api.clone();
    let started = api.operations.start(new, |handle| async move {
        let mut call = call;
        let fingerprint = pull::pull(&call.api, &wanted, &wishes, &handle).await?;
        handle.commit();
        call.view = call.api.view();
        body.source = local(&fingerprint);
        let instance = instance(&call, body)?;
        let id = instance.id;
        call.propose(Command::Instance(InstanceCommand::Create(Box::new(instance)))).await?;
        run::created(&call.api, id, &handle).await?;
        call.happened("instance-created", format!("/1.0/instances/{name}"), Some(&project));
        Ok(Map::new())
    });
    reply::operation(&started)
}

fn instance(call: &Call, body: Post) -> Result<Instance, Error> {
    let project = call.project()?;
    if !body.instance_type.is_empty() {
        return Err(Error::invalid("instance_type", "is not supported: use limits.cpu and limits.memory"));
    }
    if body.stateful {
        return Err(Error::invalid("stateful", "is not supported"));
    }
    let spec = match body.source.kind.as_str() {
        "copy" => copy::spec(call, &project, &body)?,
        _ => {
            let image = source(call, &body.source)?;
            wanted_spec(call, &project, &body, image.as_ref())?
        }
    };
    Ok(Instance {
        // A version 7 UUID begins with the time: instances list in the order of their creation.
        id: InstanceId(uuid::Uuid::now_v7()),
        name: name(call, &project, &body.name)?,
        created_at: clock::now(),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        target: target(call, &project)?,
        run: Run { intent: if body.start { Intent::Running } else { Intent::Stopped }, ..Run::stopped() },
        placement: Placement::Unplaced { refused: None },
        report: None,
        errands: Default::default(),
        project,
        spec,
    })
}

fn name(call: &Call, project: &ProjectName, given: &str) -> Result<InstanceName, Error> {
    let taken = |text: &str| InstanceName::new(text).is_ok_and(|name| call.view.instance(project, &name).is_some());
    match given.is_empty() {
        true => InstanceName::new(petname::generate(taken)),
        false => InstanceName::new(given),
    }
    .map_err(|e| Error::invalid("name", e))
}

/// `?target=member` or `?target=@group`.
pub(super) fn target(call: &Call, project: &ProjectName) -> Result<Target, Error> {
    let wanted = named_target(call)?;
    // Whoever runs the cluster may place anything anywhere.
    let Some(project) = call.view.projects.get(project).filter(|_| !call.who.full()) else { return Ok(wanted) };
    let open = match &wanted {
        Target::Any => true,
        Target::Member(_) => !restriction::blocks(project, "restricted.cluster.target"),
        Target::Group(group) => restriction::groups(project).is_none_or(|groups| groups.contains(group)),
    };
    match open {
        true => Ok(wanted),
        false => Err(Error::Forbidden(format!("Project {:?} does not allow this target", project.name.as_str()))),
    }
}

fn named_target(call: &Call) -> Result<Target, Error> {
    match call.query("target").map(|t| (t, t.strip_prefix('@'))) {
        None => Ok(Target::Any),
        Some((_, Some(group))) => {
            let name = GroupName::from_str(group).map_err(|e| Error::invalid("target", e))?;
            match call.view.groups.contains_key(&name) {
                true => Ok(Target::Group(name)),
                false => Err(Error::NotFound(format!("Cluster group {group:?}"))),
            }
        }
        Some((member, None)) => {
            let name = MemberName::from_str(member).map_err(|e| Error::invalid("target", e))?;
            match call.view.member_named(&name) {
                Some(_) => Ok(Target::Member(name)),
                None => Err(Error::NotFound(format!("Cluster member {member:?}"))),
            }
        }
    }
}

/// The image that the source names; nothing for an empty root.
pub(super) fn source(call: &Call, source: &Source) -> Result<Option<Image>, Error> {
    match source.kind.as_str() {
        "none" => Ok(None),
        "image" => image(call, source).map(Some),
        "migration" => {
            Err(Error::NotImplemented("taking an instance from another server; use source.type=image or copy".into()))
        }
        "" => Err(Error::invalid("source.type", "is missing: image, copy or none")),
        other => Err(Error::invalid("source.type", format!("{other:?} is not one of image, copy, none"))),
    }
}

fn image(call: &Call, source: &Source) -> Result<Image, Error> {
    let (view, project) = (&call.view, call.image_project()?);
    let found: Option<ImageKey> = if !source.fingerprint.is_empty() {
        view.find_image(&project, &source.fingerprint)
    } else if !source.alias.is_empty() {
        let name = AliasName::new(source.alias.as_str()).map_err(|e| Error::invalid("source.alias", e))?;
        view.aliases.get(&AliasKey { project, name }).map(Alias::image)
    } else if !source.properties.is_empty() {
        let fits = |image: &&Image| source.properties.iter().all(|(k, v)| image.properties.get(k) == Some(v));
        view.images_of(&project).filter(fits).max_by_key(|i| i.created_at).map(Image::id)
    } else {
        return Err(Error::invalid("source", "name an image by alias, fingerprint or properties"));
    };
    match found.and_then(|id| view.images.get(&id)) {
        Some(image) => Ok(image.clone()),
        None => {
            let text = if source.fingerprint.is_empty() { &source.alias } else { &source.fingerprint };
            Err(Error::NotFound(format!("Image {text:?}")))
        }
    }
}

fn wanted_spec(call: &Call, project: &ProjectName, body: &Post, image: Option<&Image>) -> Result<Spec, Error> {
    let kind = match (body.kind.as_str(), image) {
        ("", Some(image)) => image.kind,
        ("", None) => Kind::Container,
        (text, _) => spec::kind(text)?,
    };
    if let Some(image) = image.filter(|i| i.kind != kind) {
        return Err(Error::invalid("type", format!("the image is for a {}", image.kind.as_str())));
    }
    let architecture = match (body.architecture.as_str(), image) {
        ("", Some(image)) => image.architecture.clone(),
        ("", None) => call.api.ports.membership.host().kernel_architecture,
        (text, _) => spec::architecture(text)?,
    };
    let default = match image.and_then(|image| image.profiles.as_ref()) {
        None => vec!["default".to_owned()],
        Some(profiles) => profiles.iter().map(ToString::to_string).collect(),
    };
    let mut config = spec::config(body.config.clone())?;
    config.retain(|key, _| !key.starts_with("volatile.") || key.ends_with(".hwaddr"));
    if let Some(image) = image {
        for (key, value) in &image.properties {
            config.entry(format!("image.{key}")).or_insert_with(|| value.clone());
        }
        config.insert("volatile.base_image".into(), image.fingerprint.to_string());
    }
    config.insert("volatile.uuid".into(), uuid::Uuid::new_v4().to_string());
    let mut spec = Spec {
        kind,
        architecture,
        origin: image.map_or(Origin::Empty, |i| Origin::Image(i.fingerprint.clone())),
        description: body.description.clone(),
        ephemeral: body.ephemeral,
        config,
        devices: spec::devices(body.devices.clone())?,
        profiles: spec::profiles(&call.view, project, body.profiles.as_ref().unwrap_or(&default))?,
    };
    spec::with_macs(&call.view, project, &mut spec);
    Ok(spec)
}
