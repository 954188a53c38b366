//! The forms of an answer.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::dto::envelope::Envelope;
use crate::error::Error;

/// What handlers give back.
pub(crate) type Reply = Result<Response, Error>;

/// Any value as JSON.
pub(crate) fn json(code: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A finished call with a result.
pub(crate) fn sync(metadata: impl Serialize) -> Reply {
    Ok(json(StatusCode::OK, &Envelope::sync(Some(metadata))))
}

/// A finished call with a result that can be edited.
pub(crate) fn sync_etag(metadata: impl Serialize, etag: &str) -> Reply {
    let mut response = sync(metadata)?;
    let value = HeaderValue::from_str(&format!("\"{etag}\"")).map_err(|e| Error::Internal(e.to_string()))?;
    response.headers_mut().insert(ETAG, value);
    Ok(response)
}

/// A finished call without a result.
pub(crate) fn empty() -> Reply {
    sync(json!({}))
}

/// Something was made.
pub(crate) fn created(location: &str) -> Reply {
    let mut response = json(StatusCode::CREATED, &Envelope::<()>::sync(None));
    locate(&mut response, location)?;
    Ok(response)
}

/// A call that goes on as an operation.
pub(crate) fn operation(operation: &crate::dto::operation::Operation) -> Reply {
    // Without a query: clients append to this text, or split it.
    let url = format!("/1.0/operations/{}", operation.id);
    let mut response = json(StatusCode::ACCEPTED, &Envelope::operation(url.clone(), operation));
    locate(&mut response, &url)?;
    Ok(response)
}

fn locate(response: &mut Response, location: &str) -> Result<(), Error> {
    let value = HeaderValue::from_str(location).map_err(|e| Error::Internal(e.to_string()))?;
    response.headers_mut().insert(LOCATION, value);
    Ok(())
}

/// A body of another kind, without an envelope.
pub(crate) fn raw(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
