//! Requests that only the home of an instance can answer.

use axum::extract::Request;
use axum::response::Response;
use basalt_model::instance::Instance;

use crate::call::Call;
use crate::error::Error;

/// The instance, when its home is here; else the answer of its home. An instance that is not known here, or has no home
/// yet, may have been made or placed a moment ago through another member: the quorum is asked before that is said.
///
/// # Errors
/// There is no such instance, it has no home, or its home does not answer.
pub(super) async fn at_home(
    call: &mut Call,
    name: &str,
    request: Request,
) -> Result<Result<(Instance, Request), Response>, Error> {
    if !call.instance(name).is_ok_and(|instance| instance.placement.home().is_some()) {
        call.confirm().await?;
    }
    let instance = call.instance(name)?;
    match instance.placement.home() {
        Some((node, _)) if node == call.me() => Ok(Ok((instance, request))),
        Some((node, _)) => call.forward(node, request).await.map(Err),
        None => Err(Error::Refused("the instance has no home yet".into())),
    }
}
