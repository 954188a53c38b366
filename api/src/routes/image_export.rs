//! `GET /1.0/images/{fingerprint}/export`: the file of a unified image, or both of a split one as multipart.

use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use basalt_model::image::Image;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::image_secret::Sight;
use crate::call::{Call, Segment};
use crate::error::Error;
use crate::port::ImageFiles;
use crate::reply::Reply;
use crate::token;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

pub(crate) async fn get(call: Call, Segment(text): Segment<String>, request: Request) -> Reply {
    let image = match call.sight(&text)? {
        Sight::Here(image) => image,
        Sight::At(node) => return call.forward(node, request).await,
    };
    let files = call.api.ports.images.files(&image).await?;
    let answer = match &files.rootfs {
        None => unified(&image, &files).await?,
        Some(rootfs) => split(&image, &files.metadata, rootfs).await?,
    };
    if !image.public && !call.who.trusted() {
        // Good for one download; of two that race, one gets it.
        let secret = call.query("secret").unwrap_or_default();
        call.api.secrets.redeem(secret).ok_or_else(|| Error::NotFound("Image".into()))?;
    }
    call.happened_in("image-retrieved", super::image::url(&image.fingerprint), &image.project);
    Ok(answer)
}

/// How a file of this content is usually called.
fn ending(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => ".tar.gz",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => ".tar.xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ".tar.zst",
        [b'h', b's', b'q', b's', ..] => ".squashfs",
        [b'Q', b'F', b'I', 0xfb, ..] => ".qcow2",
        _ => ".tar",
    }
}

struct Opened {
    file: File,
    size: u64,
    ending: &'static str,
}

async fn open(path: &Path) -> Result<Opened, Error> {
    let failed = |e: std::io::Error| Error::Internal(format!("image file: {e}"));
    let mut file = File::open(path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let mut head = Vec::with_capacity(8);
    (&mut file).take(8).read_to_end(&mut head).await.map_err(failed)?;
    file.rewind().await.map_err(failed)?;
    Ok(Opened { file, size, ending: ending(&head) })
}

fn bytes_of(file: File) -> impl Stream<Item = std::io::Result<Bytes>> {
    ReaderStream::with_capacity(file, CHUNK)
}

fn set(response: &mut Response, name: HeaderName, value: &str) -> Result<(), Error> {
    let value = HeaderValue::from_str(value).map_err(|e| Error::Internal(e.to_string()))?;
    response.headers_mut().insert(name, value);
    Ok(())
}

async fn unified(image: &Image, files: &ImageFiles) -> Reply {
    let Opened { file, size, .. } = open(&files.metadata).await?;
    let mut response = Response::new(Body::from_stream(bytes_of(file)));
    set(&mut response, CONTENT_TYPE, "application/octet-stream")?;
    set(&mut response, CONTENT_LENGTH, &size.to_string())?;
    set(&mut response, CONTENT_DISPOSITION, &format!("attachment;filename={}", image.filename))?;
    Ok(response)
}

async fn split(image: &Image, metadata: &Path, rootfs: &Path) -> Reply {
    let boundary = token::random_secret();
    let part = |name: &str, file: &str, first: bool| {
        let line = if first { "" } else { "\r\n" };
        Bytes::from(format!(
            "{line}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ))
    };
    let fingerprint = &image.fingerprint;
    let root_part = match image.kind {
        basalt_model::instance::Kind::Container => "rootfs",
        basalt_model::instance::Kind::VirtualMachine => "rootfs.img",
    };
    let (meta, root) = (open(metadata).await?, open(rootfs).await?);
    let first = part("metadata", &format!("meta-{fingerprint}{}", meta.ending), true);
    let second = part(root_part, &format!("{fingerprint}{}", root.ending), false);
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let size = (first.len() + second.len() + end.len()) as u64 + meta.size + root.size;
    let one = |bytes: Bytes| stream::iter([std::io::Result::Ok(bytes)]);
    let body = one(first).chain(bytes_of(meta.file)).chain(one(second)).chain(bytes_of(root.file)).chain(one(end));
    let mut response = Response::new(Body::from_stream(body));
    set(&mut response, CONTENT_TYPE, &format!("multipart/form-data; boundary={boundary}"))?;
    set(&mut response, CONTENT_LENGTH, &size.to_string())?;
    Ok(response)
}
