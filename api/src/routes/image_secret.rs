//! Images between servers: a secret for one that is not public, an announced upload, a push.

use axum::extract::Request;
use basalt_model::image::Image;
use basalt_model::{Fingerprint, NodeId};
use serde_json::Map;

use super::{image, image_source};
use crate::call::{Call, Json, Segment};
use crate::dto::image::{ExportPost, Post, PostSource};
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::New;
use crate::port::remote::PushTarget;
use crate::reply::{self, Reply};
use crate::secret::{self, Purpose};

/// An image that the caller may read: by trust, because it is public, or by a secret.
pub(super) enum Sight {
    Here(Box<Image>),
    /// Another member gave the secret out.
    At(NodeId),
}

impl Call {
    /// The image that `text` is the beginning of.
    ///
    /// # Errors
    /// There is none that the caller may see.
    pub(super) fn sight(&self, text: &str) -> Result<Sight, Error> {
        let Some(secret) = self.query("secret").filter(|_| !self.who.trusted()) else {
            return self.image(text).map(|image| Sight::Here(Box::new(image)));
        };
        let other = secret::owner(secret).filter(|node| *node != self.me() && self.view.members.contains_key(node));
        match (other, self.api.secrets.look(secret)) {
            (Some(node), _) if !self.who.from_member => Ok(Sight::At(node)),
            (_, Some(Purpose::Download(id))) if id.name.as_str().starts_with(text) => {
                let image = self.view.images.get(&id).cloned();
                image.map(|image| Sight::Here(Box::new(image))).ok_or_else(|| Error::NotFound("Image".into()))
            }
            (_, _) => self.image(text).map(|image| Sight::Here(Box::new(image))),
        }
    }
}

/// Makes a secret with which somebody who is not trusted may download the image, once.
pub(crate) async fn create(call: Call, Segment(text): Segment<String>) -> Reply {
    let image = call.image(&text)?;
    call.happened_in("image-secret-created", image::url(&image.fingerprint), &image.project);
    let purpose = Purpose::Download(image.id());
    waiting(&call, &image.fingerprint, purpose)
}

/// An image that another server is going to send: the answer holds the secret for it.
pub(super) fn announce(call: &Call, post: &Post, source: &PostSource) -> Reply {
    let fingerprint =
        Fingerprint::new(source.fingerprint.as_str()).map_err(|e| Error::invalid("source.fingerprint", e))?;
    let wishes = image_source::wishes(call, post, None)?;
    if call.view.images.contains_key(&wishes.image(&fingerprint)) {
        return Err(Error::Conflict("Image with same fingerprint already exists".into()));
    }
    waiting(call, &fingerprint, Purpose::Upload(fingerprint.clone(), Box::new(wishes)))
}

fn waiting(call: &Call, fingerprint: &Fingerprint, purpose: Purpose) -> Reply {
    let pending = call.api.secrets.make(call.me(), purpose)?;
    let mut metadata = Map::new();
    metadata.insert("secret".into(), pending.text.clone().into());
    let new = New {
        class: Class::Token,
        description: "Image download token",
        resources: vec![("images", image::url(fingerprint))],
        project: Some(call.project()?),
        metadata,
        may_cancel: true,
        ..New::default()
    };
    reply::operation(&call.api.operations.start(new, |_| async move {
        pending.used().await?;
        Ok(Map::new())
    }))
}

/// Sends the image to another server, which gave out a secret for it.
pub(crate) async fn push(call: Call, Segment(text): Segment<String>, Json(body): Json<ExportPost>) -> Reply {
    let image = call.image(&text)?;
    if body.target.is_empty() {
        return Err(Error::invalid("target", "is missing"));
    }
    call.api.ports.remotes.check(&body.target).map_err(|e| Error::invalid("target", e))?;
    if body.secret.is_empty() {
        return Err(Error::invalid("secret", "is missing: ask the other server for one"));
    }
    let target = PushTarget {
        server: body.target.trim_end_matches('/').to_owned(),
        certificate: body.certificate,
        secret: body.secret,
        project: body.project,
    };
    let new = New {
        class: Class::Task,
        description: "Sending image",
        resources: vec![("images", image::url(&image.fingerprint))],
        project: Some(call.project()?),
        may_cancel: true,
        ..New::default()
    };
    let api = call.api.clone();
    reply::operation(&api.operations.start(new, |handle| async move {
        let tell = |text: String| handle.progress("upload_progress", text);
        call.api.ports.remotes.push(&image, &target, &tell).await?;
        call.happened_in("image-retrieved", image::url(&image.fingerprint), &image.project);
        Ok(Map::new())
    }))
}

/// Who bears a secret for an upload, and what is to become of it; nothing for callers who are trusted anyway.
///
/// # Errors
/// The caller is neither trusted nor bears a secret that is good.
pub(super) fn bearer(call: &Call, request: &Request) -> Result<Bearer, Error> {
    if call.who.trusted() {
        return Ok(Bearer::Trusted);
    }
    let secret = crate::dialect::header(request.headers(), "secret").ok_or(Error::NotTrusted)?;
    let other = secret::owner(secret).filter(|node| *node != call.me() && call.view.members.contains_key(node));
    if let Some(node) = other.filter(|_| !call.who.from_member) {
        return Ok(Bearer::Of(node));
    }
    let named = crate::dialect::header(request.headers(), "fingerprint").unwrap_or_default();
    match call.api.secrets.look(secret) {
        Some(Purpose::Upload(fingerprint, wishes)) if fingerprint.as_str() == named => {
            // Used up now: two uploads of one announcement would only be in each other's way.
            call.api.secrets.redeem(secret);
            Ok(Bearer::Secret(secret.to_owned(), wishes))
        }
        Some(_) | None => Err(Error::NotTrusted),
    }
}

/// On whose word an upload is taken.
pub(super) enum Bearer {
    Trusted,
    /// A secret, and what was announced.
    Secret(String, Box<crate::pull::Wishes>),
    /// A secret of another member.
    Of(NodeId),
}
