//! `POST /1.0/images`: one file, or the two of a split image as multipart. Bytes go straight to the image store; nothing
//! is held in memory but the chunk at hand.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Multipart, Query, Request};
use basalt_model::command::ImageCommand;
use basalt_model::image::{Alias, Image};
use basalt_model::{AliasName, Command, Fingerprint, Timestamp};
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{image, spec};
use crate::call::{Call, MAX_JSON, parse_json};
use crate::clock;
use crate::dialect;
use crate::dto::image::Post;
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::{Handle, New};
use crate::port::ImageUpload;
use crate::reply::{self, Reply};
use crate::token;

/// What the headers say of the image.
#[derive(Debug, Default)]
struct Wishes {
    filename: String,
    public: bool,
    properties: BTreeMap<String, String>,
    aliases: Vec<AliasName>,
    fingerprint: Option<Fingerprint>,
}

pub(crate) async fn post(call: Call, request: Request) -> Reply {
    if !call.who.trusted() {
        return Err(Error::NotTrusted);
    }
    let project = call.project()?;
    let wishes = wishes(request.headers())?;
    let content_type = content_type(request.headers());
    if content_type.starts_with("application/json") {
        return from_source(request.into_body()).await;
    }
    let mut upload = call.api.ports.images.begin().await?;
    let mut hash = wishes.fingerprint.is_some().then(Sha256::new);
    if content_type.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &()).await.map_err(|e| Error::invalid("body", e.body_text()))?;
        split(form, upload.as_mut(), &mut hash).await?;
    } else {
        let mut body = request.into_body().into_data_stream();
        let first = body.next().await.transpose().map_err(|_| Error::invalid("body", "ended early"))?;
        let first = first.ok_or_else(|| Error::invalid("body", "is empty"))?;
        // Clients that send JSON need not say so; no archive begins with a brace.
        if first.trim_ascii_start().starts_with(b"{") {
            return from_source(rest(first, body)).await;
        }
        unified(first, body, upload.as_mut(), &mut hash).await?;
    }
    if let (Some(wanted), Some(hash)) = (&wishes.fingerprint, hash) {
        let found = token::hex(&hash.finalize());
        if found != wanted.as_str() {
            return Err(Error::invalid("fingerprint", format!("the image's is {found}")));
        }
    }
    let new = New { class: Class::Task, description: "Downloading image", project: Some(project), ..New::default() };
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
async fn from_source(body: Body) -> Reply {
    let bytes = axum::body::to_bytes(body, MAX_JSON).await.map_err(|_| Error::TooLarge(MAX_JSON))?;
    let post: Post = parse_json(&bytes)?;
    let source = post.source.as_ref().and_then(|s| s.get("type")).and_then(Value::as_str);
    match source {
        Some(kind @ ("image" | "url" | "instance" | "container" | "virtual-machine" | "snapshot")) => {
            Err(Error::NotImplemented(format!("images from source.type={kind}; upload the image's files")))
        }
        Some(other) => Err(Error::invalid("source.type", format!("{other:?} is unknown"))),
        None => Err(Error::invalid("source", "is missing: upload the image's files as the body, or name a source")),
    }
}

fn wishes(headers: &HeaderMap) -> Result<Wishes, Error> {
    let pairs = |name: &str| -> Result<Vec<(String, String)>, Error> {
        let Some(text) = dialect::header(headers, name) else { return Ok(Vec::new()) };
        let uri = format!("/?{text}").parse().map_err(|_| Error::invalid(name, "is not URL-encoded"))?;
        Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|q| q.0).map_err(|e| Error::invalid(name, e.body_text()))
    };
    let properties: BTreeMap<String, String> = pairs("properties")?.into_iter().collect();
    spec::plain_text("properties", &properties)?;
    let named = pairs("aliases")?.into_iter().filter(|(key, _)| key == "alias" || key == "name");
    let aliases = named.map(|(_, name)| AliasName::new(name).map_err(|e| Error::invalid("aliases", e)));
    let filename = dialect::header(headers, "filename").unwrap_or_default();
    Ok(Wishes {
        // Only shown; but it comes back in a header, and must not bring lines or folders of its own.
        filename: filename.rsplit('/').next().unwrap_or_default().replace(['"', '\\'], ""),
        public: dialect::header(headers, "public").is_some_and(basalt_model::config::is_true),
        properties,
        aliases: aliases.collect::<Result<_, _>>()?,
        fingerprint: dialect::header(headers, "fingerprint")
            .filter(|f| !f.is_empty())
            .map(|f| Fingerprint::new(f).map_err(|e| Error::invalid("fingerprint", e)))
            .transpose()?,
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
    let fingerprint = facts.fingerprint.clone();
    let mut properties = facts.properties;
    properties.extend(wishes.properties);
    let filename = match wishes.filename.is_empty() {
        true => format!("{fingerprint}.tar"),
        false => wishes.filename,
    };
    let image = Image {
        fingerprint: fingerprint.clone(),
        kind: facts.kind,
        architecture: facts.architecture,
        format: facts.format,
        filename,
        size: facts.size,
        public: wishes.public,
        properties,
        created_at: facts.created_at,
        uploaded_at: clock::now(),
        expires_at: facts.expires_at,
        last_used_at: Timestamp::NEVER,
        holders: [call.me()].into_iter().collect(),
    };
    match call.propose(Command::Image(ImageCommand::Add(Box::new(image)))).await {
        Err(Error::Conflict(_)) => return Err(Error::Conflict("Image with same fingerprint already exists".into())),
        other => other?,
    };
    for name in wishes.aliases {
        let alias = Alias { name, target: fingerprint.clone(), description: String::new() };
        call.propose(Command::Image(ImageCommand::SetAlias { alias, replace: false })).await?;
    }
    call.happened("image-created", image::url(&fingerprint), None);
    let metadata = json!({"fingerprint": fingerprint, "size": facts.size.to_string()});
    let Value::Object(metadata) = metadata else { return Ok(Map::new()) };
    Ok(metadata)
}
