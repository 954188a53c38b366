//! Images: lists, single ones, updates, refresh, delete.

use std::sync::Arc;

use axum::extract::Request;
use basalt_model::command::ImageCommand;
use basalt_model::image::{Edit, Image};
use basalt_model::instance::Kind;
use basalt_model::{Command, Fingerprint, ImageKey, ProfileName, StateView, Timestamp};
use http::Method;
use serde_json::Map;

use super::image_secret::Sight;
use super::spec;
use crate::api::Api;
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::image as wire;
use crate::dto::operation::Class;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::operation::New;
use crate::pull;
use crate::reply::{self, Reply};

/// An image as clients see it.
pub(super) fn render(view: &StateView, image: &Image) -> wire::Image {
    let id = image.id();
    let aliases = view.aliases.values().filter(|a| a.image() == id);
    wire::Image {
        fingerprint: image.fingerprint.to_string(),
        filename: image.filename.clone(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        kind: image.kind.as_str().into(),
        architecture: image.architecture.clone(),
        cached: image.cached,
        public: image.public,
        auto_update: image.auto_update,
        properties: image.properties.clone(),
        // Clients that launch send these along; the default profile is what they mean by them.
        profiles: match &image.profiles {
            None => vec!["default".into()],
            Some(profiles) => profiles.iter().map(ToString::to_string).collect(),
        },
        aliases: aliases
            .map(|a| wire::ImageAlias { name: a.name.to_string(), description: a.description.clone() })
            .collect(),
        update_source: image.update_source.as_ref().map(|source| wire::UpdateSource {
            alias: source.alias.clone(),
            certificate: source.certificate.clone(),
            protocol: source.protocol.as_str().into(),
            server: source.server.clone(),
            image_type: source.kind.map(Kind::as_str).unwrap_or_default().into(),
        }),
        created_at: clock::text(image.created_at),
        expires_at: clock::text(image.expires_at),
        last_used_at: clock::text(image.last_used_at),
        uploaded_at: clock::text(image.uploaded_at),
        project: image.project.to_string(),
    }
}

impl Call {
    /// The image of the project whose fingerprint begins with `text`, if it is the only one and the caller may see it.
    ///
    /// # Errors
    /// None, or more than one.
    pub(crate) fn image(&self, text: &str) -> Result<Image, Error> {
        let missing = || Error::NotFound("Image".into());
        if text.is_empty() {
            return Err(missing());
        }
        if !matches!(self.method, Method::GET | Method::HEAD) {
            // What is public may be read by those who do not see the project, and no more.
            self.project()?;
        }
        let scope = self.image_scope()?;
        let visible = |image: &&Image| scope.shows(image) && image.fingerprint.as_str().starts_with(text);
        let mut fits = self.view.images.values().filter(visible);
        match (fits.next(), fits.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(Error::invalid("fingerprint", format!("{text:?} fits more than one image"))),
            (None, _) => Err(missing()),
        }
    }
}

/// What users may change of it, as it is.
pub(super) fn editable(image: &Image) -> Edit {
    Edit {
        public: image.public,
        auto_update: image.auto_update,
        cached: image.cached,
        expires_at: image.expires_at,
        properties: image.properties.clone(),
        profiles: image.profiles.clone(),
    }
}

fn tag(image: &Image) -> String {
    etag::of(&Edit { cached: false, ..editable(image) })
}

/// Profiles of an image: they must exist in the caller's project.
pub(super) fn profiles(call: &Call, given: Option<&[String]>) -> Result<Option<Vec<ProfileName>>, Error> {
    let Some(given) = given.filter(|given| *given != ["default"]) else { return Ok(None) };
    spec::profiles(&call.view, &call.project()?, given).map(Some)
}

pub(crate) async fn list(call: Call) -> Reply {
    let scope = call.listed_images()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let visible = call.view.images.values().filter(|i| scope.shows(i));
    let images = visible.map(|i| (i, render(&call.view, i))).filter(|(_, shown)| filter.takes(shown));
    match call.recursion() {
        0 => reply::sync(images.map(|(i, _)| url(&i.fingerprint) + &i.project.suffix()).collect::<Vec<_>>()),
        _ => reply::sync(images.map(|(_, shown)| shown).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(text): Segment<String>, request: Request) -> Reply {
    let image = match call.sight(&text)? {
        Sight::Here(image) => image,
        Sight::At(node) => return call.forward(node, request).await,
    };
    reply::sync_etag(render(&call.view, &image), &tag(&image))
}

pub(crate) async fn put(call: Call, Segment(text): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let image = call.image(&text)?;
    let edit = Edit {
        public: body.public.unwrap_or_default(),
        auto_update: body.auto_update.unwrap_or_default(),
        properties: body.properties.unwrap_or_default(),
        profiles: profiles(&call, body.profiles.as_deref())?,
        expires_at: expires_at(&image, body.expires_at.as_deref())?,
        ..editable(&image)
    };
    update(&call, &image, edit).await
}

pub(crate) async fn patch(call: Call, Segment(text): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let image = call.image(&text)?;
    let edit = Edit {
        public: body.public.unwrap_or(image.public),
        auto_update: body.auto_update.unwrap_or(image.auto_update),
        properties: spec::merged(&image.properties, body.properties.unwrap_or_default()),
        profiles: match &body.profiles {
            None => image.profiles.clone(),
            given => profiles(&call, given.as_deref())?,
        },
        expires_at: expires_at(&image, body.expires_at.as_deref())?,
        ..editable(&image)
    };
    update(&call, &image, edit).await
}

fn expires_at(image: &Image, given: Option<&str>) -> Result<Timestamp, Error> {
    match given {
        None => Ok(image.expires_at),
        Some(text) => clock::parse(text).map_err(|e| Error::invalid("expires_at", e)),
    }
}

async fn update(call: &Call, image: &Image, edit: Edit) -> Reply {
    etag::check(&call.headers, &tag(image))?;
    spec::plain_text("properties", &edit.properties)?;
    if edit.auto_update && image.update_source.is_none() {
        return Err(Error::invalid("auto_update", "the image did not come from another server"));
    }
    let edit = ImageCommand::Edit { image: image.id(), edit: Box::new(edit) };
    call.propose(Command::Image(edit)).await?;
    call.happened_in("image-updated", url(&image.fingerprint), &image.project);
    reply::empty()
}

/// Looks for a newer image where this one came from.
pub(crate) async fn refresh(call: Call, Segment(text): Segment<String>) -> Reply {
    let image = call.image(&text)?;
    let location = url(&image.fingerprint);
    let new = New {
        class: Class::Task,
        description: "Refreshing image",
        resources: vec![("images", location.clone())],
        project: Some(call.project()?),
        may_cancel: true,
        ..New::default()
    };
    let api = call.api.clone();
    let operation = api.operations.start(new, |handle| async move {
        let newer = pull::refresh(&call.api, &image, &handle).await?;
        call.happened_in("image-refreshed", location, &image.project);
        let mut metadata = Map::new();
        metadata.insert("refreshed".into(), newer.is_some().into());
        if let Some(fingerprint) = newer {
            metadata.insert("fingerprint".into(), fingerprint.to_string().into());
        }
        Ok(metadata)
    });
    reply::operation(&operation)
}

/// The same without a caller.
pub(crate) async fn refresh_now(api: &Arc<Api>, id: &ImageKey) -> Result<bool, Error> {
    let Some(image) = api.view().images.get(id).cloned() else { return Ok(false) };
    let new = New {
        class: Class::Task,
        description: "Refreshing image",
        resources: vec![("images", url(&image.fingerprint))],
        project: Some(image.project.clone()).filter(|project| !project.is_default()),
        may_cancel: true,
        ..New::default()
    };
    let (sender, outcome) = tokio::sync::oneshot::channel();
    let refreshing = api.clone();
    api.operations.start(new, |handle| async move {
        let newer = pull::refresh(&refreshing, &image, &handle).await;
        // Whoever asked may be gone.
        let _ = sender.send(newer.clone().map(|newer| newer.is_some()));
        newer.map(|_| Map::new())
    });
    outcome.await.unwrap_or_else(|_| Err(Error::Refused("it was cancelled".into())))
}

pub(crate) async fn delete(call: Call, Segment(text): Segment<String>) -> Reply {
    let image = call.image(&text)?;
    call.propose(Command::Image(ImageCommand::Remove(image.id()))).await?;
    let url = url(&image.fingerprint);
    call.happened_in("image-deleted", url.clone(), &image.project);
    let new = New {
        class: Class::Task,
        description: "Deleting image",
        resources: vec![("images", url)],
        project: Some(call.project()?),
        ..New::default()
    };
    // The record is gone, and with it the image; its holders remove the files by themselves.
    reply::operation(&call.api.operations.start(new, |_| async { Ok(Map::new()) }))
}

pub(crate) fn url(fingerprint: &Fingerprint) -> String {
    format!("/1.0/images/{fingerprint}")
}
