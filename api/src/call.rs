//! What every handler is given of a request: the caller, the state, the query; and bodies, read with a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use basalt_model::{Applied, Command, NodeId, ProjectName, ReadError, StateView};
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::Api;
use crate::auth::{self, Identity};
use crate::dialect::{self, Dialect};
use crate::error::Error;

/// JSON bodies may not be larger.
pub(crate) const MAX_JSON: usize = 1 << 20;
/// So much of a body that is too large is read, and dropped, before it is refused.
const MAX_DROPPED: usize = 256 << 20;
/// How long a JSON body may take to arrive.
pub(crate) const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// What reaches into a guest changes nothing of the cluster: it works without a quorum.
const IN_GUEST: [&str; 4] = ["/exec", "/console", "/files", "/sftp"];
/// How long a quorum may take to confirm the state.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// How long a command may take before its outcome counts as unknown.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(20);

/// Parts of an instance's state that callers may do without.
const STATE_FIELDS: [&str; 2] = ["state.disk", "state.network"];

/// A request, as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) who: Identity,
    pub(crate) dialect: Dialect,
    /// The state when the request came.
    pub(crate) view: StateView,
    pub(crate) headers: HeaderMap,
    pub(crate) method: Method,
    pub(crate) path: String,
    query: BTreeMap<String, String>,
}

impl FromRequestParts<Arc<Api>> for Call {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        // Put there by the gate, through which every request goes.
        let who = parts.extensions.get::<Identity>().cloned().ok_or(Error::NotTrusted)?;
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|e| Error::invalid("query", e.body_text()))?;
        let call = Call {
            api: api.clone(),
            who,
            dialect: Dialect::of(&parts.headers),
            view: view_for(api, &parts.method, parts.uri.path()).await?,
            headers: parts.headers.clone(),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: pairs.0.into_iter().collect(),
        };
        call.permits_networks()?;
        call.permits_profiles()?;
        call.permits_images()?;
        Ok(call)
    }
}

/// The state to answer from: what decides about a change must be up to date, all else is answered from here.
async fn view_for(api: &Api, method: &Method, path: &str) -> Result<StateView, Error> {
    let local = api.view();
    let about_this_member = path.starts_with("/1.0/operations/") || IN_GUEST.iter().any(|end| path.ends_with(end));
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if reads || about_this_member || merges(method, path) || !local.initialised() {
        return Ok(local);
    }
    confirmed(api).await
}

/// A request whose handler begins with what is known here, proposes only what holds if that is still so, and asks the
/// quorum before it refuses anything: `PATCH` of an instance.
fn merges(method: &Method, path: &str) -> bool {
    *method == Method::PATCH && path.strip_prefix("/1.0/instances/").is_some_and(|name| !name.contains('/'))
}

/// The state as a quorum knows it.
async fn confirmed(api: &Api) -> Result<StateView, Error> {
    match tokio::time::timeout(READ_DEADLINE, api.ports.cluster.linearizable()).await {
        Ok(view) => Ok(view?),
        Err(_) => Err(ReadError("no answer in time".into()).into()),
    }
}

impl Call {
    /// Goes on with the state as a quorum knows it now.
    ///
    /// # Errors
    /// There is no quorum.
    pub(crate) async fn confirm(&mut self) -> Result<(), Error> {
        self.view = confirmed(&self.api).await?;
        Ok(())
    }

    /// A parameter of the query; an empty one counts as absent.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether a parameter of the query is set to true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(basalt_model::config::is_true)
    }

    /// `recursion`; what is no number counts as 0.
    pub(crate) fn recursion(&self) -> u8 {
        let number = self.query("recursion").and_then(|v| v.split(';').next()?.parse().ok());
        number.unwrap_or(0)
    }

    /// The costly parts of the state that `recursion=2;fields=state.disk,state.network` asks for; `None` for all.
    ///
    /// # Errors
    /// One of them does not exist.
    pub(crate) fn fields(&self) -> Result<Option<Vec<&str>>, Error> {
        let given = self.query("recursion").and_then(|v| v.split_once(';')?.1.strip_prefix("fields="));
        let Some(given) = given else { return Ok(None) };
        let names: Vec<&str> = given.split(',').filter(|f| !f.is_empty()).collect();
        match names.iter().find(|f| !STATE_FIELDS.contains(f)) {
            None => Ok(Some(names)),
            Some(other) => {
                Err(Error::invalid("fields", format!("{other:?} is not one of {}", STATE_FIELDS.join(", "))))
            }
        }
    }

    /// The project that the request is about.
    ///
    /// # Errors
    /// It does not exist, or the caller may not see it: the two cannot be told apart.
    pub(crate) fn project(&self) -> Result<ProjectName, Error> {
        let given = self.query.get("project").map(String::as_str).unwrap_or_default();
        let missing = || Error::NotFound(format!("Project {given:?}"));
        let name = match ProjectName::new(given) {
            Ok(name) if self.view.projects.contains_key(&name) => name,
            Ok(_) | Err(_) if dialect::means_default(given) => ProjectName::default_project(),
            Ok(_) | Err(_) => return Err(missing()),
        };
        match self.who.sees(&name) {
            true => Ok(name),
            false => Err(Error::NotFound(format!("Project {:?}", name.as_str()))),
        }
    }

    /// The project whose networks, access control lists and address sets the request is about.
    ///
    /// # Errors
    /// As [`Call::project`].
    pub(crate) fn network_project(&self) -> Result<ProjectName, Error> {
        Ok(self.view.network_project(&self.project()?))
    }

    /// Whoever is kept to some projects changes no networks but those that one of them has for itself: networks of the
    /// default project are everybody's.
    fn permits_networks(&self) -> Result<(), Error> {
        let reads = matches!(self.method, Method::GET | Method::HEAD);
        if reads || self.who.full() || !auth::about_networks(&self.path) {
            return Ok(());
        }
        match self.network_project() {
            Ok(project) if !project.is_default() => Ok(()),
            Ok(_) | Err(_) => Err(Error::Forbidden("these networks are not for you to change".into())),
        }
    }

    /// The project whose profiles the request is about.
    ///
    /// # Errors
    /// As [`Call::project`].
    pub(crate) fn profile_project(&self) -> Result<ProjectName, Error> {
        Ok(self.view.profile_project(&self.project()?))
    }

    /// Whoever is kept to some projects may use the profiles that these share, and changes them only where they are at
    /// home.
    fn permits_profiles(&self) -> Result<(), Error> {
        let reads = matches!(self.method, Method::GET | Method::HEAD);
        if reads || self.who.full() || !auth::about_profiles(&self.path) || self.who.sees(&self.profile_project()?) {
            return Ok(());
        }
        Err(Error::Forbidden("these profiles are not for you to change".into()))
    }

    /// The project whose images the request is about.
    ///
    /// # Errors
    /// As [`Call::project`].
    pub(crate) fn image_project(&self) -> Result<ProjectName, Error> {
        Ok(self.view.image_project(&self.project()?))
    }

    /// Whether the caller, who has come to images of a project, may change them.
    pub(crate) fn changes_images_of(&self, project: &ProjectName) -> bool {
        self.who.full() || !project.is_default()
    }

    /// Whoever is kept to some projects changes no images but those that one of them has for itself. To those of the
    /// default project, which are everybody's, he may add some, and give out secrets for them.
    fn permits_images(&self) -> Result<(), Error> {
        let reads = matches!(self.method, Method::GET | Method::HEAD);
        if reads || self.who.full() || !self.who.trusted() || !auth::about_images(&self.path) {
            return Ok(());
        }
        let adds = self.method == Method::POST && auth::adds_images(&self.path);
        match self.image_project() {
            Ok(project) if self.changes_images_of(&project) => Ok(()),
            Ok(_) | Err(_) if adds => Ok(()),
            Ok(_) | Err(_) => Err(Error::Forbidden("these images are not for you to change".into())),
        }
    }

    /// The projects whose access control lists and address sets a list covers.
    ///
    /// # Errors
    /// As [`Call::projects`].
    pub(crate) fn network_projects(&self) -> Result<BTreeSet<ProjectName>, Error> {
        Ok(self.projects()?.iter().map(|project| self.view.network_project(project)).collect())
    }

    /// The projects that a list covers.
    ///
    /// # Errors
    /// `all-projects` and `project` contradict each other.
    pub(crate) fn projects(&self) -> Result<Vec<ProjectName>, Error> {
        if !self.flag("all-projects") {
            return self.project().map(|name| vec![name]);
        }
        if self.query("project").is_some() {
            return Err(Error::invalid("project", "cannot be given together with all-projects"));
        }
        Ok(self.view.projects.keys().filter(|p| self.who.sees(p)).cloned().collect())
    }

    /// Those of some objects' URLs whose projects the caller may see.
    pub(crate) fn seen(&self, urls: Vec<String>) -> Vec<String> {
        let sees = |url: &String| match url.split_once("?project=") {
            Some((_, project)) => ProjectName::new(project).is_ok_and(|project| self.who.sees(&project)),
            None => self.who.sees(&ProjectName::default_project()),
        };
        urls.into_iter().filter(sees).collect()
    }

    /// This member's id, as far as it has one.
    pub(crate) fn me(&self) -> NodeId {
        self.api.ports.cluster.standing().me
    }

    /// This member's name.
    pub(crate) fn my_name(&self) -> String {
        let me = self.me();
        match self.view.members.get(&me) {
            Some(member) => member.name.to_string(),
            None => self.api.ports.membership.host().hostname,
        }
    }

    /// The member that `target=` names, if it is another one.
    ///
    /// # Errors
    /// There is no such member.
    pub(crate) fn other_target(&self) -> Result<Option<NodeId>, Error> {
        let Some(name) = self.query("target") else { return Ok(None) };
        let found = self.view.members.values().find(|m| m.name.as_str() == name);
        let member = found.ok_or_else(|| Error::NotFound(format!("Cluster member {name:?}")))?;
        Ok(Some(member.id).filter(|id| *id != self.me()))
    }

    /// Proposes a command and waits for it.
    ///
    /// # Errors
    /// It was refused, could not be brought before a quorum, or its outcome is unknown.
    pub(crate) async fn propose(&self, command: Command) -> Result<Applied, Error> {
        propose(&self.api, command).await
    }

    /// Publishes a lifecycle event of what a project may have of its own: networks and what belongs to them, images. Those
    /// of the default project concern all.
    pub(crate) fn happened_in(&self, action: &str, source: String, project: &ProjectName) {
        self.happened(action, source, Some(project).filter(|project| !project.is_default()));
    }

    /// Publishes a lifecycle event.
    pub(crate) fn happened(&self, action: &str, source: String, project: Option<&ProjectName>) {
        let name = source.rsplit('/').next().unwrap_or_default().to_owned();
        self.api.events.lifecycle(crate::event::Happening {
            action: action.into(),
            source,
            name,
            project: project.cloned(),
            requestor: Some(self.who.requestor()),
            context: serde_json::Map::new(),
        });
    }
}

/// Proposes a command with a deadline.
pub(crate) async fn propose(api: &Api, command: Command) -> Result<Applied, Error> {
    match tokio::time::timeout(PROPOSE_DEADLINE, api.ports.cluster.propose(command)).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(basalt_model::ProposeError::Unknown("no answer from the leader in time".into()).into()),
    }
}

/// Path segments, decoded once.
#[derive(Debug)]
pub(crate) struct Segment<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Segment<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        let Path(value) =
            Path::<T>::from_request_parts(parts, api).await.map_err(|e| Error::invalid("path", e.body_text()))?;
        Ok(Segment(value))
    }
}

/// A JSON body. The content type is not looked at; nothing and `null` count as `{}`.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _api: &Arc<Api>) -> Result<Self, Error> {
        read_json(request.into_body()).await.map(Json)
    }
}

/// Reads a JSON body.
pub(crate) async fn read_json<T: DeserializeOwned>(body: axum::body::Body) -> Result<T, Error> {
    parse_json(&read_bytes(body, MAX_JSON).await?)
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// It is larger, too slow, or ends early.
pub(crate) async fn read_bytes(body: axum::body::Body, limit: usize) -> Result<Vec<u8>, Error> {
    let mut chunks = body.into_data_stream();
    let whole = async {
        let mut bytes = Vec::new();
        let mut read = 0usize;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Error::invalid("body", "ended early"))?;
            read = read.saturating_add(chunk.len());
            match read {
                _ if read <= limit => bytes.extend_from_slice(&chunk),
                // The rest is read and dropped: to close on a caller that is still sending would lose our answer.
                _ if read <= MAX_DROPPED => bytes = Vec::new(),
                _ => break,
            }
        }
        if read > limit { Err(Error::TooLarge(limit)) } else { Ok(bytes) }
    };
    tokio::time::timeout(BODY_DEADLINE, whole).await.unwrap_or(Err(Error::Timeout))
}

/// Parses a JSON object, naming the field that is at fault.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let text = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let mut value: Value =
        serde_json::from_slice(text).map_err(|e| Error::invalid("body", format!("bad JSON: {e}")))?;
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    let Value::Object(mut fields) = value else { return Err(Error::invalid("body", "must be a JSON object")) };
    // Nothing is the same as absent, one level down in `source` too.
    fields.retain(|_, v| !v.is_null());
    if let Some(Value::Object(source)) = fields.get_mut("source") {
        source.retain(|_, v| !v.is_null());
    }
    let value = Value::Object(fields);
    T::deserialize(&value).map_err(|error| blame::<T>(value, &error))
}

/// Finds the field without which the object would be fine.
fn blame<T: DeserializeOwned>(value: Value, error: &serde_json::Error) -> Error {
    let Value::Object(fields) = value else { return Error::invalid("body", error) };
    for name in fields.keys() {
        let mut others = fields.clone();
        others.remove(name);
        if T::deserialize(Value::Object(others)).is_ok() {
            return Error::invalid(name.clone(), error);
        }
    }
    Error::invalid("body", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::instance::Post;

    #[test]
    fn names_the_field_at_fault() {
        let field = |text: &str| match parse_json::<Post>(text.as_bytes()) {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(r#"{"name": 5}"#), "name");
        assert_eq!(field(r#"{"config": {"a": 1}}"#), "config");
        assert_eq!(field(r#"{"source": "x", "name": "a"}"#), "source");
        assert_eq!(field("{"), "body");
        assert_eq!(field("[1]"), "body");
    }

    #[test]
    fn forgives_what_old_clients_send() {
        let post: Post = parse_json(br#"{"Config": {"a": "b"}, "profiles": null, "unknown": 1}"#).unwrap();
        assert_eq!(post.config["a"], "b");
        assert_eq!(post.profiles, None);
        assert_eq!(parse_json::<Post>(b"").unwrap(), Post::default());
        assert_eq!(parse_json::<Post>(b"null").unwrap(), Post::default());
    }
}
