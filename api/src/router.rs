//! The route table, and what every request goes through before its handler.
//!
//! ```text
//!  request -> catch panic -> gate: who? may they? initialised? -> handler -> headers (nosniff, stale) -> answer
//! ```

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use http::header::{WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method};
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::Api;
use crate::auth::{self, Identity, Origin};
use crate::error::Error;
use crate::routes::server;

/// Every route of `/` and `/1.0`.
pub(crate) fn router(api: &Arc<Api>) -> Router {
    let routes = Router::new()
        .route("/", get(server::versions))
        .route("/1.0", get(server::get).put(server::put).patch(server::patch));
    routes
        .fallback(|| async { Error::NotFound("The requested path".into()) })
        .method_not_allowed_fallback(|method: Method| async move {
            Error::NotImplemented(format!("{method} of this path"))
        })
        .layer(middleware::from_fn_with_state(api.clone(), gate))
        .layer(CatchPanicLayer::custom(|_| Error::Internal("the request crashed; see the log".into()).into_response()))
        .layer(from_fn_with_state(api.clone(), finish))
        // Bodies are bounded where they are read: images are large, everything else is not.
        .layer(DefaultBodyLimit::disable())
        .with_state(api.clone())
}

/// Who calls, whether they may, and whether there is a cluster to ask.
async fn gate(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
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
        "/" | "/1.0" | "/1.0/" | "/1.0/metrics" => reads,
        "/1.0/cluster" => local && (reads || *method == Method::PUT),
        "/1.0/events" | "/1.0/resources" | "/1.0/operations" => local && reads,
        _ => local && path.starts_with("/1.0/operations/"),
    }
}

/// Headers of every answer, and its time in the metrics.
async fn finish(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let mut response = next.run(request).await;
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
