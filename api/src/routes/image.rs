//! Images: lists, single ones, updates, delete.

use basalt_model::command::ImageCommand;
use basalt_model::image::Image;
use basalt_model::{Command, Fingerprint, StateView};
use serde_json::Map;

use super::spec;
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::image as wire;
use crate::dto::operation::Class;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::operation::New;
use crate::reply::{self, Reply};

/// An image as clients see it.
pub(super) fn render(view: &StateView, image: &Image) -> wire::Image {
    let aliases = view.aliases.values().filter(|a| a.target == image.fingerprint);
    wire::Image {
        fingerprint: image.fingerprint.to_string(),
        filename: image.filename.clone(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        kind: image.kind.as_str().into(),
        architecture: image.architecture.clone(),
        cached: false,
        public: image.public,
        auto_update: false,
        properties: image.properties.clone(),
        // Clients that launch send these along; the default profile is what they mean by them.
        profiles: vec!["default".into()],
        aliases: aliases
            .map(|a| wire::ImageAlias { name: a.name.to_string(), description: a.description.clone() })
            .collect(),
        update_source: None,
        created_at: clock::text(image.created_at),
        expires_at: clock::text(image.expires_at),
        last_used_at: clock::text(image.last_used_at),
        uploaded_at: clock::text(image.uploaded_at),
        project: "default".into(),
    }
}

impl Call {
    /// The image whose fingerprint begins with `text`, if it is the only one and the caller may see it.
    ///
    /// # Errors
    /// None, or more than one.
    pub(crate) fn image(&self, text: &str) -> Result<Image, Error> {
        let missing = || Error::NotFound("Image".into());
        if text.is_empty() {
            return Err(missing());
        }
        let visible = |image: &&Image| self.sees_image(image) && image.fingerprint.as_str().starts_with(text);
        let mut fits = self.view.images.values().filter(visible);
        match (fits.next(), fits.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(Error::invalid("fingerprint", format!("{text:?} fits more than one image"))),
            (None, _) => Err(missing()),
        }
    }

    /// Strangers see public images only.
    pub(super) fn sees_image(&self, image: &Image) -> bool {
        image.public || self.who.trusted()
    }
}

fn editable(image: &Image) -> impl serde::Serialize + use<> {
    (image.public, image.properties.clone(), image.expires_at)
}

pub(crate) async fn list(call: Call) -> Reply {
    if call.who.trusted() {
        call.projects()?;
    }
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let visible = call.view.images.values().filter(|i| call.sees_image(i));
    let images = visible.map(|i| render(&call.view, i)).filter(|i| filter.takes(i));
    match call.recursion() {
        0 => reply::sync(images.map(|i| format!("/1.0/images/{}", i.fingerprint)).collect::<Vec<_>>()),
        _ => reply::sync(images.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(text): Segment<String>) -> Reply {
    let image = call.image(&text)?;
    reply::sync_etag(render(&call.view, &image), &etag::of(&editable(&image)))
}

pub(crate) async fn put(call: Call, Segment(text): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let image = call.image(&text)?;
    let properties = body.properties.unwrap_or_default();
    let public = body.public.unwrap_or_default();
    update(&call, &image, public, properties, body.expires_at.as_deref()).await
}

pub(crate) async fn patch(call: Call, Segment(text): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let image = call.image(&text)?;
    let properties = spec::merged(&image.properties, body.properties.unwrap_or_default());
    update(&call, &image, body.public.unwrap_or(image.public), properties, body.expires_at.as_deref()).await
}

async fn update(
    call: &Call,
    image: &Image,
    public: bool,
    properties: crate::dto::Map,
    expires_at: Option<&str>,
) -> Reply {
    etag::check(&call.headers, &etag::of(&editable(image)))?;
    spec::plain_text("properties", &properties)?;
    let expires_at = match expires_at {
        None => image.expires_at,
        Some(text) => clock::parse(text).map_err(|e| Error::invalid("expires_at", e))?,
    };
    let fingerprint = image.fingerprint.clone();
    let update = ImageCommand::Update { fingerprint: fingerprint.clone(), public, expires_at, properties };
    call.propose(Command::Image(update)).await?;
    call.happened("image-updated", format!("/1.0/images/{fingerprint}"), None);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment(text): Segment<String>) -> Reply {
    let image = call.image(&text)?;
    call.propose(Command::Image(ImageCommand::Remove(image.fingerprint.clone()))).await?;
    let url = url(&image.fingerprint);
    call.happened("image-deleted", url.clone(), None);
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

pub(super) fn url(fingerprint: &Fingerprint) -> String {
    format!("/1.0/images/{fingerprint}")
}
