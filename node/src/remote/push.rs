//! An image on its way to another server, which gave out a secret for it.

use std::time::Duration;

use axum::body::Body;
use basalt_api::dto::envelope::Envelope;
use basalt_api::dto::operation::Operation;
use basalt_api::port::remote::{PushTarget, Tell};
use basalt_model::image::Image;
use basalt_model::instance::Kind;
use basalt_storage::image::ImageFiles;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use tokio_util::io::ReaderStream;

use super::error::Error;
use super::fetch::{Answer, Fetcher, Way};
use super::server::{escaped, query};
use super::url::Url;

/// How long the other server may take to check what it got.
const CHECKING: Duration = Duration::from_secs(1800);
const LARGEST: usize = 4 << 20;

pub(super) async fn send(
    fetcher: &Fetcher,
    way: &Way,
    (image, files): (&Image, &ImageFiles),
    target: &PushTarget,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let base = Url::parse(&target.server)?;
    let url = base.below(&format!("1.0/images{}", query(&[("project", &target.project)])))?;
    let mut request = form(image, files).await?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|e| Error::refused(&url, e));
    for prefix in ["x-lxd-", "x-incus-"] {
        let mut set = |name: &str, text: &str| -> Result<(), Error> {
            let name = HeaderName::try_from(format!("{prefix}{name}")).map_err(|e| Error::refused(&url, e))?;
            request.headers_mut().insert(name, value(text)?);
            Ok(())
        };
        set("fingerprint", image.fingerprint.as_str())?;
        set("secret", &target.secret)?;
        set("filename", &image.filename)?;
        set("type", image.kind.as_str())?;
    }
    tell(format!("Sending the image to {base}"));
    let (status, answer) = fetcher.once(way, &url, request).await?;
    let operation = operation(status, answer).await?;
    let secret = operation.metadata.as_ref().and_then(|m| m.get("secret")).and_then(|s| s.as_str());
    let secret = escaped(secret.unwrap_or(&target.secret));
    let wait = base.below(&format!("1.0/operations/{}/wait?secret={secret}", escaped(&operation.id)))?;
    let asked = async { fetcher.wait(way, &wait).await?.json::<Envelope<Operation>>(LARGEST).await };
    let late = |_| Error::unreachable(&wait, "it did not say in time whether the image is good");
    let ended = tokio::time::timeout(CHECKING, asked).await.map_err(late)??;
    match ended.metadata {
        Some(operation) if operation.status_code == 200 => Ok(()),
        Some(operation) => Err(Error::broken(&base, operation.err)),
        None => Err(Error::broken(&base, ended.error)),
    }
}

async fn operation(status: StatusCode, answer: Answer) -> Result<Operation, Error> {
    let url = answer.url.clone();
    let envelope: Envelope<Operation> = answer.json(LARGEST).await?;
    match envelope.metadata {
        Some(operation) if status == StatusCode::ACCEPTED => Ok(operation),
        Some(_) | None => Err(Error::broken(&url, format!("answered {status}: {}", envelope.error))),
    }
}

/// The request, its body streaming from the files.
async fn form(image: &Image, files: &ImageFiles) -> Result<Request<Body>, Error> {
    let (meta, meta_size) = open(&files.metadata).await?;
    let Some(rootfs) = &files.rootfs else {
        let mut request = Request::post("/").body(Body::from_stream(meta)).map_err(|e| Error::Host(e.to_string()))?;
        headers(request.headers_mut(), "application/octet-stream", meta_size)?;
        return Ok(request);
    };
    let (root, root_size) = open(rootfs).await?;
    let boundary = basalt_api::token::random_secret();
    let name = match image.kind {
        Kind::Container => "rootfs",
        Kind::VirtualMachine => "rootfs.img",
    };
    let part = |start: &str, name: &str| {
        Bytes::from(format!(
            "{start}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ))
    };
    let (first, second) = (part("", "metadata"), part("\r\n", name));
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let size = (first.len() + second.len() + end.len()) as u64 + meta_size + root_size;
    let one = |bytes: Bytes| stream::iter([std::io::Result::Ok(bytes)]);
    let body = one(first).chain(meta).chain(one(second)).chain(root).chain(one(end));
    let mut request = Request::post("/").body(Body::from_stream(body)).map_err(|e| Error::Host(e.to_string()))?;
    headers(request.headers_mut(), &format!("multipart/form-data; boundary={boundary}"), size)?;
    Ok(request)
}

fn headers(headers: &mut HeaderMap, kind: &str, length: u64) -> Result<(), Error> {
    let kind = HeaderValue::from_str(kind).map_err(|e| Error::Host(e.to_string()))?;
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

async fn open(path: &std::path::Path) -> Result<(impl Stream<Item = std::io::Result<Bytes>> + use<>, u64), Error> {
    let failed = |e: std::io::Error| Error::Host(format!("image file: {e}"));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    Ok((ReaderStream::with_capacity(file, 256 << 10), size))
}
