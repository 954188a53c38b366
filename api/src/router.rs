//! The route table, and what every request goes through before its handler.
//!
//! ```text
//!  request -> catch panic -> gate: who? may they? initialised? -> handler -> headers (nosniff, stale) -> answer
//! ```

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method};
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::Api;
use crate::arrival;
use crate::auth::{self, Identity, Origin};
use crate::error::Error;
use crate::gzip;
use crate::openapi;
use crate::reference;
use crate::route::{Table, get, post, put};
use crate::routes::network::{balancers, doctor, forwards, health, peers, trace};
use crate::routes::zone::records as zone_records;
use crate::routes::{
    access, acl, address_set, allocation, certificate, cluster, events, exec, files, group, image, image_alias,
    image_export, image_secret, image_upload, instance, instance_create, instance_metadata, instance_state, logs,
    member, metrics, network, network_state, operation, pool, profile, project, remake, resources, server, snapshot,
    volume, warning, zone,
};

/// Every route of `/` and `/1.0`. Each needs an entry in `openapi/table.rs`.
pub(crate) fn table() -> Table {
    let mut routes = Table::new()
        .route("/", get(server::versions))
        .route("/1.0", get(server::get).put(server::put).patch(server::patch))
        .route("/1.0/openapi.json", get(openapi::get))
        .route("/1.0/metadata/configuration", get(reference::get))
        .route("/1.0/events", get(events::listen))
        .route("/1.0/metrics", get(metrics::get))
        .route("/1.0/resources", get(resources::get))
        .route("/1.0/warnings", get(warning::list))
        .route("/1.0/warnings/{id}", get(warning::get).put(warning::put).patch(warning::put).delete(warning::delete));
    // The older words for instances: the same handlers, which look at the path for the kind.
    for root in ["instances", "containers", "virtual-machines"] {
        routes = routes.merge(instances(&format!("/1.0/{root}")));
    }
    routes.merge(operations()).merge(images()).merge(settings()).merge(hardware()).merge(clustering())
}

/// The routes, and what surrounds them.
pub(crate) fn router(api: &Arc<Api>) -> Router {
    table()
        .into_router()
        .fallback(|| async { Error::NotFound("The requested path".into()) })
        .method_not_allowed_fallback(|method: Method| async move { Error::NoSuchMethod(method.to_string()) })
        .layer(from_fn_with_state(api.clone(), gate))
        .layer(CatchPanicLayer::custom(|_| Error::Internal("the request crashed; see the log".into()).into_response()))
        .layer(from_fn_with_state(api.clone(), finish))
        // Bodies are bounded where they are read: images are large, everything else is not.
        .layer(DefaultBodyLimit::disable())
        .with_state(api.clone())
}

fn instances(root: &str) -> Table {
    let path = |rest: &str| format!("{root}{rest}");
    Table::new()
        .route(root, get(instance::list).post(instance_create::post).put(instance_state::bulk))
        .route(
            &path("/{name}"),
            get(instance::get).put(instance::put).patch(instance::patch).post(instance::post).delete(instance::delete),
        )
        .route(&path("/{name}/state"), get(instance_state::get).put(instance_state::put))
        .route(&path("/{name}/rebuild"), post(remake::rebuild))
        .route(&path("/{name}/exec"), post(exec::exec))
        .route(&path("/{name}/console"), get(exec::console_log).post(exec::console).delete(exec::clear_console_log))
        .route(&path("/{name}/files"), get(files::get).post(files::post).delete(files::delete))
        .route(
            &path("/{name}/metadata"),
            get(instance_metadata::get).put(instance_metadata::put).patch(instance_metadata::patch),
        )
        .route(
            &path("/{name}/metadata/templates"),
            get(instance_metadata::templates)
                .post(instance_metadata::set_template)
                .delete(instance_metadata::remove_template),
        )
        .route(&path("/{name}/access"), get(access::instance))
        .route(&path("/{name}/sftp"), get(files::sftp))
        .route(&path("/{name}/snapshots"), get(snapshot::list).post(snapshot::create))
        .route(
            &path("/{name}/snapshots/{snapshot}"),
            get(snapshot::get)
                .put(snapshot::put)
                .patch(snapshot::patch)
                .post(snapshot::rename)
                .delete(snapshot::delete),
        )
        .route(&path("/{name}/backups"), get(instance::backups))
        .route(&path("/{name}/logs"), get(logs::list))
        .route(&path("/{name}/logs/{file}"), get(logs::get))
        .route(&path("/{name}/logs/exec-output"), get(logs::list_recordings))
        .route(&path("/{name}/logs/exec-output/{file}"), get(logs::get_recording).delete(logs::delete_recording))
}

fn operations() -> Table {
    Table::new()
        .route("/1.0/operations", get(operation::list))
        .route("/1.0/operations/{id}", get(operation::get).delete(operation::delete))
        .route("/1.0/operations/{id}/wait", get(operation::wait))
        .route("/1.0/operations/{id}/websocket", get(operation::websocket))
}

fn images() -> Table {
    Table::new()
        .route("/1.0/images", get(image::list).post(image_upload::post))
        .route("/1.0/images/aliases", get(image_alias::list).post(image_alias::create))
        .route(
            "/1.0/images/aliases/{name}",
            get(image_alias::get)
                .put(image_alias::put)
                .patch(image_alias::patch)
                .post(image_alias::rename)
                .delete(image_alias::delete),
        )
        .route("/1.0/images/{fingerprint}", get(image::get).put(image::put).patch(image::patch).delete(image::delete))
        .route("/1.0/images/{fingerprint}/export", get(image_export::get).post(image_secret::push))
        .route("/1.0/images/{fingerprint}/secret", post(image_secret::create))
        .route("/1.0/images/{fingerprint}/refresh", post(image::refresh))
}

fn settings() -> Table {
    Table::new()
        .route("/1.0/profiles", get(profile::list).post(profile::create))
        .route(
            "/1.0/profiles/{name}",
            get(profile::get).put(profile::put).patch(profile::patch).post(profile::rename).delete(profile::delete),
        )
        .route("/1.0/projects", get(project::list).post(project::create))
        .route(
            "/1.0/projects/{name}",
            get(project::get).put(project::put).patch(project::patch).post(project::rename).delete(project::delete),
        )
        .route("/1.0/projects/{name}/access", get(access::project))
        .route("/1.0/projects/{name}/state", get(project::state))
        .route("/1.0/certificates", get(certificate::list).post(certificate::create))
        .route(
            "/1.0/certificates/{fingerprint}",
            get(certificate::get).put(certificate::put).patch(certificate::patch).delete(certificate::delete),
        )
}

fn hardware() -> Table {
    Table::new()
        .route("/1.0/networks", get(network::list).post(network::create))
        .route(
            "/1.0/networks/{name}",
            get(network::get).put(network::put).patch(network::patch).post(network::rename).delete(network::delete),
        )
        .route("/1.0/networks/{name}/state", get(network_state::get))
        .route("/1.0/networks/{name}/doctor", get(doctor::get))
        .route("/1.0/network-trace", get(trace::get))
        .route("/1.0/networks/{name}/leases", get(network_state::leases))
        .route("/1.0/network-allocations", get(allocation::list))
        .route("/1.0/networks/{name}/forwards", get(forwards::list).post(forwards::create))
        .route(
            "/1.0/networks/{name}/forwards/{listen}",
            get(forwards::get).put(forwards::put).patch(forwards::patch).delete(forwards::delete),
        )
        .route("/1.0/networks/{name}/load-balancers", get(balancers::list).post(balancers::create))
        .route(
            "/1.0/networks/{name}/load-balancers/{listen}",
            get(balancers::get).put(balancers::put).patch(balancers::patch).delete(balancers::delete),
        )
        .route("/1.0/networks/{name}/load-balancers/{listen}/state", get(health::get))
        .route("/1.0/networks/{name}/peers", get(peers::list).post(peers::create))
        .route(
            "/1.0/networks/{name}/peers/{peer}",
            get(peers::get).put(peers::put).patch(peers::patch).delete(peers::delete),
        )
        .route("/1.0/network-acls", get(acl::list).post(acl::create))
        .route(
            "/1.0/network-acls/{name}",
            get(acl::get).put(acl::put).patch(acl::patch).post(acl::rename).delete(acl::delete),
        )
        .route("/1.0/network-acls/{name}/log", get(acl::log))
        .route("/1.0/network-address-sets", get(address_set::list).post(address_set::create))
        .route(
            "/1.0/network-address-sets/{name}",
            get(address_set::get)
                .put(address_set::put)
                .patch(address_set::patch)
                .post(address_set::rename)
                .delete(address_set::delete),
        )
        .route("/1.0/network-zones", get(zone::list).post(zone::create))
        .route("/1.0/network-zones/{zone}", get(zone::get).put(zone::put).patch(zone::patch).delete(zone::delete))
        .route("/1.0/network-zones/{zone}/records", get(zone_records::list).post(zone_records::create))
        .route(
            "/1.0/network-zones/{zone}/records/{name}",
            get(zone_records::get).put(zone_records::put).patch(zone_records::patch).delete(zone_records::delete),
        )
        .route("/1.0/storage-pools", get(pool::list).post(pool::create))
        .route("/1.0/storage-pools/{name}", get(pool::get).put(pool::put).patch(pool::patch).delete(pool::delete))
        .route("/1.0/storage-pools/{name}/resources", get(pool::resources))
        .route("/1.0/storage-pools/{name}/volumes", get(volume::list))
        .route("/1.0/storage-pools/{name}/volumes/{kind}", get(volume::list_kind))
        .route("/1.0/storage-pools/{name}/volumes/{kind}/{volume}", get(volume::get))
}

fn clustering() -> Table {
    Table::new()
        .route("/1.0/cluster", get(cluster::get).put(cluster::put))
        .route("/1.0/cluster/members", get(member::list).post(member::invite))
        .route(
            "/1.0/cluster/members/{name}",
            get(member::get).put(member::put).patch(member::patch).post(member::rename).delete(member::delete),
        )
        .route("/1.0/cluster/members/{name}/state", get(member::state).post(member::set_state))
        .route("/1.0/cluster/groups", get(group::list).post(group::create))
        .route(
            "/1.0/cluster/groups/{name}",
            get(group::get).put(group::put).patch(group::patch).post(group::rename).delete(group::delete),
        )
        .route("/1.0/cluster/certificate", put(cluster::certificate))
}

/// Who calls, whether they may, and whether there is a cluster to ask.
async fn gate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let mut request = match arrival::whole(request).await {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    match admit(&api, &mut request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn admit(api: &Api, request: &mut Request) -> Result<(), Error> {
    let view = api.view();
    let who = Identity::of(request.extensions().get::<Origin>(), request.headers(), &view)?;
    let path = request.uri().path();
    let open_metrics =
        view.config.get("core.metrics_authentication").is_some_and(|v| basalt_model::config::is_false(v));
    auth::permits(&who, request.method(), path, open_metrics)?;
    let local = matches!(request.extensions().get::<Origin>(), Some(Origin::Unix { .. }));
    if !view.initialised() && !served_without_cluster(request.method(), path, local) {
        return Err(Error::NotInitialised);
    }
    request.extensions_mut().insert(who);
    Ok(())
}

/// What a node answers before it is part of a cluster: what `init` needs.
fn served_without_cluster(method: &Method, path: &str, local: bool) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/" | "/1.0" | "/1.0/" | "/1.0/metrics" | "/1.0/openapi.json" | "/1.0/metadata/configuration" => reads,
        "/1.0/cluster" => local && (reads || *method == Method::PUT),
        "/1.0/events" | "/1.0/resources" | "/1.0/operations" => local && reads,
        _ => local && path.starts_with("/1.0/operations/"),
    }
}

/// Headers of every answer, and its time in the metrics.
async fn finish(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let gzip = gzip::wanted(request.extensions().get::<Origin>(), request.headers());
    let mut response = next.run(request).await;
    if gzip {
        response = gzip::encoded(response).await;
    }
    api.metrics.answered(&method, response.status(), began.elapsed());
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let reads = matches!(method, Method::GET | Method::HEAD);
    if reads && api.view().initialised() && api.ports.cluster.standing().stale {
        headers.insert("x-basalt-stale", HeaderValue::from_static("true"));
        headers.insert(
            WARNING,
            HeaderValue::from_static("110 basalt \"no quorum: this answer may be old, and writes are refused\""),
        );
    }
    response
}
