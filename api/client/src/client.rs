//! The client itself: one member, one project, one optional target; typed calls, and whatever else as raw queries.

use std::path::Path as FilePath;
use std::sync::Arc;

use http::header::{HeaderValue, IF_MATCH};
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use basalt_api::dto::operation::Operation;

use crate::endpoint::Endpoint;
use crate::envelope::Reply;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::path::Path;
use crate::transport::{Call, Payload, Transport};

/// A client of one member. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    project: Option<String>,
    target: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint())
            .field("project", &self.project)
            .field("target", &self.target)
            .finish()
    }
}

/// An object and the tag of the state it was read in, for writing it back safely.
#[derive(Debug, Clone)]
pub struct Tagged<T> {
    pub value: T,
    pub etag: Option<String>,
}

/// What became of a request to change something.
#[derive(Debug)]
pub enum Submitted {
    /// It is done.
    Done,
    /// It goes on as an operation.
    Started(Box<Operation>),
}

/// A whole answer, for `basalt query`.
#[derive(Debug)]
pub struct Raw {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

impl Client {
    /// A client of the member on this machine, over its unix socket. Connects when first used.
    pub fn unix(socket: &FilePath) -> Self {
        Self::over(Endpoint::unix(socket))
    }

    /// A client of the member at `address` (`HOST`, `HOST:PORT` or `https://HOST:PORT`), which must serve the
    /// certificate with this SHA-256 fingerprint. Connects when first used.
    pub fn https(address: &str, fingerprint: &str, identity: Option<&Identity>) -> Result<Self> {
        Ok(Self::over(Endpoint::https(address, fingerprint, identity)?))
    }

    fn over(endpoint: Endpoint) -> Self {
        Self { transport: Arc::new(Transport::new(endpoint)), project: None, target: None }
    }

    /// The same client, speaking of another project. `None` is the project `default`.
    pub fn in_project(&self, project: Option<&str>) -> Self {
        Self { project: project.map(str::to_owned), ..self.clone() }
    }

    /// The same client, asking for this member (or `@group`) where that makes a difference.
    pub fn at(&self, target: Option<&str>) -> Self {
        Self { target: target.map(str::to_owned), ..self.clone() }
    }

    /// Where it connects to, for people.
    pub fn endpoint(&self) -> String {
        self.transport.endpoint().to_string()
    }

    /// The project it speaks of.
    pub fn project(&self) -> &str {
        self.project.as_deref().unwrap_or("default")
    }

    fn scoped(&self, path: Path) -> String {
        path.with_some("project", self.project.as_deref()).with_some("target", self.target.as_deref()).to_string()
    }

    pub(crate) fn call(&self, method: Method, path: Path) -> Call {
        Call::new(method, self.scoped(path))
    }

    pub(crate) async fn reply(&self, call: Call) -> Result<Reply> {
        let doing = call.doing();
        let answer = self.transport.buffered(call).await?;
        Reply::open(doing, &answer)
    }

    /// Reads an object or a list.
    pub async fn get<T: DeserializeOwned>(&self, path: Path) -> Result<T> {
        self.reply(self.call(Method::GET, path)).await?.metadata()
    }

    /// Reads an object that is to be written back.
    pub async fn get_tagged<T: DeserializeOwned>(&self, path: Path) -> Result<Tagged<T>> {
        let reply = self.reply(self.call(Method::GET, path)).await?;
        Ok(Tagged { value: reply.metadata()?, etag: reply.etag.clone() })
    }

    /// Reads a body that has no envelope: logs, metrics.
    pub async fn get_bytes(&self, path: Path) -> Result<bytes::Bytes> {
        let call = self.call(Method::GET, path);
        let doing = call.doing();
        let answer = self.transport.buffered(call).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        Err(crate::envelope::failure(&doing, answer.status, &answer.body))
    }

    /// Asks for a change, with a JSON body if any, provided the object still has `etag` if that is given.
    pub async fn submit<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: Path,
        body: Option<&B>,
        etag: Option<&str>,
    ) -> Result<Submitted> {
        let mut call = self.call(method, path);
        if let Some(body) = body {
            call = call.json(encode(body)?);
        }
        if let Some(etag) = etag {
            let value = HeaderValue::from_str(etag).map_err(|_| Error::Invalid(format!("tag {etag:?}")))?;
            call = call.header(IF_MATCH, value);
        }
        Self::submitted(&self.reply(call).await?)
    }

    pub(crate) fn submitted(reply: &Reply) -> Result<Submitted> {
        if reply.operation.is_empty() {
            return Ok(Submitted::Done);
        }
        Ok(Submitted::Started(Box::new(reply.metadata()?)))
    }

    /// Asks for a change that always goes on as an operation.
    pub async fn start<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: Path,
        body: Option<&B>,
    ) -> Result<Operation> {
        let doing = format!("{method} {path}");
        match self.submit(method, path, body, None).await? {
            Submitted::Started(operation) => Ok(*operation),
            Submitted::Done => Err(Error::protocol(doing, "no operation was started")),
        }
    }

    /// Asks for a change and waits until it is done.
    pub async fn apply<B: Serialize + ?Sized>(&self, method: Method, path: Path, body: Option<&B>) -> Result<()> {
        let submitted = self.submit(method, path, body, None).await?;
        self.finish(submitted).await
    }

    /// Writes back what [`Self::get_tagged`] gave, and waits until it is done.
    pub async fn replace<B: Serialize + ?Sized>(&self, path: Path, body: &B, etag: Option<&str>) -> Result<()> {
        let submitted = self.submit(Method::PUT, path, Some(body), etag).await?;
        self.finish(submitted).await
    }

    /// Waits for what was started, if anything was.
    pub async fn finish(&self, submitted: Submitted) -> Result<()> {
        match submitted {
            Submitted::Done => Ok(()),
            Submitted::Started(operation) => self.wait(&operation).await.map(drop),
        }
    }

    /// Any request, any answer; errors of the API are answers here.
    pub async fn query(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Raw> {
        let mut call = self.call(method, Path::raw(path));
        if let Some(body) = body {
            call.payload = Payload::Bytes(body.into(), HeaderValue::from_static("application/json"));
        }
        let answer = self.transport.buffered(call).await?;
        Ok(Raw { status: answer.status, headers: answer.headers, body: answer.body })
    }
}

pub(crate) fn encode<B: Serialize + ?Sized>(body: &B) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|e| Error::Invalid(format!("request body: {e}")))
}
