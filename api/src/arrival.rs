//! Small bodies are read before anything is decided about a request.
//!
//! An answer that goes out while the request's body is still on its way costs the connection: what comes later could not be
//! told from the next request. Python's `http.client` sends a body in a packet of its own, Ansible sends one (`null`)
//! with every GET, and takes a connection that was closed behind an answer for a server that cannot be reached.

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;

use crate::call::BODY_DEADLINE;
use crate::error::Error;

/// Bodies of at most this many bytes are waited for; larger ones are read by those whom they are for, or not at all.
const SMALL: u64 = 16 * 1024;

/// The same request, its body in memory when it is announced to be small.
///
/// # Errors
/// The body does not come in time, or ends early.
pub(crate) async fn whole(request: Request) -> Result<Request, Error> {
    if !matches!(request.body().size_hint().exact(), Some(1..=SMALL)) {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let bytes = tokio::time::timeout(BODY_DEADLINE, to_bytes(body, SMALL as usize)).await;
    let bytes = bytes.map_err(|_| Error::Timeout)?.map_err(|_| Error::invalid("body", "ended early"))?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}
