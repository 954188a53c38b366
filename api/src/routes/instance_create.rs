//! `POST /1.0/instances`.

use std::str::FromStr;

use basalt_model::command::InstanceCommand;
use basalt_model::image::Image;
use basalt_model::instance::{Instance, Intent, Kind, Origin, Placement, Run, Spec, Target};
use basalt_model::{
    AliasName, Command, Fingerprint, Generation, GroupName, InstanceId, InstanceName, MemberName, ProjectName,
    Timestamp,
};
use serde_json::Map;

use super::{petname, run, spec};
use crate::call::{Call, Json};
use crate::clock;
use crate::dto::instance::{Post, Source};
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::New;
use crate::reply::{self, Reply};

pub(crate) async fn post(call: Call, Json(body): Json<Post>) -> Reply {
    let instance = instance(&call, body)?;
    let (id, name, project) = (instance.id, instance.name.clone(), instance.project.clone());
    // The record is made before the answer, so that a refusal is the answer.
    call.propose(Command::Instance(InstanceCommand::Create(Box::new(instance)))).await?;
    let url = format!("/1.0/instances/{name}");
    let new = New {
        class: Class::Task,
        description: "Creating instance",
        project: Some(project.clone()),
        // Without `?project=`: lxc takes everything after the last slash for the name.
        resources: vec![("instances", url.clone()), ("containers", format!("/1.0/containers/{name}"))],
        ..New::default()
    };
    let api = call.api.clone();
    let operation = api.operations.start(new, |handle| async move {
        run::created(&call.api, id, &handle).await?;
        call.happened("instance-created", url, Some(&project));
        Ok(Map::new())
    });
    reply::operation(&operation)
}

fn instance(call: &Call, body: Post) -> Result<Instance, Error> {
    let project = call.project()?;
    if !body.instance_type.is_empty() {
        return Err(Error::invalid("instance_type", "is not supported: use limits.cpu and limits.memory"));
    }
    if body.stateful {
        return Err(Error::invalid("stateful", "is not supported"));
    }
    let image = source(call, &body.source)?;
    let spec = wanted_spec(call, &project, &body, image.as_ref())?;
    Ok(Instance {
        // A version 7 UUID begins with the time: instances list in the order of their creation.
        id: InstanceId(uuid::Uuid::now_v7()),
        name: name(call, &project, &body.name)?,
        created_at: clock::now(),
        last_used_at: Timestamp::NEVER,
        generation: Generation(1),
        target: target(call)?,
        run: Run { intent: if body.start { Intent::Running } else { Intent::Stopped }, ..Run::stopped() },
        placement: Placement::Unplaced { refused: None },
        report: None,
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
fn target(call: &Call) -> Result<Target, Error> {
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
fn source(call: &Call, source: &Source) -> Result<Option<Image>, Error> {
    match source.kind.as_str() {
        "none" => Ok(None),
        "image" => image(call, source).map(Some),
        "copy" | "migration" => {
            Err(Error::NotImplemented(format!("creating an instance by {}; use source.type=image", source.kind)))
        }
        "" => Err(Error::invalid("source.type", "is missing: image or none")),
        other => Err(Error::invalid("source.type", format!("{other:?} is not one of image, none"))),
    }
}

fn image(call: &Call, source: &Source) -> Result<Image, Error> {
    let view = &call.view;
    let found: Option<Fingerprint> = if !source.fingerprint.is_empty() {
        view.find_image(&source.fingerprint)
    } else if !source.alias.is_empty() {
        let alias = AliasName::new(source.alias.as_str()).map_err(|e| Error::invalid("source.alias", e))?;
        view.aliases.get(&alias).map(|a| a.target.clone())
    } else if !source.properties.is_empty() {
        let fits = |image: &&Image| source.properties.iter().all(|(k, v)| image.properties.get(k) == Some(v));
        view.images.values().filter(fits).max_by_key(|i| i.created_at).map(|i| i.fingerprint.clone())
    } else {
        return Err(Error::invalid("source", "name an image by alias, fingerprint or properties"));
    };
    match found.and_then(|fingerprint| view.images.get(&fingerprint)) {
        Some(image) => Ok(image.clone()),
        None if !source.server.is_empty() => Err(Error::NotImplemented(format!(
            "pulling images from {}; import the image first: basalt image import",
            source.server
        ))),
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
    let default = vec!["default".to_owned()];
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
