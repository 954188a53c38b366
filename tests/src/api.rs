//! The API as a test sees it: plain HTTP/1.1 over a node's unix socket, blocking, without any of the product's code, so
//! that a mistake shared by server and client library cannot hide.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// An answer of the server.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The `metadata` of a good answer.
    ///
    /// # Errors
    /// When the server refused.
    pub fn metadata(&self) -> Result<Value> {
        let mut body = self.json();
        if self.status >= 400 {
            bail!("{}: {}", self.status, body["error"].as_str().unwrap_or_default());
        }
        Ok(body["metadata"].take())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// One connection, kept alive between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// # Errors
    /// When nobody listens.
    pub fn open(socket: &Path, timeout: Duration) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// When the connection breaks or the time is up: the outcome of the request is then unknown.
    pub fn request(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: basalt\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        self.stream.get_mut().write_all(&message).with_context(|| format!("send {method} {path}"))?;
        self.answer().with_context(|| format!("answer to {method} {path}"))
    }

    fn answer(&mut self) -> Result<Answer> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no HTTP status")?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, bytes: Vec::new() };
        answer.bytes = self.body(&answer)?;
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = usize::from_str_radix(self.line()?.split(';').next().unwrap_or_default().trim(), 16)?;
                let start = bytes.len();
                bytes.resize(start + size, 0);
                self.stream.read_exact(&mut bytes[start..])?;
                self.line()?;
                if size == 0 {
                    return Ok(bytes);
                }
            }
        }
        let length: usize = answer.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// The API of one node.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
    timeout: Duration,
}

impl Api {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, timeout: Duration::from_secs(60) }
    }

    /// With another limit on each request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection for many requests.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket, self.timeout)
    }

    /// One request with a JSON body (`Null` for none), on a connection of its own.
    ///
    /// # Errors
    /// When no answer came. An answer that refuses is not an error here.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.connect()?.request(method, path, "application/json", &bytes)
    }

    /// The metadata of a GET.
    ///
    /// # Errors
    /// When no answer came, or one that refuses.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, &Value::Null)?.metadata().with_context(|| format!("GET {path}"))
    }

    /// A request that changes something; waits for its operation when it makes one, and gives back the final operation
    /// (or the metadata of a synchronous answer).
    ///
    /// # Errors
    /// When it was refused, its operation failed, or no answer came.
    pub fn run(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.call(method, path, body)?;
        self.finish(&answer).with_context(|| format!("{method} {path}"))
    }

    /// Waits for the operation of an answer.
    ///
    /// # Errors
    /// When the answer refuses, or the operation fails.
    pub fn finish(&self, answer: &Answer) -> Result<Value> {
        let metadata = answer.metadata()?;
        let body = answer.json();
        let Some(operation) = body["operation"].as_str().filter(|_| body["type"] == "async") else {
            return Ok(metadata);
        };
        let done = self.get(&format!("{operation}/wait?timeout={}", self.timeout.as_secs()))?;
        match done["status_code"].as_u64() {
            Some(200) => Ok(done),
            other => bail!("operation ended with {other:?}: {}", done["err"].as_str().unwrap_or_default()),
        }
    }

    /// Makes an instance of the image with that alias.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub fn create(&self, name: &str, alias: &str, target: Option<&str>, config: &Value) -> Result<Value> {
        let query = target.map(|t| format!("?target={t}")).unwrap_or_default();
        let source = if alias.is_empty() { json!({"type": "none"}) } else { json!({"type": "image", "alias": alias}) };
        let config = if config.is_null() { json!({}) } else { config.clone() };
        let body = json!({"name": name, "source": source, "config": config});
        self.run("POST", &format!("/1.0/instances{query}"), &body)
    }

    /// Start, stop, restart, freeze or unfreeze.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub fn act(&self, name: &str, action: &str, force: bool) -> Result<Value> {
        let body = json!({"action": action, "timeout": 30, "force": force});
        self.run("PUT", &format!("/1.0/instances/{name}/state"), &body)
    }

    /// # Errors
    /// When it is refused or fails.
    pub fn delete(&self, name: &str) -> Result<Value> {
        self.run("DELETE", &format!("/1.0/instances/{name}"), &Value::Null)
    }

    /// Every instance, as objects.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub fn instances(&self) -> Result<Vec<Value>> {
        let list = self.get("/1.0/instances?recursion=1")?;
        Ok(list.as_array().cloned().unwrap_or_default())
    }

    /// `Running`, `Stopped`, ... of an instance.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn status(&self, name: &str) -> Result<String> {
        Ok(self.get(&format!("/1.0/instances/{name}"))?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Every member, as objects.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub fn members(&self) -> Result<Vec<Value>> {
        let list = self.get("/1.0/cluster/members?recursion=1")?;
        Ok(list.as_array().cloned().unwrap_or_default())
    }

    /// The leader's name, as this node knows it.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub fn leader(&self) -> Result<Option<String>> {
        Ok(self
            .members()?
            .iter()
            .find(|m| has_role(m, "database-leader"))
            .and_then(|m| m["server_name"].as_str().map(str::to_owned)))
    }
}

/// Whether a member object carries the role.
pub fn has_role(member: &Value, role: &str) -> bool {
    member["roles"].as_array().is_some_and(|roles| roles.iter().any(|r| r == role))
}
