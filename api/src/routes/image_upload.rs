//! `POST /1.0/images`: one file, or the two of a split image as multipart. Bytes go straight to the image store; nothing
//! is held in memory but the chunk at hand.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Multipart, Query, Request};
use basalt_model::{AliasName, Fingerprint};
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::image_secret::{self, Bearer};
use super::{image, image_source, spec};
use crate::call::{Call, read_json};
use crate::dialect;
use crate::dto::image::Post;
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::{Handle, New};
use crate::port::ImageUpload;
use crate::port::remote::Offer;
use crate::pull::{self, Wishes};
use crate::reply::{self, Reply};
use crate::token;

pub(crate) async fn post(call: Call, request: Request) -> Reply {
    let bearer = image_secret::bearer(&call, &request)?;
    if let Bearer::Of(node) = bearer {
        return call.forward(node, request).await;
    }
    let trusted = matches!(bearer, Bearer::Trusted);
    let fingerprint = fingerprint(request.headers())?;
    let (project, wishes) = match &bearer {
        // All was said when it was announced.
        Bearer::Secret(_, announced) => {
            let filename = filename(request.headers());
            (announced.project.clone(), Wishes { filename, ..(**announced).clone() })
        }
        Bearer::Trusted | Bearer::Of(_) => (call.project()?, wishes(&call, request.headers())?),
    };
    let content_type = content_type(request.headers());
    if trusted && content_type.starts_with("application/json") {
        return from_source(call, request.into_body()).await;
    }
    let mut upload = call.api.ports.images.begin().await?;
    let mut hash = fingerprint.is_some().then(Sha256::new);
    if content_type.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &()).await.map_err(|e| Error::invalid("body", e.body_text()))?;
        split(form, upload.as_mut(), &mut hash).await?;
    } else {
        let mut body = request.into_body().into_data_stream();
        let first = body.next().await.transpose().map_err(|_| Error::invalid("body", "ended early"))?;
        let first = first.ok_or_else(|| Error::invalid("body", "is empty"))?;
        // Clients that send JSON need not say so; no archive begins with a brace.
        if trusted && first.trim_ascii_start().starts_with(b"{") {
            return from_source(call, rest(first, body)).await;
        }
        unified(first, body, upload.as_mut(), &mut hash).await?;
    }
    if let (Some(wanted), Some(hash)) = (&fingerprint, hash) {
        let found = token::hex(&hash.finalize());
        if found != wanted.as_str() {
            return Err(Error::invalid("fingerprint", format!("the image's is {found}")));
        }
    }
    let mut new =
        New { class: Class::Task, description: "Downloading image", project: Some(project), ..New::default() };
    if let Bearer::Secret(secret, _) = bearer {
        // With it the sender may also wait for the end.
        new.metadata.insert("secret".into(), secret.clone().into());
        new.secret = Some(secret);
    }
    let api = call.api.clone();
    let operation = api.operations.start(new, |handle| keep(call, upload, wishes, handle));
    reply::operation(&operation)
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.to_ascii_lowercase()
}

/// The body again, with its first chunk in front.
fn rest(first: Bytes, body: BodyDataStream) -> Body {
    Body::from_stream(futures_util::stream::iter([Ok(first)]).chain(body))
}

/// Images from elsewhere than the body.
async fn from_source(call: Call, body: Body) -> Reply {
    let post: Post = read_json(body).await?;
    image_source::post(call, post).await
}

/// The fingerprint that the image is said to have.
fn fingerprint(headers: &HeaderMap) -> Result<Option<Fingerprint>, Error> {
    let said = dialect::header(headers, "fingerprint").filter(|f| !f.is_empty());
    said.map(Fingerprint::new).transpose().map_err(|e| Error::invalid("fingerprint", e))
}

fn filename(headers: &HeaderMap) -> String {
    dialect::header(headers, "filename").unwrap_or_default().to_owned()
}

/// What the headers say of the image.
fn wishes(call: &Call, headers: &HeaderMap) -> Result<Wishes, Error> {
    let pairs = |name: &str| -> Result<Vec<(String, String)>, Error> {
        let Some(text) = dialect::header(headers, name) else { return Ok(Vec::new()) };
        let uri = format!("/?{text}").parse().map_err(|_| Error::invalid(name, "is not URL-encoded"))?;
        Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|q| q.0).map_err(|e| Error::invalid(name, e.body_text()))
    };
    let properties: BTreeMap<String, String> = pairs("properties")?.into_iter().collect();
    spec::plain_text("properties", &properties)?;
    let named = pairs("aliases")?.into_iter().filter(|(key, _)| key == "alias" || key == "name");
    let aliases = named.map(|(_, name)| AliasName::new(name).map_err(|e| Error::invalid("aliases", e)));
    let profiles: Vec<String> =
        pairs("profiles")?.into_iter().filter(|(key, _)| key == "profile").map(|(_, name)| name).collect();
    Ok(Wishes {
        filename: filename(headers),
        public: dialect::header(headers, "public").is_some_and(basalt_model::config::is_true),
        properties,
        aliases: aliases.collect::<Result<_, _>>()?,
        profiles: image::profiles(call, Some(profiles.as_slice()).filter(|names| !names.is_empty()))?,
        ..Wishes::of(call.image_project()?)
    })
}

async fn unified(
    first: Bytes,
    mut body: BodyDataStream,
    upload: &mut dyn ImageUpload,
    hash: &mut Option<Sha256>,
) -> Result<(), Error> {
    let mut next = Some(Ok(first));
    while let Some(chunk) = next {
        let chunk = chunk.map_err(|_: axum::Error| Error::invalid("body", "ended early"))?;
        if let Some(hash) = hash {
            hash.update(&chunk);
        }
        upload.metadata(chunk).await?;
        next = body.next().await;
    }
    Ok(())
}

/// Parts `metadata`, then `rootfs` or `rootfs.img`: the order is that of the fingerprint.
async fn split(mut form: Multipart, upload: &mut dyn ImageUpload, hash: &mut Option<Sha256>) -> Result<(), Error> {
    let bad = |e: axum::extract::multipart::MultipartError| Error::invalid("body", e.body_text());
    let mut parts = BTreeSet::new();
    while let Some(mut field) = form.next_field().await.map_err(bad)? {
        let name = field.name().unwrap_or_default().to_owned();
        let rootfs = match name.as_str() {
            "metadata" if parts.is_empty() => false,
            "rootfs" | "rootfs.img" if parts.contains("metadata") => true,
            _ => return Err(Error::invalid("body", format!("part {name:?}: expected metadata, then rootfs"))),
        };
        if !parts.insert(if rootfs { "rootfs" } else { "metadata" }) {
            return Err(Error::invalid("body", format!("part {name:?} comes twice")));
        }
        while let Some(chunk) = field.chunk().await.map_err(bad)? {
            if let Some(hash) = hash {
                hash.update(&chunk);
            }
            match rootfs {
                true => upload.rootfs(chunk).await?,
                false => upload.metadata(chunk).await?,
            }
        }
    }
    match parts.contains("metadata") {
        true => Ok(()),
        false => Err(Error::invalid("body", "has no part named metadata")),
    }
}

/// Checks what came, and makes it an image of the cluster.
async fn keep(
    call: Call,
    upload: Box<dyn ImageUpload>,
    wishes: Wishes,
    handle: Handle,
) -> Result<Map<String, Value>, Error> {
    handle.progress("create_image_from_file_progress", "Checking the image");
    let facts = upload.finish().await?;
    let (fingerprint, size) = (facts.fingerprint.clone(), facts.size);
    pull::add(&call.api, facts, &Offer::default(), &wishes).await?;
    pull::name(&call.api, &fingerprint, &wishes).await?;
    call.happened_in("image-created", image::url(&fingerprint), &wishes.project);
    let metadata = json!({"fingerprint": fingerprint, "size": size.to_string()});
    let Value::Object(metadata) = metadata else { return Ok(Map::new()) };
    Ok(metadata)
}
