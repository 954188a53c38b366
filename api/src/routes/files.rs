//! Files of instances, by headers and by SFTP. They lie with the instance's home.

use axum::extract::Request;
use axum::response::Response;
use basalt_model::InstanceId;

use crate::call::{Call, Segment};
use crate::error::Error;
use crate::reply::Reply;
use crate::stream::files;

/// The instance, when its home is here; else the answer of its home.
async fn at_home(call: &Call, name: &str, request: Request) -> Result<Result<(InstanceId, Request), Response>, Error> {
    let instance = call.instance(name)?;
    match instance.placement.home() {
        Some((node, _)) if node == call.me() => Ok(Ok((instance.id, request))),
        Some((node, _)) => call.forward(node, request).await.map(Err),
        None => Err(Error::Refused("the instance has no home yet".into())),
    }
}

fn path(call: &Call) -> Result<&str, Error> {
    call.query("path").ok_or_else(|| Error::invalid("path", "is missing"))
}

fn happened(call: &Call, what: &str, name: &str) {
    let project = call.project().ok();
    call.happened(what, format!("/1.0/instances/{name}"), project.as_ref());
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (id, _) = match at_home(&call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let answer = files::get(call.api.ports.files.clone(), id, path(&call)?, &call.method).await?;
    happened(&call, "instance-file-retrieved", &name);
    Ok(answer)
}

pub(crate) async fn post(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (id, request) = match at_home(&call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let body = request.into_body();
    let answer = files::post(call.api.ports.files.clone(), id, path(&call)?, &call.headers, body).await?;
    happened(&call, "instance-file-pushed", &name);
    Ok(answer)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (id, _) = match at_home(&call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    let answer = files::delete(call.api.ports.files.clone(), id, path(&call)?).await?;
    happened(&call, "instance-file-deleted", &name);
    Ok(answer)
}

pub(crate) async fn sftp(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let (id, request) = match at_home(&call, &name, request).await? {
        Ok(here) => here,
        Err(answer) => return Ok(answer),
    };
    files::sftp(&call.api.tasks, call.api.ports.files.clone(), id, request).await
}
