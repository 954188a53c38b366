//! What an instance keeps of its image: metadata and templates. They lie with the instance's home.

use axum::extract::{FromRequest, Request};
use basalt_model::instance::Instance;

use super::home::at_home;
use crate::call::{Call, Json, Segment, read_bytes};
use crate::dto::Map;
use crate::dto::image_metadata::{ImageMetadata, ImageTemplate};
use crate::error::Error;
use crate::etag;
use crate::port::parts::{MAX_TEMPLATE, is_template_name};
use crate::reply::{self, Reply};

fn happened(call: &Call, what: &str, instance: &Instance) {
    call.happened(what, format!("/1.0/instances/{}", instance.name), Some(&instance.project));
}

pub(crate) async fn get(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let metadata = call.api.ports.parts.metadata(instance.id).await?;
    happened(&call, "instance-metadata-retrieved", &instance);
    let etag = etag::of(&metadata);
    reply::sync_etag(metadata, &etag)
}

pub(crate) async fn put(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let Json(given) = Json::<ImageMetadata>::from_request(request, &call.api).await?;
    update(&call, &instance, given).await
}

/// What a `PATCH` holds.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Patch {
    architecture: Option<String>,
    creation_date: Option<i64>,
    expiry_date: Option<i64>,
    properties: Map,
    templates: std::collections::BTreeMap<String, ImageTemplate>,
}

pub(crate) async fn patch(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let Json(given) = Json::<Patch>::from_request(request, &call.api).await?;
    let mut metadata = call.api.ports.parts.metadata(instance.id).await?;
    metadata.architecture = given.architecture.unwrap_or(metadata.architecture);
    metadata.creation_date = given.creation_date.unwrap_or(metadata.creation_date);
    metadata.expiry_date = given.expiry_date.unwrap_or(metadata.expiry_date);
    metadata.properties = super::spec::merged(&metadata.properties, given.properties);
    metadata.templates.extend(given.templates);
    update(&call, &instance, metadata).await
}

async fn update(call: &Call, instance: &Instance, wanted: ImageMetadata) -> Reply {
    if call.headers.contains_key(http::header::IF_MATCH) {
        let present = call.api.ports.parts.metadata(instance.id).await?;
        etag::check(&call.headers, &etag::of(&present))?;
    }
    check(&wanted)?;
    call.api.ports.parts.set_metadata(instance.id, wanted).await?;
    happened(call, "instance-metadata-updated", instance);
    reply::empty()
}

fn check(metadata: &ImageMetadata) -> Result<(), Error> {
    let texts = metadata.properties.values().chain(metadata.templates.values().flat_map(|t| t.properties.values()));
    if texts.chain([&metadata.architecture]).any(|text| text.contains('\0')) {
        return Err(Error::invalid("properties", "a text must not hold a NUL"));
    }
    for (path, template) in &metadata.templates {
        let field = || format!("templates.{path}");
        if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
            return Err(Error::invalid(field(), "is not the absolute path of a file"));
        }
        if !is_template_name(&template.template) {
            return Err(Error::invalid(field(), format!("{:?} is not the name of a template", template.template)));
        }
        if let Some(other) = template.when.iter().find(|w| !["create", "copy", "start"].contains(&w.as_str())) {
            return Err(Error::invalid(field(), format!("when: {other:?} is not create, copy or start")));
        }
    }
    Ok(())
}

/// The template that the request names.
fn template(call: &Call) -> Result<String, Error> {
    let name = call.query("path").ok_or_else(|| Error::invalid("path", "is missing"))?;
    match is_template_name(name) {
        true => Ok(name.to_owned()),
        false => Err(Error::invalid("path", format!("{name:?} is not the name of a template"))),
    }
}

/// All names, or the content of the one that `path` names.
pub(crate) async fn templates(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    if call.query("path").is_none() {
        return reply::sync(call.api.ports.parts.templates(instance.id).await?);
    }
    let content = call.api.ports.parts.template(instance.id, &template(&call)?).await?;
    happened(&call, "instance-metadata-template-retrieved", &instance);
    Ok(reply::raw("application/octet-stream", content))
}

pub(crate) async fn set_template(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, request) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let template = template(&call)?;
    let content = read_bytes(request.into_body(), MAX_TEMPLATE).await?;
    call.api.ports.parts.set_template(instance.id, &template, content).await?;
    happened(&call, "instance-metadata-template-created", &instance);
    reply::empty()
}

pub(crate) async fn remove_template(mut call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (instance, _) = match at_home(&mut call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    call.api.ports.parts.remove_template(instance.id, &template(&call)?).await?;
    happened(&call, "instance-metadata-template-deleted", &instance);
    reply::empty()
}
