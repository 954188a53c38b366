//! `POST /1.0/images` with `source.type` of an instance or a snapshot: its home makes an image of it, where its root is.

use axum::body::Body;
use basalt_model::image::Compression;
use basalt_model::instance::{Instance, Kind, Phase};
use basalt_model::{NodeId, SnapshotId, SnapshotName};
use http::header::{CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request};
use serde_json::{Map, Value, json};

use super::{image, image_source, run};
use crate::call::Call;
use crate::clock;
use crate::dto::image::{Post, PostSource};
use crate::error::Error;
use crate::operation::{Handle, New};
use crate::port::Publish;
use crate::port::remote::Offer;
use crate::pull::{self, Wishes};
use crate::reply::{self, Reply};

/// Where clients look for how far it is.
const PROGRESS: &str = "create_image_from_container_pack_progress";

pub(super) async fn post(call: Call, post: Post) -> Reply {
    let source = post.source.clone().unwrap_or_default();
    let (instance, snapshot) = subject(&call, &source)?;
    let compression = match post.compression_algorithm.as_str() {
        "" => Compression::default(),
        text => text.parse().map_err(|why| Error::invalid("compression_algorithm", format!("{text:?} {why}")))?,
    };
    let wishes = image_source::wishes(&call, &post, None)?;
    let runs = matches!(instance.phase(), Some(Phase::Running | Phase::Frozen)) || !instance.settled();
    if snapshot.is_none() && runs {
        return Err(Error::Refused("Cannot export a running instance as an image".into()));
    }
    if let Some(lost) = run::lost_home(&call.view, &instance) {
        return Err(lost);
    }
    match instance.placement.home() {
        Some((node, _)) if node != call.me() => return elsewhere(&call, node, &post).await,
        Some(_) => {}
        None => {
            return Err(Error::Refused("the instance has no home yet: there is nothing to make an image of".into()));
        }
    }
    let wanted = Publish {
        instance: instance.id,
        snapshot,
        compression,
        // Nothing said: what the instance came from says it.
        properties: Some(wishes.properties.clone()).filter(|given| !given.is_empty()),
        created_at: clock::now(),
        expires_at: wishes.expires_at.unwrap_or_default(),
    };
    let new = New { resources: Vec::new(), ..call.instance_operation("Downloading image", &instance) };
    let api = call.api.clone();
    reply::operation(&api.operations.start(new, |handle| make(call, wanted, wishes, handle)))
}

/// What is to become an image.
fn subject(call: &Call, source: &PostSource) -> Result<(Instance, Option<SnapshotId>), Error> {
    let bad = |why: &str| Error::invalid("source.name", format!("{:?} {why}", source.name));
    let (name, snapshot) = match (source.kind.as_str(), source.name.split_once('/')) {
        (_, None) if source.name.is_empty() => return Err(Error::invalid("source.name", "is missing")),
        ("snapshot", None) => return Err(bad("is not INSTANCE/SNAPSHOT")),
        ("snapshot", Some((name, snapshot))) => (name, Some(snapshot)),
        (_, None) => (source.name.as_str(), None),
        (_, Some(_)) => return Err(bad("names a snapshot: set source.type to snapshot")),
    };
    let instance = call.instance(name)?;
    let kind = match source.kind.as_str() {
        "container" => Some(Kind::Container),
        "virtual-machine" => Some(Kind::VirtualMachine),
        _ => None,
    };
    if kind.is_some_and(|kind| kind != instance.spec.kind) {
        return Err(Error::invalid("source.type", format!("the instance is a {}", instance.spec.kind.as_str())));
    }
    let missing = || Error::NotFound("Instance snapshot".into());
    let snapshot = snapshot.map(|name| {
        let name = SnapshotName::new(name).map_err(|_| missing())?;
        call.view.snapshot_named(instance.id, &name).map(|found| found.id).ok_or_else(missing)
    });
    Ok((instance, snapshot.transpose()?))
}

/// Lets the member make it that has the root.
async fn elsewhere(call: &Call, node: NodeId, post: &Post) -> Reply {
    let body = serde_json::to_vec(post).map_err(|e| Error::Internal(e.to_string()))?;
    let uri = format!("/1.0/images?project={}", call.project()?);
    let length = HeaderValue::from(body.len());
    let request = Request::builder().method(Method::POST).uri(uri).body(Body::from(body));
    let mut request = request.map_err(|e| Error::Internal(e.to_string()))?;
    *request.headers_mut() = call.headers.clone();
    for name in [TRANSFER_ENCODING, EXPECT] {
        request.headers_mut().remove(name);
    }
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    call.forward(node, request).await
}

async fn make(call: Call, wanted: Publish, wishes: Wishes, handle: Handle) -> Result<Map<String, Value>, Error> {
    let say = |bytes: u64| handle.progress(PROGRESS, format!("Image pack: {:.2}MB", bytes as f64 / 1e6));
    let facts = call.api.ports.images.publish(wanted, &say).await?;
    let (fingerprint, size) = (facts.fingerprint.clone(), facts.size);
    pull::add(&call.api, facts, &Offer::default(), &wishes).await?;
    pull::name(&call.api, &fingerprint, &wishes).await?;
    call.happened_in("image-created", image::url(&fingerprint), &wishes.project);
    let metadata = json!({"fingerprint": fingerprint, "size": size.to_string()});
    Ok(metadata.as_object().cloned().unwrap_or_default())
}
