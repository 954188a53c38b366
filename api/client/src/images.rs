//! Images: lists, upload and download with progress, aliases.

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::Method;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http_body_util::{BodyExt, BodyStream};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use basalt_api::dto::Map;
use basalt_api::dto::image::{Alias, Image, Post};
use basalt_api::dto::operation::Operation;

use crate::client::{Client, Submitted, Tagged};
use crate::error::{Error, Result};
use crate::multipart;
use crate::path::{Path, escape};
use crate::transport::{Connection, Payload, Streamed, USUAL};
use crate::upload::{self, Builder, Progress};

/// Longest transfer of an image.
const TRANSFER: std::time::Duration = std::time::Duration::from_secs(6 * 3600);

/// The files of an image to upload.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// Metadata and root file system in one archive.
    Unified(PathBuf),
    /// Two files; `disk` when the root is a virtual machine's disk.
    Split { metadata: PathBuf, rootfs: PathBuf, disk: bool },
}

/// An image to upload.
#[derive(Debug, Clone)]
pub struct ImageUpload {
    pub source: ImageSource,
    pub public: bool,
    pub properties: Map,
}

impl ImageSource {
    /// The fingerprint that the image will have: SHA-256 of its files, one after the other. Reads them whole.
    pub fn fingerprint(&self) -> Result<String> {
        let files = match self {
            Self::Unified(file) => vec![file],
            Self::Split { metadata, rootfs, disk: _ } => vec![metadata, rootfs],
        };
        let mut hash = Sha256::new();
        for path in files {
            let failed = |source| Error::Io { doing: format!("read {}", path.display()), source };
            let mut file = std::fs::File::open(path).map_err(failed)?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                match file.read(&mut buffer).map_err(failed)? {
                    0 => break,
                    length => hash.update(&buffer[..length]),
                }
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn path(fingerprint: &str) -> Path {
    Path::of("images").segment(fingerprint)
}

fn aliases() -> Path {
    Path::of("images/aliases")
}

impl Client {
    /// Images, those that match the API's `filter` language if one is given.
    pub async fn images(&self, filter: Option<&str>) -> Result<Vec<Image>> {
        self.get(Path::of("images").with("recursion", "1").with_some("filter", filter)).await
    }

    /// Images of all projects.
    pub async fn images_of_all(&self) -> Result<Vec<Image>> {
        let all = Path::of("images").with("recursion", "1").with("all-projects", "true");
        self.in_project(None).get(all).await
    }

    /// One image, by its fingerprint or the beginning of it.
    pub async fn image(&self, fingerprint: &str) -> Result<Tagged<Image>> {
        self.get_tagged(path(fingerprint)).await
    }

    /// One image, by an alias or a fingerprint.
    pub async fn find_image(&self, name: &str) -> Result<Tagged<Image>> {
        match self.image_alias(name).await {
            Ok(alias) => self.image(&alias.value.target).await,
            Err(error) if error.is_not_found() => self.image(name).await,
            Err(error) => Err(error),
        }
    }

    /// Sends an image; the operation's metadata has its `fingerprint`.
    pub async fn upload_image(&self, wanted: &ImageUpload, progress: Progress) -> Result<Operation> {
        let (body, kind, filename) = match &wanted.source {
            ImageSource::Unified(file) => {
                (Builder::new().file(file).await?, "application/octet-stream".to_owned(), file_name(file))
            }
            ImageSource::Split { metadata, rootfs, disk } => {
                let boundary = format!("basalt-{}", uuid::Uuid::new_v4().simple());
                let root = if *disk { "rootfs.img" } else { "rootfs" };
                let parts = [("metadata", metadata.clone()), (root, rootfs.clone())];
                let body = upload::multipart(&boundary, &parts).await?;
                (body, format!("multipart/form-data; boundary={boundary}"), file_name(metadata))
            }
        };
        let mut call = self.call(Method::POST, Path::of("images")).deadline(TRANSFER);
        call.payload = Payload::Stream(body.finish(progress), header(&kind)?);
        call = call.header(HeaderName::from_static("x-incus-filename"), header(&filename)?);
        if wanted.public {
            call = call.header(HeaderName::from_static("x-incus-public"), HeaderValue::from_static("1"));
        }
        if !wanted.properties.is_empty() {
            call = call.header(HeaderName::from_static("x-incus-properties"), header(&urlencoded(&wanted.properties))?);
        }
        let doing = call.doing();
        match Self::submitted(&self.reply(call).await?)? {
            Submitted::Started(operation) => Ok(*operation),
            Submitted::Done => Err(Error::protocol(doing, "no operation was started")),
        }
    }

    /// Makes an image of an instance or a snapshot; the operation's metadata has its `fingerprint`.
    pub async fn publish_image(&self, wanted: &Post) -> Result<Operation> {
        self.start(Method::POST, Path::of("images"), Some(wanted)).await
    }

    /// Writes the files of an image into `folder`; gives their paths, the metadata (or the whole) first.
    pub async fn download_image(
        &self,
        fingerprint: &str,
        folder: &FilePath,
        progress: Progress,
    ) -> Result<Vec<PathBuf>> {
        let call = self.call(Method::GET, path(fingerprint).segment("export")).deadline(USUAL);
        let doing = call.doing();
        let answer = self.transport.streamed(call).await?;
        let text = |name| answer.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let length = text(CONTENT_LENGTH).parse().unwrap_or(0);
        let (kind, disposition) = (text(CONTENT_TYPE), text(CONTENT_DISPOSITION));
        let (chunks, connection) = chunks(answer, length, doing.clone(), progress);
        let files = if kind.starts_with("multipart/") {
            let boundary = multipart::parameter(&kind, "boundary")
                .ok_or_else(|| Error::protocol(doing.clone(), "multipart answer without a boundary"))?;
            save_parts(multipart::Reader::new(chunks, &boundary, &doing), folder, fingerprint).await?
        } else {
            let name = multipart::parameter(&disposition, "filename").unwrap_or_else(|| fingerprint.to_owned());
            vec![save(chunks, &folder.join(safe_name(&name, fingerprint))).await?]
        };
        self.transport.keep(connection);
        Ok(files)
    }

    /// Deletes an image.
    pub async fn delete_image(&self, fingerprint: &str) -> Result<Operation> {
        self.start(Method::DELETE, path(fingerprint), None::<&()>).await
    }

    /// All aliases.
    pub async fn image_aliases(&self) -> Result<Vec<Alias>> {
        self.get(aliases().with("recursion", "1")).await
    }

    /// One alias.
    pub async fn image_alias(&self, name: &str) -> Result<Tagged<Alias>> {
        self.get_tagged(aliases().segment(name)).await
    }

    /// Gives an image another name.
    pub async fn create_image_alias(&self, alias: &Alias) -> Result<()> {
        self.apply(Method::POST, aliases(), Some(alias)).await
    }

    /// Gives an alias another name.
    pub async fn rename_image_alias(&self, name: &str, to: &str) -> Result<()> {
        self.apply(Method::POST, aliases().segment(name), Some(&serde_json::json!({"name": to}))).await
    }

    /// Takes a name away from an image.
    pub async fn delete_image_alias(&self, name: &str) -> Result<()> {
        self.apply(Method::DELETE, aliases().segment(name), None::<&()>).await
    }
}

fn file_name(path: &FilePath) -> String {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("image").to_owned()
}

/// A file name that a member proposed, unless it would lead out of the folder.
fn safe_name(proposed: &str, otherwise: &str) -> String {
    let name = FilePath::new(proposed).file_name().and_then(|name| name.to_str());
    name.filter(|name| !name.starts_with('.')).unwrap_or(otherwise).to_owned()
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::Invalid(format!("{text:?} cannot be sent as a header")))
}

fn urlencoded(map: &Map) -> String {
    let mut text = String::new();
    for (key, value) in map {
        if !text.is_empty() {
            text.push('&');
        }
        escape(&mut text, key);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

/// The body of an answer as chunks, its progress told.
fn chunks(
    answer: Streamed,
    length: u64,
    doing: String,
    mut progress: Progress,
) -> (impl Stream<Item = Result<Bytes>> + Unpin, Connection) {
    let mut received = 0;
    let data = BodyStream::new(answer.body.map_err(move |e| Error::transport(doing.clone(), e)));
    let chunks = data.map(move |frame| {
        let bytes = frame?.into_data().unwrap_or_default();
        received += bytes.len() as u64;
        progress(received, length);
        Ok(bytes)
    });
    (Box::pin(chunks), answer.connection)
}

async fn save_parts<S>(mut reader: multipart::Reader<S>, folder: &FilePath, otherwise: &str) -> Result<Vec<PathBuf>>
where
    S: Stream<Item = Result<Bytes>> + Unpin,
{
    let mut files = Vec::new();
    while let Some(part) = reader.part().await? {
        let otherwise = format!("{otherwise}.{}", safe_name(&part.name, "part"));
        let path = folder.join(safe_name(part.filename.as_deref().unwrap_or_default(), &otherwise));
        let mut file = create(&path).await?;
        while let Some(bytes) = reader.chunk().await? {
            file.write_all(&bytes).await.map_err(|source| writing(&path, source))?;
        }
        file.flush().await.map_err(|source| writing(&path, source))?;
        files.push(path);
    }
    Ok(files)
}

async fn save(mut chunks: impl Stream<Item = Result<Bytes>> + Unpin, path: &FilePath) -> Result<PathBuf> {
    let mut file = create(path).await?;
    while let Some(bytes) = chunks.next().await {
        file.write_all(&bytes?).await.map_err(|source| writing(path, source))?;
    }
    file.flush().await.map_err(|source| writing(path, source))?;
    Ok(path.to_owned())
}

async fn create(path: &FilePath) -> Result<File> {
    File::create_new(path).await.map_err(|source| writing(path, source))
}

fn writing(path: &FilePath, source: std::io::Error) -> Error {
    Error::Io { doing: format!("write {}", path.display()), source }
}
